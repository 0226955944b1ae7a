"""Which records legacy Appboy takes, and that none it cannot carry is judged good."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.forms import Found
from ingest.intake import Intake, IntakeRules
from ingest.records import KINDS
from ingest.sinks.appboy.schema import (
    MOST_ARRAY_ELEMENTS,
    RULES,
    AppboySchema,
    elements_of,
)
from ingest.validation import CODES, Grade, Problem
from tests.examples import examples

SCHEMA = AppboySchema()
NOW = 1_700_000_000.0

EVENT = {"external_id": "u1", "name": "rented", "time": "2016-07-16T19:20:30+01:00"}
PURCHASE = {
    "external_id": "u1",
    "product_id": "pencil",
    "currency": "USD",
    "price": 2.0,
    "time": "2016-07-17T19:20:20Z",
}


def found(kind: str, record: dict[str, Any], schema: AppboySchema = SCHEMA) -> list[Problem]:
    """Return every finding in a record."""
    return schema.examine(kind, record, NOW, validate=True)[1]


def told(kind: str, record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return codes and fields of the findings in a record."""
    return [(problem.code, problem.field) for problem in found(kind, record)]


def attributes(**values: Any) -> list[tuple[str, str]]:
    """Return the findings in an attributes object of the user u1."""
    return told("attributes", {"external_id": "u1", **values})


# --- what is good -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("attributes", {"external_id": "u1", "first_name": "Jon", "has_picture": True, "n": 1.5}),
        ("attributes", {"external_id": 17, "visits": {"inc": -2}, "tags": ["a"] * 25}),
        ("attributes", {"external_id": "u1", "x": {"add": ["a"], "remove": ["b"]}, "gone": None}),
        ("attributes", {"external_id": "u1", "_update_existing_only": True, "gender": "F"}),
        (
            "attributes",
            {"push_token_import": True, "push_tokens": [{"app_id": "a", "token": "t"}]},
        ),
        (
            "attributes",
            {
                "external_id": "u1",
                "current_location": {"longitude": -73.99, "latitude": 40.75},
                "facebook": {"id": "1", "likes": ["x"]},
                "twitter": {"id": 1, "followers_count": 3},
                "push_tokens": [{"app_id": "a", "token": "t"}],
                "phone": "+33 6 12 34 56 78",
                "date_of_first_session": "2013-07-16T19:20:30.123Z",
                "date_of_last_session": "20130716T192030+0100",
                "dob": "1980-12-21",
                "bio": "x",
                "foursquare_access_token": "t",
            },
        ),
        ("event", EVENT),
        ("event", {**EVENT, "properties": {"n": 1, "time": "x", "at": "2016-01-01"}}),
        ("event", {**EVENT, "user_alias": None, "braze_id": None}),
        ("purchase", {**PURCHASE, "quantity": 100, "properties": {"color": "red"}}),
    ],
)
def test_what_appboy_takes(kind: str, record: dict[str, Any]) -> None:
    """What its documents show has no finding."""
    assert told(kind, record) == []


# --- whose record it is -------------------------------------------------------------------------

ALIAS = {"alias_name": "a", "alias_label": "l"}
TOKENS = [{"app_id": "a", "token": "t"}]


@pytest.mark.parametrize(
    ("record", "code", "field"),
    [
        ({}, "external-id-required", "external_id"),
        ({"email": "bob@example.com"}, "external-id-required", "external_id"),
        ({"email": "nobody"}, "external-id-required", "external_id"),
        ({"phone": "123"}, "external-id-required", "external_id"),
        ({"braze_id": "b"}, "braze-id-unsupported", "braze_id"),
        ({"user_alias": ALIAS}, "alias-unsupported", "user_alias"),
        ({"user_alias": 3}, "alias-unsupported", "user_alias"),
        ({"external_id": "u", "user_alias": ALIAS}, "alias-unsupported", "user_alias"),
        ({"external_id": "u", "braze_id": "b"}, "braze-id-unsupported", "braze_id"),
        ({"external_id": ""}, "bad-external-id", "external_id"),
        ({"external_id": "u" * 988}, "long-external-id", "external_id"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_only_an_external_id_names_a_user(
    kind: str, record: dict[str, Any], code: str, field: str
) -> None:
    """Every other identity is an error, which comes first and which nothing mends."""
    whole = record if kind == "attributes" else {**(EVENT | PURCHASE), "external_id": None} | record
    key, problems = SCHEMA.examine(kind, whole, NOW, validate=True)
    assert isinstance(key, Problem)
    assert key is problems[0]
    assert (key.code, key.field, key.mend) == (code, field, None)


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"push_token_import": True}, "bad-push-token-import"),
        ({"push_token_import": True, "push_tokens": []}, "bad-push-token-import"),
        (
            {"push_token_import": True, "push_tokens": TOKENS, "external_id": "u"},
            "bad-push-token-import",
        ),
        (
            {"push_token_import": True, "push_tokens": TOKENS, "user_alias": ALIAS},
            "alias-unsupported",
        ),
        ({"push_token_import": False, "push_tokens": TOKENS}, "external-id-required"),
    ],
)
def test_an_import_of_push_tokens_has_tokens_and_no_id(record: dict[str, Any], code: str) -> None:
    """Anonymous tokens are the one record without an external id."""
    key = SCHEMA.examine("attributes", record, NOW, validate=True)[0]
    assert isinstance(key, Problem)
    assert key.code == code


