"""CSV and TSV, read as blocks of NDJSON: one line for each row that makes a record.

This module decides which rows are surveyed before the first is read, and under which line each row
is known. What a column becomes is decided elsewhere (`Columns`); what a table's header and rows are
in `table`. Everything here may block; it is driven from a thread. Memory is constant, however large
the file, and however it is quoted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, Protocol

from ingest.errors import InputError
from ingest.proofs import Vouched
from ingest.sources import remote
from ingest.sources.base import MAX_LINE_BYTES, Block, Start, Unfit
from ingest.sources.dialects import TableOptions
from ingest.sources.formats import conclusive
from ingest.sources.inputs import Inputs
from ingest.sources.paths import StrPath
from ingest.sources.rows import TEXT_BYTES, Rows
from ingest.sources.streams import Stream
from ingest.sources.table import Header, Table

Progress = Callable[[int], None]
"""Told the raw bytes of all inputs that were read, now and then."""


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

    def findings(self) -> Any:
        """Return what was seen so far, to be handed to another process."""
        ...

    def join(self, later: Any, /) -> None:
        """Take findings of rows that follow those so far, of the same header, for seen."""
        ...

    def plan(self) -> Any:
        """Return what was decided, which `Columns.encoder` understands."""
        ...


class Beside(Protocol):
    """Surveys the latter half of the same tables elsewhere, at the same time."""

    def begin(self, part: int, offset: int, /) -> None:
        """Begin with what lies behind an offset of a part, and all parts after that one."""
        ...

    def found(self) -> Mapping[Header, Any] | None:
        """Wait for what was found, by headers; None if it cannot be known."""
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

    def plan(
        self, progress: Progress = lambda consumed: None, *, beside: Beside | None = None
    ) -> Mapping[Header, Any]:
        """Read every part whose header has no plan yet, decide its columns, and return all plans.

        `progress` is told the raw bytes read so far, of `total_bytes`; `beside` reads the latter
        half, if there is such a thing. Raises `InputError` if a part cannot be read to its end.
        """
        surveys = {header: self._survey(header) for header in self._unplanned()}
        middle = None if beside is None else self._middle(self._open_parts(surveys))
        if beside is not None and middle is not None:
            beside.begin(*middle)
        for part, rows in self._rows_of(surveys):
            place = (part, rows.end_offset)
            surveys[self.headers[part]].add(rows.rows)
            consumed = self._before[part] + rows.end_offset
            progress(consumed if middle is None or place > middle else 2 * consumed)
            if beside is None or place != middle or not rows.resumable:
                continue
            later = beside.found()
            if later is not None:
                for header, findings in later.items():
                    surveys[header].join(findings)
                break
        self.plans |= {header: survey.plan() for header, survey in surveys.items()}
        return self.plans

    def findings(self, part: int, offset: int) -> Mapping[Header, Any]:
        """Return what is seen behind an offset of a part, where a row begins, as `Beside` does.

        Raises as `plan` does.
        """
        surveys = {header: self._survey(header) for header in self._unplanned()}
        for at, rows in self._rows_of(surveys, part, offset):
            surveys[self.headers[at]].add(rows.rows)
        return {header: survey.findings() for header, survey in surveys.items()}

    def _open_parts(self, surveys: Mapping[Header, Surveying]) -> list[int]:
        needed = {header for header, survey in surveys.items() if survey.needed}
        return [part for part, header in self.headers.items() if header in needed]

    def _rows_of(
        self, surveys: Mapping[Header, Surveying], first: int = 0, offset: int = 0
    ) -> Iterator[tuple[int, Rows]]:
        """Yield (part, rows) of all parts to be surveyed, from an offset of the first one on."""
        for part in self._open_parts(surveys):
            if part >= first:
                with self._opened(part) as table:
                    for rows in table.rows(Start(offset if part == first else 0, 1, 0)):
                        yield part, rows

    def _middle(self, parts: Sequence[int]) -> tuple[int, int] | None:
        """Return (part, offset) in the middle of some parts where rows may well be parted.

        None where none can be told without reading.
        """
        half = sum(self.sizes[part] or 0 for part in parts) / 2
        for part in parts:
            size = self.sizes[part] or 0
            if half < size and not remote.is_url(self._paths[part]):
                with self._opened(part) as table:
                    offset = table.seam(int(half))
                return (part, offset) if offset else None
            half -= size
        return None

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
