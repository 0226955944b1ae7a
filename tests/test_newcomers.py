"""Who is new: what is told of many users at once, and when they are forgotten."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from ingest.newcomers import LEAST, Lately, Newcomers
from ingest.queues import Rows
from ingest.records import News
from ingest.rising import EARLY


def rows(newcomers: Newcomers, keys: list[str]) -> Rows | None:
    """The rows of users who were admitted; None if they were not."""
    generation = newcomers.admit(keys)
    if generation is None:
        return None
    return Rows([b"{}"] * len(keys), keys, range(9), range(9), generation)


@given(
    st.lists(
        st.lists(st.integers(0, 30).map(str), max_size=5)
        | st.lists(st.integers(0, 30_000).map(str), min_size=2_000, max_size=2_000, unique=True)
        | st.integers(0, 5),
        max_size=20,
    )
)
def test_nobody_is_admitted_who_is_here(steps: list[list[str] | int]) -> None:
    """And who is not remembered is: at the latest when all of the same age have gone."""
    newcomers, flying, here = Newcomers(), dict[int, Rows](), set[str]()
    for family, step in enumerate(steps):
        if isinstance(step, int):
            if flying:
                left = list(flying)[step % len(flying)]
                gone = flying.pop(left).keys
                assert list(newcomers.aboard(left)) == list(gone)
                assert newcomers.leave(left)
                here.difference_update(map(str, gone))
            continue
        admitted = rows(newcomers, step)
        if admitted is None:
            assert len(set(step)) < len(step) or newcomers.admit(sorted(set(step))) is None
        else:
            assert len(set(step)) == len(step)
            assert here.isdisjoint(step)
            if step:
                newcomers.board(family, [admitted])
                flying[family] = admitted
                here.update(step)
        assert newcomers.here == len(here)
    aboard = sorted((family, key) for family, keys in newcomers.all_aboard() for key in keys)
    assert aboard == sorted((family, key) for family, some in flying.items() for key in some.keys)
    for family in flying:
        newcomers.leave(family)
    assert rows(newcomers, sorted(here)) is not None


@given(
    st.integers(0, 8),
    st.lists(
        st.tuples(st.lists(st.integers(0, 40).map(str), min_size=1, max_size=4), st.booleans())
        | st.integers(0, 5),
        max_size=30,
    ),
)
def test_nobody_is_trusted_to_be_new_who_is_here(
    span: int, steps: list[tuple[list[str], bool] | int]
) -> None:
    """On the word of a reader who remembers a few, among others who came without a word."""
    newcomers, lately = Newcomers(), Lately(span)
    flying, here = dict[int, Rows](), set[str]()
    for family, step in enumerate(steps):
        if isinstance(step, int):
            if flying:
                left = list(flying)[step % len(flying)]
                here.difference_update(map(str, flying.pop(left).keys))
                assert newcomers.leave(left)
            continue
        keys, told = step
        news = lately.came((keys[:1], keys[1:]), len(keys)) if told else None
        generation = newcomers.admit(keys) if news is None else newcomers.trust(news, keys)
        if generation is None:
            continue
        assert len(set(keys)) == len(keys)
        assert here.isdisjoint(keys)
        flying[family] = Rows([b"{}"] * len(keys), keys, range(9), range(9), generation)
        newcomers.board(family, [flying[family]])
        here.update(keys)
        assert newcomers.here == len(here)
    for family in flying:
        newcomers.leave(family)
    assert newcomers.admit(["nobody yet"]) is not None


RISING = st.lists(st.integers(0, 3), max_size=60).map(
    lambda steps: [[at, at + 1] for at in accumulate(steps)]
)
"""Blocks that mostly come in order; steps of 2 and 3 leave nothing twice."""


@given(
    st.integers(1, 9),
    st.lists(st.lists(st.integers(0, 60), max_size=4), max_size=40) | RISING,
    st.sampled_from(["{}", "{:03}"]),
    st.integers(1, 3),
)
def test_a_word_reaches_as_far_back_as_it_says(
    span: int, blocks: list[list[int]], form: str, columns: int
) -> None:
    """At least as far as it has to, once so many came, and everybody in reach is told of."""
    lately, past = Lately(span), list[int]()
    for block in blocks:
        keys = list(map(form.format, block))
        news = lately.came([keys[column::columns] for column in range(columns)], len(block))
        within = past[max(0, len(past) - span) :]
        if news is None:
            assert len(set(block)) < len(block) or not set(block).isdisjoint(past)
        else:
            assert news.serial == len(past)
            assert news.span <= len(past)
            assert set(block).isdisjoint(past[len(past) - news.span :] if news.span else [])
            assert set(block).isdisjoint(within) or news.span < span
        past += block


def test_who_comes_in_order_is_not_remembered() -> None:
    """By their texts or, for numbers, by their lengths first; then a word reaches back to all."""
    for form in ("{:09}", "{}"):
        lately, records = Lately(1), 0
        for first in range(0, 3_000, 10):
            news = lately.came([[form.format(n) for n in range(first, first + 10)]], 10)
            assert news is not None
            assert news.span == records
            records += 10
        assert not lately._users


def test_an_order_that_begins_late_reaches_back_to_its_beginning() -> None:
    """What came in another order before, and is too much to be looked at again, is out of reach."""
    lately = Lately()
    texts = [f"9{n:05}" for n in range(EARLY)]
    assert lately.came([texts], EARLY) == News(0, 0)
    assert lately.came([["99"]], 1) == News(EARLY, EARLY)
    assert lately.came([["8", "10"]], 2) == News(EARLY + 1, 0)
    assert lately.came([["11", "100"]], 2) == News(EARLY + 3, 2)
    assert lately.came([["1"]], 1) == News(EARLY + 5, 0)


def test_an_alias_among_ids_is_in_no_order() -> None:
    """They cannot be compared, so they are remembered."""
    lately = Lately()
    assert lately.came([["b"]], 1) == News(0, 0)
    assert lately.came([["ccc", ("alias", "a", "l")]], 2) == News(1, 0)
    assert lately.came([["ccc"]], 1) is None
    assert lately.came([["d"]], 1) == News(4, 3)


def test_who_was_admitted_is_not_trusted_to_be_new() -> None:
    """Whoever gives the word for it knows nothing of those who came another way."""
    newcomers = Newcomers()
    assert newcomers.admit(["a"]) is not None
    assert newcomers.trust(News(1, 0), ["b", "a"]) is None
    assert newcomers.trust(News(1, 0), ["b"]) is not None


def test_a_generation_of_trusted_ones_is_closed_as_well() -> None:
    """So that a word need not reach back to the first of them for ever."""
    newcomers = Newcomers()
    keys = [str(n) for n in range(LEAST)]
    first = newcomers.trust(News(0, 0), keys)
    second = newcomers.trust(News(LEAST, LEAST), ["a"])
    assert first is not second
    assert newcomers.trust(News(LEAST + 1, LEAST), ["b"]) is None
    newcomers.board(1, [Rows([b"{}"] * LEAST, keys, range(9), range(9), first)])
    newcomers.leave(1)
    assert newcomers.trust(News(LEAST + 1, LEAST), ["b"]) is second
    assert newcomers.admit(["c"]) is None


def test_generations_go_by_themselves() -> None:
    """The first users are forgotten when all of them have gone, whoever came later."""
    newcomers = Newcomers()
    first = rows(newcomers, [f"a{n}" for n in range(LEAST)])
    second = rows(newcomers, ["b"])
    assert first is not None
    assert second is not None
    assert first.newcomers is not second.newcomers
    newcomers.board(1, [first])
    newcomers.board(2, [second])
    assert newcomers.leave(1)
    assert rows(newcomers, ["b"]) is None
    assert rows(newcomers, ["a1"]) is not None


def test_who_is_in_no_batch_of_newcomers_leaves_none() -> None:
    """Neither does a batch that is not known."""
    newcomers = Newcomers()
    newcomers.board(1, [Rows([b"{}"], ["a"], [0], [1])])
    assert not newcomers.leave(1)
    assert not list(newcomers.aboard(1))
    newcomers.clear()
    assert newcomers.here == 0
