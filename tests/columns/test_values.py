"""Tables that have types of their own."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from ingest.codec import loads
from ingest.columns import Encoder, Unfit
from tests.columns.tables import plan_of

NAN = float("nan")


def sent(value: Any, kind: str | None = None, name: str = "x", **said: Any) -> Any:
    """Return what a value becomes, an `Unfit`, or KeyError itself if it is left out."""
    types = {} if kind is None else {name: kind}
    plan = plan_of(f"external_id,{name},rest", typed=True, types=types, **said)
    (line,) = Encoder(plan).encode_values([("u1", value, 0)])
    return line if isinstance(line, Unfit) else loads(line)["attributes"].get(name, KeyError)


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        ("a", "a"),
        ("null", "null"),
        ("", ""),
        (7, 7),
        (0.5, 0.5),
        (True, True),
        (None, KeyError),
        (NAN, KeyError),
        (Decimal("NaN"), KeyError),
        (Decimal("sNaN"), KeyError),
        (Decimal("1E+2"), 100),
        (Decimal("0.50"), 0.5),
        (datetime(2024, 1, 31, 10), "2024-01-31T10:00:00"),
        (datetime(2024, 1, 31, 10, tzinfo=UTC), "2024-01-31T10:00:00+00:00"),
        (date(2024, 1, 31), "2024-01-31"),
        (time(10, 30), "10:30:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"abc", "abc"),
        ([1, None, Decimal("2.5"), NAN], [1, None, 2.5, None]),
        ({"a": (date(2024, 1, 31),), "b": None, "c": NAN}, {"a": ["2024-01-31"]}),
        (Decimal("1E+300"), 1e300),
    ],
)
def test_a_value_is_what_it_is(value: Any, becomes: Any) -> None:
    """Numbers stay numbers, times are ISO 8601, what is missing is left out; no text unsets."""
    assert sent(value) == becomes


@pytest.mark.parametrize(
    "value",
    [
        *(float("inf"), Decimal("-Infinity"), b"\xff", 1j, 2**70, object(), Decimal("1E+400")),
        *([float("inf")], {1: 2}, {"a": [b"\xff"]}),
    ],
)
def test_what_json_has_no_form_for_is_unfit(value: Any) -> None:
    """With a sentence that names the column."""
    found = sent(value)
    assert (found.code, found.field) == ("wrong-type", "x")


def test_half_a_character_is_no_text() -> None:
    """Whatever its column is told to be."""
    assert sent("\ud800").code == "not-unicode"
    assert sent("\ud800", "string").code == "not-unicode"
    assert sent(["\ud800"]).code == "wrong-type"


def test_what_is_nested_too_deeply_is_unfit() -> None:
    """It costs its own row only."""
    value: Any = []
    for _ in range(100_000):
        value = [value]
    assert sent(value).code == "wrong-type"


@pytest.mark.parametrize(
    ("value", "kind", "becomes"),
    [
        (7, "string", "7"),
        (7.0, "string", "7"),
        (7.5, "string", "7.5"),
        (False, "string", "false"),
        (Decimal("1E+2"), "string", "100"),
        (date(2024, 1, 31), "string", "2024-01-31"),
        (b"abc", "string", "abc"),
        ("", "string", KeyError),
        ("1.5", "number", 1.5),
        (2, "number", 2),
        (Decimal("1.50"), "number", 1.5),
        (3.0, "integer", 3),
        (True, "boolean", True),
        (1, "boolean", True),
        ("[1]", "json", [1]),
        ([1], "json", [1]),
        ("2024-01-31", "date", "2024-01-31"),
        (datetime(2024, 1, 31, 10), "date", "2024-01-31T10:00:00"),
        ("", "number", KeyError),
        (None, "number", KeyError),
    ],
)
def test_a_column_can_be_told_to_be_something_else(value: Any, kind: str, becomes: Any) -> None:
    """A scalar is read as its text would be."""
    assert sent(value, kind) == becomes


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *(("x", "number"), (1.5, "integer"), ([1], "string"), (b"\xff", "string"), ("{", "json")),
        *((2, "boolean"), (time(10), "date"), ([1j], "json"), (Decimal("Infinity"), "string")),
    ],
)
def test_what_is_not_of_the_type_is_unfit(value: Any, kind: str) -> None:
    """As a cell of text is."""
    assert sent(value, kind).code == "wrong-type"


def test_times_get_the_zone_that_is_told() -> None:
    """Those that have none, also deep inside."""
    at = datetime(2024, 7, 31, 10)
    assert sent(at, timezone="Europe/Paris") == "2024-07-31T10:00:00+02:00"
    assert sent([at], timezone="Europe/Paris") == ["2024-07-31T10:00:00+02:00"]
    assert sent(at, "date", timezone="Europe/Paris") == "2024-07-31T10:00:00+02:00"


def test_identifiers_are_texts() -> None:
    """Also where a table has them as numbers, or as numbers with gaps."""
    encoder = Encoder(plan_of("external_id,x", typed=True))
    lines: list[Any] = encoder.encode_values([(7, 1), (8.0, 1), ("u", 1)])
    assert [loads(line)["attributes"]["external_id"] for line in lines] == ["7", "8", "u"]


def test_infinity_costs_its_row_only() -> None:
    """A column that has one is written one by one."""
    encoder = Encoder(plan_of("external_id,x", typed=True))
    good, bad = encoder.encode_values([("u1", 0.5), ("u2", float("inf"))])
    assert good == b'{"attributes":{"external_id":"u1","x":0.5}}'
    assert isinstance(bad, Unfit)


def test_a_payload_may_be_an_object() -> None:
    """It becomes its text, which is what a row of cloud data ingestion has."""
    encoder = Encoder(plan_of("external_id,payload", typed=True))
    first, second, bad = encoder.encode_values(
        [("u1", {"a": date(2024, 1, 31)}), ("u2", '{"a":1}'), ("u3", {"a": 1j})]
    )
    assert first == b'{"external_id":"u1","payload":"{\\"a\\":\\"2024-01-31\\"}"}'
    assert second == b'{"external_id":"u2","payload":"{\\"a\\":1}"}'
    assert isinstance(bad, Unfit)


def test_a_template_is_made_of_any_scalars() -> None:
    """What is no scalar, or is missing, leaves it out."""
    mapping = {"templates": {"name": "{what} {n}"}}
    plan = plan_of("external_id,what,n,x", kind="event", typed=True, mapping=mapping)
    lines: list[Any] = Encoder(plan).encode_values(
        [("u1", "view", 2, 1), ("u2", "view", None, 1), ("u3", [1], 2, 1)]
    )
    assert [loads(line)["event"].get("name") for line in lines] == ["view 2", None, None]
