"""CSV and TSV, read as blocks of NDJSON: one line for each row that makes a record.

This module decides what a table's header and rows are, and under which line each row is known. What
a column becomes is decided elsewhere (`Columns`); how bytes become rows in `rows`, and text in
`streams`. Everything here may block; it is driven from a thread. Memory is constant, however large
the file, and however it is quoted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from ingest.errors import InputError
from ingest.proofs import Vouched
from ingest.sources.base import MAX_LINE_BYTES, Block, Start, Unfit, split_blocks
from ingest.sources.dialects import UTF8, TableOptions, sniffed, transcoded
from ingest.sources.formats import UTF8_BOM, conclusive, foreign, plain_name
from ingest.sources.inputs import Inputs
from ingest.sources.paths import StrPath
from ingest.sources.rows import TEXT_BYTES, RowReader, Rows
from ingest.sources.streams import Broken, Stream

Header = tuple[str, ...]

Progress = Callable[[int], None]
"""Told the raw bytes of all inputs that were read, now and then."""

_SEPARATOR_LINE: Final = "sep="
"""What spreadsheets write before the header to tell themselves the delimiter."""


class Refused(Protocol):
    """Why a row makes no record."""

    @property
    def code(self) -> str: ...
    @property
    def field(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def who(self) -> bytes: ...


class Surveying(Protocol):
    """Looks at the rows of one header, to decide what each column is.

    `needed` tells whether it has anything to learn from them.
    """

    @property
    def needed(self) -> bool: ...

    def add(self, rows: Sequence[Sequence[str]], /) -> None:
        """Look at some rows."""
        ...

    def plan(self) -> Any:
        """Return what was decided, which `Columns.encoder` understands."""
        ...


class Encoding(Protocol):
    """Makes records of rows."""

    def encode(self, rows: Sequence[Sequence[str]], /) -> Sequence[bytes | Refused]:
        """Return a line of NDJSON for each row, or why it makes none."""
        ...

    def encode_values(self, rows: Sequence[Sequence[Any]], /) -> Sequence[bytes | Refused]:
        """Do the same for rows whose values have types already."""
        ...

    def vouch(
        self, rows: Sequence[Sequence[str]], /
    ) -> tuple[Vouched, Mapping[int, Refused]] | None:
        """Return what `encode` says, as columns: the objects, and row -> why for the others.

        None where nothing is known of the objects; `encode` has to be asked then.
        """
        ...


class Columns(Protocol):
    """How columns become records: `ingest.columns`, with what the user said of them."""

    def survey(self, header: Header, /, *, guess: bool, typed: bool) -> Surveying:
        """Return an empty survey. Raises `IngestError` for a header that makes no records.

        Without `guess` no row will be looked at; `typed` says that values have types already.
        """
        ...

    def encoder(self, plan: Any, /) -> Encoding:
        """Return what encodes the rows of a plan."""
        ...


class TableSource(Inputs):
    """The text tables named by paths, directories, globs and URLs, as one sequence of blocks.

    Everything that can be known before reading is checked here, as `FileSource` does it. Where
    `plans` says what the columns of a header become, nothing is surveyed for it; those of the
    others are surveyed over all their files before the first block. A stream (stdin, a pipe)
    is planned by its header alone. Raises `InputError`, `MissingExtra`, and what `columns` raises.
    """

    def __init__(
        self,
        paths: Sequence[StrPath],
        columns: Columns,
        *,
        options: TableOptions | None = None,
        plans: Mapping[Header, Any] | None = None,
        stdin: BinaryIO | None = None,
        text_bytes: int = TEXT_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        super().__init__(paths, stdin=stdin, tables=True)
        self._columns = columns
        self._options = (options or TableOptions()).checked()
        self.plans: dict[Header, Any] = dict(plans or {})
        """What the columns of each header become, as far as it is decided."""
        self._text_bytes = text_bytes
        self._max_line_bytes = max_line_bytes
        self.headers: dict[int, Header] = {}
        """The names of the columns of each part that could be looked at before reading."""
        for part in range(len(self)):
            if self.readable_again(part):
                with self._opened(part) as table:
                    if table.header:
                        self.headers[part] = table.header
        for header in self._unplanned():
            self._survey(header)  # what makes no records is said before anything is read

    def plan(self, progress: Progress = lambda consumed: None) -> Mapping[Header, Any]:
        """Read every part whose header has no plan yet, decide its columns, and return all plans.

        `progress` is told the raw bytes read so far, of `total_bytes`. Raises `InputError` if a
        part cannot be read to its end.
        """
        surveys = {header: self._survey(header) for header in self._unplanned()}
        for part, header in self.headers.items():
            if header not in surveys or not surveys[header].needed:
                continue
            with self._opened(part) as table:
                for rows in table.rows(Start(0, 1, 0)):
                    surveys[header].add(rows.rows)
                    progress(self._before[part] + rows.end_offset)
        self.plans |= {header: survey.plan() for header, survey in surveys.items()}
        return self.plans

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of all inputs in order; blocks the caller, so drive it from a thread.

        Raises `InputError` if an input cannot be read to its end, after the blocks before the
        damage were handed out. Streams are opened and looked at before the first block.
        """
        self.plan()
        with ExitStack() as stack:
            streams = {
                part: stack.enter_context(self._opened(part))
                for part in range(len(self))
                if not self.readable_again(part)
            }
            for table in streams.values():
                if table.header and table.header not in self.plans:
                    self.plans[table.header] = self._survey(table.header, guess=False).plan()
            for part in range(len(self)):
                if part in streams:
                    yield from self._encoded(streams[part])
                else:
                    yield from self.blocks_of(part)

    def blocks_of(self, part: int) -> Iterator[Block]:
        """Yield the blocks of one input whose columns are planned. Raises as `blocks` does."""
        if part in self.headers:
            with self._opened(part) as table:
                yield from self._encoded(table)

    def _unplanned(self) -> list[Header]:
        return [name for name in dict.fromkeys(self.headers.values()) if name not in self.plans]

    def _survey(self, header: Header, *, guess: bool = True) -> Surveying:
        try:
            return self._columns.survey(header, guess=guess, typed=False)
        except InputError as error:
            where = next((self.name(part) for part, h in self.headers.items() if h == header), "")
            raise InputError(f"{where or 'stdin'}: {error}") from None

    def rows(self, part: int) -> Iterator[Rows]:
        """Yield the rows of a part as they are in the file, the one after its header first.

        Raises `InputError` as `blocks` does.
        """
        with self._opened(part) as table:
            yield from table.rows(Start(0, 1, 0))

    def top(self, part: int) -> tuple[list[str], str]:
        """Return (the cells of a part's header as they are, what parts its cells)."""
        with self._opened(part) as table:
            return table.cells, table.delimiter

    @contextmanager
    def _opened(self, part: int) -> Iterator[Table]:
        file = self.open(part)
        try:
            stream = Stream(file, self.name(part), self._text_bytes, conclusive)
            yield Table(stream, part, self._options, self._max_line_bytes)
        finally:
            self.close(part, file)

    def _encoded(self, table: Table) -> Iterator[Block]:
        if table.header:
            encoder = self._columns.encoder(self.plans[table.header])
            yield from encoded(table.rows(self.start(table.part)), table.part, encoder)


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


