"""Names at Batch CEP: how one is made of a name of the source, and when two become one.

The destination takes a-z, 0-9 and the underscore, 30 of them at most, and keeps the type of a value
in its key: `date(born)`, `url(site)`. Decides the slug of a name, and that the second of two names
with one slug is refused. Knows no values. What is remembered is that of one run: a name that an
earlier run sent is not known here.
"""

from __future__ import annotations

import re
from typing import Final

SLUG_CHARS: Final = 30
"""Characters of an attribute key or an event name."""

MOST_NAMES: Final = 100_000
"""Names remembered in a run, some 20 MB: a source with more has values for keys."""

_SLUG: Final = re.compile(rf"[a-z0-9_]{{1,{SLUG_CHARS}}}")
_PLAIN: Final = re.compile(r"[a-z0-9_]*")
_OTHER: Final = re.compile(r"[^a-z0-9_]")


def is_slug(name: str) -> bool:
    """Tell whether the destination takes a name as it is."""
    return _SLUG.fullmatch(name) is not None


def slug(name: str) -> str:
    """Return a name in lower case, with an underscore for whatever is no letter or digit of ASCII.

    It is not shortened: one that is too long is the caller's to refuse.
    """
    return name if _PLAIN.fullmatch(name) else _OTHER.sub("_", name.lower())


def base_of(key: str) -> str:
    """Return the name in a key that may say a type: `born` of `date(born)`."""
    return key[key.find("(") + 1 : -1] if key.endswith(")") else key


class Names:
    """Which name of the source each slug stands for, by space: first come, first served.

    A space is what names are unique in: the attributes, the events, the attributes of events.
    """

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._most = most
        self._holders: dict[tuple[str, str], str] = {}

    def holder(self, space: str, short: str) -> str | None:
        """Return the name of the source that a slug stands for, if it is taken."""
        return self._holders.get((space, short))

    def has_room(self, short: str, name: str) -> bool:
        """Tell whether a slug that is not taken may be: a full table takes a name as it is only.

        That one needs no place, since whatever else would become it has none either.
        """
        return short == name or len(self._holders) < self._most

    def claim(self, space: str, short: str, name: str) -> bool:
        """Let a slug stand for a name from now on; return False if it does, or there is no room."""
        if (space, short) in self._holders or len(self._holders) >= self._most:
            return False
        self._holders[space, short] = name
        return True

    def release(self, space: str, short: str) -> None:
        """Let a slug that was claimed stand for nothing again."""
        del self._holders[space, short]
