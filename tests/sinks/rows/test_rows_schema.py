"""Whose a record of a send is, what is wrong with it, and what item it becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.forms import Found
from ingest.intake import Intake, IntakeRules
from ingest.records import Partition, UserKey
from ingest.sinks.rows import ROWS
from ingest.sinks.rows.schema import RowSchema
from ingest.validation import Problem

ALIAS = {"alias_name": "n", "alias_label": "l"}


def codes(row: str, value: dict[str, Any], *, validate: bool = True) -> list[tuple[str, str]]:
    """Return code and field of everything that is wrong with a record."""
    found = RowSchema(ROWS[row]).examine(row, value, 0.0, validate=validate)[1]
    return [(problem.code, problem.field) for problem in found]


def key(row: str, value: dict[str, Any]) -> UserKey | Problem:
    """Return whose record it is."""
    return RowSchema(ROWS[row]).examine(row, value, 0.0, validate=True)[0]


def encoded(row: str, line: str) -> tuple[int, bytes, Partition]:
    """Return slot, item and partition of the one good record of a line."""
    (found,) = RowSchema(ROWS[row]).read(line.encode(), None)
    assert isinstance(found, Found)
    assert codes(row, found.record) == []
    item = RowSchema(ROWS[row]).encode(found, found.record)
    return item.slot, item.fragment, item.partition


# --- whose, and what is wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "value", "user"),
    [
        ("delete", {"external_id": 7}, "7"),
        ("delete", {"braze_id": "b", "external_id": None}, ("braze_id", "b")),
        ("delete", {"user_alias": ALIAS}, ("alias", "l", "n")),
        ("alias-new", {"external_id": "u1", **ALIAS}, "u1"),
        ("alias-new", ALIAS, ("alias", "l", "n")),
        ("identify", {"external_id": "u1", "user_alias": ALIAS}, "u1"),
        ("identify", {"external_id": "u1", "email": "a@b", "prioritization": ["x"]}, "u1"),
        ("identify", {"external_id": "u1", "phone": "+49"}, "u1"),
        ("rename", {"current_external_id": "a", "new_external_id": "b"}, "a"),
        ("push-remove", {"app_id": "a", "token": "t"}, ("push_token", "t")),
        ("email-status", {"email": "A@b", "subscription_state": "opted_in"}, ("email", "a@b")),
        ("trigger-send", {"campaign_id": "c", "external_user_id": 7}, "7"),
        ("trigger-send", {"campaign_id": "c", "user_alias": ALIAS}, ("alias", "l", "n")),
        ("trigger-send", {"campaign_id": "c", "email": "a@b"}, ("email", "a@b")),
    ],
)
def test_whose_record_it_is(row: str, value: dict[str, Any], user: UserKey) -> None:
    """The key is that of the user whose records must keep their order."""
    assert codes(row, value) == []
    assert key(row, value) == user


@pytest.mark.parametrize(
    ("row", "value", "expected"),
    [
        ("delete", {}, [("missing-identity", "")]),
        ("delete", {"external_id": "u", "braze_id": "b"}, [("two-identities", "braze_id")]),
        ("delete", {"external_id": ""}, [("bad-external-id", "external_id")]),
        ("delete", {"external_id": True}, [("bad-external-id", "external_id")]),
        ("delete", {"external_id": 1.5}, [("bad-external-id", "external_id")]),
        ("delete", {"external_id": "x" * 988}, [("long-external-id", "external_id")]),
        ("delete", {"braze_id": 7}, [("bad-braze-id", "braze_id")]),
        ("delete", {"user_alias": "n"}, [("bad-alias", "user_alias")]),
        ("delete", {"user_alias": {"alias_name": "n"}}, [("bad-alias", "user_alias")]),
        (
            "delete",
            {"user_alias": {"alias_name": "n" * 237, "alias_label": "l"}},
            [("long-alias", "user_alias")],
        ),
        ("delete", {"external_id": "u", "plan": "x"}, [("unknown-field", "plan")]),
        ("delete", {"external_id": "u", "plan": None}, []),
        (
            "alias-new",
            {"external_id": "u"},
            [
                ("missing-field", "alias_name"),
                ("missing-field", "alias_label"),
            ],
        ),
        (
            "alias-new",
            {"alias_name": "n" * 237, "alias_label": "l"},
            [("long-alias", "alias_name")],
        ),
        (
            "identify",
            {"user_alias": ALIAS},
            [("missing-field", "external_id")],
        ),
        (
            "identify",
            {"external_id": "u", "phone": "+49", "merge_behavior": "mix"},
            [("bad-choice", "merge_behavior")],
        ),
        (
            "identify",
            {"external_id": "u", "email": "a", "prioritization": "x"},
            [("bad-email", "email"), ("bad-list", "prioritization")],
        ),
        (
            "rename",
            {"current_external_id": "7", "new_external_id": 7},
            [("same-id", "new_external_id")],
        ),
        ("rename", {"new_external_id": "b"}, [("missing-field", "current_external_id")]),
        ("push-remove", {"token": "t"}, [("missing-field", "app_id")]),
        ("email-status", {"email": "a@b"}, [("missing-field", "subscription_state")]),
        (
            "email-status",
            {"email": "a@b", "subscription_state": ["opted_in"]},
            [("bad-choice", "subscription_state")],
        ),
        ("bounce-remove", {"email": "a"}, [("bad-email", "email")]),
        ("trigger-send", {"external_user_id": "u"}, [("missing-field", "campaign_id")]),
        ("trigger-send", {"campaign_id": "c"}, [("missing-identity", "")]),
        (
            "trigger-send",
            {"campaign_id": "c", "email": "a@b", "trigger_properties": []},
            [("bad-properties", "trigger_properties")],
        ),
    ],
)
def test_what_is_wrong(row: str, value: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Each field is judged by the rules of its row, and no reason holds a value."""
    assert codes(row, value) == expected


