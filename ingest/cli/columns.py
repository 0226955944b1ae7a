"""What the user says of tables, what becomes of their columns, and the rows that come back.

Decides how the options are put together and what is shown. What a column becomes is decided in
`ingest.columns`; tables are read in `ingest.sources`.
"""

from __future__ import annotations

import shlex
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ingest.cli.options import SendOptions
from ingest.cli.saved_maps import rejects_map, write_saved_map
from ingest.codec import DecodeError, typed
from ingest.columns import Options, Plan, parsed_types
from ingest.errors import ConfigError, InputError, LocalFailure
from ingest.sources.base import Block
from ingest.sources.dialects import TableOptions
from ingest.sources.mixed import MixedSource
from ingest.sources.planning import TableColumns
from ingest.sources.rejects import Rejects
from ingest.sources.tables import Beside
from ingest.validation.problems import shown

NOT_DELIVERED: Final = ("invalid", "rejected", "failed")
"""Columns of the balance whose records come back as rows to mend."""

OLDER: Final[Mapping[bool | None, str]] = {
    False: "",
    True: "; a later row of this user was delivered: importing this one sets values back",
    None: "; it is not known whether a later row of this user was delivered: importing this one "
    "may set values back",
}
"""What is said beside the reason of a row, by whether its dead letter is superseded."""

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
    superseded: bool | None = False


_LETTER: Final = typed(_Letter)


class Tables(MixedSource):
    """Inputs of any form, with the columns of those that are tables."""

    def __init__(self, paths: Sequence[str], columns: TableColumns, options: TableOptions) -> None:
        super().__init__(paths, columns, options=options)
        self.columns = columns
        self._streams = [part for part in range(len(self)) if part not in self.forms]
        if not self._streams:
            columns.check(self.headers.values())

    def _streamed(self, file: BinaryIO, part: int) -> Iterator[Block]:
        blocks = super()._streamed(file, part)
        if part == self._streams[-1]:
            self.columns.check(self.headers.values())
        return blocks


def table_source(paths: Sequence[str], options: SendOptions, *, samples: bool = False) -> Tables:
    """Open inputs of any form. Raises `ConfigError`, `InputError` or `MissingExtra`.

    With `samples`, all rows of tables are looked at, also where no type is left to be decided.
    """
    told = Options(
        kind=options.kind,
        types=parsed_types(options.types) if options.types else {},
        timezone=options.timezone,
        null_text=options.null_text,
        mapping=_mapping(options.map),
        samples=samples,
    )
    return Tables(paths, TableColumns(told), TableOptions(options.delimiter, options.encoding))


def decide_columns(
    source: MixedSource, console: Console, *, progress: bool, beside: Beside | None = None
) -> None:
    """Look at all rows of the tables once, and show what their columns become."""
    for plan in surveyed(source, console, progress=progress, beside=beside):
        console.print(_shown(plan), highlight=False)
        if plan.zoneless:
            console.print(Text(zones(plan)), soft_wrap=True)


def surveyed(
    source: MixedSource, console: Console, *, progress: bool, beside: Beside | None = None
) -> Sequence[Plan]:
    """Look at all rows of the tables once, and return what their columns become.

    `beside` may look at the latter half of them.
    """
    if not source.has_tables:
        return ()
    with Progress(
        TextColumn("deciding the types of columns"),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (progress and console.is_terminal),
    ) as bar:
        task = bar.add_task("", total=source.tables_bytes or None)
        plans = source.plan(lambda consumed: bar.update(task, completed=consumed), beside=beside)
    return tuple(plans.values())


def frozen_plans(source: MixedSource) -> dict[str, list[dict[str, Any]]]:
    """Return what was decided of the columns of tables, as JSON holds it, by their form."""
    return {
        form: [plan.to_dict() for header, plan in plans.items() if header]
        for form, plans in source.plans.items()
    }


def go_by_frozen(
    source: MixedSource, frozen: Mapping[Any, list[dict[str, Any]]], console: Console
) -> None:
    """Read the columns as it was decided when the run began, and say so in a line."""
    if not source.has_tables:
        return
    for form, saved in frozen.items():
        plans = map(Plan.from_dict, saved)
        source.go_by({form: {plan.header: plan for plan in plans}})
    console.print(Text("Columns are read as decided when the run began"), soft_wrap=True)


def write_rejected_rows(
    source: MixedSource, letters: Path | Sequence[Path], run: str, path: Path
) -> list[Rejects]:
    """Write the rows of tables that did not arrive as CSV; return the files.

    `letters` are the files of dead letters. Raises `InputError` or `LocalFailure`.
    """
    files = [letters] if isinstance(letters, Path) else letters
    if not source.has_tables:
        return []
    parts = {name: part for part, name in enumerate(source.names)}
    reasons: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for letter in chain.from_iterable(_letters(file) for file in files if file.is_file()):
        if letter.run == run and letter.column in NOT_DELIVERED and letter.source.name in parts:
            why = letter.reason + OLDER[letter.superseded]
            at = (letter.source.line, sys.intern(why))  # a million rows, a few reasons
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


def say_old_rejects(console: Console, options: SendOptions, run: str) -> None:
    """Say where the bad rows of a run are that ended before."""
    for file in sorted(options.state.glob(f"rejects-{run}*.csv")):
        console.print(Text(f"Its bad rows are in {file}"), soft_wrap=True)


def say_rejected_rows(
    console: Console,
    source: MixedSource,
    options: SendOptions,
    run: str,
    letters: Sequence[Path],
) -> None:
    """Write the rows that did not arrive, and say where they are, or why they could not be."""
    path = options.state / f"rejects-{run}.csv"
    try:
        written = write_rejected_rows(source, letters, run, path)
    except (InputError, LocalFailure) as error:
        said = Text(f"The bad rows could not be written as CSV: {error}", style="yellow")
        console.print(said, soft_wrap=True)
        return
    for bad in written:
        rows, them = ("row", "it") if bad.rows == 1 else ("rows", "them")
        command = _import_of(bad, source.plan()[bad.header], console)
        said = Text(f"{bad.rows:,} bad {rows} in {bad.path}: mend {them}, then  {command}")
        console.print(said, soft_wrap=True)


def _import_of(bad: Rejects, plan: Plan, console: Console) -> str:
    """Write the map of bad rows beside them; return the command that imports them by it."""
    path = bad.path.with_suffix(".toml")
    command = f"ingest import {shlex.quote(str(bad.path))}"
    by_map = f"{command} --map {shlex.quote(str(path))}"
    try:
        write_saved_map(path, rejects_map(plan, bad.types, by_map), called="")
    except LocalFailure as error:
        console.print(Text(f"Their types are not kept: {error}", style="yellow"), soft_wrap=True)
        return f"{command} --kind {plan.kind}"
    return by_map


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


def zones(plan: Plan) -> str:
    """Say what becomes of the times without a zone."""
    times = "1 time" if plan.zoneless == 1 else f"{plan.zoneless:,} times"
    if plan.timezone is None:
        return f"Without a zone: {times}, sent as written; --timezone names the zone"
    return f"Without a zone: {times}, taken to be of {plan.timezone}"
