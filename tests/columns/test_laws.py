"""Laws of tables, over generated ones: nothing is lost, and nothing depends on how it is cut."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from ingest.codec import dumps, loads
from ingest.columns import Encoder, Options, Plan, Survey, Unfit
from ingest.columns.cells import SWITCHES
from ingest.errors import IngestError
from ingest.records import KINDS
from tests.examples import examples

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
ANY = st.characters(exclude_categories=())
NUMBERS = st.one_of(
    st.integers(-(10**25), 10**25).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["0.5", "01234", "+49", "1e5", "1e400", "1e-400", "-0", "1,2", " 1", "1\n2"]),
)
BOOLEANS = st.sampled_from(["true", "False", "TRUE", "yes", "no"])
COMPOSITES = st.one_of(
    st.lists(st.integers(0, 9), max_size=3).map(lambda v: dumps(v).decode()),
    st.dictionaries(TEXTS, st.booleans(), max_size=2).map(lambda v: dumps(v).decode()),
    st.sampled_from(["[1", "2]", "[],[]", '{"a":\n1}', "[true,null]"]),
)
DATES = st.one_of(
    st.datetimes().map(lambda at: at.isoformat(" ")),
    st.dates().map(str),
    st.sampled_from(["01/31/2024", "2024-02-30", "2024-02-29T10:00:00Z", "20240131T101500"]),
)
SORTS = (TEXTS, NUMBERS, BOOLEANS, COMPOSITES, DATES)
NAMES = st.sampled_from(
    ["age", "zip", "address.city", "address.no", "score", "_reason", "x.y.z", "Vip", "no te", "é"]
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """Draw a table with an id, and columns most of whose cells are of one sort each."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    columns = [
        st.one_of(draw(st.sampled_from(SORTS)), st.sampled_from(["", "null"])) for _ in names
    ]
    ids = st.text("abc1", min_size=1, max_size=3)
    row = st.tuples(ids, *columns).map(list)
    rows = draw(st.lists(row, max_size=12))
    for i in draw(st.lists(st.integers(0, 11), max_size=2)):
        if i < len(rows):
            rows[i] = draw(st.sampled_from([rows[i][:-1], [*rows[i], "more"]]))
    return ["external_id", *names], rows


def cut(rows: list[list[str]], sizes: list[int]) -> list[list[list[str]]]:
    """Cut rows into slices of the given sizes, in turn."""
    slices: list[list[list[str]]] = []
    at = 0
    while at < len(rows):
        size = sizes[len(slices) % len(sizes)]
        slices.append(rows[at : at + size])
        at += size
    return slices


def surveyed(header: list[str], rows: list[list[str]], **options: Any) -> Plan:
    """Return the plan of a table that was seen at once."""
    survey = Survey(header, Options(**{"kind": "attributes", **options}))
    survey.add(rows)
    return survey.plan()


def meant(kind: str, cell: str) -> object:
    """Return the value that a cell of a type has, by another way than the encoder's."""
    if cell == "null":
        return None
    if kind in ("number", "integer", "json"):
        return loads(cell)
    return SWITCHES[cell.lower()] if kind == "boolean" else cell


def at(record: dict[str, Any], path: tuple[str, ...]) -> object:
    """Return the value at a path, or KeyError itself where there is none."""
    value: Any = record
    for step in path:
        if not isinstance(value, dict) or step not in value:
            return KeyError
        value = value[step]
    return value


@settings(deadline=None)
@given(tables(), st.booleans())
def test_every_cell_is_in_its_object_and_nothing_else_is(
    table: tuple[list[str], list[list[str]]], guess: bool
) -> None:
    """The values of an object are those of the cells of its row, by the types decided."""
    header, rows = table
    plan = surveyed(header, rows, guess=guess)
    lines = Encoder(plan).encode(rows)
    assert len(lines) == len(rows)
    for row, line in zip(rows, lines, strict=True):
        sent = [(c, x) for c, x in zip(plan.columns, row, strict=False) if c.path and x]
        if isinstance(line, Unfit):
            assert line.code == "row-length" if len(row) != len(header) else len(sent) == 1
            continue
        assert len(row) == len(header)
        assert b"\n" not in line
        assert b"\r" not in line
        record = loads(line)["attributes"]
        assert next(iter(record)) == "external_id"
        count = 0
        for column, cell in zip(plan.columns, row, strict=True):
            if not column.path or not cell:
                assert not column.path or at(record, column.path) is KeyError
                continue
            count += 1
            assert at(record, column.path) == meant(column.type, cell)
        assert leaves(record, {c.path for c in plan.columns if c.path}) == count


