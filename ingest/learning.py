"""Learn the true limit of a destination that answers 429 although our own budgets allowed it.

Decides two things: how many requests may be in flight while nothing is known (an untested limit is
approached, not rushed, because whatever is in flight when it is met comes back as a 429), and at
what rate to send once a limit was met.

The destination counts in windows that are fixed to its clock, of a length nobody tells. So the
estimate is a rate: what was accepted since sending (re)started, over the time from then until the
destination is expected to take requests again. It is right for windows of any length that were
seen from their opening, and an overestimate by at most the first, partial one, which the next 429
corrects. A ceiling that holds is raised in growing steps while it is what limits us.

The rate is in what requests cost (1, or the users in them), as the budget spends it. How many
answers a decision rests on, and how many may be in flight, is in requests whatever they cost.

It knows no clock, no headers and no requests, only moments of acceptance and refusal.
"""

from __future__ import annotations

import math
from typing import Final

FIRST_IN_FLIGHT: Final = 8
"""Requests in flight before anything was accepted: their 429s are lost in any run worth pacing."""

CAUTIOUS_ACCEPTED: Final = 300
CAUTIOUS_IN_FLIGHT: Final = 16
TRUSTING_SHARE: Final = 3
"""In flight once one was accepted, until 300 were; then one more for every 3, a third more
with every round trip. Meeting a limit costs as many answers of 429: under a tenth of a run of 300.
"""

GRANULE: Final = 0.05
GRANULES: Final = 256
"""Moments of acceptance are kept in at most 256 granules of at least 50 ms. When they run out, the
older half is merged in pairs: what is long ago is remembered coarsely."""

SHORTEST_WINDOW: Final = 1.0
"""Seconds; no destination is known to count in shorter windows, so no estimate divides by less."""

SLOWEST: Final = 0.2
"""Requests a second, of the size usual so far, that are sent whatever was measured: one per five
seconds."""

DECREASE: Final = 0.97
"""A ceiling that met a 429 comes down at least this far, whatever was measured."""

LARGEST_CUT: Final = 0.5
"""One 429 does not take more than half of a ceiling: few requests measure badly."""

FIRST_STEP: Final = 0.03
STEP_GROWTH: Final = 2.0
LARGEST_STEP: Final = 0.5
"""Probing upwards: by 3 %, then twice that with each clean probe, to 50 %. Near the limit it is
gentle; a ceiling that is ten times too low (a window that others had used up) is gone in minutes.
"""

SHORTEST_PROBE: Final = 10.0
LONGEST_PROBE: Final = 30.0
PROBE_ACCEPTED: Final = 50
"""A ceiling is clean after half the hold of its 429, within 10 to 30 s, and 50 requests accepted:
one probe that fails costs about a second of hold, under a tenth of the time."""

MOST_FUTILE: Final = 3
DEAF: Final = 60.0
"""A ceiling that is met again within `PROBE_ACCEPTED` requests did not help. Once the first,
partial window is corrected, that does not happen to a limit; three times in a row means that these
429s are about something else. Then the ceiling goes, and for 60 s a 429 is waited out and teaches
nothing."""

LONG_HOLD: Final = 5.0
"""Seconds; a first hold longer than this and than the run so far means that the window was open
long before us, perhaps used by others: nothing can be said about it, and the next one tells."""

THIN: Final = 100
"""Accepted requests below which a first 429 tells nothing either, for the same reason."""


