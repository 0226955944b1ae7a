"""A pipeline over connections that rest: a request goes at once, and nobody has to wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from ingest.balance import Balance
from ingest.dispositions import RetryPolicy
from ingest.errors import LocalFailure
from ingest.inflight import FIRST, Fixed
from ingest.intake import Intake, IntakeRules
from ingest.ledger import Ledger, Named
from ingest.limits import Budget
from ingest.outcomes import Reply
from ingest.pipeline import Driver, DriverSettings
from ingest.profiles import Caps, CapsLadder
from ingest.records import Batch
from ingest.sinks.base import Answer, Sink
from ingest.sinks.braze import BrazeSink
from ingest.sinks.memory import MemorySink
from ingest.sources.base import Block, split_blocks
from ingest.state.dead_letters import DeadLetter, DeadLetterFile
from ingest.state.identity import RunIdentity
from ingest.state.journal import Journal
from ingest.throttle import Throttle
from tests.driving import attributes, event
from tests.sinks.raw_server import RawServer, Talk, http, read_request, serving
from tests.virtual_clock import run

IN_FLIGHT = 4
SIZE = 10
TAKEN = http(201, b'{"message":"success"}')
LINES = [attributes(f"u{n}", n) for n in range(50 * SIZE)]
EVENTS = [event(f"u{n}", n) for n in range(50 * SIZE)]


def driver(
    sink: Sink,
    letters: DeadLetterFile,
    throttle: Throttle | None = None,
    policy: RetryPolicy | None = None,
) -> Driver:
    """Return a pipeline to a sink, a few requests at a time."""
    return Driver(
        sink,
        intake=Intake(IntakeRules()),
        ladder=CapsLadder((Caps((SIZE,) * 3, SIZE, 100_000),)),
        throttle=throttle or Throttle(Budget(())),
        in_flight=Fixed(IN_FLIGHT),
        ledger=Ledger(letters, kinds=sink.endpoint.kinds, places=Named(lambda part: "in")),
        settings=DriverSettings(policy=policy or RetryPolicy()),
    )


async def blocks(lines: Sequence[bytes] = LINES) -> AsyncIterator[Block]:
    """Yield the lines."""
    for block in split_blocks((b"\n".join(lines),), 0):
        yield block


def silent_after(answers: int) -> Talk:
    """Answer so many requests of each connection, and none after those."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(answers):
            await read_request(reader)
            writer.write(TAKEN)
        await asyncio.Event().wait()

    return talk


@pytest.mark.asyncio
async def test_connections_are_used_again_and_every_record_arrives_once(tmp_path: Path) -> None:
    """As many connections as requests may be in flight, and not one more."""
    seen: list[bytes] = []

    def talk(server: RawServer) -> Talk:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                seen.append((await read_request(reader))[1])
                writer.write(TAKEN)

        return answer

    async with serving(talk) as server:
        sink = BrazeSink(server.url, "key")
        pipeline = driver(sink, DeadLetterFile(tmp_path / "letters", run="r"))
        assert await pipeline.run(blocks()) == "finished"
        await sink.aclose()
        assert server.connections <= IN_FLIGHT
    assert pipeline.balance.requests == len(seen) == 50
    assert sorted(body.count(b"external_id") for body in seen) == [SIZE] * 50
    assert pipeline.balance.columns()["delivered"] == len(LINES)
    assert pipeline.requests_in_flight == pipeline.queued_records == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("answers", [0, 1, 3])
async def test_what_is_in_flight_when_a_run_is_cancelled_is_in_doubt(
    answers: int, tmp_path: Path
) -> None:
    """On connections that rested, and on new ones: all that was sent and not answered."""
    expected = IN_FLIGHT * (answers + 1)
    async with serving(lambda server: silent_after(answers)) as server:
        sink = BrazeSink(server.url, "key")
        identity = RunIdentity((), {}, "braze", "braze")
        with Journal(tmp_path, power_safe=False) as journal:
            letters = DeadLetterFile(tmp_path / "letters", run="r")
            pipeline = driver(sink, letters)
            begun = journal.begin(
                identity, name="r", hash_of=lambda salt: "same", letters=letters, now=1.0
            )
            async with journal.record(begun, pipeline.balance, letters) as recording:
                pipeline.keep(recording)
                running = asyncio.create_task(pipeline.run(blocks()))
                while pipeline.balance.requests < expected:  # noqa: ASYNC110  # no event tells
                    await asyncio.sleep(0)
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
            again = journal.find(identity)
            assert again is not None
            letters = DeadLetterFile(tmp_path / "letters", run="r")
            later = journal.record(again, Balance(), letters)
            doubtful = sum(stop - start for start, stop in later.settling.doubtful)
            async with later:
                pass
        await sink.aclose()
    balance = pipeline.balance
    delivered = balance.columns()["delivered"]
    assert delivered == IN_FLIGHT * answers * SIZE
    assert doubtful == balance.records_sent - delivered == IN_FLIGHT * SIZE
    assert balance.columns()["pending"] == balance.columns()["read"] - delivered


