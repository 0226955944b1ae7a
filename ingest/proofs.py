"""What is known of lines before the rules look at them: proofs, and what is vouched for.

The values that who proves (`ingest.proving`), or makes records of rows, hands to who judges. They
decide nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import msgspec

from ingest.records import KINDS, Fragment, Joined, News, UserKey, size_of

DOUBTFUL: Final = 255
"""Stands for the slot of a line of which nothing is proven."""

SURELY_SHALLOW: Final = 2_000
"""Bytes of an object in which no decoder meets its limit of 1,024 levels: a level takes two."""


class Alike(msgspec.Struct):
    """Proven lines of one slot: which of the lines they are, counting up, with fragment and key."""

    slot: int
    rows: Sequence[int]
    fragments: Joined
    keys: Sequence[UserKey]

    def __len__(self) -> int:
        return len(self.rows)

    def cut(self, start: int, stop: int) -> Alike:
        """Return those between two of the lines, as lines counted from the first of these."""
        some = slice(bisect_left(self.rows, start), bisect_left(self.rows, stop))
        return Alike(
            self.slot, moved(self.rows[some], -start), self.fragments[some], self.keys[some]
        )


def moved(numbers: Sequence[int], by: int) -> Sequence[int]:
    """Return numbers that are larger by so much; of a range, a range."""
    if isinstance(numbers, range):
        return range(numbers.start + by, numbers.stop + by, numbers.step)
    return [number + by for number in numbers]


def picked(numbers: Sequence[int], rows: Sequence[int]) -> Sequence[int]:
    """Return the numbers at some rows, which count up."""
    if isinstance(rows, range):
        return numbers[rows.start : rows.stop : rows.step]
    return [numbers[row] for row in rows]


class Proof(msgspec.Struct):
    """What is proven of some lines: slot, fragment and key of each, `DOUBTFUL` for the others.

    Where nothing is doubtful, and no user is in two slots, `alike` has all of it instead, by slot:
    then only users tell which record comes before which.
    `opened` holds (slot, content) of doubtful lines that are nothing but an envelope around it.
    `time` is that of one event or purchase among the proven, as text; empty if there is none. With
    `news`, which only goes with `alike`, all users are told to be new.
    """

    slots: bytearray
    fragments: Sequence[Fragment]
    keys: Sequence[UserKey]
    opened: dict[int, tuple[int, bytes]]
    time: str = ""
    alike: Sequence[Alike] = ()
    news: News | None = None

    @classmethod
    def of_nothing(cls, count: int) -> Proof:
        """Return the proof that calls all of `count` lines doubtful."""
        return cls(bytearray((DOUBTFUL,)) * count, [b""] * count, [""] * count, {})

    @classmethod
    def of_all(cls, alike: Sequence[Alike], time: str = "", news: News | None = None) -> Proof:
        """Return the proof that doubts nothing; see `alike`."""
        return cls(bytearray(), [], [], {}, time, alike, news)

    def __len__(self) -> int:
        """Lines that it tells of."""
        return sum(map(len, self.alike)) if self.alike else len(self.slots)

    @property
    def whole(self) -> bool:
        """Whether nothing is doubtful."""
        return DOUBTFUL not in self.slots

    def cut(self, start: int, stop: int) -> Proof:
        """Return what is proven of some of the lines."""
        if start <= 0 and stop >= len(self):
            return self
        if self.alike:
            cuts = (some.cut(start, stop) for some in self.alike)
            return Proof.of_all([some for some in cuts if len(some)], self.time, self.news)
        opened = {row - start: it for row, it in self.opened.items() if start <= row < stop}
        rows = slice(start, stop)
        return Proof(self.slots[rows], self.fragments[rows], self.keys[rows], opened, self.time)


class Vouched(msgspec.Struct, gc=False):
    """Flat objects of one kind, as columns, by an encoder that knows what it put into them.

    `keys` are their external ids. Of all rows but those in `doubtful`, which count up, it is
    certain that no rule finds anything, and that nobody else is named in them. With `news`, which
    only goes without any doubtful ones, all users are told to be new.
    """

    kind: str
    fragments: Sequence[bytes]
    keys: Sequence[str]
    doubtful: Sequence[int] = ()
    news: News | None = None

    def __len__(self) -> int:
        return len(self.fragments)

    def lines(self) -> list[bytes]:
        """Return each object in its envelope."""
        opening = b'{"%b":' % self.kind.encode()
        return [b"%b%b}" % (opening, fragment) for fragment in self.fragments]

    def cut(self, start: int, stop: int) -> Vouched:
        """Return some of the rows."""
        at, to = bisect_left(self.doubtful, start), bisect_left(self.doubtful, stop)
        doubtful = [row - start for row in self.doubtful[at:to]]
        rows = slice(start, stop)
        return Vouched(self.kind, self.fragments[rows], self.keys[rows], doubtful, self.news)

    def proof(self, largest: int) -> Proof:
        """Return what is proven of `lines`, if a record may have so many bytes."""
        slot = KINDS.index(self.kind)
        doubtful = set(self.doubtful)
        if size_of(self.fragments) > largest:
            doubtful.update(row for row, one in enumerate(self.fragments) if len(one) > largest)
        if not doubtful:
            joined = Joined.of(self.fragments)
            alike = Alike(slot, range(len(self)), joined, self.keys)
            return Proof.of_all([alike], news=self.news)
        fragments: list[Fragment] = list(self.fragments)
        slots = bytearray((slot,)) * len(fragments)
        opened = {}
        for row in doubtful:
            slots[row] = DOUBTFUL
            if len(fragments[row]) <= SURELY_SHALLOW:
                opened[row] = slot, fragments[row]
        return Proof(slots, fragments, list(self.keys), opened)
