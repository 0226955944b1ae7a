"""A queue of SQS: one session, for as long as the worker runs.

Decides what is said of a queue when it is opened and while it is away, and what becomes of bad
messages where the queue has no policy of its own. What is polled, held on to and deleted is the
session's, and what a client can do the client's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, Literal

import msgspec

from ingest.errors import ConfigError
from ingest.messages import Messages
from ingest.seldom import Seldom
from ingest.sources.live import Durable
from ingest.sources.sqs_client import Queue, Trouble, where
from ingest.sources.sqs_session import SqsSession
from ingest.sources.sqs_ties import AT_ONCE, Counts, Line, Ties
from ingest.visibility import MOST

log = logging.getLogger("ingest")

WATCH_SECONDS: Final = 15.0
"""Between two questions for how many messages wait; each is a request that is paid for."""

_WAITING: Final = "ApproximateNumberOfMessages"

TABLE: Final = "[source]"


class SqsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is read, and how. `kind` is that of bare objects; `visibility` is in whole seconds.

    `bad` says what becomes of messages of which nothing is delivered: "redrive" gives them back, so
    that the queue's own policy moves them, "dead-letters" deletes them. Their dead letters are
    written either way. At most `buffer_bytes` and `buffer_messages` wait for the driver.
    """

    queue_url: str
    region: str | None = None
    endpoint_url: str | None = None
    pollers: int = 4
    visibility: int = 60
    kind: str | None = None
    bad: Literal["redrive", "dead-letters"] = "redrive"
    buffer_bytes: int = 8_000_000
    buffer_messages: int = 1_000
    watch_seconds: float = WATCH_SECONDS


class SqsSource:
    """A source of one session.

    `durable` brings dead letters to safety; `line` turns a message into a line (the default: as it
    is); `say` takes sentences for people. Raises `ConfigError`.
    """

    def __init__(
        self,
        settings: SqsSettings,
        durable: Durable,
        *,
        line: Line | None = None,
        say: Callable[[str], None] = log.warning,
    ) -> None:
        if not 1 <= settings.visibility <= MOST:
            raise ConfigError(f"'visibility' in {TABLE} must be from 1s to 12h.")
        self._settings: Final = settings
        self._at: Final = where(
            settings.queue_url, settings.region, settings.endpoint_url, table=TABLE
        )
        self._durable: Final = durable
        self._line: Final = line or Messages(kind=settings.kind).line
        self._say: Final = say
        self._away: Final = Seldom(say)
        self._rarely: Final = Seldom(say)
        self.counts: Final = Counts()
        self._queue: Queue | None = None
        self._session: SqsSession | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._give_back = settings.bad == "redrive"
        self._answers = False
        self._stopped = asyncio.Event()
        self._waits: int | None = None

    @property
    def name(self) -> str:
        """The name of the queue."""
        return self._at.name

    @property
    def ready(self) -> bool:
        """Whether the queue answers."""
        return self._answers

    @property
    def lag(self) -> int | None:
        """Messages that wait, about, as of a few seconds ago; with those that wait here."""
        if self._waits is None:
            return None
        return self._waits + (0 if self._session is None else self._session.waiting)

    @property
    def tombstones(self) -> int:
        """Messages that hold nothing."""
        return self.counts.tombstones

    async def open(self) -> None:
        """Connect. Raises `ConfigError`, `InputError`, `MissingExtra`."""
        queue = Queue(self._at, self._settings.pollers + 2 * AT_ONCE + 1, table=TABLE)
        attributes = await queue.open()
        self._queue = queue
        self._answers = True
        self._seen(attributes)
        self._told(attributes)
        self._watcher = asyncio.create_task(self._watch(queue))

    async def sessions(self) -> AsyncIterator[SqsSession]:
        """Yield the session; end after `stop`."""
        assert self._queue is not None, "open() comes first"
        if self._stopped.is_set() or self._session is not None:
            return
        settings = self._settings
        self._session = SqsSession(
            Ties(
                queue=self._queue,
                name=self._at.name,
                ordered=self._at.ordered,
                give_back=self._give_back,
                pollers=settings.pollers,
                visibility=settings.visibility,
                line=self._line,
                durable=self._durable,
                answered=self._answered,
                say=self._say,
                rarely=self._rarely,
                counts=self.counts,
                buffer_bytes=settings.buffer_bytes,
                buffer_messages=settings.buffer_messages,
            )
        )
        self._session.begin()
        yield self._session
        await self._stopped.wait()

    def stop(self) -> None:
        """Yield no more sessions, and stop the one there is."""
        self._stopped.set()
        if self._session is not None:
            self._session.stop()

    async def aclose(self) -> None:
        """Close the connections."""
        self._answers = False
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
            self._watcher = None
        if self._queue is not None:
            await self._queue.aclose()
            self._queue = None

    # Inside

    def _told(self, attributes: Mapping[str, str]) -> None:
        """Say what there is to know of the queue, once."""
        if self._give_back and self._at.ordered:
            self._give_back = False
            self._say(
                f"Messages of {self.name} that nothing can be delivered of are deleted, once their "
                "dead letters are safe: given back to a FIFO queue, they would come after those "
                'that follow them. bad = "dead-letters" in [source] says the same.'
            )
        elif self._give_back and not attributes.get("RedrivePolicy"):
            self._give_back = False
            self._say(
                f"The queue {self.name} has no redrive policy: messages that nothing can be "
                "delivered of are deleted, once their dead letters are safe. Give the queue a "
                'dead-letter queue, or say bad = "dead-letters" in [source].'
            )
        if self._at.in_the_clear:
            self._say(
                f"The queue {self.name} is reached by plain http: whoever is on the way can read "
                "its messages. Use https, but for a queue of tests."
            )

    def _seen(self, attributes: Mapping[str, str]) -> None:
        waits = attributes.get(_WAITING, "")
        self._waits = int(waits) if waits.isdecimal() else None

    def _answered(self, why: Trouble | None) -> None:
        if why is not None:
            self._answers = False
            self._away(f"{why}. It is tried on.")
        elif not self._answers:
            self._answers = True
            self._say(f"The queue {self.name} answers again.")

    async def _watch(self, queue: Queue) -> None:
        """Ask for how many messages wait, now and then; nothing else asks while nobody polls."""
        while True:
            await asyncio.sleep(self._settings.watch_seconds)
            try:
                self._seen(await queue.attributes(_WAITING))
            except Trouble as why:
                self._answered(why)
            else:
                self._answered(None)
