"""Keys of users in one text, until somebody asks for one of them: most are never looked at.

Decides nothing. What is made of a text is made once for all who share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, overload

from ingest.records import UserKey

BETWEEN: Final = "\n"
"""What stands between two keys of a text."""


class _Text:
    """A text of so many keys, or these."""

    __slots__ = ("_keys", "_text", "count")

    def __init__(self, text: str, count: int) -> None:
        self._text = text
        self._keys: list[str] = []
        self.count = count

    def keys(self) -> list[str]:
        """Return all keys."""
        if not self._keys and self.count:
            self._keys = self._text.split(BETWEEN)
            self._text = ""
        return self._keys


_Span = tuple[_Text, int, int]
"""Some of the keys of a text, from the first index up to the other."""


class Keys(Sequence[UserKey]):
    """Keys that nobody asked for yet; a slice of them asks for none."""

    __slots__ = ("_count", "_spans")

    def __init__(self, spans: tuple[_Span, ...], count: int) -> None:
        self._spans = spans
        self._count = count

    @classmethod
    def told(cls, text: str, count: int) -> Keys:
        """Return the keys of a text, of which there are so many."""
        return cls(((_Text(text, count), 0, count),), count)

    @classmethod
    def spliced(cls, pieces: Iterable[Sequence[UserKey]]) -> Sequence[UserKey]:
        """Return all keys in their order; where all are such, these are."""
        pieces = list(pieces)
        spans: list[_Span] = []
        for piece in pieces:
            if not isinstance(piece, Keys):
                return [key for some in pieces for key in some]
            spans += piece._spans
        return cls(tuple(spans), sum(map(len, pieces)))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> UserKey: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[UserKey]: ...
    def __getitem__(self, at: int | slice) -> UserKey | Sequence[UserKey]:
        if not isinstance(at, slice):
            return self._all()[at]
        start, stop, step = at.indices(self._count)
        if step != 1 or len(self._spans) != 1:
            return self._all()[at]
        [(text, first, _)] = self._spans
        stop = max(start, stop)
        return Keys(((text, first + start, first + stop),), stop - start)

    def __iter__(self) -> Iterator[UserKey]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return self._all() == list(other)

    __hash__ = None  # type: ignore[assignment]  # it is as long as a block

    def __repr__(self) -> str:
        return repr(self._all())

    def _all(self) -> list[str]:
        if len(self._spans) == 1:
            [(text, start, stop)] = self._spans
            return text.keys()[start:stop]
        return list(
            chain.from_iterable(text.keys()[start:stop] for text, start, stop in self._spans)
        )
