"""The core alone, without a loop or a socket, beside the least that anybody does with a line.

That least is one decode of each line by the library that we decode with, and one join of its bytes
into bodies. CPU time, in this process, with the garbage collector off.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.corpora import lines_of
from benchmarks.sampling import Plan, Ratio, Round, Sample, Setting
from ingest.batcher import Batcher
from ingest.codec import loads
from ingest.dispositions import Disposition
from ingest.intake import Intake, IntakeRules
from ingest.ledger import Ledger, Named
from ingest.outcomes import Delivered
from ingest.profiles import Caps
from ingest.records import KINDS, Batch
from ingest.sinks.base import Answer
from ingest.state.dead_letters import DeadLetterFile
from ingest.taken import Taken

COMBINED = Caps((75, 75, 75), 75, 4_000_000)
PER_ARRAY = Caps((75, 75, 75), 225, 4_000_000)
BLOCK_LINES = 1_500
PART = 3
"""The core gets this part of the records: it has no start-up to hide."""

CORPORA = ("typical", "mixed", "few")
FLOOR = "decode and join"


@contextmanager
def plan(setting: Setting) -> Iterator[Plan]:
    """Judge, pack and settle the records of some corpora."""
    contenders: dict[str, Callable[[], Sample]] = {}
    ratios: list[Ratio] = []
    for corpus in CORPORA[: 2 if setting.quick else None]:
        lines = [line.rstrip(b"\n") for line in lines_of(corpus, setting.count // PART)]
        floor, work = f"{FLOOR}, {corpus}", _Work(lines, setting.folder)
        contenders[floor] = partial(_floor, lines)
        for name, doing in (
            ("validation", work.validation),
            ("packing at 75", partial(work.packing, COMBINED)),
            ("packing at 225", partial(work.packing, PER_ARRAY)),
            ("balance", work.balance),
        ):
            contenders[f"{name}, {corpus}"] = doing
            ratios.append(
                Ratio(
                    f"{name}, {corpus}, times {FLOOR}",
                    _costs(f"{name}, {corpus}", floor),
                    less_is_better=True,
                )
            )
    yield Plan(contenders, tuple(ratios))


def _costs(name: str, to: str) -> Callable[[Round], float]:
    return lambda turn: turn[name].each / turn[to].each


@contextmanager
def _undisturbed() -> Iterator[Callable[[], float]]:
    """Stop the garbage collector; give what tells the CPU seconds since."""
    gc.collect()
    gc.disable()
    since = time.process_time()
    try:
        yield lambda: time.process_time() - since
    finally:
        gc.enable()


def _sample(records: int, cpu: float) -> Sample:
    return Sample(records, cpu, cpu)


def _floor(lines: list[bytes]) -> Sample:
    with _undisturbed() as used:
        for line in lines:
            loads(line)
        for start in range(0, len(lines), COMBINED.total):
            b",".join(lines[start : start + COMBINED.total])
        return _sample(len(lines), used())


class _Work:
    """What the core does with some lines, step by step."""

    def __init__(self, lines: list[bytes], folder: Path) -> None:
        self._lines = lines
        self._folder = folder

    def validation(self) -> Sample:
        """Judge lines: decoding, the documented rules, user keys."""
        with _undisturbed() as used:
            self._taken()
            return _sample(len(self._lines), used())

    def packing(self, caps: Caps) -> Sample:
        """Pack what was judged, every batch let go at once."""
        taken = self._taken()
        with _undisturbed() as used:
            for _ in _packed(taken, caps):
                pass
            return _sample(len(self._lines), used())

    def balance(self) -> Sample:
        """Account for what was judged, and for answers that accept all of it."""
        taken = self._taken()
        batches = list(_packed(taken, COMBINED))
        letters = DeadLetterFile(self._folder / "letters.ndjson", run="bench")
        ledger = Ledger(letters, kinds=KINDS, places=Named(str))
        answer, done = Answer(Delivered(201), status=201), Disposition(delivered=True)
        with _undisturbed() as used:
            for some in taken:
                ledger.take_in(some)
            for batch in batches:
                ledger.settle(batch, answer, done, attempts=1)
            cpu = used()
        ledger.close()
        assert ledger.balance.count("delivered") == len(self._lines)
        return _sample(len(self._lines), cpu)

    def _taken(self) -> list[Taken]:
        judge, lines = Intake(IntakeRules()), self._lines
        return [
            taken
            for start in range(0, len(lines), BLOCK_LINES)
            for taken in judge.take(0, lines[start : start + BLOCK_LINES], start + 1)
        ]


def _packed(taken: list[Taken], caps: Caps) -> Iterator[Batch]:
    batcher = Batcher(slots=3, overhead=64)
    for some in taken:
        for chunk in some.chunks:
            batcher.add(chunk)
        while batch := batcher.take(caps, partial=False):
            yield batch
            batcher.release(batch.family, batch.users())
    while batch := batcher.take(caps, partial=True):
        yield batch
        batcher.release(batch.family, batch.users())
