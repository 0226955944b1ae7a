"""From rows to lines."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.codec import loads
from ingest.columns import Encoder, Unfit
from ingest.forms import Found, records_of
from tests.columns.tables import objects, plan_of


def test_a_row_becomes_an_enveloped_line_with_the_identity_first() -> None:
    """Whatever the order of the columns; numbers, booleans and JSON as they were written."""
    header = "age,address.city,email,vip,tags,external_id,address.zip,_update_existing_only"
    row = ("0.50", "Köln", "a@b.c", "TRUE", '["a",\n"b"]', "u1", "01234", "false")
    (line,) = Encoder(plan_of(header, row)).encode([row])
    assert line == (
        b'{"attributes":{"external_id":"u1","email":"a@b.c","_update_existing_only":false,'
        b'"age":0.50,"address":{"city":"K\xc3\xb6ln","zip":"01234"},"vip":true,"tags":["a", "b"]}}'
    )


def test_phones_stay_text() -> None:
    """A phone of digits alone is no number (a defect of the official CSV importer)."""
    assert objects("external_id,phone", ("u1", "15551234567")) == [
        {"external_id": "u1", "phone": "15551234567"}
    ]


def test_no_is_not_true() -> None:
    """Yes and no are texts, and false where they are told to be booleans (a defect of a peer)."""
    assert objects("external_id,x", ("u1", "no")) == [{"external_id": "u1", "x": "no"}]
    told = objects("external_id,x", ("u1", "no"), ("u1", "Yes"), types={"x": "boolean"})
    assert [record["x"] for record in told] == [False, True]


def test_arrays_and_objects_are_values() -> None:
    """A cell of JSON is no text (a defect of the official CSV importer)."""
    rows = [("u1", "[true,null]"), ("u2", '{"a":{"b":1}}')]
    assert [record["x"] for record in objects("external_id,x", *rows)] == [
        [True, None],
        {"a": {"b": 1}},
    ]


def test_empty_cells_are_left_out_and_null_unsets() -> None:
    """Attributes alone can be unset; an identifier or a field of an event that is null is not."""
    header = "external_id,email,x,n,_merge_objects"
    row = ("u1", "null", "null", "null", "null")
    assert objects(header, row, ("u2", "", "", "1", "")) == [
        {"external_id": "u1", "email": None, "x": None, "n": None},
        {"external_id": "u2", "n": 1},
    ]
    assert objects("external_id,a", ("null", "x")) == [{"a": "x"}]
    event = ("u1", "view", "null", "null")
    assert objects("external_id,name,app_id,genre", event, kind="event") == [
        {"external_id": "u1", "name": "view"}
    ]
    assert objects("email,x", ("a@b.c", "null"), null_text="") == [{"email": "a@b.c", "x": "null"}]
    assert objects("email,x", ("a@b.c", "NULL"), null_text="NULL")[0]["x"] is None


def test_events_and_purchases_have_their_fields() -> None:
    """What they have no field for is a property, since it would be lost elsewhere."""
    header = "external_id,product_id,currency,price,quantity,time,app_id,properties.a,b.c,d"
    row = ("u1", "7", "EUR", "1.5", "2", "2024-01-31", "app", "x", "y", "3")
    assert objects(header, row, kind="purchase") == [
        {
            "external_id": "u1",
            "product_id": "7",
            "currency": "EUR",
            "price": 1.5,
            "quantity": 2,
            "time": "2024-01-31",
            "app_id": "app",
            "properties": {"a": "x", "b": {"c": "y"}, "d": 3},
        }
    ]
    whole = ("u1", "view", "2024-01-31", '{"a": 1}')
    assert objects("external_id,name,time,properties", whole, kind="event", guess=False) == [
        {"external_id": "u1", "name": "view", "time": "2024-01-31", "properties": {"a": 1}}
    ]


def test_aliases_are_put_together() -> None:
    """By either names; a constant label makes no alias where there is no name."""
    alias = {"alias_name": "n", "alias_label": "l"}
    for header in ("alias_name,alias_label,x", "user_alias_label,user_alias_name,x"):
        row = ("n", "l", "1") if header[0] == "a" else ("l", "n", "1")
        assert objects(header, row) == [{"user_alias": alias, "x": 1}]
    label = {"constants": {"alias_label": "l"}}
    rows = [("n", "", "1"), ("", "u2", "1")]
    assert objects("alias_name,external_id,x", *rows, mapping=label) == [
        {"user_alias": alias, "x": 1},
        {"external_id": "u2", "x": 1},
    ]
    fixed = {"constants": {"alias_label": "l", "alias_name": "n"}}
    assert objects("x", ("1",), mapping=fixed) == [{"user_alias": alias, "x": 1}]
    assert objects("user_alias,x", ('{"alias_name":"n","alias_label":"l"}', "1")) == [
        {"user_alias": alias, "x": 1}
    ]


@pytest.mark.parametrize(
    ("header", "row", "kind"),
    [
        ("external_id,x", ("u1", ""), "attributes"),
        ("email,phone,x", ("a@b.c", "", ""), "attributes"),
        ("external_id,_merge_objects,x", ("u1", "true", ""), "attributes"),
        ("external_id,x", ("", ""), "attributes"),
        ("external_id,email,x", ("", "", ""), "attributes"),
        ("external_id,email,name", ("u1", "a@b.c", ""), "event"),
        ("external_id,email,payload", ("u1", "a@b.c", ""), "attributes"),
        ("external_id,payload", ("u1", "null"), "attributes"),
    ],
)
def test_a_row_with_nothing_but_an_identity_is_unfit(
    header: str, row: tuple[str, ...], kind: str
) -> None:
    """There is nothing to send."""
    (found,) = objects(header, row, kind=kind)
    assert isinstance(found, Unfit)
    assert found.code == "nothing-to-send"


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("external_id,email,x", ("u1", "a@b.c", "")),
        ("external_id,email,x", ("u1", "null", "")),
        ("email,phone,x", ("a@b.c", "+49", "")),
        ("external_id,x", ("u1", "null")),
    ],
)
def test_an_address_beside_an_identity_is_something(header: str, row: tuple[str, ...]) -> None:
    """It is a field of the profile then."""
    (found,) = objects(header, row)
    assert isinstance(found, dict)


def test_a_row_of_a_wrong_length_is_unfit_and_alone() -> None:
    """How many cells it has is said, and none of them."""
    rows = [("u1", "1"), ("u2",), ("u3", "3", "x"), ("u4", "4")]
    first, short, long, last = objects("external_id,x", *rows)
    assert (first["x"], last["x"]) == (1, 4)
    assert short.reason == "the row has 1 cells, and the header 2"
    assert long.reason == "the row has 3 cells, and the header 2"
    assert (short.code, short.summary) == (long.code, long.summary)
    encoder = Encoder(plan_of("external_id,x"))
    assert encoder.encode([]) == []
    assert [type(x) for x in encoder.encode([("u1",)])] == [Unfit]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("number", "1.5", "seven"),
        ("integer", "7", "7.5"),
        ("boolean", "Y", "maybe"),
        ("json", '"x"', "{x"),
        ("date", "2024-01-31", "31.01.2024"),
    ],
)
def test_a_cell_that_is_not_of_its_type_makes_the_row_unfit(kind: str, good: str, bad: str) -> None:
    """Or is left out, as told; the reason names the column, and never the value."""
    rows = [("u1", good, "a"), ("u2", bad, "a"), ("u3", "", "a"), ("u4", "null", "a")]
    first, second, third, fourth = objects("external_id,x.y,z", *rows, types={"x.y": kind})
    assert "x" in first
    assert "x" not in third
    assert fourth["x"] == {"y": None}
    assert (second.code, second.field) == ("wrong-type", "x.y")
    assert "'x.y' must be" in second.reason
    assert bad not in second.reason

    said = {"columns": {"x.y": {"type": kind, "on_bad_field": "drop"}}}
    encoder = Encoder(plan_of("external_id,x.y,z", mapping=said))
    lines: list[Any] = encoder.encode(rows)
    assert loads(lines[1])["attributes"] == {"external_id": "u2", "z": "a"}
    assert encoder.dropped == {"x.y": 1}


def test_the_first_thing_that_is_wrong_is_said() -> None:
    """A row is unfit once."""
    types = {"a": "number", "b": "number"}
    (found,) = objects("external_id,a,b", ("u1", "x", "y"), types=types)
    assert found.field == "a"


def test_half_a_character_is_no_text() -> None:
    """JSON cannot hold it, so its row is unfit, and the others are not."""
    good, bad, typed = objects("external_id,x", ("u1", "a"), ("u2", "\ud800"), ("\udfff", "b"))
    assert good == {"external_id": "u1", "x": "a"}
    assert (bad.code, bad.field) == ("not-unicode", "x")
    assert (typed.code, typed.field) == ("not-unicode", "external_id")


def test_times_get_the_zone_that_is_told() -> None:
    """Of date columns alone; what names a zone keeps it."""
    rows = [
        ("u1", "2024-07-31 10:00:00", "2024-07-31 10:00:00 o'clock"),
        ("u2", "2024-07-31T10:00:00Z", "x"),
        ("u3", "2024-07-31", "x"),
    ]
    found = objects("external_id,at,note", *rows, timezone="Europe/Paris")
    assert [record["at"] for record in found] == [
        "2024-07-31T10:00:00+02:00",
        "2024-07-31T10:00:00Z",
        "2024-07-31",
    ]
    assert found[0]["note"] == "2024-07-31 10:00:00 o'clock"
    rows = [("u1", "2024-07-31", "v"), ("u1", "nonsense", "v")]
    day, bad = objects("external_id,time,name", *rows, kind="event", timezone="Europe/Paris")
    assert day["time"] == "2024-07-31T00:00:00+02:00"
    assert bad.code == "wrong-type"


def test_constants_and_templates_are_in_every_record() -> None:
    """A template is left out where one of its columns has no cell."""
    mapping = {
        "constants": {"properties": {"source": "shop", "n": [1]}},
        "templates": {"name": "{what} ({where})"},
    }
    rows = [("u1", "view", "web"), ("u2", "view", ""), ("u3", "null", "web")]
    found = objects("external_id,what,where", *rows, kind="event", mapping=mapping)
    constant = {"source": "shop", "n": [1]}
    assert found == [
        {"external_id": "u1", "properties": constant, "name": "view (web)"},
        {"external_id": "u2", "properties": constant},
        {"external_id": "u3", "properties": constant},
    ]


def test_a_cdi_row_is_one_for_the_reader_of_lines() -> None:
    """Who it belongs to and the payload as it came; what is in it is the reader's matter."""
    header = "external_id,alias_name,alias_label,payload,updated_at"
    rows = [("u1", "", "", '{"a": 1}', "x"), ("", "n", "l", '{"a":\n 2}', "x")]
    encoder = Encoder(plan_of(header, *rows, kind="event"))
    lines: list[Any] = encoder.encode(rows)
    assert lines[0] == b'{"external_id":"u1","payload":"{\\"a\\": 1}"}'
    found = [item for line in lines for item in records_of(line, "event")]
    assert [item.record for item in found if isinstance(item, Found)] == [
        {"external_id": "u1", "a": 1},
        {"user_alias": {"alias_name": "n", "alias_label": "l"}, "a": 2},
    ]
