"""How long a number of requests takes at a rate."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.finishing import MOST_STEPS, Finish, finish
from ingest.limits import Budget
from ingest.rates import (
    BucketLimit,
    PaceLimit,
    RateLimit,
    WindowLimit,
    largest_cost,
    parse_rate,
    peak_rate,
)
from tests.examples import examples

LIMITS = st.lists(
    st.builds(WindowLimit, st.integers(1, 500), st.sampled_from([0.1, 1.0, 3.0, 60.0]))
    | st.builds(BucketLimit, st.floats(1, 100), st.floats(1, 50))
    | st.builds(PaceLimit, st.floats(1, 500)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=examples(100), deadline=None)
@given(LIMITS, st.integers(0, 400))
def test_it_is_what_a_budget_allows(limits: list[RateLimit], requests: int) -> None:
    """Requests sent as soon as the budget of a run allows end when it is said."""
    budget, now = Budget(limits), 0.0
    for _ in range(requests):
        now += budget.delay(now)
        budget.spend(now)
    found = finish(limits, requests).seconds
    # It may be later, for requests are spaced to the rate and a quarter more: over the whole run,
    # and once more over the last window.
    spaced, last = 1 / (1.2 * peak_rate(limits)), max(largest_cost([limit]) for limit in limits)
    most = max(now, requests * spaced) + last * spaced
    assert now - 1e-6 <= found <= most + now / 100 + 1e-6


@pytest.mark.parametrize(
    ("rate", "requests", "seconds", "binds"),
    [
        ("3000/3s", 3_000, 2.4, None),
        ("3000/3s", 3_001, 3.0, "3000/3s"),
        ("3000/3s", 30_000, 29.4, "3000/3s"),
        ("250000/1h,3000/3s", 100_000, 99.2, "3000/3s"),
        ("250000/1h,3000/3s", 300_000, 3_655, "250000/1h"),
        ("1/1s", 1_000_000, 999_999, "1/1s"),
    ],
)
def test_windows_are_used_in_full(
    rate: str, requests: int, seconds: float, binds: str | None
) -> None:
    """The last window is not waited for to its end, and the limit that costs most is named."""
    found = finish(parse_rate(rate), requests)
    assert found.seconds == pytest.approx(seconds, rel=0.01)
    assert (None if found.binds is None else str(found.binds)) == binds


def test_users_are_counted_where_the_limit_counts_them() -> None:
    """Requests of 200 users each take from a bucket of 1,000 users that fills at 300 a second."""
    found = finish((BucketLimit(300, 1_000),), 10_000, each=200)
    assert found.seconds == pytest.approx(30.0)


def test_without_a_limit_nothing_takes_time() -> None:
    """What nobody limits is not limited by us, and nothing needs nothing."""
    assert finish((), 1_000_000) == Finish(0.0)
    assert finish(parse_rate("1/1h"), 0) == Finish(0.0)


def test_a_very_long_run_goes_on_at_its_pace() -> None:
    """What is not played through to the end is extended, not forgotten."""
    found = finish(parse_rate("2/1s"), 10 * MOST_STEPS)
    assert found.seconds == pytest.approx(5 * MOST_STEPS, rel=0.001)
