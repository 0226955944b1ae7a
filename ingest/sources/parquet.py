"""Parquet files, read as blocks of NDJSON: one line for each row that makes a record.

This module decides how the types of a file become plain values: times stay times, decimals stay
decimals, a map is an object, what is null is None. What becomes of a value it does not know
(`Columns`). It is the one module that imports pyarrow (extra `files`). A row's line is its number
in the file, from 1. Everything here may block; it is driven from a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, BinaryIO, Final

import msgspec

from ingest.errors import InputError, MissingExtra
from ingest.sources.base import Block, Unfit
from ingest.sources.inputs import Inputs
from ingest.sources.paths import STDIN, StrPath, why
from ingest.sources.remote import is_url
from ingest.sources.table import Header
from ingest.sources.tables import Columns, Encoding, Progress

BATCH_ROWS: Final = 1_024
"""Rows made into values at a time: a block is some 200 kB of NDJSON then."""

BUFFER_BYTES: Final = 1024 * 1024
"""Bytes read ahead for each column, so that a row group is not held as a whole."""

_EPOCH: Final = datetime(1970, 1, 1)
_EPOCH_UTC: Final = _EPOCH.replace(tzinfo=UTC)
_EPOCH_DAY: Final = _EPOCH.toordinal()

_Values = tuple[Any, ...]


class Values(msgspec.Struct):
    """Some rows in the order of the file; `first` is the 1-based number of the first of them."""

    rows: list[_Values]
    first: int
    end_offset: int

    @property
    def next_line(self) -> int:
        """The number of the row that follows."""
        return self.first + len(self.rows)


class ParquetSource(Inputs):
    """The Parquet files named by paths, directories, globs and URLs, as one sequence of blocks.

    Everything that can be known before reading is checked here. Where `plans` says what the columns
    of a header become, `columns` is not asked for it. A start is found by its line, and
    `end_offset` is the share of the file that was read, in bytes: for progress. Raises
    `InputError`, `MissingExtra`, and what `columns` raises.
    """

    def __init__(
        self,
        paths: Sequence[StrPath],
        columns: Columns,
        *,
        plans: Mapping[Header, Any] | None = None,
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        super().__init__(paths, tables=True)
        self._columns = columns
        self._batch_rows = batch_rows
        self.plans: dict[Header, Any] = dict(plans or {})
        """What the columns of each header become."""
        self.headers: dict[int, Header] = {}
        """The names of the columns of each part."""
        self.types: dict[Header, dict[str, str]] = {}
        """What columns are to be called as text, by header and name; of the first of its parts."""
        for part in range(len(self)):
            if not self.readable_again(part):
                raise InputError(
                    f"{self.name(part)} is a stream; Parquet is read from its end, and needs a "
                    "file: save it first."
                )
            with self._opened(part) as file:
                header = self.headers[part] = tuple(file.schema_arrow.names)
                self.types.setdefault(header, _text_types(file.schema_arrow))
            if header not in self.plans:
                try:
                    survey = columns.survey(header, guess=False, typed=True)
                except InputError as error:
                    raise InputError(f"{self.name(part)}: {error}") from None
                self.plans[header] = survey.plan()

    def plan(self, progress: Progress = lambda consumed: None) -> Mapping[Header, Any]:
        """Return all plans; nothing has to be read for them."""
        return self.plans

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of all files in order. Raises `InputError` for one that is damaged."""
        for part in self.headers:
            yield from self.blocks_of(part)

    def blocks_of(self, part: int) -> Iterator[Block]:
        """Yield the blocks of one file. Raises as `blocks` does."""
        header = self.headers[part]
        encoder = self._columns.encoder(self.plans[header])
        for values in self.values(part, first=self.start(part).line):
            yield _encoded(values, part, encoder, header)

    def values(self, part: int, *, first: int = 1) -> Iterator[Values]:
        """Yield the rows of a part, from row `first` on. Raises `InputError`."""
        with self._opened(part) as file:
            done, size = 1, self.sizes[part] or 0
            total = max(1, file.metadata.num_rows)
            try:
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    if done + rows <= first:
                        done += rows
                        continue
                    for batch in file.iter_batches(self._batch_rows, row_groups=[group]):
                        found = _rows(batch)
                        start, done = done, done + len(found)
                        if done > first:
                            skipped = max(0, first - start)
                            offset = size * (done - 1) // total
                            yield Values(found[skipped:], start + skipped, offset)
            except _errors() as error:
                raise InputError(
                    f"{self.name(part)} is damaged: it cannot be read after row {done - 1:,} "
                    f"({type(error).__name__}). Get the whole file and run again."
                ) from None

    @contextmanager
    def _opened(self, part: int) -> Iterator[Any]:
        try:
            from pyarrow import parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]  # an extra
        except ImportError:
            raise MissingExtra(f"Reading {self.name(part)}", "files") from None
        path = self._paths[part]
        elsewhere: BinaryIO | None = self.open(part) if is_url(path) or path == STDIN else None
        try:
            try:
                file = parquet.ParquetFile(
                    elsewhere or path, buffer_size=BUFFER_BYTES, pre_buffer=False
                )
            except OSError as error:
                raise InputError(f"{self.name(part)} cannot be opened: {why(error)}.") from None
            except _errors():
                raise InputError(
                    f"{self.name(part)} is no whole Parquet file: its end is missing or damaged. "
                    "Get the whole file and run again."
                ) from None
            with file:
                yield file
        finally:
            if elsewhere is not None:
                elsewhere.close()


