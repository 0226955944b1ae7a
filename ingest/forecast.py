"""How many requests an import of these records needs: they are packed, and nothing is sent.

Decides by the real batcher and the real ladder of caps, played against an account that takes what
it is said to take and answers in the order of the requests. A batch is taken when an import that
reads faster than it sends would take one. Knows no time: what a destination delays, or fails, is
not in it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import msgspec

from ingest.agenda import Agenda
from ingest.batcher import Batcher
from ingest.dispositions import Disposition
from ingest.filling import Folding
from ingest.inflight import FIRST
from ingest.profiles import Caps, CapsLadder
from ingest.records import Batch, Chunk
from ingest.resends import Case
from ingest.retry import repacked


class Needs(msgspec.Struct):
    """What an import needs: requests, of them refused as too large, their cost and their bytes.

    `cost` is in what the budget counts, `largest` that of the dearest request.
    """

    requests: int = 0
    refused: int = 0
    cost: int = 0
    largest: int = 0
    nbytes: int = 0


class Forecast:
    """Packs chunks as an import to one account would, and counts the requests.

    `takes` are the caps that the account really has, `ladder` what the import thinks of them.
    `memory` is the byte budget. `cost_of` and `bytes_of` say what a request costs, and how long its
    body is; `accepted` is shown each batch that the account takes: every record once.
    """

    def __init__(
        self,
        *,
        slots: int,
        overhead: int,
        folding: Folding | None,
        ladder: CapsLadder,
        takes: Caps,
        memory: int,
        in_flight: int = FIRST,
        cost_of: Callable[[Batch], int] = lambda batch: 1,
        bytes_of: Callable[[Batch], int] = lambda batch: batch.nbytes,
        accepted: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        self.needs = Needs()
        self.takes = takes
        batcher = Batcher(slots=slots, overhead=overhead, folding=folding)
        self._agenda = Agenda(batcher, ladder, memory=memory, linger=math.inf)
        # A reader that is ahead of the sending waits; what is being read then fills nothing more.
        self._agenda.reader_waits = True
        self._ladder = ladder
        self._allowed = in_flight
        self._cost_of = cost_of
        self._bytes_of = bytes_of
        self._accepted = accepted
        self._flying: deque[Case] = deque()

    def add(self, chunk: Chunk) -> None:
        """Take in a chunk, and send as long as a run would not read on."""
        self._agenda.add(chunk)
        while self._agenda.enough:
            self._step()

    def end(self) -> Needs:
        """Send all that is left, and return what was needed."""
        self._agenda.source_ended = True
        while not self._agenda.done:
            self._step()
        return self.needs

    def _step(self) -> None:
        """Send a request, or hear the answer to the oldest one: one of them can always be done."""
        if len(self._flying) >= self._allowed or not self._sends():
            self._answer()

    def _sends(self) -> bool:
        case = self._agenda.take(0.0)
        if case is None:
            return False
        needs, cost = self.needs, self._cost_of(case.batch)
        needs.requests += 1
        needs.cost += cost
        needs.largest = max(needs.largest, cost)
        needs.nbytes += self._bytes_of(case.batch)
        self._ladder.sent(case.batch.id, len(case.batch))
        self._flying.append(case)
        return True

    def _answer(self) -> None:
        case, ladder = self._flying.popleft(), self._ladder
        batch = case.batch
        ladder.answered(batch.id)
        slots = zip(batch.columns, self.takes.per_slot, strict=True)
        if len(batch) <= self.takes.total and all(len(column) <= most for column, most in slots):
            ladder.accepted(len(batch))
            self._accepted(batch)
            self._agenda.settle(case, Disposition(delivered=True), 0.0)
            return
        self.needs.refused += 1
        ladder.refused(len(batch), batch.generation)
        pieces = repacked(batch, case.tries, ladder.sure)
        self._agenda.settle(case, Disposition(pieces=pieces), 0.0)
