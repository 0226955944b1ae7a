"""Laws of packing: nothing lost, no cap exceeded, one user in one request, order kept."""

from __future__ import annotations

import random
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batcher import RECORD_OVERHEAD, Batcher
from ingest.profiles import Caps
from ingest.records import Batch, Chunk, UserKey

OVERHEAD = 50


def chunk_of(rows: list[tuple[int, str, int]], first: int = 0) -> Chunk:
    """Build a chunk of (slot, user, size) rows; each fragment is its position, padded."""
    fragments = [
        b"%d" % (first + i) + b"x" * max(0, size - len(b"%d" % (first + i)))
        for i, (_, _, size) in enumerate(rows)
    ]
    return Chunk(
        fragments,
        bytes(slot for slot, _, _ in rows),
        [user for _, user, _ in rows],
        range(first, first + len(rows)),
        range(first + 1, first + len(rows) + 1),
        sum(map(len, fragments)),
    )


def mixed(count: int, users: int, size: int = 20) -> list[tuple[int, str, int]]:
    """Rows of all three slots in turn, users in turn."""
    return [(i % 3, f"u{i % users}", size) for i in range(count)]


PER_ARRAY = Caps((75, 75, 75), 225, 4_000_000)
COMBINED = Caps((75, 75, 75), 75, 4_000_000)


def drain(batcher: Batcher, caps: Caps) -> list[Batch]:
    """Take batch after batch, each settled before the next."""
    batches = []
    while batch := batcher.take(caps, partial=True):
        batches.append(batch)
        batcher.release(batch.users())
    return batches


rows_of = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from([f"u{i}" for i in range(6)]) | st.uuids().map(str),
        st.integers(1, 60),
    ),
    max_size=120,
)
caps_of = st.builds(
    Caps,
    st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8)),
    st.integers(1, 16),
    st.integers(OVERHEAD + 70, OVERHEAD + 400),
    st.none() | st.integers(1, 3),
)


@settings(max_examples=300, deadline=None)
@given(
    chunks=st.lists(rows_of, max_size=4),
    caps=st.lists(caps_of, min_size=1, max_size=3),
    choices=st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 7)), max_size=80),
)
def test_laws_of_packing(
    chunks: list[list[tuple[int, str, int]]],
    caps: list[Caps],
    choices: list[tuple[int, bool, int]],
) -> None:
    """Whatever comes, is taken and settled in whatever order, laws 1, 2 and 4 hold."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    waiting, first = [], 0
    user_of: dict[int, UserKey] = {}
    for rows in chunks:
        waiting.append(chunk_of(rows, first))
        user_of |= {first + i: user for i, (_, user, _) in enumerate(rows)}
        first += len(rows)
    slot_of = {first: s for c in waiting for first, s in zip(c.positions, c.slots, strict=True)}
    flying: list[Batch] = []
    sent: list[Batch] = []

    def check(batch: Batch, cap: Caps) -> None:
        counts = [len(column) for column in batch.columns]
        assert all(n <= most for n, most in zip(counts, cap.per_slot, strict=True))
        assert 0 < sum(counts) <= cap.total
        assert batch.nbytes + OVERHEAD <= cap.body_bytes
        for other in flying:
            assert not batch.users() & other.users()
        per_user: dict[UserKey, int] = defaultdict(int)
        for slot, column in enumerate(batch.columns):
            last: dict[UserKey, int] = {}
            for position, key, fragment in zip(
                column.positions, column.keys, column.fragments(), strict=True
            ):
                assert user_of[position] == key
                assert last.get(key, -1) < position
                last[key] = position
                assert slot_of[position] == slot
                assert fragment.startswith(b"%d" % position)
                per_user[key] += 1
        if cap.per_user is not None:
            assert max(per_user.values()) <= cap.per_user

    def take(cap: Caps, partial: bool) -> None:
        batch = batcher.take(cap, partial=partial)
        if batch is not None:
            check(batch, cap)
            flying.append(batch)
            sent.append(batch)

    for what, partial, which in choices:
        if what == 0 and waiting:
            batcher.add(waiting.pop(0))
        elif what == 1 and flying:
            batcher.release(flying.pop(which % len(flying)).users())
        else:
            take(caps[which % len(caps)], partial)
        assert batcher.nbytes >= RECORD_OVERHEAD * len(batcher)
    for rest in waiting:
        batcher.add(rest)
    while flying or len(batcher):
        take(caps[0], True)
        if flying:
            batcher.release(flying.pop(0).users())

    order: dict[UserKey, list[int]] = defaultdict(list)
    for batch in sent:
        for position in sorted(p for column in batch.columns for p in column.positions):
            order[user_of[position]].append(position)
    assert sorted(p for positions in order.values() for p in positions) == sorted(user_of)
    for positions in order.values():
        assert positions == sorted(positions)
    assert batcher.nbytes == 0
    assert not batcher._users
    assert batcher.barred == 0


def test_mixed_records_fill_every_slot() -> None:
    """With kinds in random proportion around a third, a request holds nearly 225."""
    dice = random.Random(7)
    rows = [(dice.randrange(3), f"u{dice.randrange(50_000)}", 200) for _ in range(40_000)]
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    sizes = []
    for start in range(0, len(rows), 500):
        batcher.add(chunk_of(rows[start : start + 500], start))
        while batch := batcher.take(PER_ARRAY, partial=False):
            sizes.append(len(batch))
            batcher.release(batch.users())
    assert sum(sizes) / len(sizes) >= 220
    assert len(batcher) < 10_000


def test_one_kind_is_packed_by_slices() -> None:
    """Records of one kind do not wait for kinds that never come."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    batcher.add(chunk_of([(0, f"u{i}", 20) for i in range(1_000)]))
    batch = batcher.take(PER_ARRAY, partial=False)
    assert batch is not None
    assert len(batch) == 75
    assert len(batcher) == 925
    assert batcher.barred == 0


