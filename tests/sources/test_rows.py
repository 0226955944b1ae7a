"""Laws of reading rows: every cell, every number, and a bad row that costs its own line only."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sources.base import MAX_LINE_BYTES, split_blocks
from ingest.sources.rows import BAD_QUOTES, BAD_TEXT, ROW_TOO_LONG, RowReader, Rows

TEXTS = st.lists(
    st.sampled_from(['"', '"', "a", ",", "\n", "\r\n", '""', '"b,\nc"', "\r", "\0", "é", "x" * 9])
).map("".join)


def read(
    text: str | bytes, size: int = 64 * 1024, *, longest: int = MAX_LINE_BYTES, exact: bool = True
) -> list[Rows]:
    """Read text that comes in pieces of some size."""
    data = text.encode() if isinstance(text, str) else text
    given = 0

    def pieces() -> Iterator[bytes]:
        nonlocal given
        for start in range(0, len(data), size):
            given = min(start + size, len(data))
            yield data[start:given]

    blocks = split_blocks(pieces(), 0, max_line_bytes=longest, offset=lambda unread: given - unread)
    return list(RowReader(",", max_line_bytes=longest).read(blocks, exact=exact))


def told(found: list[Rows]) -> list[tuple[int, object]]:
    """What became of each row, in the order of the file."""
    rows: list[tuple[int, object]] = []
    for some in found:
        ours: list[tuple[int, object]] = list(zip(some.numbers, some.rows, strict=True))
        ours += [(row.line, (row.code, row.reason, row.raw)) for row in some.unfit]
        ours += some.oversize
        rows += sorted(ours, key=lambda row: row[0])
    return rows


@given(
    rows=st.lists(
        st.lists(
            st.text(
                alphabet=st.characters(exclude_characters="\0", codec="utf-8"),
                max_size=9,
            ),
            min_size=1,
            max_size=4,
        )
    ),
    size=st.integers(1, 50),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_a_writer_wrote_is_read(
    rows: list[list[str]], size: int, end: str, quoting: int
) -> None:
    """Any cells, with newlines and quotes in them, come back, under the line each begins on."""
    if quoting == csv.QUOTE_MINIMAL:  # Python 3.11 does not quote a return on its account
        rows = [[cell.replace("\r", "") for cell in row] for row in rows]
    text, line = io.StringIO(newline=""), 1
    writer = csv.writer(text, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]  # one of them
    expected = []
    for row in rows:
        expected.append((line, row))
        before = text.tell()
        writer.writerow(row)
        line += text.getvalue()[before:].count("\n")
    assert told(read(text.getvalue(), size)) == expected


@given(text=TEXTS, size=st.integers(1, 60), longest=st.integers(12, 60))
def test_how_text_is_cut_makes_no_difference(text: str, size: int, longest: int) -> None:
    """Whatever the text, rows, numbers, and what is bad about the others are the same."""
    whole = told(read(text, 10**6, longest=longest))
    assert told(read(text, size, longest=longest)) == whole
    numbers = [number for number, _ in whole]
    assert numbers == sorted(set(numbers))


@given(text=TEXTS, size=st.integers(1, 60), longest=st.integers(12, 60))
def test_reading_can_go_on_after_any_rows(text: str, size: int, longest: int) -> None:
    """From the offset and line that rows end with, the rest reads as it did."""
    found = read(text, size, longest=longest)
    data = text.encode()
    for at, rows in enumerate(found):
        if not rows.resumable:
            assert rows.unfit or rows.oversize or not rows.rows
            continue
        assert data[: rows.end_offset].count(b"\n") in (rows.next_line - 1, rows.next_line - 2)
        again = told(read(data[rows.end_offset :], longest=longest))
        shifted = [(number + rows.next_line - 1, what) for number, what in again]
        assert shifted == told(found[at + 1 :])


@given(text=TEXTS, size=st.integers(1, 60))
def test_every_line_with_text_is_accounted_for(text: str, size: int) -> None:
    """No line is passed over: it is blank, or part of a row or of what is told to be bad."""
    seen = set()
    for some in read(text, size):
        for number, stop in zip(some.numbers, some.stops, strict=True):
            seen |= set(range(number, stop))
        for row in some.unfit:
            seen |= set(range(row.line, row.line + row.raw.count(b"\n") + 1))
    for number, line in enumerate(text.split("\n"), 1):
        assert number in seen or not line.strip("\r")


def test_blank_lines_are_no_rows_and_keep_their_numbers() -> None:
    """A line with nothing on it is passed over, as in NDJSON."""
    assert told(read("a,b\n\n\r\nc,d")) == [(1, ["a", "b"]), (4, ["c", "d"])]


def test_a_quote_that_never_closes_costs_its_own_line() -> None:
    """The rows that it would have swallowed are read, at the end of the file as in its middle."""
    text = 'a,b\n"c,d\ne,f\ng,h\n'
    reason = "a cell that begins with a quote is never closed: its closing quote is missing"
    assert told(read(text)) == [
        (1, ["a", "b"]),
        (2, (BAD_QUOTES, reason, b'"c,d')),
        (3, ["e", "f"]),
        (4, ["g", "h"]),
    ]
    [_, (line, what), *rest] = told(read(text + 'i,"j"\n'))
    assert (line, what[0]) == (2, BAD_QUOTES)  # type: ignore[index]  # it is a tuple
    assert [number for number, _ in rest] == [3, 4, 5]


def test_a_quote_that_never_closes_takes_no_more_memory_than_a_line_may() -> None:
    """In a file of 6 MB it is given up after 100 kB, and told by the line that began it."""
    lines = b"".join(b"user%d,x\n" % number for number in range(10_000))
    count = 50
    blocks = split_blocks(
        (piece for piece in [b'"u,y\n', *[lines] * count]), 0, max_line_bytes=100_000
    )
    tracemalloc.start()
    try:
        numbers, bad = 0, []
        for rows in RowReader(",", max_line_bytes=100_000).read(blocks, exact=True):
            numbers += len(rows.rows)
            bad += rows.unfit
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [(row.line, row.code) for row in bad] == [(1, ROW_TOO_LONG)]
    assert numbers == 10_000 * count
    assert peak < 4_000_000


def test_any_number_of_bad_rows_may_come_together() -> None:
    """Each begins anew after the first line of the one before, and none of them inside of it."""
    text = 'u,"first\nsecond"bad\n' * 2_000 + "u,1\n"
    found = told(read(text.encode(), len(text)))
    assert [line for line, _ in found] == list(range(1, 4_002))
    assert found == told(read(text.encode(), 20))


def test_a_quote_inside_of_a_cell_has_to_be_doubled() -> None:
    """What a lenient reader would alter in silence is told; a quote amid plain text is text."""
    found = told(read('"a "b" c",1\n"a ""b"" c",2\n5" pipe,3\n'))
    assert [found[1], found[2]] == [(2, ['a "b" c', "2"]), (3, ['5" pipe', "3"])]
    bad = found[0][1]
    assert isinstance(bad, tuple)
    assert bad[0] == BAD_QUOTES


def test_the_rest_of_a_bad_row_does_not_pass_for_a_row() -> None:
    """Lines after it with a quote too many are told as well, up to the first good one."""
    found = told(read('u1,"a "b"\nu8",x\n\nu9"",",x\nu2,"c"\n5" pipe,d\n'))
    assert [number for number, _ in found] == [1, 2, 4, 5, 6]
    firsts = [what[0] for _, what in found if isinstance(what, list | tuple)]
    assert firsts == [BAD_QUOTES] * 3 + ["u2", '5" pipe']


def test_a_return_alone_is_told_and_is_text_between_quotes() -> None:
    """Outside of quotes nobody can say whether it ends a row."""
    [bad, good] = told(read('a\rb,1\n"a\rb",2\n'))
    assert bad[0] == 1
    assert "return stands alone" in bad[1][1]  # type: ignore[index]  # it is a tuple
    assert good == (2, ["a\rb", "2"])


@pytest.mark.parametrize(("cell", "words"), [(b"\xff", "no utf-8"), (b"\0", "NUL")])
def test_characters_that_are_none_cost_their_row(cell: bytes, words: str) -> None:
    """Nothing is replaced in silence: the row is told, with its bytes; its neighbours are read."""
    [rows] = read(b"a,1\nb" + cell + b',"2\n3"\r\nc,3\n')
    assert (rows.rows, list(rows.numbers)) == ([["a", "1"], ["c", "3"]], [1, 4])
    [bad] = rows.unfit
    assert (bad.line, bad.code, bad.raw) == (2, BAD_TEXT, b"b" + cell + b',"2\n3"')
    assert words in bad.reason


def test_a_line_too_long_ends_the_row_that_was_begun() -> None:
    """Both are told, and the lines around them are read."""
    found = told(read('a,"b\n' + "x" * 50 + "\nc,d\n", longest=20))
    assert [number for number, _ in found] == [1, 2, 3]
    assert found[1:] == [(2, 50), (3, ["c", "d"])]


def test_long_cells_are_read() -> None:
    """A cell may be as long as a line, many times what the standard library lets in by default."""
    text = "a" * 1_000_000
    assert told(read(f'1,"{text}\n"\n'))[0][1] == ["1", text + "\n"]


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_row_longer_than_a_line_may_be_is_told_even_if_it_ends(size: int) -> None:
    """Whether its end was read with it or later: its first line, and the rest for what it is."""
    found = told(read('"' + "x" * 9 + "\n" + "é" * 5 + '",b\nc,d\n', size, longest=15))
    assert [(number, what[0]) for number, what in found] == [  # type: ignore[index]  # each has one
        (1, ROW_TOO_LONG),
        (2, BAD_QUOTES),
        (3, "c"),
    ]
