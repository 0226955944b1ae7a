"""Which dead letters a delivery overtakes: those of the same user from before it in the source.

An attributes record that was not delivered, and is sent again after a later one of its user was,
sets values back. So each such letter is remembered until that happens. Decides by user and place
alone; it knows no file. Users are known by a hash of their key (64 bits, so that of 10 million
users one letter is taken for another's once in some million runs), and a letter is one integer, for
there may be many.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final

from ingest.records import UserKey

MOST_LETTERS: Final = 200_000
"""Letters remembered at a time: some 30 MB. Of those beyond it nothing is known."""

_FLAG_BITS: Final = 64
_FLAG: Final = (1 << _FLAG_BITS) - 1


class Superseding:
    """Letters that a later delivery would supersede: user -> places, and where their flags are.

    A place is an integer that grows in the order of the source; a flag is any integer below 2**64.
    """

    def __init__(self) -> None:
        self._users: dict[int, int | list[int]] = {}
        self._letters = 0

    def __len__(self) -> int:
        """Letters remembered."""
        return self._letters

    def remember(self, key: UserKey, place: int, flag: int) -> None:
        """Remember a letter of a user."""
        user, letter = hash(key), place << _FLAG_BITS | flag
        self._letters += 1
        before = self._users.setdefault(user, letter)
        if isinstance(before, list):
            heappush(before, letter)
        elif before != letter:
            self._users[user] = [min(before, letter), max(before, letter)]

    def rows_of(self, keys: Sequence[UserKey]) -> list[int]:
        """Return the rows of a column whose users have letters; where none has, it costs little."""
        users = self._users
        if not users or users.keys().isdisjoint(map(hash, keys)):
            return []
        return [row for row, user in enumerate(map(hash, keys)) if user in users]

    def overtaken(self, key: UserKey, place: int) -> list[int]:
        """Return the flags of the user's letters from before a place, and forget those letters."""
        user, flags = hash(key), list[int]()
        letters = self._users.get(user, [])
        heap = letters if isinstance(letters, list) else [letters]
        while heap and heap[0] >> _FLAG_BITS < place:
            flags.append(heappop(heap) & _FLAG)
        if flags:
            self._letters -= len(flags)
            if not heap:
                del self._users[user]
        return flags
