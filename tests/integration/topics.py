"""Topics of a real broker, as the other programs around a worker make, fill and look at them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pytest

from ingest.codec import dumps
from ingest.watermarks import Commit
from tests.integration.brokers import Broker
from tests.integration.processes import Served
from tests.integration.workers import sink_of

aiokafka: Any = pytest.importorskip("aiokafka", reason="the extra 'kafka' is not installed")
admin_of: Any = pytest.importorskip("aiokafka.admin")

GROUP: Final = "ingest"
PARTITIONS: Final = 6
USERS: Final = 500
QUICK: Final = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 500}
"""Client options with which a member that was killed is missed soon."""

PATIENCE: Final = 90.0


def event(number: int, pad: int = 0) -> bytes:
    """The event of some user."""
    user = f"u{number % USERS}"
    told = {"external_id": user, "name": "seen", "time": "2026-01-01T00:00:00Z"}
    return dumps({"event": {**told, "properties": {"n": number, "p": "x" * pad}}})


def reading(broker: Broker, topic: str, sandbox: Served, **sink: Any) -> dict[str, Any]:
    """The configuration of a worker of a topic."""
    source = {"type": "kafka", "topics": [topic], "group": GROUP, "bootstrap": broker.address}
    return {
        "state": "state",
        "source": {**source, "client": QUICK},
        "sink": sink_of(sandbox, **sink),
    }


@asynccontextmanager
async def administered(broker: Broker) -> AsyncIterator[Any]:
    """An admin client."""
    client = admin_of.AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def topic_made(broker: Broker, name: str, partitions: int = PARTITIONS) -> None:
    """Create a topic, and return once it can be written to."""
    async with administered(broker) as admin:
        await admin.create_topics([admin_of.NewTopic(name, partitions, 1)])
        while True:
            (found,) = await admin.describe_topics([name])
            leaders = [one["leader"] for one in found["partitions"]]
            if len(leaders) == partitions and min(leaders) >= 0:
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def produced(broker: Broker, **options: Any) -> AsyncIterator[Any]:
    """A producer."""
    options = {"linger_ms": 20, "max_batch_size": 200_000, **options}
    one = aiokafka.AIOKafkaProducer(bootstrap_servers=broker.address, **options)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


async def filled(broker: Broker, name: str, count: int, first: int = 0) -> None:
    """Write events, each with its user as key."""
    async with produced(broker) as producer:
        for number in range(first, first + count):
            await producer.send(name, event(number), key=b"u%d" % (number % USERS))
        await producer.flush()


async def sent(broker: Broker, name: str, messages: Iterable[bytes]) -> None:
    """Write messages as they are, without a key."""
    async with produced(broker) as producer:
        for message in messages:
            await producer.send(name, message)
        await producer.flush()


async def flowing(broker: Broker, name: str, first: int, enough: asyncio.Event) -> int:
    """Write some more events all the time, until it is enough; return how many there are."""
    while not enough.is_set():
        await filled(broker, name, 1_000, first)
        first += 1_000
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await enough.wait()
    return first


async def ends(broker: Broker, name: str) -> dict[int, int]:
    """Where the logs of a topic end."""
    async with administered(broker) as admin:
        (found,) = await admin.describe_topics([name])
    parts = [aiokafka.TopicPartition(name, one["partition"]) for one in found["partitions"]]
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=broker.address)
    await consumer.start()
    try:
        logs = await consumer.end_offsets(parts)
        return {part.partition: end for part, end in logs.items()}
    finally:
        await consumer.stop()


async def values(broker: Broker, name: str, count: int) -> list[bytes]:
    """The first messages of a topic, those of a partition in their order."""
    told = {"bootstrap_servers": broker.address, "auto_offset_reset": "earliest"}
    consumer = aiokafka.AIOKafkaConsumer(name, **told)
    await consumer.start()
    try:
        async with asyncio.timeout(PATIENCE):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def committed(broker: Broker, name: str, group: str = GROUP) -> dict[int, Commit]:
    """What the group has committed of a topic."""
    async with administered(broker) as admin:
        found = await admin.list_consumer_group_offsets(group)
        return {
            part.partition: Commit(one.offset, one.metadata)
            for part, one in found.items()
            if part.topic == name
        }


async def until(condition: Any, what: str, patience: float = PATIENCE) -> None:
    """Wait until a condition holds."""
    limit = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < limit, f"{what} did not happen"
        await asyncio.sleep(0.02)


async def all_committed(broker: Broker, name: str, patience: float = PATIENCE) -> None:
    """Wait until the committed offsets are the ends of the logs, where there is anything.

    What has no key goes to any partition, so that one may get nothing, which nobody commits.
    """
    limit = time.monotonic() + patience
    there = {part: end for part, end in (await ends(broker, name)).items() if end}
    while True:
        found = await committed(broker, name)
        if {part: one.offset for part, one in found.items() if one.offset} == there:
            return
        assert time.monotonic() < limit, f"{found} is not {there}"
        await asyncio.sleep(0.1)


async def all_committed_one(broker: Broker, topic: str, end: int) -> None:
    """Wait until a topic of one partition is committed to its end."""
    limit = time.monotonic() + PATIENCE
    while (await committed(broker, topic)).get(0) != Commit(end):
        assert time.monotonic() < limit
        await asyncio.sleep(0.1)


async def some_committed(broker: Broker, name: str, count: int) -> None:
    """Wait until so many messages are committed, and some of each partition: by each reader."""
    limit = time.monotonic() + PATIENCE
    while True:
        offsets = [one.offset for one in (await committed(broker, name)).values()]
        if sum(offsets) >= count and len(offsets) == PARTITIONS and min(offsets) > 0:
            return
        assert time.monotonic() < limit
        await asyncio.sleep(0.05)
