"""Tables from the command line: what is shown, what is refused, and the rows that come back."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ingest.cli.columns import NOT_DELIVERED, decide_columns, write_rejected_rows
from ingest.cli.main import cli
from ingest.codec import dumps, loads
from ingest.columns import Options
from ingest.errors import LocalFailure
from ingest.sources.mixed import MixedSource
from ingest.sources.planning import TableColumns

AGES: Final = "external_id,age\nu1,3\nu2,x\nu3\n,4\n"
"""One good row, a cell of another type, a short row, and a row of nobody: lines 2 to 5."""

INTEGERS: Final = ("--types", "age=integer")
RUN: Final = "20261121T101500Z-5c1e"


class Table:
    """A folder to import in: what was sent is in `bodies`, what was kept in `state`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self._bodies = folder / "bodies"

    def write(self, name: str, text: str | bytes) -> str:
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def send(
        self, *arguments: str, kind: str | None = "attributes", stdin: bytes = b"", **env: str
    ) -> Result:
        self._bodies.unlink(missing_ok=True)
        ours = ["--to", f"file:{self._bodies}", "--state", str(self.state), "--progress", "none"]
        ours += ["--kind", kind] if kind else []
        verb, *rest = arguments
        return CliRunner().invoke(
            cli, [verb, *rest, *ours], input=stdin, env={"COLUMNS": "200", **env}
        )

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The records that were sent, in order."""
        bodies = self._bodies.read_bytes().splitlines() if self._bodies.exists() else []
        return [record for body in bodies for array in loads(body).values() for record in array]

    @property
    def rejects(self) -> list[Path]:
        return sorted(self.state.glob("rejects-*.csv"))


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A folder of its own."""
    return Table(tmp_path)


def rows_of(path: Path, delimiter: str = ",") -> list[list[str]]:
    """Return the rows of a CSV file, its header first."""
    return list(csv.reader(io.StringIO(path.read_text(), newline=""), delimiter=delimiter))


# --- what a table may be --------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_delimiters_marks_and_newlines_in_cells(table: Table, delimiter: str, mark: str) -> None:
    """A byte order mark is no part of a name, and a quoted cell may hold the end of a line."""
    rows = ("external_id,note,n", 'u1,"a\nb",1', "u2,x,2")
    text = mark + "\r\n".join(row.replace(",", delimiter) for row in rows)
    said = table.send("import", table.write("in.csv", text))
    assert said.exit_code == 0, said.output
    assert table.sent == [
        {"external_id": "u1", "note": "a\nb", "n": 1},
        {"external_id": "u2", "note": "x", "n": 2},
    ]


def test_what_columns_become_is_shown(table: Table) -> None:
    """Before anything is sent there is a table of the columns, with the reason of each type."""
    text = gzip.compress(b"external_id\tzip\tage\tjoined\nu1\t01234\t7\t2025-01-02\n")
    types = ("--types", "age=string,joined=date")
    said = table.send("import", table.write("in.tsv.gz", text), *types)
    assert "Columns, as attributes" in said.stderr
    assert "says whose record it is" in said.stderr
    assert said.stderr.count("as told") == 2
    assert table.sent == [
        {"external_id": "u1", "zip": "01234", "age": "7", "joined": "2025-01-02"},
    ]


def test_a_stream_is_text_unless_told(table: Table) -> None:
    """What can be read once only has no first pass: cells are text, but for what was said."""
    stdin = b"external_id,a,b\nu1,1,2\n"
    said = table.send("import", "-", "--types", "b=integer", stdin=stdin)
    assert said.exit_code == 0, said.output
    assert table.sent == [{"external_id": "u1", "a": "1", "b": 2}]
    assert "Columns, as" not in said.stderr


def test_the_bad_rows_of_a_stream_are_dead_letters_alone(table: Table) -> None:
    """A stream cannot be read again, so its rows do not come back as CSV."""
    said = table.send("import", "-", *INTEGERS, stdin=AGES.encode())
    assert said.exit_code == 1
    assert not table.rejects
    assert "3 dead letters" in said.stderr