def test_only_attributes_import_push_tokens() -> None:
    """An event needs its user all the same."""
    record = {**EVENT, "external_id": None, "push_token_import": True, "push_tokens": TOKENS}
    assert told("event", record)[0] == ("external-id-required", "external_id")


@pytest.mark.parametrize(
    ("record", "key"),
    [
        ({"external_id": "u", "user_alias": ALIAS, "x": {"y": []}}, "u"),
        ({"external_id": 7}, "7"),
        (
            {"push_token_import": True, "push_tokens": TOKENS, "email": "b@x.example"},
            ("push_token", "t"),
        ),
    ],
)
def test_on_trust_an_identity_is_enough(record: dict[str, Any], key: object) -> None:
    """Without validation a record goes as it is."""
    assert SCHEMA.examine("attributes", record, NOW, validate=False) == (key, [])


@pytest.mark.parametrize(
    "record",
    [{}, {"email": "b@x.example"}, {"user_alias": ALIAS}, {"push_token_import": True}],
)
def test_on_trust_an_identity_is_needed(record: dict[str, Any]) -> None:
    """What names no user is found even then."""
    key, problems = SCHEMA.examine("attributes", record, NOW, validate=False)
    assert isinstance(key, Problem)
    assert problems == [key]


# --- what cannot be carried ---------------------------------------------------------------------


@pytest.mark.parametrize("value", [{}, {"a": 1}, [], ["a"], [{"a": "x" * 300}]])
@pytest.mark.parametrize(("kind", "record"), [("event", EVENT), ("purchase", PURCHASE)])
def test_a_property_holds_no_other_value(kind: str, record: dict[str, Any], value: object) -> None:
    """An object or an array in a property is one error, that dropping it mends."""
    (problem,) = found(kind, {**record, "properties": {"good": 1, "bad": value}})
    assert (problem.code, problem.field) == ("nested-property", "properties.bad")
    assert (problem.grade, problem.mend) == (Grade.ERROR, "drop")
    assert problem.path == ("properties", "bad")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({}, "nested-attribute"),
        ({"a": {"b": None}}, "nested-attribute"),
        ({"$time": "2016-01-01"}, "nested-attribute"),
        ([{"a": 1}], "nested-attribute"),
        ([["a"]], "nested-attribute"),
        ({"inc": 1, "add": ["a"]}, "nested-attribute"),
        ({"inc": [1]}, "nested-attribute"),
        ({"add": "a"}, "nested-attribute"),
        ({"add": [{"a": 1}]}, "nested-attribute"),
        ({"remove": [["a"]]}, "nested-attribute"),
        ({"$add": [{"a": 1}]}, "operator-unsupported"),
        ({"$update": [], "x": 1}, "operator-unsupported"),
        ({"$remove": []}, "operator-unsupported"),
    ],
)
def test_a_custom_attribute_holds_no_object(value: object, code: str) -> None:
    """Only the three operations of that time are objects; the error is of the attribute."""
    assert attributes(good=1, bad=value) == [(code, "bad")]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("_merge_objects", True, "merge-objects-unsupported"),
        (
            "subscription_groups",
            [{"subscription_group_id": "g", "subscription_state": "subscribed"}],
            "groups-unsupported",
        ),
        ("subscription_groups", "odd", "groups-unsupported"),
        ("app_id", "a", "later-field"),
        ("email_open_tracking_disabled", True, "later-field"),
        ("marked_email_as_spam_at", "2016-01-01", "later-field"),
        ("foursquare", "x", "reserved-field"),
        ("gender", "M", None),
        ("gender", "f", None),
        ("gender", "N", "unknown-gender"),
        ("gender", 1, "unknown-gender"),
        ("first_name", ["Jon"], "nested-attribute"),
        ("date_of_first_session", {}, "nested-attribute"),
        ("phone", "0123", None),
        ("phone", "none", "odd-phone"),
        ("date_of_first_session", "07/16/2013", "date-not-iso"),
        ("date_of_last_session", "2013-07-16 19:20:30", "date-not-iso"),
        ("date_of_last_session", "never", "odd-date"),
        ("dob", "12/21/1980", "odd-date"),
    ],
)
def test_profile_fields(name: str, value: object, code: str | None) -> None:
    """Each field has the rules of its time."""
    assert attributes(**{name: value}) == ([(code, name)] if code else [])


