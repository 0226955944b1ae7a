"""The pipeline with a journal: what is settled stays so, whenever the process ends."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingest.balance import Balance
from ingest.codec import loads
from ingest.dispositions import RetryPolicy
from ingest.errors import LocalFailure
from ingest.inflight import Fixed
from ingest.intake import Intake, IntakeRules
from ingest.ledger import Ledger, Named
from ingest.limits import Budget
from ingest.noting import Noting
from ingest.outcomes import Delivered, Outcome
from ingest.pipeline import Driver, DriverSettings
from ingest.profiles import CapsLadder
from ingest.records import EMPTY_COLUMN, Batch, Column
from ingest.sinks.base import Answer
from ingest.sinks.braze import ENDPOINTS
from ingest.sinks.memory import MemorySink
from ingest.sources.base import Block, split_blocks
from ingest.state import journal as journal_module
from ingest.state import recording as recording_module
from ingest.state.dead_letters import DeadLetterFile
from ingest.state.identity import RunIdentity
from ingest.state.journal import Journal
from ingest.state.redo import Entry
from ingest.throttle import Throttle
from ingest.tolerance import parse_tolerance
from tests.driving import COMBINED, attributes, event, number_of

OK = Delivered(201)
IDENTITY = RunIdentity((), {}, "memory", "memory")


def hash_of(salt: bytes) -> str:
    """Hash the one credential there is."""
    return "same"


def plain_driver(sink: MemorySink, ledger: Ledger) -> Driver:
    """A driver that takes whatever comes, three requests at a time."""
    return Driver(
        sink,
        intake=Intake(IntakeRules()),
        ladder=CapsLadder((COMBINED,)),
        throttle=Throttle(Budget(())),
        in_flight=Fixed(3),
        ledger=ledger,
    )


class Stop(Exception):
    """What a dying process does not get to raise; it ends the run of a test where it is."""


class Played(msgspec.Struct):
    """How a run went: its columns, the copies that are possible, and what the sink got.

    `lost` are the records of requests that got no answer, for the process was dead.
    """

    columns: dict[str, int]
    doubled: int
    delivered: list[int]
    lost: int
    state: str


async def played(
    where: Path,
    lines: list[bytes],
    *,
    dies_after: int | None = None,
    hold: bool = False,
    endpoint: Any = ENDPOINTS["track"],
    limit: int | None = None,
    max_bad: str | None = None,
) -> Played:
    """Run, or go on with, the one run in `where`; after so many answers the process is dead."""
    answers = lost = 0

    def script(batch: Batch) -> Outcome:
        nonlocal answers, lost
        answers += 1
        assert not recording.owes  # no copy goes out that a power cut would leave uncounted
        if dies_after is not None and answers > dies_after:
            lost += len(batch)
            raise Stop
        return OK

    sink = MemorySink(script, 0.001, endpoint=endpoint)
    letters = DeadLetterFile(where / "letters", run="r")
    policy = RetryPolicy(hold_unanswered=frozenset((0, 1, 2) if hold else ()))
    pipeline = Driver(
        sink,
        intake=Intake(IntakeRules(largest=COMBINED.body_bytes - sink.overhead - 1)),
        ladder=CapsLadder((COMBINED,)),
        throttle=Throttle(Budget(())),
        in_flight=Fixed(3),
        ledger=Ledger(letters, kinds=sink.endpoint.kinds, places=Named(lambda part: "in")),
        settings=DriverSettings(
            policy=policy,
            limit=limit,
            max_bad=None if max_bad is None else parse_tolerance(max_bad),
        ),
    )
    state = "died"
    with Journal(where, power_safe=False) as journal:
        run = journal.find(IDENTITY) or journal.begin(
            IDENTITY, name="r", hash_of=hash_of, letters=letters, now=1.0
        )
        recording = journal.record(run, pipeline.balance, letters)
        async with recording:
            pipeline.keep(recording)
            starts = {part: place.ordinal for part, place in recording.settling.places.items()}
            pipeline.begin_at(starts)
            places = recording.settling.places
            first = places[0].line if places else 1

            async def blocks() -> AsyncIterator[Block]:
                text = b"\n".join(lines[first - 1 :])
                for block in split_blocks((text,), 0, line=first):
                    yield block

            try:
                state = await pipeline.run(blocks())
                await recording.finish(state, b"{}", 2.0)
            except Stop:
                pass
    sent = sorted(map(number_of, (one for slot in sink.delivered for one in slot)))
    columns = {name: count for name, count in pipeline.balance.columns().items() if count}
    return Played(columns, pipeline.balance.maybe_duplicated, sent, lost, state)


LINES = [(attributes, event)[n % 2](f"u{n}", n) for n in range(600)]


@pytest.mark.asyncio
@pytest.mark.parametrize("dies_after", [0, 1, 4, 7])
async def test_what_is_settled_is_not_sent_again(tmp_path: Path, dies_after: int) -> None:
    """A run that dies is gone on with: each record once, but for what was in flight."""
    first = await played(tmp_path, LINES, dies_after=dies_after)
    assert first.state == "died"
    second = await played(tmp_path, LINES)
    assert second.state == "finished"
    assert second.columns == {"read": 600, "delivered": 600}
    assert sorted({*first.delivered, *second.delivered}) == list(range(600))
    copies = len(first.delivered) + len(second.delivered) - 600
    assert copies <= second.doubled == first.lost


@pytest.mark.asyncio
async def test_what_was_in_flight_is_held_where_nothing_may_repeat(tmp_path: Path) -> None:
    """Each of those has a letter that says so, and nobody gets a second copy."""
    once = msgspec.structs.replace(ENDPOINTS["track"], resendable=False)
    first = await played(tmp_path, LINES, dies_after=3, hold=True, endpoint=once)
    second = await played(tmp_path, LINES, hold=True, endpoint=once)
    held = second.columns["held"]
    assert held == first.lost > 0
    assert second.columns == {"read": 600, "delivered": 600 - held, "held": held}
    assert second.doubled == 0
    assert len(first.delivered) + len(second.delivered) <= 600
    letters = [loads(line) for line in (tmp_path / "letters").read_bytes().splitlines()]
    assert [letter["column"] for letter in letters] == ["held"] * held


@pytest.mark.asyncio
async def test_invalid_records_are_counted_once(tmp_path: Path) -> None:
    """Their letters are those of the process that read them first."""
    lines = [
        b'{"event": {"external_id": "u"}}' if n % 50 == 0 else one for n, one in enumerate(LINES)
    ]
    await played(tmp_path, lines, dies_after=4)
    second = await played(tmp_path, lines)
    assert second.columns == {"read": 600, "delivered": 588, "invalid": 12}
    assert len((tmp_path / "letters").read_bytes().splitlines()) == 12


@pytest.mark.asyncio
async def test_nothing_goes_out_that_could_not_be_noted(tmp_path: Path) -> None:
    """Law 11: a journal that fails ends the run before the batch is sent."""
    sink = MemorySink()
    letters = DeadLetterFile(tmp_path / "letters", run="r")
    ledger = Ledger(letters, kinds=sink.endpoint.kinds, places=Named(lambda part: "in"))
    pipeline = plain_driver(sink, ledger)
    with Journal(tmp_path, power_safe=False) as journal:
        run = journal.begin(IDENTITY, name="r", hash_of=hash_of, letters=letters, now=1.0)
        async with journal.record(run, pipeline.balance, letters) as recording:
            recording.relieve()  # as on a full disk
            pipeline.keep(recording)

            async def blocks() -> AsyncIterator[Block]:
                for block in split_blocks((b"\n".join(LINES),), 0):
                    yield block

            state = await asyncio.wait_for(pipeline.run(blocks()), 30)
    assert state == "halted"
    assert isinstance(pipeline.error, LocalFailure)
    assert sink.requests == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("turns", range(1, 10))
async def test_what_was_cancelled_before_it_was_sent_is_not_in_doubt(
    turns: int, tmp_path: Path
) -> None:
    """At whatever turn of the loop the run is cancelled: only what a sink saw may be a copy."""
    seen = 0

    class Seeing(MemorySink):
        async def deliver(self, batch: Batch) -> Answer:
            nonlocal seen
            seen += len(batch)
            return await super().deliver(batch)

    sink = Seeing(latency=60.0)
    with Journal(tmp_path, power_safe=False) as journal:
        letters = DeadLetterFile(tmp_path / "letters", run="r")
        ledger = Ledger(letters, kinds=sink.endpoint.kinds, places=Named(lambda part: "in"))
        pipeline = plain_driver(sink, ledger)
        run = journal.begin(IDENTITY, name="r", hash_of=hash_of, letters=letters, now=1.0)
        recording = journal.record(run, pipeline.balance, letters)
        async with recording:
            pipeline.keep(recording)

            async def blocks() -> AsyncIterator[Block]:
                for _ in range(3):
                    await asyncio.sleep(0)
                for block in split_blocks((b"\n".join(LINES),), 0):
                    yield block

            running = asyncio.create_task(pipeline.run(blocks()))
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        again = journal.find(IDENTITY)
        assert again is not None
        letters = DeadLetterFile(tmp_path / "letters", run="r")
        later = journal.record(again, Balance(), letters)
        assert pipeline.balance.records_sent == seen
        doubtful = sum(stop - start for start, stop in later.settling.doubtful)
        assert doubtful == seen
        async with later:
            pass


@pytest.mark.asyncio
async def test_a_limit_is_of_the_run_and_not_of_a_process(tmp_path: Path) -> None:
    """The same limit again sends nothing; without one the rest goes, each record once."""
    first = await played(tmp_path, LINES, limit=100)
    assert (first.state, first.columns) == ("interrupted", {"read": 100, "delivered": 100})
    again = await played(tmp_path, LINES, limit=100)
    assert (again.state, again.delivered) == ("interrupted", [])
    crashed = await played(tmp_path, LINES, limit=400, dies_after=2)
    assert crashed.state == "died"
    more = await played(tmp_path, LINES, limit=400)
    assert (more.state, more.columns) == ("interrupted", {"read": 400, "delivered": 400})
    rest = await played(tmp_path, LINES, limit=600)
    assert (rest.state, rest.columns) == ("finished", {"read": 600, "delivered": 600})
    sent = [*first.delivered, *crashed.delivered, *more.delivered, *rest.delivered]
    assert sorted(sent) == list(range(600))


@pytest.mark.asyncio
async def test_too_many_bad_records_halt_and_a_resume_goes_on(tmp_path: Path) -> None:
    """At once by their number, at the end by their share; what was in flight was answered."""
    lines = [
        b'{"event": {"external_id": "u"}}' if n % 50 == 0 else one for n, one in enumerate(LINES)
    ]
    first = await played(tmp_path, lines, max_bad="3")
    assert first.state == "halted"
    assert first.columns.get("delivered", 0) == len(first.delivered)
    share = await played(tmp_path, lines, max_bad="1%")
    assert share.state == "halted"
    assert share.columns == {"read": 600, "delivered": 588, "invalid": 12}
    last = await played(tmp_path, lines, max_bad="2%")
    assert (last.state, last.columns) == ("finished", share.columns)
    assert sorted([*first.delivered, *share.delivered, *last.delivered]) == [
        n for n in range(600) if n % 50
    ]


@pytest.mark.asyncio
async def test_what_could_not_be_written_is_in_no_note(tmp_path: Path) -> None:
    """In the little room that a full disk leaves, what was to be sent is taken back."""
    letters = DeadLetterFile(tmp_path / "letters", run="r")
    kinds = ENDPOINTS["track"].kinds
    ledger = Ledger(letters, kinds=kinds, places=Named(lambda part: "in"))
    column = Column.of([b"{}"], ["u"], [7], [1])
    batch = Batch(1, 1, (column, EMPTY_COLUMN, EMPTY_COLUMN))
    with Journal(tmp_path, power_safe=False) as journal:
        run = journal.begin(IDENTITY, name="r", hash_of=hash_of, letters=letters, now=1.0)
        async with journal.record(run, ledger.balance, letters) as recording:
            noting = Noting(ledger, kinds, lambda slot, fragment: False, recording)
            append = recording._log.append

            def full(entry: Entry) -> None:
                recording._log.append = append  # type: ignore[method-assign]  # put back
                raise OSError(errno.ENOSPC, "No space left on device")

            recording._log.append = full  # type: ignore[method-assign]  # only the first time
            with pytest.raises(LocalFailure, match="make room on the disk"):
                noting.note((batch,))
            assert recording.settling.in_flight == 0
            with pytest.raises(LocalFailure, match="make room on the disk"):
                noting.note((batch,))
        assert journal.kept(run).notes == {}


@pytest.mark.asyncio
async def test_what_is_held_unread_is_counted_as_read_first(tmp_path: Path) -> None:
    """Where its letter cannot be written it is pending, and in doubt at the next start."""
    sink, letters = MemorySink(), DeadLetterFile(tmp_path / "letters", run="r")
    kinds = sink.endpoint.kinds
    ledger = Ledger(letters, kinds=kinds, places=Named(lambda part: "in"))
    with Journal(tmp_path, power_safe=False) as journal:
        run = journal.begin(IDENTITY, name="r", hash_of=hash_of, letters=letters, now=1.0)
        async with journal.record(run, ledger.balance, letters) as recording:
            recording.settling.unsure = 2

            def fails(some: object, now: float) -> list[int | None]:
                raise LocalFailure("the disk is gone")

            letters.write = fails  # type: ignore[method-assign,assignment]  # as a disk does
            noting = Noting(ledger, kinds, lambda slot, fragment: True, recording)
            intake = Intake(IntakeRules())
            (taken,) = intake.take(0, LINES[:2], 1)
            with pytest.raises(LocalFailure, match="the disk is gone"):
                noting.take_in(0, taken, intake)
            assert ledger.balance.columns() | {"read": 2, "pending": 2} == ledger.balance.columns()
            assert list(recording.settling.doubtful) == [(0, 2)]
            assert (recording.settling.unsure, recording.settling.taken) == (0, {0: 2})


@pytest.mark.asyncio
async def test_reading_waits_for_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a commit takes its time, no more is read than the one before it announced."""
    for module in (journal_module, recording_module):
        monkeypatch.setattr(module, "LEAST_AHEAD", 50)
    sink, letters = MemorySink(), DeadLetterFile(tmp_path / "letters", run="r")
    ledger = Ledger(letters, kinds=sink.endpoint.kinds, places=Named(lambda part: "in"))
    pipeline = plain_driver(sink, ledger)
    goes_on = threading.Event()

    def waits() -> None:
        goes_on.wait(60)

    letters.sync = waits  # type: ignore[method-assign]  # comes first in a commit

    async def blocks() -> AsyncIterator[Block]:
        for number, line in enumerate(LINES, 1):
            yield Block(0, line + b"\n", number, 0)

    with Journal(tmp_path, power_safe=False) as journal:
        run = journal.begin(IDENTITY, name="r", hash_of=hash_of, letters=letters, now=1.0)
        async with journal.record(run, pipeline.balance, letters) as recording:
            pipeline.keep(recording)
            running = asyncio.create_task(pipeline.run(blocks()))
            while pipeline.balance.count("read") < 50:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            assert pipeline.balance.count("read") == 50
            goes_on.set()
            assert await asyncio.wait_for(running, 60) == "finished"
    assert pipeline.balance.columns()["delivered"] == len(LINES)
