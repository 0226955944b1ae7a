"""NDJSON files, plain or compressed, and stdin, read as blocks of whole lines.

This module decides that what is no NDJSON at all is refused before anything is read. It does not
know which files a command line means (`paths`), what a file is (`formats`), nor how its bytes
become text (`streams`), nor records. Everything here may block; it is driven from a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

import msgspec

from ingest.errors import InputError
from ingest.sources.base import BLOCK_BYTES, MAX_LINE_BYTES, NEWLINE, Block, Start, split_blocks
from ingest.sources.formats import conclusive, refusal
from ingest.sources.inputs import Inputs
from ingest.sources.paths import StrPath
from ingest.sources.streams import HEAD_BYTES, Broken, Stream

__all__ = ["HEAD_BYTES", "FileSource", "lines_of"]


class FileSource(Inputs):
    """The files named by paths, directories and globs, as one sequence of blocks.

    `paths`: files, directories (their `.ndjson`, `.jsonl` and `.json` files, not below), globs,
    URLs, and `-` once for stdin (`stdin` if given, else the process's own). `block_bytes` is the
    text read per block, `max_line_bytes` what one line may have. With `lists` a line may be a value
    alone: `.txt` and `.csv` of a directory are read too, and a table of one column is. Everything
    that can be known before reading is checked here: raises `InputError` or `MissingExtra` with a
    sentence that names the input.
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
        super().__init__(paths, stdin=stdin, lists=lists)
        self._lists = lists
        self._block_bytes = block_bytes
        self._max_line_bytes = max_line_bytes
        for part, size in enumerate(self.sizes):
            if size is not None:
                with self._opened(part):
                    pass

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of all inputs in order; blocks the caller, so drive it from a thread.

        Raises `InputError` if an input cannot be read to its end, after the blocks before the
        damage were handed out. Streams are opened and looked at before the first block.
        """
        with ExitStack() as stack:
            streams = {
                part: stack.enter_context(self._opened(part))
                for part, size in enumerate(self.sizes)
                if size is None
            }
            for part in range(len(self)):
                if part in streams:
                    yield from self._lines(streams[part], part)
                else:
                    yield from self.blocks_of(part)

    def blocks_of(self, part: int) -> Iterator[Block]:
        """Yield the blocks of one input. Raises `InputError` as `blocks` does."""
        with self._opened(part) as stream:
            yield from self._lines(stream, part)

    @contextmanager
    def _opened(self, part: int) -> Iterator[Stream]:
        """Open one input, and find its head fit for reading."""
        file = self.open(part)
        try:
            stream = Stream(file, self.name(part), self._block_bytes, conclusive)
            if sentence := refusal(stream.head, stream.name, lists=self._lists):
                raise InputError(sentence)
            yield stream
        finally:
            self.close(part, file)

    def _lines(self, stream: Stream, part: int) -> Iterator[Block]:
        return lines_of(stream, part, start=self.start(part), max_line_bytes=self._max_line_bytes)


def lines_of(
    stream: Stream, part: int, *, start: Start, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Block]:
    """Yield the blocks of one input from a line on. Raises `InputError` as `FileSource` does."""
    sought = start.offset > 0 and stream.seekable
    pieces = stream.pieces_from(start.offset) if sought else stream.pieces()
    offset: Callable[[int], int] = stream.offset
    line = start.line if sought else 1
    last = Block(part, b"", line, 0)
    try:
        for last in split_blocks(
            pieces, part, max_line_bytes=max_line_bytes, offset=offset, line=line
        ):
            if last.first_line >= start.line:
                yield last
            elif last.following > start.line:
                yield _later(last, start.line)
    except Broken as broken:
        read = f"Its first {last.following - 1:,} lines were read, the rest was not"
        raise stream.sentence(broken, read) from None


def _later(block: Block, line: int) -> Block:
    """Return what a block holds from one of its lines on."""
    rest = block.data.split(NEWLINE, maxsplit=line - block.first_line)[-1]
    return msgspec.structs.replace(block, data=rest, first_line=line)
