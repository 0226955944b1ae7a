"""What the answers tell of the destination as a whole: is it there, and does it take anything?

Decides when an outage begins and ends, when smaller requests are needed, and when going on is
pointless. Returns what a person should know, and the reason to halt; it tells and stops nobody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from ingest.breaker import Breaker, Refusals
from ingest.errors import DestinationDown, Halted
from ingest.inflight import Verdict as Said
from ingest.outcomes import (
    Delivered,
    Invalid,
    Outcome,
    Refused,
    Throttled,
    TooLarge,
    TooMany,
    Unanswered,
    Unauthorized,
    Unavailable,
)
from ingest.profiles import CapsLadder
from ingest.quoting import masked
from ingest.records import Batch
from ingest.retry import ABOUT_DATA

HALTED_SECONDS: Final = 60.0
"""Between two tries of a destination that forbids sending, for a worker: a person mends that."""


class Heard(msgspec.Struct, frozen=True):
    """What one answer told: `said` is for the in-flight control, `notice` for people."""

    said: Said = "ok"
    notice: str = ""
    halt: Halted | None = None


class Health:
    """The breaker, the refusals and the caps of one destination, `host` in sentences.

    With `patient` nothing is a reason to end: what would halt a run is an outage of a minute, and
    then it is tried again, for somebody may have mended the key (`halted` says why it waits).
    """

    def __init__(self, host: str, ladder: CapsLadder, *, patient: bool = False) -> None:
        self.breaker = Breaker()
        self.halted: Halted | None = None
        self._patient = patient
        self.ladder = ladder
        self._host = host
        self._refusals = Refusals()
        self._last_failure = ""

    def sent(self, batch: Batch) -> None:
        """Note a request on its way."""
        self.breaker.sent(batch.id)
        self.ladder.sent(batch.id, batch.records)

    def answered(self, batch: Batch) -> None:
        """Note that a request came back; comes before `hear`."""
        self.breaker.answered(batch.id)
        self.ladder.answered(batch.id)

    def took(self, batches: Sequence[Batch], now: float) -> str:
        """Take in that batches were accepted, as `answered` and `hear` do; return the notice.

        There must be one.
        """
        if self.breaker.probing or self.ladder.probing:
            for batch in batches:
                self.answered(batch)
        self._refusals.delivered()
        return self._up(max([batch.records for batch in batches]), now).notice

    def hear(
        self,
        batch: Batch,
        outcome: Outcome,
        now: float,
        *,
        asked_delay: float,
        cut_alone_since: float | None,
        jitter: float,
    ) -> Heard:
        """Take in an outcome.

        `asked_delay` is what the destination asked for, in seconds. `cut_alone_since` is when the
        batch's family was bisected first, if nothing else is left that could tell a bad record from
        an outage; else None. `jitter` is in [0, 1).
        """
        heard = self._heard(batch, outcome, now, asked_delay, cut_alone_since, jitter)
        if heard.halt is None or not self._patient:
            return heard
        notice = "" if self.halted else f"{heard.halt}. It is tried again every minute"
        self.halted = heard.halt
        self.breaker.failed(now, jitter, HALTED_SECONDS)
        return Heard("unavailable", notice)

    def _heard(
        self,
        batch: Batch,
        outcome: Outcome,
        now: float,
        asked_delay: float,
        cut_alone_since: float | None,
        jitter: float,
    ) -> Heard:
        match outcome:
            case Delivered():
                self._refusals.delivered()
                return self._up(batch.records, now)
            case Invalid():
                return self._up(batch.records, now)
            case Unavailable() | Unanswered():
                return self._failed(outcome, now, asked_delay, cut_alone_since, jitter)
            case Unauthorized():
                return Heard(halt=Halted(f"{outcome.reason}. No record was given up for it"))
        self.breaker.alive(now)
        match outcome:
            case Throttled():
                return Heard("throttled")
            case Refused():
                return self._refused(batch, outcome)
            case TooLarge():
                return self._too_large(batch)
            case TooMany():
                return self._step_down(batch)
            case _:
                assert_never(outcome)

    def gone(self, now: float, give_up_after: float) -> DestinationDown | None:
        """Return the end of a run whose destination has been down for too long; else None."""
        if not self.breaker.open or now - self.breaker.down_since < give_up_after:
            return None
        return DestinationDown(
            f"{self._host} has been down for {now - self.breaker.down_since:.0f} s (the last try: "
            f"{self._last_failure}). Nothing was given up for it"
        )

    def _up(self, records: int, now: float) -> Heard:
        notice = ""
        if self.breaker.open or self.halted:
            notice = f"{self._host} answers again, after {now - self.breaker.down_since:.0f} s"
        self.halted = None
        self.breaker.succeeded(now)
        self.ladder.accepted(records)
        return Heard(notice=notice)

    def _failed(
        self,
        outcome: Unavailable | Unanswered,
        now: float,
        asked_delay: float,
        cut_alone_since: float | None,
        jitter: float,
    ) -> Heard:
        said: Said = "unavailable" if isinstance(outcome, Unavailable) else "unanswered"
        if cut_alone_since is not None and self.breaker.last_success > cut_alone_since:
            return Heard(said)  # others of its family were taken: it fails by its own fault
        self._last_failure = masked(outcome.reason)
        if not self.breaker.failed(now, jitter, asked_delay):
            return Heard(said)
        return Heard(
            said,
            f"{self._host} is down ({self._last_failure}): everything waits, and one request at a "
            "time tries whether it is back",
        )

    def _refused(self, batch: Batch, outcome: Refused) -> Heard:
        # Before the first success there is nothing to send more at once for.
        said: Said = "throttled" if math.isinf(self.breaker.last_success) else "ok"
        if not self._refusals.refused(batch.family, about_data=outcome.status in ABOUT_DATA):
            return Heard(said)
        halt = Halted(
            f"{self._host} refuses every request{self._so_far()} (the last answer: "
            f"{outcome.status}, {masked(outcome.reason)}). Check the REST URL, the endpoint and "
            "--limits"
        )
        return Heard(said, halt=halt)

    def _so_far(self) -> str:
        """Say whether it ever took one."""
        return " and has taken nothing" if math.isinf(self.breaker.last_success) else " by now"

    def _too_large(self, batch: Batch) -> Heard:
        if not self._refusals.refused(batch.family, about_data=True):
            return Heard()
        return Heard(
            halt=Halted(
                f"{self._host} refuses every request as too large{self._so_far()} (the last one "
                f"had up to {batch.nbytes:,} bytes): a proxy on the way may have a smaller limit; "
                "try a smaller number with --limits"
            )
        )

    def _step_down(self, batch: Batch) -> Heard:
        if self.ladder.refused(batch.records, batch.generation):
            return Heard(
                notice=f"{self._host} does not take {batch.records} records in one request: going "
                f"on with at most {self.ladder.current.total}"
            )
        fitting = batch.records <= self.ladder.current.total
        if not fitting or not self._refusals.refused(batch.family, about_data=True):
            return Heard()
        halt = Halted(
            f"{self._host} refuses requests of {batch.records} records as too many, and there are "
            "no smaller caps to try: give the account's number with --limits"
        )
        return Heard(halt=halt)
