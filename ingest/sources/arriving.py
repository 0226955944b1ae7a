"""Blocks that another process reads, taken out of its pipe by the loop itself.

Decides how the loop waits for them. A thread that reads the pipe takes a turn at the interpreter
after each piece: that costs it and the loop more than the piece. Nothing is read ahead, for the
pipe holds some blocks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Final

from ingest.sources.apart import Apart
from ingest.sources.base import Block
from ingest.sources.threaded import threaded

WAITS_FOR_PIPES: Final = os.name != "nt"
"""Whether a loop can wait for a pipe; on Windows none can."""


async def arriving(reading: Apart) -> AsyncGenerator[Block, None]:
    """Yield the blocks of a source that is read apart, once. Raises what `Apart.blocks` does."""
    if not WAITS_FOR_PIPES:
        async for block in threaded(reading):
            yield block
        return
    for there in reading.coming():
        if there is not None:
            yield there
        else:
            await _readable(reading.fileno())


async def _readable(fd: int) -> None:
    """Wait until there is something to be read, or the end."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
