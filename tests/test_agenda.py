"""What goes next: fresh records that wait for others, and those that somebody hurries."""

from __future__ import annotations

from ingest.agenda import Agenda
from ingest.batcher import Batcher
from ingest.profiles import Caps, CapsLadder
from ingest.retry import Disposition
from tests.batches import SLOTS, chunk_of

CAPS = Caps((9, 9, 9), 27, 4_000)
LINGER = 5.0


def agenda_of(records: int) -> Agenda:
    """An agenda with so few records that a request waits for more."""
    agenda = Agenda(
        Batcher(slots=SLOTS, overhead=10), CapsLadder((CAPS,)), memory=1_000_000, linger=LINGER
    )
    agenda.add(chunk_of([(1, f"u{n}") for n in range(records)]))
    return agenda


def test_records_wait_for_others_to_fill_their_request() -> None:
    """Until the waiting is over, by the moment that was foretold."""
    agenda = agenda_of(3)
    assert agenda.take(1.0) is None
    assert agenda.next_moment(1.0) == LINGER
    assert agenda.take(1.0 + LINGER - 0.1) is None
    case = agenda.take(1.0 + LINGER)
    assert case is not None
    assert len(case.batch) == 3


def test_who_hurries_waits_for_nobody() -> None:
    """All that is there goes at once; what comes after waits as ever."""
    agenda = agenda_of(3)
    assert agenda.take(1.0) is None
    agenda.hurry()
    case = agenda.take(1.0)
    assert case is not None
    agenda.add(chunk_of([(1, "later")], first=3))
    assert agenda.take(1.0) is None
    agenda.settle(case, Disposition(delivered=True), 1.0)
    assert agenda.records == 1


def test_what_was_taken_and_did_not_go_goes_again() -> None:
    """A permit that did not come leaves everything as it was."""
    agenda = agenda_of(3)
    agenda.source_ended = True
    case = agenda.take(1.0)
    assert case is not None
    agenda.put_back(case, 1.0)
    assert agenda.retries_waiting == 1
    assert agenda.take(1.0) is case
    agenda.settle(case, Disposition(delivered=True), 1.0)
    assert agenda.done
