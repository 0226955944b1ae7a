"""CSV and TSV are read whole or end in a sentence, in any dialect, encoding or compression."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

from ingest.errors import ConfigError, InputError
from ingest.sources.base import Block, Start
from ingest.sources.dialects import TableOptions
from ingest.sources.tables import TableSource
from tests.sources.tables import Plain, PlainSurvey, in_order, lines_of

HEADER = ("external_id", "plan", "city")
ROWS = [[f"u{number}", "pro" if number % 3 else "", "São Paulo"] for number in range(5_000)]


def zstd(data: bytes) -> bytes:
    """Compress to one frame."""
    return zstandard.ZstdCompressor().compress(data)


PACKS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd}


def written(rows: list[list[str]], delimiter: str = ",", end: str = "\n") -> str:
    """Write a table as everybody's writer does."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows([list(HEADER), *rows])
    return text.getvalue()


TEXT = written(ROWS).encode()


def write(path: Path, data: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(data)
    return path


def source(*paths: object, **options: object) -> TableSource:
    """Open tables whose rows become arrays."""
    return TableSource(list(paths), Plain(), **options)  # type: ignore[arg-type]  # any test's


def read(*paths: object, **options: object) -> list[Block]:
    """Read all blocks of some tables."""
    return list(source(*paths, **options).blocks())


@pytest.mark.parametrize("ending", PACKS)
def test_a_table_comes_as_lines_with_its_own_numbers(tmp_path: Path, ending: str) -> None:
    """Plain or compressed, every row is a line, the first one under number 2."""
    data = PACKS[ending](TEXT)
    tables = source(write(tmp_path / f"a.csv{ending}", data))
    blocks = list(tables.blocks())
    assert lines_of(blocks) == list(enumerate(ROWS, 2))
    assert blocks[-1].end_offset == len(data) == tables.total_bytes
    assert tables.consumed(blocks[-1]) == len(data)
    assert max(len(block.data) for block in blocks) < 256 * 1024


CELLS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r", max_codepoint=0x17F),
    max_size=8,
)


@given(
    rows=st.lists(st.tuples(CELLS.map("u".__add__), CELLS, CELLS).map(list), max_size=9),
    dialect=st.tuples(st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"])),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]),
    ending=st.sampled_from(sorted(PACKS)),
    size=st.integers(1, 99),
)
def test_any_table_reads_as_its_rows(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[str]],
    dialect: tuple[str, str],
    encoding: str,
    ending: str,
    size: int,
) -> None:
    """Whatever its cells, dialect, encoding, compression and cuts, what was written is read."""
    data = PACKS[ending](written(rows, *dialect).encode(encoding))
    file = write(tmp_path_factory.mktemp("any") / f"a.csv{ending}", data)
    told = dialect[0] if dialect[0] == "|" or not rows else None
    options = TableOptions(told, encoding)
    found = lines_of(read(file, options=options, text_bytes=size))
    assert [row for _, row in found] == rows
    if told is None:
        assert source(file, options=TableOptions(dialect[0], encoding)).top(0) == (
            list(HEADER),
            dialect[0],
        )


@given(
    text=st.lists(
        st.sampled_from(['"', "u1,a,b", "u2,c", "\n", "\n", "\r\n", ',"d\ne"', "x" * 70, "\0"])
    ).map("".join),
    sizes=st.tuples(st.integers(1, 200), st.integers(1, 200)),
)
def test_cuts_change_neither_lines_nor_numbers_nor_order(
    tmp_path_factory: pytest.TempPathFactory, text: str, sizes: tuple[int, int]
) -> None:
    """Blocks of any size give the same rows in the same order, so that ordinals are the same."""
    file = write(tmp_path_factory.mktemp("cuts") / "a.csv", f"a,b,c\n{text}".encode())
    one, other = (read(file, text_bytes=size, max_line_bytes=64) for size in sizes)
    assert in_order(one) == in_order(other)
    assert lines_of(one) == lines_of(other)
    assert [row for b in one for row in b.unfit] == [row for b in other for row in b.unfit]


