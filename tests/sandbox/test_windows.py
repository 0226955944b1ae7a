"""The sandbox's rate limit: windows on the clock edge, and two dialects of headers."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.sandbox.windows import (
    Rate,
    Windows,
    fault_headers,
    headers,
    parse_dialect,
    parse_rate,
    unauthorized_headers,
)


def test_a_rate_is_read_in_every_unit() -> None:
    """Amount and period come out in requests and seconds; no count before the unit means one."""
    assert parse_rate("250000/1h, 3000/3s") == (Rate(250_000, 3600.0), Rate(3000, 3.0))
    assert parse_rate("5/m,1/500ms,9/2d") == (Rate(5, 60.0), Rate(1, 0.5), Rate(9, 172_800.0))
    assert parse_rate("") == ()


@pytest.mark.parametrize("spec", ["3000", "3000/", "x/3s", "3/3w", "-1/3s", "0/1s", "1/0s"])
def test_a_rate_that_makes_no_sense_is_refused(spec: str) -> None:
    """The error names what was written."""
    with pytest.raises(ConfigError, match="rate"):
        parse_rate(spec)


def test_an_unknown_dialect_is_refused() -> None:
    """Only the two documented dialects exist."""
    assert parse_dialect("mau") == "mau"
    with pytest.raises(ConfigError, match="classic or mau"):
        parse_dialect("old")


def test_a_window_begins_on_the_clock_edge() -> None:
    """Two requests just before the edge leave the next window whole."""
    windows = Windows(parse_rate("2/3s"))
    assert [windows.arrive(at).allowed for at in (2.9, 2.95, 2.99)] == [True, True, False]
    assert [windows.arrive(at).allowed for at in (3.0, 3.1, 3.2)] == [True, True, False]


def test_a_refused_request_costs_no_other_window() -> None:
    """What the burst window refuses does not count in the hourly one."""
    windows = Windows(parse_rate("3/1h,1/1s"))
    assert windows.arrive(0.0).allowed
    assert not windows.arrive(0.1).allowed
    assert windows.arrive(1.0).readings[0].remaining == 1


def test_a_clock_set_back_opens_no_new_window() -> None:
    """A window once entered is not entered again."""
    windows = Windows(parse_rate("1/1s"))
    assert windows.arrive(10.0).allowed
    assert not windows.arrive(9.0).allowed


def test_classic_headers_describe_the_longest_window_in_epoch_seconds() -> None:
    """Limit and remaining count requests; the reset is the end of the window."""
    ruling = Windows(parse_rate("3/3s,100/1m")).arrive(1_000_000_003.5)
    assert headers("classic", ruling, 1_000_000_003.5) == {
        "X-RateLimit-Limit": "100",
        "X-RateLimit-Remaining": "99",
        "X-RateLimit-Reset": "1000000020",
    }


def test_a_classic_refusal_describes_the_window_that_was_full() -> None:
    """The reset is the one to wait for, not that of a window with room."""
    windows = Windows(parse_rate("1/3s,100/1h"))
    windows.arrive(4.0)
    assert headers("classic", windows.arrive(4.5), 4.5) == {
        "X-RateLimit-Limit": "1",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "6",
    }


def test_mau_headers_say_seconds_left_and_vanish_on_a_refusal() -> None:
    """A refusal has only the seconds to wait, a whole number of at least one."""
    windows = Windows(parse_rate("1/3s,100/1h"))
    assert headers("mau", windows.arrive(3599.5), 3599.5)["X-RateLimit-Reset"] == "1"
    assert headers("mau", windows.arrive(3599.6), 3599.6) == {"X-Ratelimit-Retry-After": "1"}


def test_an_invented_refusal_names_the_window_that_ends_first() -> None:
    """A fault never costs the caller an hour."""
    ruling = Windows(parse_rate("9/3s,100/1h")).arrive(1.0)
    assert fault_headers("classic", ruling, 1.0)["X-RateLimit-Reset"] == "3"
    assert fault_headers("mau", ruling, 1.0) == {"X-Ratelimit-Retry-After": "2"}


def test_without_windows_there_are_no_headers() -> None:
    """No limit, nothing to say; a mau fault still gives a second."""
    windows = Windows(())
    ruling = windows.arrive(0.0)
    assert ruling.allowed
    assert not windows
    assert headers("classic", ruling, 0.0) == {}
    assert fault_headers("classic", ruling, 0.0) == {}
    assert fault_headers("mau", ruling, 0.0) == {"X-Ratelimit-Retry-After": "1"}


def test_a_401_has_the_headers_empty() -> None:
    """They are there, as empty strings."""
    assert set(unauthorized_headers().values()) == {""}


def test_reset_forgets_every_arrival() -> None:
    """After a reset the window is whole."""
    windows = Windows(parse_rate("1/1h"))
    windows.arrive(0.0)
    windows.reset()
    assert windows.arrive(1.0).allowed


@given(
    arrivals=st.lists(st.integers(0, 400), max_size=80).map(sorted),
    rates=st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from([1.0, 3.0, 10.0])), min_size=1, max_size=3
    ),
)
def test_no_window_holds_more_than_its_amount_and_none_refuses_with_room(
    arrivals: list[int], rates: list[tuple[int, float]]
) -> None:
    """Against a naive count: a request passes exactly when every aligned window has room."""
    windows = Windows([Rate(amount, period) for amount, period in rates])
    used: Counter[tuple[int, int]] = Counter()
    for tick in arrivals:
        now = tick / 10
        slots = [(i, int(now // period)) for i, (_, period) in enumerate(rates)]
        room = all(used[slot] < rates[slot[0]][0] for slot in slots)
        assert windows.arrive(now).allowed == room
        if room:
            used.update(slots)
