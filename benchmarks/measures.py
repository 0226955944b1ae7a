"""The measurements: each returns a rate, and is fair to compare with the others of its run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from benchmarks.corpora import CORPORA
from ingest.batcher import Batcher
from ingest.intake import Intake, IntakeRules, Taken
from ingest.profiles import Caps

COMBINED = Caps((75, 75, 75), 75, 4_000_000)
PER_ARRAY = Caps((75, 75, 75), 225, 4_000_000)
BLOCK_LINES = 1_500
CONNECTIONS = 8


def best_of(runs: int, measure: Callable[[], float]) -> list[float]:
    """Return the rates of several runs, in the order they came."""
    return [measure() for _ in range(runs)]


def intake(corpus: str, count: int) -> float:
    """Records per CPU second that the intake judges, validation on."""
    lines = [line.rstrip(b"\n") for line in CORPORA[corpus](count)]
    since = time.process_time()
    _taken(lines)
    return count / (time.process_time() - since)


def packing(corpus: str, count: int, caps: Caps) -> float:
    """Records per CPU second that the batcher packs, each batch settled at once."""
    taken = _taken([line.rstrip(b"\n") for line in CORPORA[corpus](count)])
    batcher = Batcher(slots=3, overhead=64)
    since = time.process_time()
    for some in taken:
        for chunk in some.chunks:
            batcher.add(chunk)
        while batch := batcher.take(caps, partial=False):
            batcher.release(batch.users())
    return count / (time.process_time() - since)


def _taken(lines: list[bytes]) -> list[Taken]:
    judge = Intake(IntakeRules())
    return [
        taken
        for start in range(0, len(lines), BLOCK_LINES)
        for taken in judge.take(0, lines[start : start + BLOCK_LINES], start + 1)
    ]


def import_to_file(path: Path, count: int, limits: str) -> float:
    """Records per second of the whole command into a null file, start-up included."""
    return count / _timed([str(path), "--to", "file:/dev/null", "--limits", limits], {})


def import_to_http(path: Path, count: int, limits: str, port: int, *more: str) -> float:
    """Records per second of the whole command over HTTP, start-up included."""
    options = ["--to", "braze", "--limits", limits, "--rate", "1000000/1s", *more]
    return count / _timed([str(path), *options], null_account(port))


def saved_map(path: Path, port: int, *options: str) -> Path:
    """Decide the columns of a table once, as `ingest plan --save` keeps them; return the map."""
    kept = path.with_suffix(".toml")
    command = [sys.executable, "-m", "ingest", "plan", str(path), "--to", "braze", *options]
    environ = os.environ | null_account(port)
    subprocess.run(
        [*command, "--save", str(kept)], check=True, env=environ, stderr=subprocess.DEVNULL
    )
    return kept


def by_hand(path: Path, count: int, port: int, *more: str) -> float:
    """Records per second of the loop that people write, start-up included."""
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "benchmarks.by_hand", str(path), url, *more]
    since = time.monotonic()
    subprocess.run(command, check=True)
    return count / (time.monotonic() - since)


def null_account(port: int) -> dict[str, str]:
    """Return the environment that leads to the null server."""
    return {"BRAZE_REST_URL": f"http://127.0.0.1:{port}", "BRAZE_API_KEY": "bench"}


def import_command(path: Path | str, state: str, *options: str) -> list[str]:
    """Return the command of an import that keeps its state in a directory of its own.

    A second import of the same input with the same state would send nothing.
    """
    command = [sys.executable, "-m", "ingest", "import", str(path), "--state", state]
    return [*command, "--progress", "none", *options]


def _timed(arguments: list[str], environ: dict[str, str]) -> float:
    path, *options = arguments
    with tempfile.TemporaryDirectory() as state:
        command = import_command(path, state, *options)
        since = time.monotonic()
        subprocess.run(command, check=True, env=os.environ | environ, stderr=subprocess.DEVNULL)
        return time.monotonic() - since


def bare_http(corpus: str, count: int, each: int, port: int) -> float:
    """Records per second of aiohttp posting ready bodies of `each` records: the limit."""
    lines = [line.rstrip(b"\n") for line in CORPORA[corpus](each)]
    body = b'{"attributes":[' + b",".join(lines) + b"]}"
    return asyncio.run(_post(body, count // each, each, port))


async def _post(body: bytes, requests: int, each: int, port: int) -> float:
    left = iter(range(requests))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work() -> None:
            for _ in left:
                async with session.post(f"http://127.0.0.1:{port}/users/track", data=body) as said:
                    await said.read()

        since = time.monotonic()
        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
        return requests * each / (time.monotonic() - since)


@contextmanager
def null_server(latency: float = 0.0) -> Iterator[int]:
    """Run the null destination in a process of its own; give its port. `latency` is in seconds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.null_server", "--latency", str(latency)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()
