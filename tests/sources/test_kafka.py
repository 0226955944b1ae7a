"""The source between a group and a driver: who is waited for, for how long, and what is begun anew.

The client is a small one of ours, on the virtual clock; `tests/integration/test_kafka.py` has the
real one, and a real broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

import pytest

from ingest.errors import InputError
from ingest.sources.kafka import KafkaSource
from ingest.sources.kafka_client import Confused, Gone, Key, Message, Unreachable
from ingest.sources.kafka_session import KafkaSession
from ingest.sources.kafka_settings import KafkaSettings
from ingest.watermarks import Commit
from tests import virtual_clock

KEYS: tuple[Key, ...] = (("t", 0), ("t", 1))
HOUR = 3600.0


class Group:
    """A broker with one topic, and the clients that were made of it."""

    def __init__(self, messages: int = 4) -> None:
        self.logs = {key: [Message(at, b"{}", b"k") for at in range(messages)] for key in KEYS}
        self.commits: dict[Key, Commit] = {}
        self.clients: list[FakeClient] = []
        self.away = False
        self.down: list[Exception] = []  # raised by the next polls
        self.polls = 0

    def client(self, *arguments: Any) -> Any:
        """Make a client, as the source does."""
        one = FakeClient(self, *arguments)
        self.clients.append(one)
        return one

    def source(self, said: list[str] | None = None, **more: Any) -> KafkaSource:
        """A source of that topic."""
        settings = KafkaSettings(topics=("t",), group="g", bootstrap="b:1", **more)
        say = said.append if said is not None else lambda text: None
        return KafkaSource(settings, durable, say=say, client=self.client)


class FakeClient:
    """As much of a client as a source sees. Partitions are given and taken by the test."""

    def __init__(
        self,
        group: Group,
        bootstrap: str,
        name: str,
        options: Mapping[str, Any],
        revoked: Callable[[], Awaitable[None]],
        assigned: Callable[[Sequence[Key]], None],
    ) -> None:
        self.group, self.revoked, self.assigned = group, revoked, assigned
        self.positions: dict[Key, int] = {}
        self.paused = False
        self.closed = False
        self._came = asyncio.Event()

    async def open(self, topics: Sequence[str]) -> Self:
        """Connect."""
        if self.group.away:
            raise InputError("Kafka at b:1 cannot be used: away.")
        return self

    def give(self, *keys: Key) -> None:
        """Assign partitions, as a group does; positions are those of the commits."""
        commits = self.group.commits
        self.positions = {key: commits[key].offset if key in commits else 0 for key in keys}
        self.paused = False
        self._came.set()
        self.assigned(keys)

    async def take(self) -> None:
        """Take the partitions away."""
        await self.revoked()
        self.positions = {}

    async def poll(self, wait: float, most: int) -> dict[Key, list[Message]]:
        """Return messages."""
        self.group.polls += 1
        if self.group.down:
            raise self.group.down.pop(0)
        found = {
            key: self.group.logs[key][at : at + most]
            for key, at in self.positions.items()
            if not self.paused and at < len(self.group.logs[key])
        }
        for key, messages in found.items():
            self.positions[key] += len(messages)
        if not found:
            self._came.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._came.wait()
        return found

    def pause(self) -> None:
        """Fetch nothing."""
        self.paused = True

    def resume(self) -> None:
        """Fetch again."""
        self.paused = False

    async def position(self, key: Key) -> int | None:
        """Return where reading is."""
        return self.positions.get(key)

    async def commit(self, commits: Mapping[Key, Commit]) -> None:
        """Take commits of what is assigned."""
        if not set(commits) <= set(self.positions):
            raise Gone
        self.group.commits.update(commits)

    async def committed(self, keys: Iterable[Key]) -> dict[Key, Commit]:
        """Return commits."""
        if self.group.away:
            raise Unreachable("away")
        return {key: self.group.commits[key] for key in keys if key in self.group.commits}

    async def ends(self, keys: Sequence[Key], within: float) -> dict[Key, int] | None:
        """Return where logs end."""
        return None if self.group.away else {key: len(self.group.logs[key]) for key in keys}

    async def aclose(self) -> None:
        """Close."""
        self.closed = True


async def durable() -> None:
    """Nothing is to be brought to safety."""


async def next_of(sessions: Any) -> KafkaSession:
    """The next session, within an hour."""
    async with asyncio.timeout(HOUR):
        session = await anext(sessions)
    assert isinstance(session, KafkaSession)
    return session


async def all_of(session: KafkaSession, count: int) -> dict[int, list[int]]:
    """The messages that come, by part."""
    found: dict[int, list[int]] = {}
    async for block in session.blocks():
        found.setdefault(block.part, []).extend(block.numbers())
        if sum(map(len, found.values())) >= count:
            break
    return found


def test_partitions_change_hands_once_what_is_in_flight_has_its_end() -> None:
    """The group is made to wait for `end`, which commits; the next session goes on from there."""

    async def scene() -> None:
        group, said = Group(), list[str]()
        source = group.source(said)
        await source.open()
        (client,) = group.clients
        assert not source.ready
        client.give(*KEYS)
        sessions = source.sessions()
        session = await next_of(sessions)
        assert source.ready
        assert await all_of(session, 8) == {0: [0, 1, 2, 3], 1: [0, 1, 2, 3]}
        session.settled(0, [0, 1, 3], ())
        taking = asyncio.create_task(client.take())
        await session.revoked()
        assert source.lag is None
        await asyncio.sleep(20)
        assert not taking.done()
        session.settled(1, [0], ())
        await session.end()
        await taking
        assert group.commits == {KEYS[0]: Commit(2, "ingest:1:2:1"), KEYS[1]: Commit(1)}
        client.give(KEYS[0])
        session = await next_of(sessions)
        assert await all_of(session, 1) == {0: [2]}
        await asyncio.sleep(6)
        assert source.lag == 0
        session.settled(0, [2], ())
        await asyncio.sleep(2)
        assert group.commits[KEYS[0]] == Commit(4)
        source.stop()
        await session.end()
        assert [one async for one in sessions] == []
        await source.aclose()
        assert client.closed
        assert said == []

    virtual_clock.run(scene())


def test_the_group_waits_no_longer_than_it_has_time() -> None:
    """A driver that does not end loses its partitions, commits nothing any more, and it is said."""

    async def scene() -> None:
        group, said = Group(), list[str]()
        source = group.source(said, client={"rebalance_timeout_ms": 30_000})
        await source.open()
        (client,) = group.clients
        client.give(*KEYS)
        sessions = source.sessions()
        session = await next_of(sessions)
        await all_of(session, 8)
        began = asyncio.get_running_loop().time()
        await client.take()
        assert 20 < asyncio.get_running_loop().time() - began < 30
        assert "rebalance_timeout_ms" in said[0]
        session.settled(0, [0], ())
        await session.end()
        assert group.commits == {}
        source.stop()
        await source.aclose()

    virtual_clock.run(scene())


def test_a_session_that_nobody_took_holds_nobody_up() -> None:
    """Partitions that go as soon as they came are given back at once."""

    async def scene() -> None:
        group = Group()
        source = group.source()
        await source.open()
        (client,) = group.clients
        client.give(*KEYS)
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await client.take()
        assert asyncio.get_running_loop().time() - began < 1
        client.give()  # more members than partitions: nothing to do, and well
        sessions = source.sessions()
        waiting = asyncio.create_task(next_of(sessions))
        await asyncio.sleep(60)
        assert not waiting.done()
        assert source.ready
        assert source.lag == 0
        await client.take()
        client.give(KEYS[1])
        session = await waiting
        assert session.keys == [KEYS[1]]
        source.stop()
        await session.end()
        await source.aclose()

    virtual_clock.run(scene())


def test_polling_goes_on_while_nobody_asks() -> None:
    """For an hour without room nothing is fetched, and no pause is as long as a poll interval."""

    async def scene() -> None:
        group = Group(messages=2_000)
        source = group.source(buffer_messages=10)
        await source.open()
        (client,) = group.clients
        client.give(KEYS[0])
        session = await next_of(source.sessions())
        await asyncio.sleep(60)
        fetched, polls = client.positions[KEYS[0]], group.polls
        assert fetched == 500
        await asyncio.sleep(HOUR)
        assert client.positions[KEYS[0]] == fetched
        assert HOUR / 60 < group.polls - polls < HOUR
        assert source.lag == 2_000
        assert await all_of(session, 2_000) == {0: list(range(2_000))}
        source.stop()
        await session.end()
        await source.aclose()

    virtual_clock.run(scene())


def test_a_client_that_cannot_go_on_is_replaced() -> None:
    """The session is given up, a new client joins as soon as one can, and nothing comes twice."""

    async def scene() -> None:
        group, said = Group(), list[str]()
        source = group.source(said)
        await source.open()
        group.clients[0].give(*KEYS)
        sessions = source.sessions()
        session = await next_of(sessions)
        await all_of(session, 8)
        session.settled(0, [0, 1, 2, 3], ())
        session.settled(1, [2], ())
        group.down = [Unreachable("not now"), Confused("KafkaError")]
        group.away = True
        await session.revoked()
        await session.end()
        await asyncio.sleep(120)
        assert not source.ready
        assert group.clients[0].closed
        assert len(group.clients) > 3
        group.away = False
        await asyncio.sleep(60)
        group.clients[-1].give(*KEYS)
        session = await next_of(sessions)
        assert await all_of(session, 3) == {1: [0, 1, 3]}
        assert source.ready
        assert any("begun anew" in line for line in said)
        assert len(said) < 10
        source.stop()
        await session.end()
        await source.aclose()

    virtual_clock.run(scene())


def test_what_no_waiting_mends_ends_the_source() -> None:
    """A topic that may not be read stops the session and the source with its sentence."""

    async def scene() -> None:
        group = Group()
        source = group.source()
        await source.open()
        group.clients[0].give(*KEYS)
        sessions = source.sessions()
        session = await next_of(sessions)
        await all_of(session, 8)
        group.down = [InputError("grant READ")]
        with pytest.raises(InputError, match="READ"):
            await all_of(session, 1)
        await session.end()
        with pytest.raises(InputError, match="READ"):
            await next_of(sessions)
        assert not source.ready
        await source.aclose()

    virtual_clock.run(scene())


def test_a_broker_that_is_away_is_waited_for() -> None:
    """It is said once when it goes and once when it is back; the commits are asked for again."""

    async def scene() -> None:
        group, said = Group(), list[str]()
        source = group.source(said)
        await source.open()
        group.away = True
        (client,) = group.clients
        client.give(*KEYS)
        sessions = source.sessions()
        await asyncio.sleep(6)
        assert not source.ready
        group.away = False
        session = await next_of(sessions)
        await asyncio.sleep(6)
        assert source.ready
        assert said == [
            "Kafka at b:1 does not answer; it is tried on.",
            "Kafka at b:1 answers again.",
        ]
        assert len(await all_of(session, 8)) == 2
        source.stop()
        await session.end()
        await source.aclose()

    virtual_clock.run(scene())


def test_without_an_answer_reading_begins_all_the_same() -> None:
    """What was settled above the commit is sent again, rather than nothing at all."""

    async def scene() -> None:
        group, said = Group(), list[str]()
        source = group.source(said)
        await source.open()
        group.away = True
        group.clients[0].give(*KEYS)
        session = await next_of(source.sessions())
        assert any("cannot be read" in line for line in said)
        assert len(await all_of(session, 8)) == 2
        source.stop()
        await session.end()
        await source.aclose()

    virtual_clock.run(scene())
