"""`ingest send`: the batchable endpoints that are not about what users are and do.

Decides when a question is asked first: before what cannot be undone.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingest.cli.assembly import host_of
from ingest.cli.options import SendOptions, collected, row_options
from ingest.cli.sending import send_paths
from ingest.cli.streams import write_out
from ingest.cli.targets import DEFAULT, destination_of, row_epilog
from ingest.errors import ConfigError, InputError
from ingest.settings import format_bytes
from ingest.sinks.base import Destination, Endpoint
from ingest.sources.files import FileSource
from ingest.sources.paths import STDIN

COUNTED_BYTES: Final = 64_000_000
"""Raw bytes of inputs whose lines are counted for a question: some tenths of a second."""

COLUMNS: Final = ("row", "path", "a line, such as", "per request", "budget", "mind")


@click.command(short_help="Send deletions, aliases, statuses and the like.", epilog=row_epilog())
@click.argument("row", metavar="ROW", required=False)
@click.argument("paths", metavar="PATH...", nargs=-1)
@click.option("--list", "listed", is_flag=True, help="Print the rows there are, and send nothing.")
@row_options
def send(row: str | None, paths: tuple[str, ...], listed: bool, yes: bool, **values: Any) -> None:
    """Send records to one of the other batchable endpoints, and account for every one.

    ROW is one of those that `ingest send --list` prints, by its name or its path. PATH is a file
    (plain, .gz or .zst), a directory, a pattern in quotes, or - for stdin. A line is a JSON object
    as that table shows, a value alone where that says it all, or a dead letter of the row. Rows of
    one pool share its budget with each other, and with whoever else uses the account.

    What cannot be undone asks first on a terminal, and needs --yes elsewhere.

    \b
    Examples:
      ingest send --list
      ingest send alias-new aliases.ndjson --to sandbox
      ingest send delete ids.txt --to braze
      cut -d, -f1 left.csv | ingest send delete - --to braze --yes --report report.json
    \b
    Ends as `ingest import` does, with 0 when every record is delivered.
    """
    if listed:
        _print_rows(destination_of(values["to"] or DEFAULT))
        return
    if row is None or not paths:
        what = "no row is named" if row is None else f"{row}: no input is named"
        raise ConfigError(
            f"{what}: type  ingest send ROW PATH... --to SINK  (ingest send --list shows the rows)"
        )
    options = collected(values, row=row)
    send_paths(
        paths,
        options,
        confirmed=lambda source: None if yes else _confirm(options, paths, source),
    )


def _confirm(options: SendOptions, paths: Sequence[str], source: FileSource) -> None:
    """Ask before what cannot be undone. Raises `ConfigError` without a yes.

    A file takes bodies and does nothing with them: nothing is asked.
    """
    endpoint = options.target.endpoint
    if not endpoint.irreversible or options.target.where == "file":
        return
    if STDIN in paths or not _somebody_there():
        raise ConfigError(
            f"{endpoint.name} cannot be undone, and nobody is there to ask: look at the input, "
            "then add --yes"
        )
    purpose = f" ({endpoint.summary})" if endpoint.summary else ""
    click.echo(
        f"{endpoint.name}{purpose} cannot be undone.\n"
        f"  what   {_amount(source)} in {', '.join(source.names)}\n"
        f"  where  {host_of(options)}{endpoint.path}",
        err=True,
    )
    try:
        agreed = click.confirm("Send it?", err=True)
    except click.Abort:
        click.echo(err=True)
        agreed = False
    if not agreed:
        raise ConfigError("nothing was sent: the answer was not yes")


def _somebody_there() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def _amount(source: FileSource) -> str:
    """Say how much there is to send: in lines, where counting them takes no time."""
    size = source.total_bytes
    if size is None:
        return "an unknown number of lines"
    if size > COUNTED_BYTES:
        return format_bytes(size)
    try:
        lines = sum(sum(map(bool, map(bytes.strip, block.lines()))) for block in source.blocks())
    except InputError:  # damaged: what can be read of it is sent, and the run ends by saying so
        return format_bytes(size)
    return f"{lines:,} line{'' if lines == 1 else 's'} ({format_bytes(size)})"


# --- the table ------------------------------------------------------------------------------------


def _print_rows(destination: Destination) -> None:
    """Print the rows of a destination: a table on a terminal, aligned text elsewhere."""
    if not destination.sends:
        raise ConfigError(f"{destination.name} has no rows for `ingest send`")
    rows = _cells(tuple(destination.sends.values()))
    console = Console()
    if console.is_terminal:
        table = Table(show_lines=True)
        for name in COLUMNS:
            # What is pasted from here must be whole: on a narrow terminal it folds.
            table.add_column(name, no_wrap=name == COLUMNS[0], overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (COLUMNS, *rows)
    )
    write_out([f"{line}\n".encode() for line in lines], what="the table")


def _cells(endpoints: Sequence[Endpoint]) -> list[tuple[str, ...]]:
    sharing = Counter(endpoint.pool for endpoint in endpoints)
    return [
        (
            endpoint.name,
            endpoint.path,
            endpoint.example,
            str(endpoint.caps[0].fill),
            _budget(endpoint, shared=bool(endpoint.pool) and sharing[endpoint.pool] > 1),
            _mind(endpoint),
        )
        for endpoint in endpoints
    ]


def _budget(endpoint: Endpoint, *, shared: bool) -> str:
    """Say a budget; rows of one pool share theirs."""
    limits = ", ".join(map(str, endpoint.limits)) or "none"
    counted = f"{limits} users" if endpoint.counts == "users" else limits
    return f"{counted}, pool {endpoint.pool}" if shared else counted


def _mind(endpoint: Endpoint) -> str:
    """Say what to know before a row is sent."""
    told = []
    if endpoint.irreversible:
        told.append("cannot be undone")
    if not endpoint.resendable:
        told.append("never sent twice")
    return "; ".join(told)
