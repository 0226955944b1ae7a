"""A worker on a virtual clock: sessions that are taken away, signals, time-outs, and its vitals."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.acking import Acks
from ingest.balance import Balance
from ingest.errors import ConfigError, InputError, LocalFailure
from ingest.inflight import Fixed
from ingest.intake import Intake, IntakeRules
from ingest.ledger import Ledger
from ingest.limits import Budget
from ingest.metrics import Vitals
from ingest.outcomes import Delivered, Outcome, Unanswered, Unauthorized, Unavailable
from ingest.pipeline import Driver, DriverSettings
from ingest.profiles import CapsLadder
from ingest.records import Batch
from ingest.schemas import TrackSchema
from ingest.sinks.base import Answer
from ingest.sinks.braze import ENDPOINTS
from ingest.sinks.memory import MemorySink
from ingest.sources.base import Block
from ingest.state.dead_letters import DeadLetterFile
from ingest.taken import Refusal
from ingest.throttle import Throttle
from ingest.worker import Ages, Worker, WorkerSettings
from tests.driving import COMBINED, Notes, attributes, number_of
from tests.examples import examples
from tests.virtual_clock import run

LATENCY: Final = 0.5
A_BLOCK: Final = 10
"""Messages of a block."""


class MadeUp:
    """A source of one partition: what is not settled when a session ends, the next one has again.

    It hands over what it has, and then waits for more. `settled` are the numbers of messages that
    have their end, in that order; `said` is what happened to it.
    """

    name = "made-up"
    ready = True

    def __init__(self, count: int, *, ends: bool = False) -> None:
        self.messages = {number: attributes(f"u{number}", number) for number in range(count)}
        self.done: list[int] = []
        self.said: list[str] = []
        self.sessions_made = 0
        self.session: OneSession | None = None
        self.fails: Exception | None = None
        self.opening: Callable[[], Awaitable[None]] | None = None
        self.ends = ends
        self.stopped = asyncio.Event()

    @property
    def lag(self) -> int | None:
        return len(self.messages) - len(self.done)

    async def open(self) -> None:
        self.said.append("open")
        if self.opening is not None:
            await self.opening()

    async def sessions(self) -> AsyncIterator[OneSession]:
        while not self.stopped.is_set():
            self.sessions_made += 1
            self.session = OneSession(self)
            yield self.session
            if self.ends:
                return

    def stop(self) -> None:
        self.stopped.set()
        if self.session is not None:
            self.session.stop()

    async def aclose(self) -> None:
        self.said.append("closed")


class OneSession:
    """A session of it."""

    def __init__(self, source: MadeUp) -> None:
        self.source = source
        self.lost = asyncio.Event()
        self._stopped = asyncio.Event()
        self.ended = False
        self.over = asyncio.Event()

    async def blocks(self) -> AsyncIterator[Block]:
        done = set(self.source.done)
        waiting = deque(number for number in self.source.messages if number not in done)
        while waiting and not self._stopped.is_set():
            some = [waiting.popleft() for _ in range(min(A_BLOCK, len(waiting)))]
            data = b"\n".join(self.source.messages[number] for number in some)
            yield Block(0, data, some[0], 0, line_numbers=some)
        if self.source.fails is not None:
            raise self.source.fails
        if not self.source.ends:
            await self._stopped.wait()

    def stop(self) -> None:
        self._stopped.set()

    async def revoked(self) -> None:
        await self.lost.wait()

    def settled(self, part: int, lines: Sequence[int], bad: Collection[int]) -> None:
        assert not self.ended
        assert not set(lines) & set(self.source.done)
        self.source.done.extend(lines)

    def place(self, part: int, line: int) -> str:
        return f"made-up@{line}"

    def whence(self, part: int, line: int) -> dict[str, Any]:
        return {"name": "made-up", "offset": line}

    async def end(self) -> None:
        assert not self.ended
        self.ended = True
        self.over.set()
        self.source.said.append("ended")


class Stage(msgspec.Struct):
    """A worker with all that is around it."""

    worker: Worker
    source: MadeUp
    sink: MemorySink
    balance: Balance
    notices: list[str]
    told: list[str]
    passed: list[int]
    vitals: Vitals = Vitals()

    def delivered(self) -> list[int]:
        """Numbers of all records delivered, copies too, sorted."""
        return sorted(map(number_of, (one for slot in self.sink.delivered for one in slot)))

    def columns(self) -> dict[str, int]:
        """The balance, without the columns that are 0."""
        return {name: count for name, count in self.balance.columns().items() if count}


def staged(
    where: Path,
    source: MadeUp,
    *,
    script: Callable[[Batch], Outcome | Answer] = lambda batch: Delivered(201),
    ending: WorkerSettings | None = None,
    in_flight: int = 2,
    total: int = 5,
) -> Stage:
    """Build a worker within a running virtual loop."""
    clock = asyncio.get_running_loop().time
    balance, notes, told, passed = Balance(), Notes(), list[str](), list[int]()
    sink = MemorySink(script, LATENCY, endpoint=ENDPOINTS["track"])
    throttle = Throttle(Budget(()), clock=clock, jitter=lambda: 0.0)
    letters = DeadLetterFile(where / "letters.ndjson", run="r")

    def drive(session: Any) -> tuple[Driver, Acks]:
        acks = Acks(session.settled)
        pipeline = Driver(
            sink,
            intake=Intake(
                IntakeRules(largest=COMBINED.body_bytes - sink.overhead - 1), TrackSchema()
            ),
            ladder=CapsLadder((COMBINED.at_most(total),), confirmed=total),
            throttle=throttle,
            in_flight=Fixed(in_flight),
            ledger=Ledger(
                letters,
                kinds=sink.endpoint.kinds,
                places=session,
                wall=clock,
                balance=balance,
            ),
            settings=DriverSettings(patient=True, give_up_after=float("inf")),
            observer=notes,
            dice=lambda: 0.5,
            clock=clock,
            acks=acks,
        )
        return pipeline, acks

    async def pass_on(block: Block) -> Block:
        passed.append(len(block.lines()))
        return block

    worker = Worker(
        source,
        drive,
        balance=balance,
        throttle=throttle,
        settings=ending,
        passed=pass_on,
        tell=told.append,
    )
    return Stage(worker, source, sink, balance, notes.notices, told, passed)


Body = Callable[[Stage, "asyncio.Task[bool]"], Awaitable[None]]


def play(make: Callable[[], Stage], body: Body) -> Stage:
    """Run a worker, and do something meanwhile."""

    async def main() -> Stage:
        stage = make()
        running = asyncio.create_task(stage.worker.run())
        try:
            async with asyncio.timeout(100_000):
                await body(stage, running)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        stage.vitals = stage.worker.vitals()
        return stage

    return run(main())


def test_everything_is_delivered_and_told_to_the_source(tmp_path: Path) -> None:
    """Each message has its end once, and nothing is pending when the worker is stopped."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        assert not stage.worker.ready
        await asyncio.sleep(60)
        assert stage.worker.ready
        assert sorted(stage.source.done) == list(range(100))
        stage.worker.stop()
        assert not stage.worker.ready
        assert await running

    stage = play(lambda: staged(tmp_path, MadeUp(100)), body)
    assert stage.delivered() == list(range(100))
    assert stage.columns() == {"read": 100, "delivered": 100}
    assert sum(stage.passed) == 100
    assert stage.source.said == ["open", "ended", "closed"]


