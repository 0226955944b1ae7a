"""Packing: which records go into the next request.

Decides by the caps it is given and by one rule: a user is in one request at a time, and a record
that is left out bars its user's later ones. Knows neither time nor destination; a batch forms when
somebody asks for one. Memory is whatever was added and not yet taken, and `nbytes` says how much.

The first record of a user that has none here goes into the queue of its slot. Until that record is
settled, the user's later ones wait in the user's lane, or go with it. So no two records in the
queues have the same user, none there has a user in flight, and a queue is packed by slices, without
a look at its records. Every user that is here or in flight has an entry in `_users`:

- an int: where the user's record is, `QUEUED` or the id of a batch, and nothing waits behind it;
- a `_Lane`: more of the user's records wait, behind that record (its `holder`), or for a place
  (when the holder is `FREE`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable
from itertools import accumulate, chain, compress
from typing import Final, NamedTuple

import msgspec

from ingest.profiles import Caps
from ingest.queues import Open, Queue, Rows
from ingest.records import Batch, Chunk, UserKey

FREE: Final = -1
"""Holder of a lane whose user has no record in a queue or a batch."""

QUEUED: Final = -2
"""Place of a user whose record is in the queue of its slot."""

RECORD_OVERHEAD: Final = 256
"""Bytes that a record costs beside its fragment: key, position, line and its share of the lists."""

LEFT_OUT_BATCHES: Final = 20
"""Look-ahead for a fuller request, in full batches: beyond it, an unfilled slot is accepted."""

MAJOR_SHARE: Final = 0.75
"""A slot that gets at least this share of what the busiest slot gets is worth waiting for; a rarer
one cannot be full in every request, however far we look ahead."""

SHARE_MEMORY: Final = 5_000.0
"""Records over which a slot's share is remembered."""


class _Waiting(NamedTuple):
    """A record in a lane; its bytes are its own, not a view of its chunk."""

    fragment: bytes
    slot: int
    position: int
    line: int


class _Lane(msgspec.Struct):
    key: UserKey
    holder: int
    waiting: deque[_Waiting]


