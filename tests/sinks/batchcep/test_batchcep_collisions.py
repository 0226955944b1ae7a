"""Names that become one at Batch CEP: who keeps it, who is refused, and when a name is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.forms import Found
from ingest.sinks.batchcep.names import Names, slug
from tests.sinks.batchcep.judging import EVENT, ID, NOW, TIME, refused, schema_of, sent, taken_by


def test_the_later_of_two_names_is_refused() -> None:
    """Two attributes never become one: the first name of a run keeps the slug."""
    records = (ID | {"Plan": 1}, ID | {"plan": 2}, ID | {"Plan": 3})
    (taken,) = taken_by(schema_of(), "attributes", *records)
    (refusal,) = taken.refusals
    assert (refusal.line, refusal.code, refusal.field) == (2, "name-taken", "plan")
    assert refusal.reason == (
        "'plan' becomes 'plan', which an earlier record of this run took for 'Plan': rename one of "
        "them"
    )


def test_two_names_in_one_record_are_refused() -> None:
    """Which of the values would win is nobody's to guess; the reason names both fields."""
    _, found = schema_of().examine("attributes", ID | {"a b": 1, "a-b": 2}, NOW, validate=True)
    (problem,) = found
    assert (problem.code, problem.path) == ("name-collision", ("a-b",))
    assert problem.reason == (
        "'a-b' becomes 'a_b', as 'a b' before it in the same record does: rename one of them"
    )


def test_a_key_that_is_refused_takes_no_slug_of_its_record() -> None:
    """Of two keys that become one, the one that the run knows stays, in whatever order."""
    for record in ({"Plan": "a", "plan": "b"}, {"plan": "b", "Plan": "a"}):
        schema = schema_of()
        assert sent(schema, "attributes", ID | {"plan": "c"}) == [{"plan": "c"}]
        (taken,) = taken_by(schema, "attributes", ID | record, on_bad_field="drop")
        assert [(each.code, each.field) for each in taken.warnings] == [("name-taken", "Plan")]
        assert json.loads(bytes(taken.chunks[0].fragments[0]))[0] == {"plan": "b"}


def test_a_key_without_room_takes_no_slug_of_its_record() -> None:
    """A full table keeps the name that is its own slug."""
    schema = schema_of(Names(most=0))
    record = ID | {"Plan": "a", "plan": "b"}
    assert sent(schema, "attributes", record, on_bad_field="drop") == [{"plan": "b"}]


@pytest.mark.parametrize("validate", [True, False])
def test_long_names_never_become_one(validate: bool) -> None:
    """On trust they are sent, each under its own name."""
    record = ID | {"X" * 31: 1, "x" * 31: 2}
    (taken,) = taken_by(schema_of(), "attributes", record, validate=validate)
    assert [each.code for each in taken.refusals] == ["long-name" if validate else "name-collision"]


def test_the_objects_of_a_list_share_their_names() -> None:
    """What is one attribute at the destination comes from one in the record."""
    properties = {"items": [{"A": 1}, {"a": 2}, {"A": 3}]}
    (taken,) = taken_by(schema_of(), "event", EVENT | {"properties": properties})
    (refusal,) = taken.refusals
    assert (refusal.code, refusal.field) == ("name-collision", "properties.items[].a")
    assert "'items.a'" in refusal.reason
    assert "'items.A'" in refusal.reason


def test_a_record_that_is_withdrawn_takes_no_name() -> None:
    """One that is too large is encoded first; names that others hold stay theirs."""
    schema = schema_of()

    def encoded(record: dict[str, Any]) -> Any:
        found = Found("attributes", record, json.dumps(record).encode())
        assert not schema.examine("attributes", record, NOW, validate=True)[1]
        return schema.encode(found, record)

    first = encoded(ID | {"Seen": 1})
    schema.withdraw(encoded(ID | {"Seen": 1, "Plan": 1}))
    last = encoded(ID | {"plan": 1})
    schema.withdraw(first)  # not the last one: its names are not known apart any more
    schema.withdraw(last)
    schema.withdraw(last)
    assert refused(schema, "attributes", ID | {"PLAN": 1}, ID | {"seen": 1}) == [
        (2, "name-taken", "seen")
    ]


def test_a_record_that_is_refused_takes_no_name() -> None:
    """Only what is sent can collide."""
    records = (ID | {"Plan": 1, "dob": "?"}, ID | {"plan": 2})
    assert refused(schema_of(), "attributes", *records) == [(1, "bad-date", "dob")]


def test_events_do_not_collide_either() -> None:
    """The first event keeps the slug; what an event is called is in no reason."""
    schema = schema_of()
    events = (EVENT | {"name": "Paid"}, EVENT | {"name": "paid!"}, EVENT | {"name": "paid"})
    assert refused(schema, "event", *events) == [(3, "event-name-collision", "name")]


PURCHASE = ID | {"product_id": "p", "currency": "EUR", "price": 1, "time": TIME}


