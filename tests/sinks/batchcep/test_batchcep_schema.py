"""Which records Batch CEP takes: surplus, mending, trust, and laws over any record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from ingest.forms import Found
from ingest.intake import Intake, IntakeRules
from ingest.records import KINDS
from ingest.sinks.batchcep.names import is_slug
from ingest.sinks.batchcep.rules import RULES, UNTRANSLATABLE
from ingest.sinks.batchcep.translation import NATIVE
from ingest.validation import Grade, Problem
from tests.sinks.batchcep.judging import EVENT, ID, NOW, TIME, schema_of, sent, taken_by

# --- surplus, mending, trust --------------------------------------------------------------------


def test_the_surplus_of_attributes_is_named() -> None:
    """Native ones go first, then the others in their order; a bad one takes no place."""
    record = ID | {f"a{i}": i for i in range(10)} | {"bad": "", "email": "a@b.co"}
    schema = schema_of(attributes_per_edit=10)
    _, found = schema.examine("attributes", record, NOW, validate=True)
    assert [(problem.code, problem.field) for problem in found] == [
        ("empty-string", "bad"),
        ("too-many-attributes", "a9"),
    ]
    (piece,) = sent(schema, "attributes", record, on_bad_field="drop")
    assert piece == {f"a{i}": i for i in range(9)} | {"$email_address": "a@b.co"}


def test_bad_fields_are_dropped_where_that_was_chosen() -> None:
    """The rest goes on; the record is kept as it came."""
    record = ID | {"ok": 1, "car": {"a": 1}, "tags": ["a", "", "b"], "note": "x" * 400}
    (taken,) = taken_by(schema_of(), "attributes", record, on_bad_field="drop")
    piece, came = json.loads(bytes(taken.chunks[0].fragments[0]))
    assert piece == {"ok": 1, "tags": ["a", "b"]}
    assert came == record
    event = EVENT | {"properties": {"a": [{"b": None, "c": 1}], "$x": 1}}
    assert sent(schema_of(), "event", event, on_bad_field="drop") == [
        {"name": "paid", "time": TIME, "attributes": {"a": [{"c": 1}]}}
    ]


def test_long_texts_are_cut_where_that_was_chosen() -> None:
    """To what the destination takes; a link is no use if it is cut."""
    record = ID | {"note": "x" * 400, "tags": ["y" * 301]}
    assert sent(schema_of(), "attributes", record, on_bad_field="truncate") == [
        {"note": "x" * 300, "tags": ["y" * 300]}
    ]
    link = ID | {"site": "https://x.co/" + "y" * 300}
    assert sent(schema_of(), "attributes", link, on_bad_field="truncate") == []


def test_what_is_nested_too_deeply_is_refused_even_if_it_is_dropped() -> None:
    """The record as it came is read again when it is folded, and that must not fail."""
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    line = b'{"attributes":{"external_id":"u","ok":1,"x":%b}}' % json.dumps(deep).encode()
    for rules in (IntakeRules(on_bad_field="drop"), IntakeRules(validate=False)):
        (taken,) = Intake(rules, schema_of()).take(0, [line], 1, NOW)
        assert [refusal.code for refusal in taken.refusals] == ["too-deep"]


def test_on_trust_only_what_cannot_be_translated_is_refused() -> None:
    """Of the rest the destination is the judge: it gets values as they came."""
    record = ID | {"n": {"inc": 1}, "car": {"a": 1}, "x": "", "email": "?", "language": "fr-FR"}
    assert sent(schema_of(), "attributes", record, validate=False) == [
        {
            "n": {"inc": 1},
            "car": {"a": 1},
            "x": "",
            "$email_address": "?",
            "$language": "fr-FR",
        }
    ]
    event = ID | {"name": "x" * 40, "properties": {"a": None, "b": {"c": {"d": {"e": {}}}}}}
    assert sent(schema_of(), "event", event, event | {"time": "soon"}, validate=False) == [
        piece | {"attributes": {"a": None, "b": {"c": {"d": {"e": {}}}}}}
        for piece in ({"name": "x" * 40}, {"name": "x" * 40, "time": "soon"})
    ]
    assert sent(schema_of(), "purchase", ID, validate=False) == [
        {"name": "purchase", "attributes": {"quantity": 1}}
    ]


# --- laws ---------------------------------------------------------------------------------------

_MARK = "zqzq"
_NAMES = st.one_of(
    st.sampled_from([*NATIVE, "dob", "Plan", "plan", "a b", "properties", "time", "name"]),
    st.sampled_from(["user_alias", "push_tokens", "_update_existing_only", "app_id", "quantity"]),
    st.sampled_from(["product_id", "currency", "price", "push_token_import", "braze_id"]),
    st.text(max_size=4),
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "2026-01-02T03:00:00Z", "2026-01-02", "opted_in", "EUR", "fr"]),
    st.text(max_size=6).map(lambda text: text + _MARK),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=3)
    ),
    max_leaves=8,
)
_RECORDS = st.dictionaries(_NAMES, _VALUES, max_size=6).flatmap(
    lambda record: st.sampled_from(
        [record, record | ID, record | EVENT, record | {"external_id": 7}]
    )
)


def values_in(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from values_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from values_in(inner)
    else:
        yield value


def keys_of(piece: dict[str, Any]) -> Iterator[str]:
    for key, value in piece.items():
        yield key
        if isinstance(value, dict):
            yield from keys_of(value)
        elif isinstance(value, list):
            for inner in value:
                if isinstance(inner, dict):
                    yield from keys_of(inner)


@given(st.sampled_from(KINDS), _RECORDS, st.booleans())
@example("attributes", {"external_id": 1, "plan": {"add": "x"}}, False)
def test_any_record_is_translated_or_refused_with_a_reason(
    kind: str, record: dict[str, Any], validate: bool
) -> None:
    """Nothing raises; every finding is a known one, of a real place, and shows no value."""
    schema = schema_of()
    key, found = schema.examine(kind, record, NOW, validate=validate)
    for problem in found:
        assert problem.grade is Grade.ERROR
        assert problem.code in (RULES if validate else UNTRANSLATABLE)
        assert _MARK not in problem.reason
        if problem.mend:
            value: Any = record
            for step in problem.path:
                value = value[step]
    if isinstance(key, Problem):
        assert found == [key]
    elif not found:
        assert isinstance(key, str)
        line = json.dumps(record).encode()
        encoded = schema.encode(Found(kind, record, line), record)
        piece, came = json.loads(encoded.fragment)
        assert came == record
        again = schema_of().encode(Found(kind, record, line), record)
        assert json.loads(again.fragment)[0] == piece


@given(_RECORDS)
def test_what_is_sent_keeps_the_rules_of_the_destination(record: dict[str, Any]) -> None:
    """Keys are slugs, with a type or native; no text is empty, and no null is in an event."""
    for kind in KINDS:
        for on_bad_field in ("reject", "drop"):
            for piece in sent(schema_of(), kind, record, on_bad_field=on_bad_field):
                for key in keys_of(piece):
                    plain = key.removeprefix("date(").removesuffix(")").removeprefix("$")
                    assert is_slug(plain)
                assert "" not in list(values_in(piece))
                assert kind == "attributes" or None not in list(values_in(piece))


def test_what_was_not_judged_is_translated_whatever_its_age() -> None:
    """Its age is no matter of how it is written."""
    old = EVENT | {"time": "2001-02-03T04:05:06Z"}
    fragment = json.dumps(old).encode()
    encoded = schema_of().encode(Found("event", old, fragment), old)
    piece, record = json.loads(encoded.fragment)
    assert (piece["time"], record) == (old["time"], old)
