"""Users who came lately: told to be new, many at a time, and forgotten many at a time.

Decides whether all users of some records are new, so that nothing has to be noted of each of them.
It remembers them in generations, and a generation goes when the last of its records has gone. So a
user whose records have all gone may still be remembered: then the answer is no, and proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ingest.queues import Generation, Rows
from ingest.records import UserKey

LEAST: Final = 4_096
"""Users of a generation at the least: a few requests' worth more than this is of no use, and with
fewer there would be many generations to look into."""


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
            if not generation.users.isdisjoint(users):
                return None
        newest = self._generations[-1]
        if len(newest.users) >= max(LEAST, self.here):
            newest = Generation()
            self._generations.append(newest)
        newest.users |= users
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
            self._went(generation, len(keys))
        return of is not None

    def all_aboard(self) -> Iterator[tuple[int, Sequence[UserKey]]]:
        """Yield the newcomers in each batch, by its family."""
        for family, of in self._aboard.items():
            for _, keys in of:
                yield family, keys

    def _went(self, generation: Generation, records: int) -> None:
        generation.here -= records
        if generation.here:
            return
        if generation is self._generations[-1]:
            generation.users.clear()
        else:
            self._generations.remove(generation)

    def clear(self) -> None:
        """Forget everybody."""
        self._generations = [Generation()]
        self._aboard.clear()