def test_parquet_has_types_of_its_own(table: Table) -> None:
    """A Parquet file is a table, and its bad rows come back as CSV."""
    pa = pytest.importorskip("pyarrow", reason="extra files")
    pq = pytest.importorskip("pyarrow.parquet", reason="extra files")
    path = table.folder / "in.parquet"
    pq.write_table(pa.table({"external_id": ["u1", None], "tags": [["a"], ["b", "c"]]}), path)
    said = table.send("import", str(path))
    assert said.exit_code == 1
    assert table.sent == [{"external_id": "u1", "tags": ["a"]}]
    [rejects] = table.rejects
    assert [row[2:] for row in rows_of(rejects)] == [["external_id", "tags"], ["", '["b","c"]']]


# --- a mapping ------------------------------------------------------------------------------------


def test_a_mapping_says_what_rows_are(table: Table) -> None:
    """Kind, names, zone, templates and constants come from the file."""
    told = table.write(
        "map.toml",
        'kind = "events"\ntimezone = "Europe/Paris"\n[columns.user]\nto = "external_id"\n'
        '[columns.at]\nto = "time"\n[templates]\nname = "shop {what}"\n'
        '[constants]\n"properties.source" = "import"\n',
    )
    rows = table.write("in.csv", "user,at,what,n\nu1,2026-11-21 10:00:00,visit,1\n")
    said = table.send("import", rows, "--map", told, kind=None)
    assert said.exit_code == 0, said.output
    assert table.sent == [
        {
            "external_id": "u1",
            "time": "2026-11-21T10:00:00+01:00",
            "name": "shop visit",
            "properties": {"n": 1, "source": "import"},
        }
    ]
    assert "Without a zone: 1 time, taken to be of Europe/Paris\n" in said.stderr


def test_times_without_a_zone_are_counted(table: Table) -> None:
    """Without --timezone they are sent as they are, and that is said."""
    text = "external_id,name,time\nu1,e,2026-11-21 10:00:00\nu1,e,2026-11-21 11:00:00\n"
    said = table.send("import", table.write("in.csv", text), kind="event")
    assert "Without a zone: 2 times, sent as written; --timezone names the zone\n" in said.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"kind = ", "is not TOML: "),
        (b"\xff", "is not TOML: "),
        (b'knd = "event"', "the mapping has a key 'knd'"),
        (b'[columns.nope]\nto = "plan"', "names a column 'nope' that the table has not"),
    ],
)
def test_a_mapping_that_cannot_be(table: Table, text: bytes | None, sentence: str) -> None:
    """What is wrong with a mapping is said before anything is sent."""
    path = table.folder / "map.toml"
    if text is not None:
        path.write_bytes(text)
    said = table.send("import", table.write("in.csv", AGES), "--map", str(path))
    assert said.exit_code == 2
    assert sentence in said.stderr
    assert not table.sent


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("external_id,a,a\nu,1,2\n", (), "the header names 'a' 2 times"),
        ("Customer,a\nu,1\n", (), "no column says whose record a row is"),
        ("ID,PAYLOAD\n1,{}\n", (), "no column says whose record a row is"),  # a catalog
        (AGES, ("--types", "age=foo"), "the type of 'age' in --types must be one of string"),
        (AGES, ("--types", "nope=string"), "--types names a column 'nope' that the table has not"),
        (AGES, ("--types", "age"), "--types is a list of COLUMN=TYPE"),
        (AGES, ("--timezone", "Mars/North"), "time zone 'Mars/North' is not known"),
        (AGES, ("--delimiter", "ab"), "The delimiter 'ab' cannot be"),
        (AGES, ("--encoding", "zork"), "The encoding 'zork' is not known"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    table: Table, text: str, options: tuple[str, ...], sentence: str
) -> None:
    """Headers and options that make no sense end with 2 and send nothing."""
    said = table.send("import", table.write("in.csv", text), *options)
    assert said.exit_code == 2
    assert sentence in said.stderr
    assert not table.sent


def test_a_table_needs_a_kind(table: Table) -> None:
    """A table says nothing of its kind: the error names the option."""
    said = table.send("import", table.write("in.csv", AGES), kind=None)
    assert said.exit_code == 2
    assert "name it with --kind attributes, event or purchase" in said.stderr


def test_a_name_does_nothing_to_a_terminal(table: Table) -> None:
    """Control characters in a header are shown, not obeyed; nor is markup."""
    text = "external_id,\x1b[31mred,[bold]b[/bold]\nu1,1,2\n"
    said = table.send("import", table.write("in.csv", text))
    assert said.exit_code == 0, said.output
    assert "\x1b" not in said.stderr
    assert "[bold]b[/bold]" in said.stderr


