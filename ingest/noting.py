"""What the pipeline tells the journal, and in which order: the driver beside the ledger.

Laws 9 and 10 live here. A batch is sent only once its note is written where a kill leaves it; what
becomes of it is noted in the same stretch as the ledger writes it down, with no wait between.
Groups of the journal are written in order, so that with a note all settlements before it are there
too. Without a journal everything here is nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Final

from ingest.acking import Acks
from ingest.dispositions import ALL_DELIVERED, Disposition, Verdict
from ingest.errors import LocalFailure
from ingest.intake import Intake
from ingest.ledger import Ledger
from ingest.outcomes import Unanswered
from ingest.records import EMPTY_COLUMN, Batch, Chunk, Column
from ingest.sinks.base import Answer
from ingest.sources.base import Block
from ingest.state.groups import Place
from ingest.state.recording import Recording
from ingest.state.resuming import sift
from ingest.taken import Taken

IN_FLIGHT: Final = "perhaps in flight when an earlier run of this input ended: it may have arrived"


class Noting:
    """Keeps a journal in step with a ledger; `recording` None: there is none.

    `kinds` names the kind of each slot, `hold(slot, fragment)` says whether a record that may have
    arrived is held, and not sent again. `acks` follows the messages that the records came in.
    """

    def __init__(
        self,
        ledger: Ledger,
        kinds: tuple[str, ...],
        hold: Callable[[int, bytes], bool],
        recording: Recording | None = None,
        acks: Acks | None = None,
    ) -> None:
        self._ledger = ledger
        self._acks = acks
        self._kinds = kinds
        self._hold = hold
        self._recording = recording
        self.reading_waits = False
        """Whether what was read waits for the journal before it is taken in."""
        self._doubted: set[int] = set()  # positions that go again, and may have arrived before

    # Reading

    @property
    def resumable(self) -> bool:
        """Whether there is a journal, so that the run can be gone on with."""
        return self._recording is not None

    def counted(self, part: int) -> int:
        """Return the ordinal before which all of a part were counted as read."""
        return 0 if self._recording is None else self._recording.settling.taken.get(part, 0)

    def holds_back(self, taken: Taken) -> bool:
        """Whether what was read has to wait for the journal before it is taken in."""
        recording = self._recording
        return recording is not None and recording.holds_back(sum(taken.read.values()))

    async def keep_up(self, taken: Taken) -> None:
        """Return when what was read may be taken in. Raises `LocalFailure`."""
        if self._recording is not None:
            self.reading_waits = True
            try:
                await self._recording.keep_up(sum(taken.read.values()))
            finally:
                self.reading_waits = False

    def take_in(self, part: int, taken: Taken, intake: Intake) -> Taken:
        """Account for what was read, and return what of it is to be sent."""
        recording = self._recording
        if recording is None:
            self._ledger.take_in(taken)
        else:
            held: list[tuple[Chunk, int]] = []
            again = functools.partial(self._again, held)
            taken = sift(taken, recording.settling, self._kinds, again)
            self._ledger.take_in(taken)
            invalid = [refusal.position for refusal in taken.refusals]
            recording.take_in(part, intake.next_ordinal(part), invalid)
            for chunk, row in held:  # once they are counted as read
                self._hold_back(recording, chunk, row)
        if self._acks is not None:
            self._acks.took(part, taken)
        return taken

    def read(self, block: Block, intake: Intake) -> None:
        """Note where what follows a block begins."""
        if self._recording is not None and block.resumable:
            ordinal = intake.next_ordinal(block.part)
            self._recording.begins(block.part, Place(ordinal, block.following, block.end_offset))
        if self._acks is not None:
            self._acks.read(block)

    def _again(self, held: list[tuple[Chunk, int]], chunk: Chunk, row: int) -> bool:
        """Deal with a record that may have arrived: count the copy, or put it to the `held`."""
        assert self._recording is not None
        slot, at = chunk.slots[row], chunk.positions[row]
        if not self._hold(slot, bytes(chunk.fragments[row])):
            self._ledger.balance.maybe_duplicated += 1
            self._recording.mind(at)
            self._doubted.add(at)
            return True
        self._recording.settling.doubt(at)  # whatever comes in between
        held.append((chunk, row))
        return False

    def _hold_back(self, recording: Recording, chunk: Chunk, row: int) -> None:
        """Write down that a record is held which may have arrived."""
        slot, at = chunk.slots[row], chunk.positions[row]
        fragment = bytes(chunk.fragments[row])
        columns = [EMPTY_COLUMN] * len(self._kinds)
        columns[slot] = Column.of([fragment], [chunk.keys[row]], [at], [chunk.lines[row]])
        batch = Batch(0, 0, tuple(columns), partition=chunk.partition)
        held = Verdict(slot, 0, "held", "unanswered", IN_FLIGHT)
        answer = Answer(Unanswered(None, IN_FLIGHT))
        self._ledger.settle(batch, answer, Disposition(verdicts=(held,)), attempts=1)
        recording.settle([at])

    # Sending

    def note(self, batches: Sequence[Batch]) -> None:
        """Note batches that are sent now. Raises `LocalFailure`: then none of them must be."""
        if self._recording is None:
            return
        self._recording.note_all(
            {batch.id: [column.positions for column in batch.columns] for batch in batches}
        )
        try:
            self._recording.write()
        except LocalFailure:
            for batch in batches:  # they may be written all the same, where little room was left
                self.withdraw(batch)
            raise

    async def own_up(self) -> None:
        """Return when every copy that was counted may be sent. Raises `LocalFailure`."""
        if self._recording is not None and self._recording.owes:
            await self._recording.durable()

    @property
    def owes(self) -> bool:
        """Whether copies were counted that must not be sent yet."""
        return self._recording is not None and self._recording.owes

    def withdraw(self, batch: Batch) -> None:
        """Take a note back: the batch was not sent."""
        if self._recording is not None:
            self._recording.conclude(batch.id, ())

    def doubted(self, batch: Batch) -> frozenset[tuple[int, int]]:
        """Return the (slot, index) of the records that an earlier process may have sent."""
        if not self._doubted:
            return frozenset()
        return frozenset(
            (slot, index)
            for slot, column in enumerate(batch.columns)
            for index, at in enumerate(column.positions)
            if at in self._doubted
        )

    def abandon(
        self, batch: Batch, answer: Answer, disposition: Disposition, *, attempts: int
    ) -> None:
        """Write down what is held of a batch that got no answer, for the run was stopped.

        It stays noted: who goes on with the run has to know that the rest may have arrived.
        """
        self._ledger.settle(batch, answer, disposition, attempts=attempts)
        if self._recording is not None:
            self._recording.settle(sorted(_ended(batch, disposition)))
        self._acknowledge(batch, disposition, all_ended=False)

    def settle(
        self, batch: Batch, answer: Answer, disposition: Disposition, *, attempts: int
    ) -> None:
        """Write down what became of a batch that was sent, letters first."""
        self._ledger.settle(batch, answer, disposition, attempts=attempts)
        all_ended = not disposition.pieces
        if self._recording is not None:
            ended = None if all_ended else _ended(batch, disposition)
            self._recording.conclude(batch.id, ended)
        self._acknowledge(batch, disposition, all_ended=all_ended)

    def settle_plain(self, batches: Sequence[Batch]) -> None:
        """Write down batches that were taken as they are, as `settle` does for each."""
        self._ledger.settle_plain(batches)
        if self._recording is not None:
            self._recording.conclude_all([batch.id for batch in batches])
        if self._acks is not None:
            for batch in batches:
                self._acknowledge(batch, ALL_DELIVERED, all_ended=True)

    def _acknowledge(self, batch: Batch, disposition: Disposition, *, all_ended: bool) -> None:
        if self._acks is None:
            return
        verdicts = disposition.verdicts
        staying = () if all_ended else {*batch.rows()} - {(one.slot, one.index) for one in verdicts}
        self._acks.settle(batch, (*verdicts, *disposition.warned), staying)


def _ended(batch: Batch, disposition: Disposition) -> list[int]:
    """Return the positions of the records that have their end by a verdict."""
    columns = batch.columns
    return [columns[one.slot].positions[one.index] for one in disposition.verdicts]
