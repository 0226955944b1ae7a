"""Laws of a glance at rows: what it passes over would have told a survey nothing."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ingest.columns import Options, Plan, Survey
from ingest.columns.cells import GUESSES
from ingest.columns.glance import ANY, DELIMITERS, Glance, Glances, Known
from ingest.columns.grid import Grid, cut
from ingest.columns.times import count_zoneless
from ingest.errors import IngestError

NULLS = st.sampled_from(["null", "", "0", "-", "true", "a", "x,y", "2024-01-31"])
NUMBERS = st.one_of(
    st.integers(-(10**17), 10**17).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["0", "-0", "-0.0", "00", "1.", ".5", "+1", "1e5", "123456789012345", "٣"]),
)
DATES = st.one_of(
    st.datetimes().map(str),
    st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
    st.dates().map(str),
    st.sampled_from(["2024-02-29", "2023-02-29", "0000-01-01", "2024-01-31T24:00Z", "01/31/2024"]),
)
CELLS = st.one_of(
    NUMBERS,
    DATES,
    st.sampled_from(["", "null", "true", "FALSE", "no", "[1]", "a", "b", "a b", "x" * 300, "."]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
)
POOLS = st.one_of(
    st.just(NUMBERS),
    st.just(DATES),
    st.just(CELLS),
    st.lists(CELLS, min_size=1, max_size=4).map(st.sampled_from),
    st.just(st.sampled_from(["true", "false"])),
    st.just(st.sampled_from(["TRUE", "false", "true", "False"])),
    st.just(st.datetimes().map(lambda at: f"{at.isoformat()}+02:00")),
    st.just(st.integers(0, 10**8).map(str)),
)


def same(*survey: Survey) -> bool:
    """Tell whether some surveys decide the same."""
    plans = [repr(one.plan()) for one in survey]
    return len(set(plans)) == 1 and len({one.rows for one in survey}) == 1


def grid(*rows: str, delimiter: str = ",") -> Grid:
    """Return rows that were cut."""
    found = cut("".join(f"{row}\n" for row in rows), delimiter)
    assert found is not None
    return found


@settings(deadline=None)
@mock.patch("ingest.columns.glance.MOST_PICKED", 1)  # it is of no use, and has to be right
@given(st.data())
def test_a_survey_that_glances_decides_as_one_that_looks(data: st.DataObject) -> None:
    """Types, reasons, samples and counts are the same, whatever comes after whatever."""
    names = ["score", "at", "_dropped", "zip", "time", "a", "b"][: data.draw(st.integers(1, 7))]
    pools = [data.draw(POOLS) for _ in names]
    kind = data.draw(st.sampled_from(["attributes", "event"]))
    told = data.draw(
        st.dictionaries(
            st.sampled_from([name for name in names if name in ("score", "at")] or ["zip"]),
            st.sampled_from(["string", "number", "date"]),
            max_size=1,
        )
    )
    options = Options(kind=kind, types=told, null_text=data.draw(NULLS))
    header = ["external_id", *names] if kind == "attributes" else ["external_id", "name", *names]
    if kind == "event":
        pools.insert(0, st.just("bought"))
    try:
        glancing, looking = Survey(header, options), Survey(header, options)
    except IngestError:
        return
    cells, pieces = st.tuples(st.sampled_from("abcd"), *pools), list[tuple[str, list[list[str]]]]()
    for _ in range(data.draw(st.integers(1, 4))):
        delimiter = data.draw(st.sampled_from(",,,,,;\t.§"))
        rows = data.draw(st.lists(cells, min_size=1, max_size=5))
        pieces.append((delimiter, [[c.replace(delimiter, " ") for c in row] for row in rows]))
    for at in data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=12)):
        delimiter, table = pieces[at % len(pieces)]
        found = cut("".join(delimiter.join(row) + "\n" for row in table), delimiter)
        if found is None or list(found) != table:
            looking.add(table)
            glancing.add(table)
            continue
        picked = glancing._glances.look(found)
        event("looked at" if picked is None else f"{len(picked)} columns picked")
        glancing.add(found)
        looking.add(table)
        assert same(glancing, looking)


@given(
    st.sampled_from(["string", "number", "boolean", "date", "moment"]),
    CELLS,
    st.sampled_from([*DELIMITERS, "\n"]),
    NULLS,
)
def test_a_cell_that_is_as_known_says_nothing_new(
    kind: str, cell: str, end: str, null: str
) -> None:
    """It is of the type, it has a value, and it is no time without a zone."""
    glance = Glance([ANY, Known(kind)] if end == "\n" else [Known(kind), ANY], ",", null)
    cell = cell.replace(",", "").replace("\r", "").replace("\n", "").replace("\0", "")
    cell = cell.replace('"', "")
    rows = grid(f"x,{cell}" if end == "\n" else f"{cell},x")
    alike = glance.look(rows) is not None
    event(f"{kind} alike" if alike else kind)
    assert alike != bool(glance.unlike(rows))
    if alike:
        assert cell not in ("", null)
        test = {"moment": "date"}.get(kind, kind)
        assert kind == "string" or GUESSES[test]([cell])
        if kind in ("date", "moment"):
            assert not count_zoneless([cell], moments=kind == "moment")


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        ("string", ["a", "é", "1", " "]),
        ("number", ["0", "-1.5", "123456789012345", "0.0000"]),
        ("boolean", ["true", "FALSE", "True"]),
        ("date", ["2024-02-29", "2024-01-31T10:00:00Z", "2024-01-31 10:00+02:00"]),
        ("moment", ["2024-01-31T10:00:00.123Z", "2024-01-31t10:00z"]),
    ],
)
def test_ordinary_cells_are_as_known(kind: str, cells: list[str]) -> None:
    """So that nothing has to be looked at in an ordinary table."""
    for delimiter in DELIMITERS:
        glance = Glance([ANY, Known(kind)], delimiter, "null")
        assert glance.look(grid(*(f"{delimiter}{c}" for c in cells), delimiter=delimiter)) == {}


def test_cells_are_picked_out() -> None:
    """Those of columns of which nothing is known; of one and of several."""
    known = [Known("string"), None, Known("number"), Known("json")]
    rows = grid("a,b,1,c", "d,,2,null")
    picked = Glance(known, ",", "").look(rows)
    assert picked is not None
    assert {at: list(cells) for at, cells in picked.items()} == {1: ["b", ""], 3: ["c", "null"]}
    assert Glance([*known[:3], ANY], ",", "").look(rows) == {1: ["b", ""]}
    assert Glance([*known[:2], Known("boolean"), ANY], ",", "").look(rows) is None


def test_a_row_is_not_mistaken_for_two() -> None:
    """A sample out of another table may hold what parts cells and rows in this one."""
    rows = grid("a,b", "c,d")
    assert Known("string", ("a,b",)).pattern(",", "") is None
    glance = Glance([Known("string", ("a", "b\nc")), Known("string", ("b\nc", "d"))], ",", "")
    assert glance.look(rows) is None
    assert glance.look(grid("a,d")) == {}
    assert glance.unlike(rows) == {0, 1}


def test_long_samples_are_looked_at() -> None:
    """A pattern of them would be as long."""
    assert Known("string", ("x" * 150, "y" * 51)).pattern(",", "") is None
    assert Known("string", ("x" * 150, "y" * 50)).pattern(",", "") is not None


def looks(table: list[Grid], known: list[Known | None]) -> str:
    """Return for each grid whether a glance was enough (+), always with the same known."""
    glances, found = Glances("null"), ""
    for rows in table:
        if glances.look(rows) is None:
            found += "-"
            glances.learn(rows, known)
        else:
            found += "+"
    return found


def test_a_glance_that_is_in_vain_is_made_up_for() -> None:
    """A column with odd cells is picked out from then on, and each new glance waits longer."""
    good, gap, both = grid("a,1,x,x,x,x"), grid("a,,x,x,x,x"), grid("a,,,x,x,x")
    known: list[Known | None] = [Known("string"), Known("number"), *[Known("string")] * 4]
    assert looks([good] * 5, known) == "-++++"
    assert looks([good, good, gap, good, good, gap, gap], known) == "-+--+++"
    # Two of six are no longer worth picking out.
    assert looks([good, gap, good, good, both] + [good] * 9, known) == "---+-" + "-" * 9


def test_a_delimiter_of_its_own_has_a_glance_of_its_own() -> None:
    """A table cut by another one is looked at; by one that may be in a cell of a type, always."""
    comma, tab, dot = (grid(f"a{mark}1", delimiter=mark) for mark in (",", "\t", "."))
    known: list[Known | None] = [Known("string"), Known("number")]
    assert looks([comma, comma, tab, tab, tab, comma], known) == "-+--+-"
    assert looks([dot] * 3, known) == "---"


def test_times_and_types_that_are_told_are_still_counted() -> None:
    """Cells are counted where they are passed over, as where they are looked at."""
    options: dict[str, Any] = {"kind": "attributes", "types": {"at": "date"}}
    glancing, looking = (Survey(["external_id", "at"], Options(**options)) for _ in range(2))
    for day in range(10, 28):
        rows = [[f"u{day}{n}", f"2024-01-{day}{clock}"] for n, clock in enumerate(["", "T10:00"])]
        glancing.add(grid(*map(",".join, rows)))
        looking.add(rows)
    plan: Plan = glancing.plan()
    assert same(glancing, looking)
    assert (plan.zoneless, plan.columns[0].cells) == (18, 36)
