"""A pipeline on the virtual clock, put together for a test: a source of lines, a scripted sink.

`drive` runs one to its end and returns what a test of the laws asks for. Every script is told the
virtual time, so an outage is a span of seconds and costs none.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ingest.codec import dumps, loads
from ingest.dispositions import RetryPolicy
from ingest.errors import InputError
from ingest.inflight import Fixed, InFlight
from ingest.intake import Intake, IntakeRules
from ingest.ledger import Ledger, Named
from ingest.limits import Budget, parse_rate
from ingest.observer import Observer
from ingest.outcomes import Delivered, Outcome
from ingest.pipeline import Driver, DriverSettings, State
from ingest.profiles import CapsLadder
from ingest.records import Batch
from ingest.schemas import TrackSchema
from ingest.sinks.base import Answer, Endpoint
from ingest.sinks.braze import ENDPOINTS
from ingest.sinks.memory import MemorySink
from ingest.sources.base import Block, split_blocks
from ingest.state.dead_letters import DeadLetterFile
from ingest.throttle import Throttle
from tests.virtual_clock import run

OK: Final = Delivered(201)
COMBINED: Final = ENDPOINTS["track"].caps[1]
"""75 in total, taken for granted: no probe for larger requests."""

Script = Callable[[Batch, float], Outcome | Answer]
"""Says what is answered to a batch at a virtual time, in seconds from the start."""


def attributes(user: str, number: int, **more: Any) -> bytes:
    """One line with an attributes record that no other line equals."""
    return dumps({"attributes": {"external_id": user, "n": number, **more}})


def event(user: str, number: int, **properties: Any) -> bytes:
    """One line with an event that no other line equals."""
    properties["n"] = number
    row = {"external_id": user, "name": "e", "time": "2026-11-01T00:00:00Z"}
    return dumps({"event": {**row, "properties": properties}})


def number_of(fragment: bytes) -> int:
    """Return the number that `attributes` and `event` put into a record."""
    record = loads(fragment)
    number: int = record["n"] if "n" in record else record["properties"]["n"]
    return number


async def lines_of(lines: Iterable[bytes], *, broken: bool = False) -> AsyncIterator[Block]:
    """Blocks of the lines; at their end the source breaks, if asked to."""
    for block in split_blocks((b"\n".join(lines),), 0):
        yield block
    if broken:
        raise InputError("in.ndjson broke off in the middle: it is truncated")


class Notes(Observer):
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        """Keep a sentence."""
        self.notices.append(text)


class Driven(msgspec.Struct):
    """How a run went. `arrivals` are the numbers of a user's records as they were accepted.

    `silent` counts the looks at which nothing was in flight, records
    remained, and nothing was said of what is waited for.
    """

    pipeline: Driver
    sink: MemorySink
    notices: list[str]
    letters: list[dict[str, Any]]
    seconds: float
    state: State | None = None
    most_memory: int = 0
    silent: int = 0
    task: asyncio.Task[Any] | None = None
    arrivals: dict[str, list[int]] = {}
    sent: list[tuple[float, int]] = []

    @property
    def columns(self) -> dict[str, int]:
        """The balance, without the columns that are 0."""
        return {name: count for name, count in self.pipeline.balance.columns().items() if count}

    def balanced(self) -> bool:
        """Whether every record read is in exactly one column (law 1)."""
        columns = self.pipeline.balance.columns()
        return columns["read"] == sum(columns.values()) - columns["read"]

    def delivered(self) -> list[int]:
        """Numbers of all records delivered, copies too, sorted."""
        return sorted(map(number_of, (one for slot in self.sink.delivered for one in slot)))


class Setup(msgspec.Struct, kw_only=True):
    """What a test may choose; the rest is as the command line would have it."""

    script: Script = lambda batch, now: OK
    endpoint: Endpoint = ENDPOINTS["track"]
    schema: TrackSchema = TrackSchema()
    latency: float = 0.05
    in_flight: Fixed | InFlight | None = None
    rate: str = ""
    settings: DriverSettings = DriverSettings()
    ladder: CapsLadder | None = None
    hold: Sequence[int] = ()
    letters: Path
    seed: int = 0
    look_every: float = 0.05  # seconds of virtual time between two looks at the pipeline


def assembled(setup: Setup) -> Driven:
    """Build a pipeline within a running virtual loop."""
    clock = asyncio.get_running_loop().time
    dice = random.Random(setup.seed).random
    arrivals: dict[str, list[int]] = defaultdict(list)
    sent: list[tuple[float, int]] = []

    def script(batch: Batch) -> Outcome | Answer:
        sent.append((clock(), len(batch)))
        said = setup.script(batch, clock())
        outcome = said.outcome if isinstance(said, Answer) else said
        if isinstance(outcome, Delivered):
            refused = {(error.slot, error.index) for error in outcome.rejected}
            for slot, column in enumerate(batch.columns):
                for index, fragment in enumerate(column.fragments()):
                    if (slot, index) not in refused:
                        arrivals[str(column.keys[index])].append(number_of(fragment))
        return said

    sink = MemorySink(script, setup.latency, endpoint=setup.endpoint)
    policy = RetryPolicy(hold_unanswered=frozenset(setup.hold))
    notes = Notes()
    budget = Budget(parse_rate(setup.rate) if setup.rate else (), counts=setup.endpoint.counts)
    pipeline = Driver(
        sink,
        intake=Intake(IntakeRules(largest=COMBINED.body_bytes - sink.overhead - 1), setup.schema),
        ladder=setup.ladder or CapsLadder((COMBINED,)),
        throttle=Throttle(budget, clock=clock, jitter=dice),
        in_flight=setup.in_flight or InFlight(budget.rate),
        ledger=Ledger(
            DeadLetterFile(setup.letters, run="r"),
            kinds=sink.endpoint.kinds,
            places=Named(lambda part: "in.ndjson"),
            wall=clock,
        ),
        settings=msgspec.structs.replace(setup.settings, policy=policy),
        observer=notes,
        dice=dice,
        clock=clock,
    )
    return Driven(pipeline, sink, notes.notices, [], clock(), arrivals=arrivals, sent=sent)


async def watched(driven: Driven, every: float) -> None:
    """Look at a pipeline now and then: memory, and whether it says what it waits for."""
    pipeline = driven.pipeline
    while True:
        await asyncio.sleep(every)
        driven.most_memory = max(driven.most_memory, pipeline.memory_used)
        idle = not pipeline.requests_in_flight and pipeline.queued_records
        driven.silent += bool(idle and not pipeline.waiting_for)


def drive(
    lines: Sequence[bytes] | Callable[[], AsyncIterator[Block]],
    setup: Setup,
    *,
    meanwhile: Callable[[Driven], Any] | None = None,
) -> Driven:
    """Run a pipeline over the lines (or blocks) to its end; `meanwhile` is a task beside it."""

    async def main() -> Driven:
        driven = assembled(setup)
        driven.task = asyncio.current_task()
        blocks = lines() if callable(lines) else lines_of(lines)
        tasks = [asyncio.create_task(watched(driven, setup.look_every))]
        if meanwhile:
            tasks.append(asyncio.create_task(meanwhile(driven)))
        since = asyncio.get_running_loop().time()
        try:
            driven.state = await driven.pipeline.run(blocks)
        finally:
            driven.seconds = asyncio.get_running_loop().time() - since
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if setup.letters.exists():
            driven.letters = [loads(line) for line in setup.letters.read_bytes().splitlines()]
        return driven

    return run(main())