def test_a_stop_waits_for_what_is_in_flight_and_sends_nothing_more(tmp_path: Path) -> None:
    """What is queued is the source's: it counts as never read."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        await asyncio.sleep(LATENCY * 1.5)
        sent = stage.balance.requests
        assert stage.worker.requests_in_flight == 2
        stage.worker.stop()
        since = asyncio.get_running_loop().time()
        assert await running
        assert asyncio.get_running_loop().time() - since <= LATENCY
        assert stage.balance.requests == sent

    stage = play(lambda: staged(tmp_path, MadeUp(1_000)), body)
    assert stage.columns() == {"read": 20, "delivered": 20}
    assert len(stage.source.done) == 20
    vitals = stage.vitals
    read = vitals.records["read", "attributes"]
    assert read == 20 + vitals.records["given_back", "attributes"] > 20


def test_when_the_time_is_over_what_is_in_flight_is_given_up(tmp_path: Path) -> None:
    """The worker ends, and says that it was not drained."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        await asyncio.sleep(LATENCY / 2)
        stage.worker.stop()
        assert not await running
        assert asyncio.get_running_loop().time() == pytest.approx(LATENCY / 2 + 0.1)

    ending = WorkerSettings(drain_timeout=0.1)
    stage = play(lambda: staged(tmp_path, MadeUp(100), ending=ending), body)
    assert stage.columns() == {}
    assert stage.source.done == []
    assert stage.source.said == ["open", "ended", "closed"]


