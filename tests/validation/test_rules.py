"""The rules of whole objects: attributes, events, purchases."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.records import KINDS
from ingest.validation import CODES, RULES, check, problem
from ingest.validation.problems import MOST_OF_A_GRADE, Findings, shown

ID = {"external_id": "u1"}
WHEN = "2026-01-31T12:00:00Z"
EVENT = {**ID, "name": "rented", "time": WHEN}
PURCHASE = {**ID, "product_id": "p", "currency": "EUR", "price": 1, "time": WHEN}
GONE = object()
BASES: dict[str, dict[str, Any]] = {"attributes": ID, "event": EVENT, "purchase": PURCHASE}


def found(kind: str, record: dict[str, Any]) -> list[tuple[str, str]]:
    """Check a record, without the fields marked as gone, and return (code, field) of each."""
    record = {name: value for name, value in record.items() if value is not GONE}
    return [(p.code, p.field) for p in check(kind, record)]


@pytest.mark.parametrize("kind", KINDS)
def test_good_records_have_no_problem(kind: str) -> None:
    """The plainest object of each kind is clean."""
    assert check(kind, BASES[kind]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_identity_is_checked_for_every_kind(kind: str) -> None:
    """An object that names nobody is an error whatever its kind."""
    assert found(kind, {**BASES[kind], "external_id": GONE}) == [("missing-identity", "")]


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ({"name": GONE}, "missing-name"),
        ({"name": None}, "missing-name"),
        ({"name": ""}, "bad-name"),
        ({"name": 5}, "bad-name"),
        ({"name": "x" * 256}, "long-string"),
        ({"time": GONE}, "missing-time"),
        ({"time": 1700000000}, "bad-time"),
        ({"time": "yesterday"}, "bad-time"),
        ({"properties": None}, "null-properties"),
        ({"properties": [1]}, "bad-properties"),
        ({"properties": {"time": 1}}, "reserved-key"),
        ({"properties": {"event_name": 1}}, "reserved-key"),
        ({"properties": {"": 1}}, "bad-property-name"),
        ({"properties": {"$a": 1}}, "bad-property-name"),
        ({"properties": {"x" * 256: 1}}, "long-property-name"),
        ({"properties": {"a": "x" * 256}}, "long-string"),
        ({"properties": {"a": [{"b": "x" * 256}]}}, "long-string"),
        ({"properties": {"a": [1000] * 20_480}}, "big-properties"),
        ({"app_id": 5}, "wrong-type"),
        ({"app_id": "x" * 256}, "long-string"),
        ({"_update_existing_only": "yes"}, "bad-flag"),
        ({"email": "nobody"}, "odd-email"),
        ({"email": "nobody", "external_id": GONE}, "bad-email"),
    ],
)
def test_each_fault_of_an_event_has_its_code(extra: dict[str, Any], code: str) -> None:
    """One fault gives one problem."""
    assert [code for code, _ in found("event", {**EVENT, **extra})] == [code]


@pytest.mark.parametrize(
    "extra",
    [
        {"properties": {}},
        {"properties": {"a": "x" * 255, "b": None, "c": {"time": 1, "$x": 1, "": 1}, "price": 1}},
        {"properties": {"a": [100] * 20_000}},
        {"time": "01/31/2026"},
        {"email": "a@b.c", "phone": 5, "app_id": None, "_update_existing_only": False},
        {"name": "x" * 255},
        {"external_id": 5},
        {"external_id": GONE, "user_alias": {"alias_name": "n", "alias_label": "l"}},
        {"unknown": {"anything": None}},
    ],
)
def test_what_an_event_may_have(extra: dict[str, Any]) -> None:
    """At the limits, with nested properties and with unknown fields, an event is clean."""
    assert found("event", {**EVENT, **extra}) == []


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ({"product_id": GONE}, "missing-product-id"),
        ({"product_id": 5}, "odd-product-id"),
        ({"product_id": ""}, "odd-product-id"),
        ({"product_id": True}, "bad-product-id"),
        ({"product_id": 1.5}, "bad-product-id"),
        ({"product_id": "x" * 256}, "long-product-id"),
        ({"currency": GONE}, "missing-currency"),
        ({"currency": "EURO"}, "bad-currency"),
        ({"currency": "€UR"}, "bad-currency"),
        ({"currency": 978}, "bad-currency"),
        ({"price": None}, "missing-price"),
        ({"price": "9.99"}, "bad-price"),
        ({"price": True}, "bad-price"),
        ({"quantity": None}, "null-quantity"),
        ({"quantity": 0}, "bad-quantity"),
        ({"quantity": 101}, "bad-quantity"),
        ({"quantity": 1.0}, "bad-quantity"),
        ({"quantity": True}, "bad-quantity"),
        ({"time": GONE}, "missing-time"),
        ({"properties": {"a": [100] * 12_800}}, "big-properties"),
        *(({"properties": {name: 1}}, "reserved-key") for name in PURCHASE if name not in ID),
        ({"properties": {"quantity": 1}}, "reserved-key"),
        ({"properties": {"event_name": 1}}, "reserved-key"),
    ],
)
def test_each_fault_of_a_purchase_has_its_code(extra: dict[str, Any], code: str) -> None:
    """One fault gives one problem."""
    assert [code for code, _ in found("purchase", {**PURCHASE, **extra})] == [code]


@pytest.mark.parametrize(
    "extra",
    [{"quantity": 1}, {"quantity": 100}, {"price": -9.5}, {"price": 0}, {"currency": "eur"}],
)
def test_what_a_purchase_may_have(extra: dict[str, Any]) -> None:
    """Refunds, free goods and the limits of quantity are clean."""
    assert found("purchase", {**PURCHASE, **extra}) == []


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ({"note": "x" * 256}, "long-string"),
        ({"until": "9999-12-31"}, "late-year"),
        ({"x" * 256: 1}, "long-name"),
        ({"tags": ["a"] * 501}, "long-array"),
        ({"tags": ["a", None]}, "nested-null"),
        ({"plan": {"owner": None}}, "nested-null"),
        ({"push_token_import": "yes"}, "bad-flag"),
        ({"country": "Spain"}, "unknown-country"),
        (
            {"external_id": GONE, "user_alias": {"alias_name": "n", "alias_label": "l"}},
            "alias-updates-only",
        ),
    ],
)
def test_each_fault_of_attributes_has_its_code(extra: dict[str, Any], code: str) -> None:
    """One fault gives one problem."""
    assert [code for code, _ in found("attributes", {**ID, **extra})] == [code]


@pytest.mark.parametrize(
    "extra",
    [
        {"plan": None, "country": None, "visits": 3, "score": 0.5, "vip": True, "": ""},
        {"x" * 255: "x" * 255, "until": "3000-12-31"},
        {"tags": ["a"] * 500, "name": {"price": 1, "time": "t"}},
        {
            "external_id": GONE,
            "user_alias": {"alias_name": "n", "alias_label": "l"},
            "_update_existing_only": False,
        },
    ],
)
def test_what_attributes_may_have(extra: dict[str, Any]) -> None:
    """Null unsets a field; names and texts at the limits are clean."""
    assert found("attributes", {**ID, **extra}) == []


def test_errors_come_before_warnings() -> None:
    """Whoever takes the first problem takes the gravest."""
    record = {**EVENT, "name": "x" * 256, "time": None, "properties": {"a": "x" * 256, "time": 1}}
    assert [p.grade for p in check("event", record)] == ["error", "error", "warning", "warning"]


def test_a_reason_names_the_field_and_never_the_value() -> None:
    """Sentences are fit for logs: they name the field and the rule."""
    secret = "secret-" * 50
    record = {**PURCHASE, "quantity": secret, "currency": secret, "properties": {"price": secret}}
    problems = check("purchase", record)
    reasons = {p.code: p.reason for p in problems}
    assert reasons["bad-quantity"] == "'quantity' must be a whole number from 1 to 100"
    assert reasons["reserved-key"].startswith("'properties.price' is a reserved name")
    assert "secret" not in str([(p.reason, p.field) for p in problems])


def test_fields_are_shown_for_people() -> None:
    """Indices are not told apart, long names are clipped, and what cannot be printed is masked."""
    assert shown(("hotels", 3, "name")) == "hotels[].name"
    assert shown(("properties", "")) == 'properties.""'
    assert shown(("a\nb",)) == "a?b"
    assert shown(("x" * 200,)) == "x" * 63 + "…"
    assert shown(()) == ""


def test_every_code_is_explained() -> None:
    """The table of codes names each once, with a sentence that takes a field."""
    assert CODES.keys() == RULES.keys()
    for code, rule in RULES.items():
        assert rule.meaning
        assert rule.sentence.format("x") == problem(code, "x").reason


def test_what_cannot_be_mended_here_says_so() -> None:
    """A field that the object needs has no mend, although the code has one elsewhere."""
    assert problem("bad-email", "email").mend == "drop"
    assert problem("bad-email", "email", mendable=False).mend is None


def test_problems_are_bounded() -> None:
    """A record that is bad beyond listing ends in an error that nothing mends."""
    names = {"$" + "x" * n: "y" * 256 for n in range(MOST_OF_A_GRADE + 10)}
    problems = check("event", {**EVENT, "properties": names})
    errors = [p for p in problems if p.grade == "error"]
    assert len(errors) == MOST_OF_A_GRADE + 1
    assert (errors[-1].code, errors[-1].mend) == ("too-many-errors", None)
    assert len(problems) - len(errors) == MOST_OF_A_GRADE


def test_findings_keep_their_order() -> None:
    """Within a grade, problems stay in the order in which they were found."""
    findings = Findings()
    for code in ("long-name", "bad-name", "nested-null", "bad-time"):
        findings.add(code, "x")
    assert [p.code for p in findings.all()] == ["bad-name", "bad-time", "long-name", "nested-null"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize("kind", KINDS)
@given(record=st.dictionaries(st.sampled_from([*PURCHASE, "name", "x", "properties"]), JSON))
def test_check_is_total(kind: str, record: dict[str, Any]) -> None:
    """Whatever the object, checking it ends in problems from the table, never in an exception."""
    assert {p.code for p in check(kind, record)} <= RULES.keys()
