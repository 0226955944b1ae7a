"""`ingest import`: sends files, then ends."""

from __future__ import annotations

from typing import Any

import click

from ingest.cli.options import collected, send_options, table_options
from ingest.cli.sending import send_paths
from ingest.cli.targets import epilog


@click.command("import", short_help="Send files.", epilog=epilog())
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@send_options
@table_options
def import_(paths: tuple[str, ...], **values: Any) -> None:
    """Send records out of files, and account for every one.

    PATH is a file (plain, .gz or .zst), a directory, a pattern in quotes, a URL (extra `remote`),
    or - for stdin: NDJSON, CSV, TSV or Parquet (extra `files`). A line of NDJSON is {"attributes":
    {...}}, {"event": {...}} or {"purchase": {...}}; a ready users/track body; a CDI row or a bare
    object with --kind; or a dead letter. A table needs --kind: its columns are identity
    (external_id, email, ...) and attributes, or fields of the event or purchase; dots nest.

    \b
    Examples:
      ingest import users.ndjson --to sandbox
      ingest import users.csv --kind attributes --types zip=string --to braze
      ingest import events.csv.gz --map shop.toml --timezone Europe/Paris --to braze
      ingest import 'export/*.ndjson.gz' --to braze --rate 250000/1h,3000/3s
      ingest import profiles.ndjson --kind attributes --to braze --update-existing-only
      zcat dump.gz | ingest import - --to braze --report report.json
    \b
    Ends with 0: every record delivered; 1: some are invalid, rejected, failed or held; 2: wrong
    usage or input; 3: halted by an answer; 4: this machine failed; 75: the destination is down;
    130, 143: interrupted.
    """
    send_paths(paths, collected(values))