def leaves(value: Any, stops: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> int:
    """Count the values of an object, of which those at `stops` are not looked into."""
    if path in stops or not isinstance(value, dict):
        return 1
    return sum(leaves(item, stops, (*path, key)) for key, item in value.items())


@settings(deadline=None)
@given(tables(), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_slices_change_nothing(table: tuple[list[str], list[list[str]]], sizes: list[int]) -> None:
    """However the rows are cut, the plan and the lines are the same."""
    header, rows = table
    whole = surveyed(header, rows)
    survey = Survey(header, Options(kind="attributes"))
    for piece in cut(rows, sizes):
        survey.add(piece)
    assert survey.plan() == whole
    assert survey.rows == len(rows)
    encoder = Encoder(whole)
    assert [x for piece in cut(rows, sizes) for x in encoder.encode(piece)] == encoder.encode(rows)


@settings(deadline=None)
@given(tables(), st.sampled_from(KINDS), st.sampled_from(["Asia/Kolkata", None]))
def test_a_saved_plan_encodes_the_same(
    table: tuple[list[str], list[list[str]]], kind: str, timezone: str | None
) -> None:
    """A plan that was saved and read again gives the same bytes, and the same saved form."""
    header, rows = table
    plan = surveyed(header, rows, kind=kind, timezone=timezone)
    saved = loads(dumps(plan.to_dict()))
    again = Plan.from_dict(saved)
    assert again.to_dict() == saved
    assert again.header == plan.header
    assert Encoder(again).encode(rows) == Encoder(plan).encode(rows)
    assert surveyed(header, rows, kind=None, mapping=saved).to_dict() == saved


@settings(deadline=None)
@given(
    st.lists(st.text(ANY, max_size=6), max_size=4),
    st.lists(st.lists(st.text(ANY, max_size=4), max_size=6), max_size=4),
    st.sampled_from(KINDS),
    st.sampled_from(["string", "number", "integer", "boolean", "json", "date"]),
)
def test_nothing_breaks_it(
    names: list[str], rows: list[list[str]], kind: str, given_type: str
) -> None:
    """Whatever a header and cells hold: a sentence that refuses them, or a result for each row."""
    header = ["email", *names]
    try:
        types = {name.strip(): given_type for name in names[:2]}
        plan = surveyed(header, rows, kind=kind, types=types, timezone="Europe/Paris")
    except IngestError as error:
        event(type(error).__name__)
        return
    lines = Encoder(plan).encode(rows)
    assert len(lines) == len(rows)
    assert all(isinstance(line, Unfit) or loads(line) for line in lines)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["12", "x", "", "null", "true"]), min_size=1))
def test_a_cell_that_is_not_of_its_type_costs_its_row_only(cells: list[str]) -> None:
    """Rows whose cell is not of the forced type are unfit, and all the others are not."""
    plan = surveyed(["email", "n"], [], types={"n": "number"})
    lines = Encoder(plan).encode([["a@b.c", cell] for cell in cells])
    for cell, line in zip(cells, lines, strict=True):
        if cell in ("12", "null"):
            assert isinstance(line, bytes)
            assert loads(line)["attributes"]["n"] == loads(cell)
        else:
            assert isinstance(line, Unfit)
            assert line.code == ("wrong-type" if cell else "nothing-to-send")


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_numbers_are_carried_exactly(cells: list[str]) -> None:
    """A column is a number only if what a decoder reads is what the cells say, digit by digit."""
    plan = surveyed(["email", "n"], [["a@b.c", cell] for cell in cells])
    if plan.columns[1].type == "number":
        for cell in cells:
            value = loads(cell)
            assert Decimal(repr(value)) == Decimal(cell)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(ANY, max_size=5),
        st.binary(max_size=3),
        st.decimals(),
        st.datetimes(),
        st.dates(),
        st.times(),
        st.uuids(),
        st.complex_numbers(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=examples(300), deadline=None)
