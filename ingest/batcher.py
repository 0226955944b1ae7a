"""Packing: which records go into the next request.

Decides by the caps it is given and by one rule: a user is in one request at a time, and a record
that is left out bars its user's later ones. Knows neither time nor destination; a batch forms when
somebody asks for one. Memory is whatever was added and not yet taken, and `nbytes` says how much.

The first record of a user that has none here goes into a queue: of its partition, of its slot.
Until that record is settled, the user's later ones wait in the user's lane, or go with it. So no
two records in the queues have the same user, none there has a user in flight, and a queue is packed
by slices, without a look at its records. Every user that is here or in flight has an entry in
`_users`, but for newcomers, of whom there is one record each (`ingest.newcomers`); they get theirs
as soon as a user comes who may be one of them:

- an int: where the user's record is, `QUEUED` or the id of a batch, and nothing waits behind it;
- a `Lane`: more of the user's records wait, behind that record (its `holder`), or for a place
  (when the holder is `FREE`), whatever partitions they are of.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from itertools import chain, compress
from operator import sub
from typing import Final

from ingest.filling import Folding, Open
from ingest.leaders import last_safe, led_by, oldest
from ingest.lots import Lot, Lots
from ingest.newcomers import Newcomers
from ingest.profiles import Caps
from ingest.queues import Generation, Lane, Rows, Waiting, bytes_of, fitting, joined
from ingest.records import EMPTY_COLUMN, Batch, Chunk, UserKey, size_of
from ingest.shares import Shares

__all__ = ["Batcher", "Folding"]

FREE: Final = -1
"""Holder of a lane whose user has no record in a queue or a batch."""

QUEUED: Final = -2
"""Place of a user whose record is in the queue of its slot."""

RECORD_OVERHEAD: Final = 256
"""Bytes that a record costs beside its fragment: key, position, line and its share of the lists."""

LEFT_OUT_BATCHES: Final = 20
"""Look-ahead for a fuller request, in full batches: beyond it, an unfilled slot is accepted, and so
is a partition with few records."""

FAMILIAR: Final = 16_384
"""Records after one of a user who may be here already, for which nobody is taken for a newcomer, or
as many as are here, if those are more: to meet all newcomers costs as much as to have met them."""

WINDOW: Final = 256
"""Rows that are looked at in one step where lanes wait behind some of them: more than a request
with small caps takes, and few enough to be looked at again and again where a large one fills up."""


class Batcher:
    """Packs chunks into batches.

    `slots` is the number of arrays of a request; `overhead` an upper bound of the bytes that wrap
    the arrays in a body, counted against the byte cap. With `folding`, slots are kinds of records
    that go into one item per user: which of them are full is of no interest then.
    """

    def __init__(self, *, slots: int, overhead: int, folding: Folding | None = None) -> None:
        self._slots = slots
        self._overhead = overhead
        self._folding = folding
        self._only = [bytes(int(value == slot) for value in range(256)) for slot in range(slots)]
        self._users: dict[UserKey, int | Lane] = {}
        self._newcomers = Newcomers()
        self._familiar = 0  # records to come whose users are not taken for newcomers
        self._lots = Lots(slots)
        self._followed: set[UserKey] = set()  # users with a lane behind a record in a queue
        self._boarding: list[Lane] = []  # lanes that have begun behind the open batch
        self._id = 1
        self._none = self._open = Open(Caps((0,) * slots, 0, 0), overhead)
        self._shares = Shares(slots)
        self._queued = 0
        self._waiting = 0
        self._barred = 0
        self.nbytes = 0

    def __len__(self) -> int:
        """Records added and in no batch yet."""
        return self._queued + self._waiting + self._open.total

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
        self.nbytes += size_of(chunk.fragments) + count * RECORD_OVERHEAD
        counts = [chunk.slots.count(slot) for slot in range(self._slots)]
        self._shares.came(counts)
        if (newest := self._admit(chunk)) is not None:
            self._enqueue(chunk, chunk.slots, counts, newest)
            return
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

    def take(
        self, caps: Caps, generation: int = 0, *, partial: bool, more: bool = True
    ) -> Batch | None:
        """Return the next batch, or None while none may go.

        With `partial` false only a full batch is returned: at a cap, or with the look-ahead used
        up; what was gathered stays open for the next call. A folding batch that has all the users
        it may have waits for more of their records, unless `more` says that none will be added
        soon. With `partial` true whatever may go goes. All records of the batch are of one
        partition, and no user of it is in another batch until `release`.
        """
        if self._open.total and not self._open.under(caps):
            self._reopen()
        if not self._open.total:
            if not self._lots:
                return None
            if (batch := self.take_full(caps, generation)) is not None:
                return batch
            self._begin(caps)
        opened = self._open
        self._fill_from_boarding()
        lot = self._lots.of(opened.partition)
        self._fill_from_lanes(lot)
        self._fill_from_queues(lot)
        if not opened.total or not (partial or self._may_go(caps, more)):
            return None
        batch = opened.batch(self._id, generation)
        self._newcomers.board(self._id, opened.pieces)
        self._id += 1
        self._open = self._none
        self._lots.went(opened.partition, opened.total)
        self.nbytes -= opened.nbytes + RECORD_OVERHEAD * opened.total
        return batch

    def take_full(self, caps: Caps, generation: int = 0, most: int | None = None) -> Batch | None:
        """Return a full batch of queues alone, where nothing else is there; None: ask `take`.

        One with more than `most` records is left to `take` as well.

        What the long way comes to in the plainest case, which a table of users is from its first
        row to its last: nobody waits behind anybody, and all is of one partition.
        """
        if self._open.total or self._folding is not None or self._followed or self._boarding:
            return None
        if (only := self._lots.only) is None:
            return None
        partition, lot = only
        if any(lot.runnable) or (counts := self._full_counts(caps, lot)) is None:
            return None
        if most is not None and sum(counts) > most:
            return None
        found = lot.first(counts)
        members = len(partition.members)
        nbytes = bytes_of(found)
        if nbytes > caps.body_bytes - self._overhead - members - bool(members):
            return None
        lot.drop(counts)
        columns = tuple([joined(pieces) if pieces else EMPTY_COLUMN for pieces in found])
        batch = Batch(self._id, self._id, columns, generation, partition)
        aboard = list(chain.from_iterable(found))
        self._newcomers.board(self._id, aboard)
        for rows in aboard:
            if rows.newcomers is None:
                self._users.update(dict.fromkeys(rows.keys, self._id))
        self._id += 1
        count = batch.records
        self._queued -= count
        self._lots.went(partition, count)
        self.nbytes -= nbytes + RECORD_OVERHEAD * count
        return batch

    def release(self, family: int, users: Iterable[UserKey]) -> None:
        """Let users of a family go: it is settled, and their waiting records may be packed.

        All users of the family go at once, unless `tell_apart` was called.
        """
        places, lot, of = self._users, None, None
        if self._newcomers.leave(family) and not places:
            return
        for lane in [places.pop(user, None) for user in users]:
            if lane is not None and type(lane) is not int:
                assert isinstance(lane, Lane)
                places[lane.key] = lane
                self._free(lane)
                first = lane.waiting[0]
                if lot is None or first.partition is not of:
                    of = first.partition
                    lot = self._lots.of(of)
                lot.runnable[first.slot].append(lane)

    def tell_apart(self, family: int) -> None:
        """Get ready for the users of a family to be released one by one."""
        self._users.update(dict.fromkeys(self._newcomers.aboard(family), family))
        self._newcomers.leave(family)

    # Taking in

    def _admit(self, chunk: Chunk) -> Generation | None:
        """Take the users of a chunk as newcomers, if none of them can be here; else meet all."""
        users, keys, news = self._users, chunk.keys, chunk.news
        if news is None and self._familiar > 0:
            self._familiar -= len(chunk)
            if self._newcomers.here:  # of those who came with a word meanwhile
                self._meet()
            return None
        if not users or users.keys().isdisjoint(keys):
            trusted = news and self._newcomers.trust(news, keys)
            generation = trusted or self._newcomers.admit(keys)
            if generation is not None:
                return generation
        self._familiar = max(FAMILIAR, self._newcomers.here)
        self._meet()
        return None

    def _meet(self) -> None:
        """Give every newcomer an entry."""
        users = self._users
        for queue in self._lots.queues():
            users.update(dict.fromkeys(queue.meet(), QUEUED))
        for rows in self._open.pieces:
            if rows.newcomers is not None:
                rows.newcomers = None
                users.update(dict.fromkeys(rows.keys, self._id))
        for family, keys in self._newcomers.all_aboard():
            users.update(dict.fromkeys(keys, family))
        self._newcomers.clear()

    def _enqueue(
        self, chunk: Chunk, slots: bytes, counts: list[int], newest: Generation | None = None
    ) -> None:
        if not any(counts):
            return
        self._queued += sum(counts)
        lot = self._lots.of(chunk.partition)
        for slot, count in enumerate(counts):
            if count == len(chunk):
                columns = (chunk.fragments, chunk.keys, chunk.positions, chunk.lines)
                rows = Rows(*columns, newest)
            elif count:
                chosen = slots.translate(self._only[slot])
                rows = Rows(
                    list(compress(chunk.fragments, chosen)),
                    list(compress(chunk.keys, chosen)),
                    list(compress(chunk.positions, chosen)),
                    list(compress(chunk.lines, chosen)),
                    newest,
                )
            else:
                continue
            lot.add(slot, rows)

    def _park(self, chunk: Chunk, row: int, key: UserKey, place: int | Lane) -> None:
        """Let a record wait behind an earlier one of its user."""
        record = Waiting(
            bytes(chunk.fragments[row]),
            chunk.slots[row],
            chunk.positions[row],
            chunk.lines[row],
            chunk.partition,
        )
        self._waiting += 1
        if isinstance(place, Lane):
            place.waiting.append(record)
            self._barred += place.holder >= 0
            return
        lane = self._users[key] = Lane(key, place, deque((record,)))
        if place == QUEUED:
            self._followed.add(key)
        else:
            self._barred += 1
            if place == self._id:
                self._boarding.append(lane)

    def _free(self, lane: Lane) -> None:
        lane.holder = FREE
        self._barred -= len(lane.waiting)

    def _full_counts(self, caps: Caps, lot: Lot) -> list[int] | None:
        """Return how many rows of each queue fill a batch; None if it takes a look at which."""
        counts = [min(most, of.count) for most, of in zip(caps.per_slot, lot.queues, strict=True)]
        total, fill = sum(counts), caps.fill
        if total > fill:
            if max(counts) < total:
                return None  # the oldest of several
            return [min(count, fill) for count in counts]
        left = compress(map(sub, caps.per_slot, counts), self._shares.major)
        return counts if total and (total == fill or not any(left)) else None

    # The batch being filled

    def _begin(self, caps: Caps) -> None:
        """Begin a batch of the partition that goes next."""
        partition, passed_over = self._lots.next(caps.fill, LEFT_OUT_BATCHES * caps.fill)
        self._open = Open(
            caps, self._overhead, partition, folding=self._folding, passed_over=passed_over
        )

    def _reopen(self) -> None:
        """Put the open batch back: its records become the first ones of their lanes."""
        self._meet()
        opened, self._open = self._open, self._none
        self._boarding.clear()
        touched: dict[UserKey, Lane] = {}
        for key, record in reversed(opened.rows()):
            lane = touched.get(key)
            if lane is None:
                place = self._users[key]
                lane = place if isinstance(place, Lane) else Lane(key, self._id, deque())
                self._free(lane)
                self._users[key] = touched[key] = lane
            lane.waiting.appendleft(record)
        self._waiting += opened.total
        # `touched` runs from the last record to the first: the front of the line keeps that order.
        runnable = self._lots.of(opened.partition).runnable
        for lane in touched.values():
            runnable[lane.waiting[0].slot].appendleft(lane)

    def _may_go(self, caps: Caps, more: bool) -> bool:
        """At a cap, with nothing in it worth waiting for, or with the look-ahead used up."""
        left_out = self._queued + self._waiting - self._barred + self._open.passed_over
        return left_out >= LEFT_OUT_BATCHES * caps.fill or self._open.complete(
            self._shares.major, more=more
        )

    # Where records come from: lanes first, for their users have waited

    def _fill_from_boarding(self) -> None:
        # What does not fit now never does: another record of its user would have to leave.
        for lane in self._boarding:
            self._barred -= self._board(lane, begun=True)
        self._boarding.clear()

    def _fill_from_lanes(self, lot: Lot) -> None:
        if not any(lot.runnable):
            return
        opened = self._open
        new_users = opened.new_users
        # The slot whose lane is the oldest first: no slot's lanes keep those of another one out.
        lines = sorted(filter(None, lot.runnable), key=lambda lanes: lanes[0].waiting[0].position)
        for runnable in lines:
            while runnable and not opened.full and new_users > 0:
                lane = runnable[0]
                if not self._board(lane, begun=False):
                    break
                runnable.popleft()
                new_users -= 1
                self._hold(lane)

    def _board(self, lane: Lane, *, begun: bool) -> int:
        """Move what fits from the front of a lane into the open batch; return how many did.

        `begun` says whether the batch has a record of the lane's user.
        """
        moved = self._open.board(lane.key, lane.waiting, begun=begun)
        self._waiting -= moved
        if moved and not lane.waiting:
            self._users[lane.key] = self._id
        return moved

    def _hold(self, lane: Lane) -> None:
        """Note that a lane's user is in the open batch now, and what still waits is barred."""
        lane.holder = self._id
        self._barred += len(lane.waiting)

    def _fill_from_queues(self, lot: Lot) -> None:
        while any(counts := self._quota(lot)):
            pieces = lot.first(counts)
            leader = self._last_leader(pieces, counts)
            if leader is not None:
                # A user's records go together: what follows goes before what is younger.
                counts = [
                    sum(bisect_right(rows.positions, leader) for rows in some) for some in pieces
                ]
                pieces = lot.first(counts)
            nbytes, room = bytes_of(pieces), self._open.room
            if nbytes > room:
                self._open.full = True
                counts = fitting(pieces, room)
                pieces = lot.first(counts)
                nbytes = bytes_of(pieces)
            lot.drop(counts)
            self._enter(pieces, sum(counts), nbytes)

    def _last_leader(self, pieces: list[list[Rows]], counts: list[int]) -> int | None:
        """Return the position of the row with a lane behind it that the batch is cut at; or None.

        It is the oldest one; with folding, the last one that is safe.
        """
        followed, opened = self._followed, self._open
        led = led_by(followed, pieces)
        if not led:
            return None
        if self._folding is None:
            return oldest(led, followed)
        places = min(opened.all_places - sum(counts), *map(sub, opened.places, counts))
        return last_safe(led, followed, self._behind, places, opened.room - bytes_of(pieces))

    def _behind(self, key: UserKey) -> deque[Waiting]:
        lane = self._users[key]
        assert isinstance(lane, Lane)
        return lane.waiting

    def _enter(self, pieces: list[list[Rows]], count: int, nbytes: int) -> None:
        """Move rows from the queues into the open batch, and then the lanes behind some of them."""
        users, followed = self._users, self._followed
        self._queued -= count
        self._open.put(pieces, count, nbytes)
        led: list[Lane] = []
        for rows in chain.from_iterable(pieces):
            if rows.newcomers is not None:
                continue
            if not followed or followed.isdisjoint(rows.keys):
                users.update(dict.fromkeys(rows.keys, self._id))
                continue
            lanes = {key: users[key] for key in filter(followed.__contains__, rows.keys)}
            users.update(dict.fromkeys(rows.keys, self._id))
            users.update(lanes)
            followed.difference_update(lanes)
            led += [lane for lane in lanes.values() if isinstance(lane, Lane)]
        for lane in led:
            self._hold(lane)
            self._barred -= self._board(lane, begun=True)

    def _quota(self, lot: Lot) -> list[int]:
        """How many rows of each queue go: as many as fit, the oldest first where not all do."""
        opened, room = self._open, self._open.new_users
        if opened.full or room <= 0 or not lot.queued:
            return [0] * self._slots
        if self._followed:
            room = min(room, WINDOW)
        counts = list(map(min, opened.places, map(len, lot.queues)))
        if sum(counts) <= room:
            return counts
        heads = [
            queue.positions(min(count, room))
            for queue, count in zip(lot.queues, counts, strict=True)
        ]
        last = sorted(chain.from_iterable(heads))[room - 1]
        return [bisect_right(head, last) for head in heads]
