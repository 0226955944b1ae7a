"""Opened inputs: their raw bytes, and the text inside of a compression, to the very end.

This module decides whether an input is whole: what is cut off or damaged ends in a sentence, never
in a short success. It does not know what the text is, nor where it lies. Everything here may block.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, BinaryIO, Final

from ingest.errors import InputError, MissingExtra
from ingest.sources.base import Piece
from ingest.sources.formats import UTF8_BOM, compression
from ingest.sources.paths import why

HEAD_BYTES: Final = 64 * 1024
"""Text looked at, at most, to tell what a file is, if its first lines are that long."""

MAGIC_BYTES: Final = 8
"""Raw bytes that tell a compression (the longest magic number has four)."""

GZIP_FEED: Final = 64 * 1024
"""Raw bytes handed to zlib at a time; its output is bounded per call, whatever the ratio."""

ZSTD_FEED: Final = 2 * 1024
"""Raw bytes handed to zstd at a time, whose output per call cannot be bounded. Ordinary NDJSON
(1:10) gives 20 KiB; the worst there is, a block of 128 KiB in 4 bytes, gives 64 MiB."""


class Broken(Exception):
    """The input cannot be read further; the message completes a sentence that begins with it."""


class Stream:
    """The text of one input: its head, then all of it in pieces of about `size` bytes.

    `exact` says that raw offsets are offsets of the text: it is not compressed. Raises `InputError`
    or `MissingExtra` for an input whose very beginning cannot be read.
    """

    def __init__(
        self, file: BinaryIO, name: str, size: int, enough: Callable[[bytes], bool]
    ) -> None:
        """Take over `file`; as much of a head is read as `enough` asks for, or there is."""
        self.name = name
        self._file = file
        self._raw = Raw(file)
        try:
            self._begin(size, enough)
        except Broken as broken:
            raise self.sentence(broken, "Nothing of it was read") from None

    def _begin(self, size: int, enough: Callable[[bytes], bool]) -> None:
        kind = compression(self._raw.peek(), self.name)
        self.exact = kind is None
        pieces: Iterator[Piece]
        match kind:
            case "gzip":
                pieces = _gathered(_decoded(self._raw, _Gzip(size)), size)
            case "zstd":
                pieces = _gathered(_decoded(self._raw, _Zstd(self.name)), size)
            case _:
                pieces = self._raw.pieces(size)
        head = b""
        for piece in pieces:
            head += piece
            if len(head) >= HEAD_BYTES or enough(head):
                break
        self.head = head
        """The first bytes of the text, with a mark of byte order if there is one."""
        self._size = size
        self._rest = pieces

    def pieces(self, *, bom: bytes = UTF8_BOM) -> Iterator[Piece]:
        """Yield all of the text, from its head on, once; without a mark of byte order.

        Raises `Broken` where it cannot be read further, after all that came before.
        """
        return chain([self.head.removeprefix(bom)], self._rest)

    @property
    def seekable(self) -> bool:
        """Whether the text can be read from its middle."""
        return self.exact and self._file.seekable()

    def pieces_from(self, offset: int) -> Iterator[Piece]:
        """Yield the text from a raw offset on that begins a line; only for what is `seekable`.

        Raises `InputError` if there is no beginning of a line at that offset.
        """
        try:
            self._file.seek(max(0, offset - 1))
            before = self._file.read(min(offset, 1))
            # The last line may lack its newline: after it there is nothing.
            fits = before == b"\n" or not offset or (before and not self._file.read(1))
            self._file.seek(offset)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name} cannot be read from its middle: {why(error)}.") from None
        if not fits:
            raise InputError(
                f"{self.name} has no line that begins at byte {offset:,}, where an earlier run "
                "stopped: the file was changed. Start over with --fresh."
            )
        self._raw = Raw(self._file, offset)
        return self._raw.pieces(self._size)

    def seam(self, near: int) -> int:
        """Return the raw offset of a line, before `near`, with which a piece begins, but for its
        first bytes; 0 if none is found.

        Only for what is `seekable`, and for a file, whose pieces are as long as they may be.
        Nothing can be read in order any more.
        """
        end = near - (near - len(self.head)) % self._size
        start = max(0, end - self._size)
        try:
            self._file.seek(start)
            found = self._file.read(max(0, end - start)).rfind(b"\n")
        except (OSError, ValueError):
            return 0
        return start + found + 1 if found >= 0 else 0

    def offset(self, unread: int = 0) -> int:
        """Return the raw offset that lies `unread` bytes of text before what was handed out.

        Exact only if the input is; else it is where the raw bytes were read to, for progress.
        """
        return self._raw.offset - unread if self.exact else self._raw.offset

    def sentence(self, broken: Broken, read: str) -> InputError:
        """Return the error for people; `read` says how much of the input was read."""
        return InputError(
            f"{self.name} {broken} at byte {self._raw.offset:,} of the file. {read}: "
            "get the whole file and run again."
        )


class Raw:
    """The bytes of one input as they lie there; `offset` counts those handed out."""

    def __init__(self, stream: BinaryIO, offset: int = 0) -> None:
        # Reading once returns what is there: a slow pipe must not wait until a block is full.
        self._fill: Callable[[bytearray], int | None] = (
            getattr(stream, "readinto1", None) or stream.readinto  # type: ignore[attr-defined]  # raw or buffered
        )  # every binary stream has one of them, only typeshed does not say so
        self._ahead = b""
        self.offset = offset

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
            raise Broken(f"cannot be read further ({why(error)})") from None
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


def _decoded(raw: Raw, coding: _Gzip | _Zstd) -> Iterator[bytes]:
    """Yield what the members or frames hold, as it comes; raises `Broken` at the damage."""
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
            raise Broken(
                f"is damaged: its {coding.name} data cannot be decoded ({error}),"
            ) from None
        if decoder.eof:
            data, decoder = decoder.unused_data, None
        else:
            data = decoder.unconsumed_tail
        if decoded:
            yield decoded
    if decoder is not None or not members:
        raise Broken(f"is cut off: its {coding.name} data ends before its end mark,")


def _gathered(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Even out pieces to `size` bytes and less than twice that; the last may be smaller.

    What came before a damage is still yielded before `Broken` is raised.
    """
    broken: Broken | None = None
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
    except Broken as error:
        broken = error
    if ready:
        yield b"".join(ready)
    if broken is not None:
        raise broken
