"""The account of a run: every record in exactly one column, and why it did not arrive.

Counts only what it is told. Law 1 is arithmetic here: `pending` is what was read and has no other
column yet, so the columns always add up to what was read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ingest.records import KIND_UNKNOWN, KINDS

COLUMNS: Final = (
    "delivered",
    "rejected",
    "invalid",
    "failed",
    "held",
    "unchanged",
    "merged",
    "pending",
)
"""What a record that was read can be; the report shows them in this order."""

MOST_REASONS: Final = 1_000
"""Distinct reasons kept; the rest are counted as `other`, so that memory stays bounded."""

OTHER: Final = ("other", "", "other")


class Reason(msgspec.Struct):
    """Why records did not arrive, or arrived altered: a code and a field, never a value."""

    code: str
    field: str
    column: str
    reason: str
    count: int
    example: str


class Balance:
    """Counts by kind and column, reasons, and what the requests were like."""

    def __init__(self) -> None:
        self._read: Counter[str] = Counter()
        self._settled: Counter[tuple[str, str]] = Counter()
        self._reasons: dict[tuple[str, str, str], Reason] = {}
        self._explained: dict[tuple[str, str, str], Reason] = {}  # since somebody asked
        self.queued = 0
        self.warned = 0
        self.maybe_duplicated = 0
        self.requests = 0
        self.retried = 0
        self.throttled = 0
        self.by_status: Counter[str] = Counter()
        self.records_sent = 0

    def __str__(self) -> str:
        """Return the columns that are not empty: `read 5, delivered 4, invalid 1`."""
        shown = {name: count for name, count in self.columns().items() if count or name == "read"}
        return ", ".join(f"{name} {count:,}" for name, count in shown.items())

    def read(self, kind: str, count: int = 1) -> None:
        """Count records that came out of the source."""
        self._read[kind] += count

    def give_back(self) -> dict[str, int]:
        """Count what is pending as never read; return how much that was, by kind.

        For what is left to whoever reads it next, and will be counted by him.
        """
        left = {kind: row["pending"] for kind, row in self.kinds().items() if row["pending"]}
        self._read.subtract(left)
        return left

    def settle(self, kind: str, column: str, count: int = 1) -> None:
        """Count records that reached their end."""
        self._settled[kind, column] += count

    def explain(
        self, code: str, field: str, column: str, reason: str, example: str, count: int = 1
    ) -> None:
        """Count a reason; the first record that has it is the example."""
        key = (code, field, column)
        known = self._reasons.get(key)
        if known is None:
            if len(self._reasons) >= MOST_REASONS:
                key, reason = OTHER, "reasons beyond the first thousand"
                known = self._reasons.get(key)
            if known is None:
                made = Reason(*key, reason, count, example)
                self._reasons[key] = self._explained[key] = made
                return
        known.count += count
        self._explained[key] = known

    def sent(self, records: int, *, again: bool) -> None:
        """Count a request on its way."""
        self.requests += 1
        self.records_sent += records
        self.retried += again

    def answered(self, status: int | None, *, throttled: bool = False, count: int = 1) -> None:
        """Count answers by status; `none` stands for no answer."""
        self.by_status["none" if status is None else str(status)] += count
        self.throttled += throttled * count

    def count(self, column: str) -> int:
        """Return the records of one column, or of `read`."""
        if column == "read":
            return self._read.total()
        if column == "pending":
            return self._read.total() - self._settled.total()
        return sum(count for (_, name), count in self._settled.items() if name == column)

    @property
    def bad(self) -> int:
        """Records that will not be delivered by this run."""
        return sum(map(self.count, ("rejected", "invalid", "failed", "held")))

    def columns(self) -> dict[str, int]:
        """Return `read` and every column, in the order of the report."""
        return {"read": self.count("read")} | {name: self.count(name) for name in COLUMNS}

    def kinds(self) -> dict[str, dict[str, int]]:
        """Return `read` and every column by kind."""
        table: dict[str, dict[str, int]] = {}
        for kind in dict.fromkeys((*KINDS, KIND_UNKNOWN, *self._read)):
            read = self._read[kind]
            row = {name: self._settled[kind, name] for name in COLUMNS}
            row["pending"] = read - sum(row.values())
            table[kind] = {"read": read} | row
        return table

    def tallies(self) -> Iterator[tuple[str, str, int]]:
        """Yield (kind, column, count) of all that was ever counted, `read` too, `pending` not."""
        for kind, count in self._read.items():
            yield kind, "read", count
        for (kind, column), count in self._settled.items():
            yield kind, column, count

    def explained(self) -> list[Reason]:
        """Return the reasons that were counted since the last call."""
        found = list(self._explained.values())
        self._explained.clear()
        return found

    def reasons(self) -> list[Reason]:
        """Return the reasons, the most frequent first."""
        return sorted(self._reasons.values(), key=lambda reason: -reason.count)

    def report(
        self,
        *,
        run: str,
        state: str,
        halted_because: str | None,
        source: list[str],
        sink: str,
        endpoint: str,
        limits: str,
        seconds: float,
    ) -> dict[str, Any]:
        """Return the report of INTERFACE version 1, ready to be encoded as JSON."""
        return {
            "v": 1,
            "run": run,
            "state": state,
            "halted_because": halted_because,
            "source": source,
            "sink": sink,
            "endpoint": endpoint,
            "limits": limits,
            "records": self.columns(),
            "of_which": {
                "queued": self.queued,
                "warned": self.warned,
                "maybe_duplicated": self.maybe_duplicated,
            },
            "kinds": self.kinds(),
            "requests": {
                "sent": self.requests,
                "retried": self.retried,
                "throttled": self.throttled,
                "by_status": dict(sorted(self.by_status.items())),
                "records_each": round(self.records_sent / self.requests, 1)
                if self.requests
                else 0.0,
            },
            "seconds": round(seconds, 3),
            "reasons": [msgspec.structs.asdict(reason) for reason in self.reasons()],
        }
