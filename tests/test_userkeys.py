"""Keys that nobody asked for are what a list of them is."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ingest.records import UserKey
from ingest.userkeys import BETWEEN, Keys

names = st.text(st.characters(exclude_characters=BETWEEN, exclude_categories=["Cs"]), max_size=4)
columns = st.lists(names, min_size=1, max_size=12)
bounds = st.none() | st.integers(-14, 14)


def told(keys: list[str]) -> Keys:
    """Return keys as they come over."""
    return Keys.told(BETWEEN.join(keys), len(keys))


@given(columns, st.lists(st.builds(slice, bounds, bounds), max_size=4))
def test_slices_of_them_are_those_of_a_list(keys: list[str], cuts: list[slice]) -> None:
    """However often they are cut."""
    left: Sequence[UserKey] = told(keys)
    right = keys
    for cut in cuts:
        left, right = left[cut], right[cut]
    assert len(left) == len(right)
    assert list(left) == right
    assert left == right
    assert bool(left) == bool(right)
    assert [left[at] for at in range(-len(right), len(right))] == right + right
    assert repr(left) == repr(right)


@given(st.lists(st.tuples(columns, bounds, bounds), min_size=1, max_size=4), bounds, bounds)
def test_some_after_others(
    pieces: list[tuple[list[str], int | None, int | None]], start: int | None, stop: int | None
) -> None:
    """Spliced they are the keys of all, and can be cut again; a list among them makes a list."""
    some = [told(keys)[a:b] for keys, a, b in pieces]
    whole = [key for keys, a, b in pieces for key in keys[a:b]]
    spliced = Keys.spliced(some)
    assert isinstance(spliced, Keys)
    assert (len(spliced), list(spliced)) == (len(whole), whole)
    assert spliced[start:stop] == whole[start:stop]
    mixed = Keys.spliced([*some, ["u1"]])
    assert mixed == [*whole, "u1"]


@given(columns, st.integers(2, 3))
def test_every_other_one(keys: list[str], step: int) -> None:
    """A slice with a step is a list of them."""
    assert told(keys)[::step] == keys[::step]


def test_they_are_compared_with_sequences_alone() -> None:
    """Whatever else is none of them."""
    assert told(["a"]) != 1
    assert told(["a", "b"]) == ("a", "b")
    assert told(["a"]) != ["b"]


def test_cutting_asks_for_none() -> None:
    """The text is taken to pieces by the first who looks at a key, for all who share it."""
    keys = told(["a", "b", "c"])
    spliced = Keys.spliced([keys[:1], keys[1:]])
    assert isinstance(spliced, Keys)
    text = keys._spans[0][0]
    assert (len(spliced), text._keys) == (3, [])
    assert list(spliced) == ["a", "b", "c"]
    assert text._keys == ["a", "b", "c"]
