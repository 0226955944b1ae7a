"""`ingest plan`: reads files, says what an import would find and need, and sends nothing."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from ingest.cli.columns import Tables, surveyed, table_source
from ingest.cli.loop import quiet_collector
from ingest.cli.options import UNPLANNED, SendOptions, collected, plan_options, table_options
from ingest.cli.outputs import check_apart, check_report, write_report
from ingest.cli.planning import Watcher, planned, report_of
from ingest.cli.planning_tables import show_plan
from ingest.cli.saved_maps import check_saved_map, only_one, saved_map, write_saved_map
from ingest.cli.streams import Talk
from ingest.cli.targets import DEFAULT, endpoints_help, settings_help
from ingest.columns import Plan

INVALID: Final = 1
"""Exit status if a record is invalid."""

PLAIN_EVERY: Final = 10.0
"""Seconds between two lines where there is no terminal."""


@click.command(
    short_help="Say what an import would need, and what is wrong.",
    epilog=f"{endpoints_help()}\n\n{settings_help()}",
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@plan_options
@table_options
def plan(paths: tuple[str, ...], save: Path | None, **values: Any) -> None:
    """Read files and say what an import of them would find and need. Sends nothing.

    PATH is what `ingest import` takes, and the options are its own: with the same ones, the plan is
    of that import. Needs no credentials, and talks to no destination.

    It tells what the columns of a table become, how many records of which kind would go, what is
    wrong with the others and where, what the destination would alter in silence, from when events
    are, how many users there are (within 1 %), how many requests and data points it takes, and how
    long at the rate.

    \b
    Examples:
      ingest plan users.csv --kind attributes
      ingest plan users.csv --kind attributes --types zip=string --save users.toml
      ingest plan 'export/*.ndjson.gz' --limits per-array --rate 250000/1h,3000/3s
      ingest plan events.csv.gz --map shop.toml --to batch-cep --endpoint mass-update
      zcat dump.gz | ingest plan - --report plan.json
    \b
    Ends with 0: nothing is invalid; 1: some records are; 2: wrong usage or input; 4: this machine
    failed.
    """
    told = values["to"] is not None
    values |= {"to": values["to"] or DEFAULT, **UNPLANNED}
    options, console = collected(values), Talk()
    source = table_source(paths, options, samples=True)
    _check(options, save, source)
    if not told:
        console.print(f"No --to: this is the plan for {DEFAULT}", highlight=False)
    if source.ignored:
        left = f"Left out (folders, and files of another kind by name): {', '.join(source.ignored)}"
        console.print(Text(left, style="yellow"), soft_wrap=True)
    quiet_collector()
    found = planned(
        source,
        options,
        lambda: _watching(console, options.progress, source.total_bytes),
        lambda: surveyed(source, console, progress=options.progress != "none"),
    )
    report = report_of(found, source, options)
    if save is None:
        show_plan(console, found, report)
    else:
        decided = only_one(found.plans)
        command = _command(paths, save, decided)
        show_plan(console, found, report)
        write_saved_map(save, saved_map(decided, command))
        said = Text(f"What was decided of the columns is kept; to use it:  {command}")
        console.print(said, soft_wrap=True)
    write_report(options.report, report)
    sys.exit(INVALID if report["records"]["invalid"] else 0)


def _check(options: SendOptions, save: Path | None, source: Tables) -> None:
    """Refuse what could not be written, before a file is read. Raises `ConfigError`."""
    report = options.report if options.report != "-" else None
    outputs = [
        *([] if report is None else [(f"--report {report}", report)]),
        *([] if save is None else [(f"--save {save}", str(save))]),
    ]
    check_apart(outputs, source.names)
    if report is not None:
        check_report(report)
    if save is not None:
        check_saved_map(save)
        if source.has_tables:  # several headers are known by now; a stream's is not
            only_one(dict.fromkeys(source.headers.values()))


def _command(paths: Sequence[str], save: Path, decided: Plan) -> str:
    """Return what imports the same files by a saved map; line breaks are no part of a comment.

    Rows of cloud data ingestion stay such, so their kind has to be told beside the map.
    """
    kind = ("--kind", decided.kind) if decided.cdi else ()
    words = " ".join(shlex.quote(word) for word in (*paths, *kind, "--map", str(save)))
    return "".join(c if c.isprintable() else "?" for c in f"ingest import {words} --to SINK")


@contextmanager
def _watching(console: Console, style: str, total: int | None) -> Iterator[Watcher]:
    """Show how far the reading is."""
    if style == "auto":
        style = "bar" if console.is_terminal else "plain"
    if style == "none":
        yield _Silent()
        return
    if style == "plain":
        yield _Lines(console, total)
        return
    with Progress(
        TextColumn("reading"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[line]}", markup=False),
        console=console,
        transient=True,
    ) as bar:
        yield _Bar(bar, total)


class _Silent:
    def read(self, consumed: int, records: int) -> None:
        """Show nothing."""


class _Bar:
    def __init__(self, bar: Progress, total: int | None) -> None:
        self._bar = bar
        self._total = total
        self._task = bar.add_task("", total=total or None, line="")

    def read(self, consumed: int, records: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=consumed, line=_line(consumed, records, self._total))


class _Lines:
    def __init__(self, console: Console, total: int | None) -> None:
        self._console = console
        self._total = total
        self._next = time.monotonic() + PLAIN_EVERY

    def read(self, consumed: int, records: int) -> None:
        """Print a line now and then."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + PLAIN_EVERY
            said = Text(_line(consumed, records, self._total))
            self._console.print(said, highlight=False, soft_wrap=True)


def _line(consumed: int, records: int, total: int | None) -> str:
    share = f" · {consumed / total:.0%}" if total else ""
    return f"{records:,} records read{share}"
