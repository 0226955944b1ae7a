"""How long records wait for others to fill their request, and which of them waited long enough.

Decides by the moments that it is told: a request that is begun lingers; when that is over, every
record that was there by then is overdue, and goes without waiting for more. Knows no record.
"""

from __future__ import annotations


class Lingering:
    """The waiting of one request after the other; `seconds` is how long each may take."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self.overdue = 0
        """Records that waited while another request lingered."""

    @property
    def until(self) -> float | None:
        """When the request that is begun has waited long enough; None if none is."""
        return None if self._since is None else self._since + self._seconds

    def over(self, now: float) -> bool:
        """Whether a request has waited long enough to be filled."""
        # By the same sum as `until`: who waits until then has to find it over.
        until = self.until
        return until is not None and now >= until

    def look(self, now: float, may_go: int) -> None:
        """Take note of the records that may go: if the waiting is over, it is for all of them."""
        if not self.overdue and self.over(now):
            self.overdue = may_go

    def went(self, records: int) -> None:
        """Take note of a request that went, with so many records."""
        self._since = None
        self.overdue = max(0, self.overdue - records)

    def held(self, records: int, now: float) -> None:
        """Take note that none went, with so many records in the one that is begun."""
        if not records:
            self._since = None
        elif self._since is None:
            self._since = now

    def nothing_waits(self) -> None:
        """Take note that no record is there."""
        self.overdue = 0
