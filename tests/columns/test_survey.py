"""The first pass over a table: the types of its columns."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.columns import Options, Survey
from ingest.errors import ConfigError
from tests.columns.tables import plan_of


def decided(*cells: str, name: str = "x", **said: Any) -> tuple[str, str]:
    """Return the type of a column with these cells, and why."""
    plan = plan_of(f"email,{name}", *(("a@b.c", cell) for cell in cells), **said)
    return plan.columns[1].type, plan.columns[1].why


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (("0.5", "", "12", "null"), "number"),
        (("01234",), "string"),
        (("+4915112345",), "string"),
        (("true", "FALSE", ""), "boolean"),
        (("no", "yes"), "string"),
        (("true", "no"), "string"),
        (("[true,null]", "[]"), "json"),
        (('{"a": 1}', "[1"), "string"),
        (("2024-01-31", "2024-01-31T10:00:00Z"), "date"),
        (("2024-01-31", "soon"), "string"),
        (("", "null"), "string"),
    ],
)
def test_a_type_is_that_of_every_cell(cells: tuple[str, ...], kind: str) -> None:
    """One cell that is not of it makes a text of the column; empty ones and null say nothing."""
    assert decided(*cells)[0] == kind


def test_a_type_has_a_reason() -> None:
    """The row that broke a type is named, for it is often a slip."""
    assert decided("1", "2")[1] == "every cell is a number"
    assert decided("1", "", "2", "n/a", "3")[1] == (
        "the cell of row 4 is not a number, as all before it"
    )
    assert decided("x", "1")[1] == "text"
    assert decided("", "null")[1] == "no cell has a value"
    assert decided("1", guess=False) == ("string", "text, unless told")
    assert decided("1", types={"x": "string"}) == ("string", "as told")
    assert decided("1", name="zip") == ("string", "ids, phones and postal codes stay text")
    assert decided("1", name="first_name") == ("string", "a documented field")


def test_another_text_may_unset_or_none() -> None:
    """It is no cell that decides a type."""
    assert decided("1", "\\N", null_text="\\N")[0] == "number"
    assert decided("1", "null", null_text="\\N")[0] == "string"
    assert decided("1", "null", null_text="")[0] == "string"
    assert decided("1", "-", mapping={"null_text": "-"})[0] == "number"
    assert decided("1", "-", mapping={"null_text": "-"}, null_text="")[0] == "string"


def test_cells_and_samples_are_kept_as_few() -> None:
    """Three different cells, for the terminal; how many there are is counted."""
    cells = ["", "b", "b", "null", "c", "d", "e"]
    column = plan_of("email,x", *(("a@b.c", cell) for cell in cells)).columns[1]
    assert column.samples == ("b", "c", "d")
    assert column.cells == 5


def test_times_without_a_zone_are_counted() -> None:
    """Those of attributes that have a clock, and any of the time of an event."""
    rows = [("a@b.c", cell) for cell in ("2024-01-31", "2024-01-31 10:00:00", "")]
    assert plan_of("email,at", *rows).zoneless == 1
    assert plan_of("email,time", *rows, kind="event").zoneless == 2
    assert plan_of("email,at", *rows, ("a@b.c", "x")).zoneless == 0
    assert plan_of("email,at", *rows, ("a@b.c", "x"), types={"at": "date"}).zoneless == 1


def test_rows_of_a_wrong_length_decide_nothing() -> None:
    """They are counted, and the numbers of the others stay right."""
    survey = Survey(["email", "x"], Options(kind="attributes"))
    survey.add([["a@b.c", "1"], ["a@b.c"], ["a@b.c", "2", "z"], ["a@b.c", "n"]])
    survey.add([["a@b.c"]])
    survey.add([])
    assert survey.rows == 5
    assert "row 4 is not a number" in survey.plan().columns[1].why


def test_a_kind_is_needed() -> None:
    """From the option or from the mapping, the option first."""
    with pytest.raises(ConfigError, match="--kind attributes, event or purchase"):
        plan_of("email,a", kind=None)
    with pytest.raises(ConfigError, match="--kind must be one of"):
        plan_of("email,a", kind="users")
    assert plan_of("email,a", kind=None, mapping={"kind": "event"}).kind == "event"
    assert plan_of("email,a", kind="purchases", mapping={"kind": "event"}).kind == "purchase"


def test_options_go_before_the_mapping() -> None:
    """Types, the zone; and a type for what is dropped is a contradiction."""
    said = {"timezone": "Asia/Tokyo", "columns": {"a": {"to": "b", "type": "number"}}}
    plan = plan_of("email,a", mapping=said, types={"a": "text"}, timezone="Europe/Paris")
    assert (plan.columns[1].path, plan.columns[1].type) == (("b",), "string")
    assert plan.timezone == "Europe/Paris"
    with pytest.raises(ConfigError, match="'a' a type: the mapping drops it"):
        plan_of("email,a", mapping={"columns": {"a": {"drop": True}}}, types={"a": "text"})
    with pytest.raises(ConfigError, match="names a column 'z'"):
        plan_of("email,a", types={"z": "text"})
    with pytest.raises(ConfigError, match="'Mars'"):
        plan_of("email,a", timezone="Mars")
    with pytest.raises(ConfigError, match="'a' in --types must be one of"):
        plan_of("email,a", types={"a": "money"})


def test_typed_tables_are_not_guessed() -> None:
    """Columns are what they hold, but for identifiers and documented fields."""
    plan = plan_of("email,zip,price,time", kind="purchase", typed=True)
    assert [c.type for c in plan.columns] == ["string", "value", "number", "date"]
    saved = plan.to_dict()
    assert saved["typed"] is True
    again = plan_of("email,zip,price,time", ("a", "1", "2", "x"), mapping=saved, kind=None)
    assert again.columns[1].type == "string"


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({}, True),
        ({"types": {"a": "string", "b": "number"}}, False),
        ({"types": {"a": "string", "b": "number"}, "samples": True}, True),
        ({"types": {"a": "date", "b": "number"}}, True),
        ({"types": {"a": "string"}, "guess": False}, False),
        ({"mapping": {"columns": {"a": {"type": "string"}, "b": {"drop": True}}}}, False),
        ({"mapping": {"v": 1, "columns": {"a": {"type": "date"}, "b": {"drop": True}}}}, False),
    ],
)
def test_rows_are_needed_while_something_is_open(options: dict[str, Any], needed: bool) -> None:
    """A type that nobody told, and times to be counted; those of a saved plan were counted."""
    told = Options(**{"kind": "attributes", **options})
    assert Survey(["external_id", "a", "b"], told).needed == needed


@pytest.mark.parametrize(
    ("former", "latter", "kind", "why", "zoneless"),
    [
        (["1"], ["2", ""], "number", "every cell is a number", 0),
        (["", "null"], ["true"], "boolean", "every cell is true or false", 0),
        (["1"], ["", "null"], "number", "every cell is a number", 0),
        (["1", "2"], ["", "x"], "string", "the cell of row 4 is not a number, as all before it", 0),
        (["1"], ["3", "x"], "string", "the cell of row 3 is not a number, as all before it", 0),
        (["1"], ["x", "3"], "string", "the cell of row 2 is not a number, as all before it", 0),
        (["1"], ["true"], "string", "the cell of row 2 is not a number, as all before it", 0),
        (["1"], ["true", "2"], "string", "the cell of row 2 is not a number, as all before it", 0),
        (["x"], ["1", "2"], "string", "text", 0),
        (["1", "x"], ["1"], "string", "the cell of row 2 is not a number, as all before it", 0),
        ([""], ["1", "x"], "string", "the cell of row 3 is not a number, as all before it", 0),
        (["2024-01-31 10:00"], ["2024-01-31 10:00"], "date", "every cell is a date or a time", 2),
        (["2024-01-31 10:00"], ["x"], "string",
         "the cell of row 2 is not a date or a time, as all before it", 0),
        ([""], ["2024-01-31 10:00"], "date", "every cell is a date or a time", 1),
    ],
)  # fmt: skip
def test_two_halves_make_a_whole(
    former: list[str], latter: list[str], kind: str, why: str, zoneless: int
) -> None:
    """What another survey found in the rows that follow is as if it had been seen here."""
    here, there = (Survey(["external_id", "x"], Options(kind="attributes")) for _ in range(2))
    here.add([["u", cell] for cell in former])
    there.add([["u", cell] for cell in latter])
    here.join(there.findings())
    column = here.plan().columns[1]
    assert (column.type, column.why, column.zoneless) == (kind, why, zoneless)
    assert column.cells == sum(cell not in ("", "null") for cell in former + latter)
    assert here.rows == len(former + latter)


def test_halves_of_a_column_that_is_told() -> None:
    """Its times are counted all the same."""
    told = Options(kind="attributes", types={"x": "date"})
    here, there = (Survey(["external_id", "x"], told) for _ in range(2))
    here.add([["u", "2024-01-31 10:00"]])
    there.add([["u", "soon"], ["u", "2024-01-31 11:00"]])
    here.join(there.findings())
    column = here.plan().columns[1]
    assert (column.type, column.zoneless, column.cells) == ("date", 2, 3)
    assert column.samples == ("2024-01-31 10:00", "soon", "2024-01-31 11:00")