def test_a_later_field_that_holds_an_object() -> None:
    """It is an attribute of the customer's own there, and no attribute holds one."""
    assert attributes(app_id={"a": 1}) == [("nested-attribute", "app_id")]


@pytest.mark.parametrize(
    "time", ["07/16/2013", "2013-07-16 19:20:30", "Tue 07 16 19:20:30.UTC 2013"]
)
def test_a_time_in_a_form_of_later_years(time: str) -> None:
    """It is a warning: nothing says whether it is taken."""
    (problem,) = found("event", {**EVENT, "time": time})
    assert (problem.code, problem.field, problem.mend) == ("time-not-iso", "time", None)
    assert problem.grade is Grade.WARNING


def test_a_null_property() -> None:
    """It is none of the documented values."""
    assert told("event", {**EVENT, "properties": {"a": None}}) == [
        ("null-property", "properties.a")
    ]


@pytest.mark.parametrize("quantity", [0, 101, 1.5])
def test_a_quantity_is_at_most_100(quantity: object) -> None:
    """The documented rules of today hold as far as they are those of then."""
    assert told("purchase", {**PURCHASE, "quantity": quantity}) == [("bad-quantity", "quantity")]


# --- arrays -------------------------------------------------------------------------------------


def test_long_arrays_are_warned_of() -> None:
    """The destination would cut them; so does `truncate`, and at the very length."""
    record = {"external_id": "u1", "a": [1] * 26, "b": {"add": [1] * 26}, "c": {"remove": [1] * 99}}
    one, two = found("attributes", record)
    assert (one.code, one.path, one.most, one.mend) == ("long-array", ("a",), 25, "truncate")
    assert (two.code, two.path, two.most) == ("long-array", ("b", "add"), 25)
    assert "25" in one.reason
    assert one.grade is Grade.WARNING


def test_the_dashboard_may_allow_longer_arrays() -> None:
    """The length is a setting, up to what the dashboard allows."""
    longest = AppboySchema(MOST_ARRAY_ELEMENTS)
    assert found("attributes", {"external_id": "u1", "a": [1] * 100}, longest) == []
    assert len(found("attributes", {"external_id": "u1", "a": [1] * 501}, longest)) == 1


@pytest.mark.parametrize("elements", [0, 101, -1])
def test_an_impossible_length(elements: int) -> None:
    """The error says what is possible."""
    with pytest.raises(ConfigError, match="1 to 100"):
        AppboySchema(elements)


def test_a_length_is_read_from_text() -> None:
    """As it comes from a command line."""
    assert elements_of(" 30 ") == 30
    for text in ("", "x", "1e2", "1000", "-1", "٣"):
        with pytest.raises(ConfigError, match="array_elements"):
            elements_of(text)


# --- laws ---------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "inc", "add", "remove", "$add", "$time", "token", "app_id"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
names = st.sampled_from(
    ["external_id", "user_alias", "braze_id", "email", "phone", "push_token_import", "push_tokens",
     "subscription_groups", "_merge_objects", "gender", "app_id", "foursquare", "facebook", "tags",
     "time", "name", "properties", "product_id", "price", "currency", "quantity", "bio",
     "date_of_first_session"]
)  # fmt: skip
starts = st.sampled_from([{}, {"external_id": "u1"}, EVENT, PURCHASE])
records = st.builds(
    lambda start, more: {**start, **more},
    starts,
    st.dictionaries(names | st.text(max_size=5), values | st.just(True), max_size=5),
)

