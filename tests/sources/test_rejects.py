"""Bad rows come back in their own columns, with why, and nothing of the others."""

from __future__ import annotations

import csv
import io
import stat
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import LocalFailure
from ingest.sources.dialects import TableOptions
from ingest.sources.parquet import ParquetSource
from ingest.sources.rejects import Rejects, write_rejects
from ingest.sources.tables import TableSource
from tests.sources.tables import Plain


def table(*paths: Path, encoding: str = "utf-8") -> TableSource:
    """Open some tables."""
    return TableSource(list(paths), Plain(), options=TableOptions(encoding=encoding))


def written(path: Path, rows: Sequence[Sequence[str]], delimiter: str = ",") -> Path:
    """Write a table."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    path.write_bytes(text.getvalue().encode())
    return path


def rows_of(path: Path, delimiter: str = ",") -> list[list[str]]:
    """Read a table back, by nothing of ours."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=delimiter))


@given(
    rows=st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1),
        min_size=1,
        max_size=9,
    ),
    bad=st.sets(st.integers(0, 8)),
    delimiter=st.sampled_from(",;\t"),
)
def test_the_rows_that_are_told_come_back_cell_by_cell(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], bad: set[int], delimiter: str
) -> None:
    """Any cells, as many as there were, under the delimiter of the input, and no other row."""
    folder = tmp_path_factory.mktemp("rejects")
    header = ["external_id", "a", "b"]
    source = table(written(folder / "in.csv", [header, *rows], delimiter))
    delimiter = source.top(0)[1]
    numbered = [
        (number, row)
        for some in source.rows(0)
        for number, row in zip(some.numbers, some.rows, strict=True)
    ]
    chosen = [found for at, found in enumerate(numbered) if at in bad]
    told = write_rejects(source, {0: [(line, "why") for line, _ in chosen]}, folder / "rejects.csv")
    expected = [Rejects(folder / "rejects.csv", len(chosen), tuple(header))] if chosen else []
    assert told == expected
    assert (folder / "rejects.csv").exists() == bool(chosen)
    if chosen:
        first, *found = rows_of(folder / "rejects.csv", delimiter)
        assert first == ["_line", "_reason", *source.top(0)[0]]
        assert found == [[str(line), "why", *row] for line, row in chosen]


def test_rows_that_could_not_be_read_come_back_as_their_text(tmp_path: Path) -> None:
    """In one cell, so that they are not taken for good; a line too long has no text."""
    path = tmp_path / "in.csv"
    path.write_bytes(b'external_id,a,b\nu1,"x\nu2,y,z\nu\xff,1,2\n' + b"x" * 300 + b"\nu3,1,2\n")
    source = TableSource([path], Plain(), max_line_bytes=200)
    reasons = [(2, "open"), (4, "bytes"), (5, "long"), (6, "no"), (6, "no"), (6, "never"), (9, "?")]
    write_rejects(source, {0: reasons, 7: [(1, "no such part")]}, tmp_path / "rejects.csv")
    assert rows_of(tmp_path / "rejects.csv") == [
        ["_line", "_reason", "external_id", "a", "b"],
        ["2", "open", 'u1,"x'],
        ["4", "bytes", "u�,1,2"],
        ["5", "long"],
        ["6", "no; never", "u3", "1", "2"],
    ]


def test_notes_of_an_earlier_time_are_replaced(tmp_path: Path) -> None:
    """A file of bad rows, mended and imported, tells its own bad rows by its own lines."""
    rows = [["_line", "_reason", "external_id", "a"], ["77", "old", "u1", "x"], ["78", "old", "u2"]]
    source = table(written(tmp_path / "rejects.csv", rows))
    write_rejects(source, {0: [(2, "new"), (3, "short")]}, tmp_path / "again.csv")
    assert rows_of(tmp_path / "again.csv") == [
        ["_line", "_reason", "external_id", "a"],
        ["2", "new", "u1", "x"],
        ["3", "short", "u2"],
    ]