def test_nothing_is_shown_of_lines_of_json(tmp_path: Path) -> None:
    """NDJSON has no columns to decide."""
    path = tmp_path / "in.ndjson"
    path.write_bytes(b'{"attributes": {"external_id": "u1"}}\n')
    console = Console(file=io.StringIO(), record=True)
    decide_columns(MixedSource([path], TableColumns(Options())), console, progress=True)
    assert console.export_text() == ""


# --- the rows that come back ----------------------------------------------------------------------


def test_bad_rows_are_mended_and_imported_again(table: Table) -> None:
    """Bad rows are back in their own columns; what is put before them is ignored afterwards."""
    said = table.send("import", table.write("in.csv", AGES), *INTEGERS)
    assert said.exit_code == 1
    [rejects] = table.rejects
    assert "3 bad rows in " in said.stderr
    command = f"ingest import {rejects} --map {rejects.with_suffix('.toml')}\n"
    assert f"mend them, then  {command}" in said.stderr
    rows = rows_of(rejects)
    assert rows[0] == ["_line", "_reason", "external_id", "age"]
    assert [(row[0], row[2:]) for row in rows[1:]] == [
        ("3", ["u2", "x"]),
        ("4", ["u3"]),
        ("5", ["", "4"]),
    ]
    mended = [rows[0], [*rows[1][:3], "7"], [*rows[2], "8"], [*rows[3][:2], "u4", "9"]]
    text = "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in mended)
    said = table.send("import", table.write("mended.csv", text), *INTEGERS)
    assert said.exit_code == 0, said.output
    assert [(record["external_id"], record["age"]) for record in table.sent] == [
        ("u2", 7),
        ("u3", 8),
        ("u4", 9),
    ]
    assert table.sent[0].keys() == {"external_id", "age"}


def test_several_inputs_with_lines_of_json_between(table: Table) -> None:
    """Rows of one header share a file that says where they are from; NDJSON has dead letters."""
    a = table.write("a.csv", AGES)
    lines = table.write("b.ndjson", '{"attributes": {"plan": "pro"}}\n')
    c = table.write("c.csv", "external_id,age\nv1,y\n")
    d = table.write("d.tsv", "external_id\tage\tcity\n\t1\tBonn\n")
    said = table.send("import", a, lines, c, d, *INTEGERS)
    assert said.exit_code == 1
    first, second = sorted(table.rejects, key=lambda path: len(path.name))
    assert [row[:2] for row in rows_of(first)] == [
        ["_source", "_line"],
        [a, "3"],
        [a, "4"],
        [a, "5"],
        [c, "2"],
    ]
    assert second.name == f"{first.stem}-2.csv"
    assert [row[2:] for row in rows_of(second, "\t")][1:] == [["", "1", "Bonn"]]
    assert "1 bad row in " in said.stderr
    assert f"mend it, then  ingest import {second} --map {second.with_suffix('.toml')}\n" in (
        said.stderr
    )


def test_dead_letters_of_others_in_the_same_file(table: Table) -> None:
    """Rows come of the letters of this run alone, whatever else the file holds."""
    letters = table.folder / "letters"
    letters.write_bytes(b'no JSON\n\n[]\n{"run": 1}\n{"run": "\xff"}\n')
    options = ("--dead-letters", str(letters), *INTEGERS)
    path = table.write("in.csv", AGES)
    assert table.send("import", path, *options).exit_code == 1
    [first] = table.rejects
    first.unlink()
    table.write("in.csv", "external_id,age\nu9,x\n")
    assert table.send("import", path, *options).exit_code == 1
    [second] = table.rejects  # in a folder that nothing else made
    assert [row[2:] for row in rows_of(second)[1:]] == [["u9", "x"]]
    assert second.stat().st_mode & 0o077 == 0


def test_dead_letters_of_a_table_are_replayed(table: Table) -> None:
    """`ingest replay` needs nothing of the table: a letter holds the record as it was made."""
    table.send("import", table.write("in.csv", "external_id,age,currency\n,4,x\n"))
    [letters] = table.state.glob("dead-letters-*")
    letters.write_bytes(letters.read_bytes().replace(b'"record":{', b'"record":{"email":"a@b.c",'))
    said = table.send("replay", str(letters), kind=None)
    assert said.exit_code == 0, said.output
    assert table.sent == [{"email": "a@b.c", "age": 4, "currency": "x"}]


