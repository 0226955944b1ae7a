"""Laws of the intake for rows of tables: rows that make no record, lines told, places resumed."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from ingest.intake import SLICE_LINES, Intake, IntakeRules
from ingest.records import KIND_UNKNOWN, ordinal_of, part_of, position
from ingest.taken import Refusal, Taken

GOOD = b'{"attributes": {"external_id": "u1", "plan": "pro"}}'
DOUBTFUL = b'{"attributes": {"external_id": "u1", "visits": {"inc": 1}}}'
NOBODY = b'{"attributes": {"plan": "pro"}}'
LINES = st.lists(st.sampled_from((GOOD, DOUBTFUL, NOBODY)), max_size=40)


def rows(everything: list[Taken]) -> list[tuple[int, int]]:
    """Return (position, line) of all records, good and bad, by position."""
    found = [
        pair
        for taken in everything
        for chunk in taken.chunks
        for pair in zip(chunk.positions, chunk.lines, strict=True)
    ]
    found += [(bad.position, bad.line) for taken in everything for bad in taken.refusals]
    return sorted(found)


def unfit(intake: Intake, line: int, raw: bytes = b"u1,x") -> Taken:
    """Account for a row with a cell that is not of its type."""
    told = ("wrong-type", "age", "no number", raw, "a summary")
    return intake.unfit(3, line, *told, table=True)


def test_a_row_without_a_record_is_invalid() -> None:
    """It counts as one record of the kind that rows are, with its text, its line and its reason."""
    intake = Intake(IntakeRules(kind="event"))
    taken = unfit(intake, 7)
    assert (taken.read, taken.chunks) == ({"event": 1}, ())
    assert taken.refusals == (
        Refusal(
            "event",
            "wrong-type",
            "age",
            "no number",
            position(3, 0),
            7,
            raw=b"u1,x",
            summary="a summary",
            table=True,
        ),
    )


def test_a_row_of_no_kind_is_of_an_unknown_one() -> None:
    """Where a mapping alone says the kind, a row that makes no record is of none."""
    assert unfit(Intake(IntakeRules()), 7).read == {KIND_UNKNOWN: 1}


def test_a_row_keeps_no_credential() -> None:
    """The text of a row loses what looks like a key of an account."""
    [refusal] = unfit(Intake(IntakeRules()), 2, b'"api_key": "secret-7"').refusals
    assert refusal.raw is not None
    assert b"secret-7" not in refusal.raw


@given(lines=LINES, steps=st.lists(st.integers(1, 5), min_size=40, max_size=40))
def test_lines_have_the_numbers_they_are_told(lines: list[bytes], steps: list[int]) -> None:
    """Rows of a table begin on lines that do not count up by one; each record has its own."""
    numbers = list(accumulate(steps, initial=2))[: len(lines)]
    found = rows(list(Intake(IntakeRules()).take(3, lines, numbers)))
    assert found == [(position(3, i), number) for i, number in enumerate(numbers)]


@given(lines=LINES, first=st.integers(1, 1_000))
def test_one_number_stands_for_lines_that_count_up(lines: list[bytes], first: int) -> None:
    """The number of the first line says the same as the numbers of all."""
    alone = rows(list(Intake(IntakeRules()).take(3, lines, first)))
    told = rows(list(Intake(IntakeRules()).take(3, lines, range(first, first + len(lines)))))
    assert alone == told


def test_numbers_are_told_for_every_slice() -> None:
    """Also beyond the lines that are judged at once."""
    count = 2 * SLICE_LINES + 1
    numbers = range(5, 5 + 2 * count, 2)
    taken = list(Intake(IntakeRules()).take(0, [GOOD] * count, numbers))
    assert [line for _, line in rows(taken)] == list(numbers)


@given(lines=LINES, cut=st.integers(0, 40), bad=st.booleans())
def test_a_part_goes_on_where_it_was(lines: list[bytes], cut: int, bad: bool) -> None:
    """Two intakes, one from the ordinal at which the other ended, number as one does."""
    whole, first, second = (Intake(IntakeRules()) for _ in range(3))
    expected = list(whole.take(3, lines[:cut], 1))
    expected += [unfit(whole, 90)] if bad else []
    expected += list(whole.take(3, lines[cut:], 100))
    found = list(first.take(3, lines[:cut], 1))
    found += [unfit(first, 90)] if bad else []
    second.begin(3, first.next_ordinal(3))
    found += list(second.take(3, lines[cut:], 100))
    assert rows(found) == rows(expected)
    assert second.next_ordinal(3) == whole.next_ordinal(3) == len(lines) + bad


def test_parts_are_numbered_by_themselves() -> None:
    """To begin one part somewhere leaves the others where they are."""
    intake = Intake(IntakeRules())
    intake.begin(3, 41)
    [(at, _)] = rows([unfit(intake, 9)])
    assert (part_of(at), ordinal_of(at)) == (3, 41)
    assert (intake.next_ordinal(3), intake.next_ordinal(4)) == (42, 0)
