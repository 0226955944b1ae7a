"""A request that is not full waits for others, but for no longer than it may."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.lingering import Lingering

SECONDS = 1.0


def test_the_waiting_begins_with_the_first_record_that_does_not_go() -> None:
    """More records do not begin it anew; it is over after so many seconds."""
    lingering = Lingering(SECONDS)
    assert lingering.until is None
    lingering.held(0, 1.0)
    assert lingering.until is None
    lingering.held(3, 2.0)
    lingering.held(9, 2.5)
    assert lingering.until == 3.0
    assert not lingering.over(2.9)
    assert lingering.over(3.0)


def test_when_it_is_over_all_that_were_there_go_without_waiting() -> None:
    """Those that come later are not among them."""
    lingering = Lingering(SECONDS)
    lingering.held(3, 0.0)
    lingering.look(0.5, 100)
    assert lingering.overdue == 0
    lingering.look(1.0, 100)
    lingering.look(1.1, 500)
    assert lingering.overdue == 100
    lingering.went(75)
    assert (lingering.overdue, lingering.until) == (25, None)
    lingering.look(9.0, 500)
    lingering.went(75)
    assert lingering.overdue == 0


def test_where_nothing_is_there_nothing_waits() -> None:
    """Neither a record that was overdue nor a request that was begun."""
    lingering = Lingering(SECONDS)
    lingering.held(3, 0.0)
    lingering.look(2.0, 5)
    lingering.nothing_waits()
    lingering.held(0, 2.0)
    assert (lingering.overdue, lingering.until, lingering.over(9.0)) == (0, None, False)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 50), st.booleans()), max_size=30))
def test_no_request_waits_longer_than_it_may(steps: list[tuple[float, int, bool]]) -> None:
    """Whatever comes and goes: the waiting is over when its time has passed, and not before."""
    lingering, now, begun = Lingering(SECONDS), 0.0, None
    for passed, records, goes in steps:
        now += passed
        if goes:
            lingering.went(records)
            begun = None
        else:
            lingering.held(records, now)
            begun = None if not records else now if begun is None else begun
        assert lingering.until == (None if begun is None else begun + SECONDS)
        assert lingering.over(now) == (begun is not None and now >= begun + SECONDS)
        assert lingering.overdue >= 0
