"""Records on their way into a batch: queues, and the lanes behind them.

Columns all the way: what is taken from a queue is cut by slices. Only what waits behind another
record of its user is a record by itself. Decides nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import NamedTuple

import msgspec

from ingest.records import Column, Fragment, Joined, Partition, UserKey, size_of
from ingest.userkeys import Keys


class Generation:
    """Users who came one after another, and how many of their records are here.

    Where `since` is given, they are not known here: it is how many records had come before.
    """

    __slots__ = ("here", "since", "users")

    def __init__(self) -> None:
        self.users: set[UserKey] = set()
        self.since: int | None = None
        self.here = 0


class Rows(msgspec.Struct):
    """Rows of one slot, as columns of one length.

    Where their users are `newcomers`, these are all that is remembered of them.
    """

    fragments: Sequence[Fragment]
    keys: Sequence[UserKey]
    positions: Sequence[int]
    lines: Sequence[int]
    newcomers: Generation | None = None

    def cut(self, start: int, stop: int) -> Rows:
        """Return some of the rows."""
        rows = slice(start, stop)
        fragments = self.fragments
        return Rows(
            fragments.cut(start, stop) if isinstance(fragments, Joined) else fragments[rows],
            self.keys[rows],
            self.positions[rows],
            self.lines[rows],
            self.newcomers,
        )


class Queue:
    """Rows of one slot, in source order, each of another user."""

    def __init__(self) -> None:
        self._rows: deque[Rows] = deque()
        self._cursor = 0
        self.count = 0
        """Rows in it."""

    def __len__(self) -> int:
        return self.count

    def add(self, rows: Rows) -> None:
        """Append rows."""
        self._rows.append(rows)
        self.count += len(rows.positions)

    def first(self, count: int) -> list[Rows]:
        """Return the first rows, in pieces, without taking them."""
        pieces, start = [], self._cursor
        for rows in self._rows:
            if count <= 0:
                break
            piece = rows.cut(start, start + count)
            pieces.append(piece)
            count -= len(piece.positions)
            start = 0
        return pieces

    def meet(self) -> Iterator[UserKey]:
        """Yield the newcomers in it, who are not only remembered as such from now on."""
        start = self._cursor
        for rows in self._rows:
            if rows.newcomers is not None:
                rows.newcomers = None
                yield from islice(rows.keys, start, None)
            start = 0

    def oldest(self) -> int:
        """Return the position of the first row; there must be one."""
        return self._rows[0].positions[self._cursor]

    def positions(self, count: int) -> list[int]:
        """Return the positions of the first rows."""
        found: list[int] = []
        start = self._cursor
        for rows in self._rows:
            if len(found) >= count:
                break
            found += rows.positions[start : start + count - len(found)]
            start = 0
        return found

    def drop(self, count: int) -> None:
        """Forget the first rows."""
        self.count -= count
        count += self._cursor
        while count and count >= len(self._rows[0].positions):
            count -= len(self._rows.popleft().positions)
        self._cursor = count


class Waiting(NamedTuple):
    """A record in a lane; its bytes are its own, not a view of its chunk."""

    fragment: bytes
    slot: int
    position: int
    line: int
    partition: Partition


class Lane(msgspec.Struct):
    """Records of one user, in source order, that wait behind their `holder` or for a place."""

    key: UserKey
    holder: int
    waiting: deque[Waiting]


def bytes_of(pieces: Sequence[Sequence[Rows]]) -> int:
    """Return the bytes of rows, some pieces of them per slot, with a comma for each row."""
    nbytes = 0
    for some in pieces:  # a generator would take twice that, and there is mostly one
        for rows in some:
            nbytes += size_of(rows.fragments)
    return nbytes


def joined(pieces: Sequence[Rows]) -> Column:
    """Return rows as a column of a batch."""
    if len(pieces) == 1:
        [rows] = pieces
        return Column.of(rows.fragments, rows.keys, rows.positions, rows.lines)
    return Column(
        Joined.spliced([rows.fragments for rows in pieces]),
        Keys.spliced([rows.keys for rows in pieces]),
        _in_a_row([rows.positions for rows in pieces]),
        _in_a_row([rows.lines for rows in pieces]),
    )


def _in_a_row(pieces: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return all numbers in their order, as a range where they are one."""
    first = pieces[0]
    if isinstance(first, range):
        following = first.start
        for piece in pieces:
            if not (
                isinstance(piece, range) and (piece.start, piece.step) == (following, first.step)
            ):
                break
            following += len(piece) * first.step
        else:
            return range(first.start, following, first.step)
    return [number for piece in pieces for number in piece]


def fitting(pieces: Sequence[Sequence[Rows]], room: int) -> list[int]:
    """Return how many rows of each slot fit into `room` bytes, the oldest first."""
    rows = sorted(
        (position, slot, len(fragment) + 1)
        for slot, some in enumerate(pieces)
        for part in some
        for position, fragment in zip(part.positions, part.fragments, strict=True)
    )
    ends = list(accumulate(size for _, _, size in rows))
    slots = Counter(slot for _, slot, _ in rows[: bisect_right(ends, room)])
    return [slots[slot] for slot in range(len(pieces))]
