"""Messages of topics and queues: what becomes of them before the intake reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import dumps, loads
from ingest.errors import ConfigError
from ingest.messages import Messages, Unreadable
from ingest.objects import Attributes, Event

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("a.ü", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.$", max_size=3), inner),
    max_leaves=8,
)

ORDERS = {
    "kind": "event",
    "columns": {
        "user.id": {"to": "external_id"},
        "type": {"to": "name"},
        "at": {"to": "time"},
        "secret": {"drop": True},
    },
    "constants": {"properties.source": "kafka"},
}


def refused(messages: Messages, message: bytes, kind: str | None = None) -> Unreadable:
    """Return why a message becomes no line."""
    with pytest.raises(Unreadable) as caught:
        messages.line(message, kind)
    return caught.value


def test_a_message_without_any_rule_goes_as_it_came() -> None:
    """Its bytes are not read, but for line breaks, which JSON has between tokens only."""
    assert Messages().line(b'{"event":\n {"a":\r\n1}}') == b'{"event":  {"a":  1}}'
    assert Messages(kind="event").line(b"no JSON at all") == b"no JSON at all"


def test_a_header_tells_the_kind_of_a_bare_object() -> None:
    """One that says its kind by itself stays as it is."""
    assert Messages().line(b'{"name":1}', "event") == b'{"event":{"name":1}}'
    assert Messages().line(b'{"event":{"name":1}}', "event") == b'{"event":{"name":1}}'
    assert Messages().line(b"[1]", "event") == b'{"event":[1]}'
    assert refused(Messages(), b"{}", "rows").code == "no-kind"


def test_what_a_schema_registry_framed_is_told_as_such() -> None:
    """Not as bad JSON: the producer has to change, and the sentence says how."""
    assert refused(Messages(), b"\x00\x00\x00\x00\x07{}").code == "schema-registry"


@pytest.mark.parametrize("envelope", [True, False])
def test_a_notification_is_unwrapped(envelope: bool) -> None:
    """SNS puts the message into a text; with raw delivery it does not, and both are read."""
    inner = {"event": {"external_id": "u"}}
    message = {"Type": "Notification", "Message": dumps(inner).decode()} if envelope else inner
    assert loads(Messages(mapping={"unwrap": "sns"}).line(dumps(message))) == inner


def test_a_notification_without_json_is_unreadable() -> None:
    """What it carries has to be JSON, and there."""
    messages = Messages(mapping={"unwrap": "sns"})
    assert refused(messages, b'{"Type":"Notification","Message":"hi"}').code == "not-json"
    assert refused(messages, b'{"Type":"Notification"}').field == "Message"
    assert refused(messages, b"hi").code == "not-json"


def test_a_mapping_makes_records_of_domain_events() -> None:
    """Paths become fields; what it does not name is a property at its own path."""
    message = {
        "user": {"id": 7, "name": "Ada"},
        "type": "order",
        "at": "2026-01-01T00:00:00Z",
        "items": [1, 2],
        "secret": {"deep": 1},
    }
    assert loads(Messages(mapping=ORDERS).line(dumps(message))) == {
        "event": {
            "external_id": "7",
            "name": "order",
            "time": "2026-01-01T00:00:00Z",
            "properties": {"user": {"name": "Ada"}, "items": [1, 2], "source": "kafka"},
        }
    }


def test_a_message_may_lack_what_the_mapping_names() -> None:
    """Then the record lacks it too, and the intake says what that means."""
    line = loads(Messages(mapping=ORDERS).line(b'{"user":{"id":"u"},"x":1}'))
    assert line == {"event": {"external_id": "u", "properties": {"x": 1, "source": "kafka"}}}


def test_a_template_reads_paths() -> None:
    """A name may be made of several fields."""
    mapping = {
        "kind": "event",
        "columns": {"id": {"to": "external_id"}},
        "templates": {"name": "{a.b}-{c}"},
    }
    line = loads(Messages(mapping=mapping).line(b'{"id":"u","a":{"b":"x"},"c":3}'))
    assert line["event"]["name"] == "x-3"


def test_a_message_that_fits_no_mapping_is_unreadable() -> None:
    """No object, a bad cell, or a field without a name: each with its own code."""
    messages = Messages(mapping=ORDERS)
    assert refused(messages, b"[1]").code == "not-an-object"
    assert refused(messages, b'{"user":{"id":1},"":2}').code == "not-mapped"
    assert refused(messages, b"{").code == "not-json"
    deep = b'{"a":' * 1_000 + b"1" + b"}" * 1_000
    assert refused(messages, deep).code == "too-deep"
    typed = {**ORDERS, "columns": {**ORDERS["columns"], "n": {"type": "number"}}}  # type: ignore[dict-item]  # a table of tables
    assert refused(Messages(mapping=typed), b'{"user":{"id":1},"n":"x"}').field


@pytest.mark.parametrize(
    "message",
    [
        b'{"user":{"id":1},"ada@example.test":{"":2}}',
        b'{"user":{"id":1},"ada":1,"ada.score":2}',
        b'{"user":{"id":1},"ada":{"score":1},"ada.score":2}',
        b'{"user":{"id":1},"email":1,"email.ada":2}',
    ],
)
def test_names_of_members_are_told_to_the_dead_letter_alone(message: bytes) -> None:
    """What does not fit is named in the reason, and not in the summary that reports have."""
    error = refused(Messages(mapping=ORDERS), message)
    assert (error.code, error.field) == ("not-mapped", "")
    assert "ada" in str(error)
    assert error.summary.startswith("the message does not fit the mapping")
    assert "ada" not in error.summary


@pytest.mark.parametrize(
    "mapping",
    [
        {"columns": {"a": {"to": "external_id"}}},
        {"unwrap": "sqs"},
        {"kind": "event", "colums": {}},
    ],
)
def test_a_mapping_that_cannot_be_is_refused_at_the_start(mapping: dict[str, Any]) -> None:
    """Not with the first message."""
    with pytest.raises(ConfigError):
        Messages(mapping=mapping)


def test_a_mapping_and_a_transform_contradict_each_other() -> None:
    """But a transform of unwrapped messages is fine."""
    with pytest.raises(ConfigError, match="contradict"):
        Messages(mapping=ORDERS, transform=lambda value: None)
    both = Messages(mapping={"unwrap": "sns"}, transform=lambda value: value)
    message = b'{"Type":"Notification","Message":"{\\"event\\":{\\"a\\":1}}"}'
    assert both.line(message) == b'{"events":[{"a":1}]}'


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (None, b""),
        ([], b""),
        (
            Attributes(external_id="u", values={"k": 1}),
            {"attributes": [{"external_id": "u", "k": 1}]},
        ),
        ({"event": {"a": 1}}, {"events": [{"a": 1}]}),
        ({"events": [{"a": 1}], "purchases": []}, {"events": [{"a": 1}], "purchases": []}),
        ({"a": 1}, {"events": [{"a": 1}]}),
        (
            [{"event": {"a": 1}}, {"attributes": {"b": 2}}, {"event": {"a": 3}}],
            {"events": [{"a": 1}, {"a": 3}], "attributes": [{"b": 2}]},
        ),
    ],
)
def test_a_transform_makes_any_number_of_records(made: Any, line: Any) -> None:
    """None, one or many; typed, enveloped, request-shaped or of the source's kind; one line."""
    found = Messages(kind="event", transform=lambda value: made).line(b"{}")
    assert (loads(found) if found else b"") == line


