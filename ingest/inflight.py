"""How many requests may be in flight at once.

Decides by what the rate needs (rate times round-trip time), and by what the destination bears:
fewer after a 429, a 5xx, a time-out or when answers take twice as long as they could; more again as
answers come (additive increase, multiplicative decrease).

A pure state machine: told what was sent and answered and when, it answers with a number. It does
not know what a request is, and it does not hold anyone back.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Literal

Verdict = Literal["ok", "throttled", "unavailable", "unanswered"]
"""What became of one attempt: it was processed (whatever the verdict on its records), 429, 5xx or
not sent, time-out or reset."""

FIRST: Final = 8
"""Requests in flight before the first success, and what the rate may always use later."""

MOST: Final = 2048
"""Requests in flight at most by default: 1,000 a second over 1.5 s. Sockets are not free; bodies
are bounded by the byte budget besides."""

FASTEST: Final = 3_000
"""Requests a second, more than one process makes of 75 records each: a rate beyond it is no reason
to have more in flight, and hundreds of connections to a destination that is near cost a fifth."""

UNPACED: Final = 512
"""The same where no rate is to be reached."""

HEADROOM: Final = 1.2
"""More in flight than rate x round trip asks for, for the answers that take longer than most."""

LATE: Final = 0.05
"""Seconds that our own loop and journal may take to send or to hear, beside the round trip."""

FACTORS: Final[dict[Verdict, float]] = {"throttled": 0.9, "unavailable": 0.7, "unanswered": 0.7}
"""What a bad answer leaves of the limit. A 429 is about rate, not about concurrency: gently."""

SLOW: Final = 2.0
SLOW_FLOOR: Final = 0.025
"""Answers are slow, smoothed, above twice the least round trip and 25 ms. On a loopback they wait
in our own loop, a turn of which takes as long as all that came meanwhile; so short a queue harms
nobody."""

DRAIN: Final = 0.9
"""What slow answers leave of (in flight x least / smoothed round trip), which the destination
works on at a time: below that the queue empties, so that the least round trip is seen again. Not
below `FIRST`, which queue nowhere for long."""

SMOOTHING: Final = 1 / 8
"""Weight of a new round trip in the smoothed one, as in TCP."""

LATEST: Final = 4.0
"""Times the least round trip that one answer counts for at most: it takes several late ones in a
row to tell of a queue."""

A_ROUND: Final = 2.0
"""What all that are in flight weigh together, where they are many: a late one among hundreds tells
of no queue, and half of a round does."""

STALLS: Final = 64
"""Times that our own loop was late which are remembered; older answers are not excused."""

MEMORY: Final = 15.0
"""Seconds of each of the two spans over which the least round trip is taken: 15 to 30 s in all."""


class Fixed:
    """A number that somebody chose, whatever happens; same interface as `InFlight`."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.rate = math.inf

    def allowed(self, now: float) -> int:
        """Return the number."""
        return self.number

    def sent(self, now: float) -> None:
        """Take no notice."""

    def answered(self, now: float, rtt: float, verdict: Verdict) -> None:
        """Take no notice."""


