"""In-flight control against links and destinations of every kind, on virtual time.

Each scenario states the ranges in which throughput, in flight and errors stay once it has settled.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ingest.inflight import InFlight, Verdict
from ingest.outcomes import Outcome, Throttled, Unavailable
from ingest.records import Batch
from tests.driving import OK, Setup, attributes, drive

Serve = Callable[[float, int], tuple[float, Verdict]]
"""(now, in flight) -> (seconds until the answer, what it is)."""

SEED = 6


def constant(rtt: float) -> Serve:
    """Answer after `rtt` seconds."""
    return lambda now, flying: (rtt, "ok")


def jittered(rtt: float, jitter: float) -> Serve:
    """Answer after `rtt` and up to `jitter` seconds more, one in a hundred ten times later."""
    dice = random.Random(SEED)

    def serve(now: float, flying: int) -> tuple[float, Verdict]:
        late = dice.random() * jitter
        return rtt + (10 * late if dice.random() < 0.01 else late), "ok"

    return serve


def knee(most: int, rtt: float) -> Serve:
    """Work on `most` at a time: beyond that answers only take longer."""
    return lambda now, flying: (rtt * max(1.0, flying / most), "ok")


def deferring(rate: float, rtt: float) -> Serve:
    """Queue what comes faster than `rate` a second, without end."""
    free = 0.0

    def serve(now: float, flying: int) -> tuple[float, Verdict]:
        nonlocal free
        free = max(free, now) + 1 / rate
        return free - now + rtt, "ok"

    return serve


def dropping(rate: int, rtt: float) -> Serve:
    """Answer 503 to what is more than `rate` in any second."""
    taken: deque[float] = deque()

    def serve(now: float, flying: int) -> tuple[float, Verdict]:
        while taken and taken[0] <= now - 1.0:
            taken.popleft()
        if len(taken) >= rate:
            return rtt, "unavailable"
        taken.append(now)
        return rtt, "ok"

    return serve


def crowded(most: int, rtt: float, verdict: Verdict, after: float) -> Serve:
    """Answer badly, `after` so many seconds, while more than `most` are in flight."""
    return lambda now, flying: (after, verdict) if flying > most else (rtt, "ok")


def down(since: float, until: float, rtt: float, verdict: Verdict) -> Serve:
    """Answer badly between two moments."""
    return lambda now, flying: (rtt, verdict if since <= now < until else "ok")


def slowing(since: float, until: float, rtt: float, slower: float) -> Serve:
    """Take `slower` times as long between two moments."""
    return lambda now, flying: (rtt * (slower if since <= now < until else 1.0), "ok")


def straying(share: float, rtt: float) -> Serve:
    """Answer 429 to a share of what comes, all of it at the end of each second."""
    came, second = 0, -1

    def serve(now: float, flying: int) -> tuple[float, Verdict]:
        nonlocal came, second
        if int(now) != second:
            came, second = 0, int(now)
        came += 1
        return rtt, "throttled" if came > 1000 * (1 - share) else "ok"

    return serve


class Scenario(msgspec.Struct, frozen=True):
    """A destination, the requests a second that are allowed, and what is looked at.

    From `since` to `until` seconds good answers a second are in `rate`, in flight at its most is in
    `flying`, and the share of bad answers is at most `bad`.
    """

    serve: Callable[[], Serve]
    allowed: float
    since: float
    until: float
    rate: tuple[float, float]
    flying: tuple[int, int]
    bad: float = 0.0


SCENARIOS = {
    "20 ms": Scenario(lambda: constant(0.02), 1000, 0.06, 10, (990, 1001), (20, 75)),
    "200 ms": Scenario(lambda: constant(0.2), 1000, 0.6, 20, (990, 1001), (200, 290)),
    "1 s": Scenario(lambda: constant(1.0), 1000, 3.0, 60, (990, 1001), (1000, 1250)),
    "2 s, at the most in flight": Scenario(
        lambda: constant(2.0), 1000, 6.0, 60, (990, 1001), (2000, 2048)
    ),
    "20 ms and jitter": Scenario(
        lambda: jittered(0.02, 0.02), 1000, 0.2, 30, (990, 1001), (25, 110)
    ),
    "1 s and jitter": Scenario(
        lambda: jittered(1.0, 0.3), 1000, 4.0, 60, (990, 1001), (1000, 1500)
    ),
    "100 to 300 ms": Scenario(lambda: jittered(0.1, 0.2), 1000, 1.5, 60, (990, 1001), (150, 350)),
    "slow, at a low rate": Scenario(lambda: constant(1.5), 4, 4.5, 60, (3.9, 4.1), (6, 8)),
    "a knee at 40, no limit": Scenario(
        lambda: knee(40, 0.05), math.inf, 5, 300, (720, 801), (40, 150)
    ),
    "a knee at 40, 5,000/s": Scenario(lambda: knee(40, 0.05), 5000, 5, 300, (720, 801), (40, 150)),
    "a queue at 500/s": Scenario(lambda: deferring(500, 0.05), 1000, 2, 120, (475, 501), (25, 180)),
    "503 above 500/s": Scenario(
        lambda: dropping(500, 0.05), 1000, 2, 120, (350, 501), (20, 60), bad=0.25
    ),
    "503 beyond 60 at a time": Scenario(
        lambda: crowded(60, 0.05, "unavailable", 0.05), 5000, 2, 120, (840, 1250), (55, 70), 0.06
    ),
    "time-outs beyond 60 at a time": Scenario(
        lambda: crowded(60, 0.05, "unanswered", 1.0), 5000, 30, 120, (500, 1250), (40, 70), 0.06
    ),
    "while it is down": Scenario(
        lambda: down(10, 40, 0.1, "unavailable"), 1000, 12, 40, (0, 0), (1, 1), bad=1.0
    ),
    "after it was down": Scenario(
        lambda: down(10, 40, 0.1, "unanswered"), 1000, 45, 60, (950, 1001), (100, 175)
    ),
    "ten times slower for a while": Scenario(
        lambda: slowing(10, 15, 0.05, 10.0), 1000, 20, 60, (970, 1001), (50, 115)
    ),
    "1 s, three times slower for a while": Scenario(
        lambda: slowing(10, 15, 1.0, 3.0), 1000, 45, 60, (990, 1001), (1000, 1250)
    ),
    "1 s, after it was down": Scenario(
        lambda: down(10, 40, 1.0, "unanswered"), 1000, 65, 80, (990, 1001), (1000, 1250)
    ),
    "200 ms, three times slower for a while": Scenario(
        lambda: slowing(10, 15, 0.2, 3.0), 1000, 30, 60, (990, 1001), (200, 290)
    ),
    "1 s, a knee at 400": Scenario(lambda: knee(400, 1.0), 1000, 10, 300, (360, 401), (400, 1200)),
    "1 s, a queue at 500/s": Scenario(
        lambda: deferring(500, 1.0), 1000, 10, 300, (450, 501), (500, 1300)
    ),
    "1 s, 503 beyond 600 at a time": Scenario(
        lambda: crowded(600, 1.0, "unavailable", 1.0), 1000, 10, 300, (480, 601), (600, 700), 0.06
    ),
    "1 s, and 0.8 % of 429s": Scenario(
        lambda: straying(0.008, 1.0), 1000, 3.0, 60, (990, 1001), (1000, 1250)
    ),
    "1 s, and 5 % of 429s": Scenario(
        lambda: straying(0.05, 1.0), 1000, 10.0, 60, (800, 951), (800, 1250)
    ),
}


def play(
    control: InFlight, serve: Serve, allowed: float, seconds: float
) -> list[tuple[float, str]]:
    """Send evenly and as fast as is allowed; return when which answer came, or how many flew."""
    told: list[tuple[float, str]] = []
    ticket, next_send, timer = itertools.count(), 0.0, 0.0
    events: list[tuple[float, int, float | None, Verdict]] = [(0.0, 0, None, "ok")]
    while events:
        now, _, sent, verdict = heapq.heappop(events)
        if now > seconds:
            break
        if sent is not None:
            control.answered(now, now - sent, verdict)
            told.append((now, verdict))
        while control.out < control.allowed(now):
            if now < next_send:
                if timer < next_send:
                    timer = next_send
                    heapq.heappush(events, (timer, next(ticket), None, "ok"))
                break
            next_send = max(next_send, now - 0.01) + 1 / min(allowed, 1e5)
            control.sent(now)
            told.append((now, str(control.out)))
            takes, verdict = serve(now, control.out)
            heapq.heappush(events, (now + takes, next(ticket), now, verdict))
    return told


@pytest.mark.simulation
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_stays_in_its_ranges(name: str) -> None:
    """Throughput, in flight and errors, once it has settled."""
    one = SCENARIOS[name]
    told = play(InFlight(one.allowed), one.serve(), one.allowed, one.until)
    seen = [what for at, what in told if one.since <= at < one.until]
    good = seen.count("ok")
    bad = seen.count("unavailable") + seen.count("unanswered")
    most = max(int(what) for what in seen if what.isdecimal())
    rate = good / (one.until - one.since)
    figures = f"{rate:.1f}/s, {most} in flight, {bad / (good + bad):.3f} bad"
    assert one.rate[0] <= rate <= one.rate[1], figures
    assert one.flying[0] <= most <= one.flying[1], figures
    assert bad <= one.bad * (good + bad), figures


class Listening(InFlight):
    """Keeps the round trips that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.trips: list[float] = []

    def answered(self, now: float, rtt: float, verdict: Verdict) -> None:
        """Keep it."""
        self.trips.append(rtt)
        super().answered(now, rtt, verdict)


