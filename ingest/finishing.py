"""How long a number of requests takes at a rate: when the last of them may go, and why not sooner.

Decides by the very meters and the very spacing that a run paces itself with, played through by
themselves. Answers, 429s and this machine are not known here: it is the least that it takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from ingest.meters import meter_of
from ingest.rates import CATCH_UP, RateLimit, largest_cost, peak_rate

STEPS: Final = 4_096
"""Steps in which the cost is spent, about: the last one ends within a few thousandths."""

MOST_STEPS: Final = 50_000
"""Steps that are played through, a tenth of a second; what is left goes on at the same pace."""


ROUNDING: Final = 1e-12
"""What the parts of a whole may exceed it by, taken together."""


class Finish(msgspec.Struct, frozen=True):
    """`seconds` from the first request to the last, and the limit that was waited for most.

    `binds` is None where no limit holds anything back for longer than requests are spaced.
    """

    seconds: float
    binds: RateLimit | None = None


def finish(limits: Sequence[RateLimit], cost: float, *, each: float = 1) -> Finish:
    """Return when the last of requests that cost `cost` in all, `each` at most, may go.

    In the unit that the limits count: requests, or the users in them.
    """
    if not limits:
        return Finish(0.0)
    meters = [(limit, meter_of(limit, 0.0)) for limit in limits]
    per_second = peak_rate(limits) * CATCH_UP  # to which requests are spaced out
    largest = largest_cost(limits)
    step = min(max(each, cost / STEPS), largest)
    if each < step < largest:
        # So many that the smallest window is filled to its brim, as single requests would.
        step = largest / math.ceil(largest / step) * (1 - ROUNDING)
    waited = dict.fromkeys(limits, 0.0)
    now, spent, enough = 0.0, 0.0, cost * (1 - STEPS * ROUNDING)
    for _ in range(MOST_STEPS):
        if spent >= enough:
            break
        part = min(step, cost - spent)
        now = max(now, spent / per_second)  # the first goes at once
        longest, binds = 0.0, None
        for limit, meter in meters:
            if (delay := meter.delay(now, part)) > longest:
                longest, binds = delay, limit
        now += longest
        if binds is not None:
            waited[binds] += longest
        for _, meter in meters:
            meter.spend(now, part)
        spent += part
    if spent < enough:
        now *= cost / spent
    most = max(waited, key=waited.__getitem__)
    return Finish(now, most if waited[most] else None)