@given(
    st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=5),
    st.sampled_from([None, "string", "number", "integer", "boolean", "json", "date"]),
    st.sampled_from([None, "America/New_York"]),
)
def test_values_of_any_type_are_written_or_unfit(
    rows: list[list[Any]], given_type: str | None, timezone: str | None
) -> None:
    """Each row of values has one result, and one that is a line is JSON."""
    types = {} if given_type is None else {"b": given_type}
    plan = surveyed(["external_id", "a", "b"], [], types=types, typed=True, timezone=timezone)
    encoder = Encoder(plan)
    lines = encoder.encode_values(rows)
    assert len(lines) == len(rows)
    assert all(isinstance(line, Unfit) or loads(line) for line in lines)
    assert [line for row in rows for line in encoder.encode_values([row])] == lines


PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(ANY, max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(ANY, max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
COLUMN = st.fixed_dictionaries(
    {},
    optional={
        "to": st.one_of(PLAIN, st.sampled_from(["a.b", "name", "email", "payload", "user_alias"])),
        "type": st.one_of(PLAIN, st.sampled_from(["string", "json", "date", "value"])),
        "drop": st.one_of(PLAIN, st.booleans()),
        "on_bad_field": st.one_of(PLAIN, st.just("drop")),
    },
)
MAPPINGS = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.one_of(st.sampled_from(KINDS), PLAIN),
        "timezone": st.one_of(st.just("Europe/Paris"), PLAIN),
        "null_text": st.one_of(st.text(ANY, max_size=2), PLAIN),
        "typed": st.booleans(),
        "columns": st.one_of(
            PLAIN, st.dictionaries(st.sampled_from(["a", "b", "email"]), st.one_of(PLAIN, COLUMN))
        ),
        "constants": PLAIN,
        "templates": st.one_of(
            PLAIN, st.dictionaries(st.text(ANY, max_size=3), st.sampled_from(["{a}", "{", "x"]))
        ),
    },
)


@settings(max_examples=examples(300), deadline=None)
@given(MAPPINGS, st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=3))
def test_any_mapping_is_refused_or_followed(
    mapping: dict[str, Any], rows: list[tuple[str, str, str]]
) -> None:
    """Whatever a mapping holds: a sentence that refuses it, or a plan that can be kept and used."""
    try:
        survey = Survey(["a", "b", "email"], Options(kind="event", mapping=mapping))
    except IngestError as error:
        event(type(error).__name__)
        return
    survey.add(rows)
    plan = survey.plan()
    again = Plan.from_dict(loads(dumps(plan.to_dict())))
    assert again.to_dict() == plan.to_dict()
    assert Encoder(again).encode(rows) == Encoder(plan).encode(rows)


@given(tables(), st.lists(st.integers(0, 12), max_size=3), st.booleans(), st.data())
def test_a_survey_in_parts_decides_as_one_in_one_go(
    table: tuple[list[str], list[list[str]]], at: list[int], first: bool, data: st.DataObject
) -> None:
    """Types, reasons, samples and counts are the same, whichever parts are joined first."""
    header, rows = table
    names = st.sampled_from(header[1:])
    told = data.draw(st.dictionaries(names, st.sampled_from(["date", "number"]), max_size=1))
    options = Options(kind="attributes", types=told, null_text=data.draw(st.sampled_from("n1x")))
    whole = Survey(header, options)
    whole.add(rows)
    bounds = [0, *sorted(at), len(rows)]
    parts = [Survey(header, options) for _ in bounds[1:]]
    for part, start, stop in zip(parts, bounds, bounds[1:], strict=False):
        part.add(rows[start:stop])
    while len(parts) > 1:
        left = 0 if first else len(parts) - 2
        parts[left].join(pickle.loads(pickle.dumps(parts.pop(left + 1).findings())))
    assert parts[0].plan() == whole.plan()
    assert parts[0].findings() == whole.findings()
    types = {column.type for column in whole.plan().columns}
    event(f"{len(at) + 1} parts, {len(types)} types")
