"""Files are read whole or end in a sentence: plain, compressed, piped, cut off and damaged."""

from __future__ import annotations

import gzip
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import InputError, MissingExtra
from ingest.sources.base import Block, Start
from ingest.sources.files import FileSource
from ingest.sources.formats import UTF8_BOM

LINES = [b'{"external_id": "u%d"}' % number for number in range(50_000)]
TEXT = b"".join(line + b"\n" for line in LINES)


def zstd(data: bytes) -> bytes:
    """Compress to one frame."""
    return zstandard.ZstdCompressor().compress(data)


SKIPPABLE = b"\x52\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"

CODINGS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstd}


def read(*paths: object, **options: object) -> list[Block]:
    """Read all blocks of some files."""
    return list(FileSource(list(paths), **options).blocks())  # type: ignore[arg-type]  # any test's


def text_of(blocks: list[Block]) -> bytes:
    """Join what was read."""
    return b"".join(block.data for block in blocks)


def write(path: Path, data: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(data)
    return path


def test_a_plain_file_comes_in_blocks_of_whole_lines(tmp_path: Path) -> None:
    """Blocks are about as large as asked for, numbered on, and their offsets are their ends."""
    source = FileSource([write(tmp_path / "a.ndjson", TEXT)], block_bytes=64 * 1024)
    end, line = 0, 1
    for block in source.blocks():
        assert len(block.data) <= 2 * 64 * 1024
        assert TEXT[end : block.end_offset] == block.data
        assert block.first_line == line
        end, line = block.end_offset, line + len(block.lines())
    assert (end, line) == (len(TEXT), len(LINES) + 1)


@given(
    data=st.lists(st.sampled_from([*LINES[:9], b"", b"\x00\xff", b"x" * 70])),
    size=st.integers(1, 99),
)
def test_any_file_reads_as_its_lines(
    tmp_path_factory: pytest.TempPathFactory, data: list[bytes], size: int
) -> None:
    """With blocks of any size, plain or compressed, the lines are the file's lines."""
    text = b"{}\n" + b"\n".join(data)
    directory = tmp_path_factory.mktemp("any")
    files = [write(directory / "a.json", text)]
    files += [write(directory / f"a.json{end}", pack(text)) for end, pack in CODINGS.items()]
    for file in files:
        assert text_of(read(file, block_bytes=size)) == text


@pytest.mark.parametrize("ending", CODINGS)
def test_compressed_members_one_after_another_are_one_text(tmp_path: Path, ending: str) -> None:
    """Files that were compressed piece by piece and joined are read to the end, by any name."""
    pack = CODINGS[ending]
    data = b"".join(pack(TEXT[at : at + 70_001]) for at in range(0, len(TEXT), 70_001))
    for name in (f"a.ndjson{ending}", "a.ndjson"):
        source = FileSource([write(tmp_path / name, data)])
        blocks = list(source.blocks())
        assert text_of(blocks) == TEXT
        assert blocks[-1].end_offset == len(data) == source.total_bytes


def test_gzip_padding_and_zstd_frames_to_skip_hold_no_text(tmp_path: Path) -> None:
    """Zeros after a gzip member (tapes) and skippable frames (parallel zstd) are passed over."""
    padded = gzip.compress(TEXT) + bytes(100_000) + gzip.compress(b"{}\n") + bytes(512)
    assert text_of(read(write(tmp_path / "a.gz", padded))) == TEXT + b"{}\n"
    framed = SKIPPABLE + zstd(TEXT) + SKIPPABLE + zstd(b"{}\n") + SKIPPABLE
    assert text_of(read(write(tmp_path / "a.zst", framed))) == TEXT + b"{}\n"


@pytest.mark.parametrize("ending", CODINGS)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_off_file_never_passes_as_whole(
    tmp_path_factory: pytest.TempPathFactory, ending: str, share: float
) -> None:
    """Wherever it was cut, the error names file, offset and line, and no half line was given."""
    data = CODINGS[ending](TEXT)
    cut = data[: int(len(data) * share)]
    file = write(tmp_path_factory.mktemp("cut") / f"a.ndjson{ending}", cut)
    blocks: list[Block] = []
    with pytest.raises(InputError, match=r"a.ndjson\.\w+ is cut off: .* at byte [\d,]+ of") as told:
        blocks.extend(FileSource([file]).blocks())
    assert TEXT.startswith(text_of(blocks))
    assert f"at byte {len(cut):,} of" in str(told.value)


@pytest.mark.parametrize("ending", CODINGS)
def test_a_cut_off_file_gives_its_whole_lines_first(tmp_path: Path, ending: str) -> None:
    """What came before the cut is read, whole lines only, and the error says how many."""
    data = CODINGS[ending](TEXT)
    blocks: list[Block] = []
    source = FileSource([write(tmp_path / f"a{ending}", data[:-40])], block_bytes=10_000)
    with pytest.raises(InputError) as told:
        blocks.extend(source.blocks())
    assert TEXT.startswith(text_of(blocks))
    lines = sum(len(block.lines()) for block in blocks)
    assert lines > 1_000
    assert f"Its first {lines:,} lines were read" in str(told.value)


@pytest.mark.parametrize("ending", CODINGS)
def test_a_damaged_file_ends_in_a_sentence(tmp_path: Path, ending: str) -> None:
    """A flipped byte, garbage after the end, or another format by that name: an error each."""
    data = CODINGS[ending](TEXT)
    half = len(data) // 2
    flipped = data[:half] + bytes(40) + data[half + 40 :]
    for bad in (flipped, data + b"garbage after it", b"no such magic"):
        with pytest.raises(InputError, match=r"is (damaged|cut off): its (gzip|zstd) data"):
            read(write(tmp_path / f"a{ending}", bad))


def test_what_is_wrong_from_the_start_is_said_at_the_start(tmp_path: Path) -> None:
    """Files that cannot be read at all are refused before the first of them is read."""
    good = write(tmp_path / "a.ndjson", TEXT)
    bad = write(tmp_path / "b.ndjson.gz", b"")
    with pytest.raises(InputError, match=r"b\.ndjson\.gz is cut off.*Nothing of it was read"):
        FileSource([good, bad])
    table = write(tmp_path / "c.csv", b"external_id,plan\nu1,pro\n")
    with pytest.raises(InputError, match=r"c\.csv is a CSV table"):
        FileSource([good, table])
    packed = write(tmp_path / "d.gz", gzip.compress(b"PAR1\x00\x00"))
    with pytest.raises(InputError, match=r"d\.gz is a Parquet file"):
        FileSource([good, packed])


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """The system's reason is in the sentence (here: a socket is no file)."""
    path = str(tmp_path / "s.ndjson")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        with pytest.raises(InputError, match=r"s\.ndjson cannot be opened: No such device"):
            read(path)


def test_a_mark_of_byte_order_goes_from_every_file(tmp_path: Path) -> None:
    """Exports of spreadsheets begin with one; it is no part of the first line."""
    files = [write(tmp_path / f"{name}.json", UTF8_BOM + b"{}\n" + UTF8_BOM) for name in "ab"]
    assert [block.data for block in read(*files)] == [b"{}\n", UTF8_BOM] * 2
    assert text_of(read(write(tmp_path / "c.gz", gzip.compress(UTF8_BOM + b"{}")))) == b"{}"


def test_crlf_blank_lines_and_no_final_newline(tmp_path: Path) -> None:
    """Line ends of any system are ends only, and the last line needs none."""
    [block, last] = read(write(tmp_path / "a.json", b"{}\r\n\r\n\n{}\r\n{}"))
    assert block.lines() + last.lines() == [b"{}", b"", b"", b"{}", b"{}"]
    assert (block.first_line, last.first_line) == (1, 5)


def test_empty_files_are_fine(tmp_path: Path) -> None:
    """Nothing, a mark of byte order alone, or an empty gzip member: no blocks, no error."""
    empty = [b"", UTF8_BOM, gzip.compress(b""), zstd(b"")]
    files = [write(tmp_path / f"{number}.json", data) for number, data in enumerate(empty)]
    assert read(*files) == []


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_lines_too_long_are_marked_wherever_they_are(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    """First, amid and last: their neighbours keep their numbers, and their lengths are told."""
    long = b'{"a": "%s"}' % (b"x" * 300_000)
    text = b"\n".join([long, b'{"b": 1}', b"", long, long, b'{"c": 1}', long])
    blocks = read(write(tmp_path / "a.json", pack(text)), max_line_bytes=100_000)
    marks = [mark for block in blocks for mark in block.oversize]
    assert marks == [(line, len(long)) for line in (1, 4, 5, 7)]
    lines = [
        (block.first_line + at, line) for block in blocks for at, line in enumerate(block.lines())
    ]
    assert lines == [(2, b'{"b": 1}'), (3, b""), (6, b'{"c": 1}')]


def test_several_inputs_are_parts_in_order(tmp_path: Path) -> None:
    """Parts are numbered and named as given; progress counts raw bytes over all of them."""
    first = write(tmp_path / "a.ndjson", TEXT)
    second = write(tmp_path / "b.ndjson.gz", gzip.compress(TEXT))
    source = FileSource([str(second), first])
    blocks = list(source.blocks())
    assert source.names == (str(second), str(first))
    assert len(source) == 2
    assert [block.part for block in blocks] == sorted(block.part for block in blocks)
    assert source.consumed(blocks[-1]) == source.total_bytes
    consumed = list(map(source.consumed, blocks))
    assert consumed == sorted(consumed)


def test_stdin_is_read_to_its_end_and_left_open(tmp_path: Path) -> None:
    """`-` reads what is handed in, compressed or not, is called stdin, and has no size."""
    for data in (TEXT, gzip.compress(TEXT)):
        stdin = io.BytesIO(data)
        source = FileSource(["-"], stdin=stdin)
        assert text_of(list(source.blocks())) == TEXT
        assert source.name(0) == "stdin"
        assert source.total_bytes is None
        assert not stdin.closed


def test_the_process_stdin_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a stream handed in it is the process's own; a closed one is an error in words."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{}\n")))
    assert text_of(read("-")) == b"{}\n"
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match=r"stdin cannot be opened: it is closed\."):
        read("-")


def test_a_stdin_that_says_nothing_does_not_keep_the_process(tmp_path: Path) -> None:
    """Interrupted while a thread waits for stdin, the command ends by itself, and says why."""
    letters = tmp_path / "letters.ndjson"
    command = ("import", "-", "--to", f"file:{tmp_path / 'out'}", "--dead-letters", str(letters))
    with subprocess.Popen(
        [sys.executable, "-m", "ingest", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.write(b'{"event":{"name":"nobody"}}\n')
            process.stdin.flush()
            until = time.monotonic() + 60
            while not letters.exists() and process.poll() is None and time.monotonic() < until:
                threading.Event().wait(0.02)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert b"Fatal Python error" not in process.stderr.read()
        finally:
            process.kill()


def test_stdin_is_read_without_a_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's own stdin is read by its number, and left open."""
    with open(write(tmp_path / "in", TEXT)) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert text_of(read("-")) == TEXT
        os.fstat(stdin.fileno())


def test_a_stream_is_refused_before_the_first_block_of_any_input(tmp_path: Path) -> None:
    """Stdin that is a table stops the run before the files named before it are sent."""
    source = FileSource(
        [write(tmp_path / "a.ndjson", TEXT), "-"], stdin=io.BytesIO(b"email,plan\na@b.c,pro\n")
    )
    with pytest.raises(InputError, match="stdin is a CSV table"):
        next(source.blocks())


def test_a_pipe_gives_lines_as_they_come(tmp_path: Path) -> None:
    """A slow producer's line is a block at once; nothing waits until a block is full."""
    path = tmp_path / "pipe.ndjson"
    os.mkfifo(path)
    source = FileSource([path])
    heard = threading.Event()

    def produce() -> None:
        with open(path, "wb", buffering=0) as pipe:
            pipe.write(b'{"a": 1}\n')
            assert heard.wait(timeout=30)
            pipe.write(b'{"a": 2}\n')

    producer = threading.Thread(target=produce)
    producer.start()
    blocks = source.blocks()
    assert next(blocks).data == b'{"a": 1}\n'
    heard.set()
    assert [block.data for block in blocks] == [b'{"a": 2}\n']
    producer.join()


def test_a_stream_that_breaks_ends_in_a_sentence() -> None:
    """An error of the system amid the reading says where; the half line is not given out."""

    class Breaking(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            if data := super().read1(7):
                return data
            raise OSError(5, "Input/output error")

    blocks = FileSource(["-"], stdin=Breaking(b'{"a":1}\n{"b":')).blocks()
    assert next(blocks).data == b'{"a":1}\n'
    with pytest.raises(InputError, match=r"stdin cannot be read further \(Input/output error\)"):
        next(blocks)


def test_zstd_without_its_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library alone has no zstd; the error says what to install."""
    file = write(tmp_path / "a.ndjson.zst", zstd(TEXT))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtra, match=r"a\.ndjson\.zst needs .*ingestline\[cli\]"):
        FileSource([file])


def test_zstd_of_a_very_repetitive_text_comes_in_small_blocks(tmp_path: Path) -> None:
    """At 1:10,000 the output of one call is large; blocks are not."""
    file = write(tmp_path / "a.zst", zstd(b'{"a":1}\n' * 2_000_000))
    source = FileSource([file], block_bytes=64 * 1024)
    sizes = [len(block.data) for block in source.blocks()]
    assert sum(sizes) == 16_000_000
    assert max(sizes) < 3 * 64 * 1024


def test_leaving_off_early_closes_the_file(tmp_path: Path) -> None:
    """A generator that is closed amid a file leaves no descriptor behind (warnings are errors)."""
    blocks = FileSource([write(tmp_path / "a.ndjson", TEXT)]).blocks()
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]  # it is a generator


@pytest.mark.parametrize("ending", ["", *CODINGS])
@given(at=st.integers(0, 40))
def test_reading_goes_on_at_a_start(
    tmp_path_factory: pytest.TempPathFactory, ending: str, at: int
) -> None:
    """A plain file is sought in, a compressed one read again; lines keep their numbers."""
    long = b"x" * 700
    text = b"{}\r\n" + b"\n".join([*LINES[:400], long, b"", *LINES[:9]])
    pack = CODINGS.get(ending, bytes)
    file = write(tmp_path_factory.mktemp("start") / f"a.json{ending}", pack(text))
    blocks = read(file, block_bytes=500, max_line_bytes=600)
    cut = min(at, len(blocks) - 1)
    source = FileSource([file], block_bytes=333, max_line_bytes=600)
    source.start_at({0: Start(blocks[cut].end_offset, blocks[cut].following, 7)})
    again = list(source.blocks())
    assert text_of(again) == text_of(blocks[cut + 1 :])
    assert numbers_of(again) == numbers_of(blocks[cut + 1 :])


def numbers_of(blocks: list[Block]) -> list[int]:
    """The numbers of all lines, those of lines too long among them."""
    return sorted(
        [number for block in blocks for number in block.numbers()]
        + [line for block in blocks for line, _ in block.oversize]
    )


def test_a_start_that_begins_no_line_is_refused(tmp_path: Path) -> None:
    """Nothing is read from amid a line, nor behind the end: the file was changed."""
    source = FileSource([write(tmp_path / "a.json", TEXT)])
    for offset in (7, len(TEXT) + 1):
        source.start_at({0: Start(offset, 2, 1)})
        with pytest.raises(InputError, match=r"a\.json has no line .*the file was changed"):
            list(source.blocks())
