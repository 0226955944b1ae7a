"""Meters: what has been spent of one limit, and when more of it may be.

A sliding-window log, a token bucket and an even pace, all exact. Knows neither clock nor budget:
`now` is seconds of one monotonic clock, a cost is in the unit of the limit.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import accumulate
from typing import Final, assert_never

from ingest.rates import BucketLimit, PaceLimit, RateLimit, WindowLimit

SECOND: Final = 1.0
"""Seconds of the window that a pace is counted over."""

GRANULES: Final = 1024
"""A window's log keeps a thousandth of the period as one entry: 0.1 % of precision, 1 k entries."""

BUCKET_SLACKS: Final = 20
"""Slacks whose inflow a bucket keeps back. The first requests may be late by far more than the next
ones (connections are opened, a far end is cold), and the far end's bucket fills from then on. The
reserve only delays the end of a burst: unlike a window's slack it costs nothing of what lasts."""

EPSILON: Final = 1e-9
"""Tokens; what rounding may cost a bucket that was waited for exactly."""


class Window:
    """A sliding-window log: no `period` seconds, wherever they begin, hold more than `amount`.

    Entries closer than a thousandth of the period are one, and count until the last of them has
    left the window.
    """

    def __init__(self, amount: float, period: float) -> None:
        self.amount = amount
        self.period = period
        self._granule = period / GRANULES
        self._log: deque[tuple[float, float, float]] = deque()  # (first, last, cost)
        self._spent = 0.0

    def delay(self, now: float, cost: float = 1) -> float:
        """Return the seconds until `cost` may be spent: 0.0 is now, inf is never."""
        if cost > self.amount:
            return math.inf
        excess, log = self.total(now) + cost - self.amount, self._log
        if excess <= 0:
            return 0.0
        freed = accumulate(spent for _, _, spent in log)
        leaves = (last for (_, last, _), so_far in zip(log, freed, strict=True) if so_far >= excess)
        return next(leaves, log[-1][1]) + self.period - now

    def total(self, now: float) -> float:
        """Return how much still counts."""
        log = self._log
        while log and log[0][1] + self.period <= now:
            self._spent -= log.popleft()[2]
        if not log:
            self._spent = 0.0  # costs may be fractions, whose rounding must not add up
        return self._spent

    def spent(self, now: float) -> tuple[tuple[float, float], ...]:
        """Return what still counts, oldest first: (seconds ago, cost)."""
        return tuple((now - last, cost) for _, last, cost in self._log if last + self.period > now)

    def spend(self, now: float, cost: float = 1) -> None:
        """Enter what was sent, whether or not `delay` allowed it."""
        self._spent += cost
        if self._log and now - self._log[-1][0] < self._granule:
            first, last, spent = self._log.pop()
            self._log.append((first, max(last, now), spent + cost))
        else:
            self._log.append((now, now, cost))


class Bucket:
    """A token bucket: `rate` tokens a second flow in, it holds `burst`, and starts full.

    What arrives may arrive `slack` seconds closer than it was sent, so as much as flows in
    meanwhile is kept back: a cost that needs it goes alone, from a full bucket.
    """

    def __init__(self, rate: float, burst: float, slack: float = 0.0) -> None:
        self.rate = rate
        self.burst = burst
        self._full = max(0.0, burst - rate * slack)
        self._tokens = self._full
        self._at = -math.inf

    def delay(self, now: float, cost: float = 1) -> float:
        """Return the seconds until `cost` may be spent: 0.0 is now, inf is never."""
        if cost > self.burst:
            return math.inf
        needed = cost if cost < self._full else self._full
        missing = needed - self.level(now) - EPSILON
        return missing / self.rate if missing > 0 else 0.0

    def spend(self, now: float, cost: float = 1) -> None:
        """Take out `cost`, whether or not `delay` allowed it."""
        self._tokens = self.level(now) - cost
        self._at = max(self._at, now)

    def change(self, now: float, rate: float, burst: float) -> None:
        """Go on with another rate and burst from `now`, and without slack."""
        self._tokens = min(burst, self.level(now))
        self._at = max(self._at, now)
        self.rate, self.burst, self._full = rate, burst, burst

    def level(self, now: float) -> float:
        """Return the tokens that are there; below 0 it is in debt."""
        return min(self._full, self._tokens + max(0.0, now - self._at) * self.rate)


class Pace:
    """At most `amount` within any `period`, and evenly: a cost of n takes n/`amount` of it.

    The one does not follow from the other: 1 and then `amount` are even, and too much together.
    """

    def __init__(self, amount: float, period: float = SECOND) -> None:
        self._window = Window(amount, period)
        self._takes = period / amount
        self._over = -math.inf

    def delay(self, now: float, cost: float = 1) -> float:
        """Return the seconds until `cost` may be spent: 0.0 is now, inf is never."""
        return max(self._window.delay(now, cost), self._over - now)

    def spend(self, now: float, cost: float = 1) -> None:
        """Enter what was sent, whether or not `delay` allowed it."""
        self._window.spend(now, cost)
        self._over = max(self._over, now) + cost * self._takes


def meter_of(limit: RateLimit, slack: float) -> Window | Bucket | Pace:
    """Return the meter of a limit that counts over `slack` seconds more than it says.

    A bucket counts over `BUCKET_SLACKS` of them.
    """
    match limit:
        case WindowLimit(amount, period):
            return Window(amount, period + slack)
        case BucketLimit(rate, burst):
            return Bucket(rate, burst, BUCKET_SLACKS * slack)
        case PaceLimit(rate):
            return Pace(rate, SECOND + slack)
        case _ as unreachable:
            assert_never(unreachable)
