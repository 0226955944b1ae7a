"""The values that flow: chunks of records in columns, and the batches made of them.

A record is never an object on the hot path. It is one row of a `Chunk`: an encoded JSON object
(its fragment), the slot it goes into, the key of its user, its position and its line. `Batch` holds
the same columns per slot, with the fragments already joined as the request body needs them.

This module decides nothing and knows no destination.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec

KINDS: Final = ("attributes", "event", "purchase")
"""Names of the kinds; a record's slot in `users/track` is the index of its kind."""

ATTRIBUTES, EVENT, PURCHASE = range(3)

KIND_UNKNOWN: Final = "unknown"
"""Kind of a line that could not be read far enough to tell."""

Fragment = bytes | msgspec.Raw
"""One encoded JSON object; a `Raw` is a view that keeps its whole chunk's buffer alive."""

UserKey = str | tuple[str, ...]
"""A resolved identity by decoded values: an external id as it is, any other as ("alias", ...)."""

PART_SHIFT: Final = 48
"""A position is `part << PART_SHIFT | ordinal`: 65,000 parts of 2**48 records each."""


class Partition(NamedTuple):
    """What records must have in common to share a request; equal partitions may share one.

    `apart` keeps records apart whose arrays exclude each other. `members` are members of the body
    that all of them share, encoded, without braces: `"subscription_state":"opted_in"`.
    """

    apart: str = ""
    members: bytes = b""


WHOLE: Final = Partition()
"""The partition of records that may share a request with any others."""


def position(part: int, ordinal: int) -> int:
    """Pack (part, ordinal) into one integer that sorts like the pair."""
    return part << PART_SHIFT | ordinal


def part_of(at: int) -> int:
    """Return the part of a position."""
    return at >> PART_SHIFT


def ordinal_of(at: int) -> int:
    """Return the ordinal of a position."""
    return at & ((1 << PART_SHIFT) - 1)


class Chunk(msgspec.Struct, gc=False):
    """Valid records of one part and partition in source order, as parallel columns of one length.

    `nbytes` is the memory the chunk keeps alive, for the byte budget.
    """

    fragments: Sequence[Fragment]
    slots: bytes
    keys: Sequence[UserKey]
    positions: Sequence[int]
    lines: Sequence[int]
    nbytes: int
    partition: Partition = WHOLE

    def __len__(self) -> int:
        return len(self.slots)


class Column(msgspec.Struct, frozen=True, gc=False):
    """The records of one slot of a batch: fragments joined by commas, and who they are.

    `sizes[i]` is the length of fragment i in bytes; `data` is all of them with one comma between.
    """

    data: bytes
    sizes: Sequence[int]
    keys: Sequence[UserKey]
    positions: Sequence[int]
    lines: Sequence[int]

    @classmethod
    def of(
        cls,
        fragments: Sequence[Fragment],
        keys: Sequence[UserKey],
        positions: Sequence[int],
        lines: Sequence[int],
    ) -> Column:
        """Join fragments into a column."""
        return cls(b",".join(fragments), list(map(len, fragments)), keys, positions, lines)

    def __len__(self) -> int:
        return len(self.sizes)

    def fragments(self) -> list[bytes]:
        """Slice the fragments back out, in order."""
        ends = accumulate(size + 1 for size in self.sizes)
        return [
            self.data[end - size - 1 : end - 1] for size, end in zip(self.sizes, ends, strict=True)
        ]

    def take(self, indices: Iterable[int]) -> Column:
        """Return the column of the given rows, in the order given."""
        rows = list(indices)
        fragments = self.fragments()
        return Column.of(
            [fragments[i] for i in rows],
            [self.keys[i] for i in rows],
            [self.positions[i] for i in rows],
            [self.lines[i] for i in rows],
        )


EMPTY_COLUMN: Final = Column(b"", (), (), (), ())


class Batch(msgspec.Struct, frozen=True, gc=False):
    """The records of one request, a column per slot of its endpoint.

    `generation` is that of the caps it was packed under; `family` is shared by the pieces that a
    batch was split into (a fresh batch is a family of its own, named by its `id`).
    """

    id: int
    family: int
    columns: tuple[Column, ...]
    generation: int = 0
    partition: Partition = WHOLE

    def __len__(self) -> int:
        count = 0
        for (
            column
        ) in self.columns:  # asked for all the time: a sum of a list takes three times that
            count += len(column.sizes)
        return count

    @property
    def nbytes(self) -> int:
        """Bytes of all fragments and shared members with their commas, without the wrapping."""
        shared = len(self.partition.members)
        count = shared + bool(shared)
        for column in self.columns:
            count += len(column.data)
        return count

    def users(self) -> set[UserKey]:
        """Return the keys of all users that have a record in it."""
        return set().union(*(column.keys for column in self.columns))

    def rows(self) -> Iterable[tuple[int, int]]:
        """Yield (slot, index) of every record, slot by slot."""
        for slot, column in enumerate(self.columns):
            for index in range(len(column)):
                yield slot, index

    def take(self, rows: Iterable[tuple[int, int]], *, id: int) -> Batch:
        """Return a piece of this batch that holds the given (slot, index) rows, in this order."""
        by_slot: list[list[int]] = [[] for _ in self.columns]
        for slot, index in rows:
            by_slot[slot].append(index)
        columns = tuple(
            column.take(picked) if picked else EMPTY_COLUMN
            for column, picked in zip(self.columns, by_slot, strict=True)
        )
        return Batch(id, self.family, columns, self.generation, self.partition)
