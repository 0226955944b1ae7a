"""Budgets of the sandbox that are counted in updates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.sandbox.buckets import Span, bucket, sliding

STEPS = st.lists(
    st.tuples(st.integers(1, 12), st.integers(0, 40).map(lambda tenth: tenth / 10)), max_size=40
)
"""(updates, seconds since the one before), in tenths, so that sums of floats do not matter."""


def test_a_bucket_lets_its_burst_through_and_then_its_rate() -> None:
    """All or none; what is refused costs nothing."""
    budget = bucket("300/1s", 1_000)
    assert [budget.take(200, 5.0) for _ in range(6)] == [True] * 5 + [False]
    assert not budget.take(200, 5.5)
    assert budget.take(150, 5.5)
    assert not budget.take(1, 5.5)
    assert not budget.take(1_001, 1e9)
    assert budget.take(1_000, 1e9)
    budget.reset()
    assert budget.take(1_000, 0.0)


def test_a_sliding_window_has_no_edge() -> None:
    """What is exactly a period old no longer counts."""
    budget = sliding("10/1s")
    assert [budget.take(6, 0.5), budget.take(4, 1.25), budget.take(1, 1.25)] == [True, True, False]
    assert [budget.take(7, 1.5), budget.take(6, 1.5)] == [False, True]
    budget.reset()
    assert budget.take(10, 0.0)


@given(STEPS)
def test_a_sliding_window_never_lets_more_through_in_any_period(
    steps: list[tuple[int, float]],
) -> None:
    """Wherever the period begins; and it refuses only what would be more."""
    budget, now, passed = sliding("20/1s"), 0.0, list[tuple[float, int]]()
    for count, after in steps:
        now += after
        recent = sum(n for at, n in passed if now - at < 1.0)
        taken = budget.take(count, now)
        assert taken == (recent + count <= 20)
        if taken:
            passed.append((now, count))


@given(STEPS)
def test_a_bucket_never_lets_more_through_than_its_burst_and_rate(
    steps: list[tuple[int, float]],
) -> None:
    """In every stretch of time between two requests."""
    budget, now, passed = bucket("3/1s", 12), 0.0, list[tuple[float, int]]()
    for count, after in steps:
        now += after
        if budget.take(count, now):
            passed.append((now, count))
    for i, (begin, _) in enumerate(passed):
        total = 0
        for at, count in passed[i:]:
            total += count
            assert total <= 12 + 3 * (at - begin) + 1e-6


def test_a_clock_that_is_set_back_gives_nothing() -> None:
    """Time stands still until it is caught up with."""
    budget, span = bucket("1/1s", 1), Span(1.0)
    assert [budget.take(1, 10.0), budget.take(1, 5.0), budget.take(1, 6.5)] == [True, False, False]
    assert [span.add(1, 10.0), span.add(2, 5.0), span.total(10.5), span.total(11.0)] == [1, 3, 3, 0]


def test_no_rate_is_no_limit() -> None:
    """For both kinds."""
    for budget in (bucket("", 1), sliding("")):
        assert budget.take(1_000_000, 0.0)
        budget.reset()


def test_a_budget_that_makes_no_sense_is_refused() -> None:
    """Two rates, no burst, or a rate that cannot be read."""
    with pytest.raises(ConfigError, match="burst"):
        bucket("1/1s", 0)
    with pytest.raises(ConfigError, match="single"):
        sliding("1/1s,2/2s")
    with pytest.raises(ConfigError, match="not understood"):
        bucket("many", 1)