class Learner:
    """The limit that the destination showed: `rate` (cost a second), None while it showed none.

    All times are seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self.rate: float | None = None
        self._first_epoch = True
        self._event: float | None = None  # when the 429 came that we still wait out
        self._restart = -math.inf  # when sending goes on after it
        self._reopens = 0.0  # when its window presumably opens again
        self._before: float | None = None  # the ceiling that met it
        self._floor = FIRST_IN_FLIGHT
        self._count = 0  # accepted since sending (re)started
        self._cost = 0.0  # what those cost
        self._granules: list[list[float]] = []  # [first moment, cost]
        self._step = FIRST_STEP
        self._probe_every = SHORTEST_PROBE
        self._raised_at = 0.0
        self._clean = 0
        self._pressed = False
        self._futile = 0
        self._thin: list[int] = []
        self._deaf_until = -math.inf

    def in_flight(self, known: bool = False) -> float:
        """Return how many requests may be in flight: 1 after a 429 until one is accepted.

        Where the limit is `known`, there is nothing to approach before a 429: inf.
        """
        if self._event is not None:
            return 1
        if known and self._first_epoch:
            return math.inf
        if not self._count:
            return self._floor
        trusting = max(0, self._count - CAUTIOUS_ACCEPTED)
        return max(self._floor, CAUTIOUS_IN_FLIGHT + trusting // TRUSTING_SHARE)

    def press(self) -> None:
        """Note that `rate` is what a request had to wait for; only then is a probe upwards due."""
        self._pressed = True

    def accepted(self, now: float, sent: float | None = None, cost: float = 1) -> None:
        """Count one accepted request of `cost` (above 0); `sent` is when it was, if known."""
        if self._event is not None and (now if sent is None else sent) >= self._restart:
            self._event = None
            self._first_epoch = False
            self._granules.clear()
            self._count = self._clean = 0
            self._cost = 0.0
            self._raised_at = now
            self._pressed = False
        self._count += 1
        self._cost += cost
        self._remember(now, cost)
        if self._event is not None:
            self._estimate(self._event)  # the 429 overtook it
        elif self.rate is not None:
            self._probe(now)

    def throttled(
        self, now: float, reopens: float, restart: float, in_flight: int, sent: float | None = None
    ) -> None:
        """Take in one 429; all that belong to requests sent before `restart` are one event.

        `reopens` is when the destination's window presumably opens again, `restart` (not earlier
        than that) when the budget lets requests go again, `in_flight` how many others are out.
        """
        if self._event is None:
            if sent is not None and sent < self._restart:
                return  # a straggler of the event before this one
            self._event = now
            self._before = self.rate
            thin = self.rate is None and self._count < PROBE_ACCEPTED
            self._thin = [*self._thin[1 - MOST_FUTILE :], self._count] if thin else []
            futile = self.rate is not None and self._count < PROBE_ACCEPTED
            self._futile = self._futile + 1 if futile else 0
            if self._futile >= MOST_FUTILE:
                self._deaf_until, self._futile = now + DEAF, 0
            self._floor = max(FIRST_IN_FLIGHT, in_flight // 2)
            self._step = FIRST_STEP
        self._restart, self._reopens = restart, reopens
        self._estimate(self._event)

    def _estimate(self, event: float) -> None:
        hold = self._reopens - event
        self._probe_every = min(LONGEST_PROBE, max(SHORTEST_PROBE, hold / 2))
        if event < self._deaf_until:
            self.rate = None
            return
        if not self._granules:
            return  # nothing was accepted, so nothing was measured
        unseen = hold > max(LONG_HOLD, event - self._granules[0][0])
        if self._first_epoch and (unseen or self._count < THIN):
            self.rate = None
            return
        if self._thin and not self._agree():
            self.rate = None
            return
        measured = self._measured(self._reopens)
        if self._before is not None:
            # The second correction in a row is no correction any more.
            lower = self._before * DECREASE
            least = lower if self._futile > 1 else self._before * LARGEST_CUT
            measured = max(least, min(measured, lower))
        self.rate = max(SLOWEST * self._cost / self._count, measured)

    def _agree(self) -> bool:
        """Whether few requests were accepted before each of several 429s, and about as many.

        So it is with a small limit; a 429 that comes by chance comes after any number.
        """
        return len(self._thin) == MOST_FUTILE and max(self._thin) <= 2 * min(self._thin)

    def _measured(self, until: float) -> float:
        """Return the best rate of acceptance over any time that ends at `until`.

        The best, because a worker that idled for an hour before a burst was not limited then.
        """
        best = total = 0.0
        for first, cost in reversed(self._granules):
            total += cost
            best = max(best, total / max(SHORTEST_WINDOW, until - first))
        return best

    def _remember(self, now: float, cost: float) -> None:
        if self._granules and now - self._granules[-1][0] < GRANULE:
            self._granules[-1][1] += cost
            return
        self._granules.append([now, cost])
        if len(self._granules) > GRANULES:
            half = GRANULES // 2
            old, recent = self._granules[:half], self._granules[half:]
            pairs = zip(old[::2], old[1::2], strict=True)
            self._granules = [[one[0], one[1] + other[1]] for one, other in pairs] + recent

    def _probe(self, now: float) -> None:
        self._clean += 1
        if (
            self._pressed
            and self._clean >= PROBE_ACCEPTED
            and now - self._raised_at >= self._probe_every
        ):
            assert self.rate is not None
            self.rate *= 1 + self._step
            self._step = min(LARGEST_STEP, self._step * STEP_GROWTH)
            self._raised_at = now
            self._clean = 0
            self._pressed = False
