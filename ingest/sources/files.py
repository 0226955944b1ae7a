"""NDJSON files, plain or compressed, and stdin, read as blocks of whole lines.

This module decides whether an input can be read to its very end: what is cut off or damaged ends in
a sentence, never in a short success. It does not know which files a command line means (`paths`),
nor what a file is (`formats`), nor records. Everything here may block; it is driven from a thread.
"""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import accumulate, chain
from typing import Any, BinaryIO, Final

from ingest.errors import InputError, MissingExtra
from ingest.sources.base import BLOCK_BYTES, MAX_LINE_BYTES, Block, Piece, split_blocks
from ingest.sources.formats import UTF8_BOM, compression, conclusive, refusal
from ingest.sources.paths import STDIN, StrPath, expand, raw_size, why

HEAD_BYTES: Final = 64 * 1024
"""Text looked at, at most, to tell what a file is, if its first lines are that long."""

MAGIC_BYTES: Final = 8
"""Raw bytes that tell a compression (the longest magic number has four)."""

GZIP_FEED: Final = 64 * 1024
"""Raw bytes handed to zlib at a time; its output is bounded per call, whatever the ratio."""

ZSTD_FEED: Final = 2 * 1024
"""Raw bytes handed to zstd at a time, whose output per call cannot be bounded. Ordinary NDJSON
(1:10) gives 20 KiB; the worst there is, a block of 128 KiB in 4 bytes, gives 64 MiB."""


class _Broken(Exception):
    """The input cannot be read further; the message completes a sentence that begins with it."""