class InFlight:
    """Adaptive: what the rate needs, unless the destination shows that it is too much.

    `rate` is requests a second that the budgets let go (where requests cost more than 1, of such a
    size as they have now; inf if nothing limits them); set it again whenever that changes.
    """

    def __init__(self, rate: float = math.inf, *, most: int = MOST) -> None:
        self.rate = rate
        self.most = most
        self._limit: float = min(FIRST, most)
        self._threshold = math.inf  # up to here it doubles per round trip, above it adds one
        self.out = 0
        """Attempts that are not answered."""
        self._successes = 0
        self._cut_at = -math.inf
        self._ok_since_cut = True
        self._smoothed: float | None = None
        self._theirs = 0.0  # the same without what our own loop was late
        self._stalls: deque[tuple[float, float]] = deque(maxlen=STALLS)
        self._least = [math.inf, math.inf]  # of the last span, of the present one
        self._span_ends = math.inf
        self._round: list[float] = []
        self._round_size = FIRST
        self._rounds = 0

    def allowed(self, now: float) -> int:
        """Return how many requests may be in flight, at least 1."""
        return max(1, int(min(self._limit, self._ceiling())))

    def sent(self, now: float) -> None:
        """Note an attempt on its way."""
        self.out += 1

    def stalled(self, now: float, seconds: float) -> None:
        """Note that our own loop was late by so much: what came meanwhile only seems slow."""
        self._stalls.append((now, seconds))

    def answered(self, now: float, rtt: float, verdict: Verdict) -> None:
        """Note how an attempt ended that took `rtt` seconds, backoff not included."""
        was_out = self.out
        self.out = max(0, self.out - 1)
        fresh = now - rtt >= self._cut_at  # sent since the last cut, hence not its cause
        if verdict != "ok":
            if fresh:
                self._cut(now, self._limit * FACTORS[verdict])
            return
        self._ok_since_cut = True
        self._measure(now, rtt, fresh, was_out)
        self._successes += 1
        if self._successes == 1 and math.isfinite(self.rate):
            self._limit = max(self._limit, self._ceiling())
        elif fresh and self._is_slow():
            working = was_out * self.least_rtt / self._theirs
            self._cut(now, min(self._limit, max(FIRST, working * DRAIN)))
        elif 2 * was_out >= self._limit:  # an unused limit was not put to the test
            step = 1.0 if self._limit < self._threshold else 1 / self._limit
            self._limit = min(self._limit + step, self._ceiling())

    @property
    def least_rtt(self) -> float:
        """The least round trip of the last 15 to 30 s in seconds; inf before it is known.

        It is that of as many answers as were in flight, on average: where answers take 100 to
        300 ms, none that takes 200 is slow.
        """
        return min(self._least)

    def _ceiling(self) -> float:
        """Return what the rate needs, at least `FIRST`, at most what was allowed."""
        if self._smoothed is None:
            return self.most
        if self.rate == math.inf:
            return min(self.most, UNPACED)
        rtt = min(self._smoothed, SLOW * self.least_rtt)
        needed = min(FASTEST, self.rate) * (rtt * HEADROOM + LATE)
        return min(self.most, max(FIRST, math.ceil(needed)))

    def _is_slow(self) -> bool:
        return self._theirs > SLOW * self.least_rtt + SLOW_FLOOR

    def _cut(self, now: float, limit: float) -> None:
        self._limit = max(1.0, limit)
        if self._ok_since_cut:  # in an outage the first cut says how far to come back fast
            self._threshold = self._limit
            self._ok_since_cut = False
        self._cut_at = now

    def _measure(self, now: float, rtt: float, fresh: bool, was_out: int) -> None:
        if now >= self._span_ends or math.isinf(self._span_ends):
            self._least = [self._least[1], math.inf]
            self._span_ends = now + MEMORY
        if not fresh and self._smoothed is not None:
            return
        theirs = rtt
        for late_at, late in reversed(self._stalls):
            if late_at <= now - rtt:
                break
            theirs -= late
        theirs = max(theirs, min(rtt, self.least_rtt))  # not all of it need have waited for us
        if self._smoothed is None:
            self._smoothed, self._theirs = rtt, theirs
        most, weight = LATEST * self.least_rtt, min(SMOOTHING, A_ROUND / max(1, was_out))
        self._smoothed += (min(rtt, most) - self._smoothed) * weight
        self._theirs += (min(theirs, most) - self._theirs) * weight
        self._round.append(theirs)  # all of it: a link may have become slower
        if len(self._round) >= self._round_size:
            if self._rounds:  # the first answers of all are the fast ones of those in flight
                self._least[1] = min(self._least[1], sum(self._round) / len(self._round))
            self._rounds += 1
            self._round_size = max(FIRST, was_out)
            self._round.clear()
