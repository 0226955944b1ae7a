"""Laws of packing: nothing lost, no cap exceeded, one user in one request, order kept."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import batcher as batcher_module
from ingest import newcomers
from ingest.batcher import LEFT_OUT_BATCHES, RECORD_OVERHEAD, Batcher
from ingest.newcomers import Lately
from ingest.profiles import Caps
from ingest.queues import Rows
from ingest.records import WHOLE, Batch, Chunk, Joined, News, Partition, UserKey
from tests.examples import examples
from tests.packing import OVERHEAD, PARTITIONS, Toy, check_items, chunk_of, drain, mixed

PER_ARRAY = Caps((75, 75, 75), 225, 4_000_000)
COMBINED = Caps((75, 75, 75), 75, 4_000_000)


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
    st.integers(OVERHEAD + 80, OVERHEAD + 400),
    st.none() | st.integers(1, 3),
    st.none() | st.integers(1, 6),
)
chunks_of = st.lists(st.tuples(st.sampled_from(PARTITIONS), rows_of), max_size=8)


@settings(max_examples=examples(300), deadline=None)
@given(
    chunks=st.lists(rows_of, max_size=4).map(lambda all: [(WHOLE, rows) for rows in all])
    | chunks_of,
    caps=st.lists(caps_of, min_size=1, max_size=3),
    folding=st.none() | st.just(Toy()),
    choices=st.lists(
        st.tuples(st.integers(0, 3), st.booleans(), st.booleans(), st.integers(0, 7)), max_size=80
    ),
    told=st.lists(st.booleans(), min_size=8, max_size=8),
    memory=st.tuples(st.integers(0, 60), st.integers(1, 9), st.integers(0, 60)),
)
def test_laws_of_packing(
    chunks: list[tuple[Partition, list[tuple[int, str, int]]]],
    caps: list[Caps],
    folding: Toy | None,
    choices: list[tuple[int, bool, bool, int]],
    told: list[bool],
    memory: tuple[int, int, int],
) -> None:
    """Whatever comes, is taken and settled in whatever order, laws 1, 2 and 4 hold.

    Of some chunks it is `told` that their users are new, by who remembers as many as `memory` says.
    """
    familiar, least, span = memory
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batcher_module, "FAMILIAR", familiar)
        patch.setattr(newcomers, "LEAST", least)
        check_laws(chunks, caps, folding, choices, told, Lately(span))


def check_laws(
    chunks: list[tuple[Partition, list[tuple[int, str, int]]]],
    caps: list[Caps],
    folding: Toy | None,
    choices: list[tuple[int, bool, bool, int]],
    told: list[bool],
    lately: Lately,
) -> None:
    """Pack, take and settle as chosen, and look at every batch."""
    batcher = Batcher(slots=3, overhead=OVERHEAD, folding=folding)
    waiting, first = [], 0
    user_of: dict[int, UserKey] = {}
    partition_of: dict[int, Partition] = {}
    for (partition, rows), says in zip(chunks, told, strict=False):
        chunk = chunk_of(rows, first, partition)
        news = lately.came((chunk.keys,), len(chunk)) if says else None
        waiting.append(msgspec.structs.replace(chunk, news=news))
        partition_of |= dict.fromkeys(range(first, first + len(rows)), partition)
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
        assert cap.users is None or len(batch.users()) <= cap.users
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
                assert partition_of[position] == batch.partition
                assert fragment.startswith(b"%d" % position)
                per_user[key] += 1
        if cap.per_user is not None:
            assert max(per_user.values()) <= cap.per_user
        if folding is not None:
            check_items(batch, folding)

    def take(cap: Caps, partial: bool, more: bool = True) -> None:
        batch = batcher.take(cap, partial=partial, more=more)
        if batch is not None:
            check(batch, cap)
            flying.append(batch)
            sent.append(batch)
            return
        left_out = len(batcher) - batcher.barred - batcher.open_records
        assert left_out < (1 if partial else LEFT_OUT_BATCHES * cap.fill)
        assert not (partial and batcher.open_records)

    for what, partial, more, which in choices:
        if what == 0 and waiting:
            batcher.add(waiting.pop(0))
        elif what == 1 and flying:
            batch = flying.pop(which % len(flying))
            batcher.release(batch.family, batch.users())
        else:
            take(caps[which % len(caps)], partial, more)
        assert batcher.nbytes >= RECORD_OVERHEAD * len(batcher)
    for rest in waiting:
        batcher.add(rest)
    while flying or len(batcher):
        take(caps[0], True)
        if flying:
            batch = flying.pop(0)
            batcher.release(batch.family, batch.users())

    order: dict[UserKey, list[int]] = defaultdict(list)
    for batch in sent:
        for position in sorted(p for column in batch.columns for p in column.positions):
            order[user_of[position]].append(position)
    assert sorted(p for positions in order.values() for p in positions) == sorted(user_of)
    for positions in order.values():
        assert positions == sorted(positions)
    assert batcher.nbytes == 0
    assert not batcher._users
    assert not batcher._lots
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
            batcher.release(batch.family, batch.users())
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


def alike(batch: Batch | None) -> Any:
    """Return a batch as values: a range of positions and a list of them are all one."""
    if batch is None:
        return None
    columns = [
        (column.data, *map(list, (column.joined, column.keys, column.positions, column.lines)))
        for column in batch.columns
    ]
    return batch.id, batch.family, batch.generation, batch.partition, columns


class Patient(Batcher):
    """Packs everything the long way."""

    def _at_once(self, caps: Caps, generation: int) -> Batch | None:
        return None


class Wary(Batcher):
    """Takes nobody for a newcomer."""

    def _admit(self, chunk: Chunk) -> None:
        return None


class Trusting(Batcher):
    """Takes everybody for a newcomer again, as soon as all were met, and hears who reads."""

    def add(self, chunk: Chunk) -> None:
        self._familiar = 0
        self._read = getattr(self, "_read", 0) + 1
        self._lately = getattr(self, "_lately", Lately(40))
        if self._read % 4:
            news = self._lately.came((chunk.keys,), len(chunk))
            chunk = msgspec.structs.replace(chunk, news=news)
        super().add(chunk)


@settings(max_examples=examples(300), deadline=None)
@given(
    chunks=st.lists(
        st.tuples(st.sampled_from(PARTITIONS[1:3]) | st.just(WHOLE), rows_of)
        | st.tuples(
            st.just(WHOLE),
            st.integers(0, 99).map(lambda n: [(0, f"{n} {i}", 20) for i in range(30)]),
        ),
        max_size=6,
    ),
    caps=st.lists(caps_of, min_size=1, max_size=2),
    folding=st.none() | st.just(Toy()),
    choices=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), max_size=60),
)
def test_the_short_way_packs_what_the_long_one_does(
    chunks: list[tuple[Partition, list[tuple[int, str, int]]]],
    caps: list[Caps],
    folding: Toy | None,
    choices: list[tuple[int, int]],
) -> None:
    """The same batches, and the same counts after each of them, also where families are split."""
    contenders = (Batcher, Patient, Wary, Trusting)
    batchers = [kind(slots=3, overhead=OVERHEAD, folding=folding) for kind in contenders]
    first, waiting = 0, list[Chunk]()
    flying = list[tuple[int, list[UserKey]]]()
    for partition, rows in chunks:
        waiting.append(chunk_of(rows, first, partition))
        first += len(rows)
    for what, which in choices:
        if what == 0 and waiting:
            chunk = waiting.pop(0)
            joined = msgspec.structs.replace(chunk, fragments=Joined.of(chunk.fragments))
            for batcher in batchers:
                batcher.add(chunk if isinstance(batcher, Wary) else joined)
        elif what == 1 and flying:
            family, users = flying.pop(which % len(flying))
            half = len(users) // 2 if which % 2 else len(users)
            if half < len(users):
                flying.append((family, users[half:]))
            for batcher in batchers:
                if half < len(users):
                    batcher.tell_apart(family)
                batcher.release(family, users[:half])
        else:
            cap = caps[which % len(caps)]
            short, *others = (batcher.take(cap, partial=which > 5) for batcher in batchers)
            assert all(alike(short) == alike(other) for other in others)
            if short is not None:
                flying.append((short.family, sorted(short.users(), key=str)))
        told = [
            (len(one), one.barred, one.open_records, one.nbytes, bool(one._lots))
            for one in batchers
        ]
        assert told[1:] == told[:1] * 3


def test_who_is_trusted_is_met_before_anybody_without_a_word() -> None:
    """Also while nobody is taken for a newcomer, for one came back."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    batcher.add(chunk_of([(0, "a", 20), (0, "a", 20)]))
    told = chunk_of([(0, "x", 20), (0, "y", 20)], 2)
    batcher.add(msgspec.structs.replace(told, news=News(0, 0)))
    batcher.add(chunk_of([(0, "x", 20), (0, "z", 20)], 4))
    seen: list[UserKey] = []
    while (batch := batcher.take(Caps((2, 2, 2), 2, 4_000_000), partial=True)) is not None:
        seen += sorted(batch.users(), key=str)
    assert sorted(seen, key=str) == ["a", "x", "y", "z"]


