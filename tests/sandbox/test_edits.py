"""What Batch CEP says to an array of edits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sandbox.edits import (
    BAD_DATE,
    BAD_EVENT,
    BAD_EVENT_ATTRIBUTE,
    BAD_KEY,
    BAD_NAME,
    BAD_URL,
    BAD_VALUE,
    IN_FUTURE,
    REJECT,
    TOO_MANY_ATTRIBUTES,
    TOO_MANY_EVENTS,
    TOO_OLD,
    judge_edits,
    poison_of,
    refuse_whole,
    spellings_of,
)

NOW = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


def edit(custom_id: str = "u", **members: Any) -> dict[str, Any]:
    return {"identifiers": {"custom_id": custom_id}, **members}


def reasons(**members: Any) -> list[str]:
    """Return the reasons of the errors of one edit."""
    return [error["reason"] for error in judge_edits([edit(**members)], NOW).errors]


@pytest.mark.parametrize("body", [{}, None, [], [edit(f"u{i}") for i in range(4)]])
def test_a_body_is_an_array_within_its_cap(body: Any) -> None:
    """The refusal names the cap."""
    assert "1 to 3 edits" in str(refuse_whole(body, 3))


@pytest.mark.parametrize(
    "wrong",
    [
        7,
        {},
        {"identifiers": {}},
        {"identifiers": {"custom_id": ""}},
        {"identifiers": {"custom_id": 1}},
        {"identifiers": {"custom_id": "x" * 513}},
        {"identifiers": {"custom_id": "u", "installation": {}}},
        edit(attributes=[]),
        edit(attributes=None),
        edit(events={}),
        edit(more=1),
    ],
)
def test_an_edit_of_a_wrong_shape_voids_the_request(wrong: Any) -> None:
    """The refusal names its place."""
    assert "at 1 " in str(refuse_whole([edit(), wrong], 200))


@pytest.mark.parametrize("key", ["born", "date(born)", "url(born)"])
def test_a_type_in_a_key_is_an_annotation(key: str) -> None:
    """Each spelling of an attribute leads to all of them."""
    assert set(spellings_of(key)) == {"born", "date(born)", "url(born)"}


def test_a_native_attribute_has_one_spelling() -> None:
    """Its type is known."""
    assert spellings_of("$email_address") == ("$email_address",)


def test_a_custom_id_may_stand_in_one_edit_only() -> None:
    """What two edits of a user in one request do is not documented; the sandbox forbids it."""
    assert refuse_whole([edit("a"), edit("b")], 200) is None
    assert "at 2 has a custom_id" in str(refuse_whole([edit("a"), edit("b"), edit("a")], 200))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("plan", "pro"),
        ("plan", True),
        ("n", 1),
        ("n", 1.5),
        ("k" * 30, "x" * 300),
        ("gone", None),
        ("$email_address", None),
        ("date(gone)", None),
        ("tags", ["a", "b"]),
        ("tags", []),
        ("tags", {"$add": ["a"]}),
        ("tags", {"$add": ["a"], "$remove": ["b"]}),
        ("date(born)", "1989-07-20T00:00:00Z"),
        ("date(born)", "1989-07-20T00:00:00.123456789+00:00"),
        ("url(site)", "https://example.com/a?b"),
        ("$email_address", "a@b.co"),
        ("$email_marketing", "subscribed"),
        ("$sms_marketing", "unsubscribed"),
        ("$phone_number", "+33612345678"),
        ("$language", "fr"),
        ("$region", "FR"),
        ("$timezone", "America/Argentina/Buenos_Aires"),
        ("$topic_preferences", ["a-b", "c_d"]),
        ("$topic_preferences", {"$remove": ["a-b"]}),
    ],
)
def test_what_a_profile_takes(key: str, value: Any) -> None:
    """Nothing is said about it, and it is taken as it came."""
    judged = judge_edits([edit(attributes={key: value})], NOW)
    assert judged.errors == []
    assert judged.edits[0].attributes == {key: value}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("Plan", 1, BAD_KEY),
        ("a b", 1, BAD_KEY),
        ("k" * 31, 1, BAD_KEY),
        ("", 1, BAD_KEY),
        ("$other", 1, BAD_KEY),
        ("time(k)", 1, BAD_KEY),
        ("Gone", None, BAD_KEY),
        ("plan", "", BAD_VALUE),
        ("plan", "x" * 301, BAD_VALUE),
        ("plan", {"a": 1}, BAD_VALUE),
        ("plan", {}, BAD_VALUE),
        ("plan", {"inc": 1}, BAD_VALUE),
        ("tags", [1], BAD_VALUE),
        ("tags", [""], BAD_VALUE),
        ("tags", [{"a": 1}], BAD_VALUE),
        ("tags", {"$add": "a"}, BAD_VALUE),
        ("tags", {"add": ["a"]}, BAD_VALUE),
        ("date(born)", "1989-07-20", BAD_DATE),
        ("date(born)", "1989-07-20T00:00:00", BAD_DATE),
        ("date(born)", "1989-07-20T00:00:00+02:00", BAD_DATE),
        ("date(born)", "1989-02-30T00:00:00Z", BAD_DATE),
        ("date(born)", 617_000_000, BAD_DATE),
        ("url(site)", "example.com", BAD_URL),
        ("url(site)", "https://" + "x" * 2_048, BAD_URL),
        ("$email_address", "a", BAD_VALUE),
        ("$email_marketing", "opted_in", BAD_VALUE),
        ("$phone_number", "0612345678", BAD_VALUE),
        ("$language", "fr-FR", BAD_VALUE),
        ("$region", "fr", BAD_VALUE),
        ("$timezone", "Eastern Time (US & Canada)", BAD_VALUE),
        ("$topic_preferences", ["A B"], BAD_VALUE),
        ("sandbox_reject", 1, REJECT),
        ("_sandbox_reject", "as you like", "as you like"),
    ],
)
def test_what_a_profile_refuses(key: str, value: Any, reason: str) -> None:
    """Alone: the other attribute of the edit is taken, and the error names the key."""
    judged = judge_edits([edit("a"), edit("b", attributes={"ok": 1, key: value})], NOW)
    assert judged.errors == [
        {"category": "attribute", "bulk_index": 1, "reason": reason, "attribute": key}
    ]
    assert judged.edits[1].attributes == {"ok": 1}


def test_an_edit_has_fifty_attributes() -> None:
    """The surplus is refused, each by its key."""
    judged = judge_edits([edit(attributes={f"k{i}": i for i in range(52)})], NOW)
    assert len(judged.edits[0].attributes) == 50
    assert [error["attribute"] for error in judged.errors] == ["k50", "k51"]
    assert judged.errors[0]["reason"] == TOO_MANY_ATTRIBUTES


@pytest.mark.parametrize(
    "event",
    [
        {"name": "seen"},
        {"name": "seen", "time": "2025-12-31T00:00:00Z"},
        {"name": "seen", "time": "2026-01-01T00:00:00.999Z"},
        {"name": "seen", "attributes": {"a": 1, "date(d)": "2020-01-01T00:00:00Z"}},
        {"name": "seen", "attributes": {"a": {"b": {"c": {"d": 1}}}, "list": [{"a": "x"}, {}]}},
        {"name": "seen", "attributes": {"$label": "l", "$tags": ["a"], "list": ["x"]}},
    ],
)
def test_events_that_are_taken(event: dict[str, Any]) -> None:
    """An event without a time gets that of its arrival."""
    judged = judge_edits([edit(events=[event])], NOW)
    assert judged.errors == []
    taken = {"time": "2026-01-01T00:00:00.000+00:00", **event}
    assert judged.edits[0].events == [taken]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (7, BAD_EVENT),
        ({"name": "n", "properties": {}}, BAD_EVENT),
        ({"name": "n", "attributes": []}, BAD_EVENT),
        ({}, BAD_NAME),
        ({"name": "Order paid"}, BAD_NAME),
        ({"name": "n" * 31}, BAD_NAME),
        ({"name": "n", "time": None}, BAD_DATE),
        ({"name": "n", "time": "2026-01-01"}, BAD_DATE),
        ({"name": "n", "time": "2025-12-30T23:59:59Z"}, TOO_OLD),
        ({"name": "n", "time": "2026-01-01T00:00:02Z"}, IN_FUTURE),
        ({"name": "n", "attributes": {"A": 1}}, BAD_EVENT_ATTRIBUTE),
        ({"name": "n", "attributes": {"a": None}}, BAD_EVENT_ATTRIBUTE),
        ({"name": "n", "attributes": {"a": ""}}, BAD_EVENT_ATTRIBUTE),
        ({"name": "n", "attributes": {"a": [1]}}, BAD_EVENT_ATTRIBUTE),
        ({"name": "n", "attributes": {"a": ["x", {}]}}, BAD_EVENT_ATTRIBUTE),
        ({"name": "n", "attributes": {"a": {"b": {"c": {"d": {}}}}}}, BAD_EVENT_ATTRIBUTE),
        ({"name": "n", "attributes": {"a": {"$label": "x"}}}, BAD_EVENT_ATTRIBUTE),
        ({"name": "n", "attributes": {"$label": "x" * 201}}, BAD_EVENT_ATTRIBUTE),
        ({"name": "n", "attributes": {"$tags": ["x"] * 11}}, BAD_EVENT_ATTRIBUTE),
        ({"name": "n", "attributes": {"url(u)": "x"}}, BAD_EVENT_ATTRIBUTE),
        ({"name": "n", "attributes": {"sandbox_reject": "so"}}, "so"),
    ],
)
def test_events_that_are_refused(event: Any, reason: str) -> None:
    """Alone: the other event is taken; the error gives the name, when there is one."""
    judged = judge_edits([edit(events=[event, {"name": "ok"}])], NOW)
    named = {"attribute": event["name"]} if isinstance(event, dict) and "name" in event else {}
    assert judged.errors == [{"category": "event", "bulk_index": 0, "reason": reason, **named}]
    assert [taken["name"] for taken in judged.edits[0].events] == ["ok"]


def test_an_edit_has_fifteen_events() -> None:
    """The surplus is refused, each as an event."""
    assert reasons(events=[{"name": "n"}] * 17) == [TOO_MANY_EVENTS] * 2


def test_the_test_aids_can_be_left_out() -> None:
    """A body without their bytes is not searched for them."""
    attributes = {"sandbox_reject": 1}
    assert judge_edits([edit(attributes=attributes)], NOW, aids=False).errors == []


def test_poison_fails_the_request() -> None:
    """In an attribute or an event; 500 goes before 400; other values are nothing."""
    of_event = edit(events=[7, {"attributes": {"sandbox_poison": "400"}}])
    assert poison_of([edit(), of_event]) == 400
    assert poison_of([edit(attributes={"_sandbox_poison": 500}), of_event]) == 500
    assert poison_of([edit(attributes={"sandbox_poison": "no"})]) is None


@given(JSON)
def test_whatever_is_sent_is_judged(body: Any) -> None:
    """Never an exception, neither of the whole nor of the pieces."""
    assert refuse_whole(body, 10) is None or isinstance(refuse_whole(body, 10), str)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=5), st.lists(JSON, max_size=4))
def test_every_piece_is_taken_or_named(attributes: dict[str, Any], events: list[Any]) -> None:
    """As many pieces come out as went in, whatever they are."""
    body = [edit(attributes=attributes, events=events)]
    assert refuse_whole(body, 1) is None
    judged = judge_edits(body, NOW)
    [taken] = judged.edits
    poison_of(body)
    assert len(taken.attributes) + len(taken.events) + len(judged.errors) == len(attributes) + len(
        events
    )