@pytest.mark.asyncio
async def test_a_permit_for_several_may_come_to_nothing(tmp_path: Path) -> None:
    """Then they go one by one, and each of them once."""

    class Fickle(Throttle):
        async def at_once(self, cost: float, in_flight: int, count: int = 1) -> float | None:
            return None if count > 1 else await super().at_once(cost, in_flight)

    sink = MemorySink()
    pipeline = driver(sink, DeadLetterFile(tmp_path / "letters", run="r"), Fickle(Budget(())))
    assert await pipeline.run(blocks()) == "finished"
    assert sum(map(len, sink.delivered)) == pipeline.balance.records_sent == len(LINES)
    assert pipeline.requests_in_flight == pipeline.queued_records == 0


@pytest.mark.parametrize(("seconds", "beside"), [(0.5, FIRST - 1), (1.5, 28)])
def test_a_slow_probe_is_waited_for(seconds: float, beside: int, tmp_path: Path) -> None:
    """What goes beside it is small: places that are free again stay so, but not for ever."""
    sizes: list[int] = []

    class Slow(MemorySink):
        async def deliver(self, batch: Batch) -> Answer:
            sizes.append(len(batch))
            await asyncio.sleep(seconds if len(sizes) == 1 else 0.2)
            return await super().deliver(batch)

    async def main() -> None:
        sink = Slow()
        ladder = CapsLadder((Caps((SIZE,) * 3, SIZE, 100_000), Caps((2,) * 3, 2, 100_000)))
        letters = DeadLetterFile(tmp_path / "letters", run="r")
        clock = asyncio.get_running_loop().time
        pipeline = Driver(
            sink,
            intake=Intake(IntakeRules()),
            ladder=ladder,
            throttle=Throttle(Budget(()), clock=clock),
            in_flight=Fixed(20),
            ledger=Ledger(letters, kinds=sink.endpoint.kinds, places=Named(lambda part: "in")),
            clock=clock,
        )
        assert await pipeline.run(blocks()) == "finished"

    run(main())
    assert sizes[0] == SIZE
    assert sizes.count(2) == beside


@pytest.mark.asyncio
async def test_what_a_cancelled_run_cannot_write_is_told(tmp_path: Path) -> None:
    """What may have arrived is held by a letter; without room for it the run says so."""

    class Full(DeadLetterFile):
        def write(self, letters: list[DeadLetter], now: float) -> list[int | None]:
            raise LocalFailure("the disk is full")

    async with serving(lambda server: silent_after(1)) as server:
        sink = BrazeSink(server.url, "key")
        policy = RetryPolicy(hold_unanswered=frozenset((0, 1, 2)))
        pipeline = driver(sink, Full(tmp_path / "letters", run="r"), policy=policy)
        running = asyncio.create_task(pipeline.run(blocks(EVENTS)))
        while pipeline.balance.requests < 2 * IN_FLIGHT:  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await sink.aclose()
    assert (pipeline.state, str(pipeline.error)) == ("halted", "the disk is full")


@pytest.mark.asyncio
async def test_a_fault_of_ours_ends_the_run_and_is_not_lost(tmp_path: Path) -> None:
    """What reads the answers must not raise; if it does, nobody waits for ever."""

    class Faulty(BrazeSink):
        def answer(self, batch: Batch, reply: Reply) -> Answer:
            raise ZeroDivisionError

    async with serving(lambda server: silent_after(9)) as server:
        sink = Faulty(server.url, "key")
        pipeline = driver(sink, DeadLetterFile(tmp_path / "letters", run="r"))
        async with asyncio.timeout(10):
            with pytest.raises(ZeroDivisionError):
                await pipeline.run(blocks())
        await sink.aclose()
    assert pipeline.balance.columns()["delivered"] == 0
