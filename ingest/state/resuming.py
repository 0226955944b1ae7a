"""Reading again what a run has read before: what of it is counted, and what of it goes on.

Decides by positions alone. A resume begins at the last place before which all is settled, so among
the first records are some that were counted as read, some that are settled, and some in doubt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import compress

import msgspec

from ingest.records import Chunk
from ingest.state.settling import Settling
from ingest.taken import Taken

Again = Callable[[Chunk, int], bool]
"""Asked for the row of a chunk that is in doubt: whether it goes again, and not if it is held."""


def sift(taken: Taken, settling: Settling, kinds: Sequence[str], again: Again) -> Taken:
    """Return what is new of some lines, and what is not settled of the others.

    `read`, `warned` and warnings are those of records that were not counted before, refusals those
    of records that had no end before;
    `kinds` names the kind of each slot. For a record in doubt `again` is asked, which has to `mind`
    or `settle` it; while the run is unsure, all that are new are in doubt. Lines with nothing but
    new records come back as they are.
    """
    is_new = settling.is_new
    first = min(
        [chunk.positions[0] for chunk in taken.chunks]
        + [refusal.position for refusal in taken.refusals[:1]],
        default=None,
    )
    if first is None or (is_new(first) and not settling.unsure):
        return taken
    read: Counter[str] = Counter()
    chunks = []
    for chunk in taken.chunks:
        for slot, at in zip(chunk.slots, chunk.positions, strict=True):
            if is_new(at):
                read[kinds[slot]] += 1
        if (kept := _unsettled(chunk, settling, again)) is not None:
            chunks.append(kept)
    # One that was read before, and is refused only now (an event grew too old), ends here as well.
    refusals = [one for one in taken.refusals if one.position not in settling.settled]
    read.update(one.kind for one in refusals if is_new(one.position))
    warnings = [warning for warning in taken.warnings if is_new(warning.position)]
    warned = len({warning.position for warning in warnings})
    return Taken(chunks, dict(read), refusals, warnings, warned, taken.time)


def _unsettled(chunk: Chunk, settling: Settling, again: Again) -> Chunk | None:
    """Return the rows of a chunk that are to go on, None if there are none."""
    goes = []
    for row, at in enumerate(chunk.positions):
        in_doubt = at in settling.doubtful or (bool(settling.unsure) and settling.is_new(at))
        goes.append(at not in settling.settled and (not in_doubt or again(chunk, row)))
    if all(goes):
        return chunk
    if not any(goes):
        return None
    return msgspec.structs.replace(
        chunk,
        fragments=list(compress(chunk.fragments, goes)),
        slots=bytes(compress(chunk.slots, goes)),
        keys=list(compress(chunk.keys, goes)),
        positions=list(compress(chunk.positions, goes)),
        lines=list(compress(chunk.lines, goes)),
    )