def test_a_partial_batch_stays_open_until_it_is_full() -> None:
    """What was gathered is kept, and the next chunk fills it up."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    batcher.add(chunk_of(mixed(70, 70)))
    assert batcher.take(COMBINED, partial=False) is None
    assert batcher.open_records == 70
    batcher.add(chunk_of(mixed(70, 70), 70))
    batch = batcher.take(COMBINED, partial=False)
    assert batch is not None
    assert len(batch) == 75


def test_fat_records_stop_at_the_byte_cap() -> None:
    """Events of 90 KB next to the cap: as many as fit, never one more."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    batcher.add(chunk_of([(1, f"u{i}", 90_000) for i in range(100)]))
    sizes = [len(batch) for batch in drain(batcher, PER_ARRAY)]
    assert sizes == [44, 44, 12]


def test_a_hot_user_goes_alone_and_does_not_hold_others_up() -> None:
    """While a user is in flight, others are packed, and the user's records keep their order."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    batcher.add(chunk_of([(1, "hot", 20)] * 200 + [(1, f"u{i}", 20) for i in range(80)]))
    first = batcher.take(COMBINED, partial=True)
    second = batcher.take(COMBINED, partial=True)
    assert first is not None
    assert second is not None
    assert first.users() == {"hot"}
    assert "hot" not in second.users()
    assert batcher.barred == 125
    batcher.release(first.users())
    third = batcher.take(COMBINED, partial=True)
    assert third is not None
    assert list(third.columns[1].positions) == list(range(75, 150))


def test_smaller_caps_reopen_what_was_gathered() -> None:
    """When the account turns out to take less, the open batch is packed anew, in order."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    batcher.add(chunk_of([(i % 3, f"u{i % 40}", 20) for i in range(90)]))
    assert batcher.take(PER_ARRAY, partial=False) is None
    small = Caps((50, 50, 50), 50, 4_000_000)
    batches = drain(batcher, small)
    assert [len(batch) for batch in batches] == [50, 40]


def test_another_cap_per_user_reopens_what_was_gathered() -> None:
    """Records gathered without a cap per user are counted anew when there is one."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    batcher.add(chunk_of([(0, "a", 20), (0, "a", 20), (0, "b", 20)]))
    assert batcher.take(PER_ARRAY, partial=False) is None
    batch = batcher.take(Caps((75, 75, 75), 225, 4_000_000, 1), partial=True)
    assert batch is not None
    assert list(batch.columns[0].keys) == ["a", "b"]
