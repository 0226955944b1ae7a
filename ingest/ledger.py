"""The ledger: the one place where a record gets its end.

Law 10 lives here: a dead letter is written before its record is counted as settled. So is the mark
in the letters of a user's attributes that later ones were delivered (`ingest.superseding`); if a
crash comes in between, the record that was delivered goes again, and the mark is true all the same.
Decides nothing; it writes down what the intake and the core decided.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec

from ingest.balance import Balance
from ingest.codec import loads
from ingest.dispositions import ALL_DELIVERED, TAKEN, Disposition, Verdict
from ingest.errors import LocalFailure
from ingest.outcomes import Delivered
from ingest.records import ATTRIBUTES, KINDS, Batch, UserKey, part_of, position
from ingest.sinks.base import Answer
from ingest.state.dead_letters import DeadLetter, DeadLetterFile, Letters
from ingest.superseding import MOST_LETTERS, Superseding
from ingest.taken import Taken

SUMMARIES: Final[Mapping[str, str]] = {
    "bisect-cap": "sent together with records that the destination refused, and not told apart "
    "from them; it may be good: replay it",
    "perhaps-done-before": "not found by a second request; the first one, which got no answer, may "
    "have done it",
    "gave-up": "given up after many failures while other requests succeeded",
    "refused": "the destination refused a request that held this record alone",
    "too-large": "the destination says that the record alone is larger than it takes",
    "too-many": "the destination refuses even one record as too many",
    "unknown-user": "the destination knows no such user",
    "unanswered": "perhaps sent, and no answer came: it may have arrived",
}
"""What the report says of a verdict by its code: never the destination's own words, for they may
hold a value of the record. Those are in the dead letter."""


KeyOf = Callable[[dict[str, Any]], UserKey | None]
"""Says whose attributes record it is, None where that cannot be said."""

_Who = tuple[UserKey | None, int]
"""Whose record a letter holds, None where no later one can be told, and its position."""


def summary_of(verdict: Verdict) -> str:
    """Return the sentence of the report for a verdict; it holds no value."""
    if verdict.code in SUMMARIES:
        return SUMMARIES[verdict.code]
    said = f"{verdict.code}; its own words are in the dead letter"
    if verdict.column == TAKEN:
        piece = f"'{verdict.field}'" if verdict.field else "a piece"
        return f"taken, but for {piece}, which the destination refused: {said}"
    return f"refused by the destination: {said}"


class Places(Protocol):
    """What people and dead letters call the place of a record: its part, and its line there."""

    def place(self, part: int, line: int) -> str:
        """Return it for a sentence: `users.ndjson:17`."""
        ...

    def whence(self, part: int, line: int) -> dict[str, Any]:
        """Return the `source` of a dead letter."""
        ...


class Named(msgspec.Struct, frozen=True):
    """Places in inputs that have names: `name_of` a part."""

    name_of: Callable[[int], str]

    def place(self, part: int, line: int) -> str:
        """Return the name and the line."""
        return f"{self.name_of(part)}:{line}"

    def whence(self, part: int, line: int) -> dict[str, Any]:
        """Return the name and the line, as a dead letter has them."""
        return {"name": self.name_of(part), "line": line}


class Ledger:
    """Writes dead letters, then counts.

    `kinds` names the kind of each slot, `places` what people call the places of a source,
    `record_of(batch, slot, fragment)` the record as it came (the fragment itself, if not given),
    `wall` the time of day in epoch seconds, `balance` one that is gone on with.
    """

    def __init__(
        self,
        dead_letters: Letters,
        *,
        kinds: Sequence[str],
        places: Places,
        record_of: Callable[[Batch, int, bytes], bytes] = lambda batch, slot, fragment: fragment,
        wall: Callable[[], float] = time.time,
        balance: Balance | None = None,
    ) -> None:
        self.balance = balance or Balance()
        self.dead_letters = dead_letters
        self._kinds = kinds
        self._places = places
        self._record_of = record_of
        self._wall = wall
        self._slots = [at for at, kind in enumerate(kinds) if kind == KINDS[ATTRIBUTES]]
        self._letters = Superseding()  # by positions
        self._recalled = Superseding()  # those of earlier processes, of which the lines are known
        self._recalled_from: Letters = dead_letters

    def recall(self, letters: DeadLetterFile, parts: Mapping[str, int], key_of: KeyOf) -> None:
        """Go on with what earlier processes of the run wrote to `letters`, to mark it in time.

        `parts` numbers the parts of the source by what people call them. Of letters that share a
        line with a later record it is not known which came first: they are left as they are. Raises
        `LocalFailure`.
        """
        if letters.path.absolute() != self.dead_letters.path.absolute():
            self._recalled_from = letters
        for letter in letters.unmarked():
            part = parts.get(letter.source.name)
            record = bytes(letter.record) or bytes(letter.who)
            if part is None or letter.kind != KINDS[ATTRIBUTES] or not record:
                continue  # of another input, of another kind, or a text that is nobody's
            if (key := key_of(loads(record))) is not None:
                self._recalled.remember(key, position(part, letter.source.line), letter.flag)

    def take_in(self, taken: Taken) -> None:
        """Account for what was read: its count, and the end of what is invalid."""
        if taken.refusals:
            self._write_refusals(taken)
        balance = self.balance
        for kind, records in taken.read.items():
            balance.read(kind, records)
        balance.warned += taken.warned
        for warning in taken.warnings:
            place = self._place(warning.position, warning.line)
            balance.explain(warning.code, warning.field, "warned", warning.reason, place)
        for refusal in taken.refusals:
            place = self._place(refusal.position, refusal.line)
            balance.settle(refusal.kind, "invalid")
            summary = refusal.summary or refusal.reason
            balance.explain(refusal.code, refusal.field, "invalid", summary, place)

    def _write_refusals(self, taken: Taken) -> None:
        self._post(
            [
                DeadLetter(
                    kind=refusal.kind,
                    column="invalid",
                    code=refusal.code,
                    field=refusal.field,
                    reason=refusal.reason,
                    source=self._source(refusal.position, refusal.line)
                    | ({"table": True} if refusal.table else {}),
                    record=refusal.record,
                    raw=refusal.raw,
                    who=refusal.who or None,
                    superseded=refusal.superseded,
                )
                for refusal in taken.refusals
            ],
            [(refusal.key, refusal.position) for refusal in taken.refusals],
        )

    def _post(self, letters: list[DeadLetter], who: Sequence[_Who]) -> None:
        """Write letters, and remember those that a later delivery may supersede."""
        room = MOST_LETTERS - len(self._letters) - len(self._recalled)
        for at, (letter, (key, _)) in enumerate(zip(letters, who, strict=True)):
            if key is not None and letter.kind == KINDS[ATTRIBUTES] and letter.superseded is False:
                told: dict[str, Any] = {"watched": True} if room > 0 else {"superseded": None}
                letters[at] = msgspec.structs.replace(letter, **told)
                room -= 1
        flags = self.dead_letters.write(letters, self._wall())
        for (key, place), flag in zip(who, flags, strict=True):
            if key is not None and flag is not None:
                self._letters.remember(key, place, flag)

    def _take_back(self, length: int, written: int) -> None:
        """Cut away letters of records that go again: they would come to have two."""
        with suppress(LocalFailure):  # what failed before is told
            self.dead_letters.cut(length)
            self.dead_letters.written = written

    def _mark_superseded(self, batch: Batch, disposition: Disposition) -> None:
        """Mark the letters of users of whom later attributes were delivered now."""
        if not (len(self._letters) or len(self._recalled)):
            return
        otherwise = TAKEN if disposition.delivered else ""
        flags, recalled = list[int](), list[int]()
        for slot in self._slots:
            column = batch.columns[slot]
            here, before = self._letters.rows_of(column.keys), self._recalled.rows_of(column.keys)
            if not (here or before):
                continue
            ended = {one.index: one.column for one in disposition.verdicts if one.slot == slot}
            for row in here:
                if ended.get(row, otherwise) == TAKEN:
                    flags += self._letters.overtaken(column.keys[row], column.positions[row])
            for row in before:
                if ended.get(row, otherwise) == TAKEN:
                    line = position(part_of(column.positions[row]), column.lines[row])
                    recalled += self._recalled.overtaken(column.keys[row], line)
        if flags:
            self.dead_letters.mark(flags)
        if recalled:
            self._recalled_from.mark(recalled)
            if self._recalled_from is not self.dead_letters:
                self._recalled_from.sync()  # nobody else does: it is not written to any more

    def settle(
        self, batch: Batch, answer: Answer, disposition: Disposition, *, attempts: int
    ) -> None:
        """Account for an answer: letters and marks first, then verdicts, then what was delivered.

        Raises `LocalFailure` when the letters cannot be written; then nothing was counted.
        """
        verdicts = (*disposition.verdicts, *disposition.warned)
        letters = self._letters_of(batch, answer, verdicts, attempts) if verdicts else []
        before = (self.dead_letters.length, self.dead_letters.written) if letters else None
        if letters:
            columns = batch.columns
            self._post(
                letters,
                [
                    (columns[one.slot].keys[one.index], columns[one.slot].positions[one.index])
                    for one in verdicts
                ],
            )
        try:
            self._mark_superseded(batch, disposition)
        except LocalFailure:
            if before is not None:
                self._take_back(*before)
            raise
        if verdicts:
            self._count_verdicts(batch, disposition, letters)
        if disposition.delivered:
            self._count_delivered(batch, answer, disposition.verdicts)
        self.balance.maybe_duplicated += disposition.duplicated

    def settle_plain(self, batches: Sequence[Batch]) -> None:
        """Account for batches that were taken as they are, as `settle` does for each.

        Raises `LocalFailure` when a letter cannot be marked; then nothing was counted.
        """
        for batch in batches:
            self._mark_superseded(batch, ALL_DELIVERED)
        for slot, kind in enumerate(self._kinds):
            if records := sum([len(batch.columns[slot].positions) for batch in batches]):
                self.balance.settle(kind, "delivered", records)

    def close(self) -> None:
        """Close the dead-letter files. Raises `LocalFailure`."""
        try:
            self.dead_letters.close()
        finally:
            self._recalled_from.close()

    def _count_verdicts(
        self, batch: Batch, disposition: Disposition, letters: Sequence[DeadLetter]
    ) -> None:
        verdicts, warned = disposition.verdicts, disposition.warned
        balance = self.balance
        for verdict, letter in zip(verdicts, letters, strict=False):  # those of pieces come after
            balance.settle(letter.kind, verdict.column)
        for verdict, letter in zip((*verdicts, *warned), letters, strict=True):
            rows = batch.columns[verdict.slot]
            place = self._place(rows.positions[verdict.index], rows.lines[verdict.index])
            column = "warned" if letter.warned else verdict.column
            balance.explain(verdict.code, verdict.field, column, summary_of(verdict), place)
        taken = (verdict for verdict in (*verdicts, *warned) if verdict.column == TAKEN)
        balance.warned += len({(verdict.slot, verdict.index) for verdict in taken})

    def _letters_of(
        self, batch: Batch, answer: Answer, verdicts: Iterable[Verdict], attempts: int
    ) -> list[DeadLetter]:
        fragments = [column.fragments() for column in batch.columns]
        letters = []
        for verdict in verdicts:
            slot, index = verdict.slot, verdict.index
            column = batch.columns[slot]
            letters.append(
                DeadLetter(
                    kind=self._kinds[slot],
                    column=verdict.column,
                    code=verdict.code,
                    field=verdict.field,
                    reason=verdict.reason,
                    source=self._source(column.positions[index], column.lines[index]),
                    record=self._record_of(batch, slot, fragments[slot][index]),
                    status=verdict.status,
                    attempts=attempts,
                    request_id=answer.request_id or None,
                    warned=verdict.column == TAKEN,
                )
            )
        return letters

    def _count_delivered(self, batch: Batch, answer: Answer, verdicts: Sequence[Verdict]) -> None:
        taken = [len(column.positions) for column in batch.columns]
        for verdict in verdicts:
            taken[verdict.slot] -= 1
        for kind, records in zip(self._kinds, taken, strict=True):
            if records:
                self.balance.settle(kind, "delivered", records)
        outcome = answer.outcome
        if not isinstance(outcome, Delivered):
            return
        delivered = batch.records - len(verdicts)
        if outcome.queued:
            self.balance.queued += delivered
        if outcome.remarks:
            self.balance.warned += min(delivered, sum(remark.count for remark in outcome.remarks))
            place = self._somewhere(batch)
            for remark in outcome.remarks:
                self.balance.explain(remark.code, "", "warned", remark.summary, place, remark.count)

    def _source(self, position: int, line: int) -> dict[str, Any]:
        return self._places.whence(part_of(position), line)

    def _somewhere(self, batch: Batch) -> str:
        """Return the place of any of the records of a batch: its first one's to its last one's."""
        rows = [
            row
            for column in batch.columns
            for row in zip(column.positions, column.lines, strict=True)
        ]
        (first, line), (last, last_line) = min(rows), max(rows)
        if (first, line) == (last, last_line):
            return self._place(first, line)
        if part_of(first) == part_of(last):
            return f"{self._place(first, line)}-{last_line}"
        return f"{self._place(first, line)} to {self._place(last, last_line)}"

    def _place(self, position: int, line: int) -> str:
        return self._places.place(part_of(position), line)
