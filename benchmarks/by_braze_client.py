"""PyPI's `braze-client`, used as its page shows: one `user_track` after the other, 75 rows each.

`python -m benchmarks.by_braze_client FILE.csv URL [--threads 20]`. It keeps one connection, sends
`events` and `purchases` as empty arrays, and asks again up to three times. With `--threads` each
thread has a client of its own, for nothing says that one may be shared.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from benchmarks.rows import chunks
from benchmarks.stopwatch import timed

if not hasattr(asyncio, "coroutine"):
    # It asks for a tenacity of before Python 3.11, which wants this for what is not used here.
    asyncio.coroutine = types.coroutine  # type: ignore[attr-defined]  # gone since 3.11

from braze.client import BrazeClient

_OWN = threading.local()


def track(url: str, chunk: list[dict[str, Any]]) -> None:
    """Send one request. Raises `BrazeClientError`."""
    if not hasattr(_OWN, "client"):
        _OWN.client = BrazeClient(api_key="bench", api_url=url)
    _OWN.client.user_track(attributes=chunk, events=None, purchases=None)


def main() -> None:
    """Import a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.by_braze_client")
    parser.add_argument("path")
    parser.add_argument("url")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    n = given.threads
    with timed() as tally, open(given.path, newline="") as file, ThreadPoolExecutor(n) as pool:
        todo = chunks(csv.DictReader(file))
        while some := list(islice(todo, n)):
            list(pool.map(lambda chunk: track(given.url, chunk), some))
            tally.records += sum(map(len, some))


if __name__ == "__main__":
    main()
