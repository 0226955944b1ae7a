"""What `/users/export/ids` says."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.sandbox.export import NOTHING_ASKED, TOO_MANY, judge_export
from ingest.sandbox.rules import Caps, judge
from ingest.sandbox.store import Store

ALIAS = {"alias_name": "n", "alias_label": "l"}


@pytest.fixture
def users() -> Store:
    """Two users, one of them known by an alias only."""
    store = Store(keep=10, keep_bytes=10_000)
    verdict = judge(
        {
            "attributes": [
                {"external_id": "u", "email": "a@b.c", "first_name": "Ann", "plan": "pro"},
                {"user_alias": ALIAS, "_update_existing_only": False},
            ],
            "events": [
                {"external_id": "u", "name": "n", "time": "2026-01-02"},
                {"external_id": "u", "name": "n", "time": "2026-01-01"},
            ],
            "purchases": [
                {
                    "external_id": "u",
                    "product_id": "p",
                    "currency": "EUR",
                    "price": 2,
                    "quantity": 2,
                    "time": "2026-01-01",
                }
            ],
        },
        Caps(),
    )
    store.apply(1, verdict.items)
    return store


def test_a_profile_is_exported_with_standard_fields_apart_from_custom_ones(users: Store) -> None:
    """Events and products come as tallies with their first and last time."""
    verdict = judge_export({"external_ids": ["u"]}, users)
    assert verdict.status == 201
    assert verdict.body["users"] == [
        {
            "external_id": "u",
            "braze_id": f"{0:024x}",
            "custom_attributes": {"plan": "pro"},
            "custom_events": [
                {
                    "name": "n",
                    "first": "2026-01-01T00:00:00.000Z",
                    "last": "2026-01-02T00:00:00.000Z",
                    "count": 2,
                }
            ],
            "purchases": [
                {
                    "name": "p",
                    "first": "2026-01-01T00:00:00.000Z",
                    "last": "2026-01-01T00:00:00.000Z",
                    "count": 2,
                }
            ],
            "total_revenue": 4.0,
            "email": "a@b.c",
            "first_name": "Ann",
        }
    ]


def test_only_the_fields_asked_for_come_back(users: Store) -> None:
    """Unknown fields are passed over."""
    body = {"external_ids": ["u"], "fields_to_export": ["external_id", "first_name", "nonsense"]}
    assert judge_export(body, users).body["users"] == [{"external_id": "u", "first_name": "Ann"}]


def test_unknown_ids_are_listed(users: Store) -> None:
    """Known ones come in the order asked, each once, however they were named."""
    body = {
        "external_ids": ["nobody", "u", "u", 5],
        "user_aliases": [ALIAS, {"alias_name": "x"}],
        "email_address": "a@b.c",
        "fields_to_export": ["external_id"],
    }
    verdict = judge_export(body, users)
    assert verdict.body["users"] == [{"external_id": "u"}, {}]
    assert verdict.body["invalid_user_ids"] == ["nobody", 5, {"alias_name": "x"}]


def test_a_user_is_found_by_braze_id(users: Store) -> None:
    """The id that the export gave."""
    verdict = judge_export({"braze_id": f"{0:024x}", "fields_to_export": ["external_id"]}, users)
    assert verdict.body["users"] == [{"external_id": "u"}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, NOTHING_ASKED),
        ([], NOTHING_ASKED),
        ({"external_ids": "u"}, "'external_ids' must be an array"),
        ({"external_ids": ["u"] * 51}, TOO_MANY),
        ({"external_ids": ["u"] * 50, "user_aliases": [ALIAS]}, TOO_MANY),
    ],
)
def test_a_wrong_request_is_refused(users: Store, body: Any, message: str) -> None:
    """Fifty ids and aliases together are the most."""
    verdict = judge_export(body, users)
    assert (verdict.status, verdict.body["message"]) == (400, message)


def test_what_an_export_does_not_have_is_left_out(users: Store) -> None:
    """A place comes as longitude and latitude; subscription groups and images not at all."""
    sent = {
        "external_id": "place",
        "current_location": {"latitude": 48.1, "longitude": 11.6},
        "image_url": "https://example.org/a.png",
        "subscription_groups": [{"subscription_group_id": "g", "subscription_state": "subscribed"}],
    }
    users.apply(2, judge({"attributes": [sent]}, Caps()).items)
    (user,) = judge_export({"external_ids": ["place"]}, users).body["users"]
    assert user.keys() == {"external_id", "braze_id", "last_coordinates", "total_revenue"}
    assert user["last_coordinates"] == [11.6, 48.1]


def test_times_are_exported_in_utc(users: Store) -> None:
    """Whatever their zone was; a form that no calendar of ours reads stays as it came."""
    event = {"external_id": "u", "name": "zoned", "time": "2026-01-01T01:30:00+01:00"}
    rare = {"external_id": "u", "name": "rare", "time": "Thu Jan 01 10:00:00.UTC 2026"}
    users.apply(2, judge({"events": [event, rare]}, Caps()).items)
    body = {"external_ids": ["u"], "fields_to_export": ["custom_events"]}
    (user,) = judge_export(body, users).body["users"]
    last = {row["name"]: row["last"] for row in user["custom_events"]}
    assert last["zoned"] == "2026-01-01T00:30:00.000Z"
    assert last["rare"] == rare["time"]
