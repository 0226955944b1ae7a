"""Rows that come back: of the types that they had, and with a word on those that are older."""

from __future__ import annotations

import csv
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ingest.cli.main import cli
from ingest.codec import dumps, loads


class Folder:
    """A folder to import in: what was sent is in `bodies`, what was kept in `state`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / "state"
        self.bodies = path / "bodies"

    def run(self, *arguments: str | Path, stdin: bytes = b"") -> Result:
        """Run a verb that sends."""
        self.bodies.unlink(missing_ok=True)
        given = [*map(str, arguments), "--to", f"file:{self.bodies}", "--progress", "none"]
        return CliRunner().invoke(
            cli, [*given, "--state", str(self.state)], input=stdin, env={"COLUMNS": "200"}
        )

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        (self.path / name).write_text(text)
        return self.path / name

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The records that were sent, in order."""
        bodies = self.bodies.read_bytes().splitlines() if self.bodies.exists() else []
        return [record for body in bodies for array in loads(body).values() for record in array]

    def rejects(self) -> Path:
        """The one file of bad rows."""
        [path] = self.state.glob("rejects-*.csv")
        return path

    def letters(self) -> Path:
        """The latest dead letters."""
        return max(self.state.glob("dead-letters-*"), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder of its own."""
    return Folder(tmp_path)


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by the names of its columns."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


AGE = ("--types", "age=integer")
CODES = "external_id,code,age\nu1,A7,1\nu2,10115,x\nu3,10117,3\n"
"""Codes are text in the whole, and look like numbers in the one row that is bad."""


def test_few_rows_have_the_types_of_the_many(folder: Folder) -> None:
    """What is mended is imported by the map beside it, as the sentence at the end says."""
    table = folder.write("in.csv", CODES)
    said = folder.run("import", table, "--kind", "attributes", *AGE)
    assert said.exit_code == 1
    rejects = folder.rejects()
    mapping = rejects.with_suffix(".toml")
    assert stat.S_IMODE(mapping.stat().st_mode) == 0o600
    assert f"then  ingest import {rejects} --map {mapping}\n" in said.stderr
    rejects.write_text(rejects.read_text().replace(",x", ",2"))
    said = folder.run("import", rejects, "--map", mapping)
    assert said.exit_code == 0, said.output
    assert folder.sent == [{"external_id": "u2", "code": "10115", "age": 2}]


def test_rows_that_are_bad_twice_come_back_once_more(folder: Folder) -> None:
    """The notes of a file of bad rows are no columns of the next one's map."""
    inputs = folder.write("a.csv", CODES), folder.write("b.csv", CODES)
    folder.run("import", *inputs, "--kind", "attributes", *AGE)
    first = folder.rejects()
    moved = first.rename(folder.path / "mended.csv")
    assert "_source" in moved.read_text()
    said = folder.run("import", moved, "--map", first.with_suffix(".toml"))
    assert said.exit_code == 1
    second = folder.rejects()
    columns = tomllib.loads(second.with_suffix(".toml").read_text())["columns"]
    assert list(columns) == ["external_id", "code", "age"]
    second.write_text(second.read_text().replace(",x", ",2"))
    assert folder.run("import", second, "--map", second.with_suffix(".toml")).exit_code == 0
    assert len(folder.sent) == 2


def test_typed_tables_come_back_with_their_types(folder: Folder) -> None:
    """A text of digits in Parquet is a text in the CSV that comes back."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra files is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra files is not installed")
    columns = {
        "external_id": ["", "u2"],
        "code": ["10115", "x"],
        "n": [1, 2],
        "tags": [["a"], []],
        "fine": [True, False],
        "raw": [b"x", b"y"],
    }
    table = folder.path / "in.parquet"
    parquet.write_table(pyarrow.table(columns), table)
    assert folder.run("import", table, "--kind", "attributes").exit_code == 1
    rejects = folder.rejects()
    mapping = tomllib.loads(rejects.with_suffix(".toml").read_text())
    types = {name: told["type"] for name, told in mapping["columns"].items()}
    assert types == {
        "external_id": "string",
        "code": "string",
        "n": "integer",
        "tags": "json",
        "fine": "boolean",
        "raw": "value",
    }
    rejects.write_text(rejects.read_text().replace(",,10115", ",u1,10115"))
    assert folder.run("import", rejects, "--map", rejects.with_suffix(".toml")).exit_code == 0
    [record] = folder.sent
    assert record == {
        "external_id": "u1",
        "code": "10115",
        "n": 1,
        "tags": ["a"],
        "fine": True,
        "raw": "x",
    }


def test_a_map_that_cannot_be_written_costs_itself_only(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are there, and the command names their kind."""
    table = folder.write("in.csv", CODES)
    arguments = ("import", table, "--kind", "attributes", *AGE)
    monkeypatch.setattr(Path, "replace", _refused)
    said = folder.run(*arguments)
    assert "Their types are not kept: " in said.stderr
    assert f"then  ingest import {folder.rejects()} --kind attributes\n" in said.stderr


def _refused(*_: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_rows_that_are_older_say_so(folder: Folder) -> None:
    """Beside the reason, where a later row of the user was delivered, or where nobody knows."""
    text = "external_id,age\nu1,x\nu2,x\nu1,3\nu2,y\n"
    folder.run("import", folder.write("in.csv", text), "--kind", "attributes", *AGE)
    reasons = {row["_line"]: row["_reason"] for row in rows_of(folder.rejects())}
    assert reasons["2"].endswith(
        "; a later row of this user was delivered: importing this one sets values back"
    )
    assert "later" not in reasons["3"] + reasons["5"]
    folder.rejects().unlink()
    text = text.replace("u", "v")
    more = ("--dead-letters", "/dev/null")
    folder.run("import", folder.write("in.csv", text), "--kind", "attributes", *AGE, *more)
    assert not list(folder.state.glob("rejects-*.csv"))  # of letters that nobody kept


def test_a_row_of_a_table_is_not_replayed_and_says_how_it_comes_back(folder: Folder) -> None:
    """Its text alone says nothing: the columns are named in the header."""
    text = "external_id,age\nu1,x\nu1,1,2\n"
    folder.run("import", folder.write("in.csv", text), "--kind", "attributes", *AGE)
    name = folder.rejects().name
    for _ in range(2):  # out of the letters of a replay as well
        said = folder.run("replay", folder.letters())
        assert said.exit_code == 1
        assert "rejects-RUN.csv of its run" in said.stderr
        assert "not JSON" not in said.stderr
        letters = [loads(line) for line in folder.letters().read_bytes().splitlines()]
        assert {letter["code"] for letter in letters} == {"table-row"}
        assert all(name in letter["reason"] for letter in letters)


# --- columns that only one of several tables has ------------------------------------------------

ONE = "external_id,plan\nu1,7\n"
OTHER = "external_id,zip_area\nu2,8\n"


def test_a_column_of_one_table_is_no_fault_of_another(folder: Folder) -> None:
    """Types and maps are for all the inputs, and each has of it what it has columns for."""
    mapping = folder.write("map.toml", '[columns.zip_area]\nto = "area"\n')
    tables = folder.write("one.csv", ONE), folder.write("other.csv", OTHER)
    said = folder.run(
        *("import", *tables, "--kind", "attributes", "--map", mapping),
        *("--types", "plan=string,zip_area=string"),
    )
    assert said.exit_code == 0, said.output
    assert folder.sent == [
        {"external_id": "u1", "plan": "7"},
        {"external_id": "u2", "area": "8"},
    ]


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (("--types", "plan=string,nope=string"), "--types names a column 'nope' that no table has"),
        (("--map", "map.toml"), "the mapping names a column 'gone' that no table has"),
    ],
)
def test_a_column_of_no_table_is_an_error(
    folder: Folder, told: tuple[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was misspelt, and nothing is sent."""
    monkeypatch.chdir(folder.path)
    folder.write("map.toml", "[columns.plan]\n[columns.gone]\ndrop = true\n")
    tables = folder.write("one.csv", ONE), folder.write("other.csv", OTHER)
    said = folder.run("import", *tables, "--kind", "attributes", *told)
    assert said.exit_code == 2
    assert sentence in said.stderr
    assert not folder.sent


def test_a_name_that_is_misspelt_may_be_why_nobody_is_named(folder: Folder) -> None:
    """The mapping is to blame, and not the table."""
    mapping = folder.write("map.toml", '[columns.usr]\nto = "external_id"\n')
    table = folder.write("one.csv", "user,plan\nu1,7\n")
    said = folder.run("import", table, "--kind", "attributes", "--map", mapping)
    assert said.exit_code == 2
    assert "the mapping names a column 'usr' that the table has not" in said.stderr


@pytest.mark.parametrize(
    ("types", "status"), [("plan=string,zip_area=string", 0), ("nope=string", 2)]
)
def test_a_stream_is_a_table_too(folder: Folder, types: str, status: int) -> None:
    """Its header is seen last, and only then it is known what no table has."""
    table = folder.write("other.csv", OTHER)
    options = ("--kind", "attributes", "--delimiter", ",", "--types", types)
    said = folder.run("import", table, "-", *options, stdin=ONE.encode())
    assert said.exit_code == status, said.output
    assert ("'nope'" in said.stderr) is bool(status)
    assert len(folder.sent) == (0 if status else 2)


def test_records_of_a_table_are_superseded_as_any(folder: Folder) -> None:
    """A row that made a record, which was then refused, is marked by its user as well."""
    text = "external_id,email,plan\nu1,bad,old\nu1,a@b.de,new\n"
    folder.run("import", folder.write("in.csv", text), "--kind", "attributes")
    [letter] = [loads(line) for line in folder.letters().read_bytes().splitlines()]
    assert (letter["superseded"], "record" in letter) == (True, True)
    mended = dumps(letter).replace(b'"bad"', b'"b@b.de"') + b"\n"
    path = folder.write("mended.ndjson", mended.decode())
    assert folder.run("replay", path).exit_code == 1
    assert not folder.sent
    assert folder.run("replay", path, "--even-if-older").exit_code == 0
    assert [record["plan"] for record in folder.sent] == ["old"]