@pytest.mark.parametrize("ending", PACKS)
@given(at=st.floats(0, 1))
def test_reading_goes_on_at_a_start(
    tmp_path_factory: pytest.TempPathFactory, ending: str, at: float
) -> None:
    """What was told of the end of any block is where the next reading begins."""
    rows = [[f"u{number}", "a\nb" if number % 5 else "", ""] for number in range(300)]
    data = PACKS[ending](written(rows).encode() + b'"never closed\nu,1,2\n')
    file = write(tmp_path_factory.mktemp("start") / f"a.csv{ending}", data)
    blocks = read(file, text_bytes=500)
    cut = int(at * (len(blocks) - 1))
    assume(blocks[cut].resumable)
    tables = source(file, text_bytes=700)
    tables.start_at({0: Start(blocks[cut].end_offset, blocks[cut].following, 0)})
    again = list(tables.blocks())
    assert lines_of(again) == lines_of(blocks[cut + 1 :])
    assert in_order(again) == in_order(blocks[cut + 1 :])


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_off_table_never_passes_as_whole(
    tmp_path_factory: pytest.TempPathFactory, ending: str, share: float
) -> None:
    """Wherever it was cut, there is an error, and what was given are its first whole rows."""
    data = PACKS[ending](TEXT)
    cut = data[: int(len(data) * share)]
    file = write(tmp_path_factory.mktemp("cut") / f"a.csv{ending}", cut)
    plain = Plain()
    blocks: list[Block] = []
    with pytest.raises(InputError, match=r"a.csv\.\w+ is cut off: .* at byte [\d,]+ of"):
        blocks.extend(TableSource([file], plain, plans={HEADER: HEADER}).blocks())
    found = lines_of(blocks)
    assert found == list(enumerate(ROWS, 2))[: len(found)]


def test_a_cut_off_table_says_how_much_was_read(tmp_path: Path) -> None:
    """The lines before the cut were given, and the error counts them, the header too."""
    file = write(tmp_path / "a.csv.gz", gzip.compress(TEXT)[:-40])
    blocks: list[Block] = []
    with pytest.raises(InputError) as told:
        blocks.extend(source(file, plans={HEADER: HEADER}).blocks())
    assert f"Its first {len(lines_of(blocks)) + 1:,} lines were read" in str(told.value)


def test_the_last_row_needs_no_newline(tmp_path: Path) -> None:
    """In a file of more than 10 MB as in a small one, whatever the blocks."""
    many = 600_000
    data = b"external_id,n\n" + b"".join(b"user%09d,%d\n" % (n, n % 9) for n in range(many))
    file = write(tmp_path / "a.csv", data[:-1])
    assert len(data) > 9_000_000
    count, last = 0, b""
    for block in source(file).blocks():
        lines = block.lines()
        count, last = count + len(lines), lines[-1]
    assert (count, last) == (many, b'["user%09d","%d"]' % (many - 1, (many - 1) % 9))


def test_a_mark_of_byte_order_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    """Spreadsheets write one; the first column has its plain name."""
    tables = source(write(tmp_path / "a.csv", b"\xef\xbb\xbf external_id ,plan\nu1,pro\n"))
    assert tables.headers == {0: ("external_id", "plan")}


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("id,name\nu1,a;b;c\nu2,d\n", ","),
        ("id;price\nu1;1,5\nu2;2,5\n", ";"),
        ("id\tnote\nu1\ta, b, c\n", "\t"),
        ('id;"a,b,c"\nu1;x\nu2;y\n', ";"),
        ("id;a,b;c\nu1;x,y;z\n", ";"),
        ("sep=;\nid;name\nu1;a\n", ";"),
        ("sep=|\r\nid|name\r\nu1|a\r\n", "|"),
        ("external_id\nu1\nu2\n", ","),
        ("id,name", ","),
    ],
)
def test_the_delimiter_is_told_by_header_and_rows(
    tmp_path: Path, text: str, delimiter: str
) -> None:
    """By the one under which rows are as wide as the header; spreadsheets may say it outright."""
    tables = source(write(tmp_path / "a.csv", text.encode()))
    cells, found = tables.top(0)
    assert found == delimiter
    assert cells[0] in ("id", "external_id")
    assert all(row[0].startswith("u") for _, row in lines_of(list(tables.blocks())))


