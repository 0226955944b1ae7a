"""A segment can be cut anywhere and is read to its last whole append; room is never exceeded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.segments import (
    MARK,
    SEGMENTS,
    SpoolRules,
    framed,
    scanned,
    segment_name,
    segment_number,
    settled_segments,
    without_notes,
)

LINES = st.lists(st.binary(max_size=12).map(lambda b: b.translate(None, b"\n\x1e")), max_size=4)
NOTES = st.binary(max_size=12).map(lambda b: b.translate(None, b"\n"))
APPENDS = st.lists(st.tuples(LINES, NOTES), max_size=6)


@given(APPENDS, st.data())
def test_a_segment_that_was_cut_off_ends_with_its_last_whole_append(
    appends: list[tuple[list[bytes], bytes]], data: st.DataObject
) -> None:
    """Of an append with a note all is there or nothing, of another one whole lines are."""
    pieces = [framed(lines, note) for lines, note in appends]
    whole = b"".join(pieces)
    cut = data.draw(st.integers(0, len(whole)))
    found = scanned(whole[:cut])
    kept, at, notes = 0, 0, []
    for (_, note), piece in zip(appends, pieces, strict=True):
        at += len(piece)
        if at <= cut:
            kept = at
            notes += [(note, at)] if note else []
            continue
        if not note:
            kept = at - len(piece) + (whole[at - len(piece) : cut].rfind(b"\n") + 1)
        break
    assert found.end == kept
    assert found.lines == whole[:kept].count(b"\n")
    assert [(note.text, note.end) for note in found.notes] == notes


@given(APPENDS)
def test_a_reader_sees_lines_at_their_numbers(appends: list[tuple[list[bytes], bytes]]) -> None:
    """Notes are blank lines to it, and every other line is as it was appended."""
    data = b"".join(framed(lines, note) for lines, note in appends)
    seen = without_notes(data).split(b"\n")[:-1]
    expected = [line for lines, note in appends for line in ([b""] if note else []) + lines]
    assert seen == expected


@pytest.mark.parametrize("line", [b"a\nb", MARK + b"1 x"])
def test_a_line_that_would_be_read_as_another_is_refused(line: bytes) -> None:
    """Neither a line break in it, nor the mark of a note before it."""
    with pytest.raises(ValueError, match="line"):
        framed([line])


def test_a_mark_inside_of_a_line_is_a_byte_like_any_other() -> None:
    """Only where it begins a line it means something."""
    assert without_notes(framed([b"a" + MARK])) == b"a" + MARK + b"\n"
    assert scanned(framed([b"a" + MARK])).notes == ()


def test_a_note_with_a_line_break_is_refused() -> None:
    """It would be two lines."""
    with pytest.raises(ValueError, match="note"):
        framed([b"{}"], b"a\nb")


def test_a_mark_that_begins_no_note_is_a_line_that_is_kept() -> None:
    """What is damaged costs itself only: the lines after it were accepted."""
    data = MARK + b"no length\n" + framed([b"{}"], b"note")
    found = scanned(data)
    assert (found.end, found.lines, len(found.notes)) == (len(data), 3, 1)


@given(st.integers(0, 10**12))
def test_a_name_tells_its_number(number: int) -> None:
    """And names of eight digits sort like numbers."""
    assert segment_number(segment_name(number)) == number


@pytest.mark.parametrize("name", ["id", "1.ndjson", "00000001.ndjson.bak", "000000001.ndjson"])
def test_other_files_are_no_segments(name: str) -> None:
    """Nor are other spellings of a number: two files would be one segment."""
    assert segment_number(name) is None


@given(
    st.integers(SEGMENTS, 1_000),
    st.integers(1, 400),
    st.lists(st.tuples(st.integers(1, 300), st.booleans()), max_size=60),
)
def test_a_spool_keeps_no_more_than_it_may_and_never_locks_itself(
    cap: int, segment: int, appends: list[tuple[int, bool]]
) -> None:
    """Whatever may be appended at all fits once all is settled that came before the newest."""
    rules = SpoolRules(cap, segment)
    sizes = {1: 0}
    for nbytes, settle in appends:
        if settle:
            for number in settled_segments(sizes, sizes):
                del sizes[number]
        used, newest = sum(sizes.values()), max(sizes)
        if nbytes > rules.largest:
            assert not rules.fits(used, nbytes)
            continue
        if rules.fits(used, nbytes):
            if rules.rolls(sizes[newest], nbytes):
                newest += 1
            sizes[newest] = sizes.get(newest, 0) + nbytes
        else:
            for number in settled_segments(sizes, sizes):
                del sizes[number]
            assert rules.fits(sum(sizes.values()), nbytes)
        assert sum(sizes.values()) <= cap


@pytest.mark.parametrize(("cap", "segment"), [(SEGMENTS - 1, 1), (100, 0)])
def test_a_spool_that_could_keep_nothing_is_an_error(cap: int, segment: int) -> None:
    """It says what to raise."""
    with pytest.raises(ConfigError, match="raise spool_bytes"):
        SpoolRules(cap, segment)


@given(
    st.dictionaries(st.integers(1, 9), st.integers(0, 5)),
    st.dictionaries(st.integers(1, 9), st.integers(0, 5)),
)
def test_only_what_is_wholly_settled_may_go(sizes: dict[int, int], done: dict[int, int]) -> None:
    """And never the newest."""
    found = settled_segments(sizes, done)
    assert found == sorted(found)
    for number, size in sizes.items():
        may = number != max(sizes) and done.get(number, 0) >= size
        assert (number in found) == may
