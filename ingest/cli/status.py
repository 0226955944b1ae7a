"""`ingest status`: the runs in the state directory, and what to type to go on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingest.cli.outputs import check_report, write_report
from ingest.cli.past import LAST, destination_of
from ingest.cli.streams import WIDE, Talk
from ingest.cli.tables import show_report
from ingest.errors import ConfigError
from ingest.settings import format_duration
from ingest.state.journal import CRASHED, FINISHED, RUNNING, Run, runs_in
from ingest.state.reporting import report_of

MOST_NAMES: Final = 3
"""Inputs of a run that are named; the others are counted."""

DEFAULT_STATE: Final = ".ingest"
"""The state directory of who names none."""

SAMPLE: Final = 100
"""Users that are read back by the command that is proposed: some seconds of a rate limit."""

STYLES: Final = {FINISHED: "green", RUNNING: "cyan", "halted": "red"}
"""Colours of states; the others are yellow."""

BEGAN: Final = "%Y-%m-%d %H:%M"


@click.command(short_help="Show the runs there were.")
@click.argument("run", metavar="[RUN]", required=False)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_STATE,
    envvar="INGEST_STATE",
    show_envvar=True,
    show_default=True,
    metavar="DIR",
    help="Where the journal is kept.",
)
@click.option(
    "--report",
    metavar="FILE",
    help="Write the report of the run there, as JSON; - is stdout. Needs RUN.",
)
def status(run: str | None, state: Path, report: str | None) -> None:
    """Show the runs in the state directory, also while one is going on; or one, by name or `last`.

    \b
    Examples:
      ingest status
      ingest status last
      ingest status last --report - | jq .records
      ingest status 20261121T101500Z-5c1e --state /var/lib/ingest
    """
    if report is not None:
        if run is None:
            raise ConfigError("--report is of one run: name it, or say `ingest status last`")
        if report != "-":
            check_report(report)
    console = _console(talk=report == "-")
    runs = runs_in(state)
    if run is None:
        console.print(_listed(runs) if runs else Text(_none(state)), highlight=False)
        return
    found = next((one for one in runs if run in (one.name, LAST)), None)
    if found is None:
        if not runs:
            raise ConfigError(_none(state))
        raise ConfigError(f"no run in {state} is called {run!r}: `ingest status` lists them")
    told = report_of(state, found)
    _print_one(console, found, told, state)
    write_report(report, told)


def _console(*, talk: bool) -> Console:
    """Return where to print: stdout, for it was asked for, unless the report goes there."""
    if talk:
        return Talk()
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console


def _none(state: Path) -> str:
    """Say that there are no runs, and why that may be."""
    if state.is_dir():
        return f"No run is in {state}: only imports of files to an account are kept"
    return (
        f"No run is in {state}, which does not exist: imports keep their journal where they are "
        "started, or where --state or INGEST_STATE says"
    )


def _listed(runs: list[Run]) -> Table:
    table = Table()
    table.add_column("run", no_wrap=True)  # it is pasted
    table.add_column("state", no_wrap=True)
    for name in ("began (UTC)", "took", "inputs", "to"):
        table.add_column(name, overflow="fold")
    for name in ("read", "delivered", "bad", "pending"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        records = run.records
        bad = sum(records[name] for name in ("rejected", "invalid", "failed", "held"))
        table.add_row(
            run.name,
            Text(run.state, style=STYLES.get(run.state, "yellow")),
            f"{datetime.fromtimestamp(run.started, UTC):{BEGAN}}",
            format_duration(run.seconds),
            _printable(_inputs(run)),
            _printable(f"{run.identity.sink} {run.identity.host}"),
            *(f"{records[name]:,}" for name in ("read", "delivered")),
            f"{bad:,}",
            f"{records['pending']:,}",
        )
    return table


def _inputs(run: Run) -> str:
    names = [Path(path).name for path in run.identity.paths]
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _printable(text: str) -> Text:
    """Return a text that does nothing to a terminal: names are what somebody called a file."""
    return Text("".join(c if c.isprintable() else "?" for c in text))


def _print_one(console: Console, run: Run, report: dict[str, Any], state: Path) -> None:
    def say(sentence: str, style: str = "") -> None:
        text = _printable(sentence)
        text.stylize(style)
        console.print(text, highlight=False, soft_wrap=True)

    began = datetime.fromtimestamp(run.started, UTC)
    said = f"Run {run.name} is {run.state}: {_inputs(run)} to {run.identity.sink} "
    said += f"({run.identity.host}), begun {began:{BEGAN}} UTC"
    if run.ended is not None:
        said += f", ended {datetime.fromtimestamp(run.ended, UTC):{BEGAN}} UTC"
    say(f"{said}, at work for {format_duration(run.seconds)}", STYLES.get(run.state, "yellow"))
    letters = {path: count for path, count in run.letters.items() if count}
    if not letters and Path(run.letters_path).is_file():
        # Of a finished run the count is in the balance alone.
        bad = sum(report["records"][name] for name in ("rejected", "invalid", "failed", "held"))
        letters = {run.letters_path: bad} if bad else {}
    show_report(console, report, (" and ".join(letters), sum(letters.values())))
    rejects = sorted(state.glob(f"rejects-{run.name}*.csv"))
    for path in rejects:
        say(f"Bad rows in {path}: mend them, and import the file")
    if because := report["halted_because"]:
        say(f"Halted: {because}", "red")
    for what, command in _next(run, state, list(letters), rows=bool(rejects)):
        say(f"{what}:" if command else f"{what}.")
        if command:
            say(f"  {command}", "bold")


def _next(run: Run, state: Path, letters: list[str], *, rows: bool) -> Iterator[tuple[str, str]]:
    """Yield what can be done now, each with what to type for it."""
    if run.state == RUNNING:
        yield "It is going on now: what is shown is a moment old", ""
        return
    if run.resumable:
        first = "Once that is mended, go on with" if run.state == "halted" else "Go on with"
        what = f"{first} (what is settled is not sent again)"
        if run.state == CRASHED:
            what += "; of what was in flight when it died, some may arrive twice, and is counted"
        yield what, _going_on(run)
        return
    where = "" if str(state) == DEFAULT_STATE else f" --state {shlex.quote(str(state))}"
    if run.delivered and _verifiable(run):
        what = "To read users back, and compare"
        yield what, f"ingest verify {run.name} --sample {SAMPLE}{where}"
    for path in letters:
        what = "To send the dead letters again, once they are mended"
        if rows:
            what += " (or import the bad rows)"
        yield (
            what,
            f"ingest replay {shlex.quote(path)} --to {shlex.quote(run.identity.sink)}{where}",
        )


def _going_on(run: Run) -> str:
    """Return what to type to go on: the command of the run, from where it was typed."""
    if not run.command:
        return "(the same command as before)"
    cwd = str(run.frozen.get("cwd", ""))
    if not cwd or (os.path.isdir(cwd) and os.path.samefile(cwd, os.curdir)):
        return run.command
    return f"cd {shlex.quote(cwd)} && {run.command}"


def _verifiable(run: Run) -> bool:
    try:
        destination_of(run)
    except ConfigError:
        return False
    return True
