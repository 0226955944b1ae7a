"""What goes next: fresh records that wait for others, and those that somebody hurries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.agenda import Agenda
from ingest.batcher import Batcher
from ingest.dispositions import Disposition, Piece, Tries
from ingest.profiles import Caps, CapsLadder
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


@given(counts=st.lists(st.integers(1, 40), max_size=8), most=st.integers(0, 9))
def test_several_full_requests_are_those_that_go_one_by_one(counts: list[int], most: int) -> None:
    """In the same order, and nothing is taken that is not full."""
    several, each = (agenda_of(0) for _ in range(2))
    first = 0
    for count in counts:
        for agenda in (several, each):
            agenda.add(chunk_of([(1, f"u{first + n}") for n in range(count)], first=first))
        first += count
    together = several.take_full(most, 1.0)
    assert len(together) == min(most, sum(counts) // 9)
    for case in together:
        alone = each.take(1.0)
        assert alone is not None
        assert case.batch == alone.batch
    assert several.records == each.records == first
    several.delivered(together)
    assert several.records == first - 9 * len(together)


def test_what_needs_no_probe_is_taken_at_once_before_one_was_made() -> None:
    """Records of one kind never fill what a probe would find out, and are as many as they may."""
    wide = CapsLadder((CAPS, Caps((9, 9, 9), 9, 4_000)))
    agenda = Agenda(Batcher(slots=SLOTS, overhead=10), wide, memory=1_000_000, linger=LINGER)
    agenda.add(chunk_of([(1, f"u{n}") for n in range(20)]))
    assert [case.batch.records for case in agenda.take_full(9, 1.0)] == [9, 9]
    agenda.add(chunk_of([(slot, f"v{slot}{n}") for slot in range(3) for n in range(9)], first=20))
    assert agenda.take_full(9, 1.0) == []
    probe = agenda.take(1.0)
    assert probe is not None
    assert probe.batch.records == 27


def test_what_goes_again_later_holds_up_nothing() -> None:
    """Until it is due, whatever is full goes at once beside it; its users wait."""
    agenda = agenda_of(36)
    later, *_ = agenda.take_full(1, 1.0)
    agenda.settle(later, Disposition(pieces=(Piece(None, Tries(sends=1)),), delay=5.0), 1.0)
    agenda.add(chunk_of([(1, "u0"), *((1, f"v{n}") for n in range(9))], first=36))
    beside = agenda.take_full(9, 5.9)
    assert [case.batch.records for case in beside] == [9] * 4
    assert all(later.batch.users().isdisjoint(case.batch.users()) for case in beside)
    assert agenda.take_full(9, 6.0) == []
    assert agenda.take(6.0) is later


def test_nothing_is_taken_at_once_where_there_is_more_to_mind() -> None:
    """What goes again comes first, a probe goes alone, and bodies have their share of memory."""
    agenda = agenda_of(36)
    again, *_ = agenda.take_full(9, 1.0)
    agenda.settle(again, Disposition(pieces=(Piece(None, Tries(sends=1)),)), 1.0)
    agenda.add(chunk_of([(1, f"v{n}") for n in range(9)], first=36))
    assert agenda.take_full(9, 1.0) == []
    assert agenda.take(1.0) is again
    assert len(agenda.take_full(9, 1.0)) == 1

    probing = Agenda(
        Batcher(slots=SLOTS, overhead=10),
        CapsLadder((CAPS, Caps((3, 3, 3), 3, 4_000))),
        memory=1_000_000,
        linger=LINGER,
    )
    probing.add(chunk_of([(1, f"u{n}") for n in range(36)]))
    assert probing.take_full(9, 1.0) == []

    small = Agenda(
        Batcher(slots=SLOTS, overhead=10), CapsLadder((CAPS,)), memory=300, linger=LINGER
    )
    small.add(chunk_of([(1, f"u{n}") for n in range(36)]))
    assert len(small.take_full(9, 1.0)) == 1
