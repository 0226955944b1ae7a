"""`ingest sandbox`: a local destination that enforces the documented rules."""

from __future__ import annotations

import asyncio
import os
import signal

import click

from ingest.cli.loop import run
from ingest.sandbox.server import Sandbox, SandboxSettings
from ingest.settings import optional, parse_duration


@click.command(short_help="Serve a local Braze.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--limits",
    default="combined",
    show_default=True,
    help="Records per request: per-array, combined, or a number in total.",
)
@click.option(
    "--rate",
    default="3000/3s",
    show_default=True,
    metavar="N/PERIOD[,...]",
    help="Requests per period, counted in windows on the clock's edge.",
)
@click.option(
    "--dialect",
    type=click.Choice(("classic", "mau")),
    default="classic",
    show_default=True,
    help="Which rate-limit headers it sends.",
)
@click.option("--latency", default="0", show_default=True, metavar="TIME", help="Of each answer.")
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
    rate: str,
    dialect: str,
    latency: str,
    faults: str,
    seed: int,
) -> None:
    """Serve the paths of Braze on this machine, with its documented limits and answers.

    The key is `sandbox-key`, or what INGEST_SANDBOX_KEY says.

    \b
    In one terminal:
      ingest sandbox --latency 30ms --faults 503:5%,429:5%
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
        latency=parse_duration(latency, what="--latency"),
        faults=faults,
        seed=seed,
    )
    run(_serve(settings))


def sandbox_key() -> str:
    """Return the key of the sandbox: INGEST_SANDBOX_KEY, or `sandbox-key`."""
    return optional(os.environ, "INGEST_SANDBOX_KEY") or SandboxSettings().key


async def _serve(settings: SandboxSettings) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with Sandbox(settings) as served:
        click.echo(
            f"Serving Braze at {served.url} (statistics: {served.url}/sandbox/stats)", err=True
        )
        await ended.wait()
