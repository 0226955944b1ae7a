"""Laws of the ways past the lines: what columns tell is what a look at every object tells.

A table that was cut without a reader has the reader's rows; what an encoder vouches for is what it
writes as lines; and the intake comes to the same end of each row, whichever way it comes.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ingest.columns import Encoder, Options, Plan, Survey, Unfit
from ingest.columns.grid import Grid, cut
from ingest.columns.judging import Judge
from ingest.intake import SLICE_LINES, Intake, IntakeRules
from ingest.proofs import DOUBTFUL, Vouched
from ingest.taken import Taken
from tests.examples import examples

NAMES = st.sampled_from(
    ["email", "phone", "first_name", "country", "language", "gender", "dob", "plan", "visits",
     "vip", "since", "date_of_first_session", "email_subscribe", "_update_existing_only", "é",
     "image_url", "home_city", "push_token_import", "n" * 300, "a.b", "user_alias", "braze_id"]
)  # fmt: skip
CELLS = st.one_of(
    st.sampled_from(
        ["", "null", "a@b.c", "nobody", "@", "DE", "de", "xx", "F", "Q", "1980-12-21", "3001-01-01",
         "2999-01-01", "3000-12-31", "12/31/3999", "Mon Jan 01 10:00:00 UTC 3500", "true", "no",
         "12", "1.5", "-0", "1e999", "x" * 255, "x" * 256, "é" * 130, "€" * 500, "subscribed",
         "back\\slash", "quo'te", "tab\there", "2024-02-29T10:00:00Z", "2024-02-30", "[1]", " "]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters='",\r\n\0'), max_size=4),
)  # fmt: skip
IDS = st.one_of(
    st.text("abc1", min_size=1, max_size=3),
    st.sampled_from(["", "null", "i" * 247, "i" * 987, "i" * 988, "€" * 330]),
)
TYPES = st.sampled_from(["string", "number", "integer", "boolean", "date", "json", None])
RULES = st.builds(
    IntakeRules,
    on_bad_field=st.sampled_from(["reject", "drop", "truncate"]),
    strict=st.booleans(),
    validate=st.sampled_from([True, True, True, False]),
    update_existing_only=st.sampled_from([False, False, False, True]),
    largest=st.sampled_from([4_000_000, 4_000_000, 60, 2_000]),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], str]:
    """Draw a header with an id, and the text of rows, most of whose columns are of few cells."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    columns = [
        draw(
            st.one_of(st.just(CELLS), st.lists(CELLS, min_size=1, max_size=3).map(st.sampled_from))
        )
        for _ in names
    ]
    ids = draw(st.sampled_from([IDS, st.just("u"), st.text("abc", min_size=1, max_size=2)]))
    rows = draw(st.lists(st.tuples(ids, *columns), min_size=1, max_size=20))
    return ["external_id", *names], "".join(",".join(row) + "\n" for row in rows)


def planned(header: list[str], rows: Any, types: list[str | None], **options: Any) -> Plan | None:
    """Return the plan of a table, None for one that no table can have."""
    told = {name: kind for name, kind in zip(header[1:], types, strict=False) if kind}
    told = {name: kind for name, kind in told.items() if name not in ("email", "phone", "braze_id")}
    try:
        survey = Survey(header, Options(kind="attributes", types=told, **options))
    except Exception as error:
        event(type(error).__name__)
        return None
    survey.add(rows)
    return survey.plan()


def read(text: str) -> list[list[str]]:
    """Return the rows of a text by the standard library's reader, without blank lines."""
    return [row for row in csv.reader(io.StringIO(text, newline="\n"), strict=True) if row]


