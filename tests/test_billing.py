"""Data points, by Braze's pages on billing and on nested attributes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.billing import FREE, DataPoints, leaves, points_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)

SONG = {
    "title": "a",
    "artist": "b",
    "album": "c",
    "year": 1960,
    "genre": "d",
    "plays": {"count": 1000, "top": True},
}
"""As the documented example is made: seven keys with a value, and one that holds two of them."""


@pytest.mark.parametrize(
    ("record", "points"),
    [
        ({"external_id": "u1"}, 0),
        ({"external_id": "u1", "plan": "pro", "visits": 3}, 2),
        ({"external_id": "u1", "plan": None}, 1),
        ({"external_id": "u1", "tags": ["a", "b", "c"]}, 1),
        ({"external_id": "u1", "tags": {"add": ["a", "b"]}}, 1),
        ({"external_id": "u1", "visits": {"inc": 2}}, 1),
        ({"external_id": "u1", "song": SONG}, 7),
        ({"external_id": "u1", "songs": [SONG, {"title": "e"}]}, 8),
        ({"external_id": "u1", "born": {"$time": "2020-01-01"}}, 1),
        ({"external_id": "u1", "empty": {}}, 1),
        ({"external_id": "u1", "pets": {"$add": [{"id": 1, "name": "a"}]}}, 2),
        (
            {
                "external_id": "u1",
                "pets": {"$remove": [{"$identifier_key": "id", "$identifier_value": 1}]},
            },
            1,
        ),
        (
            {
                "external_id": "u1",
                "pets": {
                    "$update": [
                        {
                            "$identifier_key": "id",
                            "$identifier_value": 1,
                            "$new_object": {"name": "a", "breed": "b"},
                        }
                    ]
                },
            },
            2,
        ),
        ({"external_id": "u1", "country": "DE", "language": "de"}, 2),
        ({"external_id": "u1", "current_location": {"longitude": 1, "latitude": 2}}, 1),
        ({"external_id": "u1", "email": "a@b.example", "phone": "+49"}, 2),
        ({"email": "a@b.example", "phone": "+49"}, 1),
        ({"phone": "+49", "plan": "pro"}, 1),
        (
            {
                "user_alias": {"alias_name": "a", "alias_label": "b"},
                "_update_existing_only": False,
                "email_subscribe": "opted_in",
                "subscription_groups": [{"subscription_group_id": "g"}],
                "push_tokens": [{"app_id": "a", "token": "t"}],
            },
            0,
        ),
    ],
)
def test_attributes_cost_what_is_documented(record: dict[str, Any], points: int) -> None:
    """Each attribute is a point, of an object each innermost key; identifiers and the like none."""
    assert points_of(record) == points


@given(st.dictionaries(st.text(min_size=1, max_size=5), VALUES))
def test_every_attribute_costs_something(values: dict[str, Any]) -> None:
    """An attribute that is set is a point at least, whatever its value is."""
    record = {"external_id": "u1", **values}
    assert points_of(record) >= len(record.keys() - FREE - {"email", "phone"})


@given(VALUES)
def test_a_value_costs_what_its_parts_do(value: Any) -> None:
    """Objects cost the sum of their values, lists that of the objects and lists in them."""
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = [held for held in value if isinstance(held, dict | list)]
    assert leaves(value) == (sum(map(leaves, inner)) if inner else 1)


def test_deep_nesting_is_counted() -> None:
    """A value that is nested deeper than calls may be is counted all the same."""
    value: Any = 1
    for _ in range(5_000):
        value = {"a": value}
    assert leaves(value) == 1


def test_events_and_purchases_are_told_apart_from_their_properties() -> None:
    """Each is a point; properties are counted by themselves, and `ecommerce.` events are free."""
    points = DataPoints()
    points.add_attributes([{"external_id": "u", "a": 1}])
    points.add_events(
        [
            {"name": "saw", "properties": {"a": 1, "b": {"c": 1, "d": [1, 2]}}},
            {"name": "ecommerce.order_placed", "properties": {"a": 1}},
            {"name": "left", "properties": None},
            {"external_id": "u"},
        ]
    )
    points.add_purchases(
        [
            {"product_id": "p", "quantity": 5, "properties": {"a": 1}},
            {"product_id": "p"},
            {"product_id": "p", "quantity": None},
        ]
    )
    assert (points.attributes, points.event, points.purchase) == (1, 3, 3)
    assert (points.event_properties, points.purchase_properties, points.units) == (3, 1, 7)
    assert points.total == 7
