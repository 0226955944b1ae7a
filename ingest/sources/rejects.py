"""Bad rows, back in their own columns: a CSV file to mend and to import again.

This module decides how a row is told again: its own cells as they are, with `_line` and `_reason`
before them, so that a row with too many or too few cells still has as many. A row that could not be
read at all is one cell that holds its text. Columns that begin with `_` are ignored by an import.
It reads the input a second time, in constant memory.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Final, NamedTuple

from ingest.appending import PRIVATE, append, close_synced
from ingest.codec import dumps
from ingest.errors import LocalFailure
from ingest.sources.parquet import ParquetSource
from ingest.sources.tables import TableSource

NOTES: Final = ("_line", "_reason")
"""What is put before the columns of the input."""

SOURCE_NOTE: Final = "_source"
"""Put before those where rows are of several inputs."""

ALL_NOTES: Final = (SOURCE_NOTE, *NOTES)
"""Columns of a file of bad rows that its input has not."""

BUFFER_CHARACTERS: Final = 64 * 1024
"""Text written at a time."""

Reasons = Iterable[tuple[int, str]]
"""(line, why) in the order of the lines; a line may have several reasons."""

_Row = tuple[int, Sequence[str]]


class Rejects(NamedTuple):
    """A file of bad rows: how many, and the names of the columns in the input that they are of.

    `types` are those that the columns had in the input, by name, where it says them.
    """

    path: Path
    rows: int
    header: tuple[str, ...]
    types: Mapping[str, str] = {}


def write_rejects(
    source: TableSource | ParquetSource,
    reasons: Mapping[int, Reasons],
    path: Path,
    *,
    after: int = 0,
) -> list[Rejects]:
    """Write the rows of each part on the lines that have a reason; return the files.

    One file for each header: `path`, then the same with -2, -3 before its ending. Each is private
    to the user, written anew, and appears only once it is whole. Lines that hold no row are passed
    over; without a row there is no file. `after` files were written before. Raises `InputError` if
    the input cannot be read again, `LocalFailure` if a file cannot be written.
    """
    groups: dict[tuple[tuple[str, ...], str], list[int]] = {}
    for part in sorted(reasons):
        if part in source.headers:
            delimiter = source.top(part)[1] if isinstance(source, TableSource) else ","
            groups.setdefault((source.headers[part], delimiter), []).append(part)
    written: list[Rejects] = []
    for (header, delimiter), parts in groups.items():
        number = after + len(written) + 1
        end = f"-{number}" if number > 1 else ""
        file = path.with_name(f"{path.stem}{end}{path.suffix}")
        rows = _told(source, parts, reasons)
        if count := _write(file, rows, delimiter):
            types = source.types[header] if isinstance(source, ParquetSource) else {}
            written.append(Rejects(file, count, header, types))
    return written


def _told(
    source: TableSource | ParquetSource, parts: Sequence[int], reasons: Mapping[int, Reasons]
) -> Iterator[list[str]]:
    """Yield the header and the rows of some parts that share it."""
    several = len(parts) > 1
    notes = [*([SOURCE_NOTE] if several else []), *NOTES]
    for at, part in enumerate(parts):
        # A file of bad rows that was mended may have bad rows in turn: old notes go.
        kept = [i for i, name in enumerate(source.headers[part]) if name not in ALL_NOTES]
        width = len(source.headers[part])
        if not at:
            cells = (
                source.top(part)[0]
                if isinstance(source, TableSource)
                else list(source.headers[part])
            )
            yield [*notes, *(cells[i] for i in kept)]
        name = [source.name(part)] if several else []
        rows = (
            _text_rows(source, part)
            if isinstance(source, TableSource)
            else _value_rows(source, part)
        )
        for line, why, row in _picked(rows, reasons[part]):
            own = [*(row[i] for i in kept if i < len(row)), *row[width:]]
            yield [*name, str(line), why, *own]


def _picked(rows: Iterator[_Row], reasons: Reasons) -> Iterator[tuple[int, str, Sequence[str]]]:
    """Yield (line, why, row) for the rows that have a reason; both come in the order of lines."""
    told = iter(_merged(reasons))
    wanted = next(told, None)
    for line, row in rows:
        while wanted is not None and wanted[0] < line:
            wanted = next(told, None)
        if wanted is None:
            return
        if wanted[0] == line:
            yield line, wanted[1], row


def _merged(reasons: Reasons) -> Iterator[tuple[int, str]]:
    """Join the reasons of a line, each told once."""
    line, why = 0, dict[str, None]()
    for number, reason in reasons:
        if number != line and why:
            yield line, "; ".join(why)
            why = {}
        line = number
        why[reason] = None
    if why:
        yield line, "; ".join(why)


def _text_rows(source: TableSource, part: int) -> Iterator[_Row]:
    for rows in source.rows(part):
        found: list[_Row] = list(zip(rows.numbers, rows.rows, strict=True))
        lost = [(row.line, [row.raw.decode(errors="replace")]) for row in rows.unfit]
        lost += [(line, []) for line, _ in rows.oversize]
        yield from sorted([*found, *lost], key=lambda row: row[0]) if lost else found


def _value_rows(source: ParquetSource, part: int) -> Iterator[_Row]:
    for values in source.values(part):
        for line, row in enumerate(values.rows, values.first):
            yield line, _Texts(row)


class _Texts(Sequence[str]):
    """The values of a row as the cells of a CSV file, made when they are asked for."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, at: Any) -> Any:
        found = self._values[at]
        return list(map(_text, found)) if isinstance(at, slice) else _text(found)


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return value.decode(errors="replace")
        case list() | dict():
            return dumps(_plain(value)).decode()
        case _:
            return str(value)


def _plain(value: Any) -> Any:
    """Return a nested value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return list(map(_plain, value))
    return value if value is None or isinstance(value, (bool, int, float)) else _text(value)


def _write(path: Path, rows: Iterator[list[str]], delimiter: str) -> int:
    """Write a header and rows to a new file; return the number of rows, and leave none of none."""
    aside = path.with_name(f"{path.name}.part")
    count = -1  # the header
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
        try:
            os.fchmod(fd, PRIVATE)
            # With a return in the end of lines the writer quotes cells that hold one.
            text = io.StringIO(newline="")
            writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
            for row in rows:
                writer.writerow(row)
                count += 1
                if text.tell() >= BUFFER_CHARACTERS:
                    append(fd, text.getvalue().encode(errors="replace"))
                    text.seek(0)
                    text.truncate()
            append(fd, text.getvalue().encode(errors="replace"))
        finally:
            close_synced(fd)
        if count > 0:
            os.replace(aside, path)
        else:
            os.unlink(aside)
    except OSError as error:
        raise LocalFailure(
            f"The bad rows cannot be written to {path}: {error.strerror}. Make room, or make it "
            "writable; the dead letters hold them too."
        ) from error
    return max(count, 0)
