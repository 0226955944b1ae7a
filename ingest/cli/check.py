"""`ingest check`: whether a worker could start with a configuration, and would get anywhere."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import click
from rich.text import Text

from ingest.cli.checking import FINE, Check, offline
from ingest.cli.loop import run as run_loop
from ingest.cli.reaching import online
from ingest.cli.run import read_configuration
from ingest.cli.streams import Talk
from ingest.configuration import Configuration
from ingest.errors import ConfigError

WORST: Final = (2, 4, 3, 75)
"""Exit statuses, from what has to be mended first: without it, the others may not be true."""

WIDTH: Final = 15
"""Columns of what is checked."""

OK: Final = ("ok", "green")
FAILED: Final = ("failed", "bold red")
UNKNOWN: Final = ("unknown", "yellow")


@click.command(short_help="Check a worker's configuration.")
@click.argument("path", metavar="CONFIG.toml", type=click.Path(path_type=Path))
@click.option(
    "--offline",
    "alone",
    is_flag=True,
    help="Ask nobody: look at the file, the secrets and this machine only.",
)
def check(path: Path, alone: bool) -> None:
    """Check a worker's configuration and credentials, and whether all that it needs answers.

    Sends no data. The source is asked about itself: no group is joined, no message received.
    The destination gets an empty request, which it answers by whether it takes the key; it counts
    as one request of the rate. What a key may do beyond that, no answer tells.

    \b
    Exit status: 0 all is well, 2 the configuration (or what it names) is wrong, 3 a credential is
    refused, 4 the state directory, 75 somebody cannot be reached.

    \b
    Examples:
      ingest check worker.toml
      ingest check worker.toml --offline
    """
    talk = Talk()
    try:
        config = read_configuration(path)
    except ConfigError as error:
        _show(talk, Check("configuration", str(error), error.exit_status))
        sys.exit(error.exit_status)
    found = run_loop(_checked(talk, config, alone=alone))
    sys.exit(_ended(talk, path, found, alone=alone))


async def _checked(talk: Talk, config: Configuration, *, alone: bool) -> list[Check]:
    found: list[Check] = []
    async for one in _all(config, found, alone=alone):
        found.append(one)
        _show(talk, one)
    return found


async def _all(
    config: Configuration, found: Sequence[Check], *, alone: bool
) -> AsyncIterator[Check]:
    yield Check("configuration", "every key is known, and nothing contradicts itself")
    for one in offline(config, os.environ):
        yield one
    if alone:
        return
    if any(one.status == ConfigError.exit_status for one in found):
        yield Check("reachability", "nobody was asked, before that is mended", known=False)
        return
    async for one in online(config, os.environ):
        yield one


def _show(talk: Talk, found: Check) -> None:
    word, style = OK if found.status == FINE else FAILED
    if not found.known:
        word, style = UNKNOWN
    said = "".join(one if one.isprintable() else " " for one in found.said).removesuffix(".")
    line = Text.assemble((f"{word:<8}", style), f"{found.what:<{WIDTH}}", said)
    talk.print(line, highlight=False, soft_wrap=True)


def _ended(talk: Talk, path: Path, found: Sequence[Check], *, alone: bool) -> int:
    bad = {one.status for one in found} - {FINE}
    if bad:
        count = sum(one.status != FINE for one in found)
        talk.print(Text(f"{count} of {len(found)} checks failed"), highlight=False)
        return next((status for status in WORST if status in bad), max(bad))
    asked = "; nobody was asked whether it answers" if alone else ""
    talk.print(Text(f"All is well{asked}: ingest run {path}"), highlight=False, soft_wrap=True)
    return FINE
