"""How many requests may be in flight at once.

Decides by what the rate needs (rate times round-trip time), and by what the destination bears:
fewer after a 429, a 5xx, a time-out or when answers take twice as long as they could; more again as
answers come (multiplicative decrease; additive increase, or by the clock where that is faster).

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

STRAY: Final = 0.01
"""Share of answers that may be 429s and cut nothing: what strays over the edge of a window, of
which the law grants as many."""

STRAYING: Final = 5.0
"""Seconds of the rate of which those may come together: a process that was not let run for 50 ms
sends a twentieth of a second's requests late."""

CURVE: Final = 0.4
"""Requests per second cubed: how steeply it comes back to what it had, and beyond, whatever the
round trip is (CUBIC, RFC 9438). One more per round trip is faster below 100 ms; at 1 s it would
take a quarter of an hour to come back to 1,000."""

STEEPEST: Final = 1 / 8
"""Of the limit, what the curve adds per round trip at most: a queue shows a round trip late."""

MOST_CAUTIOUS: Final = 4.0
"""Times as long as the curve takes at most. Each bad answer that cuts doubles it, until what the
rate needs was reached again: where so many are never borne, that is tried seldom."""

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
MEMORY_TRIPS: Final = 30.0
"""Seconds of each of the two spans over which the least round trip is taken (15 to 30 s in all), or
round trips where those are longer: a queue has to be found and emptied before it is forgotten."""

EARLIEST: Final = 1e-3
"""Seconds that a round takes at least: what came at once came in a turn of our own loop."""


