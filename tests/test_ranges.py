"""Ranges are a set of integers, whatever the order of what comes and goes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.ranges import Range, Ranges, merged, runs, runs_of
from ingest.records import position

SPANS = st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda at: (at[0], at[0] + at[1]))
STEPS = st.lists(st.tuples(st.sampled_from(("add", "discard", "look")), SPANS), max_size=30)
SETS = st.sets(st.integers(0, 60))
STEPPED = st.builds(
    range, st.integers(0, 40), st.integers(0, 40), st.sampled_from((-3, -2, -1, 1, 2, 3, 4))
)
TURNS = st.builds(
    lambda start, turns, last, order: order(
        [range(start + turn, last, turns) for turn in range(turns)]
    ),
    st.integers(0, 10),
    st.integers(1, 4),
    st.integers(0, 40),
    st.sampled_from((list, lambda columns: columns[::-1], lambda columns: columns[1:])),
)
COLUMNS = TURNS | st.lists(
    STEPPED | st.lists(st.integers(0, 30)) | st.just(()) | st.integers(0, 30).map(lambda at: [at]),
    max_size=4,
)


def ranges_of(numbers: set[int]) -> Ranges:
    """The set as ranges."""
    return Ranges(runs(numbers))


def members(ranges: Ranges) -> set[int]:
    """Every integer of the ranges."""
    return {number for span in ranges for number in range(*span)}


@given(STEPS)
def test_it_is_a_set_and_a_table_can_follow_it(steps: list[tuple[str, Range]]) -> None:
    """After any steps it holds what a set holds, merged, and so does a table of its changes."""
    ranges, model = Ranges(tracked=True), set[int]()
    table: dict[int, int] = {}
    for what, (start, stop) in steps:
        if what == "add":
            ranges.add(start, stop)
            model |= set(range(start, stop))
        elif what == "discard":
            ranges.discard(start, stop)
            model -= set(range(start, stop))
        else:
            for at, end in ranges.changes():
                table.pop(at, None)
                table |= {} if end is None else {at: end}
            assert sorted(table.items()) == list(ranges)
            assert ranges.changes() == []
        assert members(ranges) == model
        assert len(ranges) == len(model)
        assert [number in ranges for number in range(50)] == [n in model for n in range(50)]
        flat = [edge for span in ranges for edge in span]
        assert flat == sorted(set(flat))  # no range is empty, and none touches another
        assert ranges.pieces == len(flat) // 2


@given(SETS, st.integers(0, 60))
def test_the_mark_has_all_before_it(numbers: set[int], start: int) -> None:
    """From where one asks to the mark everything is in, and the mark itself is not."""
    mark = ranges_of(numbers).mark(start)
    assert mark not in numbers
    assert set(range(start, mark)) <= numbers


@given(SETS, SETS)
def test_the_difference_is_that_of_sets(numbers: set[int], others: set[int]) -> None:
    """What is in one and not in the other."""
    assert members(ranges_of(numbers).difference(ranges_of(others))) == numbers - others


@given(SETS, SPANS)
def test_an_overlap_is_what_a_range_has_in_it(numbers: set[int], span: Range) -> None:
    """Of a range, what is in the set."""
    found = Ranges(ranges_of(numbers).overlap(*span))
    assert members(found) == numbers & set(range(*span))


@given(st.sets(st.integers(0, 2**64)))
def test_bytes_come_back_as_the_set_that_they_were(numbers: set[int]) -> None:
    """Through bytes and back it is the same set."""
    ranges = ranges_of(numbers)
    assert Ranges.from_bytes(ranges.to_bytes()) == ranges


@pytest.mark.parametrize("data", [b"\x01", b"\x01\x80", b"\x80"])
def test_bytes_that_are_cut_short_are_refused(data: bytes) -> None:
    """A torn blob is never taken for fewer ranges."""
    with pytest.raises(ValueError, match="middle"):
        Ranges.from_bytes(data)


@given(st.lists(st.integers(0, 30)))
def test_runs_are_the_same_numbers(numbers: list[int]) -> None:
    """In any order and repeated, they become ranges that hold them and nothing else."""
    found = runs(numbers)
    assert [number for span in found for number in range(*span)] == sorted(set(numbers))
    assert all(a[1] < b[0] for a, b in pairwise(found))


@given(STEPPED)
def test_the_runs_of_a_range_are_those_of_its_numbers(numbers: range) -> None:
    """Whatever its step, and empty or not."""
    assert runs(numbers) == runs(list(numbers))


@given(COLUMNS)
def test_columns_have_the_runs_of_all_their_numbers(columns: list[Sequence[int]]) -> None:
    """Ranges that take turns, overlap or miss one, and lists: as if each number was looked at."""
    assert runs_of(columns) == runs(list(chain.from_iterable(columns)))


def test_columns_that_take_turns_are_one_run() -> None:
    """However many they hold: none of the numbers is looked at."""
    many = 10**15
    assert runs_of([range(5, many)]) == [(5, many)]
    assert runs_of([(), range(1, many, 2), range(0, many, 2)]) == [(0, many)]


def test_parts_do_not_run_into_each_other() -> None:
    """One set holds the positions of many parts; each has its own mark."""
    ranges = Ranges([(position(0, 0), position(0, 5)), (position(1, 2), position(1, 3))])
    assert ranges.mark(position(0, 0)) == position(0, 5)
    assert ranges.mark(position(1, 0)) == position(1, 0)
    assert ranges.mark(position(1, 2)) == position(1, 3)


def test_ten_million_positions_are_few_ranges() -> None:
    """Settled in batches out of order, the set stays as small as its gaps, and ends as one."""
    ranges, most = Ranges(tracked=True), 0
    for block in range(0, 10_000_000, 100_000):
        for start in (
            *range(block + 100, block + 100_000, 200),
            *range(block, block + 100_000, 200),
        ):
            ranges.add(start, start + 100)
            most = max(most, ranges.pieces)
    assert list(ranges) == [(0, 10_000_000)]
    assert most == 501
    assert len(ranges.to_bytes()) <= 8


def test_it_compares_and_shows_itself() -> None:
    """Equal sets are equal, another type is not, and a failure shows the ranges."""
    assert Ranges([(1, 2), (2, 3)]) == Ranges([(1, 3)]) == Ranges([(1, 1), (2, 3), (1, 2), (1, 2)])
    assert Ranges([(1, 2), (3, 4), (5, 6), (0, 7)]) == Ranges([(0, 7)])
    assert Ranges() != ()
    assert repr(Ranges([(1, 3)])) == "Ranges([(1, 3)])"
    with pytest.raises(TypeError):
        hash(Ranges())


@given(st.sets(st.integers(0, 40)), st.randoms())
def test_merged_ranges_are_those_of_the_set(positions: set[int], dice: Random) -> None:
    """However they came, in order and apart."""
    pieces = [span for at in positions for span in [(at, at + 1)]]
    dice.shuffle(pieces)
    assert merged(pieces) == list(Ranges(pieces))
