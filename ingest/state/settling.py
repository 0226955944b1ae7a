"""What a run has settled, in memory, and what of it has changed since it was last written down.

Decides what one group holds: `cut` returns everything that changed since the last cut, which is
true together or not at all: positions, counts and the length of the dead letters (law 10). Waits
for nothing, and knows no database. All positions are `part << 48 | ordinal`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final

from ingest.balance import COLUMNS, OTHER, Balance, Reason
from ingest.ranges import Range, Ranges, merged, packed, runs, runs_of
from ingest.records import part_of, position
from ingest.state.groups import LETTERS, CountKey, Group, Kept, Place, ReasonKey, ReasonRow

MOST_PLACES: Final = 4_096
"""Beginnings of blocks kept for a part: 500 MB of blocks beyond the oldest record that is not
settled. Beyond that every other one is let go, and a resume reads a little more."""


class Settling:
    """What became of the records of a run so far, and what is to be written of it.

    - `settled`: positions that have their end, dead letters included;
    - `doubtful`: positions that were in flight when an earlier process of this run died: another
      copy of them may be at the destination already;
    - a note: a batch that is in flight, and was not before its note was written down;
    - `taken`: of each part, the ordinal before which every record was counted as read;
    - `unsure`: how many of the next records that are new, in the order of reading, an earlier
      process may have sent all the same, for what it wrote down of that went with the machine;
    - places: where blocks begin, so that a resume need not read what is settled.

    `balance` is read whenever a group is cut: it must agree with what was told here, so whoever
    changes both does it without waiting in between. What is told is only kept, and worked out for
    all batches at once when a group is cut, or when somebody asks for it before.
    `letters_length` tells the length of the dead-letter file in bytes, `letters` the path of that
    file and how many of the run are in it. With `doubt` what was written down last is not all that
    the earlier process did: up to so many records more were read, and any of them may be sent.
    """

    def __init__(
        self,
        balance: Balance,
        kept: Kept | None = None,
        *,
        letters_length: Callable[[], int] = lambda: 0,
        letters: Callable[[], tuple[str, int]] = lambda: ("", 0),
        doubt: int = 0,
    ) -> None:
        kept = kept or Kept()
        self.balance = balance
        self._settled = Ranges(kept.settled, tracked=True)
        self._doubtful = Ranges(kept.doubtful, tracked=True)
        self._ended: list[Range] = []  # what was settled since, and is in no range yet
        self.taken = dict(kept.taken)
        self.read = 0
        """Records that were counted as read here, and never before."""
        self.unsure = max(kept.unsure, doubt)
        self.places = dict(kept.places)
        self._letters_length = letters_length
        self._letters = letters
        self._ahead: dict[int, deque[tuple[int, Place]]] = {}
        self._fresh: dict[int, Iterable[Sequence[int]]] = {}  # notes that are in no group yet
        self._row_of: dict[int, int] = {}  # the others, and the row that each is written in
        self._rows: dict[int, dict[int, list[Range]]] = {}
        self._most_rows = max(kept.notes, default=0)  # the highest number that a row ever had
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
                self._doubtful.add(start, stop)
            self._gone.append(row)
        for part, stop in kept.taken.items() if doubt else ():
            self._doubtful.add(position(part, 0), position(part, stop))
        for start, stop in self._settled if len(self._doubtful) else ():
            self._doubtful.discard(start, stop)

    # What is told

    def take_in(self, part: int, stop: int, invalid: Iterable[int] = ()) -> None:
        """Note that every record of a part before the ordinal `stop` was counted as read.

        `invalid` are the positions of those that were refused here, letters and counts included.
        """
        new = stop - self.taken.get(part, 0)
        if new > 0:
            self.taken[part] = stop
            self.read += new
            self.unsure = max(0, self.unsure - new)
            self._taken_changed.add(part)
        self.settle(invalid)

    def settle(self, positions: Iterable[int]) -> None:
        """Note that records have their end that were in no request of this process."""
        self._ended += runs(positions)

    def begins(self, part: int, place: Place) -> None:
        """Note where a block begins, in the order of the part."""
        ahead = self._ahead.setdefault(part, deque())
        ahead.append((position(part, place.ordinal), place))
        if len(ahead) > MOST_PLACES:
            self._ahead[part] = deque(list(ahead)[::2])

    def note(self, batch_id: int, positions: Iterable[Sequence[int]]) -> None:
        """Note a batch, by the positions of each of its columns, before a request carries it.

        They are looked at later, and so must not change.
        """
        self._fresh[batch_id] = positions

    def note_all(self, notes: Mapping[int, Iterable[Sequence[int]]]) -> None:
        """Note batches by their numbers, as `note` does each."""
        self._fresh.update(notes)

    def conclude(self, batch_id: int, settled: Iterable[int] | None = None) -> None:
        """Note that a request was answered, or given up, so that its batch is not in flight.

        `settled` are the positions that have their end by that; None: all of the batch.
        """
        row = self._row_of.pop(batch_id, None)
        if row is None:
            spans = runs_of(self._fresh.pop(batch_id))
        else:
            spans = self._leave(row, batch_id, all_settled=settled is None)
        self._ended += spans if settled is None else runs(settled)

    def conclude_all(self, batch_ids: Iterable[int]) -> None:
        """Note that all records of some batches have their end, as `conclude` does for each."""
        for batch_id in batch_ids:
            self.conclude(batch_id)

    def doubt(self, at: int) -> None:
        """Note that another copy of a record may be at the destination already."""
        self._doubtful.add(at, at + 1)

    def mind(self, at: int) -> None:
        """Note that a doubtful position was dealt with: its possible second copy is counted."""
        self._doubtful.discard(at, at + 1)

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
    def settled(self) -> Ranges:
        """The positions that have their end."""
        self._merge()
        return self._settled

    @property
    def doubtful(self) -> Ranges:
        """The positions of which another copy may be at the destination already."""
        self._merge()
        return self._doubtful

    @property
    def in_flight(self) -> int:
        """Batches that are noted."""
        return len(self._fresh) + len(self._row_of)

    def cut(self) -> Group:
        """Return everything that changed since the last cut."""
        counts, reasons = counts_of(self.balance), reasons_of(self.balance.explained())
        path, letters = self._letters()
        if letters:
            counts[LETTERS, path, ""] = letters
        news = {key: n for key, n in counts.items() if self._counts.get(key, 0) != n}
        self._merge()
        group = Group(
            settled=self._settled.changes(),
            doubtful=self._doubtful.changes(),
            notes=self._written(),  # before what is gone: it may take a row of those
            gone=self._gone,
            taken={part: self.taken[part] for part in self._taken_changed},
            places=self._reached(),
            counts=news,
            reasons={key: row for key, row in reasons.items() if self._reasons.get(key) != row},
            letters_length=self._letters_length(),
            unsure=self.unsure,
            forgotten=self._forgotten,
        )
        self._counts |= news
        self._reasons |= group.reasons
        self._gone, self._forgotten = [], []
        self._taken_changed.clear()
        return group

    def _written(self) -> list[tuple[int, bytes]]:
        """Return the rows of notes to be written: one for all that are new, and what is stale.

        A row may go on to tell of batches that were settled since, for that is told elsewhere. New
        ones take the place of a row that is gone, if there is one.
        """
        if self._fresh:
            row = self._gone.pop() if self._gone else self._most_rows + 1
            self._most_rows = max(row, self._most_rows)
            self._rows[row] = {batch: runs_of(of) for batch, of in self._fresh.items()}
            self._row_of.update(dict.fromkeys(self._fresh, row))
            self._stale.add(row)
            self._fresh = {}
        spans = {row: chain.from_iterable(self._rows[row].values()) for row in self._stale}
        self._stale.clear()
        return [(row, packed(merged(of))) for row, of in spans.items()]

    def _leave(self, row: int, batch_id: int, *, all_settled: bool) -> list[Range]:
        """Take a batch out of the row that it was written in, and return its positions."""
        batches = self._rows[row]
        spans = batches.pop(batch_id)
        if not batches:
            del self._rows[row]
            self._stale.discard(row)
            self._gone.append(row)
        elif not all_settled:
            self._stale.add(row)
        return spans

    def _merge(self) -> None:
        """Put what was settled lately with the rest, all at once: much of it is one range then."""
        if self._ended:
            spans, self._ended = merged(self._ended), []
            for span in spans:
                self._settled.add(*span)
            for span in spans if len(self._doubtful) else ():
                self._doubtful.discard(*span)

    def _reached(self) -> dict[int, Place]:
        """Return the last place of each part before which all is settled, where it moved on."""
        moved = {}
        for part, ahead in list(self._ahead.items()):
            mark = self._settled.mark(position(part, 0))
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
