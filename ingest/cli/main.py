"""The command `ingest`: its verbs, and how errors leave it.

A verb is imported when it is asked for: all of them take longer than to send a small file.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from keyword import iskeyword
from typing import Any, Final

import click

from ingest.cli.loop import quiet_collector
from ingest.cli.options import ARGV
from ingest.cli.signals import SIGNAL_BASE
from ingest.cli.streams import say
from ingest.errors import IngestError

VERBS: Final = (
    *("import", "plan", "run", "check", "send"),
    *("replay", "sample", "verify", "status", "sandbox"),
)
"""The verbs in the order of a first acquaintance; each has a module of its own."""


class Verbs(click.Group):
    """A group whose verbs are imported one by one, and whose errors are sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of a first acquaintance."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb by its name, None if there is no such verb."""
        if cmd_name not in VERBS:
            return None
        name = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        verb: click.Command = getattr(import_module(f"ingest.cli.{name}"), name)
        quiet_collector()
        return verb

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
@click.version_option(package_name="ingestline", prog_name="ingest", message="%(prog)s %(version)s")
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
