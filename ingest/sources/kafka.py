"""Topics of Kafka, read in a consumer group: each assignment of partitions is a session.

Decides when to poll, when to pause, and when a group may move on. Polling never ends, so that the
group is kept through an outage of hours; what is fetched is bounded by bytes. What may be committed
is the session's, and what a client can do the client's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from ingest.errors import IngestError, InputError
from ingest.messages import Messages
from ingest.ranges import Range
from ingest.seldom import Seldom
from ingest.sources.kafka_client import (
    Client,
    Confused,
    Key,
    Unreachable,
)
from ingest.sources.kafka_messages import Keys
from ingest.sources.kafka_session import Counts, KafkaSession, Line, Ties
from ingest.sources.kafka_settings import KafkaSettings
from ingest.sources.kafka_talk import Heard
from ingest.sources.live import Durable
from ingest.watermarks import Commit

log = logging.getLogger("ingest")

POLL_SECONDS: Final = 0.5
"""How long a poll waits for messages."""

POLL_MESSAGES: Final = 500
"""Messages of one poll: to unpack more holds the loop for longer than 2 ms."""

ANSWER_SECONDS: Final = 5.0
"""How long such an answer may take before the broker counts as away."""

AGAIN_SECONDS: Final = 1.0
"""Before what failed is tried again; doubled up to `MOST_SECONDS`."""
MOST_SECONDS: Final = 30.0

SETTLED_SECONDS: Final = 20.0
"""How long it is tried to read what was settled; without it, some messages are sent again."""


class KafkaSource:
    """A source of sessions: one for each assignment of partitions, one after another.

    `durable` brings dead letters to safety; `line` turns a message into a line (the default: as it
    is); `say` takes sentences for people; `client` makes what `Client` is, of the same arguments.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        durable: Durable,
        *,
        line: Line | None = None,
        say: Callable[[str], None] = log.warning,
        client: Callable[..., Client] = Client,
    ) -> None:
        self._settings = settings
        self._make_client = client
        self._say = say
        self._relay = Seldom(say)
        self.counts = Counts()
        self._ties = Ties(
            line=line or Messages(kind=settings.kind).line,
            commit=self._commit,
            durable=durable,
            room=self._has_room,
            say=say,
            counts=self.counts,
            keys=Keys(),
            commit_seconds=settings.commit_seconds,
            buffer_bytes=settings.buffer_bytes,
            buffer_messages=settings.buffer_messages,
        )
        self._parts: dict[Key, int] = {}
        self._memory: dict[Key, tuple[Commit | None, Sequence[Range]]] = {}
        self._heard = Heard(self._relay)
        self._client: Client | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._session: KafkaSession | None = None
        self._coming: asyncio.Future[KafkaSession] | None = None
        self._offered: KafkaSession | None = None  # the session that nobody took yet
        self._offer = asyncio.Event()
        self._room = asyncio.Event()
        self._paused = False
        self._stopped = False
        self._joined = False
        self._answers = False
        self._failed: Exception | None = None
        self._ends: dict[Key, int] | None = None

    # What people and probes ask

    @property
    def name(self) -> str:
        """The topics."""
        return ", ".join(self._settings.topics)

    @property
    def ready(self) -> bool:
        """Whether the broker answers, and the group knows this member."""
        return self._joined and self._answers and self._failed is None

    @property
    def lag(self) -> int | None:
        """Messages of our partitions that were not handed over, as of a few seconds ago."""
        session = self._session
        if self._ends is None or session is None:
            return None
        behind = (self._ends.get(key, 0) - session.next(key) for key in session.keys)
        return sum(max(0, one) for one in behind) + session.waiting

    @property
    def tombstones(self) -> int:
        """Messages without a value, or with an empty one."""
        return self.counts.tombstones

    # Life

    async def open(self) -> None:
        """Connect, and join the group. Raises `ConfigError`, `InputError`, `MissingExtra`."""
        self._client = await self._connected()
        self._answers = True
        self._heard.__enter__()
        self._tasks = [
            asyncio.create_task(self._kept(work)) for work in (self._read(), self._watch())
        ]

    async def sessions(self) -> AsyncIterator[KafkaSession]:
        """Yield a session for each assignment; ends after `stop`. Raises `InputError`."""
        while not self._stopped:
            if self._failed is not None:
                raise self._failed
            session, self._offered = self._offered, None
            if session is not None:
                session.taken = True
                yield session
                continue
            self._offer.clear()
            await self._offer.wait()

    def stop(self) -> None:
        """Yield no more sessions, and stop the one there is; the group is kept until `aclose`."""
        self._stopped = True
        if self._session is not None:
            self._session.stop()
        self._offer.set()
        self._room.set()

    async def aclose(self) -> None:
        """Leave the group: the others take the partitions over at once."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        if self._client is not None:
            await self._client.aclose()
            self._heard.__exit__()
        self._tasks, self._client = [], None
        self._joined = self._answers = False

    # Polling

    async def _connected(self) -> Client:
        settings = self._settings
        client = self._make_client(
            settings.bootstrap, settings.group, settings.client, self._revoke, self._assign
        )
        await client.open(settings.topics)
        return client

    async def _read(self) -> None:
        """Poll for ever; begin anew with a new client where one cannot go on."""
        while True:
            try:
                await self._poll()
            except Unreachable as why:
                self._relay(f"Kafka at {self._settings.bootstrap} cannot be read ({why}).")
                await asyncio.sleep(AGAIN_SECONDS)
            except Confused as why:
                await self._renew(str(why))

    async def _kept(self, work: Coroutine[Any, Any, None]) -> None:
        """Do some of the work of the source; what ends it by an error ends the source."""
        try:
            await work
        except Exception as error:
            self._fail(error)

    async def _poll(self) -> None:
        assert self._client is not None
        while True:
            client, session = self._client, self._session
            if self._full:
                if not self._paused:
                    client.pause()
                    self._paused = True
                self._room.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(MOST_SECONDS, self._settings.keep_seconds)):
                        await self._room.wait()
                if not self._full:
                    continue
                # Nothing is asked for: a poll is what keeps a member in the group.
                polled = await client.poll(0, POLL_MESSAGES)
            else:
                if self._paused:
                    client.resume()
                    self._paused = False
                polled = await client.poll(POLL_SECONDS, POLL_MESSAGES)
            if polled:
                await self._hand(polled)
                await asyncio.sleep(0)  # a poll that finds messages waits for nothing
            elif session is not None and session is self._session and session.begun.is_set():
                for key in session.keys:
                    position = await client.position(key)
                    if position is not None:
                        session.skip_to(key, position)

    @property
    def _full(self) -> bool:
        """Whether nothing is to be fetched; once it is so, until half of it is gone."""
        session = self._session
        if self._stopped or session is None:
            return self._stopped
        return not session.roomy if self._paused else session.full

    async def _hand(self, polled: Mapping[Key, Sequence[Any]]) -> None:
        """Give messages to the session they came for.

        They are of what is assigned now. Between an assignment and its session others may run, and
        messages may come already: those wait for it.
        """
        session = self._session
        if session is None:
            assert self._coming is not None
            session = await self._coming
        await session.begun.wait()
        for key, messages in polled.items():
            await session.take(key, messages)

    # The group

    async def _revoke(self) -> None:
        """Give the partitions up, once what is in flight has its end; called by the client."""
        session, self._session = self._session, None
        self._coming = asyncio.get_running_loop().create_future()
        self._paused = False
        self._has_room()
        if session is not None:
            await self._let_go(session)

    async def _let_go(self, session: KafkaSession) -> None:
        try:
            await self._awaited(session)
        finally:
            self._memory.update(session.memory)

    async def _awaited(self, session: KafkaSession) -> None:
        session.give_up()
        if not session.taken:  # it has no partitions, or they were taken back too soon
            if self._offered is session:
                self._offered = None
            await session.end()
            return
        patience = self._settings.patience
        try:
            async with asyncio.timeout(patience):
                await session.ended.wait()
        except TimeoutError:
            session.lose()
            self._say(
                f"What is in flight had no end within {patience:.0f} s, and the group does not "
                "wait for longer: it may be sent twice. Raise rebalance_timeout_ms in "
                "[source.client] if that happens often."
            )

    def _assign(self, keys: Sequence[Key]) -> None:
        """Begin a session; called by the client, which must not be kept waiting."""
        for key in keys:
            self._parts.setdefault(key, len(self._parts))
        session = KafkaSession({key: self._parts[key] for key in keys}, self._ties)
        self._session = session
        self._paused = False
        self._joined = True
        if self._coming is not None and not self._coming.done():
            self._coming.set_result(session)
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self._kept(self._begin(session))))

    async def _begin(self, session: KafkaSession) -> None:
        """Read what is settled of its partitions, and offer it."""
        assert self._client is not None
        committed: dict[Key, Commit] = {}
        clock = asyncio.get_running_loop().time
        until = clock() + SETTLED_SECONDS
        while session.keys and not session.over:
            try:
                committed = await self._client.committed(session.keys)
                break
            except Unreachable as why:
                if clock() > until:
                    self._say(f"What was settled before cannot be read ({why}): it is sent again.")
                    break
                await asyncio.sleep(AGAIN_SECONDS)
        if session.over:
            return
        session.begin(committed, self._memory)
        if session.keys:
            self._offered = session
            self._offer.set()

    async def _commit(self, commits: Mapping[Key, Commit]) -> None:
        if self._client is None:
            raise Unreachable("closed")
        await self._client.commit(commits)

    # When things go wrong

    async def _renew(self, why: str) -> None:
        """Give up the session there is, and join the group with a new client."""
        self._joined = False
        self._say(
            f"The client of Kafka at {self._settings.bootstrap} cannot go on ({why}): it is begun "
            "anew."
        )
        await self._revoke()
        wait = AGAIN_SECONDS
        while True:
            if self._client is not None:
                await self._client.aclose()
                self._client = None
            await asyncio.sleep(wait)
            try:
                self._client = await self._connected()
                return
            except InputError as error:
                self._relay(str(error))
                wait = min(2 * wait, MOST_SECONDS)

    async def _watch(self) -> None:
        """Ask for the ends of the logs now and then."""
        while True:
            client, session = self._client, self._session
            if client is not None:
                keys = session.keys if session is not None else []
                ends = await client.ends(keys, ANSWER_SECONDS)
                if ends is not None and session is not None:
                    self._ends = ends
                if self._answers != (ends is not None):
                    self._answers = ends is not None
                    now = "answers again" if self._answers else "does not answer; it is tried on"
                    self._say(f"Kafka at {self._settings.bootstrap} {now}.")
            await asyncio.sleep(self._settings.watch_seconds)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, IngestError):
            log.error("The source of Kafka met what it does not know.", exc_info=error)
        self._failed = error
        if self._session is not None:
            self._session.fail(error)
        self._offer.set()

    def _has_room(self) -> None:
        self._room.set()