def broken(value: Any) -> Any:
    """Raise what a user's code may raise, with a value of the message in its words."""
    raise ValueError(f"cannot use {value}")


def no_user(value: Any) -> Any:
    """Make a record that names nobody."""
    return Event(name="x")


@pytest.mark.parametrize(
    ("transform", "code"),
    [
        (broken, "transform-failed"),
        (no_user, "missing-identity"),
        (lambda value: 3, "transform-failed"),
        (lambda value: "text", "transform-failed"),
        (lambda value: [3], "transform-failed"),
        (lambda value: {"a": 1}, "no-kind"),
        (lambda value: {}, "no-kind"),
        (lambda value: {"event": {"a": object()}}, "transform-failed"),
    ],
)
def test_a_transform_that_fails_costs_its_message_only(
    transform: Callable[[Any], Any], code: str
) -> None:
    """It is a dead letter with a code, whose reason holds no value of the message."""
    error = refused(Messages(transform=transform), b'{"v":"personal"}')
    assert error.code == code
    assert "personal" not in str(error)


@given(JSON, st.sampled_from((None, "event")))
def test_any_message_is_one_line_or_unreadable(value: Any, kind: str | None) -> None:
    """Whatever is sent: no other exception, and never a line break."""
    for messages in (
        Messages(kind=kind),
        Messages(mapping=ORDERS),
        Messages(mapping={"unwrap": "sns"}, transform=lambda found: found),
    ):
        try:
            line = messages.line(dumps(value), kind)
        except Unreadable:
            continue
        assert b"\n" not in line