def merged(everything: list[Taken]) -> dict[str, Any]:
    """Return what became of lines that were judged in slices, as one."""
    records, read = [], dict[str, int]()
    for taken in everything:
        for chunk in taken.chunks:
            fragments = map(bytes, chunk.fragments)
            records += list(
                zip(chunk.slots, fragments, chunk.keys, chunk.positions, chunk.lines, strict=True)
            )
        for kind, count in taken.read.items():
            read[kind] = read.get(kind, 0) + count
    return {
        "records": records,
        "read": read,
        "refusals": [refusal for taken in everything for refusal in taken.refusals],
        "warnings": [warning for taken in everything for warning in taken.warnings],
        "warned": sum(taken.warned for taken in everything),
    }


@given(
    st.one_of(
        tables().map(lambda table: table[1]),
        st.text('ab,;\n\r"\t\0é', max_size=30),
        st.lists(
            st.sampled_from(["a,b\n", "a,b,c\n", ",\n", "a\n", "\n", "a,b", '"a",b\n']), max_size=5
        ).map("".join),
    ),
    st.sampled_from([",", ";", "\t"]),
)
def test_what_is_cut_is_what_a_reader_reads(text: str, delimiter: str) -> None:
    """The rows are the same, and what is said of all cells at once is true of each of them."""
    grid = cut(text, delimiter)
    if grid is None:
        return
    rows = list(csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True))
    assert list(grid) == rows == [grid[at] for at in range(len(grid))]
    assert grid[1:] == rows[1:]
    assert [list(column) for column in grid.columns] == list(map(list, zip(*rows, strict=True)))
    cells = [cell for row in rows for cell in row]
    assert grid.gapless == ("" not in cells)
    if grid.plain:
        assert not any(c < " " or c in '"\\' for cell in cells for c in cell)
    for wanted in ("", "a", "null"):
        assert not grid.surely_lacks(wanted) or wanted not in cells
    assert grid.surely_lacks("", "a") == (grid.surely_lacks("") and grid.surely_lacks("a"))


def test_an_ordinary_table_is_cut() -> None:
    """Also one whose last line has no end; but none of one column, and none with a ragged row."""
    assert list(cut("a,b\nc,d", ",") or ()) == [["a", "b"], ["c", "d"]]
    assert cut("a\nb\n", ",") is None
    assert cut("a,b\nc,d,e\nf\n", ",") is None


@given(tables(), st.lists(TYPES, max_size=4), st.sampled_from(["null", "", "x"]))
def test_a_survey_of_columns_decides_as_one_of_rows(
    table: tuple[list[str], str], types: list[str | None], null: str
) -> None:
    """Types, reasons, samples and counts are the same."""
    header, text = table
    grid = cut(text, ",")
    said = {"null_text": null}
    assert planned(header, read(text), types, **said) == planned(
        header, read(text) if grid is None else grid, types, **said
    )


@settings(deadline=None, max_examples=examples(400))
@given(
    tables(), st.lists(TYPES, max_size=4), RULES, st.booleans(), st.sampled_from(["null", "", "x"])
)
def test_what_is_vouched_for_ends_as_its_lines_do(
    table: tuple[list[str], str],
    types: list[str | None],
    rules: IntakeRules,
    as_rows: bool,
    null: str,
) -> None:
    """Records, refusals, warnings and counts are those of the lines, byte for byte."""
    header, text = table
    rows = read(text)
    plan = planned(header, rows, types, null_text=null)
    if plan is None:
        return
    grid = cut(text, ",")
    told = Encoder(plan).vouch(rows if as_rows or grid is None else grid)
    event("vouched" if told else "not vouched")
    if told is None:
        return
    vouched, unfit = told
    expected = Encoder(plan).encode(rows)
    lines = [line for line in expected if not isinstance(line, Unfit)]
    assert unfit == {at: line for at, line in enumerate(expected) if isinstance(line, Unfit)}
    assert vouched.lines() == lines
    event(f"doubtful {bool(vouched.doubtful)}")
    numbers = range(2, 2 + len(lines))
    slow = merged(list(Intake(rules).take(3, lines, numbers)))
    assert merged(list(Intake(rules).take_vouched(3, vouched, numbers))) == slow
    half = len(lines) // 2
    intake = Intake(rules)
    parts = list(intake.take_vouched(3, vouched.cut(0, half), numbers[:half]))
    parts += list(intake.take_vouched(3, vouched.cut(half, len(lines)), numbers[half:]))
    assert merged(parts) == slow


