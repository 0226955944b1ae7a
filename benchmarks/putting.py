"""From `put` to its request, by load: `python -m benchmarks.putting URL --rate 10000`.

Tasks put events at a steady rate in all into a pipeline. Noted is how long each `put` took, how
long after it the request with its record went, and how late a task gets that asks the loop to be
woken every few milliseconds: once without a pipeline, for what the machine adds, and once with one.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.commands import module
from benchmarks.destinations import serving
from benchmarks.sampling import Plan, Ratio, Round, Sample, Setting
from benchmarks.stopwatch import timed
from ingest import BrazeSink, Event, Pipeline
from ingest.cli.loop import run
from ingest.records import Batch
from ingest.sinks.base import Answer

TASKS = 50
BEAT = 0.005
"""Seconds between two looks at how late the loop is."""

IDLE_SECONDS = 1.0
LINGER = 1.0
"""Seconds that a pipeline waits at most for a request to become full, by default."""

LOADS = (100, 1_000, 10_000)
LOADS_QUICK = (5_000,)
SECONDS, SECONDS_QUICK = 8, 3


class Noted(BrazeSink):
    """Delivers to Braze, and notes when the request of each record went."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "bench")
        self.went: dict[object, float] = {}

    async def deliver(self, batch: Batch) -> Answer:
        """Deliver a batch."""
        now = time.perf_counter()
        for column in batch.columns:
            self.went.update(dict.fromkeys(column.keys, now))
        return await super().deliver(batch)


async def beats(late: list[float], ended: asyncio.Event) -> None:
    """Note how late the loop wakes a task that sleeps."""
    while not ended.is_set():
        before = time.perf_counter()
        await asyncio.sleep(BEAT)
        late.append(time.perf_counter() - before - BEAT)


async def produce(
    pipeline: Pipeline, task: int, rate: float, until: float, put: dict[object, float]
) -> list[float]:
    """Put at a steady rate, of a user each, noting when; return how long each put took."""
    taken, number, began = [], 0, time.perf_counter()
    while (before := time.perf_counter()) < until:
        user = f"u{task}-{number}"
        put[user] = before
        await pipeline.put(Event(external_id=user, name="seen"))
        taken.append(time.perf_counter() - before)
        number += 1
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
    return taken


async def idle(seconds: float) -> list[float]:
    """Return how late the loop is with nothing to do."""
    late: list[float] = []
    ended = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, ended.set)
    await beats(late, ended)
    return late


def quantile(seconds: list[float], share: float) -> float:
    """Return the time that this share of some stayed within."""
    return sorted(seconds)[int(len(seconds) * share)]


async def measure(url: str, rate: float, seconds: float) -> None:
    """Put for some seconds, and print a sample of it."""
    alone = await idle(min(seconds, IDLE_SECONDS))
    late, put, sink = list[float](), dict[object, float](), Noted(url)
    ended = asyncio.Event()
    with timed() as tally:
        beating = asyncio.create_task(beats(late, ended))
        async with Pipeline(sink, rate="100000/1s") as pipeline:
            until = time.perf_counter() + seconds
            puts = await asyncio.gather(
                *(produce(pipeline, task, rate / TASKS, until, put) for task in range(TASKS))
            )
            await pipeline.flush()
        ended.set()
        await beating
        every = [one for some in puts for one in some]
        tally.records = len(every)
        waited = [sink.went[user] - at for user, at in put.items()]
        for name, times in (("idle", alone), ("late", late), ("put", every), ("sent", waited)):
            for share in (50, 99):
                tally.more[f"{name} p{share}"] = quantile(times, share / 100)


@contextmanager
def plan(setting: Setting) -> Iterator[Plan]:
    """Put by several loads, into a destination that answers at once."""
    loads, seconds = (LOADS_QUICK, SECONDS_QUICK) if setting.quick else (LOADS, SECONDS)
    contenders: dict[str, Callable[[], Sample]] = {}
    ratios: list[Ratio] = []
    with serving(setting.null) as null:
        for load in loads:
            name = f"{load:,} puts/s"
            given = ("--rate", str(load), "--seconds", str(seconds))
            contenders[name] = partial(module, "putting", null.url, *given)
            ratios += _ratios(name, load, seconds)
        yield Plan(contenders, tuple(ratios))


def _ratios(name: str, load: int, seconds: int) -> list[Ratio]:
    def more(figure: str, of: float = 1.0) -> Callable[[Round], float]:
        return lambda turn: turn[name].more[figure] / of

    return [
        Ratio(f"{name}, share of them put", lambda turn: turn[name].records / (load * seconds)),
        *(
            Ratio(
                f"{name}, put to request {share}, of the linger of 1 s",
                more(f"sent {share}", LINGER),
                less_is_better=True,
                guarded=False,
            )
            for share in ("p50", "p99")
        ),
        Ratio(
            f"{name}, p99 of a put, of the linger of 1 s",
            more("put p99", LINGER),
            less_is_better=True,
            guarded=False,
        ),
        Ratio(
            f"{name}, p99 of the loop's lateness, times that of an idle one",
            lambda turn: turn[name].more["late p99"] / turn[name].more["idle p99"],
            less_is_better=True,
            guarded=False,
        ),
    ]


def main() -> None:
    """Read the options, and measure."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.putting")
    options.add_argument("url")
    options.add_argument("--rate", type=float, default=10_000, help="records a second in all")
    options.add_argument("--seconds", type=float, default=10)
    asked = options.parse_args()
    run(measure(asked.url, asked.rate, asked.seconds))


if __name__ == "__main__":
    main()