class Batcher:
    """Packs chunks into batches.

    `slots` is the number of arrays of a request; `overhead` an upper bound of the bytes that wrap
    the arrays in a body, counted against the byte cap.
    """

    def __init__(self, *, slots: int, overhead: int) -> None:
        self._slots = slots
        self._overhead = overhead
        self._only = [bytes(int(value == slot) for value in range(256)) for slot in range(slots)]
        self._users: dict[UserKey, int | _Lane] = {}
        self._queues = [Queue() for _ in range(slots)]
        self._followed: set[UserKey] = set()  # users with a lane behind a record in a queue
        self._runnable: list[deque[_Lane]] = [deque() for _ in range(slots)]
        self._boarding: list[_Lane] = []  # lanes that began behind the open batch
        self._id = 1
        self._open = Open(slots)
        self._full = False
        self._arrived = [0.0] * slots
        self._major = [True] * slots
        self._waiting = 0
        self._barred = 0
        self.nbytes = 0

    def __len__(self) -> int:
        """Records added and in no batch yet."""
        return sum(map(len, self._queues)) + self._waiting + self._open.total

    @property
    def barred(self) -> int:
        """Records that wait for their user to come back from a batch."""
        return self._barred

    @property
    def open_records(self) -> int:
        """Records in the batch being filled."""
        return self._open.total

    def add(self, chunk: Chunk) -> None:
        """Take in a chunk; its records come after all that were added before."""
        count, users = len(chunk), self._users
        if not count:
            return
        self.nbytes += sum(map(len, chunk.fragments)) + count * (RECORD_OVERHEAD + 1)
        counts = [chunk.slots.count(slot) for slot in range(self._slots)]
        self._weigh(counts)
        newcomers = dict.fromkeys(chunk.keys, QUEUED)
        if len(newcomers) == count and users.keys().isdisjoint(newcomers):
            users.update(newcomers)
            self._enqueue(chunk, chunk.slots, counts)
            return
        slots = bytearray(chunk.slots)
        for row, key in enumerate(chunk.keys):
            place = users.get(key)
            if place is None:
                users[key] = QUEUED
            else:
                counts[slots[row]] -= 1
                slots[row] = self._slots  # in no queue
                self._park(chunk, row, key, place)
        self._enqueue(chunk, bytes(slots), counts)

    def take(self, caps: Caps, generation: int = 0, *, partial: bool) -> Batch | None:
        """Return the next batch, or None while none may go.

        With `partial` false only a full batch is returned: at a cap, or with the look-ahead used
        up; what was gathered stays open for the next call. With `partial` true whatever may go
        goes. No user of the batch is in another one until `release`.
        """
        if self._exceeds(caps):
            self._reopen()
        self._open.per_user_cap = caps.per_user
        self._full = False
        self._fill_from_lanes(caps)
        self._fill_from_queues(caps)
        opened = self._open
        if not opened.total or not (partial or self._is_full(caps)):
            return None
        batch = Batch(self._id, self._id, opened.columns(), generation)
        self._id += 1
        self._open = Open(self._slots)
        self._boarding.clear()
        self.nbytes -= opened.nbytes + RECORD_OVERHEAD * opened.total
        return batch

    def release(self, users: Iterable[UserKey]) -> None:
        """Let users go: their batch is settled, and their waiting records may be packed."""
        places = self._users
        for user in users:
            lane = places.pop(user)
            if type(lane) is not int:
                assert isinstance(lane, _Lane)
                places[user] = lane
                self._free(lane)
                self._runnable[lane.waiting[0].slot].append(lane)

    # Taking in

    def _weigh(self, counts: list[int]) -> None:
        """Learn which slots get enough records to be worth waiting for."""
        fade = SHARE_MEMORY / (SHARE_MEMORY + sum(counts))
        self._arrived = [
            seen * fade + count for seen, count in zip(self._arrived, counts, strict=True)
        ]
        worth = MAJOR_SHARE * max(self._arrived)
        self._major = [seen >= worth for seen in self._arrived]

    def _enqueue(self, chunk: Chunk, slots: bytes, counts: list[int]) -> None:
        for slot, count in enumerate(counts):
            if count == len(chunk):
                rows = Rows(chunk.fragments, chunk.keys, chunk.positions, chunk.lines)
            elif count:
                chosen = slots.translate(self._only[slot])
                rows = Rows(
                    list(compress(chunk.fragments, chosen)),
                    list(compress(chunk.keys, chosen)),
                    list(compress(chunk.positions, chosen)),
                    list(compress(chunk.lines, chosen)),
                )
            else:
                continue
            self._queues[slot].add(rows)

    def _park(self, chunk: Chunk, row: int, key: UserKey, place: int | _Lane) -> None:
        """Let a record wait behind an earlier one of its user."""
        record = _Waiting(
            bytes(chunk.fragments[row]), chunk.slots[row], chunk.positions[row], chunk.lines[row]
        )
        self._waiting += 1
        if isinstance(place, _Lane):
            place.waiting.append(record)
            self._barred += place.holder >= 0
            return
        lane = self._users[key] = _Lane(key, place, deque((record,)))
        if place == QUEUED:
            self._followed.add(key)
        else:
            self._barred += 1
            if place == self._id:
                self._boarding.append(lane)

    def _free(self, lane: _Lane) -> None:
        lane.holder = FREE
        self._barred -= len(lane.waiting)

    # The batch being filled

    def _exceeds(self, caps: Caps) -> bool:
        opened = self._open
        return opened.total > 0 and (
            opened.total > caps.total
            or opened.nbytes > caps.body_bytes - self._overhead
            or opened.per_user_cap != caps.per_user
            or any(len(rows) > cap for rows, cap in zip(opened.keys, caps.per_slot, strict=True))
        )

    def _reopen(self) -> None:
        """Put the open batch back: its records become the first ones of their lanes."""
        opened, self._open = self._open, Open(self._slots)
        self._boarding.clear()
        rows = sorted(
            (position, slot, index)
            for slot, positions in enumerate(opened.positions)
            for index, position in enumerate(positions)
        )
        touched: dict[UserKey, _Lane] = {}
        for position, slot, index in reversed(rows):
            key = opened.keys[slot][index]
            lane = touched.get(key)
            if lane is None:
                place = self._users[key]
                lane = place if isinstance(place, _Lane) else _Lane(key, self._id, deque())
                self._free(lane)
                self._users[key] = touched[key] = lane
            fragment = bytes(opened.fragments[slot][index])
            lane.waiting.appendleft(_Waiting(fragment, slot, position, opened.lines[slot][index]))
            self._waiting += 1
        # `touched` runs from the last record to the first: the front of the line keeps that order.
        for lane in touched.values():
            self._runnable[lane.waiting[0].slot].appendleft(lane)

    def _is_full(self, caps: Caps) -> bool:
        """At a cap, with each slot full that is worth waiting for, or with the look-ahead used."""
        opened = self._open
        if self._full or opened.total >= caps.total:
            return True
        wanting = any(
            major and len(keys) < cap
            for keys, cap, major in zip(opened.keys, caps.per_slot, self._major, strict=True)
        )
        left_out = sum(map(len, self._queues)) + self._waiting - self._barred
        return not wanting or left_out >= LEFT_OUT_BATCHES * caps.total

    # Where records come from: lanes first, for their users have waited

    def _fill_from_lanes(self, caps: Caps) -> None:
        for lane in self._boarding:
            if lane.waiting and not self._full:
                self._barred -= self._board(caps, lane)
        for runnable in self._runnable:
            while runnable and not self._full:
                lane = runnable.popleft()
                if not self._board(caps, lane):
                    runnable.appendleft(lane)
                    break
                self._hold(lane)

    def _board(self, caps: Caps, lane: _Lane) -> int:
        """Move what fits from the front of a lane into the open batch; return how many did."""
        opened, waiting, moved = self._open, lane.waiting, 0
        while waiting:
            record = waiting[0]
            if not self._fits(caps, lane.key, record.slot, len(record.fragment)):
                break
            waiting.popleft()
            opened.fragments[record.slot].append(record.fragment)
            opened.keys[record.slot].append(lane.key)
            opened.positions[record.slot].append(record.position)
            opened.lines[record.slot].append(record.line)
            opened.total += 1
            opened.nbytes += len(record.fragment) + 1
            if caps.per_user is not None:
                opened.per_user[lane.key] = opened.per_user.get(lane.key, 0) + 1
            moved += 1
        self._waiting -= moved
        if moved and not waiting:
            self._users[lane.key] = self._id
        return moved

    def _fits(self, caps: Caps, key: UserKey, slot: int, size: int) -> bool:
        """Check a record against every cap; a cap that ends the whole batch sets `_full`."""
        opened = self._open
        if opened.total >= caps.total or (
            opened.nbytes + size + 1 > caps.body_bytes - self._overhead
        ):
            self._full = True
            return False
        if len(opened.keys[slot]) >= caps.per_slot[slot]:
            return False
        return caps.per_user is None or opened.per_user.get(key, 0) < caps.per_user

    def _hold(self, lane: _Lane) -> None:
        """Note that a lane's user is in the open batch now, and what still waits is barred."""
        lane.holder = self._id
        self._barred += len(lane.waiting)

    def _fill_from_queues(self, caps: Caps) -> None:
        while any(counts := self._quota(caps)):
            pieces = self._first(counts)
            leader = self._first_followed(pieces)
            if leader is not None:
                # A user's records go together: what follows goes before what is younger.
                counts = [
                    sum(bisect_right(rows.positions, leader) for rows in some) for some in pieces
                ]
                pieces = self._first(counts)
            room = caps.body_bytes - self._overhead - self._open.nbytes
            nbytes = sum(counts) + sum(
                sum(map(len, rows.fragments)) for some in pieces for rows in some
            )
            if nbytes > room:
                self._full = True
                counts, nbytes = _fitting(pieces, room)
                pieces = self._first(counts)
            self._enter(caps, pieces, counts, nbytes)

    def _first(self, counts: list[int]) -> list[list[Rows]]:
        """Return the first rows of each queue."""
        return [queue.first(count) for queue, count in zip(self._queues, counts, strict=True)]

    def _first_followed(self, pieces: list[list[Rows]]) -> int | None:
        """Return the position of the oldest row with a lane behind it."""
        followed = self._followed
        if not followed:
            return None
        return min(
            (
                next(compress(rows.positions, map(followed.__contains__, rows.keys)))
                for some in pieces
                for rows in some
                if not followed.isdisjoint(rows.keys)
            ),
            default=None,
        )

    def _enter(self, caps: Caps, pieces: list[list[Rows]], counts: list[int], nbytes: int) -> None:
        """Move the first rows of the queues into the open batch, and a lane behind one of them."""
        opened, users = self._open, self._users
        opened.total += sum(counts)
        opened.nbytes += nbytes
        led: list[int | _Lane] = []
        for slot, some in enumerate(pieces):
            self._queues[slot].drop(counts[slot])
            for rows in some:
                opened.put(slot, rows)
                lanes = {key: users[key] for key in self._followed.intersection(rows.keys)}
                users.update(dict.fromkeys(rows.keys, self._id))
                users.update(lanes)
                self._followed.difference_update(lanes)
                led += lanes.values()
                if caps.per_user is not None:
                    opened.per_user.update(dict.fromkeys(rows.keys, 1))
        for lane in led:
            assert isinstance(lane, _Lane)
            self._hold(lane)
            self._barred -= self._board(caps, lane)

    def _quota(self, caps: Caps) -> list[int]:
        """How many rows of each queue go: as many as fit, the oldest first where not all do."""
        opened, room = self._open, caps.total - self._open.total
        counts = [
            min(cap - len(keys), len(queue))
            for keys, cap, queue in zip(opened.keys, caps.per_slot, self._queues, strict=True)
        ]
        if self._full or room <= 0:
            return [0] * self._slots
        if sum(counts) <= room:
            return counts
        heads = [
            queue.positions(min(count, room))
            for queue, count in zip(self._queues, counts, strict=True)
        ]
        last = sorted(chain.from_iterable(heads))[room - 1]
        return [bisect_right(head, last) for head in heads]


def _fitting(pieces: list[list[Rows]], room: int) -> tuple[list[int], int]:
    """Return how many rows of each slot fit into `room` bytes, oldest first, and their bytes."""
    rows = sorted(
        (position, slot, len(fragment) + 1)
        for slot, some in enumerate(pieces)
        for part in some
        for position, fragment in zip(part.positions, part.fragments, strict=True)
    )
    ends = list(accumulate(size for _, _, size in rows))
    fitting = bisect_right(ends, room)
    slots = Counter(slot for _, slot, _ in rows[:fitting])
    return [slots[slot] for slot in range(len(pieces))], ends[fitting - 1] if fitting else 0
