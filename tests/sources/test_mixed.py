"""Inputs of several forms are one sequence of blocks, each part read by what is in it."""

from __future__ import annotations

import gzip
import io
import os
import threading
from pathlib import Path

import pytest

from ingest.columns import Options
from ingest.errors import ConfigError, InputError
from ingest.sources.base import Start
from ingest.sources.dialects import TableOptions
from ingest.sources.mixed import MixedSource
from ingest.sources.planning import TableColumns
from tests.sources.tables import Plain, lines_of


def write(path: Path, data: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(data)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a file of each form, under names that do not all say so."""
    write(tmp_path / "a.csv", b"id,plan\nu1,pro\n")
    write(tmp_path / "b.json", b'{"id":"u2"}\n{"id":"u3"}\n')
    write(tmp_path / "c.tsv.gz", gzip.compress(b"id\tplan\nu4\tpro\nu5\n"))
    write(tmp_path / "d.json", b"email;plan\nu6@x.y;pro\n")
    return tmp_path


def test_every_part_is_read_by_its_form_under_its_number(folder: Path) -> None:
    """The order is that of the names, whatever the forms; progress counts all of them."""
    source = MixedSource([folder], Plain())
    blocks = list(source.blocks())
    assert source.forms == {0: "table", 1: "ndjson", 2: "table", 3: "table"}
    assert source.has_tables
    assert source.headers == {0: ("id", "plan"), 2: ("id", "plan"), 3: ("email", "plan")}
    assert [block.part for block in blocks] == [0, 1, 2, 3]
    assert lines_of(blocks) == [
        (2, ["u1", "pro"]),
        (1, {"id": "u2"}),
        (2, {"id": "u3"}),
        (2, ["u4", "pro"]),
        (2, ["u6@x.y", "pro"]),
    ]
    assert source.consumed(blocks[-1]) == source.total_bytes


def test_each_part_goes_on_at_its_own_start(folder: Path) -> None:
    """Parts without one are read from their beginning."""
    source = MixedSource([folder], Plain())
    source.start_at({0: Start(15, 3, 1), 1: Start(12, 2, 1), 2: Start(9, 3, 1)})
    assert lines_of(list(source.blocks())) == [(2, {"id": "u3"}), (2, ["u6@x.y", "pro"])]


def test_progress_of_the_first_pass_is_that_of_the_tables(folder: Path) -> None:
    """What is no text table is read once only."""
    source = MixedSource([folder], Plain())
    told: list[int] = []
    assert set(source.plan(told.append)) == {("id", "plan"), ("email", "plan")}
    assert told[-1] == source.tables_bytes


def test_bad_rows_come_back_by_part(folder: Path) -> None:
    """Those of tables; a part that is none has its dead letters."""
    source = MixedSource([folder], Plain())
    told = source.write_rejects(
        {1: [(1, "no")], 2: [(3, "short")], 3: [(2, "who")]}, folder / "rejects.csv"
    )
    assert [(each.path.name, each.rows) for each in told] == [
        ("rejects.csv", 1),
        ("rejects-2.csv", 1),
    ]
    assert (folder / "rejects.csv").read_text() == "_line\t_reason\tid\tplan\n3\tshort\tu5\n"
    assert MixedSource([folder / "b.json"], Plain()).write_rejects({}, folder / "r.csv") == []


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b'{"id":1}\n', [(1, {"id": 1})]),
        (b"id,plan\nu1,pro\n", [(2, ["u1", "pro"])]),
        (gzip.compress(b"id;plan\nu1;pro\n", mtime=0), [(2, ["u1", "pro"])]),
        (b"", []),
    ],
)
def test_stdin_is_of_any_form(data: bytes, lines: list[object]) -> None:
    """It is told by its first bytes, when it is read; nothing of a table is guessed."""
    plain = Plain()
    source = MixedSource(["-"], plain, stdin=io.BytesIO(data))
    assert lines_of(list(source.blocks())) == lines
    assert plain.asked in ([], [(False, False)])


def test_stdin_that_is_none_of_them_is_refused() -> None:
    """Parquet from a pipe, another format, and a header that is none."""
    for data, words in [(b"PAR1", "stdin is Parquet"), (b"<html>", "looks like HTML")]:
        with pytest.raises(InputError, match=words):
            list(MixedSource(["-"], Plain(), stdin=io.BytesIO(data)).blocks())


def test_options_of_tables_make_a_table() -> None:
    """A delimiter or an encoding that is told settles what could be anything; JSON stays JSON."""
    for data, expected in [(b"one|two\n1|2\n", [(2, ["1", "2"])]), (b'{"a":1}\n', [(1, {"a": 1})])]:
        source = MixedSource(["-"], Plain(), options=TableOptions("|"), stdin=io.BytesIO(data))
        assert lines_of(list(source.blocks())) == expected


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """It is opened when it is read, and not before."""
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    source = MixedSource([path], Plain())
    producer = threading.Thread(target=path.write_bytes, args=(b"id,plan\nu1,pro\n",))
    producer.start()
    assert lines_of(list(source.blocks())) == [(2, ["u1", "pro"])]
    producer.join()


def test_columns_become_records_by_the_real_rules(tmp_path: Path) -> None:
    """Types are those of all rows of the file; what cannot be is said with the file's name."""
    data = (
        b'external_id,visits,zip,vip\nu1,1,01234,true\nu2,2.5,99999,FALSE\nu3\nu4,,,\n"u5,1,2,3\n'
    )
    path = write(tmp_path / "a.csv", data)
    source = MixedSource([path], TableColumns(Options(kind="attributes")))
    blocks = list(source.blocks())
    assert lines_of(blocks) == [
        (2, {"attributes": {"external_id": "u1", "visits": 1, "zip": "01234", "vip": True}}),
        (3, {"attributes": {"external_id": "u2", "visits": 2.5, "zip": "99999", "vip": False}}),
    ]
    assert [(row.line, row.raw) for block in blocks for row in block.unfit] == [
        (4, b"u3"),
        (5, b"u4,,,"),
        (6, b'"u5,1,2,3'),
    ]
    with pytest.raises(ConfigError, match="--kind"):
        MixedSource([path], TableColumns(Options()))
    nobody = write(tmp_path / "b.csv", b"id,plan\nu1,pro\n")
    with pytest.raises(InputError, match=r"b\.csv: no column says whose record"):
        MixedSource([nobody], TableColumns(Options(kind="attributes")))


def test_what_was_left_out_is_counted_over_all_inputs(tmp_path: Path) -> None:
    """Cells that `on_bad_field` drops, by column."""
    mapping = {"columns": {"n": {"type": "number", "on_bad_field": "drop"}}}
    columns = TableColumns(Options(kind="attributes", mapping=mapping))
    paths = [write(tmp_path / name, b"external_id,n,x\nu1,no,y\n") for name in ("a.csv", "b.csv")]
    list(MixedSource(paths, columns).blocks())
    assert columns.dropped == {"n": 2}


def test_what_was_decided_before_is_not_surveyed_again(folder: Path) -> None:
    """Plans are taken over by the form of their tables; none of them is decided anew."""
    first = MixedSource([folder], Plain())
    first.plan()
    decided = first.plans
    assert decided.keys() == {"table"}
    assert decided["table"].keys() == {("id", "plan"), ("email", "plan")}
    again = MixedSource([folder], Plain())
    again.go_by({"table": dict.fromkeys(decided["table"], "as it was"), "parquet": {}})
    assert set(again.plan().values()) == {"as it was"}
