"""What goes next: records that were read, batches that go again, and when either may go.

Decides by caps, by what waits and by the moments it is told. What failed goes ahead of fresh work;
fresh records wait for others to fill their request, unless none will come or they waited enough.
Knows no destination, no journal and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Final

from ingest.batcher import Batcher
from ingest.dispositions import Disposition, Piece
from ingest.lingering import Lingering
from ingest.profiles import CapsLadder
from ingest.records import Batch, Chunk
from ingest.resends import Case, Resends
from ingest.retry import repacked

BODIES_SHARE: Final = 0.5
"""Share of the byte budget that bodies may take before the first one that is not begun any more;
a body counts twice, and what it replaces in the queue once, so the budget is exceeded by a quarter
at the most."""

READ_AHEAD_BATCHES: Final = 64
"""Full batches of records that wait for nobody; reading further only makes memory slow. Three times
the look-ahead of the batcher. Records that wait for their user are not among them."""

FIRST_PIECE_ID: Final = 1 << 40
"""Ids of pieces start here, far above those that the batcher gives to fresh batches."""


class Agenda:
    """All records that were read and have no end, and the order in which they go.

    `memory` is the byte budget, `linger` the seconds that a request waits to be filled.
    """

    def __init__(self, batcher: Batcher, ladder: CapsLadder, *, memory: int, linger: float) -> None:
        self.source_ended = False
        """Whether nothing more will be read: then nobody fills what waits."""
        self.reader_waits = False
        """Whether nothing more is read until something was settled."""
        self._batcher = batcher
        self._ladder = ladder
        self._memory = memory
        self._lingering = Lingering(linger)
        self._resends = Resends()
        self._piece_ids = count(FIRST_PIECE_ID)

    # What there is

    @property
    def records(self) -> int:
        """Records read and not yet settled."""
        return len(self._batcher) + self._resends.records

    @property
    def memory_used(self) -> int:
        """Bytes counted against the byte budget: queue, look-ahead and bodies."""
        # A body in flight is there twice: as columns and as the joined bytes on the wire.
        return self._batcher.nbytes + 2 * self._resends.nbytes

    @property
    def enough(self) -> bool:
        """Whether the byte budget is used up, or more that may go was read than is of any use."""
        if self.memory_used >= self._memory:
            return True
        return self._may_go >= READ_AHEAD_BATCHES * self._ladder.current.fill

    @property
    def done(self) -> bool:
        """Whether everything has its end, and nothing more will come."""
        return self.source_ended and not len(self._batcher) and not len(self._resends)

    @property
    def retries_waiting(self) -> int:
        """Batches and pieces that wait to go again."""
        return self._resends.waiting

    @property
    def _may_go(self) -> int:
        return len(self._batcher) - self._batcher.barred

    # What comes, and what goes

    def add(self, chunk: Chunk) -> None:
        """Take in records that were read."""
        self._batcher.add(chunk)

    def take(self, now: float) -> Case | None:
        """Return what goes next, None if nothing may: what failed goes ahead of fresh work."""
        case = self._resends.take(now)
        if case is None:
            return None if self._bodies_full else self._fresh(now)
        caps = self._ladder.next()
        if case.batch.records <= caps.total:
            return case
        # Packed before it was known how much the account takes, or while a probe finds that out.
        self._split(case, repacked(case.batch, case.tries, caps), now)
        return self._resends.take(now)

    def take_full(self, most: int, now: float) -> list[Case]:
        """Return up to `most` full requests of fresh records, where there is nothing else to mind.

        They may all go at once, and none of them is a probe. No request: ask `take`.
        """
        caps, confirmed = self._ladder.current, self._ladder.confirmed
        if self._ladder.probing or self._goes_again(now):
            return []
        cases: list[Case] = []
        while len(cases) < most and not self._bodies_full:
            batch = self._batcher.take_full(caps, self._ladder.generation, confirmed)
            if batch is None:
                break
            self._lingering.went(batch.records)
            cases.append(self._resends.start(batch))
        return cases

    def put_back(self, case: Case, now: float) -> None:
        """Let a case that was taken wait again: it did not go."""
        self._resends.again(case, case.tries, now)

    def hurry(self) -> None:
        """Let all records that are here go, without waiting for others."""
        self._lingering.overdue = len(self._batcher)

    def next_moment(self, now: float) -> float | None:
        """Seconds until waiting records may be sent without anything else happening."""
        due, lingers_until = self._resends.next_due(), self._lingering.until
        if lingers_until is not None:
            due = lingers_until if due is None else min(due, lingers_until)
        return None if due is None else due - now

    def settle(self, case: Case, disposition: Disposition, now: float) -> None:
        """Let the users of a case go whose records have their end, and keep what goes again."""
        if disposition.bisecting:
            self._resends.note_bisecting(case.batch.family, now)
        due, pieces = now + disposition.delay, disposition.pieces
        if not pieces:
            self.delivered((case,))
        elif len(pieces) == 1 and pieces[0].rows is None:
            self._resends.again(case, pieces[0].tries, due)
        else:
            self._split(case, pieces, due)

    def delivered(self, cases: Iterable[Case]) -> None:
        """Let the users of cases go all of whose records have their end."""
        for case in cases:
            self._batcher.release(case.batch.family, self._resends.settle(case))

    def doubted(self) -> Iterator[Batch]:
        """Yield what has no end, and may have arrived all the same."""
        return (case.batch for case in self._resends.unsettled() if case.tries.doubted)

    def left(self) -> Iterator[tuple[Batch, bool]]:
        """Give up, and yield all that has no end, in batches, and whether it may have arrived.

        Nothing can be sent after that.
        """
        for case in list(self._resends.unsettled()):
            yield case.batch, case.tries.doubted
            self._batcher.release(case.batch.family, self._resends.settle(case))
        while (batch := self._batcher.take(self._ladder.current, partial=True)) is not None:
            yield batch, False
            self._batcher.release(batch.family, batch.users())

    # What it tells of the others

    def alone(self, case: Case) -> bool:
        """Whether no other request could show that the destination is up: all failed, or wait."""
        ended = self.source_ended or self.reader_waits
        nothing_else = ended and not self._may_go
        return nothing_else and all(
            other is case or other.tries.failures or not self._resends.may_go(other)
            for other in self._resends.unsettled()
        )

    def failing_since(self, case: Case) -> float:
        """Return since when a success of another request tells of this one's records."""
        since = self.suspect_since(case)
        return since if since is not None else case.failed_at or case.sent_at

    def suspect_since(self, case: Case) -> float | None:
        """When the family of a suspect was bisected first; None of what is none.

        A piece that was only packed again is none, even if another one of its family is.
        """
        return self._resends.bisecting_since(case.batch.family) if case.tries.suspect else None

    def cuts(self, case: Case) -> int:
        """Requests that the bisecting of its family has cost, or will."""
        return self._resends.bisected(case.batch.family)

    # Fresh records

    def _fresh(self, now: float) -> Case | None:
        """Pack a batch of fresh records, if enough are there or none will come soon."""
        if not len(self._batcher):
            self._lingering.nothing_waits()
            return None
        self._lingering.look(now, self._may_go)
        batch = self._batcher.take(
            self._ladder.next(),
            self._ladder.generation,
            partial=self._hurries(now),
            more=not (self.source_ended or self.reader_waits),
        )
        if batch is not None:
            self._lingering.went(batch.records)
            return self._resends.start(batch)
        self._lingering.held(self._batcher.open_records, now)
        return None

    def _hurries(self, now: float) -> bool:
        """Whether a batch may go that is not full: nobody would fill it, or not in time."""
        # With nothing in flight, what is barred waits for the batch that is being filled.
        if self.source_ended and not (self._batcher.barred and len(self._resends)):
            return True
        if self._lingering.overdue:
            return True
        if self._lingering.until is not None:
            return self._lingering.over(now)
        return self.reader_waits and not len(self._resends)

    def _goes_again(self, now: float) -> bool:
        """Whether something that failed goes ahead of fresh records by now."""
        due = self._resends.next_due() if self._resends.waiting else None
        return due is not None and due <= now

    @property
    def _bodies_full(self) -> bool:
        """Whether bodies take so much of the byte budget that fresh ones must wait for answers."""
        return 2 * self._resends.nbytes >= self._memory * BODIES_SHARE

    def _split(self, case: Case, pieces: Sequence[Piece], due: float) -> None:
        batch = case.batch
        self._batcher.tell_apart(batch.family)
        made = [
            (batch.take(piece.rows or (), id=next(self._piece_ids)), piece.tries)
            for piece in pieces
        ]
        self._batcher.release(batch.family, self._resends.split(case, made, due))
