"""What is written down together: the changes of a run since the last time, in one group.

A group is true as a whole or not at all: positions, counts and the length of the dead letters (law
10). Numbers in it are absolute, never differences, so that groups are put together by letting the
later one have its say. Pure; all positions are `part << 48 | ordinal`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ingest.ranges import Change, Ranges
from ingest.records import part_of

CountKey = tuple[str, str, str]
"""A count of the balance: ("kind", kind, column), ("request", name, ""), ..."""

LETTERS: Final = "letters"
"""What a count is of that is in no balance: the dead letters in a file, by its path."""

ReasonKey = tuple[str, str, str]
"""A reason: code, field, column."""

ReasonRow = tuple[str, int, str]
"""Of a reason: its sentence, count and example."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where reading can begin: the next record's ordinal, its line from 1, and the bytes before it.

    `offset` is in raw bytes, of use where the input is not compressed.
    """

    ordinal: int
    line: int
    offset: int


class Kept(msgspec.Struct):
    """What was written down of a run; see `ingest.state.settling` for the words.

    `notes` are positions that were in flight, by rows, if they were not settled; `counts` and
    `reasons` are those of the balance.
    """

    settled: Ranges = msgspec.field(default_factory=Ranges)
    doubtful: Ranges = msgspec.field(default_factory=Ranges)
    notes: dict[int, Ranges] = msgspec.field(default_factory=dict)
    taken: dict[int, int] = msgspec.field(default_factory=dict)
    places: dict[int, Place] = msgspec.field(default_factory=dict)
    counts: dict[CountKey, int] = msgspec.field(default_factory=dict)
    reasons: dict[ReasonKey, ReasonRow] = msgspec.field(default_factory=dict)
    letters_length: int = 0
    unsure: int = 0

    @property
    def letters(self) -> dict[str, int]:
        """The files that dead letters of the run went to, and how many are in each."""
        return {name: n for (what, name, _), n in self.counts.items() if what == LETTERS}


class Group(msgspec.Struct, frozen=True, array_like=True):
    """Changes that are written down together.

    `notes` are rows of positions that are in flight unless they are settled, of one batch or some;
    `gone` are numbers of such rows, `taken` ordinals and `places` by part, `forgotten` parts, whose
    end comes before all else in the group. `unsure` is that of `ingest.state.settling`.
    """

    settled: list[Change]
    doubtful: list[Change]
    notes: list[tuple[int, bytes]]
    gone: list[int]
    taken: dict[int, int]
    places: dict[int, Place]
    counts: dict[CountKey, int]
    reasons: dict[ReasonKey, ReasonRow]
    letters_length: int
    unsure: int = 0
    forgotten: list[int] = []

    def __bool__(self) -> bool:
        """Whether there is anything to write; a dead letter alone settles nothing."""
        changed = (self.settled, self.doubtful, self.notes, self.gone, self.taken, self.places)
        return any((*changed, self.counts, self.reasons, self.forgotten))

    @property
    def delivers(self) -> bool:
        """Whether records were delivered."""
        return any(what == "kind" and of == "delivered" for what, _, of in self.counts)


class Gathered:
    """Groups put together, in their order."""

    def __init__(self, groups: Iterable[Group] = ()) -> None:
        self._settled: dict[int, int | None] = {}
        self._doubtful: dict[int, int | None] = {}
        self._notes: dict[int, bytes] = {}
        self._gone: dict[int, None] = {}
        self._taken: dict[int, int] = {}
        self._places: dict[int, Place] = {}
        self._counts: dict[CountKey, int] = {}
        self._reasons: dict[ReasonKey, ReasonRow] = {}
        self._letters_length = self._unsure = 0
        self._forgotten: dict[int, None] = {}
        for group in groups:
            self.add(group)

    def add(self, group: Group) -> None:
        """Put one in that comes after all before."""
        if group.forgotten:
            self._forget(group.forgotten)
        self._settled.update(group.settled)
        self._doubtful.update(group.doubtful)
        for row in group.gone:
            self._notes.pop(row, None)
            self._gone[row] = None
        for row, positions in group.notes:
            self._gone.pop(row, None)
            self._notes[row] = positions
        self._taken |= group.taken
        self._places |= group.places
        self._counts |= group.counts
        self._reasons |= group.reasons
        self._letters_length, self._unsure = group.letters_length, group.unsure

    def group(self) -> Group:
        """Return all of it as one group; there has to be one."""
        return Group(
            settled=list(self._settled.items()),
            doubtful=list(self._doubtful.items()),
            notes=list(self._notes.items()),
            gone=list(self._gone),
            taken=self._taken,
            places=self._places,
            counts=self._counts,
            reasons=self._reasons,
            letters_length=self._letters_length,
            unsure=self._unsure,
            forgotten=list(self._forgotten),
        )

    def _forget(self, parts: Iterable[int]) -> None:
        gone = dict.fromkeys(parts)
        self._forgotten |= gone
        for ranges in (self._settled, self._doubtful):
            for start in [start for start in ranges if part_of(start) in gone]:
                del ranges[start]
        for kept in (self._taken, self._places):
            for part in gone:
                kept.pop(part, None)
