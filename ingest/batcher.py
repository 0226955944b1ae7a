"""Packing: which records go into the next request.

Decides by the caps it is given and by one rule: a user is in one request at a time, and a record
that is left out bars its user's later ones. Knows neither time nor destination; a batch forms when
somebody asks for one. Memory is whatever was added and not yet taken, and `nbytes` says how much.

Every user that is in flight, or has a record waiting, has an entry in `_lanes`:

- an int: the user is in the batch of that id, and has nothing waiting;
- a `_Lane`: records of the user wait, behind a batch (`holder` is its id) or for a place (`FREE`).

A user without an entry is free, which is the common case and costs one look-up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import compress
from typing import Final, NamedTuple

import msgspec

from ingest.profiles import Caps
from ingest.records import EMPTY_COLUMN, Batch, Chunk, Column, Fragment, UserKey

FREE: Final = -1
"""Holder of a lane whose user is in no batch."""

RECORD_OVERHEAD: Final = 256
"""Bytes that a record costs beside its fragment: key, position, line and its share of the lists."""

LEFT_OUT_BATCHES: Final = 20
"""Look-ahead for a fuller request, in full batches: beyond it, an unfilled slot is accepted."""

MAJOR_SHARE: Final = 0.75
"""A slot that gets at least this share of what the busiest slot gets is worth waiting for; a rarer
one cannot be full in every request, however far we look ahead."""

SLICE_AT_LEAST: Final = 8
"""Rows looked at one by one when there is room for fewer at once."""

SHARE_MEMORY: Final = 5_000.0
"""Records over which a slot's share is remembered."""


class _Waiting(NamedTuple):
    """A record that was left out; its bytes are its own, not a view of its chunk."""

    fragment: bytes
    slot: int
    position: int
    line: int


class _Lane(msgspec.Struct):
    key: UserKey
    holder: int
    waiting: deque[_Waiting]


class _Open:
    """The batch being filled."""

    def __init__(self, slots: int) -> None:
        self.fragments: list[list[Fragment]] = [[] for _ in range(slots)]
        self.keys: list[list[UserKey]] = [[] for _ in range(slots)]
        self.positions: list[list[int]] = [[] for _ in range(slots)]
        self.lines: list[list[int]] = [[] for _ in range(slots)]
        self.total = 0
        self.nbytes = 0
        self.per_user: dict[UserKey, int] = {}
        self.per_user_cap: int | None = None  # `per_user` is counted only under a cap

    def columns(self) -> tuple[Column, ...]:
        """Join what was gathered."""
        return tuple(
            Column.of(*rows) if rows[0] else EMPTY_COLUMN
            for rows in zip(self.fragments, self.keys, self.positions, self.lines, strict=True)
        )