def _errors() -> tuple[type[Exception], ...]:
    import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]  # an extra

    return (pyarrow.ArrowException, OSError)


def _encoded(values: Values, part: int, encoder: Encoding, header: Header) -> Block:
    numbers: Sequence[int] = range(values.first, values.next_line)
    lines = encoder.encode_values(values.rows)
    unfit: list[Unfit] = []
    kept: list[bytes] = []
    kept_numbers: list[int] = []
    if any(type(line) is not bytes for line in lines):
        for number, line, row in zip(numbers, lines, values.rows, strict=True):
            if isinstance(line, bytes):
                kept.append(line)
                kept_numbers.append(number)
            else:
                raw = raw_row(header, row)
                told = (line.code, line.field, line.reason)
                unfit.append(Unfit(number, *told, raw, line.summary, line.who, table=True))
        lines, numbers = kept, kept_numbers
    return Block(
        part,
        b"\n".join(lines),  # type: ignore[arg-type]  # what is no line was taken out
        numbers[0] if lines else values.first,
        values.end_offset,
        (),
        numbers,
        tuple(unfit),
        values.next_line,
    )


def _text_types(schema: Any) -> dict[str, str]:
    """Return the type that the text of each column's values has in a table of text."""
    from pyarrow import types  # only a schema has led here

    tests = (
        ("string", ("is_string", "is_large_string")),
        ("boolean", ("is_boolean",)),
        ("integer", ("is_integer",)),
        ("number", ("is_floating", "is_decimal")),
        ("date", ("is_timestamp", "is_date")),
        ("json", ("is_list", "is_large_list", "is_struct", "is_map")),
    )
    return {
        field.name: name
        for field in schema
        for name, of in tests
        if any(getattr(types, each)(field.type) for each in of)
    }


def raw_row(header: Sequence[str], row: Sequence[Any]) -> bytes:
    """Return a row as text, for people: its values by name, as Python shows them."""
    return ", ".join(f"{n}={v}" for n, v in zip(header, row, strict=True) if v is not None).encode(
        errors="replace"
    )


def _rows(batch: Any) -> list[_Values]:
    """Return the rows of a batch as plain values."""
    columns = []
    for column in batch.columns:
        values = _times(column) or _coarse(column).to_pylist()
        if (plain := _plain(column.type)) is not None:
            values = [None if value is None else plain(value) for value in values]
        columns.append(values)
    return list(zip(*columns, strict=True)) if columns else []


def _times(column: Any) -> list[Any] | None:
    """Return the values of a column of days or of moments; None for any other.

    The package makes them one by one, ten times slower. Moments with a zone come in UTC. What lies
    beyond the years that Python knows stays the number that it is.
    """
    import pyarrow as pa

    types = pa.types
    make: Callable[[int], Any]
    if types.is_date32(column.type):
        numbers, make = column.cast(pa.int32()), _day
    elif types.is_timestamp(column.type):
        micro = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        numbers = micro.cast(pa.int64())
        make = _local if column.type.tz is None else _moment
    else:
        return None
    found = numbers.to_pylist()
    try:
        return [None if number is None else make(number) for number in found]
    except (OverflowError, ValueError):
        return [None if number is None else _tried(make, number) for number in found]


def _day(number: int) -> date:
    return date.fromordinal(_EPOCH_DAY + number)


def _local(number: int) -> datetime:
    return _EPOCH + timedelta(microseconds=number)


def _moment(number: int) -> datetime:
    return _EPOCH_UTC + timedelta(microseconds=number)


def _tried(make: Callable[[int], Any], number: int) -> Any:
    try:
        return make(number)
    except (OverflowError, ValueError):
        return number


def _coarse(column: Any) -> Any:
    """Return a column whose times have microseconds at most: Python's have no more."""
    coarse = _micro(column.type)
    return column if coarse == column.type else column.cast(coarse, safe=False)


def _micro(kind: Any) -> Any:
    import pyarrow as pa

    types = pa.types
    if types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if types.is_struct(kind):
        return pa.struct([field.with_type(_micro(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(kind.key_type, kind.item_field.with_type(_micro(kind.item_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_micro(kind.value_type)))
    if types.is_fixed_size_list(kind):
        inner = kind.value_field.with_type(_micro(kind.value_type))
        return pa.list_(inner, kind.list_size)
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_micro(kind.value_type)))
    return kind


def _plain(kind: Any) -> Callable[[Any], Any] | None:
    """Return what makes objects of the maps inside of a type; None where it has none."""
    import pyarrow as pa

    types = pa.types
    if types.is_map(kind):
        inner = _plain(kind.item_type)
        return lambda pairs: {str(key): _applied(inner, value) for key, value in pairs}
    if types.is_struct(kind):
        fields = {field.name: found for field in kind if (found := _plain(field.type))}
        if fields:
            return lambda value: {
                name: _applied(fields.get(name), inner) for name, inner in value.items()
            }
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        item = _plain(kind.value_type)
        if item is not None:
            return lambda values: [_applied(item, value) for value in values]
    return None


def _applied(plain: Callable[[Any], Any] | None, value: Any) -> Any:
    return value if plain is None or value is None else plain(value)
