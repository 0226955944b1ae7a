"""`ingest sample`: synthetic records, the same for the same seed."""

from __future__ import annotations

from itertools import islice

import click

from ingest.cli.options import kind as kind_of
from ingest.cli.streams import write_out
from ingest.records import KINDS
from ingest.samples import samples

LINES_PER_WRITE = 2_000


@click.command(short_help="Print synthetic records.")
@click.argument("count", metavar="N", type=click.IntRange(min=0))
@click.option("--kind", callback=kind_of, metavar="KIND", help="Only this kind, as bare objects.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("ndjson",)),
    default="ndjson",
    show_default=True,
    help="How they are written.",
)
@click.option("--users", type=click.IntRange(min=1), help="Spread over so many users.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same records.")
def sample(count: int, kind: str | None, form: str, users: int | None, seed: int) -> None:
    """Print N synthetic records, one JSON object a line.

    A third of each kind, with unicode, aliases, operators and nested objects. With --kind the
    objects are bare, as a database export would hold them.

    \b
    Examples:
      ingest sample 3
      ingest sample 100000 --users 5000 > users.ndjson
      ingest sample 1000 --kind event | ingest import - --kind event --to sandbox
    """
    kinds = KINDS if kind is None else (kind,)
    lines = samples(count, users=users, kinds=kinds, seed=seed, bare=kind is not None)
    # Joined, as a write for each line is what would take the time.
    written = (b"".join(some) for some in iter(lambda: list(islice(lines, LINES_PER_WRITE)), []))
    write_out(written, what="the records")
