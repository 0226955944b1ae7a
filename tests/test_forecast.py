"""How many requests an import needs, foretold by packing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.agenda import READ_AHEAD_BATCHES
from ingest.forecast import Forecast
from ingest.profiles import Caps, CapsLadder
from ingest.records import KINDS, Batch, Chunk, UserKey

PLENTY = 100_000_000

WIDE = Caps((9, 9, 9), 27, 4_000)
STEPS = (WIDE, WIDE.at_most(9), WIDE.at_most(6))

RECORDS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(2, 300)), max_size=400
)
"""(slot, user, bytes) of each record."""


def chunks_of(records: Sequence[tuple[int, int, int]], size: int = 64) -> list[Chunk]:
    """Return records as chunks, as an intake cuts them."""
    chunks = []
    for start in range(0, len(records), size):
        some = records[start : start + size]
        keys: list[UserKey] = [f"u{user}" for _, user, _ in some]
        chunks.append(
            Chunk(
                [b"x" * nbytes for _, _, nbytes in some],
                bytes(slot for slot, _, _ in some),
                keys,
                range(start, start + len(some)),
                range(start, start + len(some)),
                sum(nbytes for _, _, nbytes in some),
            )
        )
    return chunks


def forecast_of(
    records: Sequence[tuple[int, int, int]],
    *,
    ladder: CapsLadder | None = None,
    takes: Caps = WIDE,
    memory: int = PLENTY,
    seen: list[Batch] | None = None,
) -> Forecast:
    """Return a forecast that took in all records."""
    found = Forecast(
        slots=len(KINDS),
        overhead=60,
        folding=None,
        ladder=ladder or CapsLadder((takes,)),
        takes=takes,
        memory=memory,
        accepted=(lambda batch: None) if seen is None else seen.append,
    )
    for chunk in chunks_of(records):
        found.add(chunk)
    return found


@settings(deadline=None)
@given(RECORDS, st.sampled_from(STEPS), st.booleans(), st.sampled_from([5_000, 50_000, PLENTY]))
def test_every_record_is_in_one_accepted_request(
    records: list[tuple[int, int, int]], takes: Caps, knows: bool, memory: int
) -> None:
    """Whatever the account takes, whoever the users are: nothing is lost, doubled or too large."""
    seen: list[Batch] = []
    ladder = CapsLadder((takes,)) if knows else CapsLadder(STEPS)
    needs = forecast_of(records, ladder=ladder, takes=takes, memory=memory, seen=seen).end()
    places = Counter(at for batch in seen for column in batch.columns for at in column.positions)
    assert places == Counter(range(len(records)))
    assert all(len(batch) <= takes.total for batch in seen)
    assert needs.requests == len(seen) + needs.refused
    assert needs.requests == needs.cost
    assert needs.refused == 0 or not knows


@settings(deadline=None)
@given(RECORDS)
def test_the_records_of_a_user_keep_their_order(records: list[tuple[int, int, int]]) -> None:
    """Requests that are refused as too large are cut, and go again in the order of the source."""
    seen: list[Batch] = []
    forecast_of(records, ladder=CapsLadder(STEPS), takes=STEPS[2], seen=seen).end()
    last: dict[UserKey, int] = {}
    for batch in seen:
        of: dict[UserKey, list[int]] = {}
        for column in batch.columns:
            for key, at in zip(column.keys, column.positions, strict=True):
                of.setdefault(key, []).append(at)
        for key, places in of.items():
            assert min(places) > last.get(key, -1)
            last[key] = max(places)


def test_distinct_users_fill_every_request() -> None:
    """A thousand users of one kind need as many requests as their number divided by the cap."""
    needs = forecast_of([(0, user, 10) for user in range(1_000)]).end()
    assert needs.requests == -(-1_000 // 9)
    assert needs.largest == 1
    assert needs.nbytes == 1_000 * 10 + 1_000 - needs.requests


def test_a_ladder_costs_the_requests_that_it_learns_by() -> None:
    """An account that takes less than was hoped refuses a probe for each step down."""
    records = [(at % 3, at, 10) for at in range(2_000)]
    hoped = forecast_of(records, ladder=CapsLadder(STEPS), takes=STEPS[2]).end()
    known = forecast_of(records, takes=STEPS[2]).end()
    assert hoped.refused == 2
    assert known.refused == 0
    assert known.requests < hoped.requests < known.requests + 20


def test_no_more_is_held_than_a_run_would() -> None:
    """Records go as soon as a run would stop reading, be it for their number or their bytes."""
    many = forecast_of([(0, user, 10) for user in range(5_000)])
    assert 5_000 - many.needs.requests * 9 <= READ_AHEAD_BATCHES * WIDE.fill
    fat = forecast_of([(0, user, 300) for user in range(500)], memory=20_000)
    assert fat.needs.requests > 0


@pytest.mark.parametrize("in_flight", [1, 3, 50])
def test_few_users_do_not_stop_it(in_flight: int) -> None:
    """With fewer users than requests in flight, answers are awaited, and all is sent."""
    records = [(1, at % 2, 20) for at in range(300)]
    found = Forecast(
        slots=3,
        overhead=60,
        folding=None,
        ladder=CapsLadder((WIDE,)),
        takes=WIDE,
        memory=10_000,
        in_flight=in_flight,
    )
    for chunk in chunks_of(records):
        found.add(chunk)
    assert found.end().requests >= 300 / 9
