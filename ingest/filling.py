"""The batch being filled: what is in it, and what still fits.

Decides by the caps it is given, and where a destination folds the records of a user into one item,
by what that says of two records. Does not know what else there is to be packed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, compress, islice
from operator import sub
from typing import Any, Protocol

from ingest.profiles import Caps
from ingest.queues import Rows, Waiting, joined
from ingest.records import EMPTY_COLUMN, WHOLE, Batch, Fragment, Partition, UserKey


class Folding(Protocol):
    """How the records of one user become one item of a request, where a destination wants that.

    What it decides depends on the two records that meet alone, so that any part of what folds, in
    the same order, folds as well.
    """

    def begin(self, slot: int, fragment: Fragment) -> Any:
        """Return the state of an item that holds one record."""
        ...

    def join(self, item: Any, slot: int, fragment: Fragment) -> bool:
        """Fold a later record into the item, unless it does not fold; return whether it did."""
        ...


class Open:
    """The batch being filled: rows of one partition.

    `total` is its records, `users` its users, `nbytes` the bytes of its records with a comma each,
    without the `overhead` of the wrapping and the members of its partition. `full` says that it is
    at a cap that nothing gets around. `passed_over` is how many records of other partitions went
    before it was begun, while its own could have gone.
    """

    def __init__(
        self,
        caps: Caps,
        overhead: int,
        partition: Partition = WHOLE,
        *,
        folding: Folding | None = None,
        passed_over: int = 0,
    ) -> None:
        slots = len(caps.per_slot)
        self._pieces: list[list[Rows]] = [[] for _ in range(slots)]
        self._counts = [0] * slots
        self._loose: list[Rows | None] = [None] * slots  # the last piece, if it may grow
        self.partition = partition
        self.passed_over = passed_over
        self.total = 0
        self.users = 0
        self.nbytes = 0
        self.full = False
        self._wrapping = overhead + len(partition.members) + bool(partition.members)
        self._per_user: dict[UserKey, int] = {}  # counted only under a cap
        self._folding = folding
        self._items: dict[UserKey, Any] = {}  # of users whose records were folded
        self._known: list[dict[UserKey, Fragment]] = []  # rows that were looked at, by their user
        self._looked_at = [0] * slots  # how many they are
        self.under(caps)

    def under(self, caps: Caps) -> bool:
        """Get ready to be filled under caps; return whether what is here is within them."""
        self.full = False
        self._caps, self._most_users = caps, caps.fill
        self._most_bytes = caps.body_bytes - self._wrapping
        if not self.total:
            self._per_user_cap = caps.per_user
            return True
        return (
            self.total <= caps.total
            and self.users <= self._most_users
            and self.nbytes <= self._most_bytes
            and self._per_user_cap == caps.per_user
            and min(self.places) >= 0
        )

    @property
    def new_users(self) -> int:
        """How many users may still be added, with one record each."""
        return min(self._most_users - self.users, self._caps.total - self.total)

    @property
    def all_places(self) -> int:
        """How many records may still be added, over all slots."""
        return self._caps.total - self.total

    @property
    def places(self) -> list[int]:
        """How many records each slot may still take."""
        return list(map(sub, self._caps.per_slot, self._counts))

    @property
    def room(self) -> int:
        """Bytes that may still be added, with a comma for each record."""
        return self._most_bytes - self.nbytes

    def complete(self, worth: Sequence[bool], *, more: bool) -> bool:
        """Tell whether nothing is worth waiting for: neither a place nor, with `more`, an item.

        A place is, where its slot is `worth` it; at least one slot is. With folding the places of
        slots are of no interest, and items grow while more records may come, even if no user may be
        added.
        """
        if self.full or self.total >= self._caps.total:
            return True
        has_all_users = self.users >= self._most_users
        if self._folding is not None:
            return has_all_users and not more
        return has_all_users or max(compress(self.places, worth)) <= 0

    def board(self, key: UserKey, lane: deque[Waiting], *, begun: bool) -> int:
        """Move what fits from the front of a user's lane; return how many records did.

        `begun` says whether the user has a record here; one who has none is counted if a record of
        it moves. A record that shows that the batch is at a cap nothing gets around sets `full`.
        """
        moved = 0
        while lane and self._fits(key, lane[0], begun or moved > 0):
            fragment, slot, position, line, _ = lane.popleft()
            self._append(slot, fragment, key, position, line)
            self.total += 1
            self.nbytes += len(fragment) + 1
            if self._per_user_cap is not None:
                self._per_user[key] = self._per_user.get(key, 0) + 1
            moved += 1
        if moved and not begun:
            self.users += 1
        return moved

    def _append(self, slot: int, fragment: bytes, key: UserKey, position: int, line: int) -> None:
        rows = self._loose[slot]
        if rows is None:
            rows = self._loose[slot] = Rows([], [], [], [])
            self._pieces[slot].append(rows)
        columns = (rows.fragments, rows.keys, rows.positions, rows.lines)
        for column, value in zip(columns, (fragment, key, position, line), strict=True):
            assert isinstance(column, list)
            column.append(value)
        self._counts[slot] += 1

    def _fits(self, key: UserKey, record: Waiting, begun: bool) -> bool:
        """Check a record against every cap, and fold it if it is within them."""
        caps, slot = self._caps, record.slot
        if record.partition is not self.partition and record.partition != self.partition:
            return False
        if self.total >= caps.total or self.nbytes + len(record.fragment) >= self._most_bytes:
            self.full = True
            return False
        if self._counts[slot] >= caps.per_slot[slot]:
            return False
        if caps.per_user is not None and self._per_user.get(key, 0) >= caps.per_user:
            return False
        return self._folding is None or not begun or self._joins(self._folding, key, record)

    def _joins(self, folding: Folding, key: UserKey, record: Waiting) -> bool:
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = folding.begin(*self._only_record(key))
        return folding.join(item, record.slot, record.fragment)

    def _only_record(self, key: UserKey) -> tuple[int, Fragment]:
        """Return the (slot, fragment) of a user that has exactly one record here."""
        # Rows are looked at when somebody asks, and each of them once.
        self._known = self._known or [{} for _ in self._counts]
        for slot, known in enumerate(self._known):
            rows = self._rows_of(slot)
            known.update(
                (key, fragment) for fragment, key, _, _ in islice(rows, self._looked_at[slot], None)
            )
            self._looked_at[slot] = self._counts[slot]
        slot = next(slot for slot, known in enumerate(self._known) if key in known)
        return slot, self._known[slot][key]

    def put(self, pieces: Sequence[Sequence[Rows]], count: int, nbytes: int) -> None:
        """Append rows, some pieces of them per slot, each of another user that has none here."""
        self.total += count
        self.users += count
        self.nbytes += nbytes
        for slot, some in enumerate(pieces):
            if some:
                self._pieces[slot] += some
                self._counts[slot] += sum(len(rows.keys) for rows in some)
                self._loose[slot] = None
            if self._per_user_cap is not None:
                for rows in some:
                    self._per_user.update(dict.fromkeys(rows.keys, 1))

    def rows(self) -> list[tuple[UserKey, Waiting]]:
        """Return every record with its user, in source order, its bytes its own."""
        found = [
            (key, Waiting(bytes(fragment), slot, position, line, self.partition))
            for slot in range(len(self._counts))
            for fragment, key, position, line in self._rows_of(slot)
        ]
        return sorted(found, key=lambda row: row[1].position)

    @property
    def pieces(self) -> Iterator[Rows]:
        """The rows as they came, slot by slot."""
        return chain.from_iterable(self._pieces)

    def _rows_of(self, slot: int) -> Iterator[tuple[Fragment, UserKey, int, int]]:
        for rows in self._pieces[slot]:
            yield from zip(rows.fragments, rows.keys, rows.positions, rows.lines, strict=True)

    def batch(self, id: int, generation: int) -> Batch:
        """Make a batch of what was gathered."""
        columns = tuple(joined(pieces) if pieces else EMPTY_COLUMN for pieces in self._pieces)
        return Batch(id, id, columns, generation, self.partition)
