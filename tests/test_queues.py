"""Rows are queued and cut without looking at them, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.queues import Queue, Rows, bytes_of, fitting


def rows_of(first: int, count: int) -> Rows:
    """Return rows that are told apart by their position."""
    return Rows(
        [b"%d" % at for at in range(first, first + count)],
        [f"u{at}" for at in range(first, first + count)],
        range(first, first + count),
        range(first + 1, first + count + 1),
    )


@given(st.lists(st.integers(1, 9), max_size=8), st.lists(st.integers(0, 12), max_size=20))
def test_a_queue_gives_back_what_it_got_in_order(adds: list[int], takes: list[int]) -> None:
    """However it is filled and emptied, `first` shows the oldest rows and `drop` removes them."""
    queue, added, taken = Queue(), 0, []
    for count in adds:
        queue.add(rows_of(added, count))
        added += count
    for count in takes:
        pieces = queue.first(count)
        found = [at for rows in pieces for at in rows.positions]
        assert [key for rows in pieces for key in rows.keys] == [f"u{at}" for at in found]
        assert queue.positions(count) == found
        assert len(found) == min(count, len(queue))
        if len(queue):
            assert queue.oldest() == queue.positions(1)[0]
        queue.drop(len(found))
        taken += found
    assert taken == list(range(len(taken)))
    assert len(queue) == added - len(taken)


def test_what_fits_is_the_oldest_of_all_slots() -> None:
    """A record costs its bytes and a comma; the first that does not fit ends it for all slots."""
    pieces = [[rows_of(0, 2), rows_of(4, 1)], [rows_of(2, 2)]]
    assert bytes_of(pieces) == 10
    assert fitting(pieces, 10) == [3, 2]
    assert fitting(pieces, 9) == [2, 2]
    assert fitting(pieces, 5) == [2, 0]
    assert fitting(pieces, 1) == [0, 0]
