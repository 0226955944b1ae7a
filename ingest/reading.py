"""From blocks of a source to judged records: the step that an import and a plan share.

Decides the order alone: rows that make no record stand between lines, and ordinals must not depend
on where a source cut its blocks. Waits for nothing, and accounts for nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from ingest.intake import Intake
from ingest.quota import Quota, cut
from ingest.records import position
from ingest.sources.base import Block
from ingest.taken import Taken


def judged(intake: Intake, block: Block, now: float) -> Iterator[Taken]:
    """Yield what becomes of the lines of a block, slice by slice, in the order of the file.

    `now` is the time of day in epoch seconds. Raises `InputError` as `Intake.take` does.
    """
    part = block.part
    for line, length in block.oversize:
        yield intake.oversize(part, line, length)
    numbers, at = block.numbers(), 0
    take = _taking(intake, block, numbers, now)
    for row in block.unfit:
        stop = bisect_left(numbers, row.line)
        yield from take(at, stop)
        told = (row.code, row.field, row.reason, row.raw, row.summary)
        yield intake.unfit(part, row.line, *told, who=row.who, table=row.table)
        at = stop
    yield from take(at, len(numbers))


def _taking(
    intake: Intake, block: Block, numbers: Sequence[int], now: float
) -> Callable[[int, int], Iterator[Taken]]:
    """Return what judges some lines of a block: as they are, proven, or vouched for."""
    part, vouched = block.part, block.vouched
    if (proof := block.proof) is not None:
        lines = [] if proof.whole else block.lines()
        return lambda at, to: intake.take_proven(
            part, proof.cut(at, to), lines[at:to], numbers[at:to], now
        )
    if vouched is None:
        lines = block.lines()
        return lambda at, to: intake.take(part, lines[at:to], numbers[at:to], now)
    return lambda at, to: intake.take_vouched(part, vouched.cut(at, to), numbers[at:to], now)


def rationed(
    intake: Intake, block: Block, now: float, quota: Quota, counted: int, kinds: Sequence[str]
) -> Iterator[Taken]:
    """Yield what `judged` yields, up to the last record of a quota.

    The intake then numbers on behind that record. `counted` is the ordinal before which all of the
    part were counted as read by an earlier process, `kinds` names the kind of each slot.
    """
    part = block.part
    first = intake.next_ordinal(part)
    for taken in judged(intake, block, now):
        end = intake.next_ordinal(part)
        if (stop := quota.stop(first, end, counted)) is not None:
            intake.begin(part, stop)
            yield cut(taken, position(part, stop), kinds)
            return
        yield taken
        first = end
