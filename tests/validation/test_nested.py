"""Rules of arrays, nested attributes and operators."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.codec import dumps
from ingest.validation import check
from ingest.validation.nested import encoded_size

MATCH = {"$identifier_key": "id", "$identifier_value": 7}


def found(value: Any) -> list[tuple[str, str]]:
    """Check an attributes object with this one attribute."""
    return [(p.code, p.field) for p in check("attributes", {"external_id": "u", "a": value})]


@pytest.mark.parametrize(
    ("value", "code", "field"),
    [
        ({"b": {"c": None}}, "nested-null", "a.b.c"),
        ({"b": [1, None]}, "nested-null", "a.b[]"),
        ([{"b": None}], "nested-null", "a[].b"),
        ({"b.c": 1}, "nested-key", "a.b.c"),
        ({"b": {"$c": 1}}, "nested-key", "a.b.$c"),
        ({"b c": 1}, "nested-key", "a.b c"),
        ({"$add": [{"b": 1}], "c": 1}, "nested-key", "a.$add"),
        ({"x" * 256: 1}, "long-name", "a." + "x" * 63 + "…"),
        ({"b": "x" * 256}, "long-string", "a.b"),
        (["x" * 256], "long-string", "a[]"),
        ({"b": {"$time": None}}, "nested-time", "a.b"),
        ({"b": {"$time": "soon"}}, "nested-time", "a.b"),
        ({"b": {"$time": "3001-01-01"}}, "late-year", "a.b"),
        ({"b": ["x" * 250] * 450}, "big-attribute", "a"),
        ([{"b": "x" * 250}] * 450, "big-attribute", "a"),
        ({"inc": 1.5}, "odd-operator", "a"),
        ({"inc": True}, "odd-operator", "a"),
        ({"add": "x"}, "odd-operator", "a"),
        ({"remove": ["x" * 256]}, "long-string", "a.remove[]"),
        ({"add": ["x"] * 501}, "long-array", "a.add"),
        ({"$add": {"b": 1}}, "odd-operator", "a.$add"),
        ({"$add": [1]}, "odd-operator", "a.$add[]"),
        ({"$add": [{"b": None}]}, "nested-null", "a.$add[].b"),
        ({"$remove": [{"$identifier_key": "id"}]}, "odd-operator", "a.$remove[]"),
        ({"$update": [MATCH]}, "odd-operator", "a.$update[]"),
        (
            {"$update": [{**MATCH, "$new_object": {"b": None}}]},
            "nested-null",
            "a.$update[].$new_object.b",
        ),
        ({"$add": [{"b": "x" * 250}] * 450}, "big-attribute", "a"),
    ],
)
def test_each_fault_has_its_code_and_field(value: Any, code: str, field: str) -> None:
    """One fault gives one problem, at its own path."""
    assert found(value) == [(code, field)]


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"b": {"c": [1, {"d": "x" * 255}]}},
        {"b": {"$time": "1980-01-01"}, "c": [{"$time": "2020-05-28"}]},
        {"$time": "1980-01-01"},
        {"inc": -3},
        {"inc": 1, "other": 2},
        {"add": ["x"], "remove": ["y"]},
        {"$add": [{"b": 1}], "$remove": [MATCH], "$update": [{**MATCH, "$new_object": {"b": 1}}]},
        ["x"] * 500,
        [{"b": 1}] * 600,
    ],
)
def test_what_an_attribute_may_be(value: Any) -> None:
    """Nested objects, arrays and every operator in its documented form are clean."""
    assert found(value) == []


def test_sizes_are_those_of_compact_json() -> None:
    """The size is what the encoder would write."""
    value = {"a": ["é", 1, None], "b": {"c": 1e15}}
    assert encoded_size(value) == len(dumps(value))


def test_depth_ends_in_a_bound_not_in_an_exception() -> None:
    """What is nested deeper than the encoder goes is measured by its texts, and checked as any."""
    deep: Any = {"text": "é" * 10, "n": 2**70, "list": ["x"]}
    for _ in range(1_000):
        deep = {"a": [deep]}
    assert encoded_size(deep) == 1_000 + len("textnlist") + 20 + 1
    assert found(deep) == []
