"""Whose record it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.validation import Problem, identity, identity_only

ALIAS = {"alias_label": "device", "alias_name": "d-1"}
TOKENS = [{"app_id": "app", "token": "t-1"}, {"app_id": "app"}, 5, {"app_id": "app", "token": ""}]


@pytest.mark.parametrize(
    ("record", "key"),
    [
        ({"external_id": "u1"}, "u1"),
        ({"external_id": 17}, "17"),
        ({"external_id": "x" * 987}, "x" * 987),
        ({"external_id": "u1", "user_alias": None, "braze_id": None}, "u1"),
        ({"external_id": "u1", "email": "not an address", "phone": 5}, "u1"),
        ({"user_alias": ALIAS}, ("alias", "device", "d-1")),
        ({"braze_id": "b1"}, ("braze_id", "b1")),
        ({"email": "a@b.c", "phone": "+1"}, ("email", "a@b.c")),
        ({"phone": "+1"}, ("phone", "+1")),
        ({"push_token_import": True, "push_tokens": TOKENS}, ("push_token", "t-1")),
        ({"push_token_import": False, "external_id": "u1"}, "u1"),
    ],
)
def test_the_one_identifier_is_the_key(record: dict[str, Any], key: object) -> None:
    """Primaries come first, e-mail beats phone, and an integer id becomes its decimal text."""
    assert identity(record) == key
    assert identity_only(record) == key


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({}, "missing-identity"),
        ({"external_id": None, "email": None}, "missing-identity"),
        ({"external_id": "a", "user_alias": ALIAS}, "two-identities"),
        ({"user_alias": ALIAS, "braze_id": "b"}, "two-identities"),
        ({"external_id": ""}, "bad-external-id"),
        ({"external_id": True}, "bad-external-id"),
        ({"external_id": 1.5}, "bad-external-id"),
        ({"external_id": "x" * 988}, "long-external-id"),
        ({"external_id": "é" * 494}, "long-external-id"),
        ({"user_alias": "d-1"}, "bad-alias"),
        ({"user_alias": {}}, "bad-alias"),
        ({"user_alias": {**ALIAS, "alias_name": ""}}, "bad-alias"),
        ({"user_alias": {**ALIAS, "alias_name": 5}}, "bad-alias"),
        ({"user_alias": {**ALIAS, "alias_name": "é" * 119}}, "long-alias"),
        ({"user_alias": {**ALIAS, "alias_label": "x" * 237}}, "long-alias"),
        ({"braze_id": ""}, "bad-braze-id"),
        ({"braze_id": 5}, "bad-braze-id"),
        ({"email": "nobody"}, "bad-email"),
        ({"email": 5}, "bad-email"),
        ({"phone": ""}, "bad-phone"),
        ({"phone": 5}, "bad-phone"),
        ({"push_token_import": True}, "bad-push-token-import"),
        ({"push_token_import": True, "push_tokens": [{}]}, "bad-push-token-import"),
        (
            {"push_token_import": True, "push_tokens": TOKENS, "external_id": "a"},
            "bad-push-token-import",
        ),
        (
            {"push_token_import": True, "push_tokens": TOKENS, "braze_id": "a"},
            "bad-push-token-import",
        ),
    ],
)
def test_a_bad_identity_is_one_unmendable_error(record: dict[str, Any], code: str) -> None:
    """What is wrong with an identity is an error of the whole object: no field can be dropped."""
    found = identity(record)
    assert isinstance(found, Problem)
    assert (found.code, found.grade, found.mend) == (code, "error", None)


def test_only_attributes_import_push_tokens() -> None:
    """An event cannot be anonymous, whatever it says about push tokens."""
    record = {"push_token_import": True, "push_tokens": TOKENS}
    found = identity(record, "event")
    assert isinstance(found, Problem)
    assert found.code == "missing-identity"


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ([], "not-an-object"),
        (None, "not-an-object"),
        ({}, "missing-identity"),
        ({"external_id": "", "user_alias": {}, "email": 5}, "missing-identity"),
        ({"external_id": False, "user_alias": {"alias_label": "a"}}, "missing-identity"),
        ({"push_token_import": True}, "missing-identity"),
    ],
)
def test_trust_still_asks_for_an_object_with_an_identifier(record: object, code: str) -> None:
    """Without rules, a record must still be an object that names somebody."""
    found = identity_only(record)
    assert isinstance(found, Problem)
    assert found.code == code


def test_trust_takes_what_the_rules_refuse() -> None:
    """Sizes and second identifiers are the destination's matter then."""
    assert identity_only({"external_id": "x" * 2000, "braze_id": "b"}) == "x" * 2000


@given(st.integers(min_value=-(2**63), max_value=2**64 - 1))
def test_an_integer_id_is_the_user_of_its_decimal_text(number: int) -> None:
    """The same user has the same key whether the id came as a number or as text."""
    assert identity({"external_id": number}) == identity({"external_id": str(number)})
