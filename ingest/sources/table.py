"""One opened text table: its header, and the rows after it.

This module decides what a table's header is, and what parts its cells. How bytes become rows is
decided in `rows`, and how they become text in `streams`. Everything here may block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from ingest.errors import InputError
from ingest.sources.base import MAX_LINE_BYTES, Start, split_blocks
from ingest.sources.dialects import UTF8, TableOptions, sniffed, transcoded
from ingest.sources.formats import UTF8_BOM, foreign, plain_name
from ingest.sources.rows import RowReader, Rows
from ingest.sources.streams import Broken, Stream

Header = tuple[str, ...]

_SEPARATOR_LINE: Final = "sep="
"""What spreadsheets write before the header to tell themselves the delimiter."""


class Table:
    """One opened text table whose header was read. Raises `InputError` for what has none."""

    def __init__(
        self,
        stream: Stream,
        part: int,
        options: TableOptions,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self.part = part
        self._stream = stream
        self._encoding = options.encoding
        self._most = max_line_bytes
        self._refuse_foreign(stream.head)
        head = b"".join(self._utf8([stream.head])).decode(errors="replace").lstrip("\r\n")
        separator = self._separator(head)
        self.delimiter: Final = (
            options.delimiter
            or separator
            or sniffed(head, tabbed=plain_name(stream.name).endswith((".tsv", ".tab")))
        )
        self._rest = self._read(self._utf8(stream.pieces(bom=b"")), 1)
        self.cells: Final = self._header(bool(separator))
        """The cells of the header as they are; none if there is nothing in the file."""
        self.header: Final[Header] = tuple(map(str.strip, self.cells))
        """The names of the columns."""

    def rows(self, start: Start) -> Iterator[Rows]:
        """Yield the rows after the header, or after a start; once. Raises `InputError`."""
        found = self._rest
        if start.offset and self._exact and self._stream.seekable:
            found = self._read(self._stream.pieces_from(start.offset), start.line)
        following = start.line
        try:
            for rows in found:
                if rows.next_line > start.line:
                    following = rows.next_line
                    yield rows if rows.first_line >= start.line else _after(rows, start.line)
        except Broken as broken:
            read = f"Its first {following - 1:,} lines were read, the rest was not"
            raise self._stream.sentence(broken, read) from None

    def seam(self, near: int) -> int:
        """Return the raw offset of a line where rows are likely to be parted; see `Stream.seam`.

        0 if that cannot be told. Nothing can be read any more.
        """
        return self._stream.seam(near) if self._exact and self._stream.seekable else 0

    @property
    def _exact(self) -> bool:
        return self._stream.exact and self._encoding == UTF8

    def _utf8(self, pieces: Iterable[Any]) -> Iterator[Any]:
        """Yield text in UTF-8, without a mark of byte order."""
        text = pieces if self._encoding == UTF8 else transcoded(pieces, self._encoding)
        first = True
        for piece in text:
            yield piece.removeprefix(UTF8_BOM) if first else piece
            first = False

    def _read(self, pieces: Iterable[Any], line: int) -> Iterator[Rows]:
        blocks = split_blocks(
            pieces, self.part, max_line_bytes=self._most, offset=self._stream.offset, line=line
        )
        reader = RowReader(self.delimiter, encoding=self._encoding, max_line_bytes=self._most)
        return reader.read(blocks, exact=self._exact)

    def _header(self, separated: bool) -> list[str]:
        """Read the first row, and leave the others to be read."""
        name = self._stream.name
        try:
            for rows in self._rest:
                if rows.unfit and (not rows.rows or rows.unfit[0].line < rows.numbers[0]):
                    first = rows.unfit[0]
                    raise InputError(
                        f"{name} has no header that can be read: line {first.line}: {first.reason}."
                    )
                if rows.oversize:
                    raise InputError(f"{name} has no header: its first line is too long for one.")
                if not rows.rows:
                    continue
                if separated:
                    separated = False
                    rows = _after(rows, rows.stops[0])
                    if not rows.rows:
                        continue
                self._rest = _chained(_after(rows, rows.stops[0]), self._rest)
                return rows.rows[0]
        except Broken as broken:
            raise self._stream.sentence(broken, "Nothing of it was read") from None
        return []

    def _separator(self, head: str) -> str | None:
        line = head.partition("\n")[0].rstrip("\r")
        told = line[len(_SEPARATOR_LINE) :]
        found = line[: len(_SEPARATOR_LINE)].lower() == _SEPARATOR_LINE and len(told) == 1
        return told if found and told != '"' else None

    def _refuse_foreign(self, head: bytes) -> None:
        if self._encoding != UTF8 or (what := foreign(head)) is None:
            return
        name = self._stream.name
        if "UTF-16" in what or "UTF-32" in what:
            encoding = "utf-16" if "UTF-16" in what else "utf-32"
            raise InputError(f"{name} is {what}: say so by  --encoding {encoding}")
        raise InputError(f"{name} is {what}, and no CSV or TSV: unpack or convert it first.")


def _chained(first: Rows, rest: Iterator[Rows]) -> Iterator[Rows]:
    yield first
    yield from rest


def _after(rows: Rows, line: int) -> Rows:
    """Return what begins on a line or after it."""
    skipped = sum(number < line for number in rows.numbers)
    return msgspec.structs.replace(
        rows,
        rows=rows.rows[skipped:],
        numbers=rows.numbers[skipped:],
        stops=rows.stops[skipped:],
        unfit=[row for row in rows.unfit if row.line >= line],
    )