def test_a_second_stop_ends_at_once(tmp_path: Path) -> None:
    """Also where there is much time left; a third one changes nothing."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        await asyncio.sleep(LATENCY / 2)
        for _ in range(3):
            stage.worker.stop()
        assert not await running
        assert asyncio.get_running_loop().time() == pytest.approx(LATENCY / 2)
        stage.worker.stop()  # and after its end

    assert play(lambda: staged(tmp_path, MadeUp(100)), body).source.said[-1] == "closed"


def test_what_a_session_that_is_taken_away_left_is_the_next_ones(tmp_path: Path) -> None:
    """What was in flight is settled before it ends, and nothing is sent twice or lost."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        for _ in range(5):
            await asyncio.sleep(LATENCY * 1.5)
            assert stage.source.session is not None
            stage.source.session.lost.set()
        await asyncio.sleep(60)
        stage.worker.stop()
        assert await running

    stage = play(lambda: staged(tmp_path, MadeUp(200)), body)
    assert stage.source.sessions_made == 6
    assert stage.delivered() == list(range(200))
    assert stage.columns() == {"read": 200, "delivered": 200}
    assert stage.source.said.count("ended") == 6


@given(
    st.lists(st.floats(0.01, 3), max_size=8),
    st.lists(st.sampled_from(["ok", "down", "lost"]), max_size=40),
    st.sets(st.integers(0, 59), max_size=10),
)
@settings(max_examples=examples(60), deadline=None)
def test_whatever_happens_each_message_has_its_end_once(
    revokes: list[float], answers: list[str], junk: set[int]
) -> None:
    """Sessions are taken away at any time, and answers fail: the columns add up all the same."""
    said = iter(answers)

    def script(batch: Batch) -> Outcome:
        match next(said, "ok"):
            case "down":
                return Unavailable(503, "down")
            case "lost":
                return Unanswered(None, "lost")
            case _:
                return Delivered(201)

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        for number in junk:
            stage.source.messages[number] = b"junk"
        for delay in revokes:
            await asyncio.sleep(delay)
            session = stage.source.session
            assert session is not None
            session.lost.set()
            await session.over.wait()
            await asyncio.sleep(0)
        await asyncio.sleep(1_000)
        stage.worker.stop()
        assert await running

    with TemporaryDirectory() as where:
        stage = play(lambda: staged(Path(where), MadeUp(60), script=script), body)
    assert sorted(stage.source.done) == list(range(60))
    good = set(range(60)) - junk
    assert stage.delivered() == sorted(good)
    assert stage.columns() == {
        name: count
        for name, count in {"read": 60, "delivered": len(good), "invalid": len(junk)}.items()
        if count
    }


def test_a_source_that_ends_ends_the_worker(tmp_path: Path) -> None:
    """All that it had is sent before."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        assert await running

    stage = play(lambda: staged(tmp_path, MadeUp(95, ends=True)), body)
    assert stage.delivered() == list(range(95))


def test_what_is_queued_is_drained_where_nobody_else_has_it(tmp_path: Path) -> None:
    """A pipe cannot be read again: a stop ends the reading alone."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        await asyncio.sleep(LATENCY * 1.5)
        stage.worker.stop()
        assert await running

    ending = WorkerSettings(drains=True)
    stage = play(lambda: staged(tmp_path, MadeUp(100), ending=ending), body)
    assert stage.columns() == {"read": 100, "delivered": 100}