def test_what_is_cut_in_two_by_chunks_is_packed_at_once() -> None:
    """The end of one and the beginning of the next are one column."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    for first in (0, 50, 100):
        batcher.add(chunk_of([(0, f"u{first + i}", 20) for i in range(50)], first))
    batches = [batcher.take_full(PER_ARRAY, 0) for _ in range(3)]
    assert [batch and list(batch.columns[0].positions) for batch in batches] == [
        list(range(75)),
        list(range(75, 150)),
        None,
    ]
    assert batches[0] is not None
    assert batches[0].columns[0].keys == [f"u{n}" for n in range(75)]


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
    batcher.release(first.family, first.users())
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


# Partitions

IN, OUT = PARTITIONS[2:]


def test_a_request_holds_one_partition_and_its_members_cost_bytes() -> None:
    """Records that must not share a request do not, and what they share is counted once."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    batcher.add(chunk_of([(0, f"a{i}", 20) for i in range(5)], 0, IN))
    batcher.add(chunk_of([(0, f"b{i}", 20) for i in range(5)], 5, OUT))
    caps = Caps((75, 75, 75), 75, OVERHEAD + len(IN.members) + 1 + 3 * 21)
    batches = drain(batcher, caps)
    assert [(batch.partition, len(batch)) for batch in batches] == [
        (IN, 3),
        (IN, 2),
        (OUT, 3),
        (OUT, 2),
    ]
    assert batcher.nbytes == 0


