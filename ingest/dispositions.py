"""What becomes of the records of a batch, as values, and what that is decided by.

A *strike* is a failure of a batch while others succeeded; a *suspect* is a piece of a batch that
was bisected because of its failures. Decides nothing: see `ingest.retry`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

Row = tuple[int, int]
"""A record of a batch: (slot, index)."""

TAKEN: Final = "delivered"
"""Column of a record that is delivered, and of which a person has to know something all the same.
"""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and how fast.

    Delays are full jitter: uniform in [0, min(cap, base * 2**failures)), in seconds.
    """

    base: float = 0.5
    cap: float = 30.0
    refusal_delay: float = 0.2
    strikes_to_bisect: int = 3  # law 6: three 5xx while others succeed
    suspect_strikes_to_bisect: int = 2  # its parent had three already
    strikes_to_fail: int = 10  # of a batch: about 2 minutes of backoff
    suspect_strikes_to_fail: int = 3
    bisect_requests: int = 30  # law 6: requests that one batch's bisecting may cost
    hold_unanswered: frozenset[int] = frozenset()  # slots whose unanswered records are held


class Tries(msgspec.Struct, frozen=True):
    """What a batch, or a piece, has been through."""

    sends: int = 0
    failures: int = 0
    strikes: int = 0
    suspect: bool = False
    doubted: bool = False  # an earlier request with these records may have been processed


class Weather(msgspec.Struct, frozen=True):
    """What the rest of the run tells about this failure.

    `outage`: the breaker is open. `others_succeed`: another request succeeded since this batch
    failed last (was sent first), or, for a suspect, since its family was bisected. `alone`: there
    is no other work that could tell. `bisected`: requests that this batch's family has spent on
    bisecting, those of pieces not sent yet included.
    """

    outage: bool = False
    others_succeed: bool = False
    alone: bool = False
    bisected: int = 0


class Verdict(msgspec.Struct, frozen=True):
    """The end of one record that was not plainly delivered: its column and why.

    With the column `TAKEN`, it was, but for the piece named by `field`, or with a doubt.
    """

    slot: int
    index: int
    column: str
    code: str
    reason: str
    status: int | None = None
    field: str = ""


class Piece(msgspec.Struct, frozen=True):
    """Rows of a batch that go again together."""

    rows: tuple[Row, ...] | None  # None: the whole batch, same bytes
    tries: Tries


class Disposition(msgspec.Struct, frozen=True):
    """What becomes of each record; `delivered` are all rows in no verdict and in no piece.

    `warned` is what a person has to know of some of those, one for each piece that was refused.
    """

    delivered: bool = False
    verdicts: tuple[Verdict, ...] = ()
    warned: tuple[Verdict, ...] = ()
    pieces: tuple[Piece, ...] = ()
    delay: float = 0.0
    bisecting: bool = False
    duplicated: int = 0


ALL_DELIVERED: Final = Disposition(delivered=True)

Repeatable = Callable[[int, int], bool]