class FileSource:
    """The files named by paths, directories and globs, as one sequence of blocks.

    `paths`: files, directories (their `.ndjson`, `.jsonl` and `.json` files, not below), globs, and
    `-` once for stdin (`stdin` if given, else the process's own). `block_bytes` is the text read
    per block, `max_line_bytes` what one line may have. With `lists` a line may be a value alone:
    `.txt` and `.csv` of a directory are read too, and a table of one column is. Everything that can
    be known before reading is checked here: raises `InputError` or `MissingExtra` with a sentence
    that names the input.
    """

    def __init__(
        self,
        paths: Sequence[StrPath],
        *,
        stdin: BinaryIO | None = None,
        lists: bool = False,
        block_bytes: int = BLOCK_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self._stdin = stdin
        self._lists = lists
        self._block_bytes = block_bytes
        self._max_line_bytes = max_line_bytes
        self._paths, self.ignored = expand(paths, lists=lists)
        """`ignored`: what the given directories hold besides NDJSON files, by their names."""
        self.sizes = tuple(map(raw_size, self._paths))
        """Raw bytes of each input, None for a stream (stdin, a pipe)."""
        self._before = tuple(accumulate((size or 0 for size in self.sizes), initial=0))
        for part, size in enumerate(self.sizes):
            if size is not None:
                with _Input(self, part):
                    pass

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def names(self) -> tuple[str, ...]:
        """What the inputs are called in reports, by part."""
        return tuple(map(self.name, range(len(self))))

    @property
    def total_bytes(self) -> int | None:
        """Raw bytes of all inputs together, None if one of them is a stream."""
        return None if None in self.sizes else self._before[-1]

    def name(self, part: int) -> str:
        """Return the path as it was given, or `stdin`."""
        path = self._paths[part]
        return "stdin" if path == STDIN else path

    def consumed(self, block: Block) -> int:
        """Return the raw bytes of all inputs read up to and with this block, for progress."""
        return self._before[block.part] + block.end_offset

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of all inputs in order; blocks the caller, so drive it from a thread.

        Raises `InputError` if an input cannot be read to its end, after the blocks before the
        damage were handed out. Streams are opened and looked at before the first block.
        """
        with ExitStack() as stack:
            streams = {
                part: stack.enter_context(_Input(self, part))
                for part, size in enumerate(self.sizes)
                if size is None
            }
            for part in range(len(self)):
                with streams.get(part) or _Input(self, part) as opened:
                    yield from opened.blocks()

    def _open(self, part: int) -> BinaryIO:
        path = self._paths[part]
        if path != STDIN:
            return open(path, "rb", buffering=0)
        return _process_stdin() if self._stdin is None else self._stdin


def _process_stdin() -> BinaryIO:
    """Return stdin without a buffer: a thread that waits for it would hold the buffer's lock.

    The interpreter cannot end then, and aborts. Raises `ValueError` if stdin is closed.
    """
    if sys.stdin is None:
        raise ValueError("it is closed")
    try:
        fd = sys.stdin.fileno()
    except io.UnsupportedOperation:  # something else was put in its place
        return sys.stdin.buffer
    return open(fd, "rb", buffering=0, closefd=False)


class _Input:
    """One opened input whose head was found to be fit for reading."""

    def __init__(self, source: FileSource, part: int) -> None:
        self._source = source
        self._part = part
        self._name = source.name(part)
        try:
            self._stream = source._open(part)
        except (OSError, ValueError) as error:
            raise InputError(f"{self._name} cannot be opened: {why(error)}.") from None
        try:
            self._raw = _Raw(self._stream)
            self._look()
        except _Broken as broken:
            self.close()
            raise self._sentence(broken, "Nothing of it was read") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> _Input:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        if self._source._paths[self._part] != STDIN:
            self._stream.close()

    def _look(self) -> None:
        """Find the compression, read the head, and refuse what is not NDJSON."""
        kind = compression(self._raw.peek(), self._name)
        self._exact = kind is None
        size = self._source._block_bytes
        pieces: Iterator[Piece]
        match kind:
            case "gzip":
                pieces = _gathered(_decoded(self._raw, _Gzip(size)), size)
            case "zstd":
                pieces = _gathered(_decoded(self._raw, _Zstd(self._name)), size)
            case _:
                pieces = self._raw.pieces(size)
        head = b""
        for piece in pieces:
            head += piece
            if len(head) >= HEAD_BYTES or conclusive(head):
                break
        if sentence := refusal(head, self._name, lists=self._source._lists):
            raise InputError(sentence)
        self._pieces = chain([head.removeprefix(UTF8_BOM)], pieces)

    def blocks(self) -> Iterator[Block]:
        offset: Callable[[int], int] = (
            (lambda unread: self._raw.offset - unread)
            if self._exact
            else (lambda unread: self._raw.offset)
        )
        last = Block(self._part, b"", 1, 0)
        try:
            for last in split_blocks(
                self._pieces,
                self._part,
                max_line_bytes=self._source._max_line_bytes,
                offset=offset,
            ):
                yield last
        except _Broken as broken:
            lines = last.first_line - 1 + last.data.count(b"\n") + len(last.oversize)
            read = f"Its first {lines:,} lines were read, the rest was not"
            raise self._sentence(broken, read) from None

    def _sentence(self, broken: _Broken, read: str) -> InputError:
        return InputError(
            f"{self._name} {broken} at byte {self._raw.offset:,} of the file. {read}: "
            "get the whole file and run again."
        )


class _Raw:
    """The bytes of one input as they lie there; `offset` counts those handed out."""

    def __init__(self, stream: BinaryIO) -> None:
        # Reading once returns what is there: a slow pipe must not wait until a block is full.
        self._fill: Callable[[bytearray], int | None] = (
            getattr(stream, "readinto1", None) or stream.readinto  # type: ignore[attr-defined]  # raw or buffered
        )  # every binary stream has one of them, only typeshed does not say so
        self._ahead = b""
        self.offset = 0

    def peek(self) -> bytes:
        """Return the first bytes without handing them out: eight or more, fewer only at the end."""
        while len(self._ahead) < MAGIC_BYTES and (data := self._next(bytearray(ZSTD_FEED))):
            self._ahead += data
        return self._ahead

    def read(self, size: int) -> bytes:
        """Return at least one byte and about `size` at most; none at the end."""
        return bytes(self._take(bytearray(size)))

    def pieces(self, size: int) -> Iterator[Piece]:
        """Yield all that is left, `size` bytes at a time, in a buffer that is used again."""
        buffer = bytearray(size)
        while piece := self._take(buffer):
            yield piece

    def _take(self, buffer: bytearray) -> Piece:
        data, self._ahead = self._ahead or self._next(buffer), b""
        self.offset += len(data)
        return data

    def _next(self, buffer: bytearray) -> Piece:
        try:
            size = self._fill(buffer) or 0
        except (OSError, ValueError) as error:
            raise _Broken(f"cannot be read further ({why(error)})") from None
        return buffer if size == len(buffer) else bytes(memoryview(buffer)[:size])


class _Gzip:
    """gzip: members one after another, with zeros between or after them allowed as padding."""

    name = "gzip"
    feed = GZIP_FEED
    errors: type[Exception] = zlib.error

    def __init__(self, max_output: int) -> None:
        self._max_output = max_output

    def start(self) -> Any:
        """Return a decoder of one member."""
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def skip(self, data: bytes) -> bytes:
        """Drop the padding before a member."""
        return data.lstrip(b"\0")

    def decode(self, decoder: Any, data: bytes) -> bytes:
        """Return what one call gives; what it did not take is in `decoder.unconsumed_tail`."""
        decoded: bytes = decoder.decompress(data, self._max_output)
        return decoded


class _Zstd:
    """Zstandard: frames one after another; those to be skipped decode to nothing."""

    name = "zstd"
    feed = ZSTD_FEED

    def __init__(self, file: str) -> None:
        try:
            import zstandard
        except ImportError:
            raise MissingExtra(f"Reading {file}", "cli") from None
        self.errors: type[Exception] = zstandard.ZstdError
        self._context = zstandard.ZstdDecompressor()

    def start(self) -> Any:
        """Return a decoder of one frame."""
        return self._context.decompressobj()

    def skip(self, data: bytes) -> bytes:
        """Drop nothing: frames have no padding."""
        return data

    def decode(self, decoder: Any, data: bytes) -> bytes:
        """Return all that `data` decodes to."""
        decoded: bytes = decoder.decompress(data)
        return decoded


def _decoded(raw: _Raw, coding: _Gzip | _Zstd) -> Iterator[bytes]:
    """Yield what the members or frames hold, as it comes; raises `_Broken` at the damage."""
    decoder: Any = None
    members = 0
    data = b""
    while data := data or raw.read(coding.feed):
        if decoder is None:
            data = coding.skip(data) if members else data
            if not data:
                continue
            decoder = coding.start()
            members += 1
        try:
            decoded = coding.decode(decoder, data)
        except coding.errors as error:
            raise _Broken(
                f"is damaged: its {coding.name} data cannot be decoded ({error}),"
            ) from None
        if decoder.eof:
            data, decoder = decoder.unused_data, None
        else:
            data = decoder.unconsumed_tail
        if decoded:
            yield decoded
    if decoder is not None or not members:
        raise _Broken(f"is cut off: its {coding.name} data ends before its end mark,")


def _gathered(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Even out pieces to `size` bytes and less than twice that; the last may be smaller.

    What came before a damage is still yielded before `_Broken` is raised.
    """
    broken: _Broken | None = None
    ready: list[bytes] = []
    held = 0
    try:
        for piece in pieces:
            ready.append(piece)
            held += len(piece)
            if held >= size:
                text, start = b"".join(ready), 0
                while held >= 2 * size:
                    yield text[start : start + size]
                    start, held = start + size, held - size
                yield text[start:]
                ready, held = [], 0
    except _Broken as error:
        broken = error
    if ready:
        yield b"".join(ready)
    if broken is not None:
        raise broken
