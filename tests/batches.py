"""Batches made by hand, and strategies that make them, for the tests of the core."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from ingest.records import EMPTY_COLUMN, WHOLE, Batch, Chunk, Column, Partition, UserKey

SLOTS = 3


def batch_of(
    rows: Sequence[tuple[int, UserKey]],
    *,
    id: int = 1,
    first: int = 0,
    generation: int = 0,
    partition: Partition = WHOLE,
) -> Batch:
    """Build a batch of (slot, user) rows in source order, the first one at position `first`."""
    columns = []
    for slot in range(SLOTS):
        at = [i for i, (of, _) in enumerate(rows) if of == slot]
        columns.append(
            Column.of(
                [b'{"at":%d}' % (first + i) for i in at],
                [rows[i][1] for i in at],
                [first + i for i in at],
                [first + i + 1 for i in at],
            )
            if at
            else EMPTY_COLUMN
        )
    return Batch(id, id, tuple(columns), generation, partition)


def chunk_of(
    rows: Sequence[tuple[int, UserKey]], *, first: int = 0, partition: Partition = WHOLE
) -> Chunk:
    """Build a chunk of (slot, user) rows, the first one at position `first`."""
    fragments = [b'{"at":%d}' % (first + i) for i in range(len(rows))]
    return Chunk(
        fragments,
        bytes(slot for slot, _ in rows),
        [user for _, user in rows],
        range(first, first + len(rows)),
        range(first + 1, first + len(rows) + 1),
        sum(map(len, fragments)),
        partition,
    )


def positions_of(batch: Batch) -> list[int]:
    """Return the positions of all records of a batch, in source order."""
    return sorted(at for column in batch.columns for at in column.positions)


def users_of(names: Iterable[str]) -> list[tuple[int, UserKey]]:
    """Return rows for users by name, events all of them."""
    return [(1, name) for name in names]


def rows_strategy(
    *, max_size: int = 24, users: int = 5
) -> st.SearchStrategy[list[tuple[int, UserKey]]]:
    """Generate (slot, user) rows of a batch, at least one, few users."""
    user = st.integers(0, users - 1).map(lambda i: f"u{i}")
    return st.lists(st.tuples(st.integers(0, SLOTS - 1), user), min_size=1, max_size=max_size)
