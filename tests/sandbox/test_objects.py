"""What is wrong with one object, and whose it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.records import ATTRIBUTES, EVENT, PURCHASE, UserKey
from ingest.sandbox.objects import (
    BAD_ALIAS,
    BAD_CURRENCY,
    BAD_EMAIL,
    BAD_PROPERTIES,
    EXTERNAL_ID_TOO_LONG,
    MISSING_IDENTIFIER,
    NOT_AN_OBJECT,
    TWO_IDENTIFIERS,
    check,
    key_of,
    valid_email,
    valid_time,
)

EVENT_OBJECT = {"external_id": "u", "name": "seen", "time": "2026-01-02T03:04:05Z"}
PURCHASE_OBJECT = {
    "external_id": "u",
    "product_id": "p",
    "currency": "USD",
    "price": 9.5,
    "time": "2026-01-02",
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "external_id",
        "user_alias",
        "braze_id",
        "email",
        "phone",
        "name",
        "time",
        "product_id",
        "currency",
        "price",
        "quantity",
        "properties",
        "push_token_import",
        "push_tokens",
        "subscription_groups",
        "current_location",
        "email_subscribe",
    ]
)


def errors(slot: int, obj: Any) -> list[str]:
    return check(slot, obj, key_of(obj) if isinstance(obj, dict) else None)


def alias(name: Any, label: Any) -> dict[str, Any]:
    return {"user_alias": {"alias_name": name, "alias_label": label}}


@pytest.mark.parametrize(
    ("obj", "key"),
    [
        ({"external_id": "u", "email": "a@b.c"}, "u"),
        (alias("n", "l"), ("alias", "l", "n")),
        ({"braze_id": "b", "email": "a@b.c"}, ("braze_id", "b")),
        ({"phone": "+1", "email": "a@b.c"}, ("email", "a@b.c")),
        ({"external_id": None, "phone": "+1"}, ("phone", "+1")),
        ({"push_token_import": True, "push_tokens": [{"token": "t"}]}, ("push_token", "t")),
        ({"external_id": 5}, None),
        ({"external_id": ""}, None),
        (alias("n", None), None),
        ({"user_alias": "n"}, None),
        ({}, None),
    ],
)
def test_identity_is_resolved_in_the_documented_order(
    obj: dict[str, Any], key: UserKey | None
) -> None:
    """Primaries first, then e-mail, then phone; a null counts as absent."""
    assert key_of(obj) == key


@pytest.mark.parametrize(
    ("obj", "error"),
    [
        ({"plan": "pro"}, MISSING_IDENTIFIER),
        ({"external_id": ""}, MISSING_IDENTIFIER),
        ({"external_id": 5}, "'external_id' must be a string"),
        ({"external_id": "u", "braze_id": "b"}, TWO_IDENTIFIERS),
        ({"external_id": "u", **alias("n", "l")}, TWO_IDENTIFIERS),
        ({"external_id": "x" * 988}, EXTERNAL_ID_TOO_LONG),
        ({"external_id": "\u20ac" * 330}, EXTERNAL_ID_TOO_LONG),
        (alias("", "l"), BAD_ALIAS),
        (alias("n" * 237, "l"), BAD_ALIAS),
        ({"email": "nobody"}, BAD_EMAIL),
        ({"external_id": "u", "email": "a b@c.d"}, BAD_EMAIL),
        ({"external_id": "u", "email_subscribe": "yes"}, "BAD_EMAIL_SUBSCRIPTION_STATE"),
        ({"external_id": "u", "push_subscribe": 1}, "BAD_PUSH_SUBSCRIPTION_STATE"),
        ({"external_id": "u", "current_location": {"latitude": 91}}, "BAD_LOCATION_UPDATE"),
        ({"external_id": "u", "subscription_groups": {}}, "BAD_SUBSCRIPTION_GROUP_ARRAY"),
        ({"external_id": "u", "subscription_groups": [1]}, "BAD_SUBSCRIPTION_GROUP_HASH"),
        ({"external_id": "u", "subscription_groups": [{}]}, "BAD_SUBSCRIPTION_GROUP_ID"),
        (
            {"external_id": "u", "subscription_groups": [{"subscription_group_id": "g"}]},
            "BAD_SUBSCRIPTION_GROUP_STATE",
        ),
        ({"external_id": "u", "push_tokens": "t"}, "BAD_PUSH_TOKEN_VALUE"),
        ({"external_id": "u", "push_tokens": ["t"]}, "BAD_PUSH_TOKEN_VALUE"),
        ({"external_id": "u", "push_tokens": [{}]}, "BAD_PUSH_TOKEN_APP_ID"),
        ({"external_id": "u", "push_tokens": [{"app_id": "a"}]}, "BAD_PUSH_TOKEN_STRING"),
        (
            {
                "external_id": "u",
                "push_tokens": [{"app_id": "a", "token": "t", "device_id": "short"}],
            },
            "BAD_DEVICE_ID",
        ),
        ({"external_id": "u", "push_token_import": True}, "BAD_PUSH_TOKEN_IMPORT"),
        ({"push_token_import": True}, "BAD_PUSH_TOKEN_IMPORT"),
    ],
)
def test_attributes_earn_the_documented_errors(obj: dict[str, Any], error: str) -> None:
    """One fault, one error."""
    assert errors(ATTRIBUTES, obj) == [error]


@pytest.mark.parametrize(
    "obj",
    [
        {"external_id": "x" * 987},
        {"external_id": "u", "email": None},
        {"email": "a.b+c@d.example"},
        {"phone": "+15551234"},
        alias("n" * 236, "l"),
        {"push_token_import": True, "push_tokens": [{"app_id": "a", "token": "t"}]},
        {"external_id": "u", "current_location": {"latitude": 1, "longitude": 2.5}},
        {
            "external_id": "u",
            "subscription_groups": [
                {"subscription_group_id": "g", "subscription_state": "subscribed"}
            ],
        },
    ],
)
def test_good_attributes_earn_none(obj: dict[str, Any]) -> None:
    """What is documented is accepted."""
    assert errors(ATTRIBUTES, obj) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"name": None}, "'name' is required"),
        ({"name": 5}, "'name' must be a string"),
        ({"time": None}, "'time' is required"),
        ({"time": "yesterday"}, "'time' is not valid"),
        ({"time": 1_700_000_000}, "'time' is not valid"),
        ({"properties": []}, BAD_PROPERTIES),
        ({"properties": {"time": 1}}, BAD_PROPERTIES),
        ({"properties": {"event_name": 1}}, BAD_PROPERTIES),
        ({"properties": {"": 1}}, BAD_PROPERTIES),
        ({"properties": {"$x": 1}}, BAD_PROPERTIES),
        ({"properties": {"x" * 256: 1}}, BAD_PROPERTIES),
    ],
)
def test_events_earn_the_documented_errors(change: dict[str, Any], error: str) -> None:
    """Each field that is wrong has its sentence."""
    assert errors(EVENT, {**EVENT_OBJECT, **change}) == [error]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"product_id": None}, "'product_id' is required"),
        ({"product_id": "p" * 256}, "'product_id' is not valid"),
        ({"currency": None}, "'currency' is required"),
        ({"currency": "DOLLAR"}, BAD_CURRENCY),
        ({"currency": "U$D"}, BAD_CURRENCY),
        ({"price": None}, "'price' is required"),
        ({"price": "9.5"}, "'price' is not valid"),
        ({"price": True}, "'price' is not valid"),
        ({"quantity": 0}, "'quantity' is not valid"),
        ({"quantity": 101}, "'quantity' is not valid"),
        ({"quantity": 1.0}, "'quantity' is not valid"),
        ({"quantity": True}, "'quantity' is not valid"),
        ({"time": ""}, "'time' is required"),
        ({"properties": {"price": 1}}, BAD_PROPERTIES),
    ],
)
def test_purchases_earn_the_documented_errors(change: dict[str, Any], error: str) -> None:
    """Each field that is wrong has its sentence."""
    assert errors(PURCHASE, {**PURCHASE_OBJECT, **change}) == [error]


def test_good_events_and_purchases_earn_none() -> None:
    """Reserved keys of purchases are free for events; prices may be negative."""
    assert errors(EVENT, {**EVENT_OBJECT, "properties": {"price": 1, "a b": None}}) == []
    assert errors(PURCHASE, {**PURCHASE_OBJECT, "price": -3, "quantity": 100}) == []


def test_several_faults_earn_several_errors() -> None:
    """One object may be listed more than once."""
    assert len(errors(PURCHASE, {"external_id": "u"})) == 4


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.678+02:00",
        "2026-01-02T03:04:05:678Z",
        "2026-01-02T03:04:05",
        "2026-01-02 03:04:05",
        "2026-01-02 03:04:05 -0500",
        "2026-01-02",
        "01/31/2026",
        "Fri 01 02 03:04:05.UTC 2026",
    ],
)
def test_documented_forms_of_time_are_valid(time: str) -> None:
    """Every form of the documentation, and one seen in recorded traffic."""
    assert valid_time(time)


@pytest.mark.parametrize("time", ["", "2026-13-01", "31/01/2026", "2026", 5, None, "now"])
def test_other_forms_of_time_are_not(time: Any) -> None:
    """Numbers and impossible dates are refused."""
    assert not valid_time(time)


@pytest.mark.parametrize("email", ["a@b", "@b.c", "a@.c", "a@b.", "a@@b.c", "a..b@c.d", "", None])
def test_an_email_needs_a_name_and_a_domain(email: Any) -> None:
    """The check is loose, but not blind."""
    assert not valid_email(email)


@given(st.sampled_from([ATTRIBUTES, EVENT, PURCHASE]), JSON | st.dictionaries(FIELDS, JSON))
def test_any_json_gets_a_verdict(slot: int, obj: Any) -> None:
    """Nothing raises, and an object without errors has an identity."""
    found = errors(slot, obj)
    if not isinstance(obj, dict):
        assert found == [NOT_AN_OBJECT]
    elif not found:
        assert key_of(obj) is not None
