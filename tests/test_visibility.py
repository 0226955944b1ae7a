"""How long messages of a queue are ours: extended in time, for longer and longer, and let go."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.visibility import MOST, Visibility

ALL: Final = 1_000_000


@given(
    seconds=st.integers(1, 300),
    starts=st.lists(st.floats(0, 1000), min_size=1, max_size=30),
    delay=st.floats(0, 0.2),
    hours=st.floats(0.01, 11.0),
)
def test_what_is_looked_at_when_asked_for_is_never_lost(
    seconds: int, starts: list[float], delay: float, hours: float
) -> None:
    """However often messages come, each is extended before its deadline, on time or a bit late."""
    held = Visibility(seconds)
    deadlines: dict[int, float] = {}
    starts.sort()
    now, coming = starts[0], list(enumerate(starts))
    end = starts[0] + min(hours * 3600.0, 500.0 * seconds)
    while now < end:
        while coming and coming[0][1] <= now:
            number, _ = coming.pop(0)
            held.take(number, now)
            deadlines[number] = now + seconds
        due = held.due(now, ALL)
        assert not due.let_go
        for number, wanted in due.extend:
            assert now < deadlines[number]
            assert 1 <= wanted <= MOST
            assert now + wanted > deadlines[number]
            held.extended(number, now, wanted)
            deadlines[number] = now + wanted
        assert all(deadline > now for deadline in deadlines.values())
        again = held.next()
        assert again is not None
        now = max(now, min([again, *(start for _, start in coming[:1])])) + delay * seconds
    assert len(held) == len(deadlines)


@given(st.integers(1, 43_200), st.floats(0, 1e6))
def test_a_message_is_let_go_after_twelve_hours(seconds: int, start: float) -> None:
    """No extension goes beyond them, and it is said once that there is no more time."""
    held = Visibility(seconds)
    held.take(2, start)
    let_go: list[int] = []
    while (now := held.next()) is not None:
        due = held.due(now, ALL)
        let_go += due.let_go
        for number, wanted in due.extend:
            assert now + wanted <= start + MOST
            held.extended(number, now, wanted)
    assert let_go == [2]
    assert len(held) == 0


@given(st.integers(1, 600), st.floats(1, 40_000))
def test_a_crash_costs_no_more_than_three_times_what_was_waited(seconds: int, since: float) -> None:
    """What an extension asks for grows with the time that a message was held, up to 15 minutes."""
    held = Visibility(seconds)
    held.take(2, 0.0)
    ((_, wanted),) = held.due(max(since, seconds), ALL).extend
    assert wanted <= max(seconds, min(900, seconds + 2 * max(since, seconds)))


def test_an_extension_that_nothing_is_heard_of_is_asked_for_again() -> None:
    """A little later, while the message is still ours."""
    held = Visibility(60)
    held.take(2, 0.0)
    assert held.due(30.0, ALL).extend == [(2, 120)]
    assert held.due(30.0, ALL).extend == []
    assert held.next() == 45.0
    assert held.due(45.0, ALL).extend == [(2, 150)]


def test_ten_go_together_and_the_most_urgent_go_first() -> None:
    """At most as many as asked for; what is nearly due goes with what is."""
    held = Visibility(60)
    for number in range(25):
        held.take(number, number * 0.1)
    assert [number for number, _ in held.due(30.0, 10).extend] == list(range(10))
    assert len(held.due(30.0, ALL).extend) == 15


def test_it_is_late_while_something_is_due() -> None:
    """Until it is extended; without messages it never is."""
    held = Visibility(60)
    assert not held.late(1e9)
    assert held.next() is None
    held.take(2, 0.0)
    assert not held.late(30.0)
    assert held.late(30.1)
    held.due(30.1, ALL)
    assert not held.late(30.1)
    held.extended(2, 30.1, 120)
    assert not held.late(90.0)


def test_what_comes_again_is_held_from_then_on() -> None:
    """A queue that gave a message a second time begins to count anew."""
    held = Visibility(60)
    held.take(2, 0.0)
    held.take(2, MOST)
    assert held.next() == MOST + 30.0
    assert held.due(MOST + 30.0, ALL).extend == [(2, 120)]


def test_what_is_dropped_is_never_due() -> None:
    """However many there were; an extension that is heard of later changes nothing."""
    held = Visibility(60)
    for number in range(3000):
        held.take(number, 0.0)
    held.drop(range(2999))
    held.extended(1, 0.0, 60)
    held.drop([1])
    assert len(held) == 1
    assert held.due(30.0, ALL).extend == [(2999, 120)]


@pytest.mark.parametrize("seconds", [43_200])
def test_a_visibility_of_twelve_hours_is_not_extended(seconds: int) -> None:
    """There is nothing more to be had."""
    held = Visibility(seconds)
    held.take(2, 0.0)
    due = held.due(seconds / 2, ALL)
    assert (due.extend, due.let_go) == ([], [2])
