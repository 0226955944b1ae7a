"""How long the rest takes: by windows, buckets and pace; and what no number is given for."""

from __future__ import annotations

import math
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.limits import Budget, parse_rate
from ingest.meters import Bucket
from ingest.pace import Fading, Spent, Standing, left, permitted, remaining
from ingest.rates import BucketLimit, PaceLimit

RATES: Final = st.sampled_from(
    ("250000/1h,3000/3s", "5000/1h,3000/3s", "1000/1h", "100/1s", "7/2s,20/10s,100/1m", "1/5s")
)
COSTS: Final = st.integers(0, 1_000_000)


def budget(rate: str, spent: list[tuple[float, int]] | None = None) -> tuple[Budget, float]:
    """A budget with costs spent so many seconds after one another; and the time then."""
    found, now = Budget(parse_rate(rate)), 0.0
    for after, cost in spent or []:
        now += after
        for _ in range(cost):
            now += found.delay(now)
            found.spend(now)
    return found, now


def played(found: Budget, now: float, requests: int) -> float:
    """Send so many at the rate of a budget; return how long it took until the last was out."""
    began, space = now, 1 / found.standing(now).rate
    for _ in range(requests):
        now += space
        while delay := found.delay(now):
            now += delay
        found.spend(now)
    return now - began


@given(
    RATES,
    st.lists(st.tuples(st.floats(0, 4), st.integers(1, 40)), max_size=4),
    COSTS,
    COSTS,
    st.floats(0.1, 1e5),
)
def test_more_work_never_takes_less(
    rate: str, spent: list[tuple[float, int]], one: int, other: int, pace: float
) -> None:
    """The time is never negative, and at least what the pace alone makes of it."""
    found, now = budget(rate, spent)
    standing = found.standing(now)
    less, more = sorted((one, other))
    first, second = (permitted(standing, cost, pace=pace) for cost in (less, more))
    assert 0 <= first <= second * (1 + 1e-9)
    assert second >= more / pace * (1 - 1e-9)


@given(
    st.sampled_from(("100/1s", "7/2s,20/10s,100/1m", "1/5s", "30/10s")),
    st.lists(st.tuples(st.floats(0, 4), st.integers(1, 10)), max_size=4),
    st.integers(20, 300),
)
def test_it_is_the_time_that_a_budget_takes(
    rate: str, spent: list[tuple[float, int]], requests: int
) -> None:
    """Sending under the very limits takes as long as was said, within the shortest period."""
    found, now = budget(rate, spent)
    said = permitted(found.standing(now), requests)
    shortest = min(limit.period for limit in parse_rate(rate))
    assert played(found, now, requests) == pytest.approx(said, rel=0.05, abs=1.1 * shortest)


def test_an_hour_that_is_used_up_is_waited_for() -> None:
    """250,000 went a quarter of an hour ago: the next goes in three quarters of one."""
    hour = Spent(250_000, 3600, ((900.0, 250_000),))
    standing = Standing(rate=1000, windows=(Spent(3000, 3), hour))
    assert permitted(standing, 1) == pytest.approx(2700, abs=1)
    assert permitted(standing, 250_000) == pytest.approx(2950, abs=1)
    assert permitted(standing, 250_001) == pytest.approx(6300, abs=1)


def test_a_hold_a_window_of_theirs_and_a_bucket_are_waited_for() -> None:
    """Each lets nothing go before its time."""
    assert permitted(Standing(rate=10, held=60), 100) == 70
    assert permitted(Standing(rate=10, told=(20, 300)), 100) == 308
    assert permitted(Standing(rate=10, told=(200, 300)), 100) == 10
    assert permitted(Standing(rate=100, buckets=((-50, 2),)), 100) == 75
    assert permitted(Standing(), 5) == 0
    assert permitted(Standing(), 0) == 0
    assert permitted(Standing(), 5, pace=0) == math.inf


