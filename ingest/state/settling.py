"""What a run has settled, in memory, and what of it has changed since it was last written down.

Decides what one commit holds: `cut` returns everything that changed since the last cut, which is
true together or not at all: positions, counts and the length of the dead letters (law 10). Waits
for nothing, and knows no database. All positions are `part << 48 | ordinal`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final

import msgspec

from ingest.balance import COLUMNS, OTHER, Balance, Reason
from ingest.ranges import Change, Range, Ranges, merged, packed, runs, runs_of
from ingest.records import part_of, position

MOST_PLACES: Final = 4_096
"""Beginnings of blocks kept for a part: 500 MB of blocks beyond the oldest record that is not
settled. Beyond that every other one is let go, and a resume reads a little more."""

CountKey = tuple[str, str, str]
"""A count of the balance: ("kind", kind, column), ("request", name, ""), ..."""

LETTERS: Final = "letters"
"""What a count is of that is in no balance: the dead letters in a file, by its path."""

ReasonKey = tuple[str, str, str]
"""A reason: code, field, column."""

ReasonRow = tuple[str, int, str]
"""Of a reason: its sentence, count and example."""


class Place(msgspec.Struct, frozen=True):
    """Where reading can begin: the next record's ordinal, its line from 1, and the bytes before it.

    `offset` is in raw bytes, of use where the input is not compressed.
    """

    ordinal: int
    line: int
    offset: int


class Kept(msgspec.Struct):
    """What was written down of a run; see `Settling` for the words.

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

    @property
    def letters(self) -> dict[str, int]:
        """The files that dead letters of the run went to, and how many are in each."""
        return {name: n for (what, name, _), n in self.counts.items() if what == LETTERS}


