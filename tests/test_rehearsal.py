"""Laws 1, 4, 6, 7 and 12 of the whole core together, against destinations of every kind."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.balance import COLUMNS
from ingest.dispositions import RetryPolicy
from ingest.outcomes import TooMany
from ingest.records import UserKey
from tests.batches import positions_of, rows_strategy
from tests.examples import examples
from tests.rehearsal import STEPS, Habits, Rehearsal

shares = st.sampled_from([0.0, 0.0, 0.1, 0.3])
habits_of = st.builds(
    Habits,
    cap=st.sampled_from([step.total for step in STEPS]),
    poisoned=st.frozensets(st.integers(0, 199), max_size=8),
    dislikes=st.sampled_from(["indexed", "invalid", "refused", "broken"]),
    throttled=shares,
    unavailable=shares,
    unanswered=shares,
    outage=st.sampled_from([(0.0, 0.0), (1.05, 60.0)]),
)


def many_rows(count: int, users: int, seed: int) -> list[tuple[int, UserKey]]:
    """Return rows of random kinds and users."""
    dice = random.Random(seed)
    return [(dice.randrange(3), f"u{dice.randrange(users)}") for _ in range(count)]


rows_of = rows_strategy(max_size=40, users=8) | st.builds(
    many_rows, st.integers(1, 200), st.sampled_from([3, 20, 1_000]), st.integers(0, 99)
)
seeds = st.integers(0, 2**32)


def check_conservation(played: Rehearsal, rows: list[tuple[int, UserKey]]) -> None:
    """Law 1: every position has ended once, and the balance says the same; nothing is kept."""
    assert sorted(played.columns) == list(range(len(rows)))
    counted = Counter(played.columns.values())
    columns = played.balance.columns()
    assert columns["read"] == len(rows) == sum(columns[name] for name in COLUMNS)
    assert columns["pending"] == 0
    assert {name: count for name, count in columns.items() if count and name != "read"} == counted
    assert played.agenda.memory_used == played.agenda.records == 0
    assert not played.agenda._batcher._users


def check_order(played: Rehearsal, rows: list[tuple[int, UserKey]], *, copies: bool) -> None:
    """Law 4: per user and kind, records are applied in source order, and so are their copies."""
    for (user, slot), applied in played.far.applied.items():
        assert all(rows[at] == (slot, user) for at in applied)
        first = list(dict.fromkeys(applied))
        assert first == sorted(first)
        assert copies or first == applied
        # A record that failed in the end may have been applied once, by a request without answer.
        delivered = [at for at in reversed(applied) if played.columns.get(at) == "delivered"]
        last = list(dict.fromkeys(delivered))
        assert last == sorted(last, reverse=True)


@settings(max_examples=examples(200), deadline=None)
@given(rows_of, habits_of, seeds, st.integers(1, 8), st.sampled_from([(), (1,), (1, 2)]))
def test_the_core_keeps_its_laws_with_any_destination(
    rows: list[tuple[int, UserKey]],
    habits: Habits,
    seed: int,
    in_flight: int,
    hold: tuple[int, ...],
) -> None:
    """Splits, bisects, 429s, failures and outages: all are accounted for, nobody is overtaken."""
    played = Rehearsal(rows, habits, seed=seed, in_flight=in_flight, hold=frozenset(hold))
    played.run()

    if played.gave_up:
        # Nothing else is left to send, so that a bad record cannot be told from an outage.
        left = {
            at for case in played.agenda._resends.unsettled() for at in positions_of(case.batch)
        }
        assert left & habits.poisoned
        assert habits.dislikes == "broken"
        assert played.balance.count("pending") == played.waiting
        assert played.balance.count("read") == played.waiting + len(played.columns)
    else:
        check_conservation(played, rows)
    check_order(played, rows, copies=habits.unanswered > 0)
    applied = {at for order in played.far.applied.values() for at in order}
    for at, column in played.columns.items():
        if column == "delivered":
            assert at in applied
        elif column == "rejected":
            assert at in habits.poisoned
            assert at not in applied
        elif column == "held":
            assert rows[at][0] in hold
        if at in habits.poisoned:
            assert column != "delivered"
    assert played.failed_in_outage == 0
    if not habits.throttled and not habits.unanswered:
        # 429s, probes of an outage and what is left of held pieces are no part of bisecting.
        most = RetryPolicy().bisect_requests
        assert max(played.bisecting.values(), default=0) <= most


@settings(max_examples=examples(100), deadline=None)
@given(rows_of, st.sampled_from([27, 9, 6]), seeds, st.integers(1, 8))
def test_good_records_all_arrive_whatever_the_caps_and_the_outage(
    rows: list[tuple[int, UserKey]], cap: int, seed: int, in_flight: int
) -> None:
    """A smaller account, 429s and a minute's outage cost time, and not one record."""
    habits = Habits(cap=cap, throttled=0.3, outage=(1.05, 60.0))
    played = Rehearsal(rows, habits, seed=seed, in_flight=in_flight)
    played.run()
    check_conservation(played, rows)
    check_order(played, rows, copies=False)
    assert set(played.columns.values()) == {"delivered"}


@settings(max_examples=examples(100), deadline=None)
@given(rows_of, st.sampled_from([27, 9, 6]), seeds, st.integers(1, 8))
def test_two_refusals_tell_what_the_account_takes(
    rows: list[tuple[int, UserKey]], cap: int, seed: int, in_flight: int
) -> None:
    """In fair weather no more than two requests of a whole run hold too many records."""
    played = Rehearsal(rows, Habits(cap=cap), seed=seed, in_flight=in_flight)
    played.run()
    assert played.far.seen[TooMany] <= 2
    assert set(played.columns.values()) == {"delivered"}


@pytest.mark.parametrize("dislikes", ["indexed", "invalid", "refused", "broken"])
@pytest.mark.parametrize("at", [0, 57, 299])
def test_one_poisoned_record_costs_itself_only(dislikes: str, at: int) -> None:
    """Law 6, whichever way the destination says it, and with the bad record at the very end."""
    rows: list[tuple[int, UserKey]] = [(i % 3, f"u{i % 40}") for i in range(300)]
    played = Rehearsal(rows, Habits(poisoned=frozenset({at}), dislikes=dislikes), seed=at)
    played.run()
    check_order(played, rows, copies=False)
    ends = {i: column for i, column in played.columns.items() if column != "delivered"}
    assert ends == {at: "failed" if dislikes == "broken" else "rejected"}


def test_later_records_of_a_user_go_on_after_a_bad_one() -> None:
    """Law 4: a verdict lets the user's next records go, in order."""
    rows: list[tuple[int, UserKey]] = [(1, "hot")] * 60
    played = Rehearsal(rows, Habits(poisoned=frozenset({3}), dislikes="refused"), seed=1)
    played.run()
    (applied,) = played.far.applied.values()
    assert applied == [at for at in range(60) if at != 3]
    assert all(one < other for one, other in pairwise(applied))
