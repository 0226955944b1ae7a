"""Law 6, and the end of every batch: bad records cost themselves only, and tries are bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.dispositions import RetryPolicy, Verdict, Weather
from ingest.outcomes import Delivered, Outcome, Refused, TooLarge, TooMany, Unanswered, Unavailable
from ingest.profiles import Caps
from ingest.records import Batch
from ingest.resends import Resends
from ingest.retry import decide
from tests.batches import SLOTS, batch_of, positions_of
from tests.examples import examples

POLICY = RetryPolicy()
CAPS = Caps((75, 75, 75), 225, 4_000_000)
BAD_GATEWAY = Unavailable(502, "the destination answered 502")
NO_ANSWER = Unanswered(504, "the destination answered 504")
BAD_REQUEST = Refused(400, "the destination answered 400")


class Told(msgspec.Struct):
    """What came of one batch that was sent to a destination until it was settled."""

    delivered: set[int]
    verdicts: dict[int, Verdict]
    requests: int
    before_bisecting: int


def settle(
    batch: Batch,
    answer: Callable[[Batch], Outcome],
    policy: RetryPolicy = POLICY,
    *,
    folded: bool = False,
) -> Told:
    """Send a batch, its pieces and their pieces while others succeed, until all is settled."""
    told = Told(set(), {}, 0, 0)
    resends = Resends()
    resends.start(batch)
    queue = deque(resends.unsettled())
    now, ids = 0.0, iter(range(1_000, 100_000))
    while queue:
        case = queue.popleft()
        told.requests += 1
        if not resends.bisected(batch.family):
            told.before_bisecting += 1
        weather = Weather(others_succeed=True, bisected=resends.bisected(batch.family))
        found = decide(
            case.batch,
            answer(case.batch),
            case.tries,
            weather,
            POLICY,
            CAPS,
            repeatable=lambda slot, index: False,
            jitter=0.5,
            folded=folded,
        )
        ended = {(verdict.slot, verdict.index): verdict for verdict in found.verdicts}
        for slot, index in case.batch.rows():
            at = case.batch.columns[slot].positions[index]
            if verdict := ended.get((slot, index)):
                assert at not in told.verdicts
                told.verdicts[at] = verdict
            elif found.delivered:
                assert at not in told.delivered
                told.delivered.add(at)
        if found.bisecting:
            resends.note_bisecting(batch.family, now)
        if not found.pieces:
            list(resends.settle(case))
        elif found.pieces[0].rows is None:
            resends.again(case, found.pieces[0].tries, now)
        else:
            pieces = [
                (case.batch.take(piece.rows or (), id=next(ids)), piece.tries)
                for piece in found.pieces
            ]
            resends.split(case, pieces, now)
        while (due := resends.take(now)) is not None:
            queue.append(due)
    assert len(resends) == 0
    return told


def disliking(poisoned: set[int], outcome: Outcome) -> Callable[[Batch], Outcome]:
    """Answer 201 to every batch but those that hold a poisoned position."""

    def answer(batch: Batch) -> Outcome:
        return outcome if poisoned & set(positions_of(batch)) else Delivered(201)

    return answer


many = st.integers(1, 225).flatmap(
    lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), max_size=40))
)


@settings(max_examples=examples(300), deadline=None)
@given(many, st.booleans())
@example((225, {0, 224}), False)
@example((75, {10, 60}), True)
def test_bisecting_keeps_its_cap(case: tuple[int, set[int]], server_error: bool) -> None:
    """However many records are poisoned, 30 requests follow the first, and only leftovers fail."""
    size, poisoned = case
    batch = batch_of([(i % SLOTS, f"u{i}") for i in range(size)])
    told = settle(batch, disliking(poisoned, BAD_GATEWAY if server_error else BAD_REQUEST))

    assert told.delivered | set(told.verdicts) == set(range(size))
    assert not told.delivered & set(told.verdicts)
    assert not told.delivered & poisoned
    assert told.requests - told.before_bisecting <= POLICY.bisect_requests
    if size > 1:
        assert told.before_bisecting <= (POLICY.strikes_to_bisect if server_error else 1)
    for at, verdict in told.verdicts.items():
        if verdict.column == "rejected":
            assert at in poisoned
            assert not server_error
        else:
            assert verdict.column == "failed"


@settings(max_examples=examples(200), deadline=None)
@given(st.data(), st.integers(1, 225))
def test_two_poisoned_records_cost_only_themselves(data: st.DataObject, size: int) -> None:
    """A 400 without an index: all good records arrive, and the bad ones alone are rejected."""
    poisoned = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=2))
    batch = batch_of([(i % SLOTS, f"u{i % 9}") for i in range(size)])
    told = settle(batch, disliking(poisoned, BAD_REQUEST))
    assert told.delivered == set(range(size)) - poisoned
    assert {verdict.column for verdict in told.verdicts.values()} == {"rejected"}


@settings(max_examples=examples(200), deadline=None)
@given(st.data(), st.integers(1, 225))
def test_a_record_that_brings_a_500_costs_only_itself(data: st.DataObject, size: int) -> None:
    """5xx while others succeed: all good records arrive, and the bad one alone has failed."""
    poisoned = {data.draw(st.integers(0, size - 1))}
    batch = batch_of([(i % SLOTS, f"u{i % 9}") for i in range(size)])
    told = settle(batch, disliking(poisoned, BAD_GATEWAY))
    assert told.delivered == set(range(size)) - poisoned
    assert {verdict.code for verdict in told.verdicts.values()} == {"gave-up"}


@settings(max_examples=examples(100), deadline=None)
@given(st.integers(2, 200), st.integers(1, 15), st.data())
def test_a_user_that_is_refused_costs_only_itself(
    users: int, each: int, data: st.DataObject
) -> None:
    """Where users are items: however its records are spread over a batch, the others arrive."""
    bad = data.draw(st.integers(0, users - 1))
    rows = users * each
    batch = batch_of([(1, f"u{i % users}") for i in range(rows)])
    told = settle(batch, disliking(set(range(bad, rows, users)), BAD_REQUEST), folded=True)
    assert told.delivered == {i for i in range(rows) if i % users != bad}


# --- nothing goes on for ever -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "sends"),
    [(BAD_REQUEST, 31), (BAD_GATEWAY, 33), (NO_ANSWER, 10), (Refused(404, "no such path"), 10)],
)
def test_a_batch_that_never_works_while_others_do_is_given_up(outcome: Outcome, sends: int) -> None:
    """Law 12: tries are bounded by number, whatever kind of failure it is."""
    told = settle(batch_of([(1, f"u{i}") for i in range(64)]), lambda batch: outcome)
    assert told.requests <= sends
    assert not told.delivered
    assert {verdict.column for verdict in told.verdicts.values()} <= {"failed", "rejected"}


@pytest.mark.parametrize("outcome", [TooMany(400), TooLarge(413)])
def test_a_batch_that_never_fits_ends_with_single_records(outcome: Outcome) -> None:
    """Cutting goes on down to one record, and that one is rejected with a sentence."""
    told = settle(batch_of([(1, "u")] * 10), lambda batch: outcome)
    assert {verdict.column for verdict in told.verdicts.values()} == {"rejected"}
    assert len(told.verdicts) == 10
