"""Sets of positions as merged ranges: what is settled is mostly everything up to some point.

Holds ten million positions in a few tuples, as long as few gaps are among them; a range that comes
out of order costs two searches and a move of the lists. Knows nothing of records: positions are
integers from 0, and since no part has 2**48 records, one set holds the positions of all parts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, Self

Range = tuple[int, int]
"""The positions from the first number up to, not including, the second."""

Change = tuple[int, int | None]
"""A range by its start, and its stop now; None if no range starts there any more."""

_SEVEN_BITS: Final = 0x7F
_MORE: Final = 0x80


def runs(positions: Iterable[int]) -> list[Range]:
    """Return positions, in any order, as ranges from the lowest to the highest that do not touch.

    Positions that are given twice count once.
    """
    if isinstance(positions, range) and positions.step == 1:
        return [(positions.start, positions.stop)] if positions else []
    ordered = sorted(positions)
    if not ordered:
        return []
    first, last = ordered[0], ordered[-1]
    dense = last - first + 1 == len(ordered)
    if dense and ordered == list(range(first, last + 1)):  # mostly so, and at the speed of C
        return [(first, last + 1)]
    found: list[Range] = []
    start = stop = first
    for position in ordered:
        if position > stop:
            found.append((start, stop))
            start = position
        stop = position + 1
    found.append((start, stop))
    return found


def runs_of(columns: Iterable[Sequence[int]]) -> list[Range]:
    """Return the positions of several columns as `runs` does those of one.

    What came out of a file is ranges, mostly: one, or one of each kind where kinds take turns. No
    position of those is looked at.
    """
    held = list(filter(None, columns))
    if len(held) > 1:
        return _in_turn(held) or runs(chain.from_iterable(held))
    return runs(held[0]) if held else []


def _in_turn(columns: list[Sequence[int]]) -> list[Range]:
    """Return the one range that ranges fill in turn, a step for each; nothing if they do not."""
    turns = len(columns)
    starts: list[int] = []
    stop = count = 0
    for column in columns:
        if not isinstance(column, range) or column.step != turns:
            return []
        starts.append(column.start)
        count += len(column)
        stop = max(stop, column[-1] + 1)
    first = min(starts)
    apart = len({start % turns for start in starts}) == turns
    return [(first, stop)] if apart and stop - first == count else []


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Return ranges in order, those that touch as one. None is empty, and no two overlap."""
    found: list[Range] = []
    begin = end = -1
    for start, stop in sorted(ranges):
        if start == end:
            end = stop
            continue
        if end >= 0:
            found.append((begin, end))
        begin, end = start, stop
    if end >= 0:
        found.append((begin, end))
    return found


def packed(ranges: Iterable[Range]) -> bytes:
    """Return ranges that are in order and apart in a few bytes each, for `Ranges.from_bytes`."""
    out = bytearray()
    before = 0
    for start, stop in ranges:
        for number in (start - before, stop - start):
            while number > _SEVEN_BITS:
                out.append(number & _SEVEN_BITS | _MORE)
                number >>= 7
            out.append(number)
        before = stop
    return bytes(out)


