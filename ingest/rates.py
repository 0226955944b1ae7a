"""Rate limits as values: windows, buckets and paces, how they are written, shared and spaced.

Decides what a rate in text means, how fast to send under several limits and how much one request
may cost. What an amount counts (requests, or the users in them) is not known here; nothing is
counted here either: that is `ingest.limits`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from ingest.errors import ConfigError

UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds of the units that a rate may be written in."""

SPREAD: Final = 60.0
"""Seconds over which the amount of a longer window is spread at most: an hourly budget is there to
be used when there is work, but not within a second."""

CATCH_UP: Final = 1.25
"""Sends are spaced this much closer than the rate asks for, so that late timers lose nothing."""

SPACING: Final = 0.01
"""Seconds between bursts, about: timers are good to 1 ms, so shorter intervals would come late."""

ROUNDING_ERROR: Final = 1e-9
"""What a product of floats may fall short of the whole number it stands for."""

DECIMALS: Final = 9
"""Digits after the point that a share of a rate keeps: 29 % of 10,000 is 2,900, not a hair less."""


class WindowLimit(msgspec.Struct, frozen=True):
    """At most `amount` (requests, or users in them) within any `period` seconds."""

    amount: int
    period: float

    def __str__(self) -> str:
        for unit, seconds in reversed(UNITS.items()):
            many = round(self.period / seconds, 6)
            if many >= 1 and many.is_integer():
                return f"{self.amount}/{many:.0f}{unit}"
        return f"{self.amount}/{self.period:g}s"


class BucketLimit(msgspec.Struct, frozen=True):
    """On average `rate` a second, with up to `burst` at once."""

    rate: float
    burst: float

    def __str__(self) -> str:
        return f"{self.rate:g}/s with bursts of {self.burst:g}"


class PaceLimit(msgspec.Struct, frozen=True):
    """At most `rate` within any second, and evenly: after a cost of n, n/`rate` seconds pass."""

    rate: float

    def __str__(self) -> str:
        return f"{self.rate:g}/s without bursts"


RateLimit = WindowLimit | BucketLimit | PaceLimit

_RATE = re.compile(r"(\d+)\s*/\s*(\d+(?:\.\d+)?)?\s*(ms|s|m|h|d)", re.ASCII)


def parse_rate(text: str) -> tuple[WindowLimit, ...]:
    """Read windows such as `250000/1h,3000/3s` (`100/s` is `100/1s`).

    Raises `ConfigError` if one is malformed, or its amount or period is zero.
    """
    limits = []
    for part in text.split(","):
        match = _RATE.fullmatch(part.strip())
        amount = int(match[1]) if match else 0
        period = float(match[2] or 1) * UNITS[match[3]] if match else 0.0
        if not amount or not period:
            raise ConfigError(
                f"{part.strip()!r} is not a rate: write the number of requests per period, with "
                "ms, s, m, h or d, and commas between several, such as 250000/1h,3000/3s"
            )
        limits.append(WindowLimit(amount, period))
    return tuple(limits)


def scaled(limits: Sequence[RateLimit], share: float) -> tuple[RateLimit, ...]:
    """Return the limits times `share` (in (0, 1]); each still grants a cost of 1."""
    return tuple(_scaled(limit, share) for limit in limits)


def _scaled(limit: RateLimit, share: float) -> RateLimit:
    match limit:
        case WindowLimit(amount, period):
            return WindowLimit(max(1, int(amount * share + ROUNDING_ERROR)), period)
        case BucketLimit(rate, burst):
            return BucketLimit(
                round(rate * share, DECIMALS), max(1.0, round(burst * share, DECIMALS))
            )
        case PaceLimit(rate):
            return PaceLimit(max(1.0, round(rate * share, DECIMALS)))
        case _ as unreachable:
            assert_never(unreachable)


def largest_cost(limits: Sequence[RateLimit]) -> float:
    """Return the most that one request may cost under all limits; inf without limits.

    What costs more is never granted, however long it waits.
    """
    return min((_largest(limit) for limit in limits), default=math.inf)


def _largest(limit: RateLimit) -> float:
    match limit:
        case WindowLimit(amount):
            return amount
        case BucketLimit(_, burst):
            return burst
        case PaceLimit(rate):
            return rate
        case _ as unreachable:
            assert_never(unreachable)


def peak_rate(limits: Sequence[RateLimit]) -> float:
    """Return the cost a second at which to send while there is work; inf without limits.

    The tightest of the limits, each over its period or `SPREAD`, whichever is shorter. Where every
    request costs 1, it is requests a second.
    """
    return min((_peak(limit) for limit in limits), default=math.inf)


def _peak(limit: RateLimit) -> float:
    match limit:
        case WindowLimit(amount, period):
            return amount / min(period, SPREAD)
        case BucketLimit(rate, burst):
            return rate + burst / SPREAD
        case PaceLimit(rate):
            return rate
        case _ as unreachable:
            assert_never(unreachable)


def pacing(limits: Sequence[RateLimit]) -> tuple[float, float] | None:
    """Return how to space sends: at most `max_rate` at once, per `time_period` seconds on average.

    None without limits. The two are the arguments of a leaky bucket; it only smooths, the ceiling
    is the `Budget`. For requests that cost 1 each: by cost, nothing above `max_rate` would ever go.
    """
    rate = peak_rate(limits) * CATCH_UP
    if math.isinf(rate):
        return None
    burst = max(1, round(rate * SPACING))
    return float(burst), burst / rate
