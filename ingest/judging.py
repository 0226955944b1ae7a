"""Judging lines before they are taken in: by the same rules, with no number given to any record.

For whoever can still give a line back to the one who sent it. Decides nothing itself: the intake
does, and will do so again when the line is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ingest.intake import Intake, IntakeRules
from ingest.schemas import Schema
from ingest.taken import Refusal

_NO_FIRST: Final = 2
"""Number of the first line judged: the first of an input may be a heading, and here none is."""

Judge = Callable[[Sequence[bytes], float], dict[int, Refusal]]
"""Says which of some lines are refused, by their index, at a time of day in epoch seconds."""


class LineJudge:
    """Judges lines by the schema of a destination.

    It has an intake of its own. So must the schema be its own where it `remembers`, or what was
    only judged would count as sent.
    """

    def __init__(self, rules: IntakeRules, schema: Schema | None = None) -> None:
        self._intake = Intake(rules, schema)

    def __call__(self, lines: Sequence[bytes], now: float = 0.0) -> dict[int, Refusal]:
        """Return the refusal of each line that is not good, by its index.

        A line with several records is good if all of them are; its refusal is that of the first.
        """
        refused: dict[int, Refusal] = {}
        for taken in self._intake.take(0, lines, _NO_FIRST, now):
            for refusal in taken.refusals:
                refused.setdefault(refusal.line - _NO_FIRST, refusal)
        return refused