class Ranges:
    """A set of integers as ranges that neither overlap nor touch, in order.

    A `tracked` one remembers which ranges changed, so that a table can be kept in step with it.
    Every `start` and `stop` is a half-open range; one that is empty changes nothing.
    """

    __slots__ = ("_changed", "_count", "_starts", "_stops")

    def __init__(self, ranges: Iterable[Range] = (), *, tracked: bool = False) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._count = 0
        self._changed: set[int] | None = None
        for start, stop in ranges:
            self.add(start, stop)
        if tracked:
            self._changed = set()

    def __len__(self) -> int:
        """Positions in the set."""
        return self._count

    def __contains__(self, position: int) -> bool:
        at = bisect_right(self._starts, position) - 1
        return at >= 0 and position < self._stops[at]

    def __iter__(self) -> Iterator[Range]:
        """Yield the ranges from the lowest to the highest."""
        return zip(self._starts, self._stops, strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ranges):
            return NotImplemented
        return self._starts == other._starts and self._stops == other._stops

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Ranges({list(self)!r})"

    @property
    def pieces(self) -> int:
        """Ranges in the set: what it costs to hold it."""
        return len(self._starts)

    def add(self, start: int, stop: int) -> None:
        """Put a range in."""
        if start >= stop:
            return
        starts, stops = self._starts, self._stops
        first = bisect_left(stops, start)  # of the ranges that it touches or overlaps
        last = bisect_right(starts, stop)
        if first == last:
            starts.insert(first, start)
            stops.insert(first, stop)
            self._count += stop - start
            self._note(start)
            return
        if last - first == 1 and starts[first] <= start:  # mostly so: one range grows
            if stop > stops[first]:
                self._count += stop - stops[first]
                stops[first] = stop
                self._note(starts[first])
            return
        gone = sum(stops[first:last]) - sum(starts[first:last])
        if self._changed is not None:
            self._changed.update(starts[first:last])
        start, stop = min(start, starts[first]), max(stop, stops[last - 1])
        starts[first:last] = (start,)
        stops[first:last] = (stop,)
        self._count += stop - start - gone
        self._note(start)

    def discard(self, start: int, stop: int) -> None:
        """Take a range out, or whatever of it is there."""
        starts, stops = self._starts, self._stops
        first = bisect_right(stops, start)  # of the ranges that it overlaps
        last = bisect_left(starts, stop)
        if first >= last or start >= stop:
            return
        gone = list(zip(starts[first:last], stops[first:last], strict=True))
        left = [(gone[0][0], start)] if gone[0][0] < start else []
        right = [(stop, gone[-1][1])] if stop < gone[-1][1] else []
        kept = left + right
        starts[first:last] = (from_ for from_, _ in kept)
        stops[first:last] = (to for _, to in kept)
        self._count -= sum(b - a for a, b in gone) - sum(b - a for a, b in kept)
        for from_, _ in gone + right:
            self._note(from_)

    def mark(self, start: int = 0) -> int:
        """Return the first position from `start` on that is not in: all before it are."""
        at = bisect_right(self._starts, start) - 1
        return max(start, self._stops[at]) if at >= 0 else start

    def overlap(self, start: int, stop: int) -> Iterator[Range]:
        """Yield what of a range is in the set, as ranges."""
        at = bisect_right(self._stops, start)
        while at < len(self._starts) and self._starts[at] < stop:
            yield max(start, self._starts[at]), min(stop, self._stops[at])
            at += 1

    def difference(self, other: Ranges) -> Ranges:
        """Return what is in this set and not in the other."""
        left = Ranges(self)
        for start, stop in other:
            left.discard(start, stop)
        return left

    def changes(self) -> list[Change]:
        """Return which ranges came, went or grew since the last call, by their starts in order.

        Only a tracked set knows.
        """
        changed, starts, found = self._changed, self._starts, []
        for start in sorted(changed or ()):
            at = bisect_left(starts, start)
            there = at < len(starts) and starts[at] == start
            found.append((start, self._stops[at] if there else None))
        if changed:
            changed.clear()
        return found

    def to_bytes(self) -> bytes:
        """Return the set in a few bytes a range."""
        return packed(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the set that `to_bytes` wrote. Raises `ValueError` if the data is cut short."""
        numbers: list[int] = []
        number = shift = 0
        for byte in data:
            number |= (byte & _SEVEN_BITS) << shift
            shift += 7
            if not byte & _MORE:
                numbers.append(number)
                number = shift = 0
        if shift or len(numbers) % 2:
            raise ValueError("ranges end in the middle of a number or a range")
        made = cls()
        at = 0
        for gap, size in zip(numbers[::2], numbers[1::2], strict=True):
            made.add(at + gap, at + gap + size)
            at += gap + size
        return made

    def _note(self, start: int) -> None:
        if self._changed is not None:
            self._changed.add(start)
