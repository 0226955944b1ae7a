"""What became of lines: records that go on, refusals and warnings, as the intake hands them on.

And the gathering of what is judged record by record. Decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from ingest.forms import Found, without_credentials
from ingest.proofs import Proof, moved, picked
from ingest.records import KINDS, WHOLE, Chunk, Fragment, Partition, UserKey, size_of
from ingest.schemas import Encoded
from ingest.validation import Problem, is_day


class Refusal(msgspec.Struct, frozen=True):
    """A record that is invalid: `record` is its object as it came, `raw` a line without one.

    Neither holds a credential. `summary` is what `reason` says of any such record, where the reason
    itself tells of this one alone. `key` says whose attributes it is, where they have a whole
    identity; `superseded` is that of a dead letter. `table` tells that the line is a table's row,
    and `who` is an object of its identity alone, encoded.
    """

    kind: str
    code: str
    field: str
    reason: str
    position: int
    line: int
    record: bytes | None = None
    raw: bytes | None = None
    summary: str = ""
    key: UserKey | None = None
    superseded: bool | None = False
    table: bool = False
    who: bytes = b""


class Warned(msgspec.Struct, frozen=True):
    """Something that the destination, or `--on-bad-field`, alters in a record that goes on."""

    code: str
    field: str
    reason: str
    position: int
    line: int


class Taken(msgspec.Struct):
    """What became of some lines: `read` counts records by kind, `warned` those with a warning.

    `chunks` hold the valid ones in source order, one for each run of records of one partition.
    `time` is that of one event or purchase among them, as text; empty if there is none.
    """

    chunks: Sequence[Chunk]
    read: dict[str, int]
    refusals: Sequence[Refusal] = ()
    warnings: Sequence[Warned] = ()
    warned: int = 0
    time: str = ""


def taken_of(proof: Proof, first: int, numbers: Sequence[int]) -> Taken:
    """Return what became of lines that are proven, all of them.

    Their positions count up from the first, `numbers` are those of the lines.
    """
    if not proof.alike:
        positions = range(first, first + len(proof))
        nbytes = size_of(proof.fragments)
        chunk = Chunk(proof.fragments, bytes(proof.slots), proof.keys, positions, numbers, nbytes)
        read = {kind: n for slot, kind in enumerate(KINDS) if (n := proof.slots.count(slot))}
        return Taken((chunk,), read, time=proof.time)
    chunks = [
        Chunk(
            some.fragments,
            bytes((some.slot,)) * len(some),
            some.keys,
            moved(some.rows, first),
            picked(numbers, some.rows),
            some.fragments.nbytes,
            news=proof.news,
        )
        for some in proof.alike
    ]
    read = {KINDS[some.slot]: len(some) for some in proof.alike}
    return Taken(chunks, read, time=proof.time)


class Gathering:
    """Columns in the making, with what became of the other records."""

    def __init__(self, time: str) -> None:
        self._time = time
        self._slots = bytearray()
        self._fragments: list[Fragment] = []
        self._keys: list[UserKey] = []
        self._positions: list[int] = []
        self._lines: list[int] = []
        self._partition = WHOLE
        self._chunks: list[Chunk] = []
        self._read: Counter[str] = Counter()
        self._refusals: list[Refusal] = []
        self._warnings: list[Warned] = []
        self._warned = 0

    def add(self, encoded: Encoded, kind: str, key: UserKey, at: int, line: int) -> None:
        """Add a record; where its partition is another one, a chunk ends."""
        if encoded.partition != self._partition:
            self._cut(encoded.partition)
        self._read[kind] += 1
        self._slots.append(encoded.slot)
        self._fragments.append(encoded.fragment)
        self._keys.append(key)
        self._positions.append(at)
        self._lines.append(line)

    def add_proven(self, proof: Proof, rows: slice, first: int, numbers: Sequence[int]) -> None:
        """Add consecutive rows of a proof, whose positions and lines count up from the first."""
        count = rows.stop - rows.start
        for slot, kind in enumerate(KINDS):
            if of_kind := proof.slots.count(slot, rows.start, rows.stop):
                self._read[kind] += of_kind
        self._slots += proof.slots[rows]
        self._fragments += proof.fragments[rows]
        self._keys += proof.keys[rows]
        self._positions += range(first, first + count)
        self._lines += numbers[rows]

    @property
    def refused(self) -> bool:
        """Whether a record was refused."""
        return bool(self._refusals)

    def take_back(self) -> Refusal:
        """Forget all refusals, and return the first: whoever handed the record over has it."""
        first = self._refusals[0]
        for refusal in self._refusals:
            self._read[refusal.kind] -= 1
        self._refusals.clear()
        return first

    def refuse(self, refusal: Refusal) -> None:
        self._read[refusal.kind] += 1
        self._refusals.append(refusal)

    def refuse_found(
        self,
        found: Found,
        code: str,
        field: str,
        reason: str,
        at: int,
        line: int,
        *,
        key: UserKey | None = None,
        summary: str = "",
    ) -> None:
        self.refuse(
            Refusal(
                found.kind,
                code,
                field,
                reason,
                at,
                line,
                record=without_credentials(found.fragment, in_text=False),
                summary=summary,
                key=key,
                superseded=found.superseded,
            )
        )

    def see_time(self, time: object) -> None:
        """Keep a time that sorts by its text."""
        if isinstance(time, str) and is_day(time[:10]):
            self._time = time

    def warn(self, problems: Sequence[Problem], at: int, line: int) -> None:
        self._warned += bool(problems)
        self._warnings += (
            Warned(problem.code, problem.field, problem.reason, at, line) for problem in problems
        )

    def taken(self) -> Taken:
        self._cut(WHOLE)
        return Taken(
            self._chunks,
            {kind: count for kind, count in self._read.items() if count},
            self._refusals,
            self._warnings,
            self._warned,
            self._time,
        )

    def _cut(self, partition: Partition) -> None:
        """End the chunk that is being filled; the next one is of another partition."""
        if self._slots:
            self._chunks.append(
                Chunk(
                    self._fragments,
                    bytes(self._slots),
                    self._keys,
                    self._positions,
                    self._lines,
                    sum(map(len, self._fragments)),
                    self._partition,
                )
            )
            self._slots = bytearray()
            self._fragments, self._keys, self._positions, self._lines = [], [], [], []
        self._partition = partition
