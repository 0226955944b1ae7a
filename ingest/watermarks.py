"""How far a partition may be committed: messages come in order, and are settled in any.

Decides the offset that may be told to the broker (one past the last contiguous settled message),
and which settled messages above it are told too, in the metadata of the commit, so that whoever
reads the partition next skips them. Knows no broker, no time, and not what a message holds.

Offsets have gaps: compaction and transactions leave out numbers. What is passed over without a
message needs no settling, and counts as settled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import ge
from typing import Final

import msgspec

from ingest.ranges import Range, Ranges, runs

METADATA_BYTES: Final = 4096
"""Most bytes of metadata that a broker takes with an offset: its `offset.metadata.max.bytes`,
where nobody changed it. That is some 800 ranges."""

_END: Final = 2**63
"""Above every offset: Kafka counts in signed 64 bits."""

_PREFIX: Final = "ingest:1:"
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE: Final = len(_DIGITS)
_NUMBER: Final = "[0-9a-z]{1,13}"  # 2**63 has 13 digits in that base
_ENTRY: Final = rf"{_NUMBER}(?:\.{_NUMBER})?"
_TEXT: Final = re.compile(rf"{_PREFIX}({_NUMBER}):({_ENTRY}(?:,{_ENTRY})*)")


class Commit(msgspec.Struct, frozen=True):
    """What a broker is told of a partition: all before `offset` is settled; `metadata` is text."""

    offset: int
    metadata: str = ""


def encoded(offset: int, done: Iterable[Range], limit: int = METADATA_BYTES) -> str:
    """Return done ranges above an offset as text of at most `limit` characters, all ASCII.

    The ranges are in order and apart. Those farthest off are left out where not all fit; without
    any the text is empty. The offset is named in it: a program that copies metadata to another
    offset (a mirror) must not make us skip what was never read.
    """
    text = f"{_PREFIX}{_written(offset)}:"
    size, entries, before = len(text), list[str](), offset
    for start, stop in done:
        entry = _written(start - before)
        if stop - start > 1:
            entry += f".{_written(stop - start)}"
        size += len(entry) + bool(entries)
        if size > limit:
            break
        entries.append(entry)
        before = stop
    return text + ",".join(entries) if entries else ""


def restored(offset: int, metadata: str | None) -> list[Range]:
    """Return the done ranges that were committed with an offset, in order and apart.

    Metadata that is none of ours, damaged, or of another offset, holds none.
    """
    match = _TEXT.fullmatch(metadata or "")
    if match is None or int(match[1], _BASE) != offset:
        return []
    found: list[Range] = []
    at = offset
    for entry in match[2].split(","):
        gap, _, size = entry.partition(".")
        start = at + int(gap, _BASE)
        stop = start + int(size or "1", _BASE)
        if not at < start < stop <= _END:
            return []
        found.append((start, stop))
        at = stop
    return found


class Watermark:
    """One partition, from the offset where reading begins; `done` was settled before, above it.

    `metadata_bytes` bounds the text of a commit.
    """

    __slots__ = ("_done", "_gaps", "_known", "_limit", "_next", "_start", "_taken")

    def __init__(
        self, start: int, done: Iterable[Range] = (), *, metadata_bytes: int = METADATA_BYTES
    ) -> None:
        self._start = start
        self._next = start
        self._done = Ranges(done)
        self._gaps = Ranges()  # those above the offset of the last commit
        self._known = max((stop for _, stop in self._done), default=start)
        self._limit = metadata_bytes
        self._taken = False

    @property
    def next(self) -> int:
        """The lowest offset that a message to come may have."""
        return self._next

    @property
    def fresh(self) -> bool:
        """Whether nothing came yet."""
        return not self._taken

    @property
    def done(self) -> list[Range]:
        """What is settled, and the gaps between, from where reading began."""
        return list(self._done)

    def take(self, offsets: Sequence[int]) -> Sequence[int]:
        """Note messages that came, and return those of them that are not settled already.

        Raises `ValueError` unless they rise, from `next` on.
        """
        if not offsets:
            return offsets
        if offsets[0] < self._next or any(map(ge, offsets, islice(offsets, 1, None))):
            raise ValueError("offsets of a partition have to rise")
        unsettled = offsets
        if offsets[0] < self._known:
            unsettled = [offset for offset in offsets if offset not in self._done]
        for start, stop in runs(offsets):
            self.skip_to(start)
            self._next = stop
        self._taken = True
        return unsettled

    def skip_to(self, offset: int) -> None:
        """Note that no message lies between those that came and this offset."""
        self._done.add(self._next, offset)
        self._gaps.add(self._next, offset)
        self._next = max(self._next, offset)

    def settle(self, offsets: Iterable[int]) -> None:
        """Note messages that are settled. Raises `ValueError` for one that never came."""
        spans = runs(offsets)
        if spans and not self._start <= spans[0][0] <= spans[-1][1] <= self._next:
            raise ValueError("a message was settled that never came")
        for start, stop in spans:
            self._done.add(start, stop)

    def commit(self) -> Commit:
        """Return what may be told to the broker now."""
        offset = self._done.mark(self._start)
        self._gaps.discard(self._start, offset)
        # A gap alone is not worth its bytes: nothing in it could be read again.
        above = (
            (start, stop)
            for start, stop in self._done.overlap(offset, _END)
            if next(self._gaps.overlap(start, stop), None) != (start, stop)
        )
        return Commit(offset, encoded(offset, above, self._limit))


def _written(number: int) -> str:
    """Return a number in digits and letters: a third shorter than in digits."""
    digits = ""
    while number >= _BASE:
        number, digit = divmod(number, _BASE)
        digits = _DIGITS[digit] + digits
    return _DIGITS[number] + digits
