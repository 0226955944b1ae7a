"""What is told is only kept at first, and worked out for many batches at once: nobody can tell."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ingest.balance import Balance
from ingest.ranges import Range, Ranges
from ingest.state.groups import Group, Kept
from ingest.state.settling import Settling


def rows_of(group: Group) -> dict[int, list[Range]]:
    """Return the rows of notes of a group as ranges."""
    return {row: list(Ranges.from_bytes(data)) for row, data in group.notes}


def test_a_new_row_takes_the_place_of_one_that_is_gone() -> None:
    """Those of a dead process too, and no number is that of two rows."""
    settling = Settling(Balance(), Kept(notes={2: Ranges([(1, 2)]), 7: Ranges([(5, 9)])}))
    assert list(settling.doubtful) == [(1, 2), (5, 9)]
    settling.note(1, [[20]])
    group = settling.cut()
    assert (rows_of(group), group.gone) == ({7: [(20, 21)]}, [2])
    settling.note(2, [[30]])
    group = settling.cut()
    assert (rows_of(group), group.gone) == ({8: [(30, 31)]}, [])
    settling.conclude(1)
    settling.note(3, [[40]])
    group = settling.cut()
    assert (rows_of(group), group.gone) == ({7: [(40, 41)]}, [])


@given(
    st.sets(st.integers(0, 99), max_size=30),
    st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=6),
)
def test_batches_are_noted_and_ended_together_as_one_by_one(
    doubtful: set[int], turns: list[list[int]]
) -> None:
    """Whatever is cut in between, both ways come to the same groups, row for row."""
    kept = Kept(doubtful=Ranges((at, at + 1) for at in doubtful))
    one, other = Settling(Balance(), kept), Settling(Balance(), kept)
    out: dict[int, list[Sequence[int]]] = {}
    for turn, numbers in enumerate(turns):
        ended = [number for number in dict.fromkeys(numbers) if number in out]
        fresh = {
            number: [range(10 * number, 10 * number + 5), [10 * number + 7], ()]
            for number in numbers
            if number not in out
        }
        for number in ended:
            one.conclude(number)
        other.conclude_all(ended)
        for number, columns in fresh.items():
            one.note(number, columns)
        other.note_all(fresh)
        out = {number: of for number, of in out.items() if number not in ended} | fresh
        assert one.in_flight == other.in_flight == len(out)
        if turn % 2:
            assert one.cut() == other.cut()
    assert list(one.settled) == list(other.settled)
    assert list(one.doubtful) == list(other.doubtful)
    assert not any(at in one.settled for span in one.doubtful for at in range(*span))


def test_what_was_told_is_known_at_once() -> None:
    """Nobody has to wait for a group to be cut: whoever reads again asks in between."""
    settling = Settling(Balance(), Kept(doubtful=Ranges([(0, 10)])))
    settling.note(1, [[2, 3]])
    settling.conclude(1)
    settling.settle([5])
    assert list(settling.settled) == [(2, 4), (5, 6)]
    assert list(settling.doubtful) == [(0, 2), (4, 5), (6, 10)]
    settling.settle([0])
    assert list(settling.doubtful) == [(1, 2), (4, 5), (6, 10)]
