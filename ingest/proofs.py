"""What is known of lines before the rules look at them: proofs, and what is vouched for.

The values that who proves (`ingest.proving`), or makes records of rows, hands to who judges. They
decide nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import msgspec

from ingest.records import KINDS, Fragment, UserKey

DOUBTFUL: Final = 255
"""Stands for the slot of a line of which nothing is proven."""

SURELY_SHALLOW: Final = 2_000
"""Bytes of an object in which no decoder meets its limit of 1,024 levels: a level takes two."""


class Proof(msgspec.Struct):
    """What is proven of some lines: slot, fragment and key of each, `DOUBTFUL` for the others.

    `opened` holds (slot, content) of doubtful lines that are nothing but an envelope around it.
    `time` is that of one event or purchase among the proven, as text; empty if there is none.
    """

    slots: bytearray
    fragments: list[Fragment]
    keys: list[UserKey]
    opened: dict[int, tuple[int, bytes]]
    time: str = ""

    @classmethod
    def of_nothing(cls, count: int) -> Proof:
        """Return the proof that calls all of `count` lines doubtful."""
        return cls(bytearray((DOUBTFUL,)) * count, [b""] * count, [""] * count, {})

    @property
    def whole(self) -> bool:
        """Whether nothing is doubtful."""
        return DOUBTFUL not in self.slots

    def cut(self, start: int, stop: int) -> Proof:
        """Return what is proven of some of the lines."""
        opened = {row - start: it for row, it in self.opened.items() if start <= row < stop}
        rows = slice(start, stop)
        return Proof(self.slots[rows], self.fragments[rows], self.keys[rows], opened, self.time)


class Vouched(msgspec.Struct, frozen=True, gc=False):
    """Flat objects of one kind, as columns, by an encoder that knows what it put into them.

    `keys` are their external ids. Of all rows but those in `doubtful`, which count up, it is
    certain that no rule finds anything, and that nobody else is named in them.
    """

    kind: str
    fragments: Sequence[bytes]
    keys: Sequence[str]
    doubtful: Sequence[int] = ()

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
        return Vouched(self.kind, self.fragments[start:stop], self.keys[start:stop], doubtful)

    def proof(self, largest: int) -> Proof:
        """Return what is proven of `lines`, if a record may have so many bytes."""
        fragments: list[Fragment] = list(self.fragments)
        slot = KINDS.index(self.kind)
        doubtful = set(self.doubtful)
        if max(map(len, fragments), default=0) > largest:
            doubtful.update(row for row, one in enumerate(fragments) if len(one) > largest)
        slots = bytearray((slot,)) * len(fragments)
        opened = {}
        for row in doubtful:
            slots[row] = DOUBTFUL
            if len(fragments[row]) <= SURELY_SHALLOW:
                opened[row] = slot, fragments[row]
        return Proof(slots, fragments, list(self.keys), opened)
