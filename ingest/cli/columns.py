"""What the user says of tables, what becomes of their columns, and the rows that come back.

Decides how the options are put together and what is shown. What a column becomes is decided in
`ingest.columns`; tables are read in `ingest.sources`.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ingest.cli.options import SendOptions
from ingest.codec import loads
from ingest.columns import Options, Plan, parsed_types
from ingest.errors import ConfigError, InputError, LocalFailure
from ingest.sources.dialects import TableOptions
from ingest.sources.mixed import MixedSource
from ingest.sources.planning import TableColumns

NOT_DELIVERED: Final = ("invalid", "rejected", "failed")
"""Columns of the balance whose records come back as rows to mend."""


def table_source(paths: Sequence[str], options: SendOptions) -> MixedSource:
    """Open inputs of any form. Raises `ConfigError`, `InputError` or `MissingExtra`."""
    told = Options(
        kind=options.kind,
        types=parsed_types(options.types) if options.types else {},
        timezone=options.timezone,
        null_text=options.null_text,
        mapping=_mapping(options.map),
    )
    return MixedSource(
        paths,
        TableColumns(told),
        options=TableOptions(options.delimiter, options.encoding),
    )


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


def write_rejected_rows(
    source: MixedSource, letters: Path, run: str, path: Path
) -> list[tuple[Path, int]]:
    """Write the rows of tables that did not arrive as CSV; return the files, and their rows.

    `letters` is the dead-letter file. Raises `InputError` or `LocalFailure`.
    """
    if not source.has_tables or not letters.exists():
        return []
    parts = {name: part for part, name in enumerate(source.names)}
    reasons: dict[int, list[tuple[int, str]]] = defaultdict(list)
    with letters.open("rb") as file:
        for line in file:
            letter = loads(line)
            if letter["run"] == run and letter["column"] in NOT_DELIVERED:
                at = letter["source"]
                reasons[parts[at["name"]]].append((at["line"], letter["reason"]))
    for found in reasons.values():
        found.sort()
    return source.write_rejects(reasons, path)


def say_rejected_rows(
    console: Console, source: MixedSource, options: SendOptions, run: str, letters: Path
) -> None:
    """Write the rows that did not arrive, and say where they are, or why they could not be."""
    path = options.state / f"rejects-{run}.csv"
    try:
        written = write_rejected_rows(source, letters, run, path)
    except (InputError, LocalFailure) as error:
        console.print(Text(f"The bad rows could not be written as CSV: {error}", style="yellow"))
        return
    for file, count in written:
        rows = "row" if count == 1 else "rows"
        console.print(Text(f"{count:,} bad {rows} in {file}: mend them, and import the file"))


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
        table.add_row(Text(row.column), Text(row.becomes), Text(row.type), Text(row.why))
    if plan.zoneless:
        table.caption = f"{plan.zoneless:,} times without a zone are taken as they are: --timezone"
    return table
