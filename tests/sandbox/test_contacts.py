"""The rows about addresses, push tokens and messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.records import ATTRIBUTES
from ingest.sandbox.contacts import (
    BOUNCE_REMOVE,
    EMAIL_STATUS,
    PUSH_REMOVE,
    SPAM_REMOVE,
    TRIGGER_SEND,
    contact_rows,
)
from ingest.sandbox.objects import BAD_EMAIL, canonical, key_of
from ingest.sandbox.rules import Item, Verdict
from ingest.sandbox.store import Store

TOKEN = {"app_id": "a", "token": "t"}


class Users:
    """A store, and the rows of it."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.store = Store(keep=10, keep_bytes=1 << 20)
        self.rows = contact_rows(self.store)
        self.add(*objects)

    def add(self, *objects: dict[str, Any]) -> None:
        """Apply attributes objects."""
        for obj in objects:
            key = key_of(obj)
            assert key is not None
            items: tuple[list[Item], ...] = ([], [], [])
            items[ATTRIBUTES].append(Item(key, obj, canonical(obj)))
            self.store.apply(1, items)

    def ask(self, path: str, body: Any) -> Verdict:
        """Judge a body and apply it."""
        verdict = self.rows[path](body, aids=True)
        if verdict.effect is not None:
            verdict.effect(7)
        return verdict

    def view(self, external_id: str) -> dict[str, Any]:
        """Return a profile that must be there."""
        found = self.store.view(external_id)
        assert found is not None
        return found

    def state(self, external_id: str) -> Any:
        """Return whether a user has subscribed to e-mails."""
        return self.view(external_id)["attributes"].get("email_subscribe")


def full(path: str, count: int) -> dict[str, Any]:
    """Return a body of so many items."""
    emails = {"email": [f"a{i}@b.co" for i in range(count)]}
    bodies: dict[str, dict[str, Any]] = {
        PUSH_REMOVE: {"push_tokens": [TOKEN] * count},
        EMAIL_STATUS: {**emails, "subscription_state": "subscribed"},
        BOUNCE_REMOVE: emails,
        SPAM_REMOVE: emails,
        TRIGGER_SEND: {
            "campaign_id": "c",
            "recipients": [{"external_user_id": f"u{i}"} for i in range(count)],
        },
    }
    return bodies[path]


@pytest.mark.parametrize(
    "path", [PUSH_REMOVE, EMAIL_STATUS, BOUNCE_REMOVE, SPAM_REMOVE, TRIGGER_SEND]
)
def test_a_row_takes_one_to_fifty_items(path: str) -> None:
    """More, or none, and nothing is done."""
    users = Users()
    accepted = users.ask(path, full(path, 50))
    assert (accepted.status, accepted.body) == (201, {"message": "success"})
    over = users.ask(path, full(path, 51))
    assert (over.status, over.effect) == (400, None)
    assert "per request was exceeded" in over.body["message"]
    wrong: list[Any] = [full(path, 0), {}, [], None]
    assert {users.ask(path, body).status for body in wrong} == {400}


def test_a_token_is_removed_wherever_it_is() -> None:
    """Others stay; one that nobody has is a drop."""
    other = {**TOKEN, "app_id": "b"}
    users = Users(
        {"external_id": "u", "push_tokens": [TOKEN, other]},
        {"external_id": "v", "push_tokens": [TOKEN]},
        {"external_id": "w"},
    )
    verdict = users.ask(PUSH_REMOVE, {"push_tokens": [TOKEN, {**TOKEN, "token": "x"}, {}, 7]})
    assert (verdict.status, verdict.rejected) == (201, 2)
    assert {error["index"] for error in verdict.body["errors"]} == {2, 3}
    assert users.view("u")["attributes"]["push_tokens"] == [other]
    assert users.view("v")["attributes"]["push_tokens"] == []
    assert users.store.dropped == {"unknown_push_token": 1}


