"""PyPI's `segment-analytics-python`, fed with `identify` of every row, pointed at a URL.

`python -m benchmarks.by_segment FILE.csv URL`. As it comes, but for its queue, which is made large
enough not to drop what a loop gives it: one thread takes from it, and posts up to 100 calls at a
time (475 kB at most) to /v1/batch over one connection. A call carries a message id, a time and a
context beside its traits, so that its bodies are twice as large as ours.
"""

from __future__ import annotations

import argparse
import csv
import time
from typing import Any

from segment.analytics.client import Client

from benchmarks.rows import object_of
from benchmarks.stopwatch import timed

QUEUE = 100_000
"""Calls that wait at most; by default 10,000, and what comes then is dropped."""

FULL_SECONDS = 0.001
"""Pause when the queue is full."""


def main() -> None:
    """Import a table. Raises `SystemExit` if calls got lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.by_segment")
    parser.add_argument("path")
    parser.add_argument("url")
    given = parser.parse_args()
    lost: list[str] = []

    def failed(error: Exception, calls: list[Any]) -> None:
        lost.extend([str(error)] * len(calls))

    with timed() as tally, open(given.path, newline="") as file:
        client = Client("bench", host=given.url, max_queue_size=QUEUE, on_error=failed)
        for row in csv.DictReader(file):
            traits = object_of(row)
            user = traits.pop("external_id")
            while not client.identify(user, traits)[0]:
                time.sleep(FULL_SECONDS)
            tally.records += 1
        client.flush()
        client.join()
    if lost:
        raise SystemExit(f"{len(lost):,} calls were lost: {lost[0]}")


if __name__ == "__main__":
    main()
