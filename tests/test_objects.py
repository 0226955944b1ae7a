"""Typed records: what they refuse where they are made, and the line that they become."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import loads
from ingest.errors import InvalidRecord
from ingest.forms import Found
from ingest.objects import (
    Alias,
    Attributes,
    Event,
    Purchase,
    Typed,
    add,
    inc,
    line_of,
    remove,
    unset,
)
from ingest.schemas import TrackSchema
from ingest.validation import Grade

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)

identities = st.one_of(
    st.text("abc1", min_size=1, max_size=9).map(lambda text: {"external_id": text}),
    st.integers(1, 10**9).map(lambda number: {"external_id": number}),
    st.just({"user_alias": Alias("a", "crm")}),
    st.just({"email": "a@example.com"}),
    st.just({"phone": "+4915112345678"}),
    st.just({"braze_id": "b" * 24}),
)
moments = st.datetimes(timezones=st.just(timezone(timedelta(hours=2)))) | st.none()
properties = st.dictionaries(
    st.text("xyz", min_size=1), st.integers(-(2**63), 2**63 - 1) | st.text("äb"), max_size=3
)
records = st.one_of(
    st.builds(
        lambda who, values: Attributes(values=values, **who),
        identities,
        st.dictionaries(st.text("klm", min_size=1), st.integers(0, 9) | st.text("ab"), min_size=1),
    ),
    st.builds(
        lambda who, time, given: Event(name="rented", time=time, properties=given, **who),
        identities,
        moments,
        properties | st.none(),
    ),
    st.builds(
        lambda who, time, price: Purchase(
            product_id="p1", currency="EUR", price=price, time=time, **who
        ),
        identities,
        moments,
        st.decimals(0, 999, places=2) | st.floats(0, 999).map(lambda x: round(x, 2)),
    ),
)


@given(records)
def test_a_typed_record_is_one_that_is_taken(record: Typed) -> None:
    """Whatever can be made is one line, of its kind, and no rule refuses it."""
    line = line_of(record, NOW)
    assert b"\n" not in line
    schema = TrackSchema()
    (found,) = schema.read(line, None)
    assert isinstance(found, Found)
    kind = {Attributes: "attributes", Event: "event", Purchase: "purchase"}[type(record)]
    assert found.kind == kind
    _, problems = schema.examine(kind, found.record, NOW.timestamp(), validate=True)
    assert [problem for problem in problems if problem.grade is Grade.ERROR] == []


def test_what_has_no_time_happens_now() -> None:
    """An event or a purchase that does not say when it happened, happens when it is put."""
    event = loads(line_of(Event(external_id="u", name="x"), NOW))["event"]
    bought = Purchase(external_id="u", product_id="p", currency="USD", price=1.5)
    assert event["time"] == loads(line_of(bought, NOW))["purchase"]["time"]
    assert event["time"] == "2026-11-22T10:00:00+00:00"
    text = Event(external_id="u", name="x", time="2026-01-01T00:00:00Z")
    assert loads(line_of(text, NOW))["event"]["time"] == "2026-01-01T00:00:00Z"


def test_a_moment_that_is_not_given_is_this_one() -> None:
    """Without `now` the clock of this machine says when it happens, with a zone."""
    told = loads(line_of(Event(external_id="u", name="x")))["event"]["time"]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(told)) < timedelta(minutes=1)


def test_operators_and_unset_become_what_the_destination_documents() -> None:
    """Integers are counted up, arrays are changed, and what is unset is null."""
    values = {"visits": inc(), "left": inc(-2), "tags": add("a", "b"), "old": remove("c")}
    record = Attributes(external_id="u", values=values | {"gone": unset, "day": date(2026, 1, 2)})
    assert loads(line_of(record)) == {
        "attributes": {
            "external_id": "u",
            "visits": {"inc": 1},
            "left": {"inc": -2},
            "tags": {"add": ["a", "b"]},
            "old": {"remove": ["c"]},
            "gone": None,
            "day": "2026-01-02",
        }
    }


def test_identity_goes_before_values_of_the_same_name() -> None:
    """Whose record it is cannot be changed by its values, and flags travel as documented."""
    record = Attributes(
        external_id=7,
        user_alias=Alias("n", "l"),
        values={"external_id": "other"},
        update_existing_only=False,
    )
    inner = loads(line_of(record))["attributes"]
    assert inner == {
        "external_id": "7",
        "user_alias": {"alias_name": "n", "alias_label": "l"},
        "_update_existing_only": False,
    }


def test_a_price_is_kept_to_the_last_digit() -> None:
    """A Decimal is sent as it is written, and one that is no number is refused."""
    exact = Purchase(external_id="u", product_id="p", currency="EUR", price=Decimal("0.10"))
    assert b'"price":0.10,' in line_of(exact)
    endless = Purchase(external_id="u", product_id="p", currency="EUR", price=Decimal("NaN"))
    with pytest.raises(InvalidRecord, match="finite"):
        line_of(endless)


@pytest.mark.parametrize(
    ("make", "code", "field"),
    [
        (lambda: Event(name="x"), "missing-identity", ""),
        (lambda: Event(external_id=True, name="x"), "bad-type", "external_id"),
        (lambda: Event(external_id="u", name="x", time=datetime(2026, 1, 1)), "naive-time", "time"),
        (
            lambda: Attributes(external_id="u", values={"a": {"b": [datetime(2026, 1, 1)]}}),
            "naive-time",
            "a.b",
        ),
        (
            lambda: Purchase(
                external_id="u",
                product_id="p",
                currency="EUR",
                price=1,
                properties={"at": datetime(2026, 1, 1)},
            ),
            "naive-time",
            "properties.at",
        ),
    ],
)
def test_what_cannot_be_right_is_refused_where_it_is_made(make: Any, code: str, field: str) -> None:
    """No user, or a moment without a zone: the line of code that is wrong is the one that fails."""
    with pytest.raises(InvalidRecord) as caught:
        make()
    assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_in_json_is_refused(value: float) -> None:
    """As null it would unset the attribute, and nobody would know."""
    with pytest.raises(InvalidRecord, match="finite") as caught:
        Attributes(external_id="u", values={"score": [value]})
    assert caught.value.field == "score"
    with pytest.raises(InvalidRecord):
        line_of({"attributes": {"external_id": "u", "score": value}})


def test_a_mapping_goes_as_it_is() -> None:
    """Any form of a record may be put as a mapping; what is no JSON, or has no zone, may not."""
    assert line_of({"purchase": {"a": 1}}) == b'{"purchase":{"a":1}}'
    with pytest.raises(InvalidRecord, match="not JSON"):
        line_of({"event": {"x": object()}})
    with pytest.raises(InvalidRecord, match="zone"):
        line_of({"event": {"time": datetime(2026, 1, 1)}})