def test_rows_that_cannot_be_written_do_not_cost_the_report(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is over and accounted for: a sentence says that the rows are not there."""

    def fails(*_: object) -> Iterator[None]:
        raise LocalFailure("the disk is full")

    monkeypatch.setattr(MixedSource, "write_rejects", fails)
    report = table.folder / "report.json"
    options = ("--report", str(report), *INTEGERS)
    said = table.send("import", table.write("in.csv", AGES), *options)
    assert said.exit_code == 1
    assert "The bad rows could not be written as CSV: the disk is full" in said.stderr
    assert loads(report.read_bytes())["records"]["invalid"] == 3


def of_table(folder: Path) -> MixedSource:
    """Open a table of ten users, on lines 2 to 11."""
    path = folder / "in.csv"
    path.write_text("external_id,age\n" + "".join(f"u{line},{line}\n" for line in range(2, 12)))
    return MixedSource([path], TableColumns(Options(kind="attributes")))


def letter(source: MixedSource, **told: Any) -> bytes:
    """Return a dead letter of the run, with what a test says differently."""
    base = {"run": RUN, "column": "rejected", "reason": "why", "line": 2, "name": source.name(0)}
    found = base | told
    return dumps(found | {"source": {"name": found.pop("name"), "line": found.pop("line")}}) + b"\n"


@given(
    told=st.lists(
        st.tuples(
            st.sampled_from((RUN, "another")),
            st.sampled_from((*NOT_DELIVERED, "delivered", "held")),
            st.integers(2, 11),
        )
    )
)
def test_rows_are_those_of_the_letters(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[str, str, int]]
) -> None:
    """Each row that did not arrive is there once, in order; held and delivered ones never are."""
    folder = tmp_path_factory.mktemp("rows")
    source, letters = of_table(folder), folder / "letters"
    letters.write_bytes(b"".join(letter(source, run=r, column=c, line=n) for r, c, n in told))
    written = write_rejected_rows(source, letters, RUN, folder / "rejects.csv")
    expected = sorted({n for run, column, n in told if run == RUN and column in NOT_DELIVERED})
    assert [each.rows for each in written] == ([len(expected)] if expected else [])
    rows = rows_of(folder / "rejects.csv")[1:] if written else []
    assert rows == [[str(n), "why", f"u{n}", str(n)] for n in expected]


def test_letters_of_no_input_and_no_letters(tmp_path: Path) -> None:
    """Without a letter of an input there is no file, and no folder for it."""
    source, letters = of_table(tmp_path), tmp_path / "letters"
    path = tmp_path / "state" / "rejects.csv"
    assert write_rejected_rows(source, letters, RUN, path) == []
    letters.write_bytes(letter(source, name="elsewhere.csv"))
    assert write_rejected_rows(source, letters, RUN, path) == []
    assert not path.parent.exists()


def test_folders_and_letters_that_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where the folder should be, or letters that cannot be read, are a sentence."""
    source, letters = of_table(tmp_path), tmp_path / "letters"
    letters.write_bytes(letter(source))
    with pytest.raises(LocalFailure, match="letters cannot be made: "):
        write_rejected_rows(source, letters, RUN, letters / "rejects.csv")

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(LocalFailure, match="letters cannot be read: Permission denied"):
        write_rejected_rows(source, letters, RUN, tmp_path / "rejects.csv")


def test_cells_that_a_map_drops_are_told(tmp_path: Path) -> None:
    """Nothing is left out in silence: how many cells of which column."""
    table = tmp_path / "t.csv"
    table.write_text("external_id,visits,plan\nu1,3,pro\nu2,many,free\nu3,some,free\n")
    mapping = tmp_path / "map.toml"
    mapping.write_text('[columns.visits]\ntype = "number"\non_bad_field = "drop"\n')
    arguments = ["import", str(table), "--kind", "attributes", "--map", str(mapping)]
    arguments += ["--to", f"file:{tmp_path / 'out'}", "--state", str(tmp_path / "state")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "2 bad cells of the column 'visits' were left out" in done.output
