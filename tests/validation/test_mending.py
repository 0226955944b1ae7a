"""Mending: dropping and shortening what is bad by itself."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.validation import Grade, Problem, check, mend

EVENT = {"external_id": "u", "name": "n", "time": "2026-01-31T12:00:00Z"}


def test_bad_properties_are_dropped_and_the_rest_stays() -> None:
    """Reserved keys go; the record that came is left as it is."""
    record = {**EVENT, "properties": {"time": 1, "title": "Alien"}}
    before = copy.deepcopy(record)
    new, mended = mend(record, check("event", record), "drop")
    assert new["properties"] == {"title": "Alien"}
    assert [p.code for p in mended] == ["reserved-key"]
    assert record == before
    assert check("event", new) == []


def test_long_texts_and_arrays_are_shortened() -> None:
    """Truncating keeps the first 255 characters and the first 500 elements."""
    record = {"external_id": "u", "note": "é" * 300, "tags": ["y" * 300] + ["x"] * 600}
    new, mended = mend(record, check("attributes", record), "truncate")
    assert new["note"] == "é" * 255
    assert new["tags"] == ["y" * 255] + ["x"] * 499
    assert len(mended) == 3
    assert check("attributes", new) == []


def test_truncating_leaves_what_can_only_be_dropped() -> None:
    """A reserved key stays, and so does its error."""
    record = {**EVENT, "properties": {"time": 1, "title": "x" * 256}}
    new, mended = mend(record, check("event", record), "truncate")
    assert new["properties"] == {"time": 1, "title": "x" * 255}
    assert [p.code for p in mended] == ["long-string"]


def test_dropping_drops_what_could_be_shortened() -> None:
    """Asked to drop, nothing is shortened."""
    record = {**EVENT, "properties": {"title": "x" * 256, "n": 1}}
    assert mend(record, check("event", record), "drop")[0]["properties"] == {"n": 1}


def test_what_nothing_mends_stays() -> None:
    """A missing time cannot be made up."""
    record = {**EVENT, "time": None}
    assert mend(record, check("event", record), "drop") == (record, ())


def test_elements_of_arrays_are_dropped_by_their_own_index() -> None:
    """Several nulls of one array, at several depths, go without moving the others."""
    record = {
        "external_id": "u",
        "a": [None, {"b": [1, None, 2, None]}, None, {"b": [None]}, 3],
    }
    new, mended = mend(record, check("attributes", record), "drop")
    assert new["a"] == [{"b": [1, 2]}, {"b": []}, 3]
    assert len(mended) == 5


def test_a_field_inside_of_a_dropped_one_counts_as_mended() -> None:
    """Whichever of two problems comes first, both are gone with the outer field."""
    inner = Problem(Grade.WARNING, "nested-null", "a.b", "", "drop", ("a", "b"))
    outer = Problem(Grade.WARNING, "nested-key", "a", "", "drop", ("a",))
    element = Problem(Grade.WARNING, "nested-null", "a[]", "", "drop", ("a", 0))
    for order in ([inner, outer], [outer, inner], [outer, outer]):
        assert mend({"a": {"b": None}, "c": 1}, order, "drop") == ({"c": 1}, tuple(order))
    for order in ([element, outer], [outer, element], [element, element]):
        new, mended = mend({"a": [None]}, order, "drop")
        assert new in ({}, {"a": []})
        assert len(mended) == 2


def test_a_text_beyond_the_end_of_a_shortened_array_is_gone() -> None:
    """Shortening an array first makes the problems of its tail moot."""
    record = {"external_id": "u", "tags": ["x"] * 600 + ["y" * 300]}
    new, mended = mend(record, check("attributes", record), "truncate")
    assert new["tags"] == ["x"] * 500
    assert len(mended) == 2


TEXT = st.sampled_from(["a", "b.c", "$d", "", "time", "x" * 256])
VALUE = st.recursive(
    st.none() | st.integers(0, 5) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUE, max_size=4))
def test_dropping_mends_every_error_of_properties(properties: dict[str, Any]) -> None:
    """After dropping, an event with any properties is clean, and what was clean is untouched."""
    record = {**EVENT, "properties": properties}
    before = copy.deepcopy(record)
    new, _ = mend(record, check("event", record), "drop")
    assert check("event", new) == []
    assert record == before


@given(VALUE)
def test_dropping_mends_every_attribute(value: Any) -> None:
    """After dropping, an attributes object with any custom attribute has no mendable problem."""
    record = {"external_id": "u", "a": value}
    before = copy.deepcopy(record)
    new, mended = mend(record, check("attributes", record), "drop")
    assert check("attributes", new) == []
    assert record == before
    assert bool(mended) == (new != record)


def test_a_problem_may_say_how_long_is_long() -> None:
    """Destinations differ in what they take; the problem of one carries its length."""
    record = {"external_id": "u", "bio": "x" * 20, "tags": ["a"] * 5}
    problems = [
        Problem(Grade.ERROR, "long-text", "bio", "too long", "truncate", ("bio",), 7),
        Problem(Grade.ERROR, "long-list", "tags", "too long", "truncate", ("tags",), 2),
    ]
    new, mended = mend(record, problems, "truncate")
    assert new == {"external_id": "u", "bio": "x" * 7, "tags": ["a"] * 2}
    assert list(mended) == problems