@settings(deadline=None)
@given(
    st.lists(st.tuples(IDS, CELLS, CELLS, CELLS), min_size=1, max_size=5),
    st.integers(0, 300),
    st.booleans(),
)
def test_a_bound_of_the_cells_casts_no_doubt_and_takes_none_away(
    rows: list[tuple[str, ...]], more: int, blanks: bool
) -> None:
    """However loose it is."""
    judge = Judge(plan_of("external_id,email,plan,first_name"))
    columns = list(zip(*rows, strict=True))
    blanks = blanks or any(cell in ("", "null") for row in rows for cell in row)
    longest = max(len(cell) for row in rows for cell in row) + more
    expected = judge.doubtful(columns, blanks=blanks)
    assert judge.doubtful(columns, blanks=blanks, longest=longest) == expected


@pytest.mark.parametrize("size", [255, 256])
def test_the_plainest_rows_have_no_longer_cells_than_they_may(size: int) -> None:
    """The bound that objects give is that of their longest cell, where the others are short."""
    for name in ("external_id", "plan", "home_city"):
        cells = {"external_id": "u", "plan": "p", "home_city": "c", name: "x" * size}
        grid = cut(",".join(cells.values()) + "\nv,p,c\n", ",")
        assert grid is not None
        told = Encoder(plan_of(",".join(cells))).vouch(grid)
        assert told is not None
        assert told[0].doubtful == ([0] if size == 256 and name != "external_id" else [])


def vouched(count: int, doubtful: list[int]) -> Vouched:
    """Return plain objects."""
    fragments = [b'{"external_id":"u%d","plan":"pro"}' % n for n in range(count)]
    return Vouched("attributes", fragments, [f"u{n}" for n in range(count)], doubtful)


def test_a_doubtful_row_is_judged_in_a_slice() -> None:
    """However many rows there are: the loop must not be held. Without doubt they are one slice."""
    numbers = range(2, 2_002)
    taken = list(Intake(IntakeRules()).take_vouched(0, vouched(2_000, [1_500]), numbers))
    assert max(len(chunk.keys) for some in taken for chunk in some.chunks) == SLICE_LINES
    [whole] = Intake(IntakeRules()).take_vouched(0, vouched(2_000, []), numbers)
    assert whole.read == {"attributes": 2_000}
    assert list(Intake(IntakeRules()).take_vouched(0, vouched(0, []), ())) == []


def test_a_row_too_large_for_a_request_is_not_vouched_for() -> None:
    """The encoder does not know what a request takes: the rules have the last word on it."""
    largest = len(vouched(1, []).fragments[0])
    rows = Vouched(
        "attributes",
        [*vouched(2, []).fragments, b'{"external_id":"long one"}' * 2],
        ["u0", "u1", "u2"],
    )
    assert [row for row, slot in enumerate(rows.proof(largest).slots) if slot == DOUBTFUL] == [2]
    assert DOUBTFUL not in rows.proof(2 * largest).slots


def plan_of(names: str, **options: Any) -> Plan:
    """Return the plan of a header by what is told alone."""
    survey = Survey(names.split(","), Options(**{"kind": "attributes", **options}))
    return survey.plan()


@pytest.mark.parametrize(
    "plan",
    [
        plan_of("external_id,name,time", kind="event"),
        plan_of("email,plan"),
        plan_of("external_id,a.b"),
        plan_of("external_id,tags", types={"tags": "json"}),
        plan_of("external_id,at", types={"at": "date"}, timezone="Europe/Paris"),
        plan_of("external_id,home_city", types={"home_city": "number"}),
        plan_of("external_id,payload"),
        plan_of("external_id,plan", mapping={"constants": {"tier": "x"}}),
        plan_of("external_id,plan", mapping={"templates": {"name": "{plan}!"}}),
        plan_of("external_id,plan", typed=True),
        plan_of("external_id,braze_id,plan"),
    ],
)
def test_other_plans_are_not_vouched_for(plan: Plan) -> None:
    """Their rows go as lines, and are proven as any."""
    assert Encoder(plan).vouch([["u", "1", "2"][: len(plan.columns)]]) is None


