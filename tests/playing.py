"""A row of the registry, played through with its real parts against a made-up far end.

The intake reads lines made of the row's own example, the pipeline packs, paces and retries, and
the row's wire makes the bodies and reads the answers. What is made up is the network. `play`
returns what `tests/laws_at_the_end.py` checks.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ingest.codec import loads
from ingest.dispositions import Disposition, RetryPolicy
from ingest.inflight import Fixed
from ingest.intake import Intake, IntakeRules
from ingest.ledger import Ledger, Named
from ingest.limits import Budget
from ingest.observer import Observer
from ingest.pipeline import Driver, DriverSettings, State
from ingest.profiles import CapsLadder
from ingest.records import Batch
from ingest.sinks.base import Answer, Wire
from ingest.sources.base import Block, split_blocks
from ingest.state.dead_letters import DeadLetterFile
from ingest.taken import Taken
from ingest.throttle import Throttle
from tests.laws_far_end import Far
from tests.laws_rows import NOW, Plan
from tests.virtual_clock import run

PATIENT: Final = RetryPolicy(strikes_to_bisect=1_000, strikes_to_fail=1_000)
"""Where bad luck is no record's fault: nothing is given up for it, however long it lasts."""


class _NotedLedger(Ledger):
    """A ledger that tells of each record, by its line, how it ended: each but once."""

    ended: dict[int, str]

    def take_in(self, taken: Taken) -> None:
        super().take_in(taken)
        for refusal in taken.refusals:
            self._end(refusal.line, "invalid")

    def settle(
        self, batch: Batch, answer: Answer, disposition: Disposition, *, attempts: int
    ) -> None:
        super().settle(batch, answer, disposition, attempts=attempts)
        verdicts = {(one.slot, one.index): one.column for one in disposition.verdicts}
        for slot, index in batch.rows():
            column = verdicts.get((slot, index)) or (disposition.delivered and "delivered")
            if column:
                self._end(batch.columns[slot].lines[index], column)

    def settle_plain(self, batches: Sequence[Batch]) -> None:
        super().settle_plain(batches)
        for batch in batches:
            for slot, index in batch.rows():
                self._end(batch.columns[slot].lines[index], "delivered")

    def _end(self, line: int, column: str) -> None:
        assert line not in self.ended
        self.ended[line] = column


class Played(msgspec.Struct):
    """How a play went: `ended[line]` is the column of a record, `letters` are the dead letters."""

    plan: Plan
    far: Far
    pipeline: Driver
    ended: dict[int, str]
    state: State
    letters: list[dict[str, Any]] = []


class _Deaf(Observer):
    """An observer that minds nothing."""

    def notice(self, text: str) -> None:
        pass


async def _blocks(lines: Sequence[bytes]) -> AsyncIterator[Block]:
    for block in split_blocks((b"\n".join(lines),), 0):
        yield block
        await asyncio.sleep(0)


def play(wire: Wire, plan: Plan) -> Played:
    """Run a pipeline with a wire over the lines of a plan, to its end, on a virtual clock."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "letters.ndjson"
        played = run(_played(wire, plan, path))
        if path.exists():
            played.letters = [loads(line) for line in path.read_bytes().splitlines()]
        return played


async def _played(wire: Wire, plan: Plan, path: Path) -> Played:
    clock = asyncio.get_running_loop().time
    dice = random.Random(plan.seed).random
    ended: dict[int, str] = {}
    far, endpoint = Far(wire, plan, ended), wire.endpoint
    ledger = _NotedLedger(
        DeadLetterFile(path, run="r"),
        kinds=endpoint.kinds,
        places=Named(str),
        record_of=wire.record_of,
        wall=lambda: NOW + clock(),
    )
    ledger.ended = ended
    policy = RetryPolicy() if plan.habits.dislikes == "broken" else PATIENT
    if plan.hold:
        held = frozenset(range(len(endpoint.slots)))
        policy = msgspec.structs.replace(policy, hold_unanswered=held)
    ladder = CapsLadder(plan.caps)
    largest = ladder.current.body_bytes - wire.overhead - 1
    budget = Budget(endpoint.limits)
    pipeline = Driver(
        far,
        intake=Intake(IntakeRules(largest=largest), wire.schema),
        ladder=ladder,
        throttle=Throttle(budget, clock=clock, jitter=dice),
        in_flight=Fixed(plan.in_flight),
        ledger=ledger,
        settings=DriverSettings(policy=policy),
        observer=_Deaf(),
        dice=dice,
        clock=clock,
        wall=lambda: NOW,
    )
    state = await pipeline.run(_blocks(plan.lines))
    return Played(plan, far, pipeline, ended, state)
