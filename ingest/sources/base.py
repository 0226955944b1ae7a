"""Blocks of whole lines: what every line-based source hands over, and the law they are cut by.

This module decides where a block begins and ends, what number each line has, and which line is too
long to be held. It does no I/O and does not know files, compression or JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from ingest.proofs import Proof, Vouched
from ingest.proving import Prover
from ingest.tallies import occurrences

BLOCK_BYTES: Final = 256 * 1024
"""Bytes of text per block: enough that a hop from a thread (some 100 us, and a turn at the
interpreter) is little beside the work on it, and that work (some 1,300 records) is no longer than
the loop may be held, 2 ms."""

MAX_LINE_BYTES: Final = 4_000_000 + 65_536
"""Longest line that is held, in bytes: the largest request body of any destination (4 MB), and 64
KiB for an envelope, a dead letter's notes or generous white space around it."""

NEWLINE: Final = b"\n"


Piece = bytes | bytearray
"""Some text as it was read; a bytearray is a buffer that the next piece will overwrite."""


class Unfit(msgspec.Struct, frozen=True, gc=False):
    """A row or a message that makes no record: `raw` is its text as it lies there, perhaps cut.

    `line` is the 1-based line it begins on; `code`, `field`, `reason` and `summary` are those of a
    refusal: the summary says of any such row what the reason says of this one. `who` is an object
    of nothing but the identity in it, encoded; empty where none could be made out. `table` tells
    that it is a row of a table, which is mended in its own columns.
    """

    line: int
    code: str
    field: str
    reason: str
    raw: bytes
    summary: str = ""
    who: bytes = b""
    table: bool = False


class Start(msgspec.Struct, frozen=True, gc=False):
    """A place to go on from: what begins at byte `offset` of an input is its line `line`.

    `ordinal` is that of the record there, for whoever numbers records; a source only hands it on.
    """

    offset: int
    line: int
    ordinal: int


class Block(msgspec.Struct, frozen=True, gc=False):
    """Whole lines of one input, or one mark of a line that was too long to be held.

    `data` holds lines separated by newlines, the last newline being optional; `first_line` is the
    1-based number of the first of them. `end_offset` counts the raw (possibly compressed) bytes of
    the input consumed so far: for progress, and exact (the end of the block) where the input is
    not compressed. `oversize` holds (line, length in bytes without its newline) of lines left out;
    such a block has no data, so that the line numbers of all the others stay right.

    A table's rows come as lines of NDJSON. Where those are not numbered one by one from
    `first_line` on, `line_numbers` has the number of each in the file: the line its row begins on.
    `unfit` holds the rows that make no record; they lie between the lines, by their numbers, and
    both are in the order of the file. `next_line` is then the number of what follows the block.
    Without `resumable` no reading can begin there: a bad row has to be seen to judge the next.
    Where a table's encoder knows the objects to be good, `vouched` holds them instead of `data`.
    Where lines were proven already, `proof` says it of all of them; a whole one is instead of
    `data`, too.
    """

    part: int
    data: bytes
    first_line: int
    end_offset: int
    oversize: tuple[tuple[int, int], ...] = ()
    line_numbers: Sequence[int] | None = None
    unfit: tuple[Unfit, ...] = ()
    next_line: int = 0
    resumable: bool = True
    vouched: Vouched | None = None
    proof: Proof | None = None

    def numbers(self) -> Sequence[int]:
        """Return the number in the file of each of `lines`."""
        if self.line_numbers is not None:
            return self.line_numbers
        return range(self.first_line, self.first_line + _count_lines(self.data))

    @property
    def following(self) -> int:
        """The 1-based number of the line that follows the block, where `end_offset` leads to."""
        if self.next_line:
            return self.next_line
        return self.first_line + _count_lines(self.data) + len(self.oversize)

    def proven(self, prover: Prover) -> Block:
        """Return the same with what is proven of its lines; as it is where there are none.

        Whoever cut the block need not count its lines again: it says what follows from now on.
        """
        if self.vouched is not None or not self.data:
            return self
        text = self.data
        proof = prover.prove(self.lines()) if b"\r" in text else prover.prove_text(text)
        numbers = self.line_numbers or range(self.first_line, self.first_line + len(proof))
        following = self.next_line or self.first_line + len(proof) + len(self.oversize)
        msgspec.structs.force_setattr(self, "next_line", following)
        return msgspec.structs.replace(
            self,
            data=b"" if proof.whole else text,
            line_numbers=numbers,
            next_line=following,
            proof=proof,
        )

    def lines(self) -> list[bytes]:
        """Return the lines without their ends (LF or CRLF); blank lines keep their place."""
        if self.vouched is not None:
            return self.vouched.lines()
        lines = self.data.split(NEWLINE)
        if not lines[-1]:
            lines.pop()
        if b"\r" in self.data:
            lines = [line.removesuffix(b"\r") for line in lines]
        return lines


def _count_lines(data: bytes) -> int:
    return occurrences(data, NEWLINE) + bool(data and not data.endswith(NEWLINE))


class BlockSource(Protocol):
    """A source of lines; every call may block, and none needs a loop."""

    @property
    def total_bytes(self) -> int | None:
        """Raw bytes of all inputs together, None where that cannot be known."""
        ...

    def name(self, part: int) -> str:
        """Return what people call the input."""
        ...

    def blocks(self) -> Iterator[Block]:
        """Yield every block of every input, in order. Raises `InputError`."""
        ...


def split_blocks(
    pieces: Iterable[Piece],
    part: int,
    *,
    max_line_bytes: int = MAX_LINE_BYTES,
    offset: Callable[[int], int] = lambda unread: 0,
    line: int = 1,
) -> Iterator[Block]:
    """Cut text that arrives in pieces of any size into blocks of whole lines.

    Each block ends at the last newline known so far; the line begun after it is carried over, up to
    `max_line_bytes` (without its newline), beyond which its bytes are counted and let go. The
    blocks' data, joined, is the text without those lines. `offset(unread)` is asked for the raw
    offset that lies `unread` bytes of text before the end of the current piece. `line` is the
    number of the first line.
    """
    begun: list[Piece] = []  # the line whose end has not come yet
    length = 0  # of that line so far; `begun` is empty once it is too long
    for piece in pieces:
        size = len(piece)
        # A window is never longer than a line may be: only the line carried into it can be too
        # long, and no line inside it has to be measured.
        for window in range(0, size, max_line_bytes):
            start, stop = window, min(window + max_line_bytes, size)
            if length + stop - start > max_line_bytes:
                end = piece.find(NEWLINE, start, stop)
                if end >= 0 and length + end - start > max_line_bytes:
                    mark = (line, length + end - start)
                    yield Block(part, b"", line, offset(size - end - 1), (mark,))
                    begun, length, line, start = [], 0, line + 1, end + 1
            cut = piece.rfind(NEWLINE, start, stop) + 1
            if cut:
                data = b"".join((*begun, memoryview(piece)[start:cut]))  # copied once
                yield (block := Block(part, data, line, offset(size - cut)))
                begun, length, start = [], 0, cut
                line = block.following
            if start < stop:
                length += stop - start
                if length > max_line_bytes:
                    begun = []
                else:
                    begun.append(piece[start:stop])
    if length > max_line_bytes:
        yield Block(part, b"", line, offset(0), ((line, length),))
    elif length:
        yield Block(part, b"".join(begun), line, offset(0))
