"""`ingest status`: the runs in the state directory, and what to type to go on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingest.errors import ConfigError
from ingest.settings import format_duration
from ingest.state.journal import Run, runs_in

MOST_NAMES = 3
"""Inputs of a run that are named; the others are counted."""


@click.command(short_help="Show the runs there were.")
@click.argument("run", metavar="[RUN]", required=False)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=".ingest",
    envvar="INGEST_STATE",
    show_envvar=True,
    show_default=True,
    metavar="DIR",
    help="Where the journal is kept.",
)
def status(run: str | None, state: Path) -> None:
    """Show the runs in the state directory, also while one is going on; or one of them, by name.

    \b
    Examples:
      ingest status
      ingest status 20261121T101500Z-5c1e --state /var/lib/ingest
    """
    runs = runs_in(state)
    console = Console()
    if run is None:
        console.print(_listed(runs) if runs else f"No run is in {state}", highlight=False)
        return
    found = next((one for one in runs if one.name == run), None)
    if found is None:
        raise ConfigError(f"no run in {state} is called {run!r}: `ingest status` lists them")
    _print_one(console, found)


def _listed(runs: list[Run]) -> Table:
    table = Table()
    table.add_column("run", no_wrap=True)  # it is pasted
    table.add_column("state", no_wrap=True)
    for name in ("began (UTC)", "took", "inputs", "to"):
        table.add_column(name, overflow="fold")
    for name in ("read", "delivered", "bad", "pending"):
        table.add_column(name, justify="right")
    for run in runs:
        records = run.records
        bad = sum(records[name] for name in ("rejected", "invalid", "failed", "held"))
        table.add_row(
            run.name,
            Text(run.state, style="" if run.state in ("finished", "running") else "yellow"),
            f"{datetime.fromtimestamp(run.started, UTC):%Y-%m-%d %H:%M}",
            format_duration(run.seconds),
            Text(_inputs(run)),
            Text(f"{run.identity.sink} {run.identity.host}"),
            *(f"{records[name]:,}" for name in ("read", "delivered")),
            f"{bad:,}",
            f"{records['pending']:,}",
        )
    return table


def _inputs(run: Run) -> str:
    names = [Path(path).name for path in run.identity.paths]
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _print_one(console: Console, run: Run) -> None:
    console.print(_listed([run]), highlight=False)
    for name, count in {**run.records, **run.of_which}.items():
        if count:
            console.print(f"  {name:<18}{count:>14,}", highlight=False)
    console.print(Text(f"Dead letters: {run.letters_path}"))
    if run.resumable:
        console.print("Run the same command again to go on: what is settled is not sent again.")
