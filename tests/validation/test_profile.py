"""Rules of profile fields."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.validation import check
from ingest.validation.isocodes import COUNTRIES, CURRENCIES, LANGUAGES

LONG = "x" * 256
TOKEN = {"app_id": "app", "token": "t"}
GROUP = {"subscription_group_id": "g", "subscription_state": "subscribed"}
HERE = {"longitude": -73.99, "latitude": 40.75}


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("email", "nobody", "bad-email"),
        ("email", 5, "bad-email"),
        ("email", "", "odd-email"),
        ("email", "a@" + LONG, "long-string"),
        ("phone", 5, "wrong-type"),
        ("first_name", ["a"], "wrong-type"),
        ("last_name", LONG, "long-string"),
        ("country", "Spain", "unknown-country"),
        ("country", 34, "unknown-country"),
        ("language", "pt-BR", "unknown-language"),
        ("language", 1, "unknown-language"),
        ("gender", "X", "unknown-gender"),
        ("gender", 1, "unknown-gender"),
        ("dob", "12/21/1980", "odd-date"),
        ("dob", 1980, "odd-date"),
        ("date_of_first_session", "soon", "odd-date"),
        ("date_of_last_session", 5, "odd-date"),
        ("email_subscribe", "yes", "bad-subscription-state"),
        ("push_subscribe", True, "bad-subscription-state"),
        ("email_open_tracking_disabled", "true", "bad-flag"),
        ("subscription_groups", GROUP, "bad-subscription-groups"),
        ("subscription_groups", [5], "bad-subscription-groups"),
        ("subscription_groups", [{**GROUP, "subscription_state": "on"}], "bad-subscription-groups"),
        ("subscription_groups", [{**GROUP, "subscription_state": []}], "bad-subscription-groups"),
        ("subscription_groups", [{"subscription_state": "subscribed"}], "bad-subscription-groups"),
        ("current_location", "here", "bad-location"),
        ("current_location", {"longitude": 1}, "bad-location"),
        ("current_location", {**HERE, "longitude": "1"}, "odd-coordinate"),
        ("current_location", {**HERE, "longitude": True}, "odd-coordinate"),
        ("current_location", {**HERE, "latitude": 90.5}, "odd-coordinate"),
        ("push_tokens", TOKEN, "bad-push-tokens"),
        ("push_tokens", ["t"], "bad-push-tokens"),
        ("push_tokens", [{"token": "t"}], "bad-push-tokens"),
        ("push_tokens", [{**TOKEN, "token": ""}], "bad-push-tokens"),
        ("push_tokens", [{**TOKEN, "device_id": "seven77"}], "bad-device-id"),
        ("push_tokens", [{**TOKEN, "device_id": 12345678}], "bad-device-id"),
        ("push_tokens", [{**TOKEN, "device_id": LONG}], "bad-device-id"),
        ("facebook", "me", "wrong-type"),
        ("twitter", [], "wrong-type"),
    ],
)
def test_each_fault_has_its_code(name: str, value: Any, code: str) -> None:
    """One fault in a profile field gives one problem, which names the field."""
    problems = check("attributes", {"external_id": "u", name: value})
    assert [p.code for p in problems] == [code]
    assert problems[0].field.startswith(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("email", "a.b+c@example.com"),
        ("country", "es"),
        ("country", "ES"),
        ("language", "es"),
        ("language", "gsw"),
        ("gender", "f"),
        ("dob", "1980-12-21"),
        ("date_of_first_session", "1980-12-21T00:00:00Z"),
        ("email_subscribe", "opted_in"),
        ("subscription_groups", []),
        ("subscription_groups", [GROUP]),
        ("current_location", {**HERE, "accuracy": 5}),
        ("push_tokens", [TOKEN, {**TOKEN, "device_id": "device-1"}, {**TOKEN, "device_id": None}]),
        ("facebook", {"id": "1", "likes": [None]}),
        ("_merge_objects", True),
        ("braze_id", None),
    ],
)
def test_documented_forms_are_clean(name: str, value: Any) -> None:
    """Every documented form of a profile field passes."""
    assert check("attributes", {"external_id": "u", name: value}) == []


def test_the_lists_of_codes_are_whole() -> None:
    """The embedded lists have the lengths of their standards."""
    assert len(COUNTRIES) == 249
    assert sum(len(code) == 2 for code in LANGUAGES) == 185
    assert {"USD", "EUR", "JPY", "BSD"} <= CURRENCIES
    assert all(len(code) == 3 for code in CURRENCIES)
