"""The breaker: is the destination there at all, and does it refuse everything?

Decides when failures are an outage, when the next probe may go, and when refusals are a reason to
halt. An outage is no verdict on data: while the breaker is open, nobody's failures count.
"""

from __future__ import annotations

import math
from typing import Final

FAILURES_TO_OPEN: Final = 5
"""Failures in a row, with no success between, that make an outage. One request in four failing at
random gets there once in a thousand requests, and then costs one probe."""

FIRST_PROBE: Final = 0.5
"""Seconds from opening to the first probe, doubled after each that fails."""

PROBE_CAP: Final = 15.0
"""Seconds between probes at the most: an hour's outage ends at most this late for us."""

LONG_ASK: Final = 30.0
"""Seconds of `Retry-After` on a failure that are an outage by the destination's own word."""

REFUSALS_TO_HALT: Final = 10
"""Law 7: refusals with nothing delivered that halt the run."""


class Breaker:
    """Closed while the destination answers; open in an outage, one probe at a time.

    Only a success ends an outage. Another answer closes the breaker, for somebody is there; but if
    the next one is a failure again it is the same outage, which goes on from `down_since`: that
    moves by as long as the breaker was closed.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._probes = 0
        self._next_probe = 0.0
        self._probe: int | None = None
        self._probe_answered = False
        self._down_before: float | None = None  # seconds of an outage that no success has ended
        self.open = False
        self.down_since = 0.0
        self.last_success = -math.inf

    def delay(self, now: float) -> float:
        """Seconds until the breaker lets a request go; `inf` while a probe is out."""
        if not self.open:
            return 0.0
        if self._probe is not None:
            return math.inf
        return max(0.0, self._next_probe - now)

    @property
    def probing(self) -> bool:
        """Whether a probe is out."""
        return self._probe is not None

    def sent(self, batch_id: int) -> None:
        """Note a request; in an outage it is the probe."""
        if self.open:
            self._probe = batch_id

    def answered(self, batch_id: int) -> None:
        """Note that a request came back, whatever it brought: it is no longer the probe.

        Comes before what it brought: `failed`, `alive` or `succeeded`.
        """
        self._probe_answered = self._probe == batch_id
        if self._probe_answered:
            self._probe = None

    def alive(self, now: float) -> None:
        """Note an answer that shows the destination at work, be it a 429 or a 400."""
        if self.open:
            self._down_before = now - self.down_since
        self._failures = 0
        self.open = False
        self._next_probe = 0.0

    def succeeded(self, now: float) -> None:
        """Note an accepted request."""
        self.alive(now)
        self._down_before = None
        self._probes = 0
        self.last_success = now

    def failed(self, now: float, jitter: float, asked_delay: float = 0.0) -> bool:
        """Note a failure; return whether an outage begins with this one.

        `asked_delay` is the floor in seconds that the destination asked for. `jitter` in [0, 1)
        spreads the probes of a fleet over half of each interval.
        """
        self._failures += 1
        if self._failures == 1:
            self.down_since = now - (self._down_before or 0.0)
        same_outage = self._down_before is not None
        if self._failures < FAILURES_TO_OPEN and asked_delay < LONG_ASK and not same_outage:
            return False
        opened = not self.open
        self.open = True
        wait = asked_delay
        # What was in flight when it opened fails too, and is no reason to ask less often.
        if opened or self._probe_answered:
            spread = 0.5 + jitter / 2
            wait = max(wait, spread * min(PROBE_CAP, FIRST_PROBE * 2.0 ** min(self._probes, 16)))
            self._probes += 1
        self._next_probe = max(self._next_probe, now + wait)
        return opened and not same_outage


class Refusals:
    """Counts refusals since the last delivery, to halt a run that nothing comes of."""

    def __init__(self) -> None:
        self._families: set[int] = set()
        self._others = 0
        self._delivered = False

    def delivered(self) -> None:
        """Note a delivery: whatever was refused before was about that data."""
        self._delivered = True
        self._others = 0
        self._families.clear()

    def refused(self, family: int, *, about_data: bool) -> bool:
        """Note a refused request; return whether the run should halt.

        Once something was delivered, the refusals that one bad batch's bisecting brings are one
        refusal; a wrong path or a redirect counts each time, for it is nobody's data.
        """
        if self._delivered and about_data:
            self._families.add(family)
        else:
            self._others += 1
        return len(self._families) + self._others >= REFUSALS_TO_HALT
