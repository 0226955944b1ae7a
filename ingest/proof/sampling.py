"""Which users of a run are looked at: a number of them, by lot, each with all of its records.

Decides by a keyed hash of the user key: those with the smallest hashes are kept, so that one
reading of an input is enough, every user has the same chance, and the same seed chooses the same
users. A user that is let go can never come back, for the threshold only falls; so whoever is kept
in the end was kept from its first record on.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from heapq import heappush, heapreplace
from typing import Final

from ingest.codec import loads
from ingest.proof.expected import Expected, Window
from ingest.ranges import Ranges
from ingest.records import Chunk, UserKey, part_of, position
from ingest.taken import Taken

HASH_BYTES: Final = 8
_HASHES: Final = 1 << 8 * HASH_BYTES

_WORD: Final = "Q"
"""Eight bytes for the place of a line: a million dead letters are 8 MB."""


class Doubts:
    """What is known of the records that were not delivered.

    `rejected` and `doubtful` are places of lines (`position(part, line)`) that have a dead letter:
    the destination refused the record, or nobody knows whether it arrived. `settled` are the
    positions with a verdict, None where all have one.
    """

    def __init__(
        self,
        rejected: Iterable[int] = (),
        doubtful: Iterable[int] = (),
        settled: Ranges | None = None,
    ) -> None:
        self._rejected = array(_WORD, sorted(rejected))
        self._doubtful = array(_WORD, sorted(doubtful))
        self._settled = settled

    def pending(self, at: int) -> bool:
        """Whether the record at this position has no verdict yet."""
        return self._settled is not None and at not in self._settled

    def rejected(self, place: int) -> bool:
        """Whether the destination refused a record of this line."""
        return _has(self._rejected, place)

    def unknown(self, place: int) -> bool:
        """Whether nobody knows if a record of this line arrived."""
        return _has(self._doubtful, place)


class Sample:
    """Chooses `size` users of those that `readable` says can be read back.

    `users` are the chosen ones, by their keys.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        window: Window,
        doubts: Doubts | None = None,
        readable: Callable[[UserKey], bool] = lambda _: True,
    ) -> None:
        self._size = size
        self._seed = seed.to_bytes(8, "big", signed=True)
        self._window = window
        self._doubts = doubts or Doubts()
        self._readable = readable
        self._worst: list[tuple[int, int, UserKey]] = []  # a heap: the largest hash first
        self._entered = 0
        self.users: dict[UserKey, Expected] = {}
        self.unreadable = 0
        """Records of users that cannot be read back."""

    def take(self, taken: Taken) -> None:
        """Take in the records of some lines, in the order of the input."""
        refused = {refusal.line for refusal in taken.refusals}
        for chunk in taken.chunks:
            self._take(chunk, refused)

    @property
    def about(self) -> int:
        """How many users there are to choose from, about: exact until there are more than `size`.

        The k-th smallest of n even numbers out of a range lies at k/n of it.
        """
        if len(self.users) < self._size or not self._worst:
            return len(self.users)
        return max(len(self.users), (self._size - 1) * _HASHES // max(1, -self._worst[0][0]))

    def _take(self, chunk: Chunk, refused: set[int]) -> None:
        users, doubts, lines = self.users, self._doubts, chunk.lines
        for row, (key, at) in enumerate(zip(chunk.keys, chunk.positions, strict=True)):
            user = users.get(key)
            if user is None:
                lot = self._lot(key)
                if len(users) >= self._size and lot >= -self._worst[0][0]:
                    continue
                if not self._readable(key):
                    self.unreadable += 1
                    continue
            line = lines[row]
            place = position(part_of(at), line)
            doubtful = doubts.pending(at) or doubts.unknown(place)
            if doubts.rejected(place) and not doubtful:
                # Of several records in a line, a letter does not say which of them it is.
                doubtful = line in refused or lines.count(line) > 1
                if not doubtful:
                    continue
            if user is None:
                if doubtful:
                    continue  # chosen are users of whom something arrived
                user = self._enter(key, lot)
            user.add(
                chunk.slots[row],
                loads(bytes(chunk.fragments[row])),
                self._window,
                position=at,
                line=line,
                doubtful=doubtful,
            )

    def _enter(self, key: UserKey, lot: int) -> Expected:
        """Choose a user, and let the one with the largest hash go if there are too many."""
        self._entered += 1
        entry = (-lot, self._entered, key)
        if len(self.users) < self._size:
            heappush(self._worst, entry)
        else:
            del self.users[heapreplace(self._worst, entry)[2]]
        user = self.users[key] = Expected(key)
        return user

    def _lot(self, key: UserKey) -> int:
        parts = (key,) if isinstance(key, str) else key
        told = "\0".join((str(len(parts)), *parts)).encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(told, digest_size=HASH_BYTES, key=self._seed).digest()
        return int.from_bytes(digest, "big")


def _has(places: array[int], place: int) -> bool:
    at = bisect_left(places, place)
    return at < len(places) and places[at] == place
