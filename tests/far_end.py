"""A destination and a client as a discrete-event simulation on virtual time, for tests of pace.

The destination counts in windows that are aligned to its clock, as the real ones do; the client
always has work. Nothing sleeps: a minute of traffic takes a fraction of a second.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from ingest.inflight import InFlight, Verdict
from ingest.limits import Bucket, Budget, RateLimit, pacing
from ingest.serverwords import ServerWord

Dialect = Literal["classic", "dated", "mau", "silent"]
"""classic: epoch resets to the millisecond of our own clock. dated: the same against a `Date` in
whole seconds. mau: an hourly window on success, whole seconds to wait on 429. silent: no hint."""


SHORTEST_WAIT: Final = 1e-6
"""Seconds; a wait lost in the rounding of floats must not stop the clock."""


def told_late(word: ServerWord, passed: float) -> ServerWord:
    """Return a word that names the end of its window by the clock, heard `passed` seconds later."""
    assert word.reset_in is not None
    left = word.reset_in - passed
    return msgspec.structs.replace(word, reset_in=max(0.0, left), over_for=max(0.0, -left))


class Link(msgspec.Struct, frozen=True):
    """A round trip of `rtt` seconds; each way is late by up to `jitter` seconds."""

    rtt: float
    jitter: float = 0.0


class Result(msgspec.Struct):
    """What a simulated run came to; times in seconds."""

    accepted: int = 0
    throttled: int = 0
    seconds: float = 0.0
    sends: list[float] = msgspec.field(default_factory=list)

    @property
    def share_throttled(self) -> float:
        """429s per request."""
        return self.throttled / (self.accepted + self.throttled)


class Destination:
    """Accepts `amount` requests in each clock-aligned window of `period` seconds."""

    def __init__(self, amount: int, period: float, dialect: Dialect) -> None:
        self.amount = amount
        self.period = period
        self.dialect = dialect
        self._window = -1
        self._count = 0

    def answer(self, now: float) -> ServerWord:
        """Take one request that arrives at `now`, and say what the headers would."""
        window = math.floor(now / self.period)
        if window != self._window:
            self._window, self._count = window, 0
        throttled = self._count >= self.amount
        self._count += not throttled
        ends = (window + 1) * self.period
        match self.dialect:
            case "classic" | "dated":
                base = now if self.dialect == "classic" else math.floor(now)
                left = self.amount - self._count
                return ServerWord(throttled, None, self.amount, left, math.ceil(ends) - base)
            case "mau" if throttled:
                return ServerWord(True, math.ceil(ends - now), None, None, None)
            case "mau":
                return ServerWord(False, None, 10**6, 500_000, math.floor(3600 - now % 3600))
            case _:
                return ServerWord(throttled, None, None, None, None)


def simulate(
    budget: Budget,
    answer: Callable[[float], ServerWord],
    link: Link,
    *,
    start: float = 0.0,
    requests: int | None = None,
    seconds: float = math.inf,
    spacing: tuple[RateLimit, ...] | None = None,
    by_the_clock: bool = False,
    seed: int = 0,
) -> Result:
    """Send through `budget` and an adaptive `InFlight` until `requests` are accepted or time is up.

    `spacing` are the limits that the driver spaces by; the budget's own by default. With
    `by_the_clock` the ends of windows are told by the time of day, as by `told_late`.
    """
    dice = random.Random(seed)
    result = Result()
    control = InFlight(budget.rate)
    paced = pacing(budget.limits if spacing is None else spacing)
    spacer = Bucket(paced[0] / paced[1], paced[0]) if paced else None
    ticket = itertools.count()
    # (when, ticket, sent, word): without `sent` a timer, without `word` an arrival over there
    events: list[tuple[float, int, float | None, ServerWord | None]] = [(start, 0, None, None)]
    in_flight = 0
    timer = -math.inf
    while events:
        now, _, sent, word = heapq.heappop(events)
        if now - start > seconds:
            break
        result.seconds = now - start
        if sent is not None and word is None:
            back = now + link.rtt / 2 + dice.random() * link.jitter
            said = answer(now)
            if by_the_clock:
                said = told_late(said, back - now)
            heapq.heappush(events, (back, next(ticket), sent, said))
            continue
        if sent is not None and word is not None:
            in_flight -= 1
            verdict: Verdict = "throttled" if word.throttled else "ok"
            if word.throttled:
                result.throttled += 1
            else:
                result.accepted += 1
                budget.accepted(now, sent)
            budget.hear(word, now, dice.random(), in_flight, sent)
            control.answered(now, now - sent, verdict)
            if result.accepted == requests:
                break
        control.rate = budget.rate
        while in_flight < control.allowed(now):
            wait = max(spacer.delay(now) if spacer else 0.0, budget.delay(now, in_flight=in_flight))
            if wait:
                if not now < timer <= now + wait:
                    timer = now + max(wait, SHORTEST_WAIT)
                    heapq.heappush(events, (timer, next(ticket), None, None))
                break
            if spacer:
                spacer.spend(now)
            budget.spend(now)
            control.sent(now)
            in_flight += 1
            result.sends.append(now)
            there = now + link.rtt / 2 + dice.random() * link.jitter
            heapq.heappush(events, (there, next(ticket), now, None))
    return result