class Fixed:
    """A number that somebody chose, whatever happens; same interface as `InFlight`."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.rate = math.inf

    def allowed(self, now: float) -> int:
        """Return the number."""
        return self.number

    def sent(self, now: float, count: int = 1) -> None:
        """Take no notice."""

    def answered(self, now: float, rtt: float, verdict: Verdict) -> None:
        """Take no notice."""


class InFlight:
    """Adaptive: what the rate needs, unless the destination shows that it is too much.

    `most` bounds the number, whatever the rate needs.
    """

    def __init__(self, rate: float = math.inf, *, most: int = MOST) -> None:
        self._credit = 0.0  # 429s that may come and cut nothing
        self.rate = rate
        self.most = most
        self._limit: float = min(FIRST, most)
        self._threshold = math.inf  # up to here it doubles per round trip, above it goes slowly
        self._had = 0.0  # what was borne before it was cut
        self._centre: float | None = None  # when the curve is back there; None before it began
        self._caution = 1.0
        self.out = 0
        """Attempts that are not answered."""
        self._successes = 0
        self._cut_at = -math.inf
        self._ok_since_cut = True
        self._smoothed: float | None = None
        self._theirs = 0.0  # the same without what our own loop was late
        self._stalls: deque[tuple[float, float]] = deque(maxlen=STALLS)
        self._least = (math.inf, math.inf)  # of the last span, of the present one
        self.least_rtt = math.inf
        """The least round trip of the last 15 to 30 s in seconds; inf before it is known.

        It is that of as many answers as were in flight, on average: where answers take 100 to
        300 ms, none that takes 200 is slow.
        """
        self._span_ends = math.inf
        self._round: list[float] = []
        self._round_size = FIRST
        self._round_began = -math.inf
        self._rounds = 0
        self._flow = 0.0  # answers a second in the last round

    @property
    def rate(self) -> float:
        """Requests a second that the budgets let go; set it again whenever that changes.

        Where requests cost more than 1, of such a size as they have now; inf if nothing limits
        them.
        """
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._rate = rate
        # None where no rate tells how many are normal.
        self._strays = STRAYING * STRAY * min(FASTEST, rate) if math.isfinite(rate) else 0.0
        if self._credit > self._strays:
            self._credit = self._strays

    def allowed(self, now: float) -> int:
        """Return how many requests may be in flight, at least 1."""
        return max(1, int(min(self._limit, self._ceiling())))

    def sent(self, now: float, count: int = 1) -> None:
        """Note attempts on their way."""
        self.out += count

    def stalled(self, now: float, seconds: float) -> None:
        """Note that our own loop was late by so much: what came meanwhile only seems slow."""
        self._stalls.append((now, seconds))

    def answered(self, now: float, rtt: float, verdict: Verdict) -> None:
        """Note how an attempt ended that took `rtt` seconds, backoff not included."""
        was_out = self.out
        self.out = max(0, self.out - 1)
        fresh = now - rtt >= self._cut_at  # sent since the last cut, hence not its cause
        if verdict != "ok":
            if fresh and not (verdict == "throttled" and self._strayed()):
                if self._ok_since_cut:
                    self._caution = min(MOST_CAUTIOUS, 2 * self._caution)
                self._cut(now, self._limit * FACTORS[verdict], self._limit)
            return
        self._ok_since_cut = True
        if self._credit < self._strays:
            self._credit = min(self._credit + STRAY, self._strays)
        self._measure(now, rtt, fresh, was_out)
        self._successes += 1
        if self._successes == 1 and math.isfinite(self.rate):
            self._limit = max(self._limit, self._ceiling())
        elif fresh and self._is_slow():
            working = self._working(was_out)
            self._cut(now, min(self._limit, max(FIRST, working * DRAIN)), working)
        elif 2 * was_out >= self._limit:  # an unused limit was not put to the test
            step = 1.0 if self._limit < self._threshold else self._step(now)
            ceiling = self._ceiling()
            self._limit = min(self._limit + step, ceiling)
            if self._limit == ceiling:
                self._caution = 1.0

    def _ceiling(self) -> float:
        """Return what the rate needs, at least `FIRST`, at most what was allowed."""
        if self._smoothed is None:
            return self.most
        if self._rate == math.inf:
            return min(self.most, UNPACED)
        rtt = min(self._smoothed, SLOW * self.least_rtt)
        needed = min(FASTEST, self._rate) * (rtt * HEADROOM + LATE)
        return min(self.most, max(FIRST, math.ceil(needed)))

    def _strayed(self) -> bool:
        """Whether a 429 is one of those that stray over the edge of a window: few among many."""
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True

    def _step(self, now: float) -> float:
        """Return what one answer adds above the threshold: a round trip's share of 1, or more."""
        if self._centre is None:
            takes = math.cbrt(max(0.0, self._had - self._limit) / CURVE)
            self._centre = now + takes * self._caution
        aim = self._had + CURVE * ((now - self._centre) / self._caution) ** 3
        return max(1 / self._limit, min(STEEPEST, (aim - self._limit) / self._limit))

    def _is_slow(self) -> bool:
        return self._theirs > SLOW * self.least_rtt + SLOW_FLOOR

    def _working(self, was_out: int) -> float:
        """Return how many the destination works on at a time, where more than that wait there.

        While more and more are sent, round trips tell of a time when fewer were out; what is
        answered in a second does not. A lull makes that too little, but no lull halves a round.
        """
        seen = was_out * self.least_rtt / self._theirs
        return max(seen / 2, min(seen, self._flow * self.least_rtt))

    def _cut(self, now: float, limit: float, had: float) -> None:
        self._limit = max(1.0, limit)
        if self._ok_since_cut:  # in an outage the first cut says how far to come back fast
            self._threshold, self._had = self._limit, had
            self._ok_since_cut = False
        self._centre = None
        self._credit = 0.0
        self._cut_at = now

    def _measure(self, now: float, rtt: float, fresh: bool, was_out: int) -> None:
        if now >= self._span_ends or math.isinf(self._span_ends):
            self._learn(self._least[1], math.inf)
            self._span_ends = now + max(MEMORY, MEMORY_TRIPS * rtt)
        if not fresh and self._smoothed is not None:
            return
        stalled = self._stalls and self._stalls[-1][0] > now - rtt
        theirs = self._without_stalls(now, rtt) if stalled else rtt
        if self._smoothed is None:
            self._smoothed, self._theirs = rtt, theirs
        most = LATEST * self.least_rtt
        weight = A_ROUND / was_out if was_out * SMOOTHING > A_ROUND else SMOOTHING
        self._smoothed += ((rtt if rtt < most else most) - self._smoothed) * weight
        self._theirs += ((theirs if theirs < most else most) - self._theirs) * weight
        self._round.append(theirs)  # all of it: a link may have become slower
        if len(self._round) >= self._round_size:
            if self._rounds:  # the first answers of all are the fast ones of those in flight
                last, present = self._least
                self._learn(last, min(present, sum(self._round) / len(self._round)))
            self._rounds += 1
            self._flow = len(self._round) / max(now - self._round_began, EARLIEST)
            self._round_size, self._round_began = max(FIRST, was_out), now
            self._round.clear()

    def _without_stalls(self, now: float, rtt: float) -> float:
        """Return what a round trip took beside the times in which our own loop was late."""
        theirs = rtt
        for late_at, late in reversed(self._stalls):
            if late_at <= now - rtt:
                break
            theirs -= late
        return max(theirs, min(rtt, self.least_rtt))  # not all of it need have waited for us

    def _learn(self, last: float, present: float) -> None:
        """Note the least round trips of the last span, and of the present one."""
        self._least = (last, present)
        self.least_rtt = min(last, present)
