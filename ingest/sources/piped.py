"""A pipe as a source: NDJSON as it comes, which nobody can read again.

Decides when reading ends: with the pipe, or when it is told to stop, at the end of the line that is
open then. What was read by then is handed over; a line whose end does not come is no record. One
session, for there is nobody else to take a pipe away.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from typing import Any, Final

from ingest.errors import InputError
from ingest.sources.base import MAX_LINE_BYTES, NEWLINE, Block, Unfit, split_blocks
from ingest.sources.threaded import threaded

PIECE_BYTES: Final = 64 * 1024
"""Bytes of one read: what a pipe holds."""

STDIN: Final = 0

REST_SECONDS: Final = 1.0
"""How long the end of a line is waited for, in all, after a stop: whoever writes lines through a
buffer writes the rest of one as soon as there is more, and a stop should not take long."""

CUT_OFF: Final = "cut-off"
"""Code of a line whose end did not come."""

_CUT_OFF: Final = (
    f"the worker was stopped in the middle of the line, and its end did not come within "
    f"{REST_SECONDS:g} s: what had come is no whole record; have the line sent again"
)


class PipeSource:
    """A `LiveSource` over a file descriptor; `name` is what people call it."""

    def __init__(self, fd: int = STDIN, name: str = "stdin") -> None:
        self.name = name
        self._fd = fd
        self._session: PipeSession | None = None
        self._opened = False
        self._stopped = False

    @property
    def ready(self) -> bool:
        """Whether it is open."""
        return self._opened and not self._stopped

    @property
    def lag(self) -> int | None:
        """Nobody knows what is in a pipe."""
        return None

    async def open(self) -> None:
        """See that it is there. Raises `InputError`."""
        try:
            os.fstat(self._fd)
        except OSError as error:
            raise InputError(f"{self.name} is closed ({error.strerror}): pipe NDJSON in") from None
        self._session = PipeSession(self._fd, self.name)
        self._opened = True

    async def sessions(self) -> AsyncIterator[PipeSession]:
        """Yield the session; the end of the pipe is that of the source."""
        if self._session is not None and not self._stopped:
            yield self._session

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True
        if self._session is not None:
            self._session.stop()

    async def aclose(self) -> None:
        """Do nothing: the descriptor is that of the process."""


class PipeSession:
    """All that comes through a pipe."""

    def __init__(self, fd: int, name: str) -> None:
        self._pipe = _Pipe(fd, name)
        self._name = name
        self._ended = asyncio.Event()

    async def blocks(self) -> AsyncIterator[Block]:
        """Yield blocks as lines come. Raises `InputError`."""
        async for block in threaded(self._pipe):
            yield block

    def stop(self) -> None:
        """Read no more than the end of the line that is open; what was read is handed over."""
        self._pipe.stop()

    async def revoked(self) -> None:
        """Wait for its end: nobody takes a pipe away."""
        await self._ended.wait()

    def settled(self, part: int, lines: Sequence[int], bad: Collection[int]) -> None:
        """Do nothing: there is nobody to tell."""

    def place(self, part: int, line: int) -> str:
        """Return `stdin:17`."""
        return f"{self._name}:{line}"

    def whence(self, part: int, line: int) -> dict[str, Any]:
        """Return the `source` of a dead letter."""
        return {"name": self._name, "line": line}

    async def end(self) -> None:
        """Read no more."""
        self.stop()
        self._ended.set()


class _Pipe:
    """Blocks of what a descriptor gives, read by a thread, until another one says to stop.

    No record is made of a part of a line: what is there of one that a stop cuts off is unfit.
    """

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name
        self._woken, self._wake = os.pipe()
        self._cut = False  # whether what was read ends in the middle of a line

    @property
    def total_bytes(self) -> int | None:
        return None

    def name(self, part: int) -> str:
        return self._name

    def stop(self) -> None:
        wake, self._wake = self._wake, -1
        if wake >= 0:
            os.close(wake)  # the other end is readable then

    def blocks(self) -> Iterator[Block]:
        for block in split_blocks(self._pieces(), 0):
            # Only the last block has no end, and it is nothing but the line that was open.
            yield _cut_off(block) if self._cut and block.data.strip() else block

    def _pieces(self) -> Iterator[bytes]:
        ready = select.poll()
        ready.register(self._fd, select.POLLIN)
        ready.register(self._woken, select.POLLIN)
        opened = 0  # bytes of the line that has no end yet
        try:
            while all(fd != self._woken for fd, _ in ready.poll()):
                piece = os.read(self._fd, PIECE_BYTES)
                if not piece:
                    return
                end = piece.rfind(NEWLINE)
                opened = len(piece) - end - 1 if end >= 0 else opened + len(piece)
                yield piece
            if opened:
                yield self._rest(opened)
        except OSError as error:
            raise InputError(f"{self._name} cannot be read on: {error.strerror}") from error
        finally:
            os.close(self._woken)

    def _rest(self, opened: int) -> bytes:
        """Read the rest of a line of which `opened` bytes are there, and nothing of what follows.

        It is read byte by byte, since nothing can be put back into a pipe: 1 us each.
        """
        ready = select.poll()
        ready.register(self._fd, select.POLLIN)
        rest, left = bytearray(), REST_SECONDS
        while opened + len(rest) <= MAX_LINE_BYTES:  # then it is too long to be held, in any case
            if not ready.poll(0):
                since = time.monotonic()
                if left <= 0 or not ready.poll(left * 1000):
                    break
                left -= time.monotonic() - since
            byte = os.read(self._fd, 1)
            rest += byte
            if not byte or byte == NEWLINE:  # the end of a pipe is that of its last line too
                return bytes(rest)
        self._cut = True
        return bytes(rest)


def _cut_off(block: Block) -> Block:
    """Return a block of a line without its end as that of a row that makes no record."""
    row = Unfit(block.first_line, CUT_OFF, "", _CUT_OFF, block.data)
    return Block(
        block.part,
        b"",
        block.first_line,
        block.end_offset,
        unfit=(row,),
        next_line=block.first_line + 1,
    )
