"""The laws of budgets: never more than allowed, nearly all of it used, the server's word obeyed."""

from __future__ import annotations

import bisect
import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.limits import (
    Bucket,
    BucketLimit,
    Budget,
    Window,
    WindowLimit,
    parse_rate,
)
from ingest.outcomes import ServerWord
from tests.far_end import Destination, Link, simulate

TICK = 1e-6
"""Seconds by which a test moves on at least, so that rounding cannot stop its clock."""

Meter = Window | Bucket | Budget

GAPS = st.one_of(st.just(0.0), st.floats(0, 0.01), st.floats(0, 3))
ARRIVALS = st.lists(st.tuples(GAPS, st.integers(1, 6)), min_size=1, max_size=120)


def word(
    *,
    throttled: bool = False,
    retry_after: float | None = None,
    limit: int | None = None,
    remaining: int | None = None,
    reset_in: float | None = None,
) -> ServerWord:
    """Return a server's word that says nothing but what is given."""
    return ServerWord(throttled, retry_after, limit, remaining, reset_in)


def send(meter: Meter, now: float, cost: int) -> float:
    """Wait as long as the meter says, spend, and return when."""
    while delay := meter.delay(now, cost):
        now += max(delay, TICK)
    meter.spend(now, cost)
    return now


def grants(meter: Meter, arrivals: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Return (time, cost) of every arrival (seconds after the one before it) as it was granted."""
    now, granted = 1000.0, []
    for gap, cost in arrivals:
        now = send(meter, now + gap, cost)
        granted.append((now, cost))
    return granted


def fullest(granted: list[tuple[float, int]], period: float) -> int:
    """Return the most cost that any half-open window of `period` seconds holds."""
    times = [at for at, _ in granted]
    total = [0, *accumulate(cost for _, cost in granted)]
    ends = [bisect.bisect_left(times, at + period) for at in times]
    return max(total[end] - total[first] for first, end in enumerate(ends))


# --- windows and buckets ------------------------------------------------------------------------


@given(ARRIVALS, st.integers(6, 20), st.floats(0.05, 10))
def test_no_window_holds_more_than_its_amount(
    arrivals: list[tuple[float, int]], amount: int, period: float
) -> None:
    """Wherever a window begins, it holds at most the amount, whatever arrives and costs."""
    assert fullest(grants(Window(amount, period), arrivals), period) <= amount


@given(ARRIVALS, st.floats(0.5, 200), st.floats(6, 30))
def test_no_time_takes_more_from_a_bucket_than_flows_in(
    arrivals: list[tuple[float, int]], rate: float, burst: float
) -> None:
    """Any span of time holds at most the burst and what flowed in meanwhile."""
    granted = grants(Bucket(rate, burst), arrivals)
    for first, (start, _) in enumerate(granted):
        spent = 0
        for at, cost in granted[first:]:
            spent += cost
            assert spent <= burst + (at - start) * rate + 1e-5


@pytest.mark.parametrize(
    ("meter", "rate"),
    [
        (Window(118, 1.0), 118.0),
        (Window(3000, 3.0), 1000.0),
        (Window(7, 0.5), 14.0),
        (Bucket(118.0, 2.0), 118.0),
        (Budget(parse_rate("90000/1m,1000/1s")), 1000.0),
    ],
)
def test_with_work_nearly_all_is_used(meter: Meter, rate: float) -> None:
    """When something always waits, at least 99 % of what is allowed is used."""
    granted = grants(meter, [(0.0, 1)] * 20_000)
    assert len(granted) / (granted[-1][0] - granted[0][0]) >= 0.99 * rate


def test_spaced_sends_lose_nothing_to_the_granules() -> None:
    """Sends that come spaced, not in claps, use the window as well."""
    meter, spacer = Window(1000, 1.0), Bucket(1250.0, 12.0)
    now = 0.0
    for _ in range(20_000):
        now = send(meter, send(spacer, now, 1), 1)
    assert 20_000 / now >= 0.99 * 1000


def test_a_huge_window_is_a_short_log() -> None:
    """250,000 an hour are counted in about a thousand entries."""
    meter = Window(250_000, 3600.0)
    for second in range(3600):
        meter.spend(float(second), 60)
        meter.delay(float(second))
    assert len(meter._log) <= 1026


def test_fractions_of_cost_do_not_add_up_to_an_error() -> None:
    """Costs that floats cannot hold exactly neither block a full window nor break it."""
    meter = Window(1, 1.0)
    for round_ in range(100):
        for _ in range(10):
            meter.spend(10.0 * round_, 0.1)
        assert meter.delay(10.0 * round_, 1) == 1.0
        assert meter.delay(10.0 * round_ + 1.0, 1) == 0.0


@pytest.mark.parametrize("meter", [Window(5, 1.0), Bucket(5.0, 5.0)])
def test_what_costs_more_than_everything_never_goes(meter: Meter) -> None:
    """A cost above the amount, or the burst, is never affordable."""
    assert meter.delay(0.0, 6) == math.inf
    assert meter.delay(0.0, 5) == 0.0


def test_a_window_waits_for_as_many_as_the_cost_needs() -> None:
    """A costly request waits until enough older ones have left the window."""
    meter = Window(3, 10.0)
    for second in range(3):
        meter.spend(float(second))
    assert meter.delay(5.0, 1) == 5.0
    assert meter.delay(5.0, 2) == 6.0


# --- the server's word --------------------------------------------------------------------------


def test_retry_after_holds_everyone() -> None:
    """Nothing goes before the time asked for; the jitter only makes it later."""
    budget = Budget(())
    budget.hear(word(retry_after=12.0), 100.0, 0.5, 0)
    assert budget.delay(100.0) == pytest.approx(12.0 + 0.5 * (0.02 + 0.6))
    assert budget.waits_for(100.0) == "the destination, which asked for 12 s"
    budget.hear(word(retry_after=1.0), 101.0, 0.0, 0)
    assert budget.delay(112.0) > 0, "a shorter hold must not end a longer one"
    assert budget.delay(112.4) == 0.0
    assert budget.waits_for(112.4) == ""


@given(st.floats(0, 1, exclude_max=True), st.floats(0.1, 4000))
def test_a_fleet_does_not_wake_on_the_edge(jitter: float, asked: float) -> None:
    """A hold is never shorter than asked for (an hour at most), and hardly longer."""
    budget = Budget(())
    budget.hear(word(throttled=True, retry_after=asked), 0.0, jitter, 0)
    wait = min(asked, 3600.0)
    assert wait <= budget.delay(0.0) <= wait + min(5.0, 0.02 + 0.05 * wait)


def test_without_a_hint_the_hold_doubles_until_a_success() -> None:
    """Bare 429s hold for 1, 2, 4 ... 30 s; a success begins again at 1 s."""
    budget, now, holds = Budget(()), 0.0, []
    for _ in range(7):
        budget.hear(word(throttled=True), now, 0.0, 0, sent=now)
        holds.append(round(budget.delay(now), 3))
        now += budget.delay(now)
    assert holds == [1, 2, 4, 8, 16, 30, 30]
    budget.accepted(now, sent=now)
    budget.hear(word(throttled=True), now + 1, 0.0, 0)
    assert budget.delay(now + 1) == pytest.approx(1.0)


def test_many_bare_429s_of_one_moment_are_one() -> None:
    """What was sent before a hold neither doubles it nor, if it went well, ends the doubling."""
    budget = Budget(())
    budget.hear(word(throttled=True), 10.0, 0.0, 3, sent=9.9)
    for late in (10.01, 10.02):
        budget.hear(word(throttled=True), late, 0.0, 2, sent=9.91)
    budget.accepted(10.03, sent=9.92)
    assert budget.delay(10.0) == pytest.approx(1.0)
    budget.hear(word(throttled=True), 11.1, 0.0, 0, sent=11.0)
    assert budget.delay(11.1) == pytest.approx(2.0)


def test_nothing_left_holds_until_the_reset() -> None:
    """`remaining` 0 stops everything until the window resets, in flight or not."""
    budget = Budget(())
    budget.hear(word(limit=10, remaining=0, reset_in=3.0), 5.0, 0.0, 0)
    assert budget.remaining == 0
    assert budget.delay(5.0) == 3.0
    assert budget.delay(8.0) == 0.0


def test_what_is_left_minus_what_is_in_flight_may_go() -> None:
    """With R left, fewer than R requests fly at a time; alone, one always may."""
    budget = Budget(())
    budget.hear(word(limit=100, remaining=3, reset_in=3.0), 5.0, 0.0, 0)
    assert budget.delay(5.0, in_flight=2) == 0.0
    assert budget.delay(5.0, in_flight=3) == 3.0
    assert budget.waits_for(5.0) == "the destination, which said that only 3 more may come"
    assert budget.delay(5.0, 9, in_flight=0) == 0.0
    assert budget.delay(8.0, in_flight=3) == 0.0, "the reset has passed"
    budget.hear(word(limit=100), 8.1, 0.0, 0)
    assert budget.remaining == 3


def test_the_least_that_was_heard_of_a_window_counts() -> None:
    """Late answers raise nothing, answers of an older window are dropped, a new one starts anew."""
    budget = Budget(())
    for remaining, reset_in, expected in [
        (5, 3.0, 5),
        (7, 3.0, 5),  # a late answer
        (2, 3.5, 2),  # told in whole seconds, so the reset wavers
        (9, 6.0, 9),  # the next window
        (0, 3.0, 9),  # a very late answer of the first
        (None, 6.0, 9),
    ]:
        budget.hear(word(remaining=remaining, reset_in=reset_in), 5.0, 0.0, 0)
        assert budget.remaining == expected
    assert budget.delay(5.0) == 0.0


def test_a_new_window_is_not_rushed_before_its_first_answer() -> None:
    """After the reset no more fly than the window's whole size, until an answer tells."""
    budget = Budget(())
    budget.hear(word(limit=4, remaining=2, reset_in=1.0), 0.0, 0.0, 0)
    assert budget.delay(2.0, in_flight=3) == 0.0
    assert budget.delay(2.0, in_flight=4) == 1.0
    assert budget.waits_for(2.0) == "answers to the requests in flight"


@pytest.mark.parametrize("reset_in", [-5.0, 0.0, 1e8, math.nan])
def test_a_nonsensical_reset_is_ignored(reset_in: float) -> None:
    """A reset in the past, or further away than any window, says nothing."""
    budget = Budget(())
    budget.hear(word(limit=10, remaining=0, reset_in=reset_in), 5.0, 0.0, 0)
    assert budget.remaining is None
    assert budget.delay(5.0) == 0.0


def test_the_reset_of_a_429_is_a_hint() -> None:
    """A 429 that tells only the reset holds until then."""
    budget = Budget(())
    budget.hear(word(throttled=True, remaining=0, reset_in=7.0), 5.0, 0.0, 0)
    assert budget.delay(5.0) == pytest.approx(7.0)


def test_a_429_with_room_left_teaches_nothing() -> None:
    """When the destination itself says that more may come, it is waited out, no more."""
    budget = Budget(parse_rate("800/1s"))
    for step in range(200):
        budget.accepted(step / 20)
    refusal = word(throttled=True, retry_after=1.0, limit=900, remaining=700, reset_in=2.0)
    budget.hear(refusal, 10.0, 0.0, 0)
    assert budget.delay(10.0) == 1.0
    assert budget.rate == 800.0


def test_a_budget_says_which_limit_it_waits_for() -> None:
    """The tightest limit is named as it was written."""
    budget = Budget((*parse_rate("5/3s"), BucketLimit(1000.0, 5.0)))
    assert budget.rate == pytest.approx(5 / 3)
    for _ in range(5):
        assert budget.delay(0.0) == 0.0
        budget.spend(0.0)
    assert budget.delay(0.0) == 3.0
    assert budget.waits_for(0.0) == "the rate limit of 5/3s"


def test_a_learned_limit_is_a_ceiling_until_ours_is_lower() -> None:
    """What the destination showed limits, is named, and is forgotten when it is above our own."""
    budget = Budget((WindowLimit(40, 1.0),))
    for step in range(200):
        budget.accepted(step / 20)
    budget.hear(word(throttled=True, retry_after=1.0), 10.0, 0.0, 0)
    assert budget.rate == pytest.approx(200 / 10.5)
    now, sent = 11.0, 0
    while now < 21.0:
        delay = budget.delay(now)
        if not delay:
            budget.spend(now)
            budget.accepted(now, sent=now)
            sent += 1
        else:
            assert "a limit of about 19/s" in budget.waits_for(now)
        now += max(delay, TICK)
    assert 180 <= sent <= 193
    while budget.rate < 40:
        now = send(budget, now, 1)
        budget.accepted(now, sent=now)
    assert budget._learned is None
    assert budget.rate == 40.0


# --- against a destination ----------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["classic", "mau", "silent"])
@pytest.mark.parametrize("jitter", [0.0, 0.005])
def test_two_below_a_clock_aligned_limit_are_enough(dialect: str, jitter: float) -> None:
    """118/1s against 120 in aligned seconds meets next to no 429, and uses 97 % of itself."""
    destination = Destination(120, 1.0, dialect)  # type: ignore[arg-type]  # a parameter
    result = simulate(
        Budget(parse_rate("118/1s")), destination.answer, Link(0.02, jitter), start=7.3, seconds=30
    )
    assert result.share_throttled < 0.01
    assert result.accepted >= 0.97 * 118 * 30
    sends = [(at, 1) for at in result.sends]
    assert fullest(sends, 1.0) <= 118
