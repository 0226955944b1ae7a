"""The intake: from blocks of lines to chunks of valid records, and the end of the others.

Decides which records go on, by the documented rules and by what the user chose about bad fields.
Most records are proven good by a typed decoder and a few byte tests over a whole slice of lines;
only the others are decoded deeply, one by one. Both ways come to the same verdict: the slow one is
the law, and a property test holds the fast one to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from ingest.codec import loads
from ingest.forms import (
    JSON_SPACE,
    LINE_TOO_LONG,
    TOO_LONG_LINE,
    Found,
    Misformed,
    content_of,
    flagged,
    without_credentials,
)
from ingest.proofs import DOUBTFUL, Proof, Vouched
from ingest.proving import Prover
from ingest.records import (
    ATTRIBUTES,
    KIND_UNKNOWN,
    KINDS,
    UserKey,
    position,
)
from ingest.schemas import Encoded, Schema, TrackSchema
from ingest.taken import Gathering, Refusal, Taken, taken_of
from ingest.validation import Grade, Problem, mend

SLICE_LINES: Final = 256
"""Lines judged at once: about half a millisecond of work, so that the loop stays answering."""

SUPERSEDED: Final = (
    "a later record of this user was delivered: sent again, this one would set values back. To do "
    "so all the same:  ingest replay --even-if-older"
)
PERHAPS_SUPERSEDED: Final = (
    "whether a later record of this user was delivered is not known: sent again, this one could "
    "set values back. To do so all the same:  ingest replay --even-if-older"
)

_TOO_LARGE: Final = "the record has more bytes than a request takes"

BadField = Literal["reject", "drop", "truncate"]
_Problems = list[Problem]


class IntakeRules(msgspec.Struct, frozen=True):
    """What the user chose.

    `kind` is that of bare objects; `largest` the bytes that one record may have in a request. With
    `even_if_older` dead letters go although a later record of their user was delivered.
    """

    kind: str | None = None
    on_bad_field: BadField = "reject"
    strict: bool = False
    validate: bool = True
    update_existing_only: bool = False
    largest: int = 4_000_000
    even_if_older: bool = False


class Intake:
    """Judges lines by the schema of a destination, and numbers the records of each part from 0."""

    def __init__(self, rules: IntakeRules, schema: Schema | None = None) -> None:
        self._rules = rules
        self._schema: Schema = schema or TrackSchema()
        self._ordinals: Counter[int] = Counter()
        self._gathering = Gathering("")
        self._prover = Prover(
            rules.kind, largest=rules.largest, update_existing_only=rules.update_existing_only
        )

    def begin(self, part: int, ordinal: int) -> None:
        """Number the records of a part from `ordinal` on: those before it were read earlier."""
        self._ordinals[part] = ordinal

    @property
    def numbered(self) -> int:
        """Records that have a number, those that were read earlier included."""
        return self._ordinals.total()

    def next_ordinal(self, part: int) -> int:
        """Return the ordinal that the next record of a part gets."""
        return self._ordinals[part]

    def take(
        self, part: int, lines: Sequence[bytes], numbers: Sequence[int] | int, now: float = 0.0
    ) -> Iterator[Taken]:
        """Judge lines of a part; `numbers` are theirs, or that of the first where they count up.

        Lines are numbered from 1. `now` is the time of day in epoch seconds, for destinations that
        mind the age of an event. Raises `InputError` if the first line is the heading of what the
        destination does not take.
        """
        if isinstance(numbers, int):
            numbers = range(numbers, numbers + len(lines))
        for start in range(0, len(lines), SLICE_LINES):
            some = slice(start, start + SLICE_LINES)
            yield self._judge(part, lines[some], numbers[some], now)

    def gather(self, part: int, line: bytes, number: int, now: float = 0.0) -> Refusal | None:
        """Judge a line that comes by itself, and keep its records for `gathered`.

        Returns the refusal of the first record that is refused: then nothing of the line is kept.
        For one line at a time this takes half as long as `take`, which is made for many.
        """
        items = list(self._schema.read(line, self._rules.kind))
        if len(items) > 1 and (refusal := self._refusal_of(part, items, number, now)) is not None:
            return refusal
        rows = self._gathering
        for found in items:
            self._judge_one(rows, found, self._next(part), number, now)
        return rows.take_back() if rows.refused else None

    def gathered(self) -> Taken:
        """Return what became of the lines that were gathered since the last time."""
        rows, self._gathering = self._gathering, Gathering("")
        return rows.taken()

    def _refusal_of(
        self, part: int, items: Iterable[Found | Misformed], number: int, now: float
    ) -> Refusal | None:
        """Return the first refusal of what a line holds, without keeping anything of it."""
        rows = Gathering("")
        for found in items:
            self._judge_one(rows, found, position(part, 0), number, now)
        return rows.take_back() if rows.refused else None

    def take_vouched(
        self, part: int, rows: Vouched, numbers: Sequence[int], now: float = 0.0
    ) -> Iterator[Taken]:
        """Judge objects as `take` judges their lines: what is vouched for need not be proven."""
        rules = self._rules
        if not (rules.validate and self._schema.provable) or rules.update_existing_only:
            yield from self.take(part, rows.lines(), numbers, now)
            return
        # A doubtful row costs as much as a slice may: without one, all are one slice.
        step = SLICE_LINES if rows.doubtful else max(1, len(rows))
        for start in range(0, len(rows), step):
            some = rows.cut(start, start + step) if rows.doubtful else rows
            proof = some.proof(rules.largest)
            told = numbers[start : start + step]
            if proof.whole:
                yield self._proven(part, told, proof)
            else:
                yield self._judged(part, some.lines(), told, proof, now)

    @property
    def prover(self) -> Prover | None:
        """What proves lines for `take_proven`, in another process perhaps; None if nothing may."""
        return self._prover if self._rules.validate and self._schema.provable else None

    def take_proven(
        self,
        part: int,
        proof: Proof,
        lines: Sequence[bytes],
        numbers: Sequence[int],
        now: float = 0.0,
    ) -> Iterator[Taken]:
        """Judge lines as `take` does, of which its `prover` has proven what it could.

        The lines themselves are not asked for where the proof is a whole one.
        """
        if proof.whole:
            if len(proof):  # there may be nothing between two rows that make no record
                yield self._proven(part, numbers, proof)
            return
        for start in range(0, len(lines), SLICE_LINES):
            stop = start + SLICE_LINES
            some, told = proof.cut(start, stop), numbers[start:stop]
            yield self._judged(part, lines[start:stop], told, some, now)

    def unfit(
        self,
        part: int,
        line: int,
        code: str,
        field: str,
        reason: str,
        raw: bytes,
        summary: str,
        *,
        who: bytes = b"",
        table: bool = False,
    ) -> Taken:
        """Account for a row or message that makes no record; `who` is an object of its identity.

        A row of a `table` is of the kind of all its rows. Of which kind a message would have been
        is not known: its text is not the record that is made of it, and must not be taken for one.
        """
        kind = (table and self._rules.kind) or (KINDS[ATTRIBUTES] if who else KIND_UNKNOWN)
        refusal = Refusal(
            kind,
            code,
            field,
            reason,
            self._next(part),
            line,
            raw=without_credentials(raw, in_text=True),
            summary=summary,
            key=self._key_of(who) if who else None,
            who=who,
            table=table,
        )
        return Taken((), {kind: 1}, (refusal,))

    def _key_of(self, who: bytes) -> UserKey | None:
        validate = self._rules.validate
        key, _ = self._schema.examine(KINDS[ATTRIBUTES], loads(who), 0.0, validate=validate)
        return None if isinstance(key, Problem) else key

    def oversize(self, part: int, line: int, length: int) -> Taken:
        """Account for a line of `length` bytes that was too long to be held."""
        reason = (
            f"the line has {length:,} bytes, more than any request may have; its text is not kept "
            "here: it is where 'source' says"
        )
        at = self._next(part)
        refusal = Refusal(
            KIND_UNKNOWN, LINE_TOO_LONG, "", reason, at, line, raw=b"", summary=TOO_LONG_LINE
        )
        return Taken((), {KIND_UNKNOWN: 1}, (refusal,))

    def _next(self, part: int, count: int = 1) -> int:
        """Hand out the positions of the next `count` records of a part; return the first."""
        ordinal = self._ordinals[part]
        self._ordinals[part] = ordinal + count
        return position(part, ordinal)

    def _judge(
        self, part: int, lines: Sequence[bytes], numbers: Sequence[int], now: float
    ) -> Taken:
        return self._judged(part, lines, numbers, self._fast(lines), now)

    def _judged(
        self, part: int, lines: Sequence[bytes], numbers: Sequence[int], proof: Proof, now: float
    ) -> Taken:
        if not proof.whole:
            return self._mixed(part, lines, numbers, proof, now)
        return self._proven(part, numbers, proof)

    def _proven(self, part: int, numbers: Sequence[int], proof: Proof) -> Taken:
        return taken_of(proof, self._next(part, len(proof)), numbers)

    def _fast(self, lines: Sequence[bytes]) -> Proof:
        if not (self._rules.validate and self._schema.provable):
            return Proof.of_nothing(len(lines))
        return self._prover.prove(lines)

    # The slow way: line by line, by the rules themselves

    def _mixed(
        self, part: int, lines: Sequence[bytes], numbers: Sequence[int], proof: Proof, now: float
    ) -> Taken:
        rows = Gathering(proof.time)
        slots, start, end = proof.slots, 0, len(lines)
        while start < end:
            doubtful = slots.find(DOUBTFUL, start)
            stop = end if doubtful < 0 else doubtful
            if stop > start:
                first = self._next(part, stop - start)
                rows.add_proven(proof, slice(start, stop), first, numbers)
            if stop < end:
                at = numbers[stop]
                for found in self._found(proof, stop, lines[stop], first=at == 1):
                    self._judge_one(rows, found, self._next(part), at, now)
            start = stop + 1
        return rows.taken()

    def _found(
        self, proof: Proof, row: int, line: bytes, *, first: bool
    ) -> Iterable[Found | Misformed]:
        """Read a doubtful line; a blank one holds nothing, and the first one may be a heading."""
        if row in proof.opened:
            slot, content = proof.opened[row]
            return content_of(KINDS[slot], content, line, self._rules.kind)
        if not line.strip(JSON_SPACE) or (first and self._schema.heading(line)):
            return ()
        return self._schema.read(line, self._rules.kind)

    def _judge_one(
        self, rows: Gathering, found: Found | Misformed, at: int, line: int, now: float
    ) -> None:
        if isinstance(found, Misformed):
            raw = without_credentials(found.raw, in_text=True)
            rows.refuse(
                Refusal(
                    found.kind,
                    found.code,
                    found.field,
                    found.reason,
                    at,
                    line,
                    raw=raw,
                    summary=found.summary,
                )
            )
            return
        rules, record, kind = self._rules, found.record, found.kind
        if found.superseded is not False and not rules.even_if_older:
            reason = SUPERSEDED if found.superseded else PERHAPS_SUPERSEDED
            rows.refuse_found(found, "superseded", "superseded", reason, at, line)
            return
        if self._flags(record) and not self._schema.provable:
            # Only now, since the schema may have something to say about it.
            record = {"_update_existing_only": True} | record
        key, problems = self._schema.examine(kind, record, now, validate=rules.validate)
        mended: tuple[Problem, ...] = ()
        if rules.on_bad_field != "reject" and any(map(self._fatal, problems)):
            fatal = [problem for problem in problems if self._fatal(problem)]
            record, mended = mend(record, fatal, rules.on_bad_field)
            key, problems = self._schema.examine(kind, record, now, validate=rules.validate)
        if isinstance(key, Problem):
            rows.refuse_found(found, key.code, key.field, key.reason, at, line)
            return
        worst = next(filter(self._fatal, problems), None)
        if worst is not None:
            rows.refuse_found(found, worst.code, worst.field, worst.reason, at, line, key=key)
            return
        try:
            encoded = self._encoded(found, record)
        except (RecursionError, TypeError):
            reason = "the record is nested too deeply to be changed as it has to be"
            rows.refuse_found(found, "too-deep", "", reason, at, line, key=key)
            return
        shared = len(encoded.partition.members)
        nbytes = len(encoded.fragment) + shared + bool(shared)
        if nbytes > rules.largest:
            self._schema.withdraw(encoded)
            reason = (
                f"the record has {nbytes:,} bytes, and a request takes {rules.largest:,} at most"
            )
            told = (found, "record-too-large", "", reason, at, line)
            rows.refuse_found(*told, key=key, summary=_TOO_LARGE)
            return
        rows.add(encoded, kind, key, at, line)
        if kind != KINDS[ATTRIBUTES]:  # there it is an attribute like any other
            rows.see_time(record.get("time"))
        rows.warn((*mended, *problems), at, line)

    def _fatal(self, problem: Problem) -> bool:
        return self._rules.strict or problem.grade is Grade.ERROR

    def _encoded(self, found: Found, record: dict[str, Any]) -> Encoded:
        """Return the record as it is sent.

        Raises `TypeError` or `RecursionError` for one that is nested too deeply to be changed.
        """
        encoded = self._schema.encode(found, record)
        if self._flags(record) and self._schema.provable:
            return msgspec.structs.replace(encoded, fragment=flagged(encoded.fragment))
        return encoded

    def _flags(self, record: dict[str, Any]) -> bool:
        """Whether a record that does not say it itself is to be told to create no user."""
        return self._rules.update_existing_only and "_update_existing_only" not in record
