"""Rates as text, shares of them, and the spacing that follows from them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.rates import (
    BucketLimit,
    PaceLimit,
    RateLimit,
    WindowLimit,
    largest_cost,
    pacing,
    parse_rate,
    peak_rate,
    scaled,
)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("250000/1h,3000/3s", [(250_000, 3600.0), (3000, 3.0)]),
        (" 5 / 500ms , 7/d ", [(5, 0.5), (7, 86_400.0)]),
        ("10/1.5m", [(10, 90.0)]),
        ("118/s", [(118, 1.0)]),
    ],
)
def test_a_rate_is_read(text: str, limits: list[tuple[int, float]]) -> None:
    """Windows with any unit are read, several of them, with or without a number of units."""
    assert parse_rate(text) == tuple(WindowLimit(*limit) for limit in limits)


@pytest.mark.parametrize("text", ["", "12", "x/1s", "5/1y", "0/1s", "5/0s", "5/1s,", "-5/1s"])
def test_bad_text_says_what_a_rate_looks_like(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(ConfigError, match="such as 250000/1h,3000/3s"):
        parse_rate(text)


@given(st.integers(1, 10**6), st.sampled_from(["250ms", "3s", "5m", "1h", "2d"]))
def test_a_window_is_written_as_it_is_read(amount: int, period: str) -> None:
    """The text of a window limit reads back as the same limit."""
    (limit,) = parse_rate(f"{amount}/{period}")
    assert str(limit) == f"{amount}/{period}"


def test_other_limits_have_a_text_too() -> None:
    """A bucket, a pace, and a window of an odd length, are written for humans."""
    assert str(BucketLimit(10, 5)) == "10/s with bursts of 5"
    assert str(PaceLimit(10_000)) == "10000/s without bursts"
    assert str(WindowLimit(3, 0.0001)) == "3/0.0001s"


def test_a_share_never_falls_below_one_request() -> None:
    """Shares scale amounts, rates and bursts, rounding down but not to nothing."""
    limits = (
        WindowLimit(100, 1.0),
        WindowLimit(1, 1.0),
        BucketLimit(10.0, 1.0),
        PaceLimit(10_000),
        PaceLimit(2),
    )
    assert scaled(limits, 0.29) == (
        WindowLimit(29, 1.0),
        WindowLimit(1, 1.0),
        BucketLimit(2.9, 1.0),
        PaceLimit(2900),
        PaceLimit(1),
    )


def test_the_documented_budgets_in_users_are_scaled() -> None:
    """80 % of a bucket of 300/s with bursts of 1,000 are 240/s with bursts of 800."""
    limits = (BucketLimit(300, 1000), PaceLimit(10_000))
    assert scaled(limits, 0.8) == (BucketLimit(240, 800), PaceLimit(8000))


LIMITS = st.lists(
    st.one_of(
        st.builds(WindowLimit, st.integers(1, 10**6), st.floats(0.001, 86_400)),
        st.builds(BucketLimit, st.floats(0.01, 1e5), st.floats(1, 1e6)),
        st.builds(PaceLimit, st.floats(1, 1e6)),
    ),
    max_size=4,
)


@given(LIMITS, st.floats(0.001, 1))
def test_a_share_is_no_more_than_the_whole(limits: list[RateLimit], share: float) -> None:
    """No share is faster or lets more through at once than all of it; each still grants a 1."""
    assert peak_rate(scaled(limits, share)) <= peak_rate(limits) + 1e-9
    assert 1 <= largest_cost(scaled(limits, share)) <= largest_cost(limits) + 1e-9


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ((), math.inf),
        ((BucketLimit(300, 1000),), 1000),
        ((PaceLimit(8000),), 8000),
        ((WindowLimit(150, 1.0), BucketLimit(300, 1000), PaceLimit(8000)), 150),
    ],
)
def test_the_tightest_limit_says_what_a_request_may_cost(
    limits: tuple[RateLimit, ...], most: float
) -> None:
    """A window's amount, a bucket's burst and a pace's rate are the most that goes at once."""
    assert largest_cost(limits) == most


@pytest.mark.parametrize(
    ("limits", "rate"),
    [
        ((), math.inf),
        (parse_rate("250000/1h,3000/3s"), 1000.0),
        (parse_rate("6000/1h"), 100.0),
        ((BucketLimit(10.0, 60.0),), 11.0),
        ((PaceLimit(10_000),), 10_000),
    ],
)
def test_the_peak_rate_lets_a_long_window_be_used_early(
    limits: tuple[RateLimit, ...], rate: float
) -> None:
    """The tightest limit counts, a long one as if it were to be used within a minute."""
    assert peak_rate(limits) == rate


@pytest.mark.parametrize(("text", "burst"), [("50/1s", 1), ("1000/1s", 12), ("3000/3s", 12)])
def test_sends_are_spaced_a_quarter_closer_than_the_rate(text: str, burst: int) -> None:
    """Bursts come about every 10 ms, at 1.25 times the rate."""
    spacing = pacing(parse_rate(text))
    assert spacing is not None
    most, period = spacing
    assert most == burst
    assert most / period == pytest.approx(1.25 * peak_rate(parse_rate(text)))


def test_no_limit_no_spacing() -> None:
    """Without limits nothing is spaced."""
    assert pacing(()) is None


def test_a_pace_is_spaced_like_a_window_of_a_second() -> None:
    """Where requests cost 1 each, a pace is smoothed as any other limit."""
    assert pacing((PaceLimit(1000),)) == pacing(parse_rate("1000/1s"))