class Group(msgspec.Struct, frozen=True):
    """Changes that are committed together. Numbers are absolute, never differences.

    `notes` are rows of positions that are in flight unless they are settled, of one batch or some;
    `gone` are numbers of such rows, `taken` ordinals and `places` by part, `forgotten` parts.
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
    forgotten: list[int] = []

    def __bool__(self) -> bool:
        """Whether there is anything to write; a dead letter alone settles nothing."""
        changed = (self.settled, self.doubtful, self.notes, self.gone, self.taken, self.places)
        return any((*changed, self.counts, self.reasons, self.forgotten))


class Settling:
    """What became of the records of a run so far, and what is to be written of it.

    - `settled`: positions that have their end, dead letters included;
    - `doubtful`: positions that were in flight when an earlier process of this run died: another
      copy of them may be at the destination already;
    - a note: a batch that is in flight, and was not before somebody waited for its commit;
    - `taken`: of each part, the ordinal before which every record was counted as read;
    - places: where blocks begin, so that a resume need not read what is settled.

    `balance` is read whenever a group is cut: it must agree with what was told here, so whoever
    changes both does it without waiting in between. `letters_length` tells the length of the
    dead-letter file in bytes, `letters` the path of that file and how many of the run are in it.
    """

    def __init__(
        self,
        balance: Balance,
        kept: Kept | None = None,
        *,
        letters_length: Callable[[], int] = lambda: 0,
        letters: Callable[[], tuple[str, int]] = lambda: ("", 0),
    ) -> None:
        kept = kept or Kept()
        self.balance = balance
        self.settled = Ranges(kept.settled, tracked=True)
        self.doubtful = Ranges(kept.doubtful, tracked=True)
        self.taken = dict(kept.taken)
        self.places = dict(kept.places)
        self._letters_length = letters_length
        self._letters = letters
        self._ahead: dict[int, deque[tuple[int, Place]]] = {}
        self._notes: dict[int, list[Range]] = {}
        self._fresh: set[int] = set()  # notes that are in no group yet
        self._row_of: dict[int, int] = {}  # the others, and the row that each is written in
        self._rows: dict[int, set[int]] = {}
        self._row = 0
        self._stale: set[int] = set()  # rows that say of something to be sent that it is in flight
        self._gone: list[int] = []
        self._taken_changed: set[int] = set()
        self._forgotten: list[int] = []
        self._counts: dict[CountKey, int] = dict(kept.counts)
        self._reasons: dict[ReasonKey, ReasonRow] = dict(kept.reasons)
        _restore(balance, kept)
        # Of what the dead process had in flight only the positions are of use, and one set has all.
        for row, ranges in kept.notes.items():
            for start, stop in ranges:
                self.doubtful.add(start, stop)
            self._gone.append(row)
        for start, stop in self.settled if len(self.doubtful) else ():
            self.doubtful.discard(start, stop)

    # What is told

    def take_in(self, part: int, stop: int, invalid: Iterable[int] = ()) -> None:
        """Note that every record of a part before the ordinal `stop` was counted as read.

        `invalid` are the positions of those that were refused here, letters and counts included.
        """
        if stop > self.taken.get(part, 0):
            self.taken[part] = stop
            self._taken_changed.add(part)
        self.settle(invalid)

    def settle(self, positions: Iterable[int]) -> None:
        """Note that records have their end that were in no request of this process."""
        for span in runs(positions):
            self._settle(span)

    def begins(self, part: int, place: Place) -> None:
        """Note where a block begins, in the order of the part."""
        ahead = self._ahead.setdefault(part, deque())
        ahead.append((position(part, place.ordinal), place))
        if len(ahead) > MOST_PLACES:
            self._ahead[part] = deque(list(ahead)[::2])

    def note(self, batch_id: int, positions: Iterable[Sequence[int]]) -> None:
        """Note a batch, by the positions of each of its columns, before a request carries it."""
        self._notes[batch_id] = runs_of(positions)
        self._fresh.add(batch_id)

    def conclude(self, batch_id: int, settled: Iterable[int] | None = None) -> None:
        """Note that a request was answered, or given up, so that its batch is not in flight.

        `settled` are the positions that have their end by that; None: all of the batch.
        """
        spans = self._notes.pop(batch_id)
        row = self._row_of.pop(batch_id, None)
        if row is None:
            self._fresh.remove(batch_id)
        else:
            self._leave(row, batch_id, all_settled=settled is None)
        for span in spans if settled is None else runs(settled):
            self._settle(span)

    def mind(self, at: int) -> None:
        """Note that a doubtful position was dealt with: its possible second copy is counted."""
        self.doubtful.discard(at, at + 1)

    def forget(self, part: int) -> None:
        """Note that a part, all of whose records have their end, is there no more."""
        for ranges in (self.settled, self.doubtful):
            ranges.discard(position(part, 0), position(part + 1, 0))
        for kept in (self.taken, self.places, self._ahead):
            kept.pop(part, None)
        self._taken_changed.discard(part)
        self._forgotten.append(part)
        self._stale.update(self._rows)  # what is settled there is not known any more

    # What is asked

    def is_new(self, at: int) -> bool:
        """Whether a record has not been counted as read yet."""
        return (at & (position(1, 0) - 1)) >= self.taken.get(part_of(at), 0)

    @property
    def in_flight(self) -> int:
        """Batches that are noted."""
        return len(self._notes)

    @property
    def none_is_written(self) -> bool:
        """Whether every batch that is noted is in no group yet."""
        return len(self._fresh) == len(self._notes)

    def cut(self) -> Group:
        """Return everything that changed since the last cut."""
        counts, reasons = counts_of(self.balance), reasons_of(self.balance.explained())
        path, letters = self._letters()
        if letters:
            counts[LETTERS, path, ""] = letters
        news = {key: n for key, n in counts.items() if self._counts.get(key, 0) != n}
        group = Group(
            settled=self.settled.changes(),
            doubtful=self.doubtful.changes(),
            notes=self._written(),
            gone=self._gone,
            taken={part: self.taken[part] for part in self._taken_changed},
            places=self._reached(),
            counts=news,
            reasons={key: row for key, row in reasons.items() if self._reasons.get(key) != row},
            letters_length=self._letters_length(),
            forgotten=self._forgotten,
        )
        self._counts |= news
        self._reasons |= group.reasons
        self._gone, self._forgotten = [], []
        self._taken_changed.clear()
        return group

    def _written(self) -> list[tuple[int, bytes]]:
        """Return the rows of notes to be written: one for all that are new, and what is stale.

        A row may go on to tell of batches that were settled since, for that is told elsewhere.
        """
        if self._fresh:
            self._row += 1
            self._rows[self._row] = self._fresh
            self._row_of.update(dict.fromkeys(self._fresh, self._row))
            self._stale.add(self._row)
            self._fresh = set()
        spans = {row: [self._notes[batch] for batch in self._rows[row]] for row in self._stale}
        self._stale.clear()
        return [(row, packed(merged(chain.from_iterable(of)))) for row, of in spans.items()]

    def _leave(self, row: int, batch_id: int, *, all_settled: bool) -> None:
        """Take a batch out of the row that it was written in."""
        batches = self._rows[row]
        batches.remove(batch_id)
        if not batches:
            del self._rows[row]
            self._stale.discard(row)
            self._gone.append(row)
        elif not all_settled:
            self._stale.add(row)

    def _settle(self, span: Range) -> None:
        self.settled.add(*span)
        if len(self.doubtful):
            self.doubtful.discard(*span)

    def _reached(self) -> dict[int, Place]:
        """Return the last place of each part before which all is settled, where it moved on."""
        moved = {}
        for part, ahead in list(self._ahead.items()):
            mark = self.settled.mark(position(part, 0))
            while ahead and ahead[0][0] <= mark:
                moved[part] = ahead.popleft()[1]
            if not ahead:  # of thousands of parts few are being read
                del self._ahead[part]
        self.places |= moved
        return moved


def counts_of(balance: Balance) -> dict[CountKey, int]:
    """Return the counts of a balance; those that follow from others, like `pending`, are not."""
    counts = {("kind", kind, column): n for kind, column, n in balance.tallies()}
    counts.update(zip(_FIELDS, _fields(balance), strict=True))
    for status, n in balance.by_status.items():
        counts["status", status, ""] = n
    return counts


def reasons_of(reasons: Iterable[Reason]) -> dict[ReasonKey, ReasonRow]:
    """Return reasons as they are written down."""
    return {
        (reason.code, reason.field, reason.column): (reason.reason, reason.count, reason.example)
        for reason in reasons
    }


OF_WHICH: Final = ("queued", "warned", "maybe_duplicated")
_REQUESTS: Final = ("requests", "retried", "throttled", "records_sent")
_FIELDS: Final[tuple[CountKey, ...]] = (
    *(("of_which", name, "") for name in OF_WHICH),
    *(("request", name, "") for name in _REQUESTS),
)
_fields: Final = attrgetter(*OF_WHICH, *_REQUESTS)


def _restore(balance: Balance, kept: Kept) -> None:
    """Let a new balance go on where the written one ended."""
    for (what, name, detail), n in kept.counts.items():
        if what == LETTERS:
            continue
        if what == "kind" and detail in COLUMNS:
            balance.settle(name, detail, n)
        elif what == "kind":
            balance.read(name, n)
        elif what == "status":
            balance.by_status[name] += n
        else:
            setattr(balance, name, n)
    # The last one, or a reason of the thousand would be counted as beyond them.
    for key, row in sorted(kept.reasons.items(), key=lambda item: item[0] == OTHER):
        reason, count, example = row
        balance.explain(*key, reason, example, count)