PROFILE_OBJECTS = {"current_location", "facebook", "twitter", "push_tokens"}


def carried(name: str, value: object) -> bool:
    """Tell, in other words than the code, whether Appboy carries a member of a profile."""
    if name in PROFILE_OBJECTS or not isinstance(value, (dict, list)):
        return True
    lists = [value] if isinstance(value, list) else list(value.values())
    if isinstance(value, dict) and list(value) == ["inc"]:
        return not isinstance(value["inc"], (dict, list))
    if isinstance(value, dict) and not (value and set(value) <= {"add", "remove"}):
        return False
    return all(
        isinstance(items, list) and not any(isinstance(item, (dict, list)) for item in items)
        for items in lists
    )


@settings(max_examples=examples(300))
@given(st.sampled_from(KINDS), records, st.booleans())
def test_examine_is_total(kind: str, record: dict[str, Any], validate: bool) -> None:
    """Any object has a key or a problem, errors come first, and every code is documented."""
    key, problems = SCHEMA.examine(kind, record, NOW, validate=validate)
    assert isinstance(key, (str, tuple, Problem))
    assert not isinstance(key, Problem) or problems[0] == key
    grades = [problem.grade for problem in problems]
    assert grades == sorted(grades)
    for problem in problems:
        assert problem.code in RULES or problem.code in CODES
        assert problem.reason


@settings(max_examples=examples(300))
@given(st.sampled_from(KINDS), records)
def test_nothing_that_cannot_be_carried_is_judged_good(kind: str, record: dict[str, Any]) -> None:
    """A record without an error names its user by id or tokens, and holds flat values."""
    key, problems = SCHEMA.examine(kind, record, NOW, validate=True)
    if any(problem.grade is Grade.ERROR for problem in problems):
        return
    assert not isinstance(key, Problem)
    assert isinstance(key, str) or key[0] == "push_token"
    assert record.get("user_alias") is None
    assert record.get("braze_id") is None
    if isinstance(key, str):
        assert record["external_id"] is not None
    else:
        assert record.get("external_id") is None
    if kind == "attributes":
        assert record.get("_merge_objects") is None
        assert all(carried(name, value) for name, value in record.items())
    else:
        properties = record.get("properties") or {}
        assert not any(isinstance(value, (dict, list)) for value in properties.values())


@settings(max_examples=examples(200))
@given(records)
def test_what_is_left_of_a_mended_record_is_carried(record: dict[str, Any]) -> None:
    """`--on-bad-field drop` sends what Appboy carries, and says what it dropped."""
    line = json.dumps({"attributes": record}).encode()
    (taken,) = Intake(IntakeRules(on_bad_field="drop"), SCHEMA).take(0, [line], 1)
    for chunk in taken.chunks:
        for fragment in chunk.fragments:
            sent = json.loads(bytes(fragment))
            assert all(carried(name, value) for name, value in sent.items())
            assert len(sent) >= len(record) or taken.warnings


def test_a_number_becomes_a_text() -> None:
    """An external id that is a number is sent as its decimal text; all else stays as it came."""
    fragment = b'{"external_id":7,"x":1.50}'
    record = json.loads(fragment)
    encoded = SCHEMA.encode(Found("attributes", record, fragment), record)
    assert encoded.fragment == b'{"external_id":"7","x":1.50}'


def test_no_fast_way_goes_around_it() -> None:
    """What is proven good for today's rules may not be good for those of then."""
    assert SCHEMA.provable is False
    line = b'{"event":{"external_id":"u1","name":"e","time":"2026-01-01","properties":{"a":[1]}}}'
    (taken,) = Intake(IntakeRules(), SCHEMA).take(0, [line], 1)
    assert [refusal.code for refusal in taken.refusals] == ["nested-property"]


@pytest.mark.parametrize("code", RULES)
def test_no_sentence_holds_a_value(code: str) -> None:
    """A finding names field and rule: its sentence has one place, for the field."""
    rule = RULES[code]
    assert rule.sentence.count("{") == rule.sentence.count("{}") <= 1
    assert rule.meaning