@pytest.mark.parametrize("first", ["event", "purchase"])
def test_the_name_of_purchases_is_theirs_whichever_comes_first(first: str) -> None:
    """An event that would become one of that name is refused, and no purchase ever is for it."""
    schema = schema_of(purchase_event="order_paid")
    event = EVENT | {"name": "Order Paid"}
    if first == "purchase":
        assert refused(schema, "purchase", PURCHASE) == []
    assert refused(schema, "event", event) == [(1, "purchase-event-name", "name")]
    assert refused(schema, "purchase", PURCHASE, PURCHASE) == []
    assert refused(schema, "event", EVENT | {"name": "purchase"}) == []
    (problem,) = schema.examine("event", event, NOW, validate=False)[1]
    assert "'purchase_event'" in problem.reason
    assert "Order Paid" not in problem.reason


def test_a_full_table_of_names_keeps_no_purchase_back() -> None:
    """The name of purchases is known by the setting alone."""
    schema = schema_of(Names(most=0), purchase_event="bought")
    assert refused(schema, "purchase", PURCHASE) == []
    assert refused(schema, "event", EVENT | {"name": "Bought"}) == [
        (1, "purchase-event-name", "name")
    ]


def test_a_record_is_encoded_whatever_was_judged_last() -> None:
    """What is sent is of the record that is given, by whichever way it was translated."""
    schema = schema_of()
    one, other = ID | {"plan": 1}, ID | {"plan": 2}
    found = [Found("attributes", record, json.dumps(record).encode()) for record in (one, other)]
    for record in (one, other):
        schema.examine("attributes", record, NOW, validate=True)
    pieces = [
        json.loads(schema.encode(one_found, one_found.record).fragment)[0]
        for one_found in (found[0], found[1], found[1])
    ]
    assert pieces == [{"plan": 1}, {"plan": 2}, {"plan": 2}]


def test_names_are_apart_by_what_they_name() -> None:
    """An attribute, an event, a property and a property of an object may share a slug."""
    schema = schema_of()
    assert refused(schema, "attributes", ID | {"Paid": 1}) == []
    properties = {"paid": {"PAID": 1}}
    assert refused(schema, "event", EVENT | {"properties": properties}) == []
    properties = {"paid": {"paid": 1}}
    assert refused(schema, "event", EVENT | {"properties": properties}) == [
        (1, "name-taken", "properties.paid.paid")
    ]


def test_too_many_names_are_refused_where_they_would_change() -> None:
    """A full table still takes a name that is its own slug."""
    schema = schema_of(Names(most=2))
    assert refused(schema, "event", EVENT | {"properties": {"A": 1}}) == []
    assert refused(schema, "event", EVENT | {"properties": {"b": 1}}) == []
    assert refused(schema, "event", EVENT | {"properties": {"B": 1}}) == [
        (1, "too-many-names", "properties.B")
    ]
    assert refused(schema, "event", EVENT | {"name": "Other"}) == [
        (1, "too-many-event-names", "name")
    ]


# --- laws ---------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["Plan", "plan", "PLAN", "a b", "a-b", "a_b", "c"]), max_size=8))
def test_what_is_sent_under_one_name_came_from_one(names: list[str]) -> None:
    """However the names come, those that go on tell their sources apart."""
    schema, sources = schema_of(), dict[str, set[str]]()
    for name in names:
        for piece in sent(schema, "attributes", ID | {name: 1}):
            for key in piece:
                sources.setdefault(key, set()).add(name)
    assert all(len(found) == 1 for found in sources.values())


_COLLIDING = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["Plan", "plan", "PLAN", "a b", "a-b"]), st.just(1)),
        st.booleans(),
    ),
    max_size=8,
)


@given(_COLLIDING)
def test_names_are_those_of_the_records_that_went(rows: list[tuple[dict[str, int], bool]]) -> None:
    """What was withdrawn leaves no trace: the others are judged as if it had never come."""
    schema, without = schema_of(), schema_of()
    for keys, goes in rows:
        record = ID | keys
        found = Found("attributes", record, json.dumps(record).encode())
        judged = schema.examine("attributes", record, NOW, validate=True)
        assert judged == without.examine("attributes", record, NOW, validate=True)
        if judged[1]:
            continue
        encoded = schema.encode(found, record)
        if goes:
            without.encode(found, record)
        else:
            schema.withdraw(encoded)


@given(_COLLIDING)
def test_dropping_keeps_the_first_key_that_is_free(rows: list[tuple[dict[str, int], bool]]) -> None:
    """Of the keys that become one, the one stays that the run knows, or else the first."""
    schema, holders = schema_of(), dict[str, str]()
    for keys, _ in rows:
        (taken,) = taken_by(schema, "attributes", ID | keys, on_bad_field="drop")
        kept = set[str]()
        for name in keys:
            if holders.setdefault(slug(name), name) == name:
                kept.add(slug(name))
        assert json.loads(bytes(taken.chunks[0].fragments[0]))[0].keys() == kept
        assert [each.field for each in taken.warnings] == [
            name for name in keys if holders[slug(name)] != name
        ]
