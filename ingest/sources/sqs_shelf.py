"""Messages of a queue that wait to be asked for, gathered to blocks of lines, one message a line.

Decides what a block holds. Knows no queue, and nothing of what is settled.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ingest.sources.base import BLOCK_BYTES, NEWLINE, Block, Unfit

MESSAGE_BYTES: Final = 64
"""Memory that a message takes beside its text, in bytes: the object, and its place in lists."""


class Shelf:
    """Lines, and messages that make none, in the order of their numbers."""

    def __init__(self) -> None:
        self._queue: deque[tuple[int, bytes] | Unfit] = deque()
        self._passed = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, number: int, line: bytes) -> None:
        """Put a message there that became a line."""
        self._queue.append((number, line))
        self.bytes += len(line) + MESSAGE_BYTES

    def put_unfit(self, row: Unfit) -> None:
        """Put a message there that makes no line."""
        self._queue.append(row)
        self.bytes += len(row.raw) + MESSAGE_BYTES

    def take(self) -> Block | None:
        """Return what waits, up to the size of a block; None if nothing does."""
        if not self._queue:
            return None
        numbers: list[int] = []
        lines: list[bytes] = []
        unfit: list[Unfit] = []
        size = 0
        while self._queue and size < BLOCK_BYTES:
            one = self._queue.popleft()
            if isinstance(one, Unfit):
                unfit.append(one)
                text = one.raw
            else:
                numbers.append(one[0])
                text = one[1]
                lines.append(text)
            size += len(text) + MESSAGE_BYTES
            self._passed += len(text)
        self.bytes -= size
        return Block(
            0,
            NEWLINE.join(lines),
            numbers[0] if numbers else 0,
            self._passed,
            line_numbers=numbers,
            unfit=tuple(unfit),
            resumable=False,
        )

    def clear(self) -> list[int]:
        """Give up what waits, and return the numbers."""
        numbers = [one.line if isinstance(one, Unfit) else one[0] for one in self._queue]
        self._queue.clear()
        self.bytes = 0
        return numbers
