"""How much of a sample is there: the verdicts on users, added up by field.

Decides what is counted, and what a report may say: names of fields and places of records, never a
value and never a user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from ingest.proof.comparing import Difference, Verdict

MOST_FIELDS: Final = 1_000
"""Fields that a report names, those with differences first; all others are one, `OTHER`."""

OTHER: Final = "other"

SHARE_DIGITS: Final = 6


class FieldCount(msgspec.Struct):
    """A field over all users: how many were `checked`, how many of them `there`.

    `untold` are those of which nobody can say anything.
    """

    checked: int = 0
    there: int = 0
    untold: int = 0

    @property
    def share(self) -> float:
        """The share that is there; 1 of nothing."""
        return self.there / self.checked if self.checked else 1.0


class Account:
    """What was found of a sample."""

    def __init__(self, verdicts: Iterable[Verdict]) -> None:
        self.fields: dict[str, FieldCount] = {}
        self.total = FieldCount()
        self.untold: Counter[str] = Counter()
        """Fields that were not compared, by why."""
        self.differences: list[Difference] = []
        self.users = 0
        self.missing = 0
        """Users that are not there at all."""
        for verdict in verdicts:
            self._add(verdict)

    @property
    def good(self) -> bool:
        """Whether something was compared, and nothing differs."""
        return self.total.checked > 0 and not self.differences

    def _add(self, verdict: Verdict) -> None:
        self.users += 1
        self.differences += verdict.differences
        self.missing += any(not difference.field for difference in verdict.differences)
        for name, what, why in verdict.fields:
            count = self.fields.setdefault(name, FieldCount())
            for each in (count, self.total):
                each.checked += what != "untold"
                each.there += what == "there"
                each.untold += what == "untold"
            if what == "untold":
                self.untold[why] += 1

    def ordered(self) -> list[tuple[str, FieldCount]]:
        """Return the fields, those of which most is wrong first, then the most frequent."""
        return sorted(
            self.fields.items(),
            key=lambda each: (each[1].there - each[1].checked, -each[1].checked, each[0]),
        )

    def report(self, place_of: Callable[[Difference], str]) -> dict[str, Any]:
        """Return the account as JSON; `place_of` says where the record of a difference lies."""
        rows = self.ordered()
        other = FieldCount()
        for _, count in rows[MOST_FIELDS:]:
            other.checked += count.checked
            other.there += count.there
            other.untold += count.untold
        named = [*rows[:MOST_FIELDS], *([(OTHER, other)] if len(rows) > MOST_FIELDS else ())]
        example: dict[str, str] = {}
        kinds: dict[str, Counter[str]] = {}
        for difference in self.differences:
            kinds.setdefault(difference.field, Counter())[difference.what] += 1
            if difference.field:
                example.setdefault(difference.field, place_of(difference))
        return {
            "users": {"checked": self.users, "missing": self.missing},
            "checked": self.total.checked,
            "there": self.total.there,
            "share": _rounded(self.total.share),
            "not_compared": {"fields": self.total.untold, "because": dict(self.untold)},
            "fields": [
                {
                    "field": name,
                    "checked": count.checked,
                    "there": count.there,
                    "share": _rounded(count.share),
                    "not_compared": count.untold,
                    "differences": dict(kinds.get(name, {})),
                    "example": example.get(name),
                }
                for name, count in named
            ],
        }


def _rounded(share: float) -> float:
    """Round, but never up to all."""
    found = round(share, SHARE_DIGITS)
    return found if found < 1.0 or share == 1.0 else 1.0 - 10.0**-SHARE_DIGITS