def test_what_was_not_drained_in_time_stays_pending_there(tmp_path: Path) -> None:
    """It is lost, and the balance says so."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        await asyncio.sleep(LATENCY * 1.5)
        stage.worker.stop()
        assert not await running

    ending = WorkerSettings(drains=True, drain_timeout=2.0)
    stage = play(lambda: staged(tmp_path, MadeUp(100), ending=ending), body)
    assert stage.columns() == {"read": 100, "delivered": 50, "pending": 50}


def test_a_journal_keeps_what_is_pending(tmp_path: Path) -> None:
    """What is queued was read for good, and goes on with the next process."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        await asyncio.sleep(LATENCY * 1.5)
        stage.worker.stop()
        assert await running

    ending = WorkerSettings(keeps=True)
    columns = play(lambda: staged(tmp_path, MadeUp(100), ending=ending), body).columns()
    assert columns["pending"] == columns["read"] - columns["delivered"] > 0


def test_a_destination_that_is_down_for_hours_loses_nothing(tmp_path: Path) -> None:
    """Nothing fails, the memory is bounded, and all arrives when it is back."""
    until = 3 * 3_600.0

    def script(batch: Batch) -> Outcome:
        down = asyncio.get_running_loop().time() < until
        return Unavailable(503, "down") if down else Delivered(201)

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        await asyncio.sleep(until)
        assert stage.worker.vitals().oldest_unsettled == pytest.approx(until)
        assert stage.worker.vitals().queued < 500
        assert any("down" in notice for notice in stage.notices)
        assert "waiting for the destination" in stage.told[-1]
        await asyncio.sleep(600)
        assert stage.worker.vitals().oldest_unsettled == 0
        stage.worker.stop()
        assert await running

    stage = play(lambda: staged(tmp_path, MadeUp(2_000), script=script), body)
    assert stage.columns() == {"read": 2_000, "delivered": 2_000}


def test_a_refused_key_is_tried_again(tmp_path: Path) -> None:
    """The worker goes on, says that it is halted, and delivers once the key is mended."""
    until = 600.0

    def script(batch: Batch) -> Outcome:
        refused = asyncio.get_running_loop().time() < until
        return Unauthorized(401, "the key is refused") if refused else Delivered(201)

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        await asyncio.sleep(until)
        assert stage.worker.vitals().halted
        assert stage.worker.ready
        await asyncio.sleep(120)
        assert not stage.worker.vitals().halted
        stage.worker.stop()
        assert await running

    stage = play(lambda: staged(tmp_path, MadeUp(50), script=script), body)
    assert stage.delivered() == list(range(50))


def test_a_source_that_breaks_ends_the_worker_with_its_sentence(tmp_path: Path) -> None:
    """What was read before is delivered and told."""
    source_error = InputError("the topic is gone")

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        stage.source.fails = source_error
        with pytest.raises(InputError, match="the topic is gone"):
            await running

    stage = play(lambda: staged(tmp_path, MadeUp(20)), body)
    assert len(stage.source.done) == 20
    assert stage.source.said == ["open", "ended", "closed"]


def test_a_disk_that_takes_no_letters_ends_the_worker_and_settles_nothing(tmp_path: Path) -> None:
    """The message without a letter stays the source's."""
    (tmp_path / "letters.ndjson").mkdir()

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        stage.source.messages[5] = b"junk"
        with pytest.raises(LocalFailure, match="dead letters"):
            await running

    stage = play(lambda: staged(tmp_path, MadeUp(20)), body)
    assert 5 not in stage.source.done
    assert stage.source.said == ["open", "ended", "closed"]


