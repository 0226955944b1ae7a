"""From blocks of a source to judged records: the step that an import and a plan share.

Decides the order alone: rows that make no record stand between lines, and ordinals must not depend
on where a source cut its blocks. Waits for nothing, and accounts for nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from ingest.intake import Intake, Taken
from ingest.sources.base import Block


def judged(intake: Intake, block: Block, now: float) -> Iterator[Taken]:
    """Yield what becomes of the lines of a block, slice by slice, in the order of the file.

    `now` is the time of day in epoch seconds. Raises `InputError` as `Intake.take` does.
    """
    part = block.part
    for line, length in block.oversize:
        yield intake.oversize(part, line, length)
    lines, numbers, at = block.lines(), block.numbers(), 0
    for row in block.unfit:
        stop = bisect_left(numbers, row.line)
        yield from intake.take(part, lines[at:stop], numbers[at:stop], now)
        yield intake.unfit(part, row.line, row.code, row.field, row.reason, row.raw, row.summary)
        at = stop
    yield from intake.take(part, lines[at:], numbers[at:], now)
