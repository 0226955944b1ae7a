"""Rows on their way into a batch: the queue of a slot, and the batch being filled.

Columns all the way: what is taken is cut by slices. Decides nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from ingest.records import EMPTY_COLUMN, Column, Fragment, UserKey


class Rows(msgspec.Struct):
    """Rows of one slot, as columns of one length."""

    fragments: Sequence[Fragment]
    keys: Sequence[UserKey]
    positions: Sequence[int]
    lines: Sequence[int]

    def cut(self, start: int, stop: int) -> Rows:
        """Return some of the rows."""
        rows = slice(start, stop)
        return Rows(self.fragments[rows], self.keys[rows], self.positions[rows], self.lines[rows])


class Queue:
    """Rows of one slot, in source order, each of another user."""

    def __init__(self) -> None:
        self._rows: deque[Rows] = deque()
        self._cursor = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Rows) -> None:
        """Append rows."""
        self._rows.append(rows)
        self._count += len(rows.keys)

    def first(self, count: int) -> list[Rows]:
        """Return the first rows, in pieces, without taking them."""
        pieces, start = [], self._cursor
        for rows in self._rows:
            if count <= 0:
                break
            piece = rows.cut(start, start + count)
            pieces.append(piece)
            count -= len(piece.keys)
            start = 0
        return pieces

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
        self._count -= count
        count += self._cursor
        while count and count >= len(self._rows[0].keys):
            count -= len(self._rows.popleft().keys)
        self._cursor = count


class Open:
    """The batch being filled."""

    def __init__(self, slots: int) -> None:
        self.fragments: list[list[Fragment]] = [[] for _ in range(slots)]
        self.keys: list[list[UserKey]] = [[] for _ in range(slots)]
        self.positions: list[list[int]] = [[] for _ in range(slots)]
        self.lines: list[list[int]] = [[] for _ in range(slots)]
        self.total = 0
        self.nbytes = 0
        self.per_user: dict[UserKey, int] = {}
        self.per_user_cap: int | None = None  # `per_user` is counted only under a cap

    def columns(self) -> tuple[Column, ...]:
        """Join what was gathered."""
        return tuple(
            Column.of(*rows) if rows[0] else EMPTY_COLUMN
            for rows in zip(self.fragments, self.keys, self.positions, self.lines, strict=True)
        )

    def put(self, slot: int, rows: Rows) -> None:
        """Append rows of one slot; their bytes and their number are counted by the caller."""
        self.fragments[slot] += rows.fragments
        self.keys[slot] += rows.keys
        self.positions[slot] += rows.positions
        self.lines[slot] += rows.lines
