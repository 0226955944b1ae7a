"""Rows of a text table: which line each begins on, and which cannot be read.

This module decides what a quote that never closes may take with it: its own line, and no more than
a line's bytes of memory. The cells are those of the standard library's reader, which is C. What a
cell means, and how many a row should have, it does not know; nor files and compression.

A line ends with a newline, with or without a return before it. A row that cannot be read costs its
first line only: reading goes on with the next one. Where that may be the rest of the bad row, by
its quotes, it is bad as well: half a row must not pass for one.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

import msgspec

from ingest.columns.grid import cut
from ingest.sources.base import MAX_LINE_BYTES, Block, Unfit, split_blocks

TEXT_BYTES: Final = 64 * 1024
"""Text read at a time: with the names of its columns a row is about twice as long as NDJSON."""

BAD_QUOTES: Final = "bad-quotes"
BAD_TEXT: Final = "bad-encoding"
ROW_TOO_LONG: Final = "line-too-long"

_UNDOUBLED: Final = (
    "a quoted cell goes on after its closing quote: a quote inside of it has to be doubled"
)
_RETURN: Final = "a return stands alone inside a cell that is not quoted"
_OPEN: Final = "a cell that begins with a quote is never closed: its closing quote is missing"
_FOLLOWS: Final = (
    "the line follows a row with bad quotes, and has an odd number of quotes itself: it may be the "
    "rest of that row"
)
_NUL: Final = "the row holds a NUL character: the file is damaged, or its encoding is another one"


class Rows(msgspec.Struct):
    """Some rows in the order of the file, and those that could not be read.

    `numbers` and `stops` hold the line each row begins on, and the one after its last; `data` is
    the text (UTF-8, whole lines) from line `first_line` on that they were read from. `oversize` is
    that of a `Block`. `end_offset` and `next_line` say what follows, and `resumable` whether it
    reads the same by itself.
    """

    rows: Sequence[list[str]]
    numbers: Sequence[int]
    stops: Sequence[int]
    unfit: list[Unfit]
    data: bytes
    first_line: int
    next_line: int
    end_offset: int
    oversize: tuple[tuple[int, int], ...] = ()
    resumable: bool = True

    def raw(self, row: int) -> bytes:
        """Return the text of a row as it lies in the file, without its end."""
        lines = self.data.split(b"\n")
        start, stop = self.numbers[row] - self.first_line, self.stops[row] - self.first_line
        return b"\n".join(lines[start:stop]).removesuffix(b"\r")


class RowReader:
    """Cuts text into rows by one delimiter; `encoding` is only for what people are told."""

    def __init__(
        self, delimiter: str, *, encoding: str = "utf-8", max_line_bytes: int = MAX_LINE_BYTES
    ) -> None:
        self._delimiter = delimiter
        self._most = max_line_bytes
        self._open = (
            f"the text of the row goes on for more than {max_line_bytes:,} bytes: perhaps the "
            "closing quote of a cell is missing"
        )
        self._undecodable = (
            f"the row holds bytes that are no {encoding}: give the file's own --encoding"
        )
        self._spread = False  # whether rows lately took several lines each
        self._wary = False  # whether what comes next may be the rest of a bad row
        self._begun: list[Block] = []  # the row whose end has not come yet, in whole lines
        self._begun_bytes = 0
        # It belongs to the whole process. Cells are as long as lines at most, so that nothing is
        # let in that was not bounded before.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES, max_line_bytes))

    def read(self, blocks: Iterable[Block], *, exact: bool) -> Iterator[Rows]:
        """Yield the rows of blocks of text in UTF-8; the last one may lack its newline.

        `exact` says that offsets are those of the text, so that they can be told for any line.
        """
        for block in blocks:
            if block.oversize:
                yield from self._end(exact)
                mark = block.oversize
                line = block.first_line
                resumable = not self._wary
                yield Rows([], (), (), [], b"", line, line + 1, block.end_offset, mark, resumable)
            else:
                yield from self._feed((block,), exact)
        yield from self._end(exact)

    def _feed(self, blocks: Iterable[Block], exact: bool) -> Iterator[Rows]:
        todo = deque(blocks)
        while todo:
            block = todo.popleft()
            if self._begun:
                self._begun.append(block)
                self._begun_bytes += len(block.data)
                if b'"' not in block.data and self._begun_bytes <= self._most:
                    continue  # nothing in it ends the row
                block = self._joined()
            yield from self._cut(block, exact, todo, last=False)

    def _end(self, exact: bool) -> Iterator[Rows]:
        """Read what is left, the row that is begun having no end."""
        while self._begun:
            todo = deque[Block]()
            yield from self._cut(self._joined(), exact, todo, last=True)
            yield from self._feed(todo, exact)

    def _joined(self) -> Block:
        first, last = self._begun[0], self._begun[-1]
        data = b"".join(block.data for block in self._begun)
        self._begun, self._begun_bytes = [], 0
        return Block(last.part, data, first.first_line, last.end_offset)

    def _cut(self, block: Block, exact: bool, todo: deque[Block], *, last: bool) -> Iterator[Rows]:
        """Yield the rows of whole lines; keep the row that is begun, and go on after a bad one.

        Before the blocks that are still `todo` comes what is to be read again.
        """
        rows, rest, again = self._parsed(block, exact, last=last)
        if rows.next_line > block.first_line:
            yield rows
        if rest is None:
            return
        if again:
            # The lines that a bad row had swallowed: as many at a time as otherwise.
            todo.extendleft(reversed(list(_pieces(rest, exact))))
        else:
            self._begun, self._begun_bytes = [rest], len(rest.data)

    def _parsed(self, block: Block, exact: bool, *, last: bool) -> tuple[Rows, Block | None, bool]:
        """Return (rows, the lines left over, whether those are to be read again from a new row)."""
        data, first = block.data, block.first_line
        try:
            text, doubtful = data.decode(), b"\0" in data
        except UnicodeDecodeError:
            text, doubtful = data.decode(errors="surrogateescape"), True
        rows = None
        if not (self._spread or self._wary):
            rows = None if doubtful else self._quickest(text, block)
            rows = rows or self._quick(text, block)
        rest: Block | None = None
        again = False
        if rows is None:
            rows, stop, again = self._slow(text, block, last=last)
            if stop < len(data):
                rest = Block(block.part, data[stop:], rows.next_line, block.end_offset)
                if exact:
                    rows.end_offset -= len(rest.data)
            lines = rows.next_line - first
            self._spread = len(rows.rows) + len(rows.unfit) < lines
        rows.resumable = not self._wary
        if doubtful:
            self._sift(rows)
        return rows, rest, again

    def _quickest(self, text: str, block: Block) -> Rows | None:
        """Return the rows if they can be cut by the delimiter alone."""
        grid = cut(text, self._delimiter)
        if grid is None:
            return None
        first, end = block.first_line, block.first_line + len(grid)
        numbers, stops = range(first, end), range(first + 1, end + 1)
        return Rows(grid, numbers, stops, [], block.data, first, end, block.end_offset)

    def _quick(self, text: str, block: Block) -> Rows | None:
        """Return the rows if each is a line of its own and all can be read."""
        reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=self._delimiter, strict=True)
        try:
            rows = list(reader)
        except csv.Error:
            return None
        first = block.first_line
        count = len(rows)
        if count != reader.line_num:
            return None
        end = first + count
        numbers: Sequence[int] = range(first, end)
        if [] in rows:
            numbers = [first + at for at, row in enumerate(rows) if row]
            rows = [row for row in rows if row]
        stops = range(first + 1, end + 1) if len(rows) == count else [n + 1 for n in numbers]
        return Rows(rows, numbers, stops, [], block.data, first, end, block.end_offset)

    def _slow(self, text: str, block: Block, *, last: bool) -> tuple[Rows, int, bool]:
        """Read row by row. Return (rows, the bytes of text done, whether to begin anew after)."""
        lines = list(io.StringIO(text, newline="\n"))
        first, total = block.first_line, len(lines)
        rows: list[list[str]] = []
        numbers: list[int] = []
        stops: list[int] = []
        unfit: list[Unfit] = []
        at, again = 0, False
        while at < total:
            done, problem, stop = at, "", at
            ran_out = _Flag()
            reader = csv.reader(
                chain(lines[at:] if at else lines, ran_out.raised()),
                delimiter=self._delimiter,
                strict=True,
            )
            try:
                for row in reader:
                    stop = at + reader.line_num
                    if stop - done > 1 and self._too_long(lines, done, stop):
                        problem = self._open
                        break
                    self._wary = self._wary and (not row or _is_odd(lines[done:stop]))
                    if row and self._wary:
                        raw = _bytes(lines[done]).rstrip(b"\r\n")
                        unfit.append(Unfit(first + done, BAD_QUOTES, "", _FOLLOWS, raw, table=True))
                    elif row:
                        rows.append(row)
                        numbers.append(first + done)
                        stops.append(first + stop)
                    done = stop
            except csv.Error:
                stop = at + reader.line_num
                if self._too_long(lines, done, stop):
                    problem = self._open
                elif not ran_out.up:
                    problem = _RETURN if _is_return(lines[done:stop]) else _UNDOUBLED
                elif last:
                    problem = _OPEN
            at = done
            if not problem:
                break  # all is read, or a row is begun
            code = ROW_TOO_LONG if problem is self._open else BAD_QUOTES
            raw = _bytes(lines[done]).rstrip(b"\r\n")
            unfit.append(Unfit(first + done, code, "", problem, raw, table=True))
            at, again = done + 1, stop - done > 1
            self._wary = True
            if again:
                break
        size = len(block.data) if at == total else len(_bytes("".join(lines[:at])))
        end = first + at
        found = Rows(rows, numbers, stops, unfit, block.data, first, end, block.end_offset)
        return found, size, again

    def _too_long(self, lines: Sequence[str], start: int, stop: int) -> bool:
        most = self._most
        # Characters are bytes at least, and four at most: hardly any row has to be measured.
        length = sum(map(len, lines[start:stop]))
        if 4 * length <= most:
            return False
        return length > most or sum(len(_bytes(line)) for line in lines[start:stop]) > most

    def _sift(self, rows: Rows) -> None:
        """Take out rows with characters that are none."""
        kept: list[int] = []
        for at, row in enumerate(rows.rows):
            joined = "".join(row)
            if "\0" in joined:
                reason = _NUL
            elif not _is_text(joined):
                reason = self._undecodable
            else:
                kept.append(at)
                continue
            rows.unfit.append(
                Unfit(rows.numbers[at], BAD_TEXT, "", reason, rows.raw(at), table=True)
            )
        rows.unfit.sort(key=lambda found: found.line)
        rows.numbers = [rows.numbers[at] for at in kept]
        rows.stops = [rows.stops[at] for at in kept]
        rows.rows = [rows.rows[at] for at in kept]


class _Flag:
    """Is up as soon as a reader asks for more lines than there are."""

    up = False

    def raised(self) -> Iterator[str]:
        self.up = True
        yield from ()


def _pieces(block: Block, exact: bool) -> Iterator[Block]:
    """Cut lines that came as one block into blocks of the usual size."""
    data, given = block.data, 0

    def cut() -> Iterator[bytes]:
        nonlocal given
        for start in range(0, len(data), TEXT_BYTES):
            piece = data[start : start + TEXT_BYTES]
            given += len(piece)
            yield piece

    def offset(unread: int) -> int:
        return block.end_offset - (len(data) - given + unread if exact else 0)

    return split_blocks(
        cut(), block.part, max_line_bytes=len(data), offset=offset, line=block.first_line
    )


def _is_odd(lines: Sequence[str]) -> bool:
    """Whether a row is one line with an odd number of quotes, of which one is no cell's."""
    return len(lines) == 1 and lines[0].count('"') % 2 == 1


def _is_return(lines: Sequence[str]) -> bool:
    """Whether it is a return, and no quote, that a row stumbled over."""
    return '"' not in lines[0] and "\r" in lines[0].rstrip("\r\n")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