@pytest.mark.parametrize(("size", "good"), [(51_200, True), (51_201, False)])
def test_trigger_properties_have_a_size(size: int, good: bool) -> None:
    """The bytes of the encoded object count."""
    text = "x" * (size - len('{"a":""}'))
    value = {"campaign_id": "c", "external_user_id": "u", "trigger_properties": {"a": text}}
    assert (codes("trigger-send", value) == []) is good


def test_trigger_properties_that_cannot_be_measured() -> None:
    """What is nested too deeply to be encoded is too big."""
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"a": deep}
    value = {"campaign_id": "c", "external_user_id": "u", "trigger_properties": deep}
    assert codes("trigger-send", value) == [("big-trigger-properties", "trigger_properties")]


def test_on_trust_only_what_is_needed_is_asked_for() -> None:
    """A user, what requests must share, and that nothing is lost."""
    long = "x" * 5000
    assert codes("delete", {"external_id": long}, validate=False) == []
    assert codes("email-status", {"email": "nonsense"}, validate=False) == [
        ("missing-field", "subscription_state")
    ]
    assert codes("delete", {"external_id": "u", "plan": 1}, validate=False) == [
        ("unknown-field", "plan")
    ]
    assert codes("push-remove", {"app_id": "a"}, validate=False) == [("missing-field", "token")]


REQUEST_FIELDS = [
    *[("trigger-send", name) for name in ("broadcast", "audience", "recipients", "schedule")],
    *[("trigger-send", name) for name in ("attachments", "api_key")],
    ("identify", "aliases_to_identify"),
    ("alias-new", "user_aliases"),
    ("rename", "external_id_renames"),
    ("push-remove", "push_tokens"),
    ("push-remove", "app_group_id"),
    ("delete", "external_ids"),
    ("bounce-remove", "api_key"),
]


