"""What each field of a record becomes at Batch CEP, and what keeps it from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from ingest.forms import Found
from ingest.records import KINDS
from ingest.sinks.batchcep.settings import BatchCepSettings
from ingest.sinks.batchcep.translation import NATIVE, BatchCepSchema
from ingest.validation import Problem

NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
TIME = "2026-01-02T03:00:00Z"
ID = {"external_id": "u1"}
EVENT = ID | {"name": "paid", "time": TIME}
PURCHASE = ID | {"product_id": "p", "currency": "EUR", "price": 9.5, "time": TIME}


def found_of(kind: str, record: Mapping[str, Any]) -> Found:
    return Found(kind, dict(record), json.dumps(record).encode())


def problems(
    kind: str, record: Mapping[str, Any], schema: BatchCepSchema | None = None, **chosen: Any
) -> list[Problem]:
    """Judge one record."""
    schema = schema or BatchCepSchema(BatchCepSettings(**chosen))
    return schema.examine(kind, dict(record), NOW, validate=True)[1]


def faults(
    kind: str, record: Mapping[str, Any], schema: BatchCepSchema | None = None, **chosen: Any
) -> list[tuple[str, str, str | None]]:
    return [(p.code, p.field, p.mend) for p in problems(kind, record, schema, **chosen)]


def piece(
    kind: str, record: Mapping[str, Any], schema: BatchCepSchema | None = None, **chosen: Any
) -> Any:
    """Translate one record in which nothing is wrong."""
    schema = schema or BatchCepSchema(BatchCepSettings(**chosen))
    found = found_of(kind, record)
    assert schema.examine(kind, found.record, NOW, validate=True)[1] == []
    encoded = schema.encode(found, found.record)
    sent, came = json.loads(encoded.fragment)
    assert encoded.slot == KINDS.index(kind)
    assert came == record
    return sent


def test_attributes_become_native_and_custom_ones() -> None:
    """Native fields get their names, others a slug; dates say so in their keys; null deletes."""
    record = ID | {
        "email": "a@b.co",
        "phone": "+33612345678",
        "email_subscribe": "opted_in",
        "language": "FR",
        "country": "fr",
        "time_zone": "Europe/Paris",
        "first_name": "Ann",
        "dob": "1990-01-02",
        "image_url": "https://x.co/a",
        "Age Group": "30-40",
        "Since": "2024-01-02T03:04:05+02:00",
        "n": 1,
        "f": 1.5,
        "ok": True,
        "gone": None,
        "tags": ["a", "2024-01-02"],
        "more": {"add": ["x"]},
        "less": {"remove": ["y"]},
        "app_id": "app",
        "_update_existing_only": False,
        "_merge_objects": True,
        "push_token_import": False,
        "push_tokens": None,
    }
    assert piece("attributes", record) == {
        "$email_address": "a@b.co",
        "$phone_number": "+33612345678",
        "$email_marketing": "subscribed",
        "$language": "fr",
        "$region": "FR",
        "$timezone": "Europe/Paris",
        "first_name": "Ann",
        "date(dob)": "1990-01-02T00:00:00Z",
        "image_url": "https://x.co/a",
        "age_group": "30-40",
        "date(since)": "2024-01-02T01:04:05Z",
        "n": 1,
        "f": 1.5,
        "ok": True,
        "gone": None,
        "tags": ["a", "2024-01-02"],
        "more": {"$add": ["x"]},
        "less": {"$remove": ["y"]},
        "app_id": "app",
    }


def test_a_null_unsets_native_attributes_too() -> None:
    """What Braze unsets by a null is unset there by one."""
    nulls = dict.fromkeys(NATIVE)
    assert piece("attributes", ID | nulls) == {key: None for key, _ in NATIVE.values()}


def test_an_event_gets_a_slug_and_its_time_in_utc() -> None:
    """Its properties keep their structure, with slugs for names, and `app_id` joins them."""
    record = EVENT | {
        "name": "Order Paid",
        "time": "2026-01-02T05:00:00+02:00",
        "app_id": "app",
        "properties": {
            "Amount": 9.9,
            "At": "2026-01-01",
            "tags": ["a"],
            "none": [],
            "Items": [{"SKU": "x", "at": {"Shop No": 3}}],
            "to": {"city": "Paris"},
        },
    }
    assert piece("event", record) == {
        "name": "order_paid",
        "time": TIME,
        "attributes": {
            "app_id": "app",
            "amount": 9.9,
            "date(at)": "2026-01-01T00:00:00Z",
            "tags": ["a"],
            "none": [],
            "items": [{"sku": "x", "at": {"shop_no": 3}}],
            "to": {"city": "Paris"},
        },
    }


def test_an_event_without_properties_has_no_attributes() -> None:
    """Null properties are none."""
    assert piece("event", EVENT | {"properties": None}) == {"name": "paid", "time": TIME}


def test_a_purchase_becomes_one_event_of_a_chosen_name() -> None:
    """Its quantity is a number in it: nothing is counted more than once."""
    record = PURCHASE | {"product_id": 7, "quantity": 3, "properties": {"Colour": "red"}}
    assert piece("purchase", record, purchase_event="bought") == {
        "name": "bought",
        "time": TIME,
        "attributes": {
            "product_id": "7",
            "currency": "EUR",
            "price": 9.5,
            "quantity": 3,
            "colour": "red",
        },
    }
    assert piece("purchase", PURCHASE)["attributes"]["quantity"] == 1


def test_urls_are_opted_in_by_field() -> None:
    """Only a field that was named gets the type of a URL, whatever its texts look like."""
    record = ID | {"Site": "https://x.co/" + "a" * 400, "other": "https://x.co"}
    sent = piece("attributes", record, urls=("site",))
    assert sent == {"url(site)": record["Site"], "other": "https://x.co"}
    assert faults("attributes", ID | {"Site": "x"}, urls=("site",)) == [("bad-url", "Site", "drop")]


def test_a_state_without_a_counterpart_is_a_choice() -> None:
    """'subscribed' is neither in nor out: refused, or reset if that was set."""
    record = ID | {"email_subscribe": "subscribed"}
    assert faults("attributes", record) == [("subscribed-state", "email_subscribe", "drop")]
    assert piece("attributes", record, subscribed="reset") == {"$email_marketing": None}
    assert piece("attributes", ID | {"email_subscribe": "unsubscribed"}) == {
        "$email_marketing": "unsubscribed"
    }


def test_any_phone_number_is_a_choice() -> None:
    """Whoever knows better may send numbers as they are."""
    assert piece("attributes", ID | {"phone": "0612"}, phones="any") == {"$phone_number": "0612"}
    assert faults("attributes", ID | {"phone": 612}, phones="any") == [
        ("bad-phone", "phone", "drop")
    ]


def test_an_id_that_is_a_number_becomes_text() -> None:
    """As everywhere, the decimal text of an integer is the id."""
    schema = BatchCepSchema(BatchCepSettings())
    assert schema.examine("attributes", {"external_id": 7}, NOW, validate=True) == ("7", [])


@pytest.mark.parametrize(
    ("record", "code", "field"),
    [
        ({"plan": "pro"}, "missing-identity", ""),
        (
            {"user_alias": {"alias_name": "a", "alias_label": "b"}},
            "unsupported-identity",
            "user_alias",
        ),
        ({"braze_id": "b"}, "unsupported-identity", "braze_id"),
        ({"email": "a@b.co"}, "unsupported-identity", "email"),
        ({"phone": "+33612345678"}, "unsupported-identity", "phone"),
        ({"external_id": ""}, "bad-external-id", "external_id"),
        ({"external_id": 1.5}, "bad-external-id", "external_id"),
        ({"external_id": True}, "bad-external-id", "external_id"),
        ({"push_token_import": True, "push_tokens": []}, "push-token-import", "push_token_import"),
    ],
)
def test_a_record_of_nobody_known_there_is_refused(
    record: dict[str, Any], code: str, field: str
) -> None:
    """Users are known by their external id alone; nothing mends that, nor does trust."""
    schema = BatchCepSchema(BatchCepSettings())
    for validate in (True, False):
        key, found = schema.examine("attributes", record, NOW, validate=validate)
        assert isinstance(key, Problem)
        assert found == [key]
        assert (key.code, key.field, key.mend) == (code, field, None)


@pytest.mark.parametrize(
    ("extra", "code", "field", "how"),
    [
        ({"external_id": "x" * 513}, "long-external-id", "external_id", None),
        ({"braze_id": "b"}, "two-identities", "braze_id", None),
        ({"_update_existing_only": True}, "update-only", "_update_existing_only", None),
        ({"_update_existing_only": "no"}, "bad-flag", "_update_existing_only", "drop"),
        ({"push_tokens": []}, "no-counterpart", "push_tokens", "drop"),
        ({"push_subscribe": "opted_in"}, "no-counterpart", "push_subscribe", "drop"),
        ({"subscription_groups": []}, "no-counterpart", "subscription_groups", "drop"),
        ({"current_location": {}}, "no-counterpart", "current_location", "drop"),
        ({"visits": {"inc": 1}}, "no-increment", "visits", "drop"),
        ({"tags": {"add": ["a"], "remove": ["b"]}}, "two-operators", "tags", "drop"),
        ({"tags": {"add": "a"}}, "odd-operator", "tags", "drop"),
        ({"tags": {"add": [1]}}, "odd-operator", "tags.add", "drop"),
        ({"car": {"brand": "x"}}, "nested-object", "car", "drop"),
        ({"cars": [{"brand": "x"}]}, "bad-array", "cars", "drop"),
        ({"sizes": [1, 2]}, "bad-array", "sizes", "drop"),
        ({"tags": ["a", ""]}, "empty-string", "tags[]", "drop"),
        ({"note": ""}, "empty-string", "note", "drop"),
        ({"note": "x" * 301}, "long-string", "note", "truncate"),
        ({"note": "https://x.co/" + "x" * 301}, "long-string", "note", "drop"),
        ({"n": 2**63}, "bad-number", "n", "drop"),
        ({"n": -1e300}, "bad-number", "n", "drop"),
        ({"x" * 31: 1}, "long-name", "x" * 31, "drop"),
        ({"": 1}, "long-name", '""', "drop"),
        ({"dob": "21.12.1980"}, "bad-date", "dob", "drop"),
        ({"dob": 1980}, "bad-date", "dob", "drop"),
        ({"email": "nobody"}, "bad-email", "email", "drop"),
        ({"email": "a@b.co" + "x" * 300}, "long-string", "email", "truncate"),
        ({"phone": "0612345678"}, "bad-phone", "phone", "drop"),
        ({"email_subscribe": "maybe"}, "bad-subscription-state", "email_subscribe", "drop"),
        ({"language": "fil"}, "unknown-language", "language", "drop"),
        ({"language": 1}, "unknown-language", "language", "drop"),
        ({"country": "France"}, "unknown-country", "country", "drop"),
        ({"country": 1}, "unknown-country", "country", "drop"),
        ({"time_zone": "Eastern Time (US)"}, "bad-time-zone", "time_zone", "drop"),
    ],
)
def test_attributes_that_cannot_be_carried_are_named(
    extra: dict[str, Any], code: str, field: str, how: str | None
) -> None:
    """Nothing is bent in silence: each is an error, with what may mend it."""
    assert faults("attributes", ID | extra) == [(code, field, how)]


@pytest.mark.parametrize(
    ("kind", "record", "code", "field", "how"),
    [
        ("event", {"name": None}, "missing-name", "name", None),
        ("event", {"name": 7}, "bad-name", "name", None),
        ("event", {"name": "x" * 31}, "long-event-name", "name", None),
        ("event", {"time": None}, "missing-time", "time", None),
        ("event", {"time": "soon"}, "bad-time", "time", None),
        ("event", {"time": 7}, "bad-time", "time", None),
        ("event", {"time": "2026-01-01T03:04:04Z"}, "event-too-old", "time", None),
        ("event", {"time": "2026-01-02T03:04:07Z"}, "event-in-future", "time", None),
        ("event", {"properties": []}, "bad-properties", "properties", "drop"),
        ("event", {"properties": {"a": None}}, "null-property", "properties.a", "drop"),
        ("event", {"properties": {"$a": 1}}, "bad-property-name", "properties.$a", "drop"),
        (
            "event",
            {"properties": {"a": {"b": {"c": {"d": {}}}}}},
            "deep-object",
            "properties.a.b.c.d",
            "drop",
        ),
        ("event", {"properties": {"a": ["x", {}]}}, "bad-array", "properties.a", "drop"),
        ("event", {"properties": {"a": [{"b": ""}]}}, "empty-string", "properties.a[].b", "drop"),
        ("event", {"app_id": 7}, "wrong-type", "app_id", "drop"),
        ("event", {"email": "a@b.co"}, "no-counterpart", "email", "drop"),
        ("purchase", {"product_id": None}, "missing-field", "product_id", None),
        ("purchase", {"product_id": ""}, "bad-product-id", "product_id", None),
        ("purchase", {"product_id": True}, "bad-product-id", "product_id", None),
        ("purchase", {"currency": "euro"}, "bad-currency", "currency", None),
        ("purchase", {"price": "9"}, "bad-price", "price", None),
        ("purchase", {"price": 1e30}, "bad-price", "price", None),
        ("purchase", {"quantity": 101}, "bad-quantity", "quantity", None),
        ("purchase", {"quantity": True}, "bad-quantity", "quantity", None),
        ("purchase", {"quantity": 1.0}, "bad-quantity", "quantity", None),
        ("purchase", {"properties": {"Price": 1}}, "name-collision", "properties.Price", "drop"),
    ],
)
def test_events_and_purchases_that_cannot_be_carried_are_named(
    kind: str, record: dict[str, Any], code: str, field: str, how: str | None
) -> None:
    """What is required has to be there and of its form; what is old cannot be stored there."""
    whole = (EVENT if kind == "event" else PURCHASE) | record
    assert faults(kind, whole) == [(code, field, how)]


def test_a_time_at_the_edge_is_taken() -> None:
    """A day ago still counts, and clocks that agree may differ by a second."""
    for time in ("2026-01-01T03:04:05Z", "2026-01-02T03:04:06Z"):
        assert problems("event", EVENT | {"time": time}) == []


@pytest.mark.parametrize(
    "name",
    [
        *("Europe/Paris", "America/Argentina/Buenos_Aires", "America/Port-au-Prince"),
        *("Etc/GMT+5", "US/East-Indiana", "Japan", "EST5EDT", "GMT+0", "UTC", "NZ-CHAT"),
    ],
)
def test_names_of_the_iana_database_are_time_zones(name: str) -> None:
    """By area and city, and those few that have no area."""
    assert piece("attributes", ID | {"time_zone": name}) == {"$timezone": name}


@pytest.mark.parametrize(
    "name", ["", "Paris", "europe/paris", "Mars/Base", "Europe/", "Europe/paris", "+02:00", 7]
)
def test_other_names_are_no_time_zones(name: object) -> None:
    """The destination would leave the attribute out without a word."""
    assert faults("attributes", ID | {"time_zone": name}) == [
        ("bad-time-zone", "time_zone", "drop")
    ]
