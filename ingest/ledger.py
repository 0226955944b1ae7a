"""The ledger: the one place where a record gets its end.

Law 10 lives here: a dead letter is written before its record is counted as settled. Decides
nothing; it writes down what the intake and the core decided.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ingest.balance import Balance
from ingest.intake import Taken
from ingest.outcomes import Delivered
from ingest.records import Batch, part_of
from ingest.retry import Disposition, Verdict
from ingest.sinks.base import Answer
from ingest.state.dead_letters import DeadLetter, DeadLetterFile

SUMMARIES: Final[Mapping[str, str]] = {
    "bisect-cap": "sent together with records that the destination refused, and not told apart "
    "from them; it may be good: replay it",
    "gave-up": "given up after many failures while other requests succeeded",
    "refused": "the destination refused a request that held this record alone",
    "too-large": "the destination says that the record alone is larger than it takes",
    "too-many": "the destination refuses even one record as too many",
    "unanswered": "sent, and not known whether it arrived",
}
"""What the report says of a verdict by its code: never the destination's own words, for they may
hold a value of the record. Those are in the dead letter."""

SAID: Final = "said-by-destination"
SAID_SUMMARY: Final = (
    "the destination took the request, but its answer was no plain success: it was cut short, no "
    "JSON, or had something else to say; look at the user there"
)


def summary_of(code: str) -> str:
    """Return the sentence of the report for a verdict of this code; it holds no value."""
    return SUMMARIES.get(
        code, f"refused by the destination: {code}; its own words are in the dead letter"
    )


class Ledger:
    """Writes dead letters, then counts.

    `kinds` names the kind of each slot, `name_of(part)` is what people call a part of the source,
    `wall` the time of day in epoch seconds.
    """

    def __init__(
        self,
        dead_letters: DeadLetterFile,
        *,
        kinds: Sequence[str],
        name_of: Callable[[int], str],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.balance = Balance()
        self.dead_letters = dead_letters
        self._kinds = kinds
        self._name_of = name_of
        self._wall = wall

    def take_in(self, taken: Taken) -> None:
        """Account for what was read: its count, and the end of what is invalid."""
        balance = self.balance
        for kind, records in taken.read.items():
            balance.read(kind, records)
        balance.warned += taken.warned
        for warning in taken.warnings:
            place = self._place(warning.position, warning.line)
            balance.explain(warning.code, warning.field, "warned", warning.reason, place)
        if not taken.refusals:
            return
        self.dead_letters.write(
            [
                DeadLetter(
                    kind=refusal.kind,
                    column="invalid",
                    code=refusal.code,
                    field=refusal.field,
                    reason=refusal.reason,
                    source=self._source(refusal.position, refusal.line),
                    record=refusal.record,
                    raw=refusal.raw,
                )
                for refusal in taken.refusals
            ],
            self._wall(),
        )
        for refusal in taken.refusals:
            place = self._place(refusal.position, refusal.line)
            balance.settle(refusal.kind, "invalid")
            summary = refusal.summary or refusal.reason
            balance.explain(refusal.code, refusal.field, "invalid", summary, place)

    def settle(
        self, batch: Batch, answer: Answer, disposition: Disposition, *, attempts: int
    ) -> None:
        """Account for an answer: verdicts first, then what was delivered.

        Raises `LocalFailure` when the letters cannot be written; then nothing was counted.
        """
        self._write(batch, answer, disposition.verdicts, attempts)
        if disposition.delivered:
            self._count_delivered(batch, answer, disposition.verdicts)
        self.balance.maybe_duplicated += disposition.duplicated

    def close(self) -> None:
        """Close the dead-letter file."""
        self.dead_letters.close()

    def _write(
        self, batch: Batch, answer: Answer, verdicts: Sequence[Verdict], attempts: int
    ) -> None:
        if not verdicts:
            return
        fragments = [column.fragments() for column in batch.columns]
        letters = []
        for verdict in verdicts:
            column = batch.columns[verdict.slot]
            position, line = column.positions[verdict.index], column.lines[verdict.index]
            letters.append(
                DeadLetter(
                    kind=self._kinds[verdict.slot],
                    column=verdict.column,
                    code=verdict.code,
                    field="",
                    reason=verdict.reason,
                    source=self._source(position, line),
                    record=fragments[verdict.slot][verdict.index],
                    status=verdict.status,
                    attempts=attempts,
                    request_id=answer.request_id or None,
                )
            )
        self.dead_letters.write(letters, self._wall())
        for verdict, letter in zip(verdicts, letters, strict=True):
            place = f"{letter.source['name']}:{letter.source['line']}"
            self.balance.settle(letter.kind, verdict.column)
            self.balance.explain(verdict.code, "", verdict.column, summary_of(verdict.code), place)

    def _count_delivered(self, batch: Batch, answer: Answer, verdicts: Sequence[Verdict]) -> None:
        bad = Counter(verdict.slot for verdict in verdicts)
        for slot, column in enumerate(batch.columns):
            if taken := len(column) - bad[slot]:
                self.balance.settle(self._kinds[slot], "delivered", taken)
        outcome = answer.outcome
        if not isinstance(outcome, Delivered):
            return
        delivered = len(batch) - len(verdicts)
        if outcome.queued:
            self.balance.queued += delivered
        if outcome.warnings:
            self.balance.warned += min(delivered, len(outcome.warnings))
            slot, index = next(iter(batch.rows()))
            column = batch.columns[slot]
            place = self._place(column.positions[index], column.lines[index])
            self.balance.explain(SAID, "", "warned", SAID_SUMMARY, place, len(outcome.warnings))

    def _source(self, position: int, line: int) -> dict[str, Any]:
        return {"name": self._name_of(part_of(position)), "line": line}

    def _place(self, position: int, line: int) -> str:
        return f"{self._name_of(part_of(position))}:{line}"
