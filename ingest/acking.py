"""Which messages have their end: the driver between settled records and a source that is told.

A message may hold several records, or none. Decides nothing; it counts the open records of each
message, tells the source of messages without any, and answers whoever waits for one. It runs in the
stretch in which the ledger counts, so a letter is written before its message is settled (law 10).
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import msgspec

from ingest.dispositions import TAKEN, Verdict
from ingest.records import Batch, part_of
from ingest.sources.base import Block
from ingest.taken import Refusal, Taken

Told = Callable[[int, Sequence[int], Collection[int]], None]
"""Is told a part, the numbers of messages in it that have their end, and which of them are bad."""


class End(msgspec.Struct, frozen=True):
    """The end of one record of a message: its column, and why, if it was not delivered.

    `reason` may quote the destination; `code` and `field` hold no value of the record.
    """

    column: str = "delivered"
    code: str = ""
    field: str = ""
    reason: str = ""


DELIVERED: Final = End()

HELD: Final = "held"


class Acks:
    """Follows messages of a source from their reading to the end of their last record."""

    def __init__(self, told: Told = lambda part, lines, bad: None) -> None:
        self._told = told
        self._open: defaultdict[int, dict[int, int]] = defaultdict(dict)
        self._seen: set[int] = set()  # lines of the block that is being read that had a record
        # Of messages with several records, or a bad one: which had an end of which sort.
        self._bad: defaultdict[int, set[int]] = defaultdict(set)
        self._good: defaultdict[int, set[int]] = defaultdict(set)
        self._watched: dict[tuple[int, int], tuple[asyncio.Future[list[End]], list[End]]] = {}

    @property
    def messages(self) -> int:
        """Messages that were read and have no end."""
        return sum(map(len, self._open.values()))

    def oldest(self, part: int) -> int | None:
        """Return the number of the first message of a part that has no end; None if all have."""
        return next(iter(self._open[part]), None)

    def watch(self, part: int, line: int) -> asyncio.Future[list[End]]:
        """Return what will hold the ends of a message's records; ask before it is read."""
        future = asyncio.get_running_loop().create_future()
        self._watched[part, line] = (future, [])
        return future

    def forget(self, part: int, line: int) -> None:
        """Wait for a message no longer: its end is nobody's any more."""
        self._watched.pop((part, line), None)

    def abandon(self, end: End, *, doubted: Iterable[Batch] = (), doubt: End = DELIVERED) -> None:
        """Tell everybody who waits that nothing more will come, with this end for what is open.

        What is `doubted` may have arrived, and its end is `doubt`.
        """
        unsure = {
            (part_of(at), line)
            for batch in doubted
            for column in batch.columns
            for at, line in zip(column.positions, column.lines, strict=True)
        }
        watched, self._watched = self._watched, {}
        for message, (future, ends) in watched.items():
            if not future.done():
                future.set_result([*ends, doubt if message in unsure else end])

    # Reading

    def took(self, part: int, taken: Taken) -> None:
        """Note what lines of a part hold; what is refused has its end already."""
        counts = Counter[int]()
        for chunk in taken.chunks:
            counts.update(chunk.lines)
        if len(taken.chunks) > 1:  # each of a slot: who asks for the oldest asks for the first here
            counts = Counter({line: counts[line] for line in sorted(counts)})
        refused = [refusal.line for refusal in taken.refusals]
        self._seen.update(counts, refused)
        self._open[part].update(counts)
        self._bad[part].update(refused)
        for refusal in taken.refusals:
            self._note(part, refusal.line, _refused(refusal))
        self._tell(part, [line for line in dict.fromkeys(refused) if line not in counts])

    def read(self, block: Block) -> None:
        """Note that a block was read to its end: what held no record has its end too."""
        numbers = [*block.numbers(), *(row.line for row in block.unfit)]
        seen, self._seen = self._seen, set()
        self._tell(block.part, [line for line in numbers if line not in seen])

    # Settling

    def settle(
        self, batch: Batch, verdicts: Iterable[Verdict], staying: Collection[tuple[int, int]] = ()
    ) -> None:
        """Note the end of the records of a batch but for those that go again.

        `verdicts` are the ends that are no plain delivery, `staying` the (slot, index) of records
        that have no end yet.
        """
        ends = {(one.slot, one.index): one for one in verdicts}
        done: defaultdict[int, list[int]] = defaultdict(list)
        watched = bool(self._watched)
        for slot, column in enumerate(batch.columns):
            rows = zip(column.positions, column.lines, strict=True)
            for index, (position, line) in enumerate(rows):
                if staying and (slot, index) in staying:
                    continue
                part = part_of(position)
                end = ends.get((slot, index))
                if watched:
                    self._note(part, line, _ended(end))
                waiting = self._open[part]
                left = waiting[line] - 1
                # What is held may have arrived: nobody may get it to send it again.
                if end is not None and end.column not in (TAKEN, HELD):
                    self._bad[part].add(line)
                elif left or line in self._bad[part]:
                    self._good[part].add(line)
                if left:
                    waiting[line] = left
                else:
                    del waiting[line]
                    done[part].append(line)
        for part, lines in done.items():
            self._tell(part, lines)

    def _note(self, part: int, line: int, end: End) -> None:
        if (found := self._watched.get((part, line))) is not None:
            found[1].append(end)

    def _tell(self, part: int, lines: Sequence[int]) -> None:
        if not lines:
            return
        bad, good = self._bad[part], self._good[part]
        self._told(part, lines, bad.difference(good).intersection(lines) if bad else ())
        if bad or good:
            bad.difference_update(lines)
            good.difference_update(lines)
        if self._watched:
            for line in lines:
                found = self._watched.pop((part, line), None)
                if found is not None and not found[0].done():
                    found[0].set_result(found[1])


def _refused(refusal: Refusal) -> End:
    return End("invalid", refusal.code, refusal.field, refusal.reason)


def _ended(verdict: Verdict | None) -> End:
    if verdict is None:
        return DELIVERED
    return End(verdict.column, verdict.code, verdict.field, verdict.reason)
