"""Keys that come in order: then each is another one, and nobody has to remember them.

Exports are mostly sorted by whom they tell of. Decides whether all keys of a block are above all
that came before them, in the order of texts, or of lengths first, as numbers without zeros before
them are. Knows nothing else of a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from operator import lt
from typing import Any, Final

from ingest.records import UserKey


def _by_text(keys: Iterable[UserKey]) -> list[Any]:
    return list(keys)


def _by_length(keys: Iterable[UserKey]) -> list[Any]:
    return [(len(key), key) for key in keys]


def _rises(keys: list[Any]) -> bool:
    return all(map(lt, keys, islice(keys, 1, None)))


_ORDERS: Final = (_by_text, _by_length)


EARLY: Final = 4_096
"""Keys that are kept from the beginning: the first numbers are in the order of texts, too."""


class Rising:
    """The order that keys have come in so far, if there is one, and the highest of them."""

    def __init__(self) -> None:
        self._orders = list(_ORDERS)
        self._top: Any = None
        self._early: list[Sequence[UserKey]] = []

    @property
    def over(self) -> bool:
        """Whether they come in no order."""
        return not self._orders

    def go_on(self, columns: Sequence[Sequence[UserKey]]) -> bool:
        """Tell whether all keys of a block are above those before, and no two are the same.

        If not, they may begin another order, in which none came before.
        """
        if self._fits(columns):
            if sum(map(len, self._early)) < EARLY:
                self._early += columns
            return True
        early, self._early, self._top = self._early, [], None
        del self._orders[:1]
        if sum(map(len, early)) >= EARLY:  # not all there were
            return False
        return bool(self._orders) and self._fits([*early, *columns])

    def _fits(self, columns: Sequence[Sequence[UserKey]]) -> bool:
        keys = self._in_order(columns)
        if keys is None or (keys and self._top is not None and keys[0] <= self._top):
            return False
        if keys:
            self._top = keys[-1]
        return True

    def _in_order(self, columns: Sequence[Sequence[UserKey]]) -> list[Any] | None:
        """Return the keys of a block, sorted; None if two are the same, or cannot be compared."""
        try:
            keys = self._orders[0](chain.from_iterable(columns))
            if _rises(keys):
                return keys
            keys.sort()  # of kinds that take turns each rises by itself
            return keys if _rises(keys) else None
        except TypeError:  # an id and an alias
            return None
