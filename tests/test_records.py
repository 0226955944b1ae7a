"""Laws of the values that flow: positions sort like pairs, columns and batches come apart again."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.records import (
    EMPTY_COLUMN,
    NOTHING,
    PART_SHIFT,
    Batch,
    Chunk,
    Column,
    Joined,
    UserKey,
    bounds_of,
    ordinal_of,
    part_of,
    position,
    size_of,
)
from tests.batches import batch_of, positions_of, rows_strategy

pairs = st.tuples(st.integers(0, 2**15 - 1), st.integers(0, 2**PART_SHIFT - 1))


@given(pairs, pairs)
def test_positions_sort_like_their_pairs(one: tuple[int, int], other: tuple[int, int]) -> None:
    """Packing loses nothing, and keeps the order; a position fits a signed 64-bit integer."""
    packed = position(*one)
    assert (part_of(packed), ordinal_of(packed)) == one
    assert (packed < position(*other)) == (one < other)
    assert packed < 2**63


@given(st.lists(st.binary(max_size=9)), st.data())
def test_a_column_gives_its_fragments_back(fragments: list[bytes], data: st.DataObject) -> None:
    """Commas inside of fragments, empty fragments and any choice of rows are no matter."""
    many = range(len(fragments))
    column = Column.of(fragments, [f"u{i}" for i in many], many, [i + 1 for i in many])
    assert column.fragments() == fragments
    assert len(column) == len(fragments)
    chosen = data.draw(st.lists(st.sampled_from(many)) if fragments else st.just([]))
    taken = column.take(chosen)
    assert taken.fragments() == [fragments[i] for i in chosen]
    assert list(taken.keys) == [f"u{i}" for i in chosen]
    assert list(taken.positions) == chosen
    assert list(taken.lines) == [i + 1 for i in chosen]


@given(rows_strategy(), st.data())
def test_pieces_of_a_batch_are_its_rows(
    rows: list[tuple[int, UserKey]], data: st.DataObject
) -> None:
    """A piece and the rest partition a batch; both stay in its family and generation."""
    batch = batch_of(rows, id=7, generation=2)
    every = list(batch.rows())
    chosen = data.draw(st.sets(st.sampled_from(every)))
    piece = batch.take([row for row in every if row in chosen], id=8)
    rest = batch.take([row for row in every if row not in chosen], id=9)
    assert sorted(positions_of(piece) + positions_of(rest)) == positions_of(batch)
    assert piece.users() | rest.users() == batch.users() == {user for _, user in rows}
    assert len(piece) + len(rest) == len(batch) == len(rows)
    assert (piece.id, piece.family, piece.generation) == (8, 7, 2)
    assert piece.nbytes <= batch.nbytes


def test_a_batch_counts_its_bytes_without_the_wrapping() -> None:
    """Fragments and the commas between those of one slot."""
    columns = (Column.of([b"12", b"345"], ["u", "v"], [0, 1], [1, 2]), EMPTY_COLUMN)
    assert Batch(1, 1, columns).nbytes == len(b"12,345")


def test_an_empty_batch_has_nobody() -> None:
    """Without a record there is no user, no row and no byte."""
    batch = Batch(1, 1, (EMPTY_COLUMN,))
    assert (len(batch), batch.nbytes, batch.users(), list(batch.rows())) == (0, 0, set(), [])


def test_a_chunk_is_as_long_as_its_slots() -> None:
    """One byte of slots is one record."""
    chunk = Chunk([b"{}", b"{}"], bytes([0, 1]), ["u", "v"], range(2), range(1, 3), 4)
    assert len(chunk) == 2


objects = st.lists(st.text("ab{}", max_size=5).map(lambda text: b"{%b}" % text.encode()))
wrappings = st.tuples(st.sampled_from([b"", b'{"event":', b'{"event": ']), st.booleans())


def joined_of(fragments: list[bytes], wrapping: tuple[bytes, bool]) -> Joined:
    """Join objects, as they are or as what is cut out of lines that are alike."""
    opening, lined = wrapping
    if not lined:
        return Joined.of(fragments)
    lines = [opening + fragment + b"}" for fragment in fragments]
    return Joined(b",".join(fragments), bounds_of(lines), -len(opening))


@given(
    objects, wrappings, st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([None, 1, 2, -1])
)
def test_joined_objects_are_a_sequence(
    fragments: list[bytes], wrapping: tuple[bytes, bool], one: int, other: int, step: int | None
) -> None:
    """Like a list of them, however they were joined, cut and handed over."""
    joined = joined_of(fragments, wrapping)
    assert list(joined) == fragments
    assert len(joined) == len(fragments)
    assert joined == Joined.of(fragments)
    assert joined != fragments
    assert repr(joined) == repr(Joined.of(fragments))
    some = slice(one, other, step)
    cut = joined[some]
    assert list(cut) == fragments[some]
    assert cut.data == b",".join(fragments[some])
    assert [*cut[1:]] == fragments[some][1:]
    assert size_of(cut) == size_of(fragments[some]) == sum(len(one) + 1 for one in cut)
    assert pickle.loads(pickle.dumps(cut)) == cut
    if -len(fragments) <= one < len(fragments):
        assert joined[one] == fragments[one]
    else:
        with pytest.raises(IndexError):
            joined[one]


@given(st.lists(st.tuples(objects, st.integers(0, 3)), min_size=1), wrappings, st.booleans())
def test_pieces_are_joined_to_one(
    pieces: list[tuple[list[bytes], int]], wrapping: tuple[bytes, bool], alike: bool
) -> None:
    """Of one kind or of several, whatever they were cut out of."""
    bare = (b"", False)
    cuts = [
        joined_of(fragments, wrapping if alike or number % 2 else bare)[start:]
        for number, (fragments, start) in enumerate(pieces)
    ]
    found = Joined.spliced(cuts)
    assert list(found) == [
        fragment for fragments, start in pieces for fragment in fragments[start:]
    ]
    assert found.data == b",".join(found)
    assert list(found[1:]) == list(found)[1:]


def test_nothing_joined_is_handed_over_by_its_name() -> None:
    """It is told beside the rest, mostly."""
    assert pickle.loads(pickle.dumps(NOTHING)) is NOTHING