def test_a_state_is_set_on_everyone_with_the_address() -> None:
    """And on whoever has it later, unless a state comes along."""
    users = Users(*({"external_id": name, "email": "a@b.co"} for name in "uv"))
    body = {"email": "a@b.co", "subscription_state": "unsubscribed"}
    assert users.ask(EMAIL_STATUS, body).status == 201
    assert (users.state("u"), users.state("v")) == ("unsubscribed", "unsubscribed")
    users.add({"external_id": "w", "email": "a@b.co"}, {"email": "a@b.co", "external_id": "x"})
    users.add({"external_id": "y", "email": "a@b.co", "email_subscribe": "opted_in"})
    assert (users.state("w"), users.state("x"), users.state("y")) == (
        "unsubscribed",
        "unsubscribed",
        "opted_in",
    )
    assert users.store.stats()["emails"] == {
        "states": 1,
        "bounces_removed": 0,
        "spam_removed": 0,
    }


@pytest.mark.parametrize("state", [None, "", "yes", [], 7])
def test_a_state_is_one_of_three(state: Any) -> None:
    """Anything else voids the request."""
    body = {"email": "a@b.co", "subscription_state": state}
    assert Users().ask(EMAIL_STATUS, body).status == 400


def test_a_bad_address_has_an_error_at_its_index() -> None:
    """The others are taken; alone it is a 400."""
    users = Users()
    verdict = users.ask(BOUNCE_REMOVE, {"email": ["a@b.co", "x", 7]})
    assert (verdict.status, verdict.rejected) == (201, 2)
    assert verdict.users == {("email", "a@b.co")}
    assert verdict.body["errors"][0] == {"type": BAD_EMAIL, "input_array": "email", "index": 1}
    assert users.ask(BOUNCE_REMOVE, {"email": "x"}).status == 400
    assert users.store.stats()["emails"]["bounces_removed"] == 1


def test_a_complaint_is_forgotten() -> None:
    """On every profile of the address; one that nobody has is remembered as well."""
    marked = {"email": "a@b.co", "marked_email_as_spam_at": "2026-01-01"}
    users = Users({"external_id": "u", **marked})
    assert users.ask(SPAM_REMOVE, {"email": ["a@b.co", "b@b.co"]}).status == 201
    assert users.view("u")["attributes"] == {"email": "a@b.co"}
    assert users.store.stats()["emails"]["spam_removed"] == 2


def test_a_message_is_booked_on_its_recipient() -> None:
    """Properties of a recipient go before those of all; an unknown one gets nothing."""
    users = Users({"external_id": "u"}, {"external_id": "v"})
    body = {
        "campaign_id": "c",
        "trigger_properties": {"all": 1},
        "recipients": [
            {"external_user_id": "u"},
            {"external_user_id": "v", "trigger_properties": {"own": 1}},
            {"external_user_id": "x"},
            {"external_user_id": "new", "send_to_existing_only": False},
            {"user_alias": {"alias_name": "n", "alias_label": "l"}},
        ],
    }
    verdict = users.ask(TRIGGER_SEND, body)
    assert (verdict.status, len(verdict.users)) == (201, 5)
    assert users.view("u")["sends"] == [
        {"request": 7, "campaign_id": "c", "trigger_properties": {"all": 1}}
    ]
    assert users.view("v")["sends"][0]["trigger_properties"] == {"own": 1}
    assert users.view("new")["sent"] == 1
    assert users.store.stats()["sends"] == 5
    assert users.store.dropped == {"unknown_recipient": 2}


def test_who_is_named_twice_gets_the_last_message() -> None:
    """Once."""
    users = Users({"external_id": "u"})
    recipients = [{"external_user_id": "u", "trigger_properties": {"n": n}} for n in range(3)]
    users.ask(TRIGGER_SEND, {"campaign_id": "c", "recipients": recipients})
    [sent] = users.view("u")["sends"]
    assert (sent["trigger_properties"], users.store.sends) == ({"n": 2}, 1)


