"""Tables that are surveyed in two halves at once: what is decided is what it always was."""

from __future__ import annotations

import gzip
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ingest.columns import Options
from ingest.errors import IngestError, InputError
from ingest.sources.apart import Apart
from ingest.sources.dialects import TableOptions
from ingest.sources.mixed import MixedSource
from ingest.sources.planning import TableColumns
from ingest.sources.table import Header
from ingest.sources.tables import TableSource

PIECE = 64
"""Bytes of text at a time: so little that small files have a middle."""

CELLS = st.sampled_from(
    [b"1", b"2.5", b"12", b"true", b"2024-01-31", b"2024-01-31 10:00", b"", b"null", b"a", b"bc",
     "é".encode(), b"\xff", b"\0", b'"q,q"', b'"l\nl"', b'"d""d"', b'b"ad', b'"open', b"re\rturn",
     b"x" * 100, b"1,2", b"\n"]
)  # fmt: skip
COLUMNS = st.one_of(
    st.just(CELLS),
    st.lists(CELLS, min_size=1, max_size=3).map(st.sampled_from),
    st.sampled_from([st.just(b"1"), st.just(b"2024-01-31 10:00"), st.just(b"x")]),
)


class Here:
    """Surveys the latter half in this process, when it is asked for."""

    def __init__(self, source: TableSource, lost: bool = False) -> None:
        self._source = source
        self._lost = lost
        self.begun: list[tuple[int, int]] = []
        self.asked = 0

    def begin(self, part: int, offset: int) -> None:
        """Remember where it begins."""
        self.begun.append((part, offset))

    def found(self) -> Mapping[Header, Any] | None:
        """Return what is found, or nothing."""
        self.asked += 1
        try:
            return None if self._lost else self._source.findings(*self.begun[-1])
        except IngestError:
            return None


def source_of(paths: Sequence[Path], options: TableOptions | None = None) -> TableSource:
    """Open tables of attributes."""
    columns = TableColumns(Options(kind="attributes"))
    return TableSource(list(map(str, paths)), columns, options=options, text_bytes=PIECE)


def decided(paths: Sequence[Path], options: TableOptions, halves: bool) -> tuple[str, int]:
    """Return what becomes of the columns of tables, or why that is not known; and halves joined."""
    try:
        beside = Here(source_of(paths, options)) if halves else None
        plans = source_of(paths, options).plan(beside=beside)
    except IngestError as error:
        return str(error), 0
    return repr(plans), beside.asked if beside else 0