def test_the_line_that_says_the_delimiter_counts(tmp_path: Path) -> None:
    """Numbers are those of the file: the first row is on line 3 then."""
    file = write(tmp_path / "a.csv", b"sep=;\nid;name\nu1;a\n")
    assert lines_of(read(file)) == [(3, ["u1", "a"])]


def test_an_option_overrides_what_is_found(tmp_path: Path) -> None:
    """A delimiter that is told is used; one that cannot be is refused."""
    file = write(tmp_path / "a.csv", b"id|a,b\nu1|c,d\n")
    assert source(file, options=TableOptions("|")).headers == {0: ("id", "a,b")}
    assert source(file, options=TableOptions("tab")).headers == {0: ("id|a,b",)}
    for bad in ("", "ab", '"', "\n"):
        with pytest.raises(ConfigError, match="The delimiter"):
            source(file, options=TableOptions(bad))


def test_other_encodings_are_read_and_bad_bytes_told(tmp_path: Path) -> None:
    """A row with bytes that the encoding has no character for is told; nothing is replaced."""
    latin = write(tmp_path / "a.csv", "id,city\nu1,Köln\n".encode("cp1252"))
    assert lines_of(read(latin, options=TableOptions(encoding="cp1252"))) == [(2, ["u1", "Köln"])]
    [block] = read(latin)
    assert [(row.line, row.code) for row in block.unfit] == [(2, "bad-encoding")]
    assert "--encoding" in block.unfit[0].reason
    broken = "id,city\nu1,東京\nu2,".encode("shift_jis") + b"\x81\xff\nu3,x\n"
    [block] = read(write(tmp_path / "b.csv", broken), options=TableOptions(encoding="Shift-JIS"))
    assert lines_of([block]) == [(2, ["u1", "東京"]), (4, ["u3", "x"])]
    assert [(row.line, row.code) for row in block.unfit] == [(3, "bad-encoding")]
    for bad in ("nosuch", "base64"):
        with pytest.raises(ConfigError, match="is not known"):
            source(latin, options=TableOptions(encoding=bad))


