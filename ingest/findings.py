"""What a plan finds in records: how many of which kind, how many go, and what is wrong with them.

Decides nothing about a record; it counts what the intake said, as the ledger of a run would, and
remembers where the first few of each kind of problem are. A reason is a code and a field, never a
value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from ingest.balance import MOST_REASONS, OTHER
from ingest.records import part_of
from ingest.taken import Taken

MOST_PLACES: Final = 3
"""Lines that are named for a problem: enough to see what they have in common."""


class Finding(msgspec.Struct):
    """One problem: `column` is what becomes of its records, `invalid` or `warned`.

    `places` are the first of them, as FILE:LINE.
    """

    code: str
    field: str
    column: str
    reason: str
    count: int = 0
    places: list[str] = []


class Findings:
    """Counts of records and problems. `name_of(part)` is what people call a part of the source."""

    def __init__(self, name_of: Callable[[int], str]) -> None:
        self._name_of = name_of
        self.read: Counter[str] = Counter()
        self.invalid: Counter[str] = Counter()
        self.warned = 0
        self._found: dict[tuple[str, str, str], Finding] = {}

    @property
    def found(self) -> list[Finding]:
        """The problems, what is invalid first, the most frequent first."""
        return sorted(self._found.values(), key=lambda one: (one.column, -one.count))

    def take_in(self, taken: Taken) -> None:
        """Count what became of some lines."""
        self.read.update(taken.read)
        self.warned += taken.warned
        for warning in taken.warnings:
            at = (warning.position, warning.line)
            self._note(warning.code, warning.field, "warned", warning.reason, *at)
        for refusal in taken.refusals:
            self.invalid[refusal.kind] += 1
            reason, at = refusal.summary or refusal.reason, (refusal.position, refusal.line)
            self._note(refusal.code, refusal.field, "invalid", reason, *at)

    def _note(
        self, code: str, field: str, column: str, reason: str, position: int, line: int
    ) -> None:
        key = (code, field, column)
        if key not in self._found and len(self._found) >= MOST_REASONS:
            key, reason = (OTHER[0], OTHER[1], column), "problems beyond the first thousand"
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = Finding(*key, reason)
        found.count += 1
        if len(found.places) < MOST_PLACES:
            place = f"{self._name_of(part_of(position))}:{line}"
            if place not in found.places:
                found.places.append(place)
