"""How many different users there are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.distinct import EXACT, Distinct
from ingest.records import UserKey
from tests.examples import examples

KEYS = st.text() | st.tuples(st.just("alias"), st.text(), st.text())


def counted(*some: list[UserKey]) -> Distinct:
    """Return a counter that was shown some keys, list by list."""
    distinct = Distinct()
    for keys in some:
        distinct.add(keys)
    return distinct


@given(st.lists(st.lists(KEYS, max_size=20), max_size=10))
def test_a_few_are_counted_exactly(some: list[list[UserKey]]) -> None:
    """As long as there are few, the count is that of a set, however they come."""
    distinct = counted(*some)
    assert distinct.exact
    assert distinct.count == len(set().union(*some))


@settings(max_examples=examples(20), deadline=None)
@given(st.integers(EXACT + 1, 60_000), st.integers(0, 2**32))
def test_many_are_counted_within_one_percent(number: int, seed: int) -> None:
    """Whatever the users are called, the count is off by 1 % at the most."""
    keys: list[UserKey] = [f"{seed}-{at}" for at in range(number)]
    distinct = counted(keys, keys[::2])
    assert not distinct.exact
    assert abs(distinct.count - number) <= number / 100


@pytest.mark.parametrize("number", [100, 10_000, 1_000_000])
def test_the_error_is_small_at_every_size(number: int) -> None:
    """A hundred users, ten thousand and a million are told within 1 %."""
    distinct = Distinct()
    for start in range(0, number, 1_000):
        distinct.add([f"user-{at}" for at in range(start, min(start + 1_000, number))])
    assert abs(distinct.count - number) <= number / 100


@settings(max_examples=examples(20), deadline=None)
@given(st.integers(0, 2**32))
def test_order_and_repetition_do_not_matter(seed: int) -> None:
    """The same users give the same count in any order, however often each occurs."""
    keys: list[UserKey] = [f"u{at}" for at in range(3_000)]
    mixed = keys * 2
    random.Random(seed).shuffle(mixed)
    assert counted(keys).count == counted(mixed[:2_000], mixed[2_000:]).count


def test_an_alias_is_no_external_id() -> None:
    """Users of different identities are different, whatever their names are."""
    assert counted(["a", ("alias", "a", "b"), ("alias", "b", "a")]).count == 3


def test_nobody_is_nobody() -> None:
    """Without a key the count is 0."""
    assert Distinct().count == 0