def test_several_inputs_are_told_apart(tmp_path: Path) -> None:
    """Those of one header share a file and name the input; another header has a file of its own."""
    one = written(tmp_path / "a.csv", [["id", "x"], ["u1", "1"]])
    two = written(tmp_path / "b.csv", [["id", "x"], ["u2", "2"]])
    other = written(tmp_path / "c.csv", [["id", "y"], ["u3", "3"]])
    told = write_rejects(
        table(one, two, other), {part: [(2, "why")] for part in range(3)}, tmp_path / "r.csv"
    )
    assert told == [
        Rejects(tmp_path / "r.csv", 2, ("id", "x")),
        Rejects(tmp_path / "r-2.csv", 1, ("id", "y")),
    ]
    assert rows_of(tmp_path / "r.csv") == [
        ["_source", "_line", "_reason", "id", "x"],
        [str(one), "2", "why", "u1", "1"],
        [str(two), "2", "why", "u2", "2"],
    ]
    assert rows_of(tmp_path / "r-2.csv")[1:] == [["2", "why", "u3", "3"]]


def test_they_are_private_and_written_anew(tmp_path: Path) -> None:
    """What was there is replaced as a whole; nobody else may read it."""
    source = table(written(tmp_path / "a.csv", [["id", "x"], ["u1", "1"]]))
    out = tmp_path / "rejects.csv"
    out.write_text("old\n" * 99)
    write_rejects(source, {0: [(2, "why")]}, out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert len(rows_of(out)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "rejects.csv"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """It is this machine that failed, and the records are in the dead letters still."""
    source = table(written(tmp_path / "a.csv", [["id", "x"], ["u1", "1"]]))
    with pytest.raises(LocalFailure, match=r"no/rejects\.csv: No such file.*dead letters"):
        write_rejects(source, {0: [(2, "why")]}, tmp_path / "no" / "rejects.csv")


def test_another_encoding_comes_back_in_utf8(tmp_path: Path) -> None:
    """Whatever the input was written in."""
    path = tmp_path / "a.csv"
    path.write_bytes("id,x\nu1,Köln\n".encode("cp1252"))
    write_rejects(table(path, encoding="cp1252"), {0: [(2, "why")]}, tmp_path / "r.csv")
    assert rows_of(tmp_path / "r.csv")[1] == ["2", "why", "u1", "Köln"]


def test_a_large_table_takes_no_memory(tmp_path: Path) -> None:
    """Every row of 3 MB is bad, and half a megabyte is enough for text, lines and cells."""
    rows = [[f"u{number}", "x" * 90] for number in range(30_000)]
    source = table(written(tmp_path / "a.csv", [["id", "x"], *rows]))
    del rows
    tracemalloc.start()
    try:
        told = write_rejects(
            source, {0: ((line, "why") for line in range(2, 30_002))}, tmp_path / "r.csv"
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert told[0][1] == 30_000
    assert peak < 2_000_000


def test_rows_of_parquet_come_back_as_text(tmp_path: Path) -> None:
    """Times as ISO 8601, what is nested as JSON, null as nothing."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (extra files) is not installed")
    from pyarrow import parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]  # an extra

    columns = {
        "external_id": ["u1", "u2"],
        "at": [datetime(2024, 3, 1, tzinfo=UTC), None],
        "price": [Decimal("1.50"), None],
        "tags": [[{"a": datetime(2024, 3, 1), "b": None}], None],
        "vip": [True, None],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    nested = '[{"a":"2024-03-01T00:00:00","b":null}]'
    source = ParquetSource([tmp_path / "a.parquet"], Plain())
    write_rejects(source, {0: [(1, "a"), (2, "b")]}, tmp_path / "r.csv")
    assert rows_of(tmp_path / "r.csv") == [
        ["_line", "_reason", *columns],
        ["1", "a", "u1", "2024-03-01T00:00:00+00:00", "1.50", nested, "true"],
        ["2", "b", "u2", "", "", "", ""],
    ]