def test_a_budget_tells_how_it_stands() -> None:
    """What went, what is held back, what the destination said, and what is in a bucket."""
    found = Budget([BucketLimit(2, 10), PaceLimit(3), *parse_rate("5/10s")])
    found.spend(0.0)
    standing = found.standing(4.0)
    assert standing.windows == (Spent(5, 10, ((4.0, 1),)),)
    assert standing.buckets == ((10, 2), (0, 3))
    assert Budget(parse_rate("5/10s"), counts="users").standing(0.0).rate == math.inf
    assert found.standing(11.0).windows[0].log == ()
    assert Bucket(2, 10).level(0.0) == 10


def counts(**changes: Any) -> float | None:
    """The records remaining: by default 100 settled and 20 pending in a quarter of 4,000 bytes."""
    usual = dict(total=4_000, read=1_000, records=120, settled=100, pending=20, ended=False)
    return remaining(**usual | changes)


def test_what_remains_is_estimated_from_bytes() -> None:
    """As many records in a byte as so far; at the end of the input it is what is pending."""
    assert counts() == 380
    assert counts(ended=True) == 20
    assert counts(read=5_000) == 20
    assert counts(allowed=7) == 27
    # What an earlier process settled, and this one reads again, is not to come.
    assert counts(settled=400, pending=0, read=1_000, records=120) == 80


def test_what_cannot_be_known_is_no_number() -> None:
    """A stream, an empty beginning, nothing settled yet, a pace of nothing."""
    assert counts(total=None) is None
    assert counts(read=0) is None
    assert counts(records=0) is None
    standing = Standing(rate=10)
    assert left(standing, None, pace=1, settled=1, cost=1) is None
    assert left(standing, 10, pace=0, settled=1, cost=1) is None
    assert left(standing, 10, pace=1, settled=0, cost=0) is None
    assert left(Standing(rate=0), 10, pace=1, settled=1, cost=1) is None


def test_the_rest_takes_the_longer_of_pace_and_budget() -> None:
    """In requests as full as so far; where none was needed, at the pace alone."""
    standing = Standing(rate=2)
    assert left(standing, 0, pace=0, settled=0, cost=0) == 0
    assert left(standing, 1_000, pace=1_000, settled=500, cost=10) == pytest.approx(10)
    assert left(standing, 1_000, pace=10, settled=500, cost=10) == pytest.approx(100)
    assert left(standing, 1_000, pace=10, settled=500, cost=0) == pytest.approx(100)
    assert left(standing, 1_000, pace=1_000, settled=500, cost=10, out=6) == pytest.approx(7)
    assert left(standing, 100, pace=10, settled=500, cost=10, out=6) == pytest.approx(10)


@given(st.floats(0.01, 60), st.integers(1, 50))
def test_a_steady_rate_is_itself(every: float, looks: int) -> None:
    """However often it is looked at, and from the first look on."""
    rate = Fading(10)
    assert rate.rate == 0
    for _ in range(looks):
        rate.add(7 * every, every)
    assert rate.rate == pytest.approx(7)


@pytest.mark.simulation
@pytest.mark.parametrize("each", [1, 75])
def test_a_million_records_end_when_it_is_said(each: int) -> None:
    """At 10 %, 50 % and 90 % the time left is within a tenth of what it then takes."""
    requests = math.ceil(1_000_000 / each)
    found = Budget(parse_rate("250000/1h,3000/3s"))
    now, said = 0.0, {}
    for sent in range(1, requests + 1):
        now += 0.0008
        while delay := found.delay(now):
            now += delay
        found.spend(now)
        for share in (10, 50, 90):
            if sent == requests * share // 100:
                done = sent * each
                seconds = left(
                    found.standing(now), 1_000_000 - done, pace=980 * each, settled=done, cost=sent
                )
                assert seconds is not None
                said[now] = seconds
    assert len(said) == 3
    for at, seconds in said.items():
        assert seconds == pytest.approx(now - at, rel=0.1, abs=2)
