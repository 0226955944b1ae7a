"""What the parts of a session of a queue share: what they need of its source, and what they count.

Decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeVar

import msgspec

from ingest.receipts import Ask
from ingest.sources.live import Durable
from ingest.sources.sqs_client import TEN, Ends, Message, Trouble

LINGER_SECONDS: Final = 0.05
"""Between a settled message and its delete, so that ten go together."""

AT_ONCE: Final = 8
"""Requests of one sort under way together, deletes or extensions: some 2,000 messages a second."""

AGAIN_SECONDS: Final = 0.5
"""Before what failed is tried again; doubled up to `MOST_SECONDS`, and any part of it."""
MOST_SECONDS: Final = 30.0

T = TypeVar("T")

Line = Callable[[bytes, str | None], bytes]
"""From a message, and its kind if an attribute says one, to its line. Raises `Unreadable`."""


class Asked(Protocol):
    """What is asked of a queue; see `sqs_client.Queue`. Each raises `Trouble`."""

    async def receive(self, seconds: int, wait: int) -> list[Message]: ...
    async def delete(self, asks: Sequence[Ask]) -> Ends: ...
    async def keep(self, asks: Sequence[tuple[Ask, int]]) -> Ends: ...


class Counts(msgspec.Struct):
    """What became of messages beside their records.

    `received` are all, `tombstones` hold nothing but space, `emptied` became nothing; `again` came
    again while they were here, and were not read twice; `owed` came again after a delete that was
    too late, and were deleted. `deleted` and `given_back` are what the queue was told. `lost` were
    given to others while they were ours, `let_go` were here for 12 hours, `expired` were deleted
    too late: each of them may be delivered twice.
    """

    received: int = 0
    tombstones: int = 0
    emptied: int = 0
    again: int = 0
    owed: int = 0
    deleted: int = 0
    given_back: int = 0
    lost: int = 0
    let_go: int = 0
    expired: int = 0


class Ties(msgspec.Struct, frozen=True):
    """What a session needs of its source.

    `answered` is told whether the queue answers, and why not; `say` takes a sentence for people,
    `rarely` one of which there may be many.
    """

    queue: Asked
    name: str
    ordered: bool
    give_back: bool
    pollers: int
    visibility: int
    line: Line
    durable: Durable
    answered: Callable[[Trouble | None], None]
    say: Callable[[str], None]
    rarely: Callable[[str], None]
    counts: Counts
    buffer_bytes: int
    buffer_messages: int


def tens(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield items in tens, in order."""
    return (items[at : at + TEN] for at in range(0, len(items), TEN))


async def cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait for them."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
