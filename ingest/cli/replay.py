"""`ingest replay`: sends a dead-letter file again."""

from __future__ import annotations

from typing import Any

import click

from ingest.cli.options import collected, send_options
from ingest.cli.sending import send_paths
from ingest.cli.targets import epilog


@click.command(short_help="Send dead letters again.", epilog=epilog())
@click.argument("path", metavar="DEAD_LETTERS")
@click.option(
    "--even-if-older",
    is_flag=True,
    help="Send superseded letters too: attributes of users of whom later ones were delivered. They "
    "set values back.",
)
@send_options
def replay(path: str, **values: Any) -> None:
    """Send the records of a dead-letter file again; its own rejects go to a new file.

    Mend the records in the file first, or the reason for which they were refused. Each line keeps
    its kind, so --kind is not needed. Dead letters of `ingest send ROW` are an input of that verb.
    Attributes of a user of whom later ones were delivered are superseded: they are not sent, and
    are in the new file again. Rows of a table come back in rejects-RUN.csv: mend and import that.

    \b
    Examples:
      ingest replay .ingest/dead-letters-20261121T101500Z-5c1e.ndjson --to braze
      ingest send delete .ingest/dead-letters-20261121T101500Z-77aa.ndjson --to braze
    """
    send_paths((path,), collected(values))