@pytest.mark.parametrize("rows", [[], [["u"]], [["u", "1", "2"]]])
def test_rows_of_another_width_are_not_vouched_for(rows: list[list[str]]) -> None:
    """They are for the encoder to refuse."""
    assert Encoder(plan_of("external_id,plan")).vouch(rows) is None


def test_a_grid_of_another_width_is_refused_row_by_row() -> None:
    """As rows are: each of them says how many cells it has."""
    grid = cut("u,1,2\nv,3,4\n", ",")
    assert isinstance(grid, Grid)
    encoder = Encoder(plan_of("external_id,plan"))
    assert encoder.vouch(grid) is None
    assert [type(line) for line in encoder.encode(grid)] == [Unfit, Unfit]
    survey = Survey(["external_id", "plan"], Options(kind="attributes"))
    survey.add(grid)
    assert (survey.rows, survey.plan().columns[1].cells) == (2, 0)


@pytest.mark.parametrize(
    ("names", "unfit"),
    [
        ("external_id,_note", [0, 1]),
        ("external_id,_update_existing_only", [0, 1]),
        ("external_id,email", []),
        ("external_id,plan", []),
    ],
)
def test_rows_that_say_nothing_are_unfit_however_plain(names: str, unfit: list[int]) -> None:
    """A switch alone, or a note of which nothing is sent, is nothing to send; an address is."""
    grid = cut("u1,true\nu2,true\n", ",")
    assert grid is not None
    told = Encoder(plan_of(names)).vouch(grid)
    assert told is not None
    assert (list(told[1]), len(told[0])) == (unfit, 2 - len(unfit))


def test_the_plainest_table_is_vouched_for_without_doubt() -> None:
    """All types of cells that need no second look."""
    header = "external_id,email,country,plan,visits,vip,since,_update_existing_only"
    types = {"visits": "number", "vip": "boolean", "since": "date"}
    grid = cut("u1,a@b.c,DE,pro,1,true,2024-01-31,no\nu2,d@e.f,FR,new,2.5,No,2024-02-01,1\n", ",")
    assert grid is not None
    told = Encoder(plan_of(header, types=types)).vouch(grid)
    assert told is not None
    assert (told[0].doubtful, told[1], told[0].keys) == ([], {}, ["u1", "u2"])
    assert told[0].fragments[1] == (
        b'{"external_id":"u2","email":"d@e.f","_update_existing_only":true,"country":"FR",'
        b'"plan":"new","visits":2.5,"vip":false,"since":"2024-02-01"}'
    )


def test_a_cell_that_is_not_of_its_type_is_refused_however_plain() -> None:
    """A saved map says of a column what a cell of another table is not."""
    grid = cut("u1,1\nu2,many\nu3,3\n", ",")
    assert grid is not None
    told = Encoder(plan_of("external_id,visits", types={"visits": "number"})).vouch(grid)
    assert told is not None
    assert ([why.code for why in told[1].values()], list(told[1])) == (["wrong-type"], [1])
    assert told[0].keys == ["u1", "u3"]


def test_a_long_doubtful_row_is_judged_as_a_line() -> None:
    """One of which nobody knows beforehand that a decoder gets to its end."""
    text = f"u1,{'x' * 3_000}\n"
    told = Encoder(plan_of("external_id,plan")).vouch(read(text))
    assert told is not None
    assert told[0].doubtful == [0]
    fast = merged(list(Intake(IntakeRules()).take_vouched(0, told[0], range(2, 3))))
    assert fast == merged(list(Intake(IntakeRules()).take(0, told[0].lines(), 2)))
    assert fast["warned"] == 1
