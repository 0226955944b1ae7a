"""Laws of cutting text into blocks: nothing lost, nothing added, every line under its number."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import chain, cycle, pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingest.proving import Prover
from ingest.sources.base import Block, split_blocks

TEXTS = st.lists(st.sampled_from([b"\n", b"a", b"{}", b"\r\n", b"\x00\xff", b"long" * 5])).map(
    b"".join
)


@st.composite
def pieces_of_text(draw: st.DrawFn) -> list[bytes]:
    """Some text, cut anywhere."""
    text = draw(TEXTS)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)))))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def numbered(text: bytes) -> list[tuple[int, bytes]]:
    """What the lines of a text are, said in the plainest way."""
    lines = text.split(b"\n")
    return list(enumerate(lines if lines[-1] else lines[:-1], 1))


PROVABLE = st.lists(
    st.sampled_from(
        [
            b'{"attributes":{"external_id":"%b"}}' % name
            for name in (b"a", b"b", b"\xff", b"\xc3\xa9")
        ]
        + [b"", b"{}", b'{"event":1}']
    ),
    min_size=1,
)


@given(PROVABLE, st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_a_block_is_proven_as_its_lines_are(texts: list[bytes], end: bytes, last: bool) -> None:
    """However they end, and whether the last one does."""
    block = Block(0, end.join(texts) + end * last, 7, 0)
    if not block.data:
        return
    prover = Prover(None, largest=4_000_000, update_existing_only=False)
    proof, known = prover.prove(block.lines()), block.proven(prover)
    assert known.proof is not None
    assert len(known.proof) == len(proof) == len(block.numbers())
    assert (known.proof.slots, known.proof.whole) == (proof.slots, proof.whole)
    assert list(known.numbers()) == list(block.numbers())
    assert known.following == block.following
    assert known.data == (b"" if proof.whole else block.data)


@given(PROVABLE, st.lists(st.integers(0, 600)), st.lists(st.booleans(), min_size=1))
def test_a_source_goes_on_where_a_proof_ends(
    texts: list[bytes], cuts: list[int], proven: list[bool]
) -> None:
    """Whether a block is proven before the next one is asked for changes nothing of that."""
    text = b"\n".join(texts)
    at = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[start:stop] for start, stop in pairwise(at)]
    prover = Prover(None, largest=4_000_000, update_existing_only=False)
    numbers: list[int] = []
    for block, prove in zip(split_blocks(pieces, 0), cycle(proven), strict=False):
        known = block.proven(prover) if prove else block
        numbers += known.numbers()
        assert known.following == block.following == numbers[-1] + 1
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == len(numbered(text))


@given(pieces_of_text(), st.integers(1, 40))
def test_every_line_keeps_its_bytes_and_its_number(pieces: list[bytes], longest: int) -> None:
    """However text arrives, its lines come out under their numbers, those too long as marks."""
    text = b"".join(pieces)
    lines: list[tuple[int, bytes]] = []
    marks: list[tuple[int, int]] = []
    for block in split_blocks(pieces, 3, max_line_bytes=longest):
        assert block.part == 3
        assert bool(block.data) != bool(block.oversize)
        lines += [(block.first_line + at - 1, line) for at, line in numbered(block.data)]
        marks += block.oversize
        assert all(line == block.first_line for line, _ in block.oversize)
    expected = numbered(text)
    assert lines == [(n, line) for n, line in expected if len(line) <= longest]
    assert marks == [(n, len(line)) for n, line in expected if len(line) > longest]


@given(pieces_of_text())
def test_the_data_of_all_blocks_joined_is_the_text(pieces: list[bytes]) -> None:
    """Without lines that are too long nothing is taken away, and no block is cut in a line."""
    blocks = list(split_blocks(pieces, 0))
    assert b"".join(block.data for block in blocks) == b"".join(pieces)
    assert all(block.data.endswith(b"\n") for block in blocks[:-1])


@given(pieces_of_text(), st.integers(1, 40))
def test_offsets_are_the_ends_of_the_blocks(pieces: list[bytes], longest: int) -> None:
    """A block's offset is where its last line ends in the text, so that a seek there goes on."""
    text = b"".join(pieces)
    read = 0

    def counted() -> Iterator[bytes]:
        nonlocal read
        for piece in pieces:
            read += len(piece)
            yield piece

    start = 0
    for block in split_blocks(
        counted(), 0, max_line_bytes=longest, offset=lambda unread: read - unread
    ):
        told = text[start : block.end_offset]
        assert told == block.data or [len(told.removesuffix(b"\n"))] == [
            length for _, length in block.oversize
        ]
        start = block.end_offset
    assert start == len(text)


def test_lines_lose_their_ends_and_nothing_else() -> None:
    """CRLF is as good as LF, a return inside a line stays, blank lines keep their place."""
    block = Block(0, b"a\r\n\r\n\nb\rc\r\r\nlast", 1, 0)
    assert block.lines() == [b"a", b"", b"", b"b\rc\r", b"last"]


def test_a_final_newline_ends_a_line_and_begins_none() -> None:
    """A block that ends with a newline has no empty line after it; a mark has no lines at all."""
    assert Block(0, b"a\n", 1, 0).lines() == [b"a"]
    assert Block(0, b"\n", 1, 0).lines() == [b""]
    assert Block(0, b"", 7, 0, ((7, 99),)).lines() == []


def test_a_line_too_long_is_not_held() -> None:
    """Of a line of 100 MB no more is kept than a line may have, and its neighbours are whole."""
    endless = chain([b"a\n"], (bytes(100_000) for _ in range(1_000)), [b"\nb"])
    tracemalloc.start()
    try:
        blocks = list(split_blocks(endless, 0, max_line_bytes=300_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [(block.first_line, block.data, block.oversize) for block in blocks] == [
        (1, b"a\n", ()),
        (2, b"", ((2, 100_000_000),)),
        (3, b"b", ()),
    ]
    assert peak < 1_000_000


def test_lines_are_numbered_by_the_block_where_it_says_so() -> None:
    """Else one by one from the first; what follows the block has the next number."""
    plain = Block(0, b"a\nb", 7, 0)
    assert list(plain.numbers()) == [7, 8]
    assert (plain.following, Block(0, b"a\n", 7, 0).following) == (9, 8)
    assert Block(0, b"", 7, 0, ((7, 99),)).following == 8
    table = Block(0, b"a\nb", 7, 0, line_numbers=(7, 10), next_line=15)
    assert list(table.numbers()) == [7, 10]
    assert table.following == 15
