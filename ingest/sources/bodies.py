"""Bodies of requests while they are read: how many bytes of them may be in memory, and inflating.

Decides nothing but by numbers: what does not fit is refused, never waited for, so that nobody holds
a part of the budget while waiting for another. Knows no HTTP server.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Final, Self

from ingest.posts import Unreadable

COPIES: Final = 3
"""How often a body is in memory at the worst: as it was read, in lines, as it is written."""

INFLATED_AT_ONCE: Final = 256_000
"""Bytes that are inflated before others get their turn: a millisecond."""

BUSY: Final = "there is no room for more now, and nothing of the request was kept: send it again"

_GZIP: Final = 16 + zlib.MAX_WBITS


class Budget:
    """Bytes of memory for bodies, all copies together, and requests at work at once."""

    def __init__(self, memory: int, requests: int) -> None:
        self.used = 0
        self.requests = 0
        self._memory = memory
        self._most = requests

    def hold(self) -> Hold:
        """Return what a request takes of it, as a context. Raises `Unreadable` at the bound."""
        if self.requests >= self._most:
            raise Unreadable(503, BUSY)
        return Hold(self)

    def take(self, nbytes: int) -> None:
        """Take bytes. Raises `Unreadable` if there are none."""
        if self.used + nbytes > self._memory:
            raise Unreadable(503, BUSY)
        self.used += nbytes


class Hold:
    """What one request has of a budget: given back at the end, or earlier."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    def take(self, nbytes: int) -> None:
        """Take room for so many bytes of a body. Raises `Unreadable` if there is none."""
        self._budget.take(nbytes * COPIES)
        self._held += nbytes * COPIES

    def release(self) -> None:
        """Give the bytes back: the body is not needed any more."""
        self._budget.used -= self._held
        self._held = 0

    def __enter__(self) -> Self:
        self._budget.requests += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._budget.requests -= 1
        self.release()


async def whole(chunks: AsyncIterator[bytes], hold: Hold, limit: int, *, gzip: bool) -> bytes:
    """Return a body of `limit` bytes at most, inflated if it is `gzip`. Raises `Unreadable`."""
    pieces: list[bytes] = []
    length = 0
    async for piece in _inflated(chunks) if gzip else chunks:
        length += len(piece)
        if length > limit:
            raise too_large(limit)
        hold.take(len(piece))
        pieces.append(piece)
    return b"".join(pieces)


def too_large(limit: int) -> Unreadable:
    """Return what is raised for a body of more than `limit` bytes."""
    return Unreadable(
        413, f"a body may have {limit:,} bytes, inflated: send fewer records at a time"
    )


async def _inflated(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Inflate gzip, in steps that are small whatever is in it. Raises `Unreadable`."""
    inflate = zlib.decompressobj(_GZIP)
    async for chunk in chunks:
        while chunk:
            if inflate.eof:  # another member follows
                inflate = zlib.decompressobj(_GZIP)
            try:
                piece = inflate.decompress(chunk, INFLATED_AT_ONCE)
            except zlib.error:
                raise Unreadable(400, "the body is not gzip") from None
            chunk = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            if piece:
                yield piece
            if chunk:
                await asyncio.sleep(0)
    if not inflate.eof:
        raise Unreadable(400, "the body is not gzip, or was cut off")
