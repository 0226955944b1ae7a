"""What must hold of topics: a real broker, real processes, kills, rebalances and restarts."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from ingest.codec import dumps, loads
from ingest.errors import InputError
from ingest.sources.kafka import KafkaSource
from ingest.sources.kafka_letters import KafkaDeadLetters
from ingest.sources.kafka_settings import KafkaSettings
from ingest.sources.live import Session
from ingest.watermarks import Commit, restored
from tests.integration.brokers import Broker, brokered, why_not
from tests.integration.kafka_driver import Driver, durable
from tests.integration.servers import free_port
from tests.integration.topics import (
    GROUP,
    PARTITIONS,
    PATIENCE,
    QUICK,
    all_committed,
    all_committed_one,
    committed,
    ends,
    event,
    filled,
    flowing,
    produced,
    some_committed,
    topic_made,
    until,
    values,
)

LACK: Final = why_not()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(LACK is not None, reason=LACK or ""),
]

RECORDS: Final = 200_000

At = tuple[int, int]
"""A partition, and an offset."""


def settings_of(broker: Broker, topic: str, **more: Any) -> KafkaSettings:
    """Settings that fit a test."""
    client = {**QUICK, **more.pop("client", {})}
    watch = {"watch_seconds": 0.5, "commit_seconds": 0.2}
    told = {"topics": (topic,), "group": GROUP, "bootstrap": broker.address, "client": client}
    return KafkaSettings(**{**told, **watch, **more})


class Acts:
    """What a driver in this process did."""

    def __init__(self) -> None:
        self.handed: list[At] = []
        self.settled: list[At] = []

    def __call__(self, what: str, session: Session, part: int, offsets: Sequence[int]) -> None:
        """Take an act."""
        partition = session.whence(part, 0)["partition"]
        acts = self.handed if what == "h" else self.settled
        acts.extend((partition, offset) for offset in offsets)


@asynccontextmanager
async def driven(settings: KafkaSettings, acts: Acts, **more: Any) -> AsyncIterator[Driver]:
    """A source with its driver, in this process; stopped in the end."""
    source = KafkaSource(settings, durable, **more)
    driver = Driver(source, acts)
    await source.open()
    running = asyncio.create_task(driver.run())
    try:
        yield driver
    finally:
        source.stop()
        driver.gate.set()
        await running
        await source.aclose()


class Process:
    """A driver in a process of its own, and what it wrote down."""

    def __init__(self, path: Path, settings: KafkaSettings, seed: int) -> None:
        self._path = path
        told = {name: getattr(settings, name) for name in settings.__struct_fields__}
        tree = Path(__file__).parents[2]
        path.touch()
        program = (sys.executable, "-m", "tests.integration.kafka_driver")
        self.popen = subprocess.Popen(
            [*program, str(path), str(seed), dumps(told).decode()],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
        )

    def acts(self) -> list[tuple[str, int, list[At]]]:
        """What it did: "h" or "s", when, and to which messages."""
        found = []
        for line in self._path.read_text().splitlines(keepends=True):
            if line.endswith("\n") and not line.startswith("end"):
                what, at, partition, offsets = line.split()
                places = [(int(partition), int(offset)) for offset in offsets.split(",")]
                found.append((what, int(at), places))
        return found

    def count(self, what: str) -> int:
        """Messages it handed over, or settled."""
        return sum(len(places) for did, _, places in self.acts() if did == what)


@pytest.mark.asyncio
async def test_two_processes_lose_nothing_and_repeat_only_what_was_not_committed(
    broker: Broker, tmp_path: Path
) -> None:
    """200,000 records, one reader killed and started again, one stopped: all are settled.

    What is settled twice was settled by the one that was killed, and not committed yet; what was
    committed, be it as a done range, is handed over no more.
    """
    topic = "two-processes"
    await topic_made(broker, topic)
    await filled(broker, topic, RECORDS)
    enough = asyncio.Event()
    flow = asyncio.create_task(flowing(broker, topic, RECORDS, enough))
    settings = settings_of(broker, topic, commit_seconds=1.0)
    running = [Process(tmp_path / "first", settings, 1), Process(tmp_path / "second", settings, 2)]
    first, second = running
    try:
        for one in running:
            await until(lambda one=one: one.count("s") > RECORDS // 10, "both read")
        await some_committed(broker, topic, RECORDS // 5)
        first.popen.kill()
        first.popen.wait()
        killed_at = time.monotonic_ns()
        done = await committed(broker, topic)
        again = Process(tmp_path / "again", settings, 3)
        running.append(again)
        await until(lambda: again.count("s"), "the one that was started again reads")
        second.popen.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(second.popen.wait, PATIENCE) == 0
        enough.set()
        records = await flow
        await all_committed(broker, topic)
        again.popen.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(again.popen.wait, PATIENCE) == 0
    finally:
        flow.cancel()
        for one in running:
            one.popen.kill()
            one.popen.wait()
    there = {(part, at) for part, end in (await ends(broker, topic)).items() for at in range(end)}
    assert len(there) == records
    handed, settled = defaultdict[At, list[int]](list), defaultdict[At, list[int]](list)
    by_others: dict[At, int] = {}
    for process in (first, second, again):
        for what, at, places in process.acts():
            for place in places:
                (handed if what == "h" else settled)[place].append(at)
                if what == "s" and process is not first:
                    by_others[place] = at
    assert set(handed) == there
    assert set(settled) == there
    known = {(part, at) for part, told in done.items() for at in range(told.offset)}
    for part, told in done.items():
        for span in restored(told.offset, told.metadata):
            known |= {(part, at) for at in range(*span)}
    assert known
    assert known <= set(settled)
    assert [place for place in known if max(handed[place]) > killed_at] == []
    # Who is stopped, or has to share, commits what is settled before another reads on.
    assert [place for place, at in by_others.items() if max(handed[place]) > at] == []
    twice = sum(len(times) > 1 for times in settled.values())
    print(f"\n{twice} settled twice, of {first.count('s')} settled by the one that was killed")
    assert twice < first.count("s")
    found = await committed(broker, topic)
    assert {one.metadata for one in found.values()} == {""}


@pytest.mark.asyncio
async def test_a_rebalance_loses_and_doubles_nothing(broker: Broker) -> None:
    """Readers come and go while messages are in flight: each is settled once."""
    topic = "rebalance"
    await topic_made(broker, topic)
    acts = Acts()
    settings = settings_of(broker, topic)
    async with driven(settings, acts) as one:
        await filled(broker, topic, 20_000)
        await until(lambda: len(acts.settled) > 2_000, "the first reads")
        async with driven(settings, acts) as two:
            await filled(broker, topic, 20_000, 20_000)
            await until(lambda: two.sessions and len(acts.settled) > 25_000, "the second reads")
        await filled(broker, topic, 10_000, 40_000)
        await all_committed(broker, topic)
        assert one.sessions == 3  # alone, with the other, and alone again
        assert one.source.lag == 0
        assert one.source.ready
    there = {(part, at) for part, end in (await ends(broker, topic)).items() for at in range(end)}
    assert len(there) == 50_000
    assert sorted(acts.settled) == sorted(there)


@pytest.mark.asyncio
async def test_a_reader_that_asks_for_nothing_keeps_its_group(broker: Broker) -> None:
    """Through an outage of several poll intervals it stays the member it was, in bounded memory."""
    topic = "paused"
    await topic_made(broker, topic)
    await filled(broker, topic, 20_000)
    acts = Acts()
    client = {"max_poll_interval_ms": 1_500}
    settings = settings_of(broker, topic, client=client, buffer_messages=3_000)
    async with driven(settings, acts) as driver:
        await until(lambda: acts.handed, "reading")
        driver.gate.clear()
        began = time.monotonic()
        await until(lambda: time.monotonic() > began + 6, "time")
        assert len(acts.handed) < 20_000
        lag = driver.source.lag
        assert lag is not None
        assert abs(lag + len(acts.handed) - 20_000) <= 600  # a block that was asked for already
        assert driver.source.ready
        await filled(broker, topic, 1_000, 20_000)
        await until(lambda: (driver.source.lag or 0) > lag + 900, "the lag grows")
        driver.gate.set()
        await all_committed(broker, topic)
        assert driver.sessions == 1
    assert len(acts.settled) == len(set(acts.settled)) == 21_000


@pytest.mark.asyncio
async def test_what_was_settled_out_of_order_is_skipped_after_a_restart(broker: Broker) -> None:
    """The done ranges of a commit spare their messages; only the others come again."""
    topic = "ranges"
    await topic_made(broker, topic, 1)
    await filled(broker, topic, 5_000)
    source = KafkaSource(settings_of(broker, topic), durable)
    left = {7, 8, 100, 4_321}
    await source.open()
    async for session in source.sessions():
        count = 0
        async for block in session.blocks():
            numbers = list(block.numbers())
            session.settled(block.part, [at for at in numbers if at not in left], ())
            count += len(numbers)
            if count == 5_000:
                session.stop()
        assert session.place(block.part, 12) == "ranges[0]@12"
        await session.end()
        source.stop()
    await source.aclose()
    (told,) = (await committed(broker, topic)).values()
    assert told.offset == 7
    assert restored(7, told.metadata) == [(9, 100), (101, 4_321), (4_322, 5_000)]
    acts = Acts()
    async with driven(settings_of(broker, topic), acts) as driver:
        await until(lambda: len(acts.settled) == len(left), "the rest")
        await until(lambda: driver.source.counts.known == 4_989, "the others")
    assert {at for _, at in acts.handed} == left
    (told,) = (await committed(broker, topic)).values()
    assert told == Commit(5_000)


@pytest.mark.asyncio
async def test_messages_of_all_kinds_come_as_lines(broker: Broker) -> None:
    """Kinds by header, frames of a schema registry, bytes that are no text, and tombstones."""
    topic = "kinds"
    await topic_made(broker, topic, 1)
    bare, user = dumps({"external_id": "u1", "plan": "pro"}), b"u1"
    messages: list[tuple[bytes | None, Sequence[tuple[str, bytes]]]] = [
        (event(1), ()),
        (bare, [("kind", b"attributes")]),
        (bare, [("kind", b"something of others"), ("trace", b"1")]),
        (None, ()),
        (b"", ()),
        (b"\x00\x00\x00\x00\x11Obj", ()),
        (b"\xff\xfe", ()),
        (b'{"event": {\n"external_id": "u2"}}', ()),
    ]
    async with produced(broker) as producer:
        for value, headers in messages:
            await producer.send_and_wait(topic, value, key=user, headers=list(headers))
    acts = Acts()
    async with driven(settings_of(broker, topic), acts) as driver:
        driver.keep_blocks = True
        await until(lambda: len(acts.settled) == 6, "the messages")
        await all_committed_one(broker, topic, 8)
        assert driver.source.tombstones == 2
    lines = dict[int, bytes]()
    unfit = {}
    for block in driver.blocks:
        lines.update(zip(block.numbers(), block.lines(), strict=True))
        unfit.update({row.line: row for row in block.unfit})
    assert lines[0] == event(1)
    assert loads(lines[1]) == {"attributes": loads(bare)}
    assert lines[2] == bare
    assert lines[6] == b"\xff\xfe"
    assert lines[7] == b'{"event": { "external_id": "u2"}}'
    assert sorted([*lines, *unfit]) == [0, 1, 2, 5, 6, 7]
    assert unfit[5].code == "schema-registry"
    assert "schema registry" in unfit[5].reason


@pytest.mark.asyncio
async def test_transactions_leave_gaps_and_nothing_that_was_taken_back(broker: Broker) -> None:
    """Marks of transactions are passed over up to the end of the log; aborted messages stay out."""
    topic = "transactions"
    await topic_made(broker, topic, 1)
    async with produced(broker, transactional_id="a-test", acks="all") as producer:
        for number in range(6):
            try:
                async with producer.transaction():
                    for one in range(3):
                        await producer.send_and_wait(topic, event(number * 10 + one))
                    if number % 2:
                        raise RuntimeError("taken back")
            except RuntimeError:
                continue
    acts = Acts()
    async with driven(settings_of(broker, topic), acts):
        await until(lambda: len(acts.settled) == 9, "the messages")
        await all_committed_one(broker, topic, 24)
    assert sorted(at for _, at in acts.handed) == [0, 1, 2, 8, 9, 10, 16, 17, 18]


@pytest.mark.asyncio
async def test_a_broker_that_dies_is_waited_for(tmp_path: Path) -> None:
    """In the middle of a topic it is killed and comes back: it is said, and nothing is lost.

    Nor is anything sent twice: what was settled meanwhile is remembered, if not committed.
    """
    topic = "broken"
    said: list[str] = []
    with brokered(tmp_path) as broker:
        await topic_made(broker, topic)
        await filled(broker, topic, 20_000)
        acts = Acts()
        settings = settings_of(broker, topic, buffer_messages=1_000)
        async with driven(settings, acts, say=said.append) as driver:
            await until(lambda: len(acts.settled) > 2_000, "reading")
            driver.gate.clear()
            await asyncio.to_thread(broker.kill)
            await until(lambda: not driver.source.ready, "it is noticed")
            driver.gate.set()
            began = time.monotonic()
            await until(lambda: time.monotonic() > began + 3, "time")
            await asyncio.to_thread(broker.start)
            await until(lambda: driver.source.ready, "it is there again")
            await all_committed(broker, topic)
        assert len(acts.settled) == len(set(acts.settled)) == 20_000
        assert any("does not answer" in line for line in said)
        assert any("answers again" in line for line in said)
        assert len(said) <= 8  # one a minute, and not ten a second


@pytest.mark.asyncio
async def test_a_broker_that_is_not_there_is_told_in_a_sentence() -> None:
    """Without a broker, or without the topic, it does not start, and says what to look at."""
    port = free_port()
    away = KafkaSettings(topics=("t",), group="g", bootstrap=f"127.0.0.1:{port}")
    with pytest.raises(InputError, match=rf"127\.0\.0\.1:{port} cannot be used: .*bootstrap"):
        await KafkaSource(away, durable).open()


@pytest.mark.asyncio
async def test_a_topic_that_is_not_there_is_told_in_a_sentence(broker: Broker) -> None:
    """A typing error in a topic's name must not wait for ever."""
    with pytest.raises(InputError, match="has no topic no-such-topic"):
        await KafkaSource(settings_of(broker, "no-such-topic"), durable).open()