@settings(deadline=None)
@given(st.data())
def test_two_halves_decide_what_the_whole_does(data: st.DataObject) -> None:
    """Types, reasons, samples and counts, or the same error, whatever is in the files."""
    delimiter = data.draw(st.sampled_from(",,;\t"))
    mark = delimiter.encode()
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for at in range(data.draw(st.integers(1, 2))):
            pools = data.draw(st.lists(COLUMNS, min_size=1, max_size=3))
            names = [b"external_id", b"a", b"b", b"c"][: len(pools) + 1]
            rows = data.draw(st.lists(st.tuples(*pools), max_size=12))
            rows = rows * data.draw(st.sampled_from([1, 150, 300]))  # a head has 2 KiB at least
            rows += data.draw(st.lists(st.tuples(*pools), max_size=12))
            lines = [mark.join(names), *(mark.join((b"u", *row)) for row in rows)]
            end = data.draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
            text = end.join(lines) + data.draw(st.sampled_from([end, b""]))
            paths.append(Path(folder, f"{at}.csv"))
            paths[-1].write_bytes(data.draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"])) + text)
        options = TableOptions(delimiter)
        found, joined = decided(paths, options, halves=True)
        event("joined" if joined else "not joined")
        assert found == decided(paths, options, halves=False)[0]


def rows_of(count: int) -> str:
    """Return a header, and rows of an id and a number."""
    return "external_id,n\n" + "".join(f"u{n:06},{n}\n" for n in range(count))


def test_an_ordinary_table_has_a_middle(tmp_path: Path) -> None:
    """It is read up to there, and progress goes to the end."""
    path = tmp_path / "a.csv"
    path.write_text(rows_of(2_000))
    beside, progress = Here(source_of([path])), list[int]()
    (plan,) = source_of([path]).plan(progress.append, beside=beside).values()
    size = path.stat().st_size
    assert [column.cells for column in plan.columns] == [2_000, 2_000]
    assert plan.columns[1].type == "number"
    assert beside.begun[0][0] == 0
    assert abs(beside.begun[0][1] - size / 2) <= 2 * PIECE
    assert beside.asked == 1
    assert all(a < b for a, b in itertools.pairwise(progress))
    assert progress[-1] == 2 * beside.begun[0][1]


def test_the_middle_of_many_files_is_in_one_of_them(tmp_path: Path) -> None:
    """Those behind it are read by the other; those with a header of their own as well."""
    paths = [tmp_path / f"{name}.csv" for name in "abcd"]
    for path in paths:
        path.write_text(rows_of(500))
    paths[3].write_text(rows_of(300).replace(",n", ",m"))
    beside = Here(source_of(paths))
    plans = source_of(paths).plan(beside=beside)
    assert repr(plans) == repr(source_of(paths).plan())
    assert (beside.begun[0][0], beside.asked) == (1, 1)
    assert [plan.columns[1].cells for plan in plans.values()] == [1_500, 300]


def test_what_the_other_does_not_know_is_read_here(tmp_path: Path) -> None:
    """As where its half cannot be read to its end: that is told as it always was."""
    path = tmp_path / "a.csv"
    path.write_text(rows_of(2_000))
    beside, progress = Here(source_of([path]), lost=True), list[int]()
    (plan,) = source_of([path]).plan(progress.append, beside=beside).values()
    assert plan.columns[1].cells == 2_000
    assert beside.asked == 1
    assert progress[-1] == path.stat().st_size


def test_a_middle_inside_of_a_row_is_none(tmp_path: Path) -> None:
    """A cell that goes on for most of the file, and holds what looks like rows."""
    path = tmp_path / "a.csv"
    inside = "\n".join(f"no{n},x" for n in range(500))
    path.write_text(f'external_id,n\nu1,"{inside}"\n')
    beside = Here(source_of([path]))
    (plan,) = source_of([path]).plan(beside=beside).values()
    assert (plan.columns[1].cells, beside.asked, len(beside.begun)) == (1, 0, 1)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_small_table_has_no_middle(tmp_path: Path, rows: int) -> None:
    """Nor one that is compressed, or in another encoding, where no offset is known."""
    paths = [tmp_path / "a.csv", tmp_path / "a.csv.gz", tmp_path / "b.csv"]
    paths[0].write_text(rows_of(rows))
    paths[1].write_bytes(gzip.compress(rows_of(2_000).encode()))
    paths[2].write_bytes(rows_of(2_000).encode("utf-16"))
    for path, encoding in zip(paths, ["utf-8", "utf-8", "utf-16"], strict=True):
        options = TableOptions(encoding=encoding)
        beside = Here(source_of([path], options))
        source_of([path], options).plan(beside=beside)
        assert beside.begun == []


def test_a_table_that_needs_no_look_has_no_halves(tmp_path: Path) -> None:
    """Everything is told of it."""
    path = tmp_path / "a.csv"
    path.write_text(rows_of(2_000))
    columns = TableColumns(Options(kind="attributes", types={"n": "string"}))
    beside = Here(source_of([path]))
    TableSource([str(path)], columns, text_bytes=PIECE).plan(beside=beside)
    assert beside.begun == []


def test_another_process_surveys_a_half_and_reads_it_all(tmp_path: Path) -> None:
    """What it finds, and the blocks that follow, are those of one process."""
    path = tmp_path / "a.csv"
    path.write_text(rows_of(40_000) + "u,x\n")

    def opened() -> tuple[MixedSource, TableColumns]:
        columns = TableColumns(Options(kind="attributes"))
        return MixedSource([str(path)], columns), columns

    whole, _ = opened()
    source, columns = opened()
    with Apart(source, columns) as reading:
        assert repr(source.plan(beside=reading)) == repr(whole.plan())
        assert "row 40001 is not a number" in repr(source.plans)
        assert sum(len(block.numbers()) for block in reading.blocks()) == 40_001


def test_a_half_that_nobody_asked_for_is_let_go(tmp_path: Path) -> None:
    """The blocks come all the same; and from a process that is gone comes nothing."""
    path = tmp_path / "a.csv"
    path.write_text(rows_of(20_000))
    source = MixedSource([str(path)], columns := TableColumns(Options(kind="attributes")))
    source.plan()
    with Apart(source, columns) as reading:
        reading.begin(0, len("external_id,n\n"))
        assert sum(len(block.numbers()) for block in reading.blocks()) == 20_000
    source = MixedSource([str(path)], columns)
    with Apart(source, columns) as reading:
        reading.begin(0, 5)  # no row begins there
        assert reading.found() is None
        reading._process.kill()
        reading._process.wait()
        reading.begin(0, 0)
        assert reading.found() is None


def test_a_file_that_cannot_be_sought_in_has_no_seam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read as it was: what is wrong with it is told by who reads it."""
    path = tmp_path / "a.csv"
    path.write_text(rows_of(2_000))
    source = source_of([path])
    beside = Here(source)

    def refused(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with source._opened(0) as table:
        monkeypatch.setattr(table._stream, "_file", type("File", (), {"seek": refused})())
        assert table._stream.seam(1_000) == 0
    with pytest.raises(InputError, match="no line that begins at byte 5"):
        source.findings(0, 5)
    assert beside.begun == []
