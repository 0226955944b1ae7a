"""A session of Kafka: the partitions that this process reads for now, until they are another's.

Decides which messages are handed over, and when what is settled is committed: in groups, after
their dead letters are safe, and never past a message that is not settled. Knows no client; what
talks to a broker is handed in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from ingest.messages import Unreadable
from ingest.ranges import Range
from ingest.sources.base import MAX_LINE_BYTES, Block, Unfit
from ingest.sources.kafka_client import Confused, Gone, Key, Message, Unreachable
from ingest.sources.kafka_messages import Keys, Shelf, kind_of
from ingest.sources.live import Durable
from ingest.watermarks import Commit, Watermark, restored

ROUND_SECONDS: Final = 0.002
"""How long the loop may be held by messages that are read."""

ROUND_MESSAGES: Final = 64
"""Messages between two looks at the clock."""

END_SECONDS: Final = 10.0
"""How long the last commit of a session is tried: what is not committed is only read again."""

Line = Callable[[bytes, str | None], bytes]
"""From a message, and its kind if a header says one, to its line. Raises `Unreadable`."""


Memory = Mapping[Key, tuple[Commit | None, Sequence[Range]]]
"""Of a partition: what was committed last, and what is settled; both as far as this process did."""


class Counts(msgspec.Struct):
    """Messages without a record, over all sessions of a source.

    `tombstones` have no value or an empty one; `emptied` became nothing; `known` were settled
    before: by another reader, as the metadata of its commit says, or by an earlier session.
    """

    tombstones: int = 0
    emptied: int = 0
    known: int = 0


class Ties(msgspec.Struct, frozen=True):
    """What a session needs of its source.

    `commit` tells the broker, and raises `Gone`, `Unreachable`, or `ValueError` for metadata that
    is too long; `room` is called when there is room again; `say` takes a sentence for people.
    """

    line: Line
    commit: Callable[[Mapping[Key, Commit]], Awaitable[None]]
    durable: Durable
    room: Callable[[], None]
    say: Callable[[str], None]
    counts: Counts
    keys: Keys
    commit_seconds: float
    buffer_bytes: int
    buffer_messages: int


class KafkaSession:
    """The messages of some partitions. `parts` gives each its number, that of its blocks."""

    def __init__(self, parts: Mapping[Key, int], ties: Ties) -> None:
        self._ties = ties
        self._parts = dict(parts)
        self._keys = {part: key for key, part in parts.items()}
        self._marks: dict[Key, Watermark] = {}
        self._told: dict[Key, Commit] = {}
        self._changed: set[Key] = set()
        self._shelf = Shelf()
        self._plain = False  # the broker takes no metadata of this length
        self._gone = False  # nothing can be committed any more
        self._stopped = False
        self._failed: Exception | None = None
        self._committing = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._given_up = asyncio.Event()
        self.begun = asyncio.Event()
        """Set once it is known what was settled before, or that the session is over."""
        self.taken = False
        """Whether anybody works on it, and will end it."""
        self.ended = asyncio.Event()
        """Set once `end` has done what it can."""

    # For the source

    def begin(self, committed: Mapping[Key, Commit], memory: Memory) -> None:
        """Begin where the last commits say, and skip what they say is settled.

        Where the last commit of a partition is one of this process, what it settled after it, and
        could not commit, is settled too: `memory` of the sessions before.
        """
        for key in self._parts:
            told = committed.get(key)
            last, settled = memory.get(key, (None, ()))
            done = [*settled] if last == told else []
            if told is not None:
                self._told[key] = told
                done += restored(told.offset, told.metadata)
            self._marks[key] = Watermark(told.offset if told is not None else 0, done)
        self._keeper = asyncio.create_task(self._keep())
        self.begun.set()

    @property
    def memory(self) -> Memory:
        """What was committed last of each partition, and what is settled."""
        return {key: (self._told.get(key), mark.done) for key, mark in self._marks.items()}

    @property
    def keys(self) -> list[Key]:
        """Its partitions."""
        return list(self._parts)

    @property
    def over(self) -> bool:
        """Whether it takes no more messages."""
        return self._stopped or self._given_up.is_set()

    @property
    def full(self) -> bool:
        """Whether as much waits to be asked for as may."""
        ties, shelf = self._ties, self._shelf
        return shelf.bytes >= ties.buffer_bytes or shelf.messages >= ties.buffer_messages

    @property
    def roomy(self) -> bool:
        """Whether half of what may wait does not: time to fetch again."""
        ties, shelf = self._ties, self._shelf
        return 2 * shelf.bytes < ties.buffer_bytes and 2 * shelf.messages < ties.buffer_messages

    @property
    def waiting(self) -> int:
        """Messages that were fetched, and not handed over."""
        return self._shelf.messages

    def next(self, key: Key) -> int:
        """Return the offset that follows what was fetched of a partition."""
        return self._marks[key].next if key in self._marks else 0

    async def take(self, key: Key, messages: Sequence[Message]) -> None:
        """Put messages of a partition up for the driver; those settled before are left out.

        Raises `Confused` if the log of the partition begins anew.
        """
        if self.over or not messages:
            return
        offsets = [message.offset for message in messages]
        if offsets[0] < self._marks[key].next and self._marks[key].fresh:
            self._marks[key] = Watermark(offsets[0])  # committed beyond what the log has now
        try:
            fresh = self._marks[key].take(offsets)
        except ValueError:
            raise Confused("the log begins anew") from None
        if len(fresh) < len(offsets):
            self._ties.counts.known += len(offsets) - len(fresh)
            self._changed.add(key)
            wanted = set(fresh)
            messages = [message for message in messages if message.offset in wanted]
        nothing: list[int] = []
        until = time.monotonic() + ROUND_SECONDS
        for at, message in enumerate(messages):
            if not self._put(key, message):
                nothing.append(message.offset)
            if at % ROUND_MESSAGES == ROUND_MESSAGES - 1 and time.monotonic() > until:
                self._news.set()
                await asyncio.sleep(0)
                until = time.monotonic() + ROUND_SECONDS
        if nothing:
            self._marks[key].settle(nothing)
            self._changed.add(key)
        self._news.set()

    def skip_to(self, key: Key, offset: int) -> None:
        """Note that no message lies before an offset of a partition but those that were taken."""
        if not self.over and offset > self._marks[key].next:
            self._marks[key].skip_to(offset)
            self._changed.add(key)

    def give_up(self) -> None:
        """Tell the driver that the messages are about to be another's."""
        self._given_up.set()
        self._shelf.clear()
        self.begun.set()
        self._news.set()

    def lose(self) -> None:
        """Note that the messages are another's already: nothing may be committed."""
        self._gone = True

    def fail(self, error: Exception) -> None:
        """Let `blocks` raise."""
        self._failed = error
        self._news.set()

    # For the driver

    async def blocks(self) -> AsyncIterator[Block]:
        """Yield blocks of one partition each, as messages come."""
        while True:
            if self._failed is not None:
                raise self._failed
            if self.over:
                return
            block = self._shelf.take()
            if block is None:
                self._news.clear()
                await self._news.wait()
                continue
            if self.roomy:
                self._ties.room()
            yield block

    def stop(self) -> None:
        """Hand over no more."""
        self._stopped = True
        self._shelf.clear()
        self._news.set()

    async def revoked(self) -> None:
        """Return when the group takes partitions away, or gives some: all change hands then."""
        await self._given_up.wait()

    def settled(self, part: int, lines: Sequence[int], bad: Collection[int]) -> None:
        """Note messages that have their end, good or bad: a topic has no place for those of `bad`.

        The broker is told within a second or so.
        """
        key = self._keys[part]
        self._marks[key].settle(lines)
        self._changed.add(key)

    def place(self, part: int, line: int) -> str:
        """Return what people call a message: `user-events[3]@1207`."""
        topic, partition = self._keys[part]
        return f"{topic}[{partition}]@{line}"

    def whence(self, part: int, line: int) -> dict[str, Any]:
        """Return the `source` of a dead letter."""
        topic, partition = self._keys[part]
        return {"name": topic, "partition": partition, "offset": line}

    async def end(self) -> None:
        """Commit what is settled, if that can be done in `END_SECONDS`.

        Raises `LocalFailure` if dead letters cannot be brought to safety; nothing is committed.
        """
        self.stop()
        try:
            if self._keeper is not None:
                self._keeper.cancel()
                with suppress(asyncio.CancelledError):
                    await self._keeper
            self._changed.update(self._marks)
            with suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await self._commit()
        finally:
            self.ended.set()

    # Inside

    def _put(self, key: Key, message: Message) -> bool:
        """Put a message on the shelf; False if it holds nothing."""
        ties, value, part = self._ties, message.value, self._parts[key]
        if not value or value.isspace():
            ties.counts.tombstones += 1
            return False
        try:
            line = ties.line(value, kind_of(message.headers) if message.headers else None)
        except Unreadable as bad:
            row = Unfit(message.offset, bad.code, bad.field, str(bad), value, bad.summary)
            self._shelf.put_unfit(part, row)
            return True
        if not line:
            ties.counts.emptied += 1
            return False
        if len(line) > MAX_LINE_BYTES:
            self._shelf.put_oversize(part, message.offset, len(line))
            return True
        self._shelf.put(part, message.offset, line)
        if ties.keys.watching:
            said = ties.keys.look(*key, line, keyed=message.key is not None)
            if said is not None:
                ties.say(said)
        return True

    async def _keep(self) -> None:
        """Commit now and then."""
        while True:
            await asyncio.sleep(self._ties.commit_seconds)
            try:
                await self._commit()
            except Exception as error:  # a dead-letter file that cannot be written, for one
                self.fail(error)
                return

    async def _commit(self) -> None:
        async with self._committing:
            if self._gone:
                return
            # Before `durable` is asked: what is settled while it works has letters that are not
            # safe yet, and waits for the next time.
            due: dict[Key, Commit] = {}
            for key in self._changed:
                if key not in self._told and not self._marks[key].next:
                    continue  # nothing came, and where it will begin is not ours to say
                commit = self._marks[key].commit()
                if self._plain:
                    commit = Commit(commit.offset)
                if commit != self._told.get(key):
                    due[key] = commit
            self._changed.clear()
            if not due:
                return
            await self._ties.durable()
            try:
                await self._ties.commit(due)
            except Unreachable:
                self._changed.update(due)
            except ValueError:
                self._plain = True
                self._changed.update(due)
                self._ties.say(
                    "The broker takes less metadata with an offset than others do, so that more "
                    "is sent again after a restart: raise its offset.metadata.max.bytes to 4096."
                )
            except Gone:
                self._gone = True
                self._ties.say(
                    "The group took the partitions back before all that is settled was "
                    "committed: whoever reads them next may send some messages again."
                )
            else:
                self._told.update(due)
