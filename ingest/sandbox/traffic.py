"""What the server saw: requests, statuses, how many were in flight, and whose.

This module counts; it decides only what an overlap is: a request that carries a user whom another
request in flight carries too. It knows no HTTP and no clock; `now` is an argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Final

from ingest.records import UserKey
from ingest.sandbox.buckets import Span
from ingest.sandbox.rules import SLOTS

PEAK_SECONDS: Final = 1.0
"""Length of the window of which the most updates are told: budgets of updates are by the second."""


class Traffic:
    """Counts of requests since the start or the last reset."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._carried: Counter[UserKey] = Counter()
        self.reset()

    def reset(self) -> None:
        """Forget all counts; what is in flight stays in flight."""
        self.requests = 0
        self.by_status: Counter[int] = Counter()
        self.by_path: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.unanswered = 0
        self.over_rate = 0
        self.rejected = 0
        self.max_in_flight = self.in_flight
        self.same_user_overlaps = 0
        self.max_body_bytes = 0
        self.max_objects = 0
        self._max_by_slot = [0, 0, 0]
        self.updates = 0
        self.max_updates_per_second = 0
        self._recent_updates = Span(PEAK_SECONDS)

    def arrive(self, path: str) -> int:
        """Count a request at its arrival; return its number, from 1."""
        self.requests += 1
        self.by_path[path] += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        return self.requests

    def carry(self, users: Collection[UserKey]) -> None:
        """Note whom a request in flight carries; every user of another one is an overlap."""
        for user in users:
            if self._carried[user]:
                self.same_user_overlaps += 1
            self._carried[user] += 1

    def sized(self, nbytes: int, sizes: Sequence[int]) -> None:
        """Note the bytes of a body and its objects by slot."""
        self.max_body_bytes = max(self.max_body_bytes, nbytes)
        self.max_objects = max(self.max_objects, sum(sizes))
        self._max_by_slot = list(map(max, self._max_by_slot, sizes))

    def updated(self, updates: int, now: float) -> None:
        """Count the updates of a request that arrived at `now` (seconds) and was accepted."""
        self.updates += updates
        peak = self._recent_updates.add(updates, now)
        self.max_updates_per_second = max(self.max_updates_per_second, peak)

    def depart(self, users: Collection[UserKey]) -> None:
        """Note that a request is over, however it ended; `users` as given to `carry`."""
        self.in_flight -= 1
        for user in users:
            self._carried[user] -= 1
            if not self._carried[user]:
                del self._carried[user]

    def stats(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return {
            "requests": self.requests,
            "by_status": {str(status): n for status, n in sorted(self.by_status.items())},
            "unanswered": self.unanswered,
            "by_path": dict(self.by_path),
            "faults": dict(self.faults),
            "max_in_flight": self.max_in_flight,
            "same_user_overlaps": self.same_user_overlaps,
            "over_rate": self.over_rate,
            "rejected_objects": self.rejected,
            "max_objects": {
                "total": self.max_objects,
                **dict(zip(SLOTS, self._max_by_slot, strict=True)),
            },
            "max_body_bytes": self.max_body_bytes,
            "updates": self.updates,
            "max_updates_per_second": self.max_updates_per_second,
        }
