"""Reading users back: the bodies, and whose profiles came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import dumps, loads
from ingest.rates import parse_rate
from ingest.records import UserKey
from ingest.sinks.braze import READS as BRAZE
from ingest.sinks.export import IDENTIFIERS, asking, profiles_of

KEYS: list[UserKey] = ["u", "v", ("alias", "l", "n"), ("email", "a@b.c"), ("braze_id", "b")]


@given(st.lists(st.sampled_from(KEYS) | st.integers().map(str), unique=True, max_size=130))
def test_every_key_is_asked_for_once(keys: list[UserKey]) -> None:
    """At most fifty ids and aliases together, and each other identity alone."""
    groups = list(BRAZE.groups(keys))
    assert sorted(map(str, (key for group in groups for key in group))) == sorted(map(str, keys))
    for group in groups:
        shared = [key for key in group if isinstance(key, str) or key[0] == "alias"]
        assert len(group) <= BRAZE.most
        assert len(shared) == len(group) or len(group) == 1


def test_a_body_names_the_users_and_as_little_as_is_needed() -> None:
    """What tells them apart is always asked for."""
    body = loads(b"{" + asking(["u", ("alias", "l", "n")], ["plan", "email"]) + b"}")
    assert body == {
        "external_ids": ["u"],
        "user_aliases": [{"alias_name": "n", "alias_label": "l"}],
        "fields_to_export": [*IDENTIFIERS, "plan"],
    }
    body = loads(b"{" + asking([("email", "a@b.c")], []) + b"}")
    assert body == {"email_address": "a@b.c", "fields_to_export": list(IDENTIFIERS)}


def test_profiles_are_told_by_their_ids() -> None:
    """One may be that of several keys; nobody else's is taken."""
    alias = ("alias", "l", "n")
    mine = {"external_id": "u", "user_aliases": [{"alias_name": "n", "alias_label": "l"}, 5]}
    other = {"external_id": "x", "user_aliases": "none"}
    answer = dumps({"users": [mine, other, "nonsense"], "invalid_user_ids": ["v"]})
    assert profiles_of(["u", "v", alias], answer) == {"u": [mine], alias: [mine]}


def test_an_address_may_be_that_of_several() -> None:
    """All come back, and belong to the one who was asked for."""
    users = [{"external_id": "u"}, {"external_id": "v"}]
    mail = ("email", "a@b.c")
    assert profiles_of([mail], dumps({"users": users})) == {mail: users}
    assert profiles_of([mail], dumps({"users": []})) == {}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"message":"queued"}', b'{"users":5}'])
def test_what_is_no_answer_is_none(body: bytes) -> None:
    """So that it is asked again."""
    assert profiles_of(["u"], body) is None


def test_the_documented_figures() -> None:
    """Of accounts since 2024: others say it by --rate."""
    assert (BRAZE.path, BRAZE.most, BRAZE.limits) == (
        "/users/export/ids",
        50,
        parse_rate("250/1m"),
    )
    assert BRAZE.readable(("phone", "+49"))
    assert not BRAZE.readable(("push_token", "t"))
