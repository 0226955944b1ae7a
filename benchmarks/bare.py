"""The limit: aiohttp posting bodies that are ready, on the same loop, and nothing else.

`python -m benchmarks.bare FILE.ndjson URL --each 75 --requests 4000`. Every body holds the same
records as one of the import's requests, and has the same headers. With `--rate` the requests go at
a steady pace, each in a task of its own; without, `--connections` of them are always in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Coroutine
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.stopwatch import timed
from ingest.cli.loop import run

CONNECTIONS = 8
BODIES = 64
"""Different bodies, sent in turn."""

HEADERS = {"Authorization": "Bearer bench", "Content-Type": "application/json"}
ARRAYS = {
    b'{"attributes"': b"attributes",
    b'{"event"': b"events",
    b'{"purchase"': b"purchases",
}
"""What a line begins with, and the array that its record goes into."""


def bodies_of(path: Path, each: int) -> list[bytes]:
    """Return bodies of `each` records of a file, as `ingest import` makes them."""
    bodies: list[bytes] = []
    with path.open("rb") as lines:
        while len(bodies) < BODIES and len(some := list(islice(lines, each))) == each:
            bodies.append(_body(some))
    return bodies


def _body(lines: list[bytes]) -> bytes:
    arrays: dict[bytes, list[bytes]] = {}
    for line in lines:
        kind, _, record = line.rstrip().partition(b":")
        arrays.setdefault(ARRAYS[kind], []).append(record[:-1])
    members = (b'"%b":[%b]' % (name, b",".join(some)) for name, some in arrays.items())
    return b"{%b}" % b",".join(members)


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> None:
    async with session.post(url, data=body, headers=HEADERS) as said:
        await said.read()
        if said.status != 201:
            raise SystemExit(f"the destination answered {said.status}")


async def flat_out(
    session: aiohttp.ClientSession, url: str, bodies: list[bytes], requests: int, connections: int
) -> None:
    """Post as fast as it goes over a number of connections."""
    left = iter(range(requests))

    async def work() -> None:
        for number in left:
            await _post(session, url, bodies[number % len(bodies)])

    await asyncio.gather(*(work() for _ in range(connections)))


async def paced(
    session: aiohttp.ClientSession, url: str, bodies: list[bytes], requests: int, rate: float
) -> None:
    """Post at a steady pace, whatever is in flight."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(requests):
            if (wait := began + number / rate - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            group.create_task(_post(session, url, bodies[number % len(bodies)]))


async def _session(given: argparse.Namespace) -> None:
    url, bodies = f"{given.url}/users/track", bodies_of(Path(given.path), given.each)
    connector = aiohttp.TCPConnector(limit=0)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar) as session:
        with timed() as tally:
            sending: Coroutine[Any, Any, None]
            if given.rate:
                sending = paced(session, url, bodies, given.requests, given.rate)
            else:
                sending = flat_out(session, url, bodies, given.requests, given.connections)
            await sending
            tally.records = given.requests * given.each


def main() -> None:
    """Post as told."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare")
    parser.add_argument("path", help="a file of NDJSON")
    parser.add_argument("url")
    parser.add_argument("--each", type=int, default=75, help="records of a request (75)")
    parser.add_argument("--requests", type=int, default=4_000, help="(4000)")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--rate", type=float, help="requests a second, whatever is in flight")
    run(_session(parser.parse_args()))


if __name__ == "__main__":
    main()
