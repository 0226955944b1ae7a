"""`ingest sandbox`: a local destination that enforces the documented rules."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal

import click

from ingest.cli.loop import run
from ingest.sandbox.server import Sandbox, SandboxSettings
from ingest.settings import optional, parse_duration
from ingest.sinks.registry import DESTINATIONS

KEY = "INGEST_SANDBOX_KEY"


@click.command(short_help="Serve a local destination.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--limits",
    default="combined",
    show_default=True,
    help="Records per request to Braze's users/track: per-array, combined, or a number in total.",
)
@click.option(
    "--rate",
    metavar="N/PERIOD[,...]",
    help="Requests per period to Braze's users/track, counted in windows on the clock's edge.  "
    "[default: what the path documents, as for all others]",
)
@click.option(
    "--dialect",
    type=click.Choice(("classic", "mau")),
    default="classic",
    show_default=True,
    help="Which rate-limit headers Braze sends.",
)
@click.option(
    "--latency",
    default="0",
    show_default=True,
    metavar="MS",
    help="Of each answer: milliseconds, or a time such as 1.5s.",
)
@click.option(
    "--faults",
    default="",
    metavar="SPEC",
    help="NAME:SHARE[,...] of 500, 503, 502html, 403html, 429, 202, reset-before, reset-after, "
    "504-after, timeout, slow.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the faults' dice.")
def sandbox(
    port: int,
    host: str,
    limits: str,
    rate: str | None,
    dialect: str,
    latency: str,
    faults: str,
    seed: int,
) -> None:
    """Serve every destination on this machine, at one port, with its documented limits and answers.

    What it is asked tells which: the path, and how the key is given. The key is `sandbox-key`, or
    what INGEST_SANDBOX_KEY says. How to reach each destination is printed when it serves.

    \b
    In one terminal:
      ingest sandbox --latency 30 --faults 503:5%,429:5%
    In another:
      export BRAZE_REST_URL=http://127.0.0.1:8080 BRAZE_API_KEY=sandbox-key
      ingest sample 10000 | ingest import - --to braze
      curl -s http://127.0.0.1:8080/sandbox/stats
    """
    settings = SandboxSettings(
        host=host,
        port=port,
        key=sandbox_key(),
        limits=limits,
        rate=rate,
        dialect=dialect,
        latency=latency_of(latency),
        faults=faults,
        seed=seed,
    )
    run(_serve(settings))


def latency_of(text: str) -> float:
    """Return seconds; a number alone is one of milliseconds."""
    alone = text.strip().replace(".", "", 1).isdecimal()
    return parse_duration(f"{text.strip()}ms" if alone else text, what="--latency")


def sandbox_key() -> str:
    """Return the key of the sandbox: INGEST_SANDBOX_KEY, or `sandbox-key`."""
    return optional(os.environ, KEY) or SandboxSettings().key


async def _serve(settings: SandboxSettings) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with Sandbox(settings) as served:
        names = ", ".join(DESTINATIONS)
        click.echo(
            f"Serving {names} at {served.url} (statistics: {served.url}/sandbox/stats)", err=True
        )
        for line in _ways_in(served.url):
            click.echo(line, err=True)
        await ended.wait()


def _ways_in(url: str) -> list[str]:
    """Return a line to paste for each destination; a key that somebody chose is not shown."""
    chosen = next(
        (
            reference
            for variable, reference in (
                (KEY, f'"${KEY}"'),
                (f"{KEY}_FILE", f'"$(cat "${KEY}_FILE")"'),
            )
            if variable in os.environ
        ),
        None,
    )
    key = SandboxSettings().key
    width = max(map(len, DESTINATIONS))
    return [
        f"  --to {name.ljust(width)}  export "
        + " ".join(
            f"{variable}={chosen if chosen and value == key else shlex.quote(value)}"
            for variable, value in destination.sandboxed(url, key).items()
        )
        for name, destination in DESTINATIONS.items()
    ]