def test_what_is_no_table_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """UTF-16 is named with its option; other forms by what they are."""
    wide = write(tmp_path / "a.csv", "id,city\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"a\.csv is text in UTF-16: .*--encoding utf-16"):
        source(wide)
    book = write(tmp_path / "b.csv", b"PK\x03\x04rest of a workbook")
    with pytest.raises(InputError, match=r"b\.csv is a ZIP archive or an Excel workbook"):
        source(book)


def test_a_header_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A quote that never closes on line 1, returns for newlines, a first line without end."""
    for data, words in [
        (b'"external_id,plan\nu1,pro\n', "line 1: a cell that begins with a quote"),
        (b"external_id,plan\ru1,pro\ru2,pro", "line 1: a return stands alone"),
        (b"x" * 200, "too long"),
    ]:
        with pytest.raises(InputError, match=words):
            source(write(tmp_path / "a.csv", data), max_line_bytes=100)


def test_empty_tables_are_fine(tmp_path: Path) -> None:
    """Nothing at all, blank lines, or a header alone: no rows, no error."""
    for data in (b"", b"\n\r\n", b"\xef\xbb\xbf", b"external_id,plan", b"external_id,plan\n"):
        assert lines_of(read(write(tmp_path / "a.csv", data))) == []


def test_rows_that_make_no_record_travel_with_their_text(tmp_path: Path) -> None:
    """What the columns refuse has its line, its text as it lies there, and its place."""
    data = b'id,a\r\nu1,b\r\nu2\r\n"u\n3",x,y\r\n\r\nu4,"c\nd"\r\nu5,e\r\n'
    [block] = read(write(tmp_path / "a.csv", data))
    assert lines_of([block]) == [(2, ["u1", "b"]), (7, ["u4", "c\nd"]), (9, ["u5", "e"])]
    assert [(row.line, row.code, row.raw) for row in block.unfit] == [
        (3, "cells", b"u2"),
        (4, "cells", b'"u\n3",x,y'),
    ]


def test_columns_are_surveyed_over_all_files_of_a_header(tmp_path: Path) -> None:
    """Once for each header, with progress in raw bytes; a plan that is given is used."""
    first = write(tmp_path / "a.csv", TEXT)
    second = write(tmp_path / "b.csv.gz", gzip.compress(written(ROWS[:5]).encode()))
    third = write(tmp_path / "c.csv", b"id,other\nu1,x\n")
    plain = Plain()
    tables = TableSource([first, second, third], plain, plans={("id", "other"): ("id", "other")})
    told: list[int] = []
    plans = tables.plan(told.append)
    assert set(plans) == {HEADER, ("id", "other")}
    assert plain.surveyed == {HEADER: [*ROWS, *ROWS[:5]]}
    assert told == sorted(told)
    assert told[-1] == sum(size or 0 for size in tables.sizes[:2])
    assert tables.plan(lambda consumed: told.clear()) == plans
    assert told
    assert len(lines_of(list(tables.blocks()))) == len(ROWS) + 6


def test_stdin_is_planned_by_its_header_alone() -> None:
    """It can be read once only: no row is looked at before, and nothing is guessed."""
    plain = Plain()
    tables = TableSource(["-"], plain, stdin=io.BytesIO(TEXT))
    assert tables.total_bytes is None
    assert lines_of(list(tables.blocks())) == list(enumerate(ROWS, 2))
    assert plain.surveyed == {HEADER: []}
    assert plain.asked == [(False, False)]
    with pytest.raises(InputError, match="stdin has no header"):
        list(source("-", stdin=io.BytesIO(b'"a')).blocks())


def test_directories_and_globs_mean_tables_too(tmp_path: Path) -> None:
    """By their names; what a directory holds besides is told."""
    for name in ("b.csv", "a.tsv", "notes.txt", "c.csv.gz"):
        data = b"id\tplan\nu1\tpro\n"
        write(tmp_path / name, gzip.compress(data) if name.endswith(".gz") else data)
    tables = source(tmp_path)
    assert [Path(name).name for name in tables.names] == ["a.tsv", "b.csv", "c.csv.gz"]
    assert [Path(name).name for name in tables.ignored] == ["notes.txt"]
    assert len(lines_of(list(tables.blocks()))) == 3
    assert len(source(tmp_path / "*.csv*")) == 2


def test_a_start_that_begins_no_line_is_refused(tmp_path: Path) -> None:
    """The file was changed since: nothing is read from amid a row."""
    tables = source(write(tmp_path / "a.csv", TEXT))
    for offset in (len(TEXT) // 2 + 1, len(TEXT) + 5):
        tables.start_at({0: Start(offset, 9, 7)})
        with pytest.raises(InputError, match="the file was changed"):
            list(tables.blocks())


def test_rows_that_decide_nothing_are_read_once(tmp_path: Path) -> None:
    """Where all is told of the columns, no pass goes before the one that sends."""
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    told: list[int] = []

    class Decided(Plain):
        def survey(self, header: tuple[str, ...], *, guess: bool, typed: bool) -> PlainSurvey:
            survey = super().survey(header, guess=guess, typed=typed)
            survey.needed = False
            return survey

    columns = Decided()
    source = TableSource([path], columns)
    assert source.plan(told.append) == {("a", "b"): ("a", "b")}
    assert told == []
    assert columns.surveyed == {("a", "b"): []}
    assert lines_of(list(source.blocks())) == [(2, ["1", "2"])]
