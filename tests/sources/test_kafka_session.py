"""What is committed, when, and what becomes of messages that hold nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from ingest.errors import InputError, LocalFailure
from ingest.messages import Messages, Unreadable
from ingest.sources.base import MAX_LINE_BYTES, Block
from ingest.sources.kafka_client import Confused, Gone, Key, Message, Unreachable
from ingest.sources.kafka_messages import Keys
from ingest.sources.kafka_session import END_SECONDS, Counts, KafkaSession, Ties
from ingest.watermarks import Commit
from tests import virtual_clock

KEY: Key = ("t", 3)
OTHER: Key = ("t", 4)
PARTS = {KEY: 0, OTHER: 7}
EVERY = 1.0


class Far:
    """A broker as a session sees it: keeps commits, or answers as it is told to."""

    def __init__(self) -> None:
        self.commits: list[dict[Key, Commit]] = []
        self.errors: list[Exception] = []
        self.said: list[str] = []
        self.rooms = 0
        self.counts = Counts()
        self.durable: Callable[[], Coroutine[Any, Any, None]] = self.safe

    async def safe(self) -> None:
        """Nothing is to be done."""

    async def commit(self, commits: Mapping[Key, Commit]) -> None:
        """Take a commit."""
        if self.errors:
            raise self.errors.pop(0)
        self.commits.append(dict(commits))

    def room(self) -> None:
        """Count the calls."""
        self.rooms += 1

    def session(self, **more: Any) -> KafkaSession:
        """A session that has begun."""
        session = KafkaSession(PARTS, self.ties(**more))
        session.begin({}, {})
        return session

    def ties(self, **more: Any) -> Ties:
        """What a session needs."""
        told: dict[str, Any] = {
            "line": Messages().line,
            "commit": self.commit,
            "durable": lambda: self.durable(),
            "room": self.room,
            "say": self.said.append,
            "counts": self.counts,
            "keys": Keys(),
            "commit_seconds": EVERY,
            "buffer_bytes": 1_000_000,
            "buffer_messages": 100,
        }
        return Ties(**{**told, **more})


def messages(*offsets: int, value: bytes | None = b"{}") -> list[Message]:
    """Messages of one value."""
    return [Message(offset, value) for offset in offsets]


async def taken(session: KafkaSession, count: int) -> list[Block]:
    """The next blocks."""
    blocks = session.blocks()
    return [await anext(blocks) for _ in range(count)]


def test_what_is_settled_is_committed_in_groups() -> None:
    """Once a second, all partitions together, and only what changed; with done ranges."""

    async def scene() -> None:
        far = Far()
        session = far.session()
        await session.take(KEY, messages(0, 1, 2, 3))
        await session.take(OTHER, messages(10, 11))
        first, second = await taken(session, 2)
        assert (first.part, list(first.numbers())) == (0, [0, 1, 2, 3])
        assert (second.part, list(second.numbers())) == (7, [10, 11])
        session.settled(0, [0, 2], ())
        session.settled(7, [11, 10], {11})
        assert far.commits == []
        await asyncio.sleep(1.5 * EVERY)
        assert far.commits == [{KEY: Commit(1, "ingest:1:1:1"), OTHER: Commit(12)}]
        await asyncio.sleep(5 * EVERY)
        assert len(far.commits) == 1
        session.settled(0, [3, 1], ())
        await session.end()
        assert far.commits[1:] == [{KEY: Commit(4)}]
        assert session.ended.is_set()
        assert session.place(7, 11) == "t[4]@11"
        assert session.whence(7, 11) == {"name": "t", "partition": 4, "offset": 11}

    virtual_clock.run(scene())


def test_letters_are_safe_before_the_broker_is_told() -> None:
    """What is settled while letters are brought to safety waits for the next commit."""

    async def scene() -> None:
        far = Far()
        session = far.session()
        await session.take(KEY, messages(0, 1))

        async def safe() -> None:
            session.settled(0, [1], ())
            far.durable = far.safe
            assert far.commits == []

        far.durable = safe
        session.settled(0, [0], ())
        await asyncio.sleep(1.5 * EVERY)
        assert far.commits == [{KEY: Commit(1)}]
        await session.end()
        assert far.commits[1:] == [{KEY: Commit(2)}]

    virtual_clock.run(scene())


def test_letters_that_cannot_be_kept_stop_the_session() -> None:
    """Nothing is committed, the driver is told, and `end` raises it too; the group is not held."""

    async def full() -> None:
        raise LocalFailure("the disk is full")

    async def scene() -> None:
        far = Far()
        far.durable = full
        session = far.session()
        await session.take(KEY, messages(0))
        session.settled(0, [0], ())
        blocks = session.blocks()
        await anext(blocks)
        with pytest.raises(LocalFailure):
            await anext(blocks)
        with pytest.raises(LocalFailure):
            await session.end()
        assert session.ended.is_set()
        assert far.commits == []

    virtual_clock.run(scene())


def test_commits_are_tried_again_or_left() -> None:
    """A broker that is away is asked again; one that gave the partitions away is not, and told."""

    async def scene() -> None:
        far = Far()
        session = far.session()
        await session.take(KEY, messages(0, 1, 2))
        session.settled(0, [0], ())
        far.errors = [Unreachable("away"), ValueError("too long")]
        await asyncio.sleep(3.5 * EVERY)
        assert far.commits == [{KEY: Commit(1)}]
        session.settled(0, [2], ())  # from here on without metadata, which changes nothing
        await asyncio.sleep(EVERY)
        assert len(far.commits) == 1
        (told,) = far.said
        assert "offset.metadata.max.bytes" in told
        session.settled(0, [1], ())
        far.errors = [Gone()]
        await asyncio.sleep(3 * EVERY)
        await session.end()
        assert len(far.commits) == 1
        assert len(far.said) == 2
        assert "may send some messages again" in far.said[1]

    virtual_clock.run(scene())


def test_the_end_does_not_wait_for_a_broker_for_ever() -> None:
    """A commit that gets no answer is given up after a while, and nothing is raised."""

    async def scene() -> None:
        far = Far()
        loop = asyncio.get_running_loop()

        async def never(commits: Mapping[Key, Commit]) -> None:
            await asyncio.Event().wait()

        session = far.session(commit=never)
        await session.take(KEY, messages(0))
        session.settled(0, [0], ())
        await asyncio.sleep(2 * EVERY)
        before = loop.time()
        await session.end()
        assert END_SECONDS <= loop.time() - before < END_SECONDS + 1
        assert session.ended.is_set()

    virtual_clock.run(scene())


def test_messages_that_hold_nothing_are_settled_and_counted() -> None:
    """Tombstones, empty ones, and what a transform drops; the others come by their offsets."""

    def line(message: bytes, kind: str | None) -> bytes:
        return b"" if message == b"drop" else Messages().line(message, kind)

    async def scene() -> None:
        far = Far()
        session = far.session(line=line)
        frame = b"\0\0\0\0\x07avro"
        values = [None, b"", b" \n", b"drop", frame, b"{}", b"1" * (MAX_LINE_BYTES + 1)]
        await session.take(KEY, [Message(at, value) for at, value in enumerate(values)])
        assert far.counts == Counts(tombstones=3, emptied=1)
        first, second = await taken(session, 2)
        assert [(row.line, row.code, row.raw) for row in first.unfit] == [
            (4, "schema-registry", frame)
        ]
        assert (list(first.numbers()), first.lines()) == ([5], [b"{}"])
        assert second.oversize == ((6, MAX_LINE_BYTES + 1),)
        await session.end()
        assert far.commits == [{KEY: Commit(4)}]

    virtual_clock.run(scene())


def test_a_row_has_the_summary_of_its_message() -> None:
    """A report says that; what names a member is for the dead letter."""

    def line(message: bytes, kind: str | None) -> bytes:
        raise Unreadable("bad", "f", "it has 'ada'", "it has something")

    async def scene() -> None:
        session = Far().session(line=line)
        await session.take(KEY, [Message(0, b"{}")])
        (block,) = await taken(session, 1)
        assert [(row.reason, row.summary) for row in block.unfit] == [
            ("it has 'ada'", "it has something")
        ]
        await session.end()

    virtual_clock.run(scene())


def test_the_kind_of_a_header_wraps_its_message() -> None:
    """A bare object is told its kind; without such a header it stays as it is."""

    async def scene() -> None:
        session = Far().session()
        bare = b'{"external_id":"u"}'
        await session.take(KEY, [Message(0, bare, None, [("kind", b"event")]), Message(1, bare)])
        (block,) = await taken(session, 1)
        assert block.lines() == [b'{"event":{"external_id":"u"}}', bare]
        await session.end()

    virtual_clock.run(scene())


def test_what_was_settled_before_is_not_handed_over() -> None:
    """By another reader, as the metadata says; or by this one, if nobody committed since."""

    async def scene() -> None:
        far = Far()
        told = {KEY: Commit(5, "ingest:1:5:1"), OTHER: Commit(2)}
        session = KafkaSession(PARTS, far.ties())
        session.begin(told, {KEY: (Commit(4), [(5, 9)]), OTHER: (Commit(2), [(0, 3), (4, 5)])})
        await session.take(KEY, messages(5, 6, 7))
        await session.take(OTHER, messages(2, 3, 4))
        first, second = await taken(session, 2)
        assert list(first.numbers()) == [5, 7]
        assert list(second.numbers()) == [3]
        assert far.counts.known == 3
        session.settled(7, [3], ())
        session.skip_to(OTHER, 9)
        await session.end()
        assert far.commits == [{OTHER: Commit(9)}]
        assert session.memory[OTHER] == (Commit(9), [(0, 9)])

    virtual_clock.run(scene())


def test_a_log_that_begins_anew_is_noticed() -> None:
    """Below a commit reading begins again where the log does; in the middle it is an error."""

    async def scene() -> None:
        far = Far()
        session = KafkaSession(PARTS, far.ties())
        session.begin({KEY: Commit(100, "ingest:1:2s:1")}, {})
        await session.take(KEY, messages(0, 1))
        with pytest.raises(Confused):
            await session.take(KEY, messages(1))
        session.settled(0, [0], ())
        await session.end()
        assert far.commits == [{KEY: Commit(1)}]

    virtual_clock.run(scene())


def test_a_session_that_is_over_takes_and_gives_nothing() -> None:
    """Given up or stopped: blocks end, what waits is dropped, and what comes is not taken."""

    async def scene() -> None:
        far = Far()
        session = far.session()
        revoked = asyncio.create_task(session.revoked())
        await session.take(KEY, messages(0, 1))
        await asyncio.sleep(0)
        assert not revoked.done()
        session.give_up()
        await revoked
        assert session.over
        assert session.waiting == 0
        assert [block async for block in session.blocks()] == []
        await session.take(KEY, messages(2))
        session.skip_to(KEY, 9)
        assert session.next(KEY) == 2
        session.lose()
        session.settled(0, [0], ())
        await session.end()
        assert far.commits == []
        assert far.said == []

    virtual_clock.run(scene())


def test_room_is_told_when_half_of_it_is_there() -> None:
    """It is full at the mark, and asks for more only once half of it is gone."""

    async def scene() -> None:
        far = Far()
        session = far.session(buffer_messages=4)
        await session.take(KEY, messages(0, 1))
        await session.take(OTHER, messages(0))
        assert not session.full
        assert not session.roomy
        await session.take(OTHER, messages(1))
        assert session.full
        await taken(session, 1)
        assert (session.full, session.roomy, far.rooms) == (False, False, 0)
        await taken(session, 1)
        assert (session.roomy, far.rooms) == (True, 1)
        session.fail(InputError("no more"))
        with pytest.raises(InputError):
            await taken(session, 1)
        await session.end()

    virtual_clock.run(scene())


def test_many_messages_let_others_run() -> None:
    """Taking them yields to the loop every few milliseconds."""

    async def scene() -> None:
        session = Far().session(line=lambda message, kind: bytes(sum(range(20_000)) % 2 + 1))
        ran = 0

        async def other() -> None:
            nonlocal ran
            while True:
                ran += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await session.take(KEY, messages(*range(400)))
        assert ran > 1
        task.cancel()
        await session.end()

    virtual_clock.run(scene())
