"""Lines made into other lines: each keeps its number, and none is lost."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from ingest.messages import Unreadable
from ingest.sources.base import Block, Unfit
from ingest.sources.converting import converted


def doubled(line: bytes) -> bytes:
    """Make a line of a line; some make none, and some cannot be read."""
    if line.startswith(b"0"):
        return b""
    if line.startswith(b"9"):
        raise Unreadable("bad", "f", "it is a nine", "it is one of ten")
    return line + line


@given(st.lists(st.from_regex(r"[0-9a-c ]{0,3}", fullmatch=True), max_size=250), st.booleans())
def test_each_line_has_its_number_before_and_after(texts: list[str], ended: bool) -> None:
    """Whatever becomes of a line, the others keep theirs, and the next block begins behind it."""
    lines = [text.encode() for text in texts]
    block = Block(3, b"\n".join(lines) + b"\n" * ended, 7, 1_000)
    made = asyncio.run(converted(block, doubled))
    before = dict(zip(block.numbers(), block.lines(), strict=True))
    after = dict(zip(made.numbers(), made.lines(), strict=True))
    unfit = {row.line: row.raw for row in made.unfit}
    assert made.following == block.following
    assert (made.part, made.end_offset) == (3, 1_000)
    for number, text in before.items():
        if text.startswith(b"9"):
            assert (after[number], unfit[number]) == (b"", text)
        elif text.isspace() or text.startswith(b"0") or not text:
            assert not after[number].strip()
        else:
            assert after[number] == text + text


def test_marks_and_bad_rows_stay() -> None:
    """A line that was too long has no data, and a row that was bad is bad still."""
    mark = Block(0, b"", 5, 10, ((5, 99),))
    assert asyncio.run(converted(mark, doubled)) == mark
    row = Unfit(2, "old", "", "why", b"x")
    made = asyncio.run(converted(Block(0, b"9\na\n", 1, 4, unfit=(row,)), doubled))
    assert [(one.line, one.code) for one in made.unfit] == [(1, "bad"), (2, "old")]
    bad = made.unfit[0]
    assert (bad.field, bad.reason, bad.summary) == ("f", "it is a nine", "it is one of ten")
