"""Users who came lately: told to be new, many at a time, and forgotten many at a time.

Decides whether all users of some records are new, so that nothing has to be noted of each of them.
It remembers them in generations, and a generation goes when the last of its records has gone. So a
user whose records have all gone may still be remembered: then the answer is no, and proves nothing.

Whoever reads the records may have looked already (`Lately`), in another process perhaps, and vouch
for it (`News`). What came with such a word is not remembered by its users at all: only how far back
a later word has to reach to tell of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ingest.queues import Generation, Rows
from ingest.records import News, UserKey
from ingest.rising import Rising

LEAST: Final = 4_096
"""Users of a generation at the least: a few requests' worth more than this is of no use, and with
fewer there would be many generations to look into."""

SPAN: Final = 16_384
"""Records that a word reaches back at the least: what 218 requests of 75 hold. Where more are in
flight, answers are far away, and there is time to note every user. More would fall out of the
processor's cache, and cost as much as they spare."""


class Lately:
    """The users of the last records of a source, `span` of them or more.

    As long as they come in an order nobody is remembered, and it reaches back to its beginning.
    """

    def __init__(self, span: int = SPAN) -> None:
        self._span = span
        self._rising = Rising()
        self._risen_from = 0  # how many records came before the order began
        self._users: set[UserKey] = set()
        self._before: set[UserKey] = set()
        self._first = self._first_before = 0  # how many records came before those of each
        self._serial = 0

    def came(self, keys: Iterable[Sequence[UserKey]], records: int) -> News | None:
        """Take note of so many records, by columns of keys; return what can be said of their users.

        None if two of them, or one of them and one of those that came lately, are of one user.
        """
        columns = tuple(keys)
        serial = self._serial
        self._serial += records
        while not self._rising.over:
            if self._rising.go_on(columns):
                return News(serial, serial - self._risen_from)
            # Of those before, none was remembered.
            self._risen_from = self._first = self._first_before = serial
        if len(self._users) >= self._span:
            self._before, self._first_before = self._users, self._first
            self._users, self._first = set(), serial
        known = len(self._users)
        self._users.update(*columns)
        if len(self._users) < known + records or not all(map(self._before.isdisjoint, columns)):
            return None
        return News(serial, serial - self._first_before)


class Newcomers:
    """The generations that have records here, and the batches that some of those are in."""

    def __init__(self) -> None:
        self._generations = [Generation()]
        self._aboard: dict[int, list[tuple[Generation, Sequence[UserKey]]]] = {}

    @property
    def here(self) -> int:
        """Records of all generations that have not gone."""
        return sum(generation.here for generation in self._generations)

    def admit(self, keys: Sequence[UserKey]) -> Generation | None:
        """Take in a record of each of these users, if all are new and no two are the same.

        Returns the generation that they belong to; None if nothing was taken in.
        """
        users = set(keys)
        if len(users) < len(keys):
            return None
        for generation in self._generations:
            if generation.since is not None or not generation.users.isdisjoint(users):
                return None
        newest = self._generations[-1]
        if len(newest.users) >= max(LEAST, self.here):
            newest = self._begin()
        newest.users |= users
        newest.here += len(keys)
        return newest

    def trust(self, news: News, keys: Sequence[UserKey]) -> Generation | None:
        """Do as `admit` on the word of somebody who knows all of whom the users are not known."""
        reaches = news.serial - news.span
        for generation in self._generations:
            if generation.since is not None:
                if generation.since < reaches:
                    return None
            elif generation.users and not generation.users.isdisjoint(keys):
                return None
        newest = self._generations[-1]
        if not newest.here:
            newest.since = news.serial
        elif newest.since is None or newest.here >= LEAST:
            newest = self._begin()
            newest.since = news.serial
        newest.here += len(keys)
        return newest

    def board(self, family: int, pieces: Iterable[Rows]) -> None:
        """Note which of the rows of a batch, named by its family, are of newcomers."""
        of = [(rows.newcomers, rows.keys) for rows in pieces if rows.newcomers is not None]
        if of:
            self._aboard[family] = of

    def aboard(self, family: int) -> Iterator[UserKey]:
        """Yield the newcomers in a batch."""
        for _, keys in self._aboard.get(family, ()):
            yield from keys

    def leave(self, family: int) -> bool:
        """Forget a batch that was settled, or whose newcomers are remembered otherwise from now on.

        Returns whether there are any in it.
        """
        of = self._aboard.pop(family, None)
        for generation, keys in of or ():
            generation.here -= len(keys)
            if not generation.here:
                self._forget(generation)
        return of is not None

    def all_aboard(self) -> Iterator[tuple[int, Sequence[UserKey]]]:
        """Yield the newcomers in each batch, by its family."""
        for family, of in self._aboard.items():
            for _, keys in of:
                yield family, keys

    def clear(self) -> None:
        """Forget everybody."""
        self._generations = [Generation()]
        self._aboard.clear()

    def _begin(self) -> Generation:
        newest = Generation()
        self._generations.append(newest)
        return newest

    def _forget(self, generation: Generation) -> None:
        if generation is self._generations[-1]:
            generation.users.clear()
            generation.since = None
        else:
            self._generations.remove(generation)
