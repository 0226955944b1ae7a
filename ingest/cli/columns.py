"""What the user says of tables, what becomes of their columns, and the rows that come back.

Decides how the options are put together and what is shown. What a column becomes is decided in
`ingest.columns`; tables are read in `ingest.sources`.
"""

from __future__ import annotations

import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ingest.cli.options import SendOptions
from ingest.codec import DecodeError, typed
from ingest.columns import Options, Plan, parsed_types
from ingest.errors import ConfigError, InputError, LocalFailure
from ingest.sources.dialects import TableOptions
from ingest.sources.mixed import MixedSource
from ingest.sources.planning import TableColumns
from ingest.validation.problems import shown

NOT_DELIVERED: Final = ("invalid", "rejected", "failed")
"""Columns of the balance whose records come back as rows to mend."""

STATE_MODE: Final = 0o700
"""Of a folder made here: bad rows are personal data."""


class _Place(msgspec.Struct, frozen=True):
    name: str
    line: int


class _Letter(msgspec.Struct, frozen=True):
    """What is read of a dead letter here."""

    run: str
    column: str
    reason: str
    source: _Place


_LETTER: Final = typed(_Letter)


class Tables(MixedSource):
    """Inputs of any form, with the columns of those that are tables."""

    def __init__(self, paths: Sequence[str], columns: TableColumns, options: TableOptions) -> None:
        super().__init__(paths, columns, options=options)
        self.columns = columns


def table_source(paths: Sequence[str], options: SendOptions) -> Tables:
    """Open inputs of any form. Raises `ConfigError`, `InputError` or `MissingExtra`."""
    told = Options(
        kind=options.kind,
        types=parsed_types(options.types) if options.types else {},
        timezone=options.timezone,
        null_text=options.null_text,
        mapping=_mapping(options.map),
    )
    return Tables(paths, TableColumns(told), TableOptions(options.delimiter, options.encoding))


def decide_columns(source: MixedSource, console: Console, *, progress: bool) -> None:
    """Look at all rows of the tables once, and show what their columns become."""
    if not source.has_tables:
        return
    with Progress(
        TextColumn("deciding the types of columns"),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (progress and console.is_terminal),
    ) as bar:
        task = bar.add_task("", total=source.tables_bytes or None)
        plans = source.plan(lambda consumed: bar.update(task, completed=consumed))
    for plan in plans.values():
        console.print(_shown(plan), highlight=False)
        if plan.zoneless:
            console.print(Text(_zones(plan)), soft_wrap=True)


def write_rejected_rows(
    source: MixedSource, letters: Path, run: str, path: Path
) -> list[tuple[Path, int]]:
    """Write the rows of tables that did not arrive as CSV; return the files, and their rows.

    `letters` is the dead-letter file. Raises `InputError` or `LocalFailure`.
    """
    if not source.has_tables or not letters.is_file():
        return []
    parts = {name: part for part, name in enumerate(source.names)}
    reasons: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for letter in _letters(letters):
        if letter.run == run and letter.column in NOT_DELIVERED and letter.source.name in parts:
            at = (letter.source.line, sys.intern(letter.reason))  # a million rows, a few reasons
            reasons[parts[letter.source.name]].append(at)
    for found in reasons.values():
        found.sort()
    if not reasons:
        return []
    try:
        path.parent.mkdir(mode=STATE_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalFailure(f"{path.parent} cannot be made: {error.strerror}") from error
    return source.write_rejects(reasons, path)


def _letters(path: Path) -> Iterator[_Letter]:
    """Read dead letters; lines that are none are passed over: the file may hold others' too."""
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    yield _LETTER.decode(line)
                except (DecodeError, UnicodeDecodeError):
                    continue
    except OSError as error:
        raise LocalFailure(f"{path} cannot be read: {error.strerror}") from error


def say_dropped_cells(console: Console, source: Tables) -> None:
    """Say which cells were left out because the mapping says so of bad ones."""
    for name, cells in sorted(source.columns.dropped.items()):
        shown = "".join(c if c.isprintable() else "?" for c in name)
        said = Text(f"{cells:,} bad cells of the column '{shown}' were left out, as the map says")
        said.stylize("yellow")
        console.print(said, soft_wrap=True)


def say_rejected_rows(
    console: Console, source: MixedSource, options: SendOptions, run: str, letters: Path
) -> None:
    """Write the rows that did not arrive, and say where they are, or why they could not be."""
    path = options.state / f"rejects-{run}.csv"
    try:
        written = write_rejected_rows(source, letters, run, path)
    except (InputError, LocalFailure) as error:
        said = Text(f"The bad rows could not be written as CSV: {error}", style="yellow")
        console.print(said, soft_wrap=True)
        return
    for file, count in written:
        rows, them = ("row", "it") if count == 1 else ("rows", "them")
        said = Text(f"{count:,} bad {rows} in {file}: mend {them}, and import the file")
        console.print(said, soft_wrap=True)


def _mapping(path: Path | None) -> Mapping[str, Any]:
    """Read a mapping. Raises `ConfigError` for a file that is none."""
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"--map {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--map {path} is not TOML: {error}") from None


def _shown(plan: Plan) -> Table:
    table = Table(title=f"Columns, as {plan.kind}", title_justify="left", title_style="bold")
    for name in ("column", "becomes", "type", "why"):
        table.add_column(name, overflow="fold")
    for row in plan.shown():
        # A name is the file's, and what it does to a terminal is not for the file to say.
        name = shown((row.column,)) if row.column else ""
        table.add_row(Text(name), Text(row.becomes), Text(row.type), Text(row.why))
    return table


def _zones(plan: Plan) -> str:
    times = "1 time" if plan.zoneless == 1 else f"{plan.zoneless:,} times"
    if plan.timezone is None:
        return f"Without a zone: {times}, sent as written; --timezone names the zone"
    return f"Without a zone: {times}, taken to be of {plan.timezone}"
