"""The server's rate limit: fixed windows on the clock edge, and the headers that speak of them.

This module decides whether a request that arrives now is within every window, and words the answer
in one of two dialects: `classic` (the end of the window as epoch seconds, on every answer) and
`mau` (the longest window with the seconds left; on a refusal only `X-Ratelimit-Retry-After`).

It knows no clock (`now` is an argument, epoch seconds) and no HTTP server.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final, Literal, get_args

import msgspec

from ingest.errors import ConfigError

Dialect = Literal["classic", "mau"]
DIALECTS: Final[tuple[Dialect, ...]] = get_args(Dialect)

_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE: Final = re.compile(r"(\d+)/(\d+(?:\.\d+)?)?(ms|s|m|h|d)")

PLAYED_SECONDS: Final = 2.0
"""Seconds that an injected 429 asks for at the most."""

_EMPTY_HEADERS: Final = {
    "X-RateLimit-Limit": "",
    "X-RateLimit-Remaining": "",
    "X-RateLimit-Reset": "",
}


class Rate(msgspec.Struct, frozen=True):
    """At most `amount` requests in each window of `period` seconds."""

    amount: int
    period: float


class Reading(msgspec.Struct, frozen=True):
    """One window after a request: what is left in it, and when it ends (epoch seconds)."""

    rate: Rate
    remaining: int
    ends: float


class Ruling(msgspec.Struct, frozen=True):
    """Whether a request was let in, and the state of every window then.

    `refused_by` are the readings of the windows that were full; empty when it was let in.
    """

    readings: tuple[Reading, ...]
    refused_by: tuple[Reading, ...] = ()

    @property
    def allowed(self) -> bool:
        """True when no window was full."""
        return not self.refused_by


def parse_rate(spec: str) -> tuple[Rate, ...]:
    """Read `N/PERIOD[,N/PERIOD]`, such as `250000/1h,3000/3s`; empty means no limit.

    Raises `ConfigError` for anything else, and for an amount or a period of zero.
    """
    rates = []
    for part in filter(None, (part.strip() for part in spec.split(","))):
        match = _RATE.fullmatch(part)
        if match is None:
            raise ConfigError(
                f"the sandbox's rate {part!r} is not understood: write N/PERIOD, such as 3000/3s"
            )
        amount, count, unit = match.groups()
        rate = Rate(int(amount), float(count or 1) * _UNIT_SECONDS[unit])
        if rate.amount < 1 or rate.period <= 0:
            raise ConfigError(f"the sandbox's rate {part!r} must be more than zero")
        rates.append(rate)
    return tuple(rates)


def parse_dialect(name: str) -> Dialect:
    """Return the dialect of this name, or raise `ConfigError`."""
    for dialect in DIALECTS:
        if name == dialect:
            return dialect
    raise ConfigError(f"the sandbox's dialect {name!r} is unknown: use {' or '.join(DIALECTS)}")


class Windows:
    """Counts arrivals in windows that begin on multiples of their period since the epoch.

    A request counts in every window or in none: what is refused costs nothing. A clock that is set
    back keeps the window it was in.
    """

    def __init__(self, rates: Sequence[Rate]) -> None:
        self._rates = tuple(rates)
        self._index = [-math.inf] * len(self._rates)
        self._used = [0] * len(self._rates)

    def __bool__(self) -> bool:
        return bool(self._rates)

    def arrive(self, now: float) -> Ruling:
        """Count a request that arrives at `now` (epoch seconds), unless a window is full."""
        full = False
        for i, rate in enumerate(self._rates):
            index = now // rate.period
            if index > self._index[i]:
                self._index[i] = index
                self._used[i] = 0
            full = full or self._used[i] >= rate.amount
        if not full:
            for i in range(len(self._used)):
                self._used[i] += 1
        readings = self._readings()
        if not full:
            return Ruling(readings)
        return Ruling(readings, tuple(reading for reading in readings if not reading.remaining))

    def reset(self) -> None:
        """Forget every arrival."""
        self._index = [-math.inf] * len(self._rates)
        self._used = [0] * len(self._rates)

    def _readings(self) -> tuple[Reading, ...]:
        return tuple(
            Reading(rate, rate.amount - used, (index + 1) * rate.period)
            for rate, used, index in zip(self._rates, self._used, self._index, strict=True)
        )


def longest(readings: Sequence[Reading]) -> Reading:
    """Return the reading of the longest window: the one that everyday headers describe."""
    return max(readings, key=lambda reading: reading.rate.period)


def headers(dialect: Dialect, ruling: Ruling, now: float) -> dict[str, str]:
    """Return the rate-limit headers of an answer given at `now` (epoch seconds).

    A refusal in the classic dialect describes the full window that ends last, because that is the
    one to wait for. Without windows there is nothing to say, so there are no headers.
    """
    if ruling.refused_by:
        return refusal_headers(dialect, max(ruling.refused_by, key=lambda full: full.ends), now)
    if not ruling.readings:
        return {}
    reading = longest(ruling.readings)
    return _three(dialect, reading.rate.amount, reading.remaining, reading.ends, now)


def fault_headers(dialect: Dialect, ruling: Ruling, now: float) -> dict[str, str]:
    """Return the headers of a 429 that was injected, though no window is full.

    They name the window that ends first, and as if it ended soon: an invented refusal must not cost
    an hour.
    """
    if not ruling.readings:
        return {"X-Ratelimit-Retry-After": "1"} if dialect == "mau" else {}
    first = min(ruling.readings, key=lambda reading: reading.ends)
    soon = msgspec.structs.replace(first, ends=min(first.ends, now + PLAYED_SECONDS))
    return refusal_headers(dialect, soon, now)


def refusal_headers(dialect: Dialect, full: Reading, now: float) -> dict[str, str]:
    """Return the headers of a 429 because of this window."""
    if dialect == "mau":
        return {"X-Ratelimit-Retry-After": str(max(1, math.ceil(full.ends - now)))}
    return _three(dialect, full.rate.amount, 0, full.ends, now)


def unauthorized_headers() -> dict[str, str]:
    """Return the headers of a 401: present, and empty strings."""
    return dict(_EMPTY_HEADERS)


def _three(dialect: Dialect, limit: int, remaining: int, ends: float, now: float) -> dict[str, str]:
    reset = math.ceil(ends) if dialect == "classic" else max(0, math.ceil(ends - now))
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(reset),
    }