def test_a_round_trip_is_that_of_one_attempt(tmp_path: Path) -> None:
    """Backoff, a hold and a permit that is waited for are no part of it."""
    said: list[Outcome] = [Unavailable(503, "busy"), Throttled(429), Unavailable(500, "busy"), OK]

    def script(batch: Batch, now: float) -> Outcome:
        return said.pop(0) if len(said) > 1 else OK

    control = Listening()
    lines = [attributes(f"u{number}", number) for number in range(400)]
    setup = Setup(
        script=script, latency=0.2, in_flight=control, rate="2/1s", letters=tmp_path / "l"
    )
    driven = drive(lines, setup)
    assert driven.columns["delivered"] == 400
    assert driven.seconds > 2.0, "it waited, and for more than round trips"
    assert control.trips == pytest.approx([0.2] * len(control.trips), abs=0.01)
    assert len(control.trips) >= 6


def test_what_our_own_loop_was_late_by_is_no_reason_to_send_less() -> None:
    """Answers that came in a stall of 300 ms are excused; the same without one are a queue."""
    left = {}
    for told in (True, False):
        control, now = InFlight(1000), 0.0
        for _ in range(400):
            now += 0.001
            control.sent(now - 0.1)
            control.answered(now, 0.1, "ok")
        for _ in range(60):
            control.sent(now)
        now += 0.4
        if told:
            control.stalled(now - 0.35, 0.3)  # of those that were sent before it, and of no other
        for _ in range(60):
            control.answered(now, 0.4, "ok")
        left[told] = control.allowed(now)
    assert left[True] >= 170
    assert left[False] < 100


def test_a_stall_before_it_was_sent_excuses_no_answer() -> None:
    """Only what happened while it was on its way counts."""
    control = InFlight(1000)
    for step in range(50):
        control.sent(step / 10)
        control.answered(step / 10 + 0.1, 0.1, "ok")
    control.stalled(5.0, 4.0)
    for step in range(40):
        control.sent(6.0)
        control.answered(6.4 + step / 1000, 0.4, "ok")
    assert control.allowed(7.0) < 100
