"""How long `put` takes, and how late the loop of its users gets: `python -m benchmarks.putting`.

Tasks put events at a steady rate in all, into a sandbox in a process of its own. Beside them a task
asks to be woken every few milliseconds, and notes how late it is: once without a pipeline, for what
the machine adds by itself, and once with one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ingest import BrazeSink, Event, Pipeline

TASKS = 50
BEAT = 0.005
"""Seconds between two looks at how late the loop is."""


@contextmanager
def sandbox() -> Iterator[str]:
    """Serve a sandbox without limits to speak of; give its URL."""
    command = [sys.executable, "-m", "ingest", "sandbox", "--port", "0", "--rate", "1000000/1s"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        try:
            yield found[0].rstrip("/")
        finally:
            process.terminate()


async def beats(late: list[float], ended: asyncio.Event) -> None:
    """Note how late the loop wakes a task that sleeps."""
    while not ended.is_set():
        before = time.perf_counter()
        await asyncio.sleep(BEAT)
        late.append(time.perf_counter() - before - BEAT)


async def produce(pipeline: Pipeline, task: int, rate: float, until: float) -> list[float]:
    """Put at a steady rate; return how long each put took."""
    taken, number, began = [], 0, time.perf_counter()
    while time.perf_counter() < until:
        before = time.perf_counter()
        await pipeline.put(Event(external_id=f"u{task}-{number % 1_000}", name="seen"))
        taken.append(time.perf_counter() - before)
        number += 1
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
    return taken


def told(name: str, seconds: list[float]) -> str:
    """Return a line with the spread of some times."""
    some = sorted(seconds)
    p50, p99 = (some[int(len(some) * share)] * 1_000 for share in (0.5, 0.99))
    return f"{name:<28} p50 {p50:8.3f} ms   p99 {p99:8.3f} ms   max {some[-1] * 1_000:8.3f} ms"


async def idle(seconds: float) -> list[float]:
    """Return how late the loop is with nothing to do."""
    late: list[float] = []
    ended = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, ended.set)
    await beats(late, ended)
    return late


async def measured(url: str, rate: float, seconds: float) -> None:
    """Put for some seconds, and say what it was like."""
    print(told("the loop, idle", await idle(min(seconds, 5.0))))
    late: list[float] = []
    ended = asyncio.Event()
    beating = asyncio.create_task(beats(late, ended))
    async with Pipeline(BrazeSink(url, "sandbox-key"), rate="100000/1s") as pipeline:
        until = time.perf_counter() + seconds
        puts = await asyncio.gather(
            *(produce(pipeline, task, rate / TASKS, until) for task in range(TASKS))
        )
        cpu = time.process_time()
        await pipeline.flush()
    ended.set()
    await beating
    every = [one for some in puts for one in some]
    print(told("the loop, with a pipeline", late))
    print(told(f"put, {len(every) / seconds:,.0f}/s of {TASKS} tasks", every))
    print(f"{pipeline.balance}; CPU {cpu / len(every) * 1e6:.1f} us a record")


def main() -> None:
    """Read the options, and measure."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.putting", description=__doc__)
    options.add_argument("--rate", type=float, default=10_000, help="records a second in all")
    options.add_argument("--seconds", type=float, default=10)
    asked = options.parse_args()
    os.environ.pop("INGEST_SANDBOX_KEY", None)
    with sandbox() as url:
        asyncio.run(measured(url, asked.rate, asked.seconds))


if __name__ == "__main__":
    main()
