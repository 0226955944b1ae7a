"""Parquet files are read whole, with the types they have, or end in a sentence."""

from __future__ import annotations

import io
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import InputError, MissingExtra
from ingest.sources.base import Block, Start
from ingest.sources.parquet import ParquetSource
from tests.sources.tables import Plain, in_order, lines_of


def test_without_its_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install."""
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"a\.parquet needs .*ingestline\[files\]"):
        ParquetSource([tmp_path / "a.parquet"], Plain())


@pytest.fixture
def arrow() -> Any:
    """The package that writes such files, or a visible skip."""
    pytest.importorskip("pyarrow.parquet", reason="pyarrow (extra files) is not installed")
    import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]  # an extra

    return pyarrow


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    """Write a table of columns."""
    import pyarrow
    from pyarrow import parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]  # an extra

    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


def users(path: Path, count: int = 10_000, **options: Any) -> Path:
    """Write a table of users."""
    ids = [f"u{number}" for number in range(count)]
    return write(path, {"external_id": ids, "n": list(range(count))}, **options)


@pytest.mark.usefixtures("arrow")
def test_rows_come_as_lines_under_their_numbers(tmp_path: Path) -> None:
    """However rows are grouped, the first is number 1, and the last block ends with the file."""
    for group in (1, 777, 10_000):
        source = ParquetSource(
            [users(tmp_path / "a.parquet", 3_000, row_group_size=group)], Plain()
        )
        blocks = list(source.blocks())
        assert lines_of(blocks) == [(n + 1, [f"u{n}", n]) for n in range(3_000)]
        assert source.consumed(blocks[-1]) == source.total_bytes
        offsets = [block.end_offset for block in blocks]
        assert offsets == sorted(offsets)


@pytest.mark.usefixtures("arrow")
@pytest.mark.parametrize("line", [1, 2, 1_024, 1_025, 2_500, 3_000, 3_001])
def test_reading_goes_on_at_a_row(tmp_path: Path, line: int) -> None:
    """Row groups before it are not read, the rows before it in its own are let go."""
    path = users(tmp_path / "a.parquet", 3_000, row_group_size=1_100)
    source = ParquetSource([path], Plain())
    source.start_at({0: Start(77, line, 0)})
    assert lines_of(list(source.blocks())) == [
        (n, [f"u{n - 1}", n - 1]) for n in range(line, 3_001)
    ]


def test_types_are_those_of_the_file(tmp_path: Path, arrow: Any) -> None:
    """Times with and without a zone, decimals, lists, structs and maps; what is null is None."""
    moment = datetime(2024, 3, 1, 10, 0, 0, 123456)
    kinds = {
        "id": (arrow.string(), "u1", "u1"),
        "zoned": (
            arrow.timestamp("us", "UTC"),
            moment.replace(tzinfo=UTC),
            moment.replace(tzinfo=UTC),
        ),
        "local": (
            arrow.timestamp("ms"),
            moment.replace(microsecond=0),
            moment.replace(microsecond=0),
        ),
        "day": (arrow.date32(), date(2024, 3, 1), date(2024, 3, 1)),
        "price": (arrow.decimal128(10, 2), Decimal("1.50"), Decimal("1.50")),
        "tags": (arrow.list_(arrow.string()), ["a", None], ["a", None]),
        "where": (arrow.struct([("city", arrow.string())]), {"city": "x"}, {"city": "x"}),
        "map": (arrow.map_(arrow.string(), arrow.int64()), [("a", 1)], {"a": 1}),
        "deep": (
            arrow.list_(arrow.struct([("m", arrow.map_(arrow.string(), arrow.timestamp("ns")))])),
            [{"m": [("k", moment)]}],
            [{"m": {"k": moment}}],
        ),
        "nano": (arrow.timestamp("ns", "UTC"), 1_709_287_200_123_456_789, None),
        "flag": (arrow.bool_(), True, True),
        "real": (arrow.float64(), 1.5, 1.5),
        "word": (arrow.dictionary(arrow.int8(), arrow.string()), "x", "x"),
    }
    columns = {name: arrow.array([given, None], kind) for name, (kind, given, _) in kinds.items()}
    source = ParquetSource([write(tmp_path / "a.parquet", columns)], Plain())
    [values] = list(source.values(0))
    first, second = values.rows
    found = dict(zip(kinds, first, strict=True))
    assert found.pop("nano") == datetime(2024, 3, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert found == {name: value for name, (_, _, value) in kinds.items() if name != "nano"}
    assert second == (None,) * len(kinds)


def test_days_and_moments_are_those_that_were_written(tmp_path: Path, arrow: Any) -> None:
    """Before 1970 too; what is beyond the years of Python stays a number, and is not lost."""
    times = [datetime(1, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(9999, 12, 31)]
    days = [time.date() for time in times]
    columns = {
        "local": arrow.array(times, arrow.timestamp("us")),
        "zoned": arrow.array(times, arrow.timestamp("us", "America/Sao_Paulo")),
        "day": arrow.array(days, arrow.date32()),
        "far": arrow.array([10**18, None, 0], arrow.int64()).cast(arrow.timestamp("us")),
    }
    [values] = ParquetSource([write(tmp_path / "a.parquet", columns)], Plain()).values(0)
    local, zoned, found, far = zip(*values.rows, strict=True)
    assert list(local) == times
    assert list(zoned) == [time.replace(tzinfo=UTC) for time in times]
    assert list(found) == days
    assert far == (10**18, None, datetime(1970, 1, 1))


@pytest.mark.usefixtures("arrow")
def test_columns_are_typed_and_not_guessed(tmp_path: Path) -> None:
    """The plan of a header is made without a look at rows, once; one that is given is used."""
    plain = Plain()
    paths = [users(tmp_path / f"{name}.parquet", 9) for name in "ab"]
    source = ParquetSource(paths, plain)
    assert plain.asked == [(False, True)]
    assert source.plan() == {("external_id", "n"): ("external_id", "n")}
    narrow = ParquetSource(paths, plain, plans={("external_id", "n"): ("external_id",)})
    blocks = list(narrow.blocks())
    assert in_order(blocks) == [(n, "cells") for n in range(1, 10)] * 2
    assert blocks[0].unfit[1].raw == b"external_id=u1, n=1"


@pytest.mark.usefixtures("arrow")
def test_damage_and_cuts_end_in_a_sentence(tmp_path: Path) -> None:
    """A file without its end is refused before reading; damage inside ends the reading."""
    data = users(tmp_path / "a.parquet", row_group_size=1_000).read_bytes()
    for bad in (data[:-9], b"", b"PAR1", b"id,plan\nu1,pro\n"):
        (tmp_path / "bad.parquet").write_bytes(bad)
        with pytest.raises(InputError, match=r"bad\.parquet is no whole Parquet file"):
            ParquetSource([tmp_path / "bad.parquet"], Plain())
    half = len(data) // 2
    (tmp_path / "bad.parquet").write_bytes(data[:half] + b"\xff" * 300 + data[half + 300 :])
    blocks: list[Block] = []
    with pytest.raises(InputError, match=r"bad\.parquet is damaged: .* after row [\d,]+"):
        blocks.extend(ParquetSource([tmp_path / "bad.parquet"], Plain()).blocks())
    found = lines_of(blocks)
    assert found == [(n + 1, [f"u{n}", n]) for n in range(len(found))]


@pytest.mark.usefixtures("arrow")
def test_a_stream_is_refused() -> None:
    """Parquet cannot be read from a pipe."""
    with pytest.raises(InputError, match="stdin is a stream; Parquet"):
        ParquetSource(["-"], Plain())


@pytest.mark.usefixtures("arrow")
def test_files_elsewhere_are_read_by_url(tmp_path: Path) -> None:
    """Through the same door as any other form."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec (extra remote) is not installed")
    data = io.BytesIO(users(tmp_path / "a.parquet", 5).read_bytes())
    fsspec.filesystem("memory").pipe("/tables/a.parquet", data.getvalue())
    blocks = list(ParquetSource(["memory://tables/a.parquet"], Plain()).blocks())
    assert lines_of(blocks) == [(n + 1, [f"u{n}", n]) for n in range(5)]
