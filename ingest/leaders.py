"""Leaders: rows with more records of their user behind them, and where a batch is cut for those.

A user's records go together where they can: what waits behind a row goes before what is younger
than that row. Decides up to which row a step takes; moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import compress

from ingest.queues import Rows, Waiting
from ingest.records import UserKey


def led_by(followed: set[UserKey], pieces: Iterable[Iterable[Rows]]) -> list[Rows]:
    """Return the rows in which there is a leader; `followed` are those with a lane behind them."""
    if not followed:
        return []
    return [rows for some in pieces for rows in some if not followed.isdisjoint(rows.keys)]


def oldest(led: Iterable[Rows], followed: set[UserKey]) -> int:
    """Return the position of the first leader; there must be one in each of the rows."""
    return min(
        next(compress(rows.positions, map(followed.__contains__, rows.keys))) for rows in led
    )


def last_safe(
    led: Iterable[Rows],
    followed: set[UserKey],
    lane_of: Callable[[UserKey], Sequence[Waiting]],
    places: int,
    room: int,
) -> int | None:
    """Return the position of the last leader up to which all that follows fits in any case.

    For where whole lanes go along, and there are many: then nothing is left out for what is
    younger. `lane_of` is what waits behind a leader; all lanes may have so many places, and so much
    room in bytes. None if all of them fit.
    """
    leaders = sorted(
        (position, key)
        for rows in led
        for position, key in zip(rows.positions, rows.keys, strict=True)
        if key in followed
    )
    last = leaders[0][0]
    for position, key in leaders:
        waiting = lane_of(key)
        places -= len(waiting)
        if places >= 0:
            room -= sum(len(record.fragment) + 1 for record in waiting)
        if places < 0 or room < 0:
            return last
        last = position
    return None
