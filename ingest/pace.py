"""How long what is left of a run takes: by what was measured, and by what the budget permits.

Decides how many records are still to come, how fast the run is, and when it ends if all goes on as
it does. An estimate that cannot be made is None, and never a number. It knows no clock: all that it
is told are counts, and seconds of one clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class Spent(msgspec.Struct, frozen=True):
    """A window of a budget: at most `amount` within any `period` seconds.

    `log` is what was spent within the last period, oldest first: (seconds ago, cost).
    """

    amount: float
    period: float
    log: tuple[tuple[float, float], ...] = ()


class Standing(msgspec.Struct, frozen=True):
    """How a budget stands: what it grants from now on follows from this.

    `rate` is the cost a second at which it sends while nothing else holds it back, `held` the
    seconds for which nothing goes. `buckets` are (tokens there, tokens a second). `told` is what
    the destination said last: (requests left, seconds until its window resets).
    """

    rate: float = math.inf
    held: float = 0.0
    windows: tuple[Spent, ...] = ()
    buckets: tuple[tuple[float, float], ...] = ()
    told: tuple[float, float] | None = None


def permitted(standing: Standing, cost: float, *, pace: float = math.inf) -> float:
    """Return the seconds after which a budget has granted `cost` more, at `pace` a second at most.

    0.0 for no cost, inf for what never comes. It does not fall when `cost` grows.

    With windows of A in P seconds, the nth request goes P after the one that is A before it, so the
    last of many waits for a chain of those that ends now, or at one that was sent before now.
    """
    if cost <= 0:
        return 0.0
    rate = min(standing.rate, pace)
    if rate <= 0:
        return math.inf
    windows = sorted(standing.windows, key=lambda window: -window.period / window.amount)
    longest = standing.held + _chain(windows, cost, rate)
    for window in windows:
        unspent = window.amount - math.fsum(spent for _, spent in window.log)
        for ago, spent in window.log:
            if cost <= unspent:
                break
            # What comes beyond what is free waits until these have left the window.
            leaves = window.period - ago
            longest = max(longest, leaves + _chain(windows, cost - max(0.0, unspent), rate))
            unspent += spent
    for tokens, flow in standing.buckets:
        longest = max(longest, (cost - tokens) / flow)
    if standing.told is not None:
        left, resets_in = standing.told
        if cost > left:
            longest = max(longest, resets_in + _chain(windows, cost - left, rate))
    return longest


def _chain(windows: Sequence[Spent], cost: float, rate: float) -> float:
    """Return the seconds that `cost` takes from empty windows on; the slowest window is first."""
    if not windows:
        return cost / rate
    first, *others = windows
    full = math.ceil(cost / first.amount) - 1
    rest = _chain(others, cost - full * first.amount, rate)
    return max(cost / rate, full * first.period + rest)


def remaining(
    *,
    total: int | None,
    read: int,
    records: int,
    settled: int,
    pending: int,
    ended: bool,
    allowed: int | None = None,
) -> float | None:
    """Estimate the records that are not settled yet, those that were not read included.

    `total` and `read` are bytes of the input, `records` those that lie in the bytes read, by
    whichever process; `settled` counts the whole run, `pending` what was read and is not settled.
    No more than `allowed` are read besides. Once the input has `ended` nothing has to be guessed.
    None where nothing can be known.
    """
    if ended:
        return float(pending)
    if not total or read <= 0 or records <= 0:
        return None
    most = math.inf if allowed is None else allowed
    unread = records * max(1.0, total / read) - settled - pending
    return pending + max(0.0, min(unread, most))


def left(
    standing: Standing,
    records: float | None,
    *,
    pace: float,
    settled: int,
    cost: float,
    out: float = 0.0,
) -> float | None:
    """Estimate the seconds until `records` more are settled; None where nothing can be known.

    `pace` is in records a second while they may be sent. `settled` records took `cost` of the
    budget so far; what is `out`, in flight, is granted already.
    """
    if records is None or (records > 0 and (settled <= 0 or pace <= 0)):
        return None
    if not records:
        return 0.0
    each = cost / settled
    # What no request was needed for so far (all refused here) takes its time all the same.
    # There is no part of a request, and a hair more than an hour grants would be another hour.
    needed = round(records * each - out)
    seconds = permitted(standing, needed, pace=pace * each) if needed > 0 else records / pace
    return seconds if math.isfinite(seconds) else None


class Fading:
    """An average rate in which what was `seconds` ago counts a third (1/e) of what is now."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._count = self._time = 0.0

    def add(self, count: float, passed: float) -> None:
        """Take in what came within the next `passed` seconds."""
        kept = math.exp(-passed / self._seconds)
        self._count = self._count * kept + count
        self._time = self._time * kept + passed

    @property
    def rate(self) -> float:
        """How many come in a second; 0.0 before any time has passed."""
        return self._count / self._time if self._time else 0.0
