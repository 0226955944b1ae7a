"""Sources that go on for as long as somebody sends: a queue, a topic, a port, a pipe.

Decides nothing: it is the seam between a worker and what it reads. A source hands over blocks of
messages, one a line, and is told which messages have their end; what that means for offsets,
deletes and files, it alone knows.

The number of a line is the source's own number of a message (a Kafka offset, a count of SQS
messages): unique in its part, and rising in the order in which messages came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol

from ingest.sources.base import Block

Durable = Callable[[], Awaitable[None]]
"""Returns once every dead letter that was written is where a crash does not reach it."""


class Session(Protocol):
    """Messages that this process alone has for now: of the partitions it is assigned, for one.

    What was handed over and has no end when the session does belongs to whoever comes next.
    """

    def blocks(self) -> AsyncIterator[Block]:
        """Yield blocks as messages come, until `stop`; it is not asked while there is no room.

        What keeps a source alive (heartbeats, extended visibility) goes on while it is not asked.
        Raises `InputError` for what cannot be read on.
        """
        ...

    def stop(self) -> None:
        """Hand over no more; `blocks` ends."""
        ...

    async def revoked(self) -> None:
        """Return when the session is to be given up: its messages are about to be another's."""
        ...

    def settled(self, part: int, lines: Sequence[int], bad: Collection[int]) -> None:
        """Note messages all of whose records have their end, with their dead letters written.

        In any order, each once; messages without a record too. `bad` are those of them of which
        nothing was delivered, and something refused. Returns at once: the broker is told later, in
        groups, and after `Durable`.
        """
        ...

    def place(self, part: int, line: int) -> str:
        """Return what people call a message: `user-events[3]@1207`."""
        ...

    def whence(self, part: int, line: int) -> dict[str, Any]:
        """Return the `source` of a dead letter: its name, and partition + offset, or message id."""
        ...

    async def end(self) -> None:
        """Tell the broker what is settled, and give the rest back. Raises nothing for a dead one.

        Called once, when nothing of the session is in flight any more.
        """
        ...


class LiveSource(Protocol):
    """A source of sessions, one after another."""

    @property
    def name(self) -> str:
        """What people call it: the topic, the queue, the address; never with a credential."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it is connected, or has room: what `/readyz` says."""
        ...

    @property
    def lag(self) -> int | None:
        """Messages that wait at the broker, None where nobody can tell."""
        ...

    async def open(self) -> None:
        """Connect. Raises `ConfigError` or `InputError` with a sentence, `MissingExtra`."""
        ...

    def sessions(self) -> AsyncIterator[Session]:
        """Yield a session whenever there is one to work on; ends after `stop`."""
        ...

    def stop(self) -> None:
        """Yield no more sessions, and stop the one there is."""
        ...

    async def aclose(self) -> None:
        """Close what is open, once the last session has ended."""
        ...
