"""In-flight control against links, knees and outages, simulated on virtual time."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.inflight import FIRST, LATE, SMOOTHING, UNPACED, Fixed, InFlight, Verdict
from tests.examples import examples

Serve = Callable[[float, int], tuple[float, Verdict]]
"""(now, in flight) -> (seconds until the answer, what it is)."""


class Trace:
    """What a simulated run did: times of good answers, and (time, in flight) at every send."""

    def __init__(self) -> None:
        self.oks: list[float] = []
        self.flying: list[tuple[float, int]] = []

    def rate(self, start: float, end: float) -> float:
        """Return good answers a second between two times."""
        return sum(start <= at < end for at in self.oks) / (end - start)

    def most(self, start: float, end: float) -> int:
        """Return the most in flight between two times."""
        return max(many for at, many in self.flying if start <= at < end)


def drive(control: InFlight | Fixed, serve: Serve, rate: float, seconds: float) -> Trace:
    """Send as fast as `control` and an even spacing of `rate` a second allow."""
    trace, ticket, flying = Trace(), itertools.count(), 0
    next_send = timer = 0.0
    events: list[tuple[float, int, float | None, Verdict]] = [(0.0, 0, None, "ok")]
    while events:
        now, _, sent, verdict = heapq.heappop(events)
        if now > seconds:
            break
        if sent is not None:
            flying -= 1
            control.answered(now, now - sent, verdict)
            if verdict == "ok":
                trace.oks.append(now)
        while flying < control.allowed(now):
            if now < next_send:
                if timer < next_send:
                    timer = next_send
                    heapq.heappush(events, (timer, next(ticket), None, "ok"))
                break
            next_send = max(next_send, now - 0.01) + 1 / rate
            flying += 1
            control.sent(now)
            trace.flying.append((now, flying))
            takes, verdict = serve(now, flying)
            heapq.heappush(events, (now + takes, next(ticket), now, verdict))
    return trace


def constant(rtt: float) -> Serve:
    """Return a link that always takes `rtt` seconds."""
    return lambda now, flying: (rtt, "ok")


@pytest.mark.parametrize("rtt", [0.02, 0.1, 1.0])
def test_a_constant_link_is_filled_within_a_few_round_trips(rtt: float) -> None:
    """At most 8 until the first success; after three round trips, 99 % of 1,000/s."""
    trace = drive(InFlight(1000, most=2000), constant(rtt), 1000, 20 * rtt)
    assert trace.most(0, rtt) == FIRST
    assert trace.rate(5 * rtt, 20 * rtt) >= 0.99 * 1000
    assert trace.most(0, 20 * rtt) <= math.ceil(1000 * (rtt * 1.2 + LATE))


def test_without_a_rate_it_doubles_up_to_the_most() -> None:
    """No limit to aim for: in flight doubles with each round trip until the cap of the settings."""
    trace = drive(InFlight(), constant(0.1), 1e5, 2.0)
    assert trace.most(0.1, 0.2) == 2 * FIRST
    assert trace.most(0.2, 0.3) == 4 * FIRST
    assert trace.most(1.0, 2.0) == UNPACED


def test_a_scattered_round_trip_still_reaches_the_rate() -> None:
    """When the mean is well above the least round trip, the rate is reached all the same."""
    scatter = itertools.cycle([0.020, 0.021, 0.035, 0.050, 0.022, 0.045])
    trace = drive(InFlight(1000), lambda now, flying: (next(scatter), "ok"), 1000, 5.0)
    assert trace.rate(1.0, 5.0) >= 0.99 * 1000


@pytest.mark.simulation
@pytest.mark.parametrize("rate", [5000.0, math.inf])
def test_a_knee_is_found_and_kept(rate: float) -> None:
    """Beyond 40 at a time answers only take longer: throughput stays, in flight does not run away.

    For five minutes: what counts as the least round trip must not creep up with the queue.
    """
    knee, base = 40, 0.05

    def serve(now: float, flying: int) -> tuple[float, Verdict]:
        return base * max(1.0, flying / knee), "ok"

    trace = drive(InFlight(rate), serve, 5000, 300.0)
    best = knee / base
    for start in (10.0, 150.0, 290.0):
        assert trace.rate(start, start + 10) >= 0.9 * best
        assert trace.most(start, start + 10) <= 3 * knee


@pytest.mark.parametrize("verdict", ["unavailable", "unanswered"])
def test_an_outage_is_recovered_from(verdict: Verdict) -> None:
    """During it hardly anything is in flight; a second after it, nearly the whole rate is back."""

    def serve(now: float, flying: int) -> tuple[float, Verdict]:
        return 0.1, verdict if 5.0 <= now < 15.0 else "ok"

    trace = drive(InFlight(1000), serve, 1000, 30.0)
    assert trace.rate(2.0, 5.0) >= 0.99 * 1000
    assert trace.most(10.0, 15.0) == 1
    assert trace.rate(16.5, 18.0) >= 0.6 * 1000
    assert trace.rate(25.0, 30.0) >= 0.99 * 1000


def warm(rate: float = 1000.0, rtt: float = 0.1) -> InFlight:
    """Return a control that has seen 100 answers, and is at its ceiling."""
    control = InFlight(rate)
    for step in range(100):
        control.sent(step / 100)
        control.answered(step / 100 + rtt, rtt, "ok")
    assert control.allowed(2.0) == 170
    return control


@pytest.mark.parametrize(("verdict", "left"), [("throttled", 153), ("unavailable", 118)])
def test_a_cut_comes_once_per_round_trip(verdict: Verdict, left: int) -> None:
    """Everything sent before a cut is of the same moment; what is sent after it cuts again."""
    control = warm()
    for late in range(20):
        control.answered(2.0 + late / 1000, 0.1, verdict)
    assert control.allowed(2.1) == left
    control.answered(2.2, 0.1, verdict)
    assert control.allowed(2.2) < left


@given(st.floats(100, 3000), st.integers(0, 60), st.integers(0, 300))
def test_1_percent_of_429s_cuts_nothing(rate: float, blocks: int, beyond: int) -> None:
    """They stray over the edges of windows: as many as 1 % of the answers, and of 5 s at once."""
    control, now = InFlight(rate), 0.0
    for _ in range(100 * blocks + beyond):
        now += 0.001
        control.sent(now)
        control.answered(now, 0.1, "ok")
    before = control.allowed(now)
    free = int(min((100 * blocks + beyond) * 0.01, 0.05 * rate) - 1e-6)
    for _ in range(free):
        control.answered(now, 0.01, "throttled")
    assert control.allowed(now) == before
    for _ in range(2):
        control.answered(now + 1.0, 0.01, "throttled")
    assert control.allowed(now) < before


def test_without_a_rate_every_429_cuts() -> None:
    """Nobody said how fast is right, so no 429 is one that strayed."""
    control = InFlight()
    for step in range(1000):
        control.sent(step / 100)
        control.answered(step / 100 + 0.1, 0.1, "ok")
    before = control.allowed(20.0)
    control.answered(20.0, 0.1, "throttled")
    assert control.allowed(20.0) < before


@given(
    st.sampled_from(["unavailable", "unanswered", "throttled"]),
    st.floats(0.3, 2.0),
    st.floats(2, 6),
)
@settings(max_examples=examples(20), deadline=None)
def test_it_comes_back_whatever_the_round_trip(
    verdict: Verdict, rtt: float, seconds: float
) -> None:
    """Half a minute and 40 round trips after some bad seconds 99 % of the rate is there again."""

    def serve(now: float, flying: int) -> tuple[float, Verdict]:
        return rtt, verdict if 5.0 <= now < 5.0 + seconds else "ok"

    since = 5.0 + seconds + 30.0 + 40 * rtt
    trace = drive(InFlight(300), serve, 300, since + 10.0)
    assert trace.rate(since, since + 10.0) >= 0.99 * 300
    assert trace.most(0.0, since + 10.0) <= math.ceil(300 * (rtt * 1.2 + LATE))


def test_it_recovers_by_about_one_per_round_trip() -> None:
    """After a cut, a round trip full of successes allows one more."""
    control = warm()
    for _ in range(119):
        control.sent(1.9)
    control.answered(2.0, 0.1, "unanswered")
    for step in range(120):
        control.sent(2.1)
        control.answered(2.2 + step / 1000, 0.1, "ok")
    assert control.allowed(3.0) == 120


def test_an_unused_limit_does_not_grow() -> None:
    """Successes with little in flight do not show that more would be borne."""
    control = warm()
    control.answered(2.0, 0.1, "unavailable")
    for step in range(1000):
        control.sent(3.0 + step)
        control.answered(3.1 + step, 0.1, "ok")
    assert control.allowed(2000.0) == 118


def test_one_fast_answer_does_not_pin_the_least_round_trip() -> None:
    """An answer out of the way changes nothing; a link that became slower is believed in 30 s."""
    control = warm()
    control.answered(2.0, 0.001, "ok")
    assert 0.1 * (1 - SMOOTHING) <= control.least_rtt <= 0.1
    for step in range(400):
        control.answered(3.0 + step / 10, 0.15, "ok")
    assert control.least_rtt == pytest.approx(0.15)
    assert control.allowed(50.0) == 170, "the limit itself grows by use only"


def test_noise_of_loopback_does_not_matter() -> None:
    """Answers of 1 ms that now and then take 4 ms are not a reason to send less."""
    control = InFlight(1000.0)
    for step in range(500):
        control.sent(step / 100)
        control.answered(step / 100 + 0.004, 0.004 if step % 3 else 0.001, "ok")
    assert control.allowed(10.0) >= FIRST


def test_a_rate_that_falls_lowers_the_number_at_once() -> None:
    """The rate can be set anew at any time; the first eight stay allowed."""
    control = warm()
    control.rate = 300.0
    assert control.allowed(2.0) == 51
    control.rate = 1.0
    assert control.allowed(2.0) == FIRST


def test_the_cap_of_the_settings_holds() -> None:
    """Not even the first eight exceed what was allowed."""
    assert InFlight(1000.0, most=3).allowed(0.0) == 3


def test_a_fixed_number_stays() -> None:
    """Somebody chose 20: nothing changes it."""
    control = Fixed(20)
    drive(control, lambda now, flying: (0.1, "unavailable"), 1000, 1.0)
    assert control.allowed(1.0) == 20


RATES = st.one_of(st.sampled_from([math.inf, 0.0, 5e-324, 1e308]), st.floats(0, 1e6))


@given(
    st.lists(
        st.tuples(RATES, st.floats(0, 100), st.sampled_from(["ok", "ok", "throttled"])), max_size=40
    ),
    st.integers(1, 600),
)
def test_any_rate_gives_a_number(steps: list[tuple[float, float, Verdict]], most: int) -> None:
    """A rate that changes with the size of requests, to inf or next to nothing, breaks nothing."""
    control, now = InFlight(most=most), 0.0
    for rate, rtt, verdict in steps:
        control.rate = rate
        control.sent(now)
        now += rtt
        control.answered(now, rtt, verdict)
        assert 1 <= control.allowed(now) <= most


def test_a_rate_below_one_a_second_still_uses_the_first_few() -> None:
    """Requests that fill a second each may overlap as the first few may, when answers are slow."""
    control = InFlight(0.8)
    for step in range(20):
        control.sent(float(step))
        control.answered(step + 1.0, 1.0, "ok")
    assert control.allowed(21.0) == FIRST


def test_a_stall_from_before_a_request_excuses_nothing() -> None:
    """Only those count that came while it was on its way."""
    once, twice = InFlight(1_000.0), InFlight(1_000.0)
    twice.stalled(0.5, 0.05)
    for control in (once, twice):
        control.stalled(10.0, 0.05)
        for at in range(3):
            control.sent(9.9)
            control.answered(10.01 + at / 1_000, 0.1, "ok")
    assert vars(once) | {"_stalls": None} == vars(twice) | {"_stalls": None}
