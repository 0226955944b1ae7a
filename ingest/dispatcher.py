"""What sends: waits for a place, for work and for a permit, and launches what may go.

A request goes alone, or as many full ones as may go at once. Decides only when to wait, and says
for what (law 12); what goes next is decided by the agenda, how many may be out by the in-flight
control, when by the throttle, and whether anything may by the health of the destination.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

from ingest.agenda import Agenda
from ingest.deliveries import Deliveries
from ingest.health import Health
from ingest.inflight import FIRST, Fixed, InFlight
from ingest.profiles import CapsLadder
from ingest.records import Batch
from ingest.resends import Case
from ingest.throttle import Throttle

JOURNAL: Final = "the journal"
"""What is waited for while a disk is slow."""

PROBE_PATIENCE: Final = 1.0
"""Seconds for which a probe of caps is waited for once `FIRST` requests are out, it included: what
goes beside it is smaller than it need be. One that takes longer may be lost."""


class Dispatcher:
    """Sends what the agenda has, while `stopping` does not say that the run stops.

    `cost` tells the permits that a batch takes, `make_room` is called when less of what was read
    may go than was thought. `clock` is monotonic; it and `give_up_after` are in seconds.
    """

    def __init__(
        self,
        agenda: Agenda,
        deliveries: Deliveries,
        *,
        throttle: Throttle,
        in_flight: InFlight | Fixed,
        ladder: CapsLadder,
        health: Health,
        cost: Callable[[Batch], float],
        give_up_after: float,
        make_room: Callable[[], None],
        stopping: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.waiting_for = "the first records"
        """What the next request waits for, beside its budget, as a phrase; empty: for nothing."""
        self.waits_until: float | None = None
        """When that is over at the latest; None where nobody can tell."""
        self._agenda = agenda
        self._deliveries = deliveries
        self._throttle = throttle
        self._in_flight = in_flight
        self._ladder = ladder
        self._health = health
        self._cost = cost
        self._give_up_after = give_up_after
        self._make_room = make_room
        self._stopping = stopping
        self._clock = clock
        self._probed_at, self._beside_probe = 0.0, 0
        self._permit_timeout: asyncio.Timeout | None = None
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Send until everything is settled, or the run stops.

        Raises `Halted` for a destination that is down for too long, `LocalFailure` for a journal.
        """
        # Cancelling comes some turns of the loop after a halt: nothing may go out in between.
        while not self._stopping():
            now = self._clock()
            gone = self._health.gone(now, self._give_up_after)
            if gone is not None:
                raise gone
            allowed = self._in_flight.allowed(now)
            if self._ladder.probing:
                allowed = min(allowed, FIRST)  # the rest is packed better once it is answered
                patience = self._probed_at + PROBE_PATIENCE - now
                if self._beside_probe >= FIRST - 1 and patience > 0:
                    await self._pause(patience, "answers")
                    continue
            if self._deliveries.count >= allowed:
                await self._pause(None, "answers")
                continue
            closed_for = self._health.breaker.delay(now)
            if closed_for > 0:
                # A probe that is out brings its answer by itself.
                until = None if math.isinf(closed_for) else closed_for
                await self._pause(until, "the destination, which is down")
                continue
            if self._deliveries.noting.owes:
                self.waiting_for = JOURNAL
                await self._deliveries.noting.own_up()
                self.waiting_for = ""
                continue
            room = allowed - self._deliveries.count
            if await self._launch_several(room, now):
                continue
            case = self._agenda.take(now)
            if self._agenda.reader_waits and not self._agenda.enough:
                self._make_room()  # less of what was read may go than it thought
            if case is None:
                if self._agenda.done:
                    return
                await self._pause(self._agenda.next_moment(now), self._lack())
                continue
            if await self._permit(case):
                self._note_probe(case)
                self._deliveries.launch((case,))
            else:
                self._agenda.put_back(case, now)

    def wake(self) -> None:
        """Look again at what is waited for: something changed."""
        self._changed.set()

    def heard(self) -> None:
        """Look at the destination's health anew: something was learned of it."""
        if self._permit_timeout is not None and (patience := self._patience()) is not None:
            # It went down while a permit is waited for, by its own word perhaps for hours.
            self._permit_timeout.reschedule(asyncio.get_running_loop().time() + patience)

    def _note_probe(self, case: Case) -> None:
        """Tell whether a request is the probe of caps or of an outage, or goes beside one."""
        beside = self._ladder.probing
        self._health.sent(case.batch)
        if beside:
            self._beside_probe += 1
        elif self._ladder.probing:
            self._probed_at, self._beside_probe = self._clock(), 0

    async def _pause(self, seconds: float | None, why: str) -> None:
        """Wait until something changed, or for so many seconds."""
        self.waiting_for = why
        self.waits_until = None if seconds is None else self._clock() + seconds
        self._changed.clear()
        if (patience := self._patience()) is not None:
            seconds = patience if seconds is None else min(seconds, patience)
        timer = None
        if seconds is not None:
            timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._changed.set)
        try:
            await self._changed.wait()
        finally:
            if timer is not None:
                timer.cancel()
            self.waiting_for = ""

    async def _permit(self, case: Case) -> bool:
        """Wait for the budget; return whether the request may still go then."""
        case.cost = cost = self._cost(case.batch)
        granted = await self._throttle.at_once(cost, self._deliveries.count)
        if granted is not None:
            case.granted_at = granted
            return True
        try:
            async with asyncio.timeout(self._patience()) as self._permit_timeout:
                case.granted_at = await self._throttle.acquire(
                    cost, in_flight=lambda: self._deliveries.count
                )
        except TimeoutError:
            return False
        finally:
            self._permit_timeout = None
        return self._health.breaker.delay(self._clock()) <= 0 and not self._stopping()

    def _patience(self) -> float | None:
        """Seconds until a destination that is down is given up; None while it is not down."""
        breaker = self._health.breaker
        if not breaker.open:
            return None
        return max(0.0, breaker.down_since + self._give_up_after - self._clock())

    def _lack(self) -> str:
        if self._deliveries.count:
            return "answers"
        if self._agenda.retries_waiting:
            return "the next try of what failed"
        return "records"

    async def _launch_several(self, room: int, now: float) -> bool:
        """Launch full requests of fresh records that may all go at once; return whether any did.

        What each of them costs beside its bytes is paid once for all, where a destination is fast.
        None of them is a probe.
        """
        if room < 2 or self._health.breaker.open:
            return False
        most = self._throttle.several(room, self._deliveries.count)
        cases = self._agenda.take_full(most, now)
        if not cases:
            return False
        granted = await self._throttle.at_once(1, self._deliveries.count, len(cases))
        if granted is None:  # a turn that was left over has ended just now
            for case in cases:
                self._agenda.put_back(case, now)
            return False
        for case in cases:
            case.granted_at = granted
        if self._agenda.reader_waits and not self._agenda.enough:
            self._make_room()
        self._deliveries.launch(cases)
        return True
