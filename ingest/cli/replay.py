"""`ingest replay`: sends a dead-letter file again."""

from __future__ import annotations

from typing import Any

import click

from ingest.cli.options import collected, send_options
from ingest.cli.sending import send_paths
from ingest.cli.targets import epilog


@click.command(short_help="Send dead letters again.", epilog=epilog())
@click.argument("path", metavar="DEAD_LETTERS")
@send_options
def replay(path: str, **values: Any) -> None:
    """Send the records of a dead-letter file again; its own rejects go to a new file.

    Mend the records in the file first, or the reason for which they were refused. Each line keeps
    its kind, so --kind is not needed. Dead letters of `ingest send ROW` are an input of that verb.

    \b
    Examples:
      ingest replay .ingest/dead-letters-20261121T101500Z-5c1e.ndjson --to braze
      ingest send delete .ingest/dead-letters-20261121T101500Z-77aa.ndjson --to braze
    """
    send_paths((path,), collected(values))