class Batcher:
    """Packs chunks into batches.

    `slots` is the number of arrays of a request; `overhead` an upper bound of the bytes that wrap
    the arrays in a body, counted against the byte cap.
    """

    def __init__(self, *, slots: int, overhead: int) -> None:
        self._slots = slots
        self._overhead = overhead
        self._only = [bytes(int(value == slot) for value in range(256)) for slot in range(slots)]
        self._lanes: dict[UserKey, int | _Lane] = {}
        self._runnable: list[deque[_Lane]] = [deque() for _ in range(slots)]
        self._fresh: deque[Chunk] = deque()
        self._cursor = 0
        self._id = 1
        self._open = _Open(slots)
        self._full = False
        self._arrived = [0.0] * slots
        self._major = [True] * slots
        self._fresh_count = 0
        self._waiting_count = 0
        self._left_out = 0
        self.nbytes = 0

    def __len__(self) -> int:
        """Records added and in no batch yet."""
        return self._fresh_count + self._waiting_count + self._open.total

    @property
    def barred(self) -> int:
        """Records that wait for their user to come back from a batch."""
        return self._waiting_count - self._left_out

    @property
    def open_records(self) -> int:
        """Records in the batch being filled."""
        return self._open.total

    def add(self, chunk: Chunk) -> None:
        """Take in a chunk; its records come after all that were added before."""
        if len(chunk):
            self._fresh.append(chunk)
            self._fresh_count += len(chunk)
            self.nbytes += chunk.nbytes + RECORD_OVERHEAD * len(chunk)
            fade = SHARE_MEMORY / (SHARE_MEMORY + len(chunk))
            self._arrived = [
                seen * fade + chunk.slots.count(slot) for slot, seen in enumerate(self._arrived)
            ]
            worth = MAJOR_SHARE * max(self._arrived)
            self._major = [seen >= worth for seen in self._arrived]

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
        self._fill_from_fresh(caps)
        opened = self._open
        if not opened.total or not (self._full or partial):
            return None
        batch = Batch(self._id, self._id, opened.columns(), generation)
        self._id += 1
        self._open = _Open(self._slots)
        self.nbytes -= opened.nbytes + RECORD_OVERHEAD * opened.total
        return batch

    def release(self, users: Iterable[UserKey]) -> None:
        """Let users go: their batch is settled, and their waiting records may be packed."""
        lanes = self._lanes
        for user in users:
            lane = lanes.pop(user)
            if type(lane) is not int:
                assert isinstance(lane, _Lane)
                lane.holder = FREE
                lanes[user] = lane
                self._left_out += len(lane.waiting)
                self._runnable[lane.waiting[0].slot].append(lane)

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
        opened, self._open = self._open, _Open(self._slots)
        rows = sorted(
            (position, slot, index)
            for slot, positions in enumerate(opened.positions)
            for index, position in enumerate(positions)
        )
        self.nbytes -= opened.nbytes + RECORD_OVERHEAD * opened.total
        touched: dict[UserKey, _Lane] = {}
        for position, slot, index in reversed(rows):
            key = opened.keys[slot][index]
            lane = touched.get(key)
            if lane is None:
                existing = self._lanes[key]
                lane = existing if isinstance(existing, _Lane) else _Lane(key, FREE, deque())
                self._left_out += len(lane.waiting)
                lane.holder = FREE
                self._lanes[key] = touched[key] = lane
            fragment = bytes(opened.fragments[slot][index])
            lane.waiting.appendleft(_Waiting(fragment, slot, position, opened.lines[slot][index]))
            self._count_waiting(len(fragment), +1)
            self._left_out += 1
        # `touched` runs from the last record to the first: the front of the line keeps that order.
        for lane in touched.values():
            self._runnable[lane.waiting[0].slot].appendleft(lane)

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

    def _put(
        self, caps: Caps, key: UserKey, slot: int, fragment: Fragment, position: int, line: int
    ) -> None:
        opened = self._open
        opened.fragments[slot].append(fragment)
        opened.keys[slot].append(key)
        opened.positions[slot].append(position)
        opened.lines[slot].append(line)
        opened.total += 1
        opened.nbytes += len(fragment) + 1
        self.nbytes += len(fragment) + 1 + RECORD_OVERHEAD
        if caps.per_user is not None:
            opened.per_user[key] = opened.per_user.get(key, 0) + 1

    def _count_waiting(self, size: int, sign: int) -> None:
        self._waiting_count += sign
        self.nbytes += sign * (size + RECORD_OVERHEAD)

    # Where records come from: lanes first, for their users have waited

    def _fill_from_lanes(self, caps: Caps) -> None:
        for slot in range(self._slots):
            runnable = self._runnable[slot]
            while runnable and not self._full:
                lane = runnable.popleft()
                if not self._run_lane(caps, lane):
                    runnable.appendleft(lane)
                    break

    def _run_lane(self, caps: Caps, lane: _Lane) -> bool:
        """Move what fits from the front of a lane into the open batch; False if nothing did."""
        waiting, moved = lane.waiting, 0
        while waiting:
            record = waiting[0]
            if not self._fits(caps, lane.key, record.slot, len(record.fragment)):
                break
            waiting.popleft()
            self._count_waiting(len(record.fragment), -1)
            self._put(caps, lane.key, record.slot, record.fragment, record.position, record.line)
            moved += 1
        if not moved:
            return False
        self._left_out -= moved + len(waiting)
        if waiting:
            lane.holder = self._id
        else:
            self._lanes[lane.key] = self._id
        return True

    def _fill_from_fresh(self, caps: Caps) -> None:
        look_ahead = LEFT_OUT_BATCHES * caps.total
        while not self._full:
            room = self._room(caps)
            if room == 0 or self._left_out >= look_ahead:
                self._full = True
            elif not self._fresh:
                return
            else:
                self._fill_some(caps, self._fresh[0], room)

    def _room(self, caps: Caps) -> int:
        """Rows worth trying at once: 0 when each slot that is worth waiting for is full."""
        left = min(
            (
                cap - len(keys)
                for keys, cap, major in zip(
                    self._open.keys, caps.per_slot, self._major, strict=True
                )
                if major and cap > len(keys)
            ),
            default=0,
        )
        return min(left, caps.total - self._open.total)

    def _fill_some(self, caps: Caps, chunk: Chunk, room: int) -> None:
        start = self._cursor
        stop = min(len(chunk), start + max(room, SLICE_AT_LEAST))
        if stop - start > room or not self._put_slice(caps, chunk, start, stop):
            stop = self._put_each(caps, chunk, start, stop)
        self._fresh_count -= stop - start
        self._cursor = stop
        if stop == len(chunk):
            self._fresh.popleft()
            self._cursor = 0
            self.nbytes -= chunk.nbytes + RECORD_OVERHEAD * len(chunk)

    def _put_slice(self, caps: Caps, chunk: Chunk, start: int, stop: int) -> bool:
        """Put rows at once when all their users are free and all fit; else change nothing."""
        keys = chunk.keys[start:stop]
        if caps.per_user is not None or not self._lanes.keys().isdisjoint(keys):
            return False
        fragments = chunk.fragments[start:stop]
        nbytes = sum(map(len, fragments)) + len(fragments)
        opened = self._open
        if opened.nbytes + nbytes > caps.body_bytes - self._overhead:
            return False
        slots = chunk.slots[start:stop]
        counts = [slots.count(slot) for slot in range(self._slots)]
        for slot, count in enumerate(counts):
            if len(opened.keys[slot]) + count > caps.per_slot[slot]:
                return False
        positions, lines = chunk.positions[start:stop], chunk.lines[start:stop]
        for slot, count in enumerate(counts):
            if count == len(keys):
                opened.fragments[slot] += fragments
                opened.keys[slot] += keys
                opened.positions[slot] += positions
                opened.lines[slot] += lines
            elif count:
                chosen = slots.translate(self._only[slot])
                opened.fragments[slot] += compress(fragments, chosen)
                opened.keys[slot] += compress(keys, chosen)
                opened.positions[slot] += compress(positions, chosen)
                opened.lines[slot] += compress(lines, chosen)
        opened.total += len(keys)
        opened.nbytes += nbytes
        self.nbytes += nbytes + RECORD_OVERHEAD * len(keys)
        self._lanes.update(dict.fromkeys(keys, self._id))
        return True

    def _put_each(self, caps: Caps, chunk: Chunk, start: int, stop: int) -> int:
        """Put, bar or leave out rows one by one; return where it stopped."""
        lanes, opening = self._lanes, self._id
        for row in range(start, stop):
            key, slot, fragment = chunk.keys[row], chunk.slots[row], chunk.fragments[row]
            lane = lanes.get(key)
            if lane is None or lane == opening:
                if self._fits(caps, key, slot, len(fragment)):
                    self._put(caps, key, slot, fragment, chunk.positions[row], chunk.lines[row])
                    lanes[key] = opening
                    continue
                if self._full:
                    return row
            record = _Waiting(bytes(fragment), slot, chunk.positions[row], chunk.lines[row])
            self._count_waiting(len(fragment), +1)
            if isinstance(lane, _Lane):
                lane.waiting.append(record)
                self._left_out += lane.holder == FREE
            elif lane is None:
                lanes[key] = lane = _Lane(key, FREE, deque((record,)))
                self._runnable[slot].append(lane)
                self._left_out += 1
            else:
                lanes[key] = _Lane(key, lane, deque((record,)))
        return stop