@pytest.mark.parametrize(("row", "name"), REQUEST_FIELDS)
def test_a_field_of_the_whole_request_is_in_no_item(row: str, name: str) -> None:
    """It is refused, on trust as well, or dropped where that was chosen; a null is not there."""
    record = json.loads(ROWS[row].endpoint.example)
    given: Any
    for given in (True, {"AND": []}, "x"):
        for validate in (True, False):
            assert codes(row, record | {name: given}, validate=validate) == [
                ("request-field", name)
            ]
    assert codes(row, record | {name: None}) == []
    items = []
    for value in (7, None):
        line = json.dumps(record | {name: value}).encode()
        intake = Intake(IntakeRules(on_bad_field="drop"), RowSchema(ROWS[row]))
        (taken,) = intake.take(0, [line], 1)
        items += [bytes(fragment) for chunk in taken.chunks for fragment in chunk.fragments]
    assert len(items) == 2
    assert not any(name.encode() in item for item in items)


# --- encoding -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "line", "expected"),
    [
        ("delete", "u1", (0, b'"u1"', Partition("external_ids"))),
        ("delete", '{"external_id": 7}', (0, b'"7"', Partition("external_ids"))),
        ("delete", '{"braze_id": "b"}', (1, b'"b"', Partition("braze_ids"))),
        (
            "delete",
            '{"user_alias": {"alias_name": "n", "alias_label": "l"}}',
            (2, b'{"alias_name":"n","alias_label":"l"}', Partition("user_aliases")),
        ),
        ("remove", "u1", (0, b'"u1"', Partition())),
        (
            "push-remove",
            '{"app_id": "a", "token": "t", "more": 1.50}',
            (0, b'{"app_id": "a", "token": "t", "more": 1.50}', Partition()),
        ),
        (
            "email-status",
            '{"email": "a@b", "subscription_state": "opted_in"}',
            (0, b'"a@b"', Partition("", b'"subscription_state":"opted_in"')),
        ),
        (
            "identify",
            '{"external_id": 7, "phone": "+1", "more": 1.50}',
            (2, b'{"external_id":"7","phone":"+1","more":1.50}', Partition()),
        ),
        (
            "trigger-send",
            '{"email": "a@b", "send_id": "s", "campaign_id": "c", "attributes": {"x": 1.0}}',
            (
                0,
                b'{"email":"a@b","attributes":{"x": 1.0}}',
                Partition("", b'"campaign_id":"c","send_id":"s"'),
            ),
        ),
    ],
)
def test_what_is_sent(row: str, line: str, expected: tuple[int, bytes, Partition]) -> None:
    """What the row does not know passes as it came, what is shared is taken out, ids are texts."""
    assert encoded(row, line) == expected


def test_a_field_that_would_be_lost_can_be_dropped() -> None:
    """The user may choose to send the id alone: then it is warned of."""
    lines = [b"external_id", b'{"external_id": "u1", "plan": "pro"}', b"u2"]
    refusing = Intake(IntakeRules(), RowSchema(ROWS["delete"]))
    dropping = Intake(IntakeRules(on_bad_field="drop"), RowSchema(ROWS["delete"]))
    (taken,) = refusing.take(0, lines, 1)
    assert [refusal.code for refusal in taken.refusals] == ["unknown-field"]
    (taken,) = dropping.take(0, lines, 1)
    assert (taken.read, taken.warned) == ({"delete": 2}, 1)
    (chunk,) = taken.chunks
    assert [bytes(fragment) for fragment in chunk.fragments] == [b'"u1"', b'"u2"']
    assert list(chunk.lines) == [2, 3]


def test_records_of_another_partition_begin_a_chunk() -> None:
    """States of subscription never share a request."""
    states = ("opted_in", "opted_in", "unsubscribed")
    lines = [b'{"email": "a@b", "subscription_state": "%b"}' % state.encode() for state in states]
    (taken,) = Intake(IntakeRules(), RowSchema(ROWS["email-status"])).take(0, lines, 1)
    assert [len(chunk) for chunk in taken.chunks] == [2, 1]


def test_a_column_alone_makes_no_dead_letter() -> None:
    """It is a field like any other, and the row says that it knows none such."""
    (found,) = RowSchema(ROWS["delete"]).read(b'{"column":"x","external_ids":"u"}', None)
    assert isinstance(found, Found)
    assert found.record == {"column": "x", "external_ids": "u"}
