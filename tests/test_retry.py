"""Laws of dispositions: every record of a batch has one end, or goes again once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.dispositions import TAKEN, Disposition, RetryPolicy, Row, Tries, Verdict, Weather
from ingest.outcomes import (
    Delivered,
    Invalid,
    ItemError,
    Outcome,
    Refused,
    Remark,
    Throttled,
    TooLarge,
    TooMany,
    Unanswered,
    Unauthorized,
    Unavailable,
)
from ingest.profiles import Caps
from ingest.records import Batch, UserKey
from ingest.retry import ABOUT_DATA, backoff, decide, in_source_order, plainly
from tests.batches import SLOTS, batch_of, rows_strategy
from tests.examples import examples

POLICY = RetryPolicy()
CAPS = Caps((75, 75, 75), 225, 4_000_000)
CLEAR = Weather()
OTHERS_FINE = Weather(others_succeed=True)
BAD_GATEWAY = Unavailable(502, "the destination answered 502")
NO_ANSWER = Unanswered(504, "the destination answered 504")
BAD_REQUEST = Refused(400, "the destination answered 400")


def never(slot: int, index: int) -> bool:
    """Call no record repeatable."""
    return False


def said(
    batch: Batch,
    outcome: Outcome,
    tries: Tries | None = None,
    weather: Weather = CLEAR,
    *,
    policy: RetryPolicy = POLICY,
    caps: Caps = CAPS,
    repeatable: Callable[[int, int], bool] = never,
    jitter: float = 0.5,
    asked_delay: float = 0.0,
    folded: bool = False,
    doubted: Sequence[Row] = (),
) -> Disposition:
    """Decide with everything that a case does not speak of at its default."""
    return decide(
        batch,
        outcome,
        tries or Tries(),
        weather,
        policy,
        caps,
        repeatable=repeatable,
        jitter=jitter,
        asked_delay=asked_delay,
        folded=folded,
        doubted=doubted,
    )


def items(batch: Batch, picks: list[tuple[int, str]]) -> tuple[ItemError, ...]:
    """Return verdicts on the picked records of the batch, several of them on one at times."""
    rows = list(batch.rows())
    return tuple(
        ItemError(*rows[i % len(rows)], code, f"it is {code}", already=code == "worse")
        for i, code in picks
    )


picks_of = st.lists(
    st.tuples(st.integers(0, 23), st.sampled_from(["bad", "worse"])), min_size=1, max_size=6
)
REASON = "the destination said so"
outcomes: st.SearchStrategy[Callable[[Batch], Outcome]] = st.one_of(
    st.sampled_from([201, 202]).map(lambda status: lambda batch: Delivered(status)),
    picks_of.map(lambda picks: lambda batch: Delivered(201, items(batch, picks))),
    picks_of.map(lambda picks: lambda batch: Invalid(400, items(batch, picks))),
    st.sampled_from(
        [
            Throttled(429),
            *(Unavailable(status, REASON) for status in (None, 408, 500, 502, 503)),
            *(Unanswered(status, REASON) for status in (None, 500, 504)),
            TooLarge(413),
            TooMany(400),
            *(Refused(status, REASON) for status in (302, 400, 404, 405, 422)),
            *(Unauthorized(status, REASON) for status in (401, 403)),
        ]
    ).map(lambda outcome: lambda batch: outcome),
)
"""Whatever a destination may say to a batch."""
tries_of = st.builds(
    Tries,
    st.integers(0, 40),
    st.integers(0, 2_000),
    st.integers(0, 12),
    st.booleans(),
    st.booleans(),
)
weathers = st.builds(Weather, st.booleans(), st.booleans(), st.booleans(), st.integers(0, 40))
policies = st.builds(
    RetryPolicy, hold_unanswered=st.frozensets(st.integers(0, SLOTS - 1), max_size=SLOTS)
)
caps_of = st.builds(
    Caps, st.tuples(*[st.integers(1, 9)] * SLOTS), st.integers(1, 27), st.just(4_000_000)
)


@settings(max_examples=examples(500), deadline=None)
@given(
    rows=rows_strategy(),
    says=outcomes,
    picked=st.sets(st.integers(0, 23)),
    tries=tries_of,
    weather=weathers,
    policy=policies,
    caps=caps_of,
    jitter=st.floats(0, 1, exclude_max=True),
    asked=st.sampled_from([0.0, 0.0, 7.0, 3_600.0]),
    folded=st.booleans(),
)
def test_every_record_ends_once_or_goes_again_once(
    rows: list[tuple[int, UserKey]],
    says: Callable[[Batch], Outcome],
    picked: set[int],
    tries: Tries,
    weather: Weather,
    policy: RetryPolicy,
    caps: Caps,
    jitter: float,
    asked: float,
    folded: bool,
) -> None:
    """Whatever is said in whatever weather: delivered, verdicts and pieces are the whole batch."""
    batch = batch_of(rows)
    outcome = says(batch)
    repeatables = {row for i, row in enumerate(batch.rows()) if i in picked}

    found = said(
        batch,
        outcome,
        tries,
        weather,
        policy=policy,
        caps=caps,
        repeatable=lambda slot, index: (slot, index) in repeatables,
        jitter=jitter,
        asked_delay=asked,
        folded=folded,
    )

    assert not plainly(outcome) or found == Disposition(delivered=True)
    every = in_source_order(batch)
    judged: list[Row] = [(verdict.slot, verdict.index) for verdict in found.verdicts]
    again = [row for piece in found.pieces for row in piece.rows or every]
    assert len(set(judged)) == len(judged)
    assert len(set(again)) == len(again)
    assert not set(judged) & set(again)
    assert set(judged) | set(again) <= set(every)
    if found.delivered:
        assert isinstance(outcome, Delivered)
        assert not again
    else:
        assert set(judged) | set(again) == set(every)
    assert all(piece.rows is None or piece.rows for piece in found.pieces)
    assert not any(piece.rows is None for piece in found.pieces[1:])

    check_verdicts(found, outcome, policy, repeatables, doubted=tries.doubted)
    check_pieces(batch, found, outcome, tries, caps)
    check_numbers(found, outcome, tries, weather, policy, asked)


def check_verdicts(
    found: Disposition,
    outcome: Outcome,
    policy: RetryPolicy,
    repeatables: set[Row],
    *,
    doubted: bool,
) -> None:
    """Verdicts have a column of theirs and a sentence; only what must not repeat is held."""
    for verdict in found.verdicts:
        assert verdict.column in ("rejected", "failed", "held", TAKEN)
        assert verdict.code
        assert verdict.reason
        assert verdict.status == outcome.status
        if verdict.column == TAKEN:
            assert doubted
        if verdict.column == "held":
            assert isinstance(outcome, Unanswered)
            assert verdict.slot in policy.hold_unanswered
            assert (verdict.slot, verdict.index) not in repeatables
    if isinstance(outcome, Throttled | Unauthorized):
        assert not found.verdicts


def check_pieces(
    batch: Batch, found: Disposition, outcome: Outcome, before: Tries, caps: Caps
) -> None:
    """Pieces are in source order or share no user, fit the caps, and remember their sends."""
    positions = [column.positions for column in batch.columns]
    cut = [
        [positions[slot][index] for slot, index in piece.rows]
        for piece in found.pieces
        if piece.rows is not None
    ]
    if len(cut) > 1 and not all(max(one) < min(other) for one, other in pairwise(cut)):
        users = [
            {batch.columns[slot].keys[index] for slot, index in p.rows or ()} for p in found.pieces
        ]
        assert not any(one & other for one, other in combinations(users, 2))
    for piece in found.pieces:
        rows = in_source_order(batch) if piece.rows is None else piece.rows
        for slot in range(SLOTS):
            indices = [index for of, index in rows if of == slot]
            assert indices == sorted(indices)
        assert piece.tries.sends == before.sends + 1
        assert piece.tries.suspect or not before.suspect
        if isinstance(outcome, TooMany):
            assert len(rows) <= caps.total
            assert len(rows) < len(batch)
            counts = Counter(slot for slot, _ in rows)
            assert all(counts[slot] <= caps.per_slot[slot] for slot in range(SLOTS))


def check_numbers(
    found: Disposition,
    outcome: Outcome,
    before: Tries,
    weather: Weather,
    policy: RetryPolicy,
    asked: float,
) -> None:
    """Delays keep the floor and the cap, an outage strikes nobody, bisecting stays in its cap."""
    assert found.delay == 0.0 or found.delay <= max(asked, policy.cap)
    if found.pieces and isinstance(outcome, Throttled | Unavailable | Unanswered):
        assert found.delay >= asked
    if isinstance(outcome, Refused) and outcome.status not in ABOUT_DATA and found.pieces:
        assert found.delay >= policy.refusal_delay
    if weather.outage and isinstance(outcome, Unavailable | Unanswered):
        assert all(verdict.column == "held" for verdict in found.verdicts)
        assert not found.bisecting or weather.alone
        assert found.bisecting or all(
            piece.tries.strikes == before.strikes for piece in found.pieces
        )
    if found.bisecting:
        assert weather.bisected + 2 <= policy.bisect_requests
        # A refusal judges the data; only failures make a piece suspect.
        suspect = isinstance(outcome, Unavailable | Unanswered) or before.suspect
        assert [piece.tries.suspect for piece in found.pieces] == [suspect, suspect]
    resent = sum(len(piece.rows) for piece in found.pieces if piece.rows is not None)
    if not isinstance(outcome, Unanswered):
        assert found.duplicated == 0
    elif found.pieces and found.pieces[0].rows is not None:
        assert found.duplicated == resent
    else:
        assert (found.duplicated > 0) == bool(found.pieces)


# --- cases one by one ---------------------------------------------------------------------------


def test_what_is_taken_as_it_is_needs_no_decision() -> None:
    """Nor anything that is known of it but the answer."""
    assert plainly(Delivered(201))
    assert not plainly(Delivered(202, queued=True))
    assert not plainly(Delivered(201, remarks=(Remark("x", "odd"),)))
    assert not plainly(Delivered(201, rejected=(ItemError(0, 0, "x", "bad"),)))
    assert not plainly(Delivered(201, pieces=(ItemError(0, 0, "x", "bad"),)))
    assert not plainly(Throttled(429))


def test_a_wrong_path_judges_nobody_until_others_succeed() -> None:
    """With nothing delivered, 404 sends the same bytes again soon: the caller counts and halts."""
    found = said(batch_of([(1, "u")]), Refused(404, "no such path"), Tries(50, 50, 50))
    assert found.pieces[0].tries == Tries(51, 50, 50)
    assert found.delay == pytest.approx(POLICY.refusal_delay * 1.5)


def test_several_errors_of_one_record_are_one_verdict() -> None:
    """The first code names it, the sentences are joined, and doubled ones are said once."""
    errors = tuple(
        ItemError(1, 0, code, reason)
        for code, reason in [("a", "no name"), ("b", "no time"), ("a", "no name")]
    )
    found = said(batch_of([(1, "u"), (1, "v")]), Delivered(201, errors))
    assert found.verdicts == (Verdict(1, 0, "rejected", "a", "no name; no time", 201),)
    assert found.delivered


def test_a_400_with_indices_sends_the_others_at_once() -> None:
    """The named record is rejected, and the rest starts afresh without a delay."""
    batch = batch_of([(0, "u"), (1, "v"), (1, "w")])
    found = said(batch, Invalid(400, (ItemError(1, 0, "bad", "bad"),)), Tries(2, 2, 2))
    assert found.pieces[0].rows == ((0, 0), (1, 1))
    assert found.pieces[0].tries == Tries(sends=3)
    assert found.delay == 0.0


@pytest.mark.parametrize("records", [1, 3])
def test_a_refusal_in_an_outage_is_no_verdict(records: int) -> None:
    """One that refuses everything is only tried again: no record is given up or cut off for it."""
    batch = batch_of([(0, f"u{n}") for n in range(records)])
    found = said(batch, Refused(400, "no"), Tries(2), Weather(outage=True))
    assert found.verdicts == ()
    assert [piece.rows for piece in found.pieces] == [None]
    assert found.pieces[0].tries == Tries(sends=3)
    assert not found.bisecting
    assert found.delay > 0


def test_a_400_that_names_every_record_leaves_nothing() -> None:
    """All bad: all verdicts, no piece."""
    found = said(batch_of([(1, "u")]), Invalid(400, (ItemError(1, 0, "bad", "bad"),)))
    assert not found.pieces
    assert len(found.verdicts) == 1


def test_what_fits_the_caps_and_is_still_too_many_is_halved() -> None:
    """When the caps do not help, smaller pieces do, down to one record."""
    found = said(batch_of([(1, "u")] * 10), TooMany(400))
    assert [len(piece.rows or ()) for piece in found.pieces] == [5, 5]


def test_too_many_is_cut_into_as_few_pieces_as_the_caps_allow() -> None:
    """225 in 75 in total are three requests, in the order of the source."""
    batch = batch_of([(i % SLOTS, f"u{i}") for i in range(225)])
    found = said(batch, TooMany(400), caps=CAPS.at_most(75))
    assert [len(piece.rows or ()) for piece in found.pieces] == [75, 75, 75]


def test_three_failures_bisect_only_while_others_succeed() -> None:
    """In bad weather the same batch is sent whole, for as long as it takes."""
    batch = batch_of([(1, "u")] * 8)
    twice = Tries(2, 2, 2)
    assert said(batch, BAD_GATEWAY, twice, OTHERS_FINE).bisecting
    assert not said(batch, BAD_GATEWAY, twice).bisecting
    assert not said(batch, Unavailable(None, "no route"), twice, OTHERS_FINE).bisecting
    assert not said(batch, NO_ANSWER, twice, OTHERS_FINE).bisecting


def test_the_last_batch_of_a_run_is_its_own_witness() -> None:
    """With nothing else to send nobody can succeed: after three failures it is bisected."""
    batch = batch_of([(1, "u")] * 8)
    assert said(batch, BAD_GATEWAY, Tries(2, 2), Weather(alone=True)).bisecting
    assert not said(batch, BAD_GATEWAY, Tries(1, 1), Weather(alone=True)).bisecting
    assert said(batch, BAD_GATEWAY, Tries(2, 2), Weather(alone=True, outage=True)).bisecting
    suspect = Tries(2, 2, 2, suspect=True)
    assert not said(batch, BAD_GATEWAY, suspect, Weather(alone=True, outage=True)).bisecting


def test_a_suspect_without_budget_fails_as_not_told_apart() -> None:
    """Law 6: what the cap leaves over is failed, never rejected."""
    suspect = Tries(3, 0, 0, suspect=True)
    spent = Weather(others_succeed=True, bisected=30)
    for outcome in (BAD_REQUEST, BAD_GATEWAY):
        found = said(batch_of([(1, "u")] * 8), outcome, suspect, spent)
        assert {(verdict.column, verdict.code) for verdict in found.verdicts} == {
            ("failed", "bisect-cap")
        }


def test_unanswered_records_are_held_by_kind() -> None:
    """Events are held, an event that may repeat and attributes are resent and counted."""
    policy = RetryPolicy(hold_unanswered=frozenset({1}))
    batch = batch_of([(0, "u"), (1, "u"), (1, "v")])
    found = said(batch, NO_ANSWER, policy=policy, repeatable=lambda slot, index: index == 1)
    assert [(verdict.slot, verdict.index) for verdict in found.verdicts] == [(1, 0)]
    assert found.pieces[0].rows == ((0, 0), (1, 1))
    assert found.duplicated == 2


def test_when_all_are_held_nothing_goes_again() -> None:
    """A request of events alone ends there."""
    policy = RetryPolicy(hold_unanswered=frozenset({1}))
    found = said(batch_of([(1, "u"), (1, "v")]), NO_ANSWER, policy=policy)
    assert {verdict.column for verdict in found.verdicts} == {"held"}
    assert not found.pieces


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_full_jitter_under_a_cap(failures: int, jitter: float) -> None:
    """Doubling is capped, whatever the number of failures, and the dice choose below it."""
    delay = backoff(failures, POLICY, jitter)
    assert 0 <= delay < POLICY.cap or delay == jitter == 0
    assert delay <= POLICY.base * 2.0 ** min(failures, 60)


GONE = ItemError(0, 0, "unknown-user", "no such user", already=True)
"""What a record earns too whose earlier copy was processed."""


@pytest.mark.parametrize("outcome", [Delivered(201, (GONE,)), Invalid(400, (GONE,))])
def test_what_an_earlier_copy_may_have_done_is_no_verdict(outcome: Outcome) -> None:
    """After a request without an answer, a user to be deleted may be gone because of it."""
    alone = batch_of([(0, "a")])
    sure = said(alone, outcome)
    assert [verdict.column for verdict in sure.verdicts] == ["rejected"]
    (doubted,) = said(alone, outcome, Tries(sends=1, doubted=True)).verdicts
    assert (doubted.code, doubted.column) == ("perhaps-done-before", TAKEN)


def test_what_an_earlier_process_may_have_done_is_told_record_by_record() -> None:
    """Another record of the same request, which was not in doubt, is refused as ever."""
    batch = batch_of([(0, "a"), (0, "b")])
    both = (GONE, msgspec.structs.replace(GONE, index=1))
    for outcome in (Delivered(201, both), Invalid(400, both)):
        found = said(batch, outcome, doubted=[(0, 1)])
        columns = {verdict.index: verdict.column for verdict in found.verdicts}
        assert columns == {0: "rejected", 1: TAKEN}


def test_a_request_without_an_answer_is_remembered_by_its_pieces() -> None:
    """However it is cut up later, what was in it may have been processed."""
    batch = batch_of([(0, "a"), (0, "b")])
    again = said(batch, NO_ANSWER)
    assert [piece.tries.doubted for piece in again.pieces] == [True]
    halves = said(batch, BAD_REQUEST, again.pieces[0].tries)
    assert [piece.tries.doubted for piece in halves.pieces] == [True, True]


def test_a_refused_piece_warns_of_its_record() -> None:
    """The record is delivered; of one that was refused as a whole, pieces are not spoken of."""
    piece = ItemError(0, 0, "attribute-refused", "too long", field="plan")
    other = ItemError(0, 1, "attribute-refused", "too long", field="plan")
    refused = ItemError(0, 1, "bad", "no")
    found = said(batch_of([(0, "a"), (0, "b")]), Delivered(202, (refused,), pieces=(piece, other)))
    assert [(one.index, one.field, one.column) for one in found.warned] == [
        (0, "plan", "delivered")
    ]
    assert [one.index for one in found.verdicts] == [1]


def test_a_500_that_says_nothing_of_what_it_did_is_bisected_all_the_same() -> None:
    """One record may break the destination every time; a 504 is about load, and bisects nobody."""
    tries = Tries(sends=2, failures=2, strikes=2)
    batch = batch_of([(0, "a"), (0, "b")])
    found = said(batch, Unanswered(500, "it broke"), tries, OTHERS_FINE)
    assert found.bisecting
    assert found.duplicated == len(batch)
    assert all(piece.tries.doubted for piece in found.pieces)
    assert not said(batch, NO_ANSWER, tries, OTHERS_FINE).bisecting


@pytest.mark.parametrize("outcome", [BAD_REQUEST, Unavailable(500, "it broke")])
def test_halves_share_no_user_where_users_are_items(outcome: Outcome) -> None:
    """Whose records are all over a batch is in one half of it, so that the other may be good."""
    rows = [(n % 3, f"u{n % 4}") for n in range(24)]
    batch = batch_of(rows)
    tries = Tries(failures=2, strikes=2, doubted=True)
    found = said(batch, outcome, tries, OTHERS_FINE, folded=True)
    users = [
        {batch.columns[slot].keys[index] for slot, index in piece.rows or ()}
        for piece in found.pieces
    ]
    assert sorted(map(len, users)) == [2, 2]
    assert users[0].isdisjoint(users[1])
    assert all(piece.tries.doubted for piece in found.pieces)