def test_a_user_of_two_partitions_keeps_the_order() -> None:
    """The later record waits for the earlier one's answer, and bars what comes after it."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    for at, partition in enumerate((IN, IN, OUT, IN)):
        batcher.add(chunk_of([(0, "both", 20)], at, partition))
    batcher.add(chunk_of([(0, "other", 20)], 4, OUT))
    first = batcher.take(PER_ARRAY, partial=True)
    second = batcher.take(PER_ARRAY, partial=True)
    assert first is not None
    assert second is not None
    assert list(first.columns[0].positions) == [0, 1]
    assert list(second.columns[0].positions) == [4]
    assert batcher.take(PER_ARRAY, partial=True) is None
    assert batcher.barred == 2
    batcher.release(first.family, first.users())
    rest = drain(batcher, PER_ARRAY)
    assert [list(batch.columns[0].positions) for batch in rest] == [[2], [3]]


def test_the_partition_that_fills_a_request_goes_first() -> None:
    """An older one with few records waits for more of them, though not for ever."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    batcher.add(chunk_of([(0, "rare", 20)], 0, OUT))
    batcher.add(chunk_of([(0, f"u{i}", 20) for i in range(200)], 1, IN))
    assert [batch.partition for batch in drain(batcher, COMBINED, partial=False)] == [IN, IN]
    assert [batch.partition for batch in drain(batcher, COMBINED)] == [OUT, IN]


@pytest.mark.parametrize("users", [None, 4])
def test_no_partition_waits_for_ever(users: int | None) -> None:
    """While others can always fill a request, one record goes after a look-ahead of theirs."""
    caps = Caps((9, 9, 9), 9, 4_000_000, users=users)
    fill = caps.fill
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    batcher.add(chunk_of([(0, f"x{i}", 20) for i in range(2 * fill)], 0, IN))
    batcher.add(chunk_of([(0, "rare", 20)], 1_000, OUT))
    sent = []
    for turn in range(LEFT_OUT_BATCHES + 2):
        batcher.add(chunk_of([(0, f"u{turn}-{i}", 20) for i in range(fill)], 2_000 + turn * 9, IN))
        batch = batcher.take(caps, partial=False)
        assert batch is not None
        batcher.release(batch.family, batch.users())
        sent.append(batch.partition)
    assert sent == [IN] * LEFT_OUT_BATCHES + [OUT, IN]


