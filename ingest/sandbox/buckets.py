"""Budgets that are counted in updates, not in requests: a bucket, and a sliding window.

This module decides whether so many updates may pass now. A bucket refills steadily and lets a burst
through; a sliding window lets at most so many pass in any period, wherever it begins.

It knows no clock (`now` is an argument, seconds). A clock that is set back stands still here.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from ingest.errors import ConfigError
from ingest.sandbox.windows import Rate, parse_rate

ROUNDING: Final = 1e-9
"""Updates that a sum of refills may lack of a whole number, because of binary fractions."""


class Budget(Protocol):
    """Something that updates are taken from."""

    def take(self, count: int, now: float) -> bool:
        """Take so many at `now`, all or none; tell whether they were there."""
        ...

    def reset(self) -> None:
        """Be as new."""
        ...


class Span:
    """What was added within the last `period` seconds; what is exactly that old is out."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._added: deque[tuple[float, int]] = deque()
        self._total = 0
        self._now = float("-inf")

    def total(self, now: float) -> int:
        """Return the sum of what was added within the period that ends at `now`."""
        self._now = now = max(now, self._now)
        while self._added and now - self._added[0][0] >= self._period:
            self._total -= self._added.popleft()[1]
        return self._total

    def add(self, count: int, now: float) -> int:
        """Add so many at `now`; return the sum within the period that ends then."""
        self.total(now)
        self._added.append((self._now, count))
        self._total += count
        return self._total


class Bucket:
    """Up to `burst` updates at once, refilled at `rate.amount` in `rate.period` seconds."""

    def __init__(self, rate: Rate, burst: int) -> None:
        self._per_second = rate.amount / rate.period
        self._burst = burst
        self.reset()

    def reset(self) -> None:
        """Be full."""
        self._left = float(self._burst)
        self._now = float("-inf")

    def take(self, count: int, now: float) -> bool:
        """Take so many at `now`, all or none; tell whether they were there."""
        if now > self._now:
            gained = (now - self._now) * self._per_second
            self._left = min(self._burst, self._left + gained)
            self._now = now
        if count > self._left + ROUNDING:
            return False
        self._left -= count
        return True


class Sliding:
    """At most `rate.amount` updates in any `rate.period` seconds."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self.reset()

    def reset(self) -> None:
        """Forget what passed."""
        self._span = Span(self._rate.period)

    def take(self, count: int, now: float) -> bool:
        """Take so many at `now`, all or none; tell whether they were there."""
        if self._span.total(now) + count > self._rate.amount:
            return False
        self._span.add(count, now)
        return True


class Unlimited:
    """A budget without an end."""

    def take(self, count: int, now: float) -> bool:
        """Always there."""
        return True

    def reset(self) -> None:
        """Nothing is remembered."""


def bucket(spec: str, burst: int) -> Budget:
    """Return the bucket of `N/PERIOD`; an empty text means no limit. Raises `ConfigError`."""
    rate = _one_rate(spec)
    if burst < 1:
        raise ConfigError(f"the sandbox's burst of {burst} updates must be more than zero")
    return Unlimited() if rate is None else Bucket(rate, burst)


def sliding(spec: str) -> Budget:
    """Return the sliding window of `N/PERIOD`; empty means no limit. Raises `ConfigError`."""
    rate = _one_rate(spec)
    return Unlimited() if rate is None else Sliding(rate)


def _one_rate(spec: str) -> Rate | None:
    rates = parse_rate(spec)
    if len(rates) > 1:
        raise ConfigError(f"the sandbox's rate {spec!r} of updates must be a single one")
    return rates[0] if rates else None
