"""The loop that people write to import a table, and that vendors give as a script.

`python -m benchmarks.by_hand FILE.csv URL [--session]`: rows by `csv.DictReader`, each cell made
into what it looks like, 75 rows a request, 20 threads, and a `requests.post` for each, which opens
a connection every time. With `--session` the connections of a thread are kept, which such loops
forget. There is no retry, no pace, no count and no journal: what it costs to be careless.
"""

from __future__ import annotations

import argparse
import csv
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import requests

from benchmarks.rows import chunks
from benchmarks.stopwatch import timed

THREADS = 20
TIMEOUT_SECONDS = 30.0

_OWN = threading.local()


def post(url: str, chunk: list[dict[str, Any]], session: bool) -> None:
    """Send one request. Raises `requests.HTTPError`."""
    if session and not hasattr(_OWN, "session"):
        _OWN.session = requests.Session()
    poster = _OWN.session if session else requests
    headers = {"Authorization": "Bearer bench"}
    answer = poster.post(
        f"{url}/users/track", json={"attributes": chunk}, headers=headers, timeout=TIMEOUT_SECONDS
    )
    answer.raise_for_status()


def main() -> None:
    """Import a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.by_hand")
    parser.add_argument("path")
    parser.add_argument("url")
    parser.add_argument("--session", action="store_true", help="keep the connections")
    given = parser.parse_args()
    with (
        timed() as tally,
        open(given.path, newline="") as file,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        todo = chunks(csv.DictReader(file))
        while some := list(islice(todo, THREADS)):
            list(pool.map(lambda chunk: post(given.url, chunk, given.session), some))
            tally.records += sum(map(len, some))


if __name__ == "__main__":
    main()