@pytest.mark.asyncio
async def test_keys_that_are_no_users_are_told_once(broker: Broker) -> None:
    """Where the messages of a user lie in several partitions, their order cannot be kept."""
    topic = "keyless"
    await topic_made(broker, topic)
    async with produced(broker) as producer:
        for number in range(600):
            await producer.send(topic, event(number % 7), partition=number % PARTITIONS)
    said: list[str] = []
    acts = Acts()
    async with driven(settings_of(broker, topic), acts, say=said.append):
        await until(lambda: len(acts.settled) == 600, "reading")
    (told,) = (line for line in said if "several partitions" in line)
    assert "have no key" in told
    assert "u1" not in told


@pytest.mark.asyncio
async def test_dead_letters_are_in_the_topic_once_they_are_flushed(broker: Broker) -> None:
    """Each letter is there; one that is too long for the topic goes without its record."""
    topic = "letters-of-a-driver"
    await topic_made(broker, topic, 1)
    said: list[str] = []
    letters = KafkaDeadLetters(broker.address, topic, {}, say=said.append)
    await letters.open()
    source = {"name": "t", "partition": 0, "offset": 5}
    small: list[Mapping[str, Any]] = [{"v": 1, "record": {"n": n}} for n in range(1_200)]
    letters.write([dumps(one) + b"\n" for one in small])
    long = dumps({"v": 1, "record": {"p": "x" * 2_000_000}, "source": source})
    letters.write([long])
    assert letters.waiting == 1_201
    await letters.flush()
    assert letters.waiting == 0
    await letters.flush()
    await letters.aclose()
    found = [loads(one) for one in await values(broker, topic, 1_201)]
    assert found[:1_200] == small
    assert found[1_200] == {"v": 1, "source": source, "left_out": len(long)}
    assert len(said) == 1


@pytest.mark.asyncio
async def test_letters_need_their_topic(broker: Broker) -> None:
    """A topic that is not there, or a broker that is away, is told before anything is read."""
    letters = KafkaDeadLetters(broker.address, "no-such-topic", {"request_timeout_ms": 2_000})
    with pytest.raises(InputError, match="Dead letters cannot go to no-such-topic"):
        await letters.open()
    letters = KafkaDeadLetters(f"127.0.0.1:{free_port()}", "t", {})
    with pytest.raises(InputError, match="Dead letters cannot go to t of Kafka"):
        await letters.open()