def encoded(found: Iterable[Rows], part: int, encoder: Encoding) -> Iterator[Block]:
    """Yield a block for some rows, with the number of each, and those that make no record."""
    for rows in found:
        told = encoder.vouch(rows.rows) if rows.rows else None
        data, refused, vouched = b"", dict[int, Refused](), None
        if told is not None:
            vouched, refused = told[0], dict(told[1])
        elif rows.rows:
            lines = encoder.encode(rows.rows)
            good = [line for line in lines if type(line) is bytes]
            data = b"\n".join(good)
            if len(good) < len(lines):
                refused = {at: why for at, why in enumerate(lines) if not isinstance(why, bytes)}
        unfit, numbers = rows.unfit, rows.numbers
        if refused:
            unfit = sorted(
                [*unfit, *(_unfit(why, rows, at) for at, why in refused.items())],
                key=lambda row: row.line,
            )
            numbers = [n for at, n in enumerate(numbers) if at not in refused]
        yield Block(
            part,
            data,
            numbers[0] if numbers else rows.first_line,
            rows.end_offset,
            rows.oversize,
            numbers,
            tuple(unfit),
            rows.next_line,
            rows.resumable,
            vouched,
        )


def _unfit(refused: Any, rows: Rows, at: int) -> Unfit:
    line, raw = rows.numbers[at], rows.raw(at)
    told = (refused.code, refused.field, refused.reason)
    return Unfit(line, *told, raw, refused.summary, refused.who, table=True)


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
