"""The values that flow: chunks of records in columns, and the batches made of them.

A record is never an object on the hot path. It is one row of a `Chunk`: an encoded JSON object
(its fragment), the slot it goes into, the key of its user, its position and its line. `Batch` holds
the same columns per slot, with the fragments already joined as the request body needs them.

This module decides nothing and knows no destination.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Any, Final, NamedTuple, overload

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


BOUNDS: Final = "Q"
"""The type of bounds in an array: unsigned, 64 bits."""


class Joined(Sequence[bytes]):
    """Encoded objects one after the other in one buffer, with a comma between: a column of them.

    Object i begins at `bounds[i] + i * shift`, counted from the first one's bound, and ends a byte
    before the next one begins. So what is cut out of lines that are alike needs no table of its
    own: `bounds` are those of the lines, and `shift` is what an object and its comma are longer
    than a line. A slice is cut without a look at any of its objects.
    """

    __slots__ = ("bounds", "data", "shift")

    def __init__(self, data: bytes, bounds: array[int], shift: int = 1) -> None:
        self.data = data
        self.bounds = bounds
        self.shift = shift

    @classmethod
    def of(cls, fragments: Sequence[Fragment]) -> Joined:
        """Join objects with commas; what is joined already is returned as it is."""
        if isinstance(fragments, Joined):
            return fragments
        return cls(b",".join(fragments), bounds_of(fragments))

    @classmethod
    def spliced(cls, pieces: Sequence[Sequence[Fragment]]) -> Joined:
        """Return the objects of all pieces, in their order, as one."""
        if len(pieces) == 1:
            return cls.of(pieces[0])
        joined = [cls.of(piece) for piece in pieces]
        shift = joined[0].shift
        if any(piece.shift != shift or len(piece.bounds) < 2 for piece in joined):
            return cls.of([fragment for piece in joined for fragment in piece])
        bounds = array(BOUNDS, joined[0].bounds)
        for piece in joined[1:]:
            by = bounds[-1] - piece.bounds[0]
            bounds.extend([bound + by for bound in piece.bounds[1:]])
        return cls(b",".join([piece.data for piece in joined]), bounds, shift)

    @property
    def nbytes(self) -> int:
        """Bytes of all objects, with a comma for each."""
        return len(self.data) + 1 if len(self.bounds) > 1 else 0

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> Joined: ...
    def __getitem__(self, at: int | slice) -> bytes | Joined:
        count = len(self.bounds) - 1
        if isinstance(at, slice):
            start, stop, step = at.indices(count)
            if step != 1:
                return Joined.of([self[row] for row in range(start, stop, step)])
            return self.cut(start, stop)
        start = at + count if at < 0 else at
        if not 0 <= start < count:
            raise IndexError("no such object")
        return self.cut(start, start + 1).data

    def cut(self, start: int, stop: int) -> Joined:
        """Return those from the first index up to the other; an index beyond the last is one."""
        bounds, shift = self.bounds, self.shift
        count = len(bounds) - 1
        if stop > count:
            stop = count
        if start == 0 and stop == count:
            return self
        if stop <= start:
            return NOTHING
        base = bounds[0]
        begin = bounds[start] - base + start * shift
        end = bounds[stop] - base + stop * shift - 1
        return Joined(self.data[begin:end], bounds[start : stop + 1], shift)

    def __iter__(self) -> Iterator[bytes]:
        data, shift, begin, base = self.data, self.shift, 0, self.bounds[0]
        moved = 0
        for bound in islice(self.bounds, 1, None):
            moved += shift
            end = bound - base + moved
            yield data[begin : end - 1]
            begin = end

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Joined):
            return NotImplemented
        return self.data == other.data and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it is as long as a file

    def __reduce__(self) -> str | tuple[Any, ...]:
        # By its name where it is empty: what is handed over is mostly told beside it.
        return "NOTHING" if self is NOTHING else (Joined, (self.data, self.bounds, self.shift))

    def __repr__(self) -> str:
        return f"Joined.of({list(self)!r})"


def size_of(fragments: Sequence[Fragment]) -> int:
    """Return the bytes of some objects, with a comma for each."""
    if isinstance(fragments, Joined):
        return fragments.nbytes
    return sum(map(len, fragments)) + len(fragments)


def bounds_of(texts: Iterable[bytes | msgspec.Raw]) -> array[int]:
    """Return 0, and where each text ends if nothing is between them."""
    return array(BOUNDS, accumulate(map(len, texts), initial=0))


NOTHING: Final = Joined(b"", bounds_of(()))


class News(NamedTuple):
    """The word of who reads the records that those of a block are of users who are new.

    Each is of another one, and none of the `span` records before it is of any of them; `serial`
    records came before it. Both count those that were proven alone (`ingest.proofs`).
    """

    serial: int
    span: int


class Chunk(msgspec.Struct, gc=False):
    """Valid records of one part and partition in source order, as parallel columns of one length.

    `nbytes` is the memory the chunk keeps alive, for the byte budget. With `news`, its users are
    told to be new.
    """

    fragments: Sequence[Fragment]
    slots: bytes
    keys: Sequence[UserKey]
    positions: Sequence[int]
    lines: Sequence[int]
    nbytes: int
    partition: Partition = WHOLE
    news: News | None = None

    def __len__(self) -> int:
        return len(self.slots)


class Column(msgspec.Struct, frozen=True, gc=False):
    """The records of one slot of a batch: fragments joined by commas, and who they are."""

    joined: Joined
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
        return cls(Joined.of(fragments), keys, positions, lines)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def data(self) -> bytes:
        """All fragments with one comma between."""
        return self.joined.data

    def fragments(self) -> list[bytes]:
        """Slice the fragments back out, in order."""
        return list(self.joined)

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


EMPTY_COLUMN: Final = Column(NOTHING, (), (), ())


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
    records: int = 0
    nbytes: int = 0
    """Bytes of all fragments and shared members with their commas, without the wrapping."""

    def __post_init__(self) -> None:
        shared = len(self.partition.members)
        records, nbytes = 0, shared + bool(shared)
        for column in self.columns:
            if column is not EMPTY_COLUMN:
                records += len(column.positions)
                nbytes += len(column.joined.data)
        # Asked for all the time, and never changed.
        msgspec.structs.force_setattr(self, "records", records)
        msgspec.structs.force_setattr(self, "nbytes", nbytes)

    def __len__(self) -> int:
        return self.records

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
