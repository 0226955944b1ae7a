"""The laws of budgets: never more than allowed, nearly all of it used, the server's word obeyed."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Callable
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.limits import (
    Bucket,
    BucketLimit,
    Budget,
    Pace,
    PaceLimit,
    RateLimit,
    Window,
    WindowLimit,
    largest_cost,
    parse_rate,
    peak_rate,
)
from ingest.meters import BUCKET_SLACKS
from ingest.serverwords import ServerWord
from tests.examples import examples
from tests.far_end import Destination, Link, simulate

TICK = 1e-6
"""Seconds by which a test moves on at least, so that rounding cannot stop its clock."""

Meter = Window | Bucket | Pace | Budget

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
        (Pace(118), 118.0),
        (Pace(10_000), 10_000.0),
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


@pytest.mark.parametrize(
    "meter", [Window(5, 1.0), Bucket(5.0, 5.0), Bucket(5.0, 5.0, 0.5), Pace(5.0)]
)
def test_what_costs_more_than_everything_never_goes(meter: Meter) -> None:
    """A cost above the amount, the burst or the pace is never affordable."""
    assert meter.delay(0.0, 6) == math.inf
    assert meter.delay(0.0, 5) == 0.0


def test_a_window_waits_for_as_many_as_the_cost_needs() -> None:
    """A costly request waits until enough older ones have left the window."""
    meter = Window(3, 10.0)
    for second in range(3):
        meter.spend(float(second))
    assert meter.delay(5.0, 1) == 5.0
    assert meter.delay(5.0, 2) == 6.0


def test_after_a_cost_its_time_passes() -> None:
    """At 10,000 a second 2,500 take a quarter of one; what was sent too early is made up for."""
    meter = Pace(10_000)
    meter.spend(0.0, 2500)
    assert meter.delay(0.0, 1) == 0.25
    meter.spend(0.1, 100)
    assert meter.delay(0.2) == pytest.approx(0.06)


def test_an_even_pace_is_still_a_window() -> None:
    """10,000 right after a single one would be even, and 10,001 within a second."""
    meter = Pace(10_000)
    meter.spend(0.0, 1)
    assert meter.delay(0.5, 9_999) == 0.0
    assert meter.delay(0.5, 10_000) == 0.5


# --- any limits, any costs ----------------------------------------------------------------------

SLACK = 0.03
"""Seconds that two sends may come closer on their way, where few requests fill a window."""

LIMITS = st.lists(
    st.one_of(
        st.builds(WindowLimit, st.integers(20, 60), st.floats(0.2, 5)),
        st.builds(BucketLimit, st.floats(1, 300), st.floats(30, 90)),
        st.builds(PaceLimit, st.floats(20, 300)),
    ),
    min_size=1,
    max_size=3,
)
COSTLY = st.lists(st.tuples(GAPS, st.integers(1, 20)), min_size=1, max_size=60)


def assert_kept(limit: RateLimit, seen: list[tuple[float, int]], longer: float = 0.0) -> None:
    """Look at every span from one request to another, over periods that are `longer`."""
    seen = sorted(seen)
    for first, (start, _) in enumerate(seen):
        spent = 0
        for at, cost in seen[first:]:
            spent += cost
            match limit:
                case WindowLimit(amount, period):
                    assert spent <= amount or at >= start + period + longer - 1e-9
                case PaceLimit(rate):
                    assert spent <= rate or at >= start + 1 + longer - 1e-9
                case BucketLimit(rate, burst):
                    assert spent <= burst + rate * (at - start - longer) + 1e-5


@settings(deadline=None)
@given(LIMITS, COSTLY)
def test_no_limit_is_exceeded_whatever_requests_cost(
    limits: list[RateLimit], arrivals: list[tuple[float, int]]
) -> None:
    """Windows, buckets and paces hold together, for any arrivals of any costs."""
    granted = grants(Budget(limits, counts="users"), arrivals)
    for limit in limits:
        assert_kept(limit, granted)
        if isinstance(limit, PaceLimit):
            for (before, cost), (after, _) in pairwise(granted):
                assert after >= before + cost / limit.rate - 1e-9


@settings(deadline=None)
@given(LIMITS, COSTLY, st.integers(0, 2**32))
def test_no_limit_is_exceeded_where_the_requests_arrive(
    limits: list[RateLimit], arrivals: list[tuple[float, int]], seed: int
) -> None:
    """Each request may be late by any part of the slack, and still the far end counts no more."""
    dice = random.Random(seed)
    granted = grants(Budget(limits, counts="users", arrival_slack=SLACK), arrivals)
    arrived = [
        (at + dice.choice((0.0, dice.random(), 0.999)) * SLACK, cost) for at, cost in granted
    ]
    for limit in limits:
        assert_kept(limit, granted, SLACK)
        assert_kept(limit, arrived)


@settings(deadline=None)
@given(st.floats(1, 300), st.floats(20, 90), COSTLY, st.integers(0, 2**32))
def test_no_bucket_is_overdrawn_by_what_arrives_much_later(
    rate: float, burst: float, arrivals: list[tuple[float, int]], seed: int
) -> None:
    """Beyond its reserve a bucket may be late by several slacks: so late is the first request."""
    late = BUCKET_SLACKS * SLACK
    limit = BucketLimit(rate, burst + rate * late)
    dice = random.Random(seed)
    granted = grants(Budget((limit,), counts="users", arrival_slack=SLACK), arrivals)
    (first, cost), *others = granted
    assert_kept(limit, granted, late)
    assert_kept(limit, [(first + late, cost), *others])
    assert_kept(limit, [(at + dice.random() * late, cost) for at, cost in granted])


def share_used(meter: Meter, costs: list[int], rate: float) -> float:
    """Return what is used of `rate` when something always waits, once the first half is sent."""
    granted = grants(meter, [(0.0, cost) for cost in costs])
    half = len(granted) // 2
    return sum(costs[half:-1]) / (granted[-1][0] - granted[half][0]) / rate


METERS = st.sampled_from(
    [
        (lambda: Window(2520, 3.0), 840.0, 2520),
        (lambda: Bucket(300.0, 1000.0), 300.0, 1000),
        (lambda: Pace(10_000), 10_000.0, 10_000),
    ]
)


@settings(max_examples=examples(25), deadline=None)
@given(METERS, st.sampled_from([1, 2, 4, 5, 8, 10, 20]))
def test_costs_that_divide_a_limit_use_it(
    case: tuple[Callable[[], Meter], float, int], parts: int
) -> None:
    """With work, at least 99 % is used by requests that each take an even part."""
    meter, rate, amount = case
    assert share_used(meter(), [amount // parts] * (400 * parts), rate) >= 0.99


@settings(max_examples=examples(25), deadline=None)
@given(METERS, st.integers(0, 2**32), st.integers(1, 10))
def test_costs_up_to_a_tenth_of_a_limit_use_nearly_all(
    case: tuple[Callable[[], Meter], float, int], seed: int, least: int
) -> None:
    """With work, at least 90 % is used by requests of any size up to a tenth."""
    meter, rate, amount = case
    dice = random.Random(seed)
    costs = [dice.randint(amount // 10 // least, amount // 10) for _ in range(4000)]
    assert share_used(meter(), costs, rate) >= 0.90


def test_a_window_that_one_request_fills_is_used_to_97_percent() -> None:
    """Four requests of 10,000 at 10,000 a second are 1.03 s apart, and take 3.09 s."""
    budget = Budget((PaceLimit(10_000),), counts="users", arrival_slack=SLACK)
    times = [at - 1000.0 for at, _ in grants(budget, [(0.0, 10_000)] * 4)]
    assert times == pytest.approx([0.0, 1.03, 2.06, 3.09])


def test_a_full_bucket_grants_its_whole_burst_in_spite_of_the_slack() -> None:
    """What is kept back for the slack shortens a burst of many, never the largest request."""
    meter = Bucket(300.0, 1000.0, SLACK)
    assert meter.delay(0.0, 1000) == 0.0
    meter.spend(0.0, 1000)
    assert meter.delay(0.0, 1000) == pytest.approx(1000 / 300)
    assert meter.delay(0.0, 1001) == math.inf


@given(LIMITS, st.sampled_from([0.0, SLACK]), st.data())
def test_several_may_go_where_each_of_them_may(
    limits: list[RateLimit], slack: float, data: st.DataObject
) -> None:
    """Asked for together, no more go than one by one, whatever went before."""
    budget = Budget(limits, arrival_slack=slack, vouched=data.draw(st.booleans()))
    now = 0.0
    for _ in range(data.draw(st.integers(1, 5))):
        now += data.draw(st.floats(0, 5))
        count, flying = data.draw(st.integers(1, 30)), data.draw(st.integers(0, 20))
        if budget.free_for(now, count, flying):
            for behind in range(count):
                assert budget.delay(now, 1, in_flight=flying + behind) == 0.0
                budget.spend(now)
        else:
            budget.spend(now, data.draw(st.integers(1, 3)))


@given(LIMITS, st.sampled_from([0.0, SLACK]))
def test_what_a_request_may_cost_goes_and_more_does_not(
    limits: list[RateLimit], slack: float
) -> None:
    """The largest cost of some limits is granted by a budget of them, a larger one never."""
    budget = Budget(limits, counts="users", arrival_slack=slack)
    assert budget.rate == peak_rate(limits)
    assert budget.delay(0.0, largest_cost(limits)) == 0.0
    assert budget.delay(0.0, largest_cost(limits) + 1) == math.inf


# --- the server's word --------------------------------------------------------------------------


def test_retry_after_holds_everyone() -> None:
    """Nothing goes before the time asked for; the jitter only makes it later."""
    budget = Budget(())
    budget.hear(word(retry_after=12.0), 100.0, 0.5, 0)
    assert budget.delay(100.0) == pytest.approx(12.0 + 0.5 * (0.02 + 0.6))
    assert budget.waits_for(100.0) == "the destination, which asked for 12s"
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


def test_what_is_left_is_told_in_requests_whatever_they_cost() -> None:
    """With 3 left, a third request goes beside two in flight, however many users are in it."""
    budget = Budget((), counts="users")
    budget.hear(word(limit=100, remaining=3, reset_in=3.0), 5.0, 0.0, 0)
    assert budget.delay(5.0, 200, in_flight=2) == 0.0
    assert budget.delay(5.0, 200, in_flight=3) == 3.0


def test_a_limit_in_users_is_named_in_users() -> None:
    """Who waits is told what the limit counts; the learned one holds no request for ever."""
    budget = Budget((BucketLimit(300, 1000),), counts="users")
    budget.spend(0.0, 1000)
    assert budget.delay(0.0, 200) == pytest.approx(200 / 300)
    assert budget.waits_for(0.0) == "the rate limit of 300/s with bursts of 1000 (in users)"
    for second in range(200):
        budget.accepted(float(second), float(second), 100)
    budget.hear(word(throttled=True), 200.0, 0.0, 0, sent=200.0)
    learned = budget.rate
    assert learned == pytest.approx(20_000 / 200.5)
    assert budget.delay(202.0, 200) == 0.0
    budget.spend(202.0, 200)
    owed = 200 - learned * 0.02
    assert budget.delay(202.0, 200) == pytest.approx(owed / learned)
    assert budget.waits_for(202.0) == "a limit of about 99.8 users/s, learned from its 429s"


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