def test_a_source_that_cannot_be_opened_is_closed_all_the_same(tmp_path: Path) -> None:
    """Its sentence is the worker's."""

    async def refuse() -> None:
        raise ConfigError("no such broker")

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        stage.source.opening = refuse
        with pytest.raises(ConfigError, match="no such broker"):
            await running

    assert play(lambda: staged(tmp_path, MadeUp(1)), body).source.said == ["open", "closed"]


def test_a_stop_is_heard_while_the_source_is_being_opened(tmp_path: Path) -> None:
    """A broker that does not answer holds nobody."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        stage.source.opening = lambda: asyncio.sleep(10_000)
        await asyncio.sleep(5)
        stage.worker.stop()
        assert await running
        assert asyncio.get_running_loop().time() == pytest.approx(5)

    assert play(lambda: staged(tmp_path, MadeUp(1)), body).source.said == ["open", "closed"]


def test_a_defect_is_not_hidden(tmp_path: Path) -> None:
    """What no part raises on purpose leaves the worker as it is, with the session ended."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        stage.source.fails = RuntimeError("a defect")
        with pytest.raises(RuntimeError, match="a defect"):
            await running

    assert "ended" in play(lambda: staged(tmp_path, MadeUp(20)), body).source.said


def test_a_worker_that_is_cancelled_gives_its_session_back(tmp_path: Path) -> None:
    """As the library of whoever embeds it would."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        await asyncio.sleep(LATENCY / 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert play(lambda: staged(tmp_path, MadeUp(20)), body).source.said[1:] == ["ended", "closed"]


def test_there_is_a_line_a_minute(tmp_path: Path) -> None:
    """With the balance, the pace and the lag."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        await asyncio.sleep(61)
        stage.source.messages[100] = b"later"
        await asyncio.sleep(60)
        stage.worker.stop()
        await running

    stage = play(lambda: staged(tmp_path, MadeUp(100)), body)
    assert stage.told == [
        "100 records read, 100 delivered, none bad, 0 pending; 0.3 requests/s; "
        "0 wait in made-up; waiting for records",
        "100 records read, 100 delivered, none bad, 0 pending; 0.0 requests/s; "
        "1 wait in made-up; waiting for records",
    ]


def test_what_was_refused_at_the_door_is_counted_and_is_no_letter(tmp_path: Path) -> None:
    """Whoever posted it has it; a bad message of a source is a letter."""

    async def body(stage: Stage, running: asyncio.Task[bool]) -> None:
        stage.source.messages[5] = b"junk"
        stage.worker.turned_away([Refusal("event", "no-name", "name", "it has none", 0, 1)] * 3)
        await asyncio.sleep(60)
        stage.worker.stop()
        assert await running

    stage = play(lambda: staged(tmp_path, MadeUp(20)), body)
    assert stage.columns() == {"read": 23, "delivered": 19, "invalid": 4}
    vitals = stage.vitals
    assert vitals.letters == {"not-json": 1}
    assert vitals.records["invalid", "event"] == 3
    assert vitals.requests == {"201": stage.balance.requests}
    assert stage.worker.sentence() == "23 records read, 19 delivered, 4 invalid, 0 pending"


@given(
    st.lists(st.tuples(st.sampled_from("rsl"), st.integers(0, 5)), max_size=60),
)
def test_the_age_is_that_of_the_oldest_within_a_second(acts: list[tuple[str, int]]) -> None:
    """Whatever is read and settled, in whatever order, at whatever pace."""
    read: dict[int, float] = {}  # when each message without an end was read
    ages = Ages(lambda part: min(read, default=None))
    now, number = 0.0, 0
    for what, size in acts:
        if what == "r" and size:
            numbers = list(range(number, number + size))
            ages.read(Block(0, b"\n".join([b"x"] * size), number, 0, line_numbers=numbers), now)
            read |= dict.fromkeys(numbers, now)
            number += size
        elif what == "s" and read:
            del read[sorted(read)[size % len(read)]]
        else:
            now += size / 4
        true = now - min(read.values(), default=now)
        assert true <= ages.oldest(now) <= true + 1.0