def test_any_number_of_partitions_is_forgotten_when_it_is_gone() -> None:
    """A partition of its own for each record costs nothing that stays."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    for i in range(100):
        batcher.add(chunk_of([(0, "one", 20)], i, Partition("", b'"n":%d' % i)))
    batches = drain(batcher, PER_ARRAY)
    assert [batch.columns[0].positions[0] for batch in batches] == list(range(100))
    assert not batcher._lots


# Users and items

ITEMS = Caps((1_000, 1_000, 1_000), 1_000, 4_000_000, users=10)


@pytest.mark.parametrize("folding", [None, Toy()])
@pytest.mark.parametrize(
    "caps", [Caps((9, 9, 9), 3, 4_000_000), Caps((9, 9, 9), 9, OVERHEAD + 3 * 21)]
)
def test_what_follows_goes_before_what_is_younger(folding: Toy | None, caps: Caps) -> None:
    """A user's second record is not left out for other users that came after it."""
    batcher = Batcher(slots=3, overhead=OVERHEAD, folding=folding)
    batcher.add(chunk_of([(1, user, 20) for user in "aabbcd"]))
    batches = drain(batcher, caps)
    assert [sorted(batch.columns[1].positions) for batch in batches] == [[0, 1, 2], [3, 4, 5]]


def test_a_cap_on_users_ends_a_batch() -> None:
    """Ten users are ten users, however many of their records go along."""
    batcher = Batcher(slots=3, overhead=OVERHEAD)
    batcher.add(chunk_of([(1, f"u{i // 3}", 20) for i in range(75)]))
    batches = drain(batcher, ITEMS)
    assert [len(batch.users()) for batch in batches] == [10, 10, 5]
    assert [len(batch) for batch in batches] == [30, 30, 15]


def test_a_folding_batch_waits_for_more_of_its_users() -> None:
    """All attributes first and then all events: a user's event goes along with its attributes."""
    batcher = Batcher(slots=3, overhead=OVERHEAD, folding=Toy())
    batcher.add(chunk_of([(0, f"u{i}", 20) for i in range(100)]))
    assert batcher.take(ITEMS, partial=False) is None
    assert batcher.open_records == 10
    batcher.add(chunk_of([(1, f"u{i}", 20) for i in range(100)], 100))
    batches = drain(batcher, ITEMS)
    assert [len(batch) for batch in batches] == [20] * 10


def test_a_folding_batch_with_all_its_users_goes_when_no_more_will_come() -> None:
    """Waiting would be for nothing; one that may still get users waits for those."""
    batcher = Batcher(slots=3, overhead=OVERHEAD, folding=Toy())
    batcher.add(chunk_of([(0, f"u{i}", 20) for i in range(19)]))
    full = batcher.take(ITEMS, partial=False, more=False)
    assert full is not None
    assert len(full) == 10
    assert batcher.take(ITEMS, partial=False, more=False) is None
    assert batcher.open_records == 9


def test_a_folding_batch_goes_when_the_look_ahead_is_used_up() -> None:
    """What folds and is further away than that becomes an item of another request."""
    batcher = Batcher(slots=3, overhead=OVERHEAD, folding=Toy())
    batcher.add(chunk_of([(0, f"u{i}", 20) for i in range(209)]))
    assert batcher.take(ITEMS, partial=False) is None
    batcher.add(chunk_of([(0, "one more", 20)], 209))
    batch = batcher.take(ITEMS, partial=False)
    assert batch is not None
    assert len(batch) == 10


def test_what_does_not_fold_waits_for_the_next_request() -> None:
    """Two events fold and the third does not: what comes after it does not overtake it."""
    batcher = Batcher(slots=3, overhead=OVERHEAD, folding=Toy())
    batcher.add(chunk_of([(slot, "a", 20) for slot in (1, 1, 1, 2)]))
    batches = drain(batcher, ITEMS)
    assert [len(batch) for batch in batches] == [2, 2]
    assert list(batches[1].columns[2].positions) == [3]


@pytest.mark.parametrize("body_bytes", [4_000_000, 100_000, 50_000])
@pytest.mark.parametrize("in_turn", [True, False])
def test_a_large_folding_batch_is_packed_in_few_looks(
    body_bytes: int, in_turn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lanes behind every row do not make packing quadratic: a row is cut a few dozen times."""
    users, cut = 2_000, 0
    one_cut = Rows.cut

    def counted(self: Rows, start: int, stop: int) -> Rows:
        nonlocal cut
        rows = one_cut(self, start, stop)
        cut += len(rows.keys)
        return rows

    monkeypatch.setattr(Rows, "cut", counted)
    rows = [(slot, f"u{i}", 20) for i in range(users) for slot in (0, 1)]
    if not in_turn:
        rows.sort(key=lambda row: row[0])
    batcher = Batcher(slots=3, overhead=OVERHEAD, folding=Toy())
    batcher.add(chunk_of(rows))
    caps = Caps((9_999, 9_999, 9_999), 9_999, body_bytes, users=users)
    batches = drain(batcher, caps)
    assert len(batches) <= len(rows) * 21 // body_bytes + 1
    assert cut <= 50 * users
