"""The command `ingest`: its verbs, and how errors leave it."""

from __future__ import annotations

import signal
import sys
from importlib.metadata import version
from typing import Any

import click

from ingest.cli.import_ import import_
from ingest.cli.options import ARGV
from ingest.cli.plan import plan
from ingest.cli.replay import replay
from ingest.cli.sample import sample
from ingest.cli.sandbox import sandbox
from ingest.cli.send import send
from ingest.cli.signals import SIGNAL_BASE
from ingest.cli.status import status
from ingest.cli.streams import say
from ingest.cli.verify import verify
from ingest.errors import IngestError


class Verbs(click.Group):
    """A group whose verbs are listed as they were added, and whose errors are sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of a first acquaintance."""
        return list(self.commands)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run; end an error of ours with its sentence and its exit status."""
        try:
            return super().main(*args, **kwargs)
        except IngestError as error:
            say(f"ingest: {error}")
            sys.exit(error.exit_status)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and keep what was typed for whoever tells how to go on."""
        ctx.meta[ARGV] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; interrupted before it hears signals itself, end as the shells expect."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(SIGNAL_BASE + signal.SIGINT)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("ingestline"), prog_name="ingest", message="%(prog)s %(version)s")
def cli() -> None:
    """Move user attributes, events and purchases into a customer-engagement platform.

    As fast as the account allows, without losing one record, with an exact account of every one.

    \b
    Try it without an account:
      ingest sample 1000 | ingest import - --to sandbox
    Send for real:
      export BRAZE_REST_URL=https://rest.iad-01.braze.com BRAZE_API_KEY_FILE=key.txt
      ingest import users.ndjson --to braze
    """


for verb in (import_, plan, send, replay, sample, verify, status, sandbox):
    cli.add_command(verb)