def test_a_message_finds_its_recipient_by_email() -> None:
    """An unknown address is a send that came to nothing, and no profile is made for it."""
    users = Users({"external_id": "u", "email": "a@b.co"}, {"external_id": "v"})
    recipients: list[dict[str, Any]] = [
        {"email": "a@b.co", "trigger_properties": {"n": 1}},
        {"email": "x@b.co", "send_to_existing_only": False},
        {"external_user_id": "v", "email": "a@b.co"},
    ]
    verdict = users.ask(TRIGGER_SEND, {"campaign_id": "c", "recipients": recipients})
    assert (verdict.status, verdict.body) == (201, {"message": "success"})
    assert verdict.users == {("email", "a@b.co"), ("email", "x@b.co"), "v"}
    assert [each["trigger_properties"] for each in users.view("u")["sends"]] == [{"n": 1}]
    assert users.view("v")["sent"] == 1
    assert users.store.stats()["sends"] == 3
    assert users.store.dropped == {"unknown_recipient": 1}
    assert len(users.store) == 2


def test_of_several_with_an_address_the_identified_one_gets_the_message() -> None:
    """The one with an external id, though another was updated later; and only one message."""
    users = Users({"external_id": "u", "email": "a@b.co"}, {"email": "a@b.co"})
    alias = {"alias_name": "n", "alias_label": "l"}
    users.add({"user_alias": alias, "_update_existing_only": False, "email": "a@b.co"})
    users.ask(TRIGGER_SEND, {"campaign_id": "c", "recipients": [{"email": "a@b.co"}] * 2})
    assert (users.view("u")["sent"], users.store.sends, len(users.store)) == (1, 1, 2)


def deep() -> Any:
    """Return an object that is too deep to be encoded."""
    value: Any = {}
    for _ in range(300):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "bad",
    [
        7,
        {},
        {"external_user_id": 7},
        {"email": "x"},
        {"email": 7},
        {"email": ""},
        {"external_user_id": "u", "trigger_properties": []},
        {"external_user_id": "u", "trigger_properties": {"a": "x" * 51_200}},
        {"external_user_id": "u", "trigger_properties": deep()},
        {"external_user_id": "u", "_sandbox_reject": 1},
    ],
)
def test_a_bad_recipient_has_an_error_at_its_index(bad: Any) -> None:
    """The others get their message."""
    users = Users({"external_id": "v"})
    body = {"campaign_id": "c", "recipients": [{"external_user_id": "v"}, bad]}
    verdict = users.ask(TRIGGER_SEND, body)
    [error] = verdict.body["errors"]
    assert (error["input_array"], error["index"]) == ("recipients", 1)
    assert (verdict.status, users.store.sends) == (201, 1)


@pytest.mark.parametrize("campaign", [None, "", 7])
def test_a_message_needs_a_campaign(campaign: Any) -> None:
    """Or nothing is sent."""
    body = {"campaign_id": campaign, "recipients": [{"external_user_id": "u"}]}
    assert Users().ask(TRIGGER_SEND, body).status == 400


@pytest.mark.parametrize(
    ("path", "name"), [(PUSH_REMOVE, "push_tokens"), (TRIGGER_SEND, "recipients")]
)
@pytest.mark.parametrize("status", [400, 500])
def test_poison_fails_the_request(path: str, name: str, status: int) -> None:
    """Before any item is judged."""
    body = {"campaign_id": "c", name: [{"_sandbox_poison": str(status)}]}
    verdict = Users().ask(path, body)
    assert (verdict.status, "errors" in verdict.body) == (status, False)


@given(st.lists(st.sampled_from(["a@b.co", "b@b.co", "x", ""]), min_size=1, max_size=50))
def test_every_address_is_taken_or_has_an_error(emails: list[str]) -> None:
    """By its index."""
    users = Users()
    verdict = users.ask(SPAM_REMOVE, {"email": emails})
    named = {error["index"] for error in verdict.body.get("errors", [])}
    assert named == {i for i, email in enumerate(emails) if "@" not in email}
    assert users.store.spam_removed == {email for email in emails if "@" in email}
