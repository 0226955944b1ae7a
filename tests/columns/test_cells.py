"""What cells are by their text, alone and by the column."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.columns.cells import GUESSES, all_finite, all_integers

CELLS = st.one_of(
    st.sampled_from(
        ["0.5", "12", "-0", "1e5", "true", "[1]", "{}", "2024-01-31", "x", "1,2", "[1"]
    ),
    st.text(max_size=6),
    st.integers().map(str),
    st.floats().map(repr),
).filter(bool)


@pytest.mark.parametrize(
    "cell", ["0", "0.5", "-12", "1e5", "1E-5", "0.50", "9223372036854775807", "0.30000000000000004"]
)
def test_numbers(cell: str) -> None:
    """What JSON says is a number, and a double or 64 bits carry."""
    assert GUESSES["number"]([cell])


@pytest.mark.parametrize(
    "cell",
    [
        *(
            "01234",
            "+49",
            ".5",
            "5.",
            "0x1",
            "1_000",
            "1,000",
            "NaN",
            "Infinity",
            "1e400",
            "1e-400",
        ),
        *(" 1", "1 ", "1\n", "\u0661", "9223372036854775808", "123456789012345678901234567890"),
        *("0.1234567890123456789", "1e-99999999999999999999", "true", "[1]", '"1"', "--1", "-"),
    ],
)
def test_no_numbers(cell: str) -> None:
    """What a spreadsheet may take for one, or what would be rounded, stays text."""
    assert not GUESSES["number"]([cell])


def test_a_forced_number_may_be_rounded() -> None:
    """A person's word counts for more than the last digits; what is infinite is none."""
    assert all_finite(["0.1234567890123456789", "123456789012345678901234567890"])
    assert not all_finite(["1e400"])


def test_integers() -> None:
    """Whole numbers of 64 bits, written as such."""
    assert all_integers(["0", "-9223372036854775808", "9223372036854775807"])
    assert all_integers([])
    assert not any(all_integers([c]) for c in ("1.0", "1e3", "9223372036854775808", "x", "01"))


@pytest.mark.parametrize("cell", ["yes", "no", "1", "t", "true "])
def test_booleans_are_two_words(cell: str) -> None:
    """True and false in any case, and no other word, are booleans by themselves."""
    assert GUESSES["boolean"](["true", "FALSE", "True"])
    assert not GUESSES["boolean"](["true", cell])


@settings(deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=6))
def test_a_column_is_what_each_of_its_cells_is(cells: list[str]) -> None:
    """What is said of a whole column is what is said of all its cells, one by one."""
    for test in (*GUESSES.values(), all_finite, all_integers):
        assert test(cells) == all(test([cell]) for cell in cells)


@settings(deadline=None)
@given(CELLS)
def test_a_cell_is_of_one_type_at_most(cell: str) -> None:
    """So the order in which types are tried changes nothing."""
    assert sum(test([cell]) for test in GUESSES.values()) <= 1
