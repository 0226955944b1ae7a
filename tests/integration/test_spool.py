"""What was said to be accepted outlives the process that said it, through kills and floods."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from aiohttp import ClientError, ClientSession

from ingest.codec import dumps
from tests.integration.processes import most_memory

pytestmark = pytest.mark.integration

ROOT: Final = Path(__file__).parents[2]
WORKER: Final = (sys.executable, "-m", "tests.integration.spool_worker")
CLIENTS: Final = 20
HEADERS: Final = {"Content-Type": "application/x-ndjson"}
ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(ROOT)}

PATIENCE: Final = 60.0
"""Seconds until something that should have happened is called missing."""


def line(number: int) -> bytes:
    """A record that is like no other."""
    event = {"external_id": f"u{number}", "name": "n", "time": "2026-01-31T12:00:00Z"}
    return dumps({"event": event})


class Serving:
    """An intake in a process of its own."""

    def __init__(self, state: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [*WORKER, "serve", str(state), *options],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().decode().strip()

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()

    @property
    def most_memory(self) -> int:
        """The most memory it had, in bytes. Linux only."""
        return most_memory(self.process)


@contextmanager
def serving(state: Path, *options: str) -> Iterator[Serving]:
    """Serve until the block is left, and then no more."""
    worker = Serving(state, *options)
    try:
        yield worker
    finally:
        worker.kill()


def listed(state: Path) -> Counter[bytes]:
    """The lines in a spool that nobody serves."""
    done = subprocess.run(
        [*WORKER, "list", str(state)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=PATIENCE,
    )
    return Counter(done.stdout.splitlines())


async def flood(url: str, bodies: list[tuple[bytes, str | None]]) -> list[tuple[int, bytes]]:
    """Post bodies from many clients at once; return the answers, (0, b"") for none."""
    todo = list(enumerate(bodies))
    answers = [(0, b"")] * len(bodies)

    async def client(session: ClientSession) -> None:
        while todo:
            at, (body, key) = todo.pop()
            headers = HEADERS if key is None else HEADERS | {"Idempotency-Key": key}
            try:
                async with session.post(f"{url}/v1/records", data=body, headers=headers) as answer:
                    answers[at] = (answer.status, await answer.read())
            except ClientError:
                return

    async with ClientSession() as session, asyncio.timeout(PATIENCE):
        await asyncio.gather(*(client(session) for _ in range(CLIENTS)))
    return answers


def posted(url: str, bodies: list[tuple[bytes, str | None]]) -> list[tuple[int, bytes]]:
    """Flood, and wait for the end."""
    return asyncio.run(flood(url, bodies))


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    """5,000 lines, killed after the last 202: each is in the spool once."""
    numbers = range(5_000)
    bodies = [(b"\n".join(map(line, numbers[at : at + 10])), None) for at in range(0, 5_000, 10)]
    with serving(tmp_path) as worker:
        answers = posted(worker.url, [*bodies])
        worker.kill()
    assert set(answers) == {(202, b'{"accepted":10}\n')}
    assert listed(tmp_path) == Counter(map(line, numbers))


@pytest.mark.parametrize("seed", range(3))
def test_requests_with_keys_are_there_once_or_not_at_all(tmp_path: Path, seed: int) -> None:
    """Killed in the middle of the flood, and all sent again: every line is there once."""
    dice = random.Random(seed)
    bodies: list[tuple[bytes, str | None]] = [
        (b"\n".join(line(at * 10 + each) for each in range(10)), f"key-{at}") for at in range(300)
    ]
    with serving(tmp_path) as worker:

        async def killed() -> list[tuple[int, bytes]]:
            flooding = asyncio.create_task(flood(worker.url, [*bodies]))
            await asyncio.sleep(dice.uniform(0.05, 0.4))
            worker.process.kill()
            return await flooding

        before = asyncio.run(killed())
    acknowledged = [at for at, (status, _) in enumerate(before) if status == 202]
    there = listed(tmp_path)
    for at in acknowledged:
        for text in bodies[at][0].split(b"\n"):
            assert there[text] == 1
    with serving(tmp_path) as worker:
        assert set(posted(worker.url, [*bodies, *bodies])) == {(202, b'{"accepted":10}\n')}
    assert listed(tmp_path) == Counter(map(line, range(3_000)))


def test_a_flood_meets_503s_and_bounded_memory(tmp_path: Path) -> None:
    """20 clients against a spool that nobody empties: it keeps what fits, and what it said."""
    pad = b" " * 900
    bodies = [
        (b"\n".join(line(at * 500 + each) + pad for each in range(500)), None) for at in range(200)
    ]
    with serving(tmp_path, "spool_bytes=40000000", "memory=16000000") as worker:
        answers = posted(worker.url, [*bodies])
        most = worker.most_memory
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) == {202, 503}
    assert sum(listed(tmp_path).values()) == 500 * statuses[202]
    assert statuses[202] * len(bodies[0][0]) <= 40_000_000
    assert most < 150_000_000


def test_a_disk_that_is_full_refuses_and_keeps(tmp_path: Path) -> None:
    """No half line, nothing that was acknowledged is missing, and it goes on serving."""
    bodies = [(b"\n".join(line(at * 10 + each) for each in range(10)), None) for at in range(200)]
    with serving(tmp_path, "fsize=65536") as worker:
        answers = posted(worker.url, [*bodies])
        again = posted(worker.url, [*bodies[:5]])
    kept = [bodies[at][0] for at, (status, _) in enumerate(answers) if status == 202]
    assert {status for status, _ in answers} == {202, 503}
    assert {status for status, _ in again} <= {202, 503}
    there = listed(tmp_path)
    assert set(there) >= {text for body in kept for text in body.split(b"\n")}
    assert set(there) <= {line(number) for number in range(2_000)}
