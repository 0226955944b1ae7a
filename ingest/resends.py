"""Batches that go again: when, in which order, and which users they keep.

A family is a batch with whatever it was split into. Its pieces go out in the order of the source,
side by side where they share no user; a user is let go when no unsettled piece holds it.
Knows no reasons and no destination.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from ingest.dispositions import Tries
from ingest.records import Batch, UserKey


class Case(msgspec.Struct, eq=False):
    """A batch on its way to a settlement.

    `due` is the earliest time of its next request; `out` is true while a request carries it, and
    `begun` once its last request was; `cost` is what its last permit took, `granted_at` the time of
    that, `sent_at` of its last request, `failed_at` of its last failure.
    """

    batch: Batch
    tries: Tries
    due: float = 0.0
    out: bool = False
    begun: bool = False
    cost: float = 1
    granted_at: float = 0.0
    sent_at: float = 0.0
    failed_at: float = 0.0


class Resends:
    """All unsettled batches by family, and those of them that wait to go again."""

    def __init__(self) -> None:
        self._families: dict[int, list[Case]] = {}
        self._bisected: dict[int, tuple[int, float]] = {}
        self._waiting: list[Case] = []
        self.nbytes = 0
        self.records = 0

    def __len__(self) -> int:
        """Unsettled batches and pieces, in flight or waiting."""
        return sum(map(len, self._families.values()))

    @property
    def waiting(self) -> int:
        """Batches and pieces that wait to go again."""
        return len(self._waiting)

    def start(self, batch: Batch) -> Case:
        """Take in a fresh batch, which goes out at once."""
        case = Case(batch, Tries(), out=True)
        self._families[batch.family] = [case]
        self._count(batch, +1)
        return case

    def again(self, case: Case, tries: Tries, due: float) -> None:
        """Let a whole batch wait until `due`; another try of a suspect is a part of bisecting."""
        if tries.suspect and tries.strikes > case.tries.strikes:
            self._spend(case.batch.family, 1, due)
        case.tries, case.due, case.out = tries, due, False
        self._waiting.append(case)

    def split(self, case: Case, pieces: Sequence[tuple[Batch, Tries]], due: float) -> set[UserKey]:
        """Put pieces in the place of a batch; return the users that none of them holds."""
        family = self._families[case.batch.family]
        place = family.index(case)
        cases = [Case(batch, tries, due) for batch, tries in pieces]
        family[place : place + 1] = cases
        self._waiting += cases
        self._count(case.batch, -1)
        for piece in cases:
            self._count(piece.batch, +1)
        if not family:
            del self._families[case.batch.family]
            self._bisected.pop(case.batch.family, None)
        return self._freed(case.batch, family)

    def settle(self, case: Case) -> Iterable[UserKey]:
        """Forget a settled batch; return the users it was the last to hold."""
        if len(self._families[case.batch.family]) > 1:
            return self.split(case, (), 0.0)
        del self._families[case.batch.family]
        self._bisected.pop(case.batch.family, None)
        self._count(case.batch, -1)
        return _each_user(case.batch)

    def note_bisecting(self, family: int, now: float) -> None:
        """Count the two requests that a bisect of one of the family's pieces costs."""
        self._spend(family, 2, now)

    def bisected(self, family: int) -> int:
        """Requests that a family's bisecting has cost, or will."""
        return self._bisected.get(family, (0, 0.0))[0]

    def bisecting_since(self, family: int) -> float | None:
        """When a family was bisected first; None if it was not."""
        found = self._bisected.get(family)
        return found and found[1]

    def take(self, now: float) -> Case | None:
        """Return the batch that has been due the longest and whose users are free of its elders."""
        best = None
        for case in self._waiting:
            if case.due <= now and (best is None or case.due < best.due) and self.may_go(case):
                best = case
        if best is not None:
            self._waiting.remove(best)
            best.out = True
        return best

    def next_due(self) -> float | None:
        """Return when the next batch is due, among those that may go; None if there is none."""
        return min((case.due for case in self._waiting if self.may_go(case)), default=None)

    def unsettled(self) -> Iterable[Case]:
        """Yield all unsettled cases."""
        for family in self._families.values():
            yield from family

    def may_go(self, case: Case) -> bool:
        """Whether no elder of its family holds one of its users."""
        family = self._families[case.batch.family]
        elders = family[: family.index(case)]
        if not elders:
            return True
        users = case.batch.users()
        return all(users.isdisjoint(elder.batch.users()) for elder in elders)

    def _freed(self, batch: Batch, family: Iterable[Case]) -> set[UserKey]:
        return batch.users().difference(*(case.batch.users() for case in family))

    def _spend(self, family: int, requests: int, now: float) -> None:
        spent, since = self._bisected.get(family, (0, now))
        self._bisected[family] = spent + requests, since

    def _count(self, batch: Batch, sign: int) -> None:
        self.nbytes += sign * batch.nbytes
        self.records += sign * batch.records


def _each_user(batch: Batch) -> Iterator[UserKey]:
    # Made only if somebody looks, which mostly nobody has to.
    yield from dict.fromkeys(chain.from_iterable(column.keys for column in batch.columns))
