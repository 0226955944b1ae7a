"""Stopping after so many records: where the last lines that are read are cut.

Decides by ordinals alone, so that whoever goes on reads the very next record, also in the middle of
a line that holds several. A record that an earlier process counted is not counted here again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import msgspec

from ingest.records import Chunk
from ingest.taken import Taken, Warned


class Quota:
    """How many records more are to be read; `reached` once there was one beyond them."""

    def __init__(self, records: int) -> None:
        self._left = max(0, records)
        self.reached = False

    @property
    def left(self) -> int:
        """Records that may still be read."""
        return self._left

    def stop(self, first: int, end: int, counted: int) -> int | None:
        """Count the records with the ordinals from `first` to before `end`, of one part.

        `counted` is the ordinal before which all of the part were counted as read by an earlier
        process. Returns the ordinal of the first record that is beyond the quota, None if there is
        none among them.
        """
        new = max(first, counted)
        if end - new <= self._left:
            self._left -= max(0, end - new)
            return None
        stop = new + self._left
        self._left, self.reached = 0, True
        return stop


def cut(taken: Taken, stop: int, kinds: Sequence[str]) -> Taken:
    """Return what becomes of the records before a position; `kinds` names the kind of each slot."""
    chunks = [cut_chunk for chunk in taken.chunks if len(cut_chunk := _before(chunk, stop))]
    refusals = [refusal for refusal in taken.refusals if refusal.position < stop]
    warnings: list[Warned] = [warning for warning in taken.warnings if warning.position < stop]
    read = Counter(kinds[slot] for chunk in chunks for slot in chunk.slots)
    read.update(refusal.kind for refusal in refusals)
    warned = len({warning.position for warning in warnings})
    return Taken(chunks, dict(read), refusals, warnings, warned, taken.time)


def _before(chunk: Chunk, stop: int) -> Chunk:
    rows = bisect_left(chunk.positions, stop)
    if rows == len(chunk):
        return chunk
    return msgspec.structs.replace(
        chunk,
        fragments=chunk.fragments[:rows],
        slots=chunk.slots[:rows],
        keys=chunk.keys[:rows],
        positions=chunk.positions[:rows],
        lines=chunk.lines[:rows],
    )
