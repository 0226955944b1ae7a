"""A blocking source driven from a thread of its own, a few blocks ahead.

Decides only how far ahead the thread may read. The thread is a daemon, and not one of an executor:
a read of a terminal that never ends must not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Final, Protocol

from ingest.sources.base import Block

AHEAD: Final = 4
"""Blocks read and not yet asked for: enough that the loop never waits for a disk that keeps up."""

AT_ONCE: Final = 2
"""Blocks that are taken before the thread hears of it, where it reads that far ahead: to wake a
thread costs as much as a request."""


class Reading(Protocol):
    """What can be driven: nothing but its blocks is asked for."""

    def blocks(self) -> Iterator[Block]: ...


async def threaded(source: Reading, *, ahead: int = AHEAD) -> AsyncIterator[Block]:
    """Yield the blocks of a source without blocking the loop. Raises what the source raises."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Block | BaseException | None] = asyncio.Queue()
    room = threading.Semaphore(ahead)
    stopped = threading.Event()

    def hand_over(item: Block | BaseException | None) -> None:
        try:
            loop.call_soon_threadsafe(arrived.put_nowait, item)
        except RuntimeError:
            stopped.set()  # the loop is gone, and nobody asks any more
            room.release()

    def read() -> None:
        try:
            for block in source.blocks():
                room.acquire()
                if stopped.is_set():
                    return
                hand_over(block)
            hand_over(None)
        except BaseException as error:  # a thread has nobody else to tell
            hand_over(error)

    threading.Thread(target=read, name="ingest-source", daemon=True).start()
    at_once, taken = (AT_ONCE if ahead >= AHEAD else 1), 0
    try:
        while (item := await arrived.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            taken += 1
            if taken == at_once:
                room.release(taken)
                taken = 0
            yield item
    finally:
        stopped.set()
        room.release()
