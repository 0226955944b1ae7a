"""Every form of a line gives its records as they came, or says what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import dumps, loads
from ingest.forms import (
    CREDENTIALS,
    LINE_TOO_LONG,
    REDACTED,
    TOO_LONG_LINE,
    Found,
    Misformed,
    content_of,
    flagged,
    records_of,
    respelled,
    without_credentials,
)
from ingest.records import KIND_UNKNOWN, KINDS
from tests.intake_lines import odd_lines

USER = {"external_id": "u"}


def only(line: Any, kind: str | None = None) -> Found | Misformed:
    """Return the one thing that a line (bytes, or a value to be encoded) holds."""
    (found,) = records_of(line if isinstance(line, bytes) else dumps(line), kind)
    return found


def refusal(line: Any, kind: str | None = None) -> tuple[str, str, str]:
    """Return code, kind and field of the one thing that is wrong with a line."""
    found = only(line, kind)
    assert isinstance(found, Misformed)
    return found.code, found.kind, found.field


@given(odd_lines(), st.sampled_from((None, *KINDS)))
def test_a_line_holds_something(line: bytes, kind: str | None) -> None:
    """At least one item, whatever the line, and a fragment is the encoded record, in one line."""
    items = list(records_of(line, kind))
    assert items
    for item in items:
        assert item.kind in (*KINDS, KIND_UNKNOWN)
        if isinstance(item, Found):
            assert loads(item.fragment) == item.record
            assert b"\n" not in item.fragment


@pytest.mark.parametrize("kind", KINDS)
def test_an_envelope_names_the_kind(kind: str) -> None:
    """Its content goes on as it came, whatever --kind says, the last of several under one key."""
    line = b' { "%b" : {"external_id" : "u", "n":1.50} } \r' % kind.encode()
    expected = Found(kind, {"external_id": "u", "n": 1.5}, b'{"external_id" : "u", "n":1.50}')
    assert only(line) == expected
    assert only(line, "event") == expected
    twice = b'{"%b":{"a":1},"%b":{"b":2}}' % (kind.encode(), kind.encode())
    assert only(twice) == Found(kind, {"b": 2}, b'{"b":2}')


def test_a_bare_object_needs_a_kind() -> None:
    """With --kind it is a record of that, without one it is refused with the three ways out."""
    line = b'{"external_id":"u","event":{"x":1}}'
    assert only(line, "event") == Found("event", loads(line), line)
    found = only(line)
    assert isinstance(found, Misformed)
    assert found.code == "no-kind"
    assert '{"attributes": ...}' in found.reason
    assert "--kind" in found.reason
    assert only({"event": 5}, "event").kind == "event"


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (b"nope", "not-json", "(character 1)"),
        (b'{"a":1,}', "not-json", "(character"),
        (b"", "not-json", "not JSON"),
        (b'{"a":NaN}', "not-json", "not JSON"),
        (b'{"a":1e999}', "not-json", "infinity"),
        (b'{"a":"\xff"}', "not-utf8", "byte 7"),
        (b"[1]", "not-an-object", "not an object"),
        (b"5", "not-an-object", "not an object"),
    ],
)
def test_what_is_no_object_is_said(line: bytes, code: str, says: str) -> None:
    """The text is kept, and the sentence says where it went wrong."""
    found = only(line, "event")
    assert isinstance(found, Misformed)
    assert (found.code, found.raw) == (code, line)
    assert says in found.reason


def test_a_ready_body_gives_all_its_objects() -> None:
    """Array by array, in order, each as it came; what is no object has the kind of its array."""
    line = (
        b'{"events":[{"external_id": "e"},7],"attributes":[{"a":1},{"b":2}],'
        b'"purchases":null,"partner":"p","api_key":"sesame"}'
    )
    found = list(records_of(line, None))
    assert found[:3] == [
        Found("attributes", {"a": 1}, b'{"a":1}'),
        Found("attributes", {"b": 2}, b'{"b":2}'),
        Found("event", {"external_id": "e"}, b'{"external_id": "e"}'),
    ]
    (odd,) = found[3:]
    assert isinstance(odd, Misformed)
    assert (odd.code, odd.kind, odd.field, odd.raw) == ("not-an-object", "event", "events", b"7")


def test_an_array_that_is_none_is_kept_alone() -> None:
    """The other arrays are not in its letter: when it is replayed they are not sent twice."""
    line = dumps({"api_key": "sesame", "attributes": [USER], "events": {"a": 1}})
    good, bad = records_of(line, None)
    assert good == Found("attributes", USER, dumps(USER))
    assert isinstance(bad, Misformed)
    assert (bad.code, bad.kind, bad.field) == ("not-an-array", "event", "events")
    assert bad.raw == b'{"events":{"a":1}}'


@pytest.mark.parametrize("body", [{"attributes": []}, {"events": [], "purchases": None}, {}])
def test_an_empty_body_says_so(body: dict[str, Any]) -> None:
    """A body without any record is a line that holds none, and its key is not kept."""
    found = only(body | {"app_group_id": "sesame"})
    assert isinstance(found, Misformed)
    assert found.code == "nothing-to-send"
    assert loads(found.raw) == body


def test_a_letter_of_a_delivered_event_is_not_sent_again() -> None:
    """A piece of it was refused, the rest counted: a second copy would count twice."""
    letter = {"record": {"external_id": "u"}, "column": "delivered", "warned": True}
    event = refusal({"kind": "event", **letter})
    assert event == ("delivered-before", "event", "warned")
    again = only({"kind": "attributes", **letter})
    assert isinstance(again, Found)
    assert again.record == {"external_id": "u"}


def test_a_dead_letter_holds_its_record() -> None:
    """Record and kind are those of the letter, whatever --kind says."""
    letter = b'{"v":1,"kind":"event","record":{"external_id" : "u"},"column":"failed"}'
    assert only(letter, "purchase") == Found("event", USER, b'{"external_id" : "u"}')
    assert refusal({"kind": "X", "record": {}, "column": "c"}) == ("no-kind", KIND_UNKNOWN, "kind")
    row = only({"kind": "alias-new", "record": {}, "column": "c"})
    assert isinstance(row, Misformed)
    assert "ingest send alias-new FILE" in row.reason
    wrong = {"kind": "event", "record": 5, "column": "c"}
    assert refusal(wrong) == ("not-an-object", "event", "")


def test_an_attribute_may_be_named_like_a_part_of_a_letter() -> None:
    """An object with an identity of its own is no dead letter."""
    for name in ("record", "raw"):
        bare = {"external_id": "u", name: {}, "column": 1}
        assert only(bare, "attributes") == Found("attributes", bare, dumps(bare))


def test_a_letter_of_a_text_holds_what_the_text_does() -> None:
    """Mended, it is any form of a line, even over several lines; unmended, it is refused anew."""
    text = json.dumps({"event": USER}, indent=2)
    found = only({"kind": KIND_UNKNOWN, "raw": text, "column": "invalid"})
    assert isinstance(found, Found)
    assert (found.kind, found.record) == ("event", USER)
    assert b"\n" not in found.fragment
    bare = json.dumps(USER)
    assert only({"kind": "event", "raw": bare, "column": "invalid"}).kind == "event"
    assert only({"kind": "unknown", "raw": bare, "column": "x"}, "purchase").kind == "purchase"
    body = json.dumps({"attributes": [USER, USER]})
    assert len(list(records_of(dumps({"raw": body, "column": "x"}), None))) == 2
    again = only({"kind": KIND_UNKNOWN, "raw": "nope", "column": "invalid"})
    assert isinstance(again, Misformed)
    assert (again.code, again.raw) == ("not-json", b"nope")
    assert refusal({"raw": 5, "column": "x"}) == ("not-json", KIND_UNKNOWN, "raw")


@pytest.mark.parametrize("as_text", [False, True])
def test_a_row_joins_identity_and_payload(as_text: bool) -> None:
    """The columns of the row win, those that are null say nothing, and values stay as they came."""
    payload = b'{"plan":"pro","n":1.50,"email":"other@b.c"}'
    encoded = dumps(payload.decode()) if as_text else payload
    row = b'{"external_id":null,"braze_id":null,"alias_name":null,"email":"a@b.c","payload":%b}'
    found = only(row % encoded, "attributes")
    assert found == Found(
        "attributes",
        {"email": "a@b.c", "plan": "pro", "n": 1.5},
        b'{"email":"a@b.c","plan":"pro","n":1.50}',
    )


@pytest.mark.parametrize("prefix", ["", "user_"])
def test_a_row_may_name_an_alias_in_two_columns(prefix: str) -> None:
    """Half an alias is kept too, for the rules to explain."""
    row = {f"{prefix}alias_name": "n", f"{prefix}alias_label": "l", "payload": {"x": 1}}
    found = only(row, "attributes")
    assert isinstance(found, Found)
    assert found.record == {"user_alias": {"alias_name": "n", "alias_label": "l"}, "x": 1}
    assert loads(found.fragment) == found.record
    half = only({f"{prefix}alias_label": "l", "payload": {}}, "attributes")
    assert isinstance(half, Found)
    assert half.record == {"user_alias": {"alias_name": None, "alias_label": "l"}}
    assert loads(half.fragment) == half.record


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("nope", ("not-json", "event", "payload")),
        ("[1]", ("not-an-object", "event", "payload")),
        (5, ("not-an-object", "event", "payload")),
    ],
)
def test_a_payload_that_is_no_object_is_said(payload: Any, expected: tuple[str, str, str]) -> None:
    """The field is named; without a kind, that comes first."""
    row = {"external_id": "u", "payload": payload}
    assert refusal(row, "event") == expected
    assert refusal(row) == ("no-kind", KIND_UNKNOWN, "")


def test_an_attribute_may_be_named_payload() -> None:
    """A row has identity columns and a payload only."""
    bare = {"external_id": "u", "payload": 5, "plan": "pro"}
    assert only(bare, "attributes") == Found("attributes", bare, dumps(bare))


def test_a_line_beyond_the_decoder_is_refused() -> None:
    """Between the limits of the two decoders lies a depth at which objects cannot be cut out."""
    deep = b'{"event":{"x":' + b"[" * 1_010 + b"]" * 1_010 + b"}}"
    found = only(deep)
    assert isinstance(found, Found) or found.code == "too-deep"
    beyond = b'{"event":{"x":' + b"[" * 2_000 + b"]" * 2_000 + b"}}"
    assert refusal(beyond) == ("not-json", KIND_UNKNOWN, "")


def test_an_opened_envelope_is_not_opened_again() -> None:
    """Its content is the record; content that is none makes the line be looked at as a whole."""
    assert list(content_of("event", b'{"a": 1}', b"")) == [Found("event", {"a": 1}, b'{"a": 1}')]
    for content in (b'{"a":1e999}', b"5", b"[]"):
        line = b'{"event":%b}' % content
        assert list(content_of("event", content, line)) == list(records_of(line, None))


def test_only_what_changed_is_encoded_anew() -> None:
    """Members that are the same object stay as they came, bytes for bytes."""
    fragment = b'{"a": 1.50, "b" :"\\u00e9","c":[1, 2]}'
    found = Found("event", loads(fragment), fragment)
    changed = {key: value for key, value in found.record.items() if key != "a"} | {"d": None}
    assert respelled(found, changed) == b'{"b":"\\u00e9","c":[1, 2],"d":null}'


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(-9, 9), st.text()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.one_of(st.sampled_from(sorted(CREDENTIALS)), st.text(max_size=3)), inner
            ),
        ),
        max_leaves=12,
    ),
    st.booleans(),
)
def test_json_without_credentials_is_json(value: Any, in_text: bool) -> None:
    """Every text under such a name is gone, and the rest is what it was."""
    hidden = loads(without_credentials(dumps(value), in_text=in_text))

    def same(before: Any, after: Any, name: str = "") -> bool:
        if isinstance(before, dict):
            return before.keys() == after.keys() and all(
                same(before[key], after[key], key) for key in before
            )
        if name in CREDENTIALS:
            return after == REDACTED or isinstance(before, list)
        if isinstance(before, list):
            return all(same(*pair) for pair in zip(before, after, strict=True))
        return bool(before == after)

    assert same(value, hidden)


@pytest.mark.parametrize(
    ("line", "code", "field", "says"),
    [
        ({"attributes": [USER], "foo": 1}, "unknown-key", "foo", "no body has a member 'foo'"),
        ({"attributes": {}, "event": {}}, "two-kinds", "", "'attributes' and 'event'"),
        ({"attributes": "text"}, "not-an-object", "attributes", "must hold an object"),
        ({"event": 5}, "not-an-object", "event", "must hold an object"),
        ({"purchases": {}}, "not-an-object", "purchases", "must hold an array"),
    ],
)
def test_a_line_that_is_nearly_a_form_is_told_so(
    line: Any, code: str, field: str, says: str
) -> None:
    """What it nearly is, rather than that it says nothing of its kind."""
    found = only(line)
    assert isinstance(found, Misformed)
    assert (found.code, found.field) == (code, field)
    assert says in found.reason


def test_a_body_with_a_member_too_many_is_told_so_whatever_the_kind() -> None:
    """With an identity it is a record that has an attribute of that name."""
    assert refusal({"foo": 1, "events": []}, "event") == ("unknown-key", KIND_UNKNOWN, "foo")
    bare = {**USER, "events": [], "foo": 1}
    assert only(bare, "attributes") == Found("attributes", bare, dumps(bare))


def test_a_letter_of_a_line_too_long_stays_one() -> None:
    """Its text is not there to be read again, and its reason still says so."""
    letter = {"kind": KIND_UNKNOWN, "raw": "", "column": "invalid", "code": LINE_TOO_LONG}
    found = only(letter | {"reason": "the line has 5,000,000 bytes"})
    assert found == Misformed(
        LINE_TOO_LONG, "the line has 5,000,000 bytes", b"", summary=TOO_LONG_LINE
    )
    assert only(letter) == Misformed(LINE_TOO_LONG, TOO_LONG_LINE, b"", summary=TOO_LONG_LINE)
    assert refusal(letter | {"code": "not-json"})[0] == "not-json"


@pytest.mark.parametrize("lines", [(b"nope", b'{"a":1,}'), (b'"\xff"', b'"ab\xff"')])
def test_what_one_line_says_is_no_part_of_the_summary(lines: tuple[bytes, bytes]) -> None:
    """Two lines with two reasons have one summary."""
    one, two = map(only, lines)
    assert isinstance(one, Misformed)
    assert isinstance(two, Misformed)
    assert one.reason != two.reason
    assert one.summary == two.summary != ""


def test_the_flag_goes_to_the_front() -> None:
    """It is put in without decoding anything."""
    assert loads(flagged(b'{ "a":1}')) == {"_update_existing_only": True, "a": 1}
