"""Messages of partitions on their way to blocks: what waits to be asked for, and with which keys.

Decides how messages are gathered to blocks of lines, one message a line, and when it is time to
say that keys are not users. Knows no broker, and nothing of what is settled.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from ingest.records import KINDS
from ingest.sources.base import BLOCK_BYTES, NEWLINE, Block, Unfit

KIND_HEADER: Final = "kind"
"""Header that says the kind of a bare object; a value that is no kind is somebody else's header."""

MESSAGE_BYTES: Final = 64
"""Memory that a message takes beside its text, in bytes: the object, and its place in lists."""

LOOKED_AT: Final = 20_000
"""Messages whose user is compared with the partition: enough to meet users twice, some 10 ms."""

USERS_KEPT: Final = 8_192
"""Users remembered for that, as hashes."""

_KINDS: Final = {kind.encode(): kind for kind in KINDS}
_USER: Final = re.compile(rb'"external_id"\s*:\s*"([^"\\]{1,256})"')


def kind_of(headers: Sequence[tuple[str, bytes]]) -> str | None:
    """Return the kind that headers say, None if they do not."""
    for name, value in headers:
        if name == KIND_HEADER and value in _KINDS:
            return _KINDS[value]
    return None


class _Pile(msgspec.Struct, gc=False):
    """A block in the making."""

    part: int
    lines: list[bytes]
    offsets: list[int]
    unfit: list[Unfit]
    size: int = 0
    oversize: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.lines) + len(self.unfit) + len(self.oversize)

    def block(self, end_offset: int) -> Block:
        first = self.offsets[0] if self.offsets else 0
        return Block(
            self.part,
            NEWLINE.join(self.lines),
            first,
            end_offset,
            self.oversize,
            line_numbers=self.offsets,
            unfit=tuple(self.unfit),
            resumable=False,
        )


class Shelf:
    """Messages of a session that wait to be asked for, gathered by partition, in order.

    Small blocks grow for as long as nobody asks: a driver that is behind finds full ones.
    """

    def __init__(self) -> None:
        self._queue: deque[_Pile] = deque()
        self._open: dict[int, _Pile] = {}
        self._passed: dict[int, int] = {}  # bytes handed over, of each part
        self.bytes = 0
        self.messages = 0

    def put(self, part: int, offset: int, line: bytes) -> None:
        """Put a message there that became a line."""
        pile = self._pile(part)
        pile.lines.append(line)
        pile.offsets.append(offset)
        self._grown(pile, len(line))

    def put_unfit(self, part: int, row: Unfit) -> None:
        """Put a message there that makes no line."""
        pile = self._pile(part)
        pile.unfit.append(row)
        self._grown(pile, len(row.raw))

    def put_oversize(self, part: int, offset: int, length: int) -> None:
        """Put the mark of a message there that is too long for any request."""
        self._open.pop(part, None)
        pile = self._pile(part)
        pile.oversize = ((offset, length),)
        self._grown(pile, 0)
        del self._open[part]

    def take(self) -> Block | None:
        """Return the block that was begun first; None if nothing waits."""
        if not self._queue:
            return None
        pile = self._queue.popleft()
        if self._open.get(pile.part) is pile:
            del self._open[pile.part]
        self.bytes -= pile.size
        self.messages -= len(pile)
        passed = self._passed.get(pile.part, 0) + pile.size - MESSAGE_BYTES * len(pile)
        self._passed[pile.part] = passed
        return pile.block(passed)

    def clear(self) -> None:
        """Give up what waits."""
        self._queue.clear()
        self._open.clear()
        self.bytes = self.messages = 0

    def _pile(self, part: int) -> _Pile:
        pile = self._open.get(part)
        if pile is None or pile.size >= BLOCK_BYTES:
            pile = self._open[part] = _Pile(part, [], [], [])
            self._queue.append(pile)
        return pile

    def _grown(self, pile: _Pile, size: int) -> None:
        size += MESSAGE_BYTES
        pile.size += size
        self.bytes += size
        self.messages += 1


class Keys:
    """Watches, over the first messages, whether a user's lie in one partition of a topic only."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], int] = {}
        self._left = LOOKED_AT

    @property
    def watching(self) -> bool:
        """Whether more messages are to be looked at."""
        return self._left > 0

    def look(self, topic: str, partition: int, line: bytes, *, keyed: bool) -> str | None:
        """Look at a message; return a sentence, once, if its user was met in another partition."""
        self._left -= 1
        found = _USER.search(line)
        if found is None:
            return None
        user = (topic, hash(found[1]))
        if len(self._seen) < USERS_KEPT:
            before = self._seen.setdefault(user, partition)
        else:
            before = self._seen.get(user, partition)
        if before == partition:
            return None
        self._left = 0
        why = "the key of its messages is not the user" if keyed else "its messages have no key"
        return (
            f"Messages of one user lie in several partitions of {topic} ({before} and "
            f"{partition}): {why}, so that their order cannot be kept. Produce with the user's id "
            "as the key."
        )
