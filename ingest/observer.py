"""The one hook through which a run tells what happens: sentences for people, answers for metrics.

Counts are in the balance, which anybody may read at any time. Decides nothing.
"""

from __future__ import annotations

import logging

import msgspec

log = logging.getLogger("ingest")


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A request that came to its end: `status` is None if no answer came.

    `seconds` is the time from sending it to its end, backoff not included, `records` what it held.
    """

    status: int | None
    seconds: float
    records: int


class Observer:
    """Told of what happens while a run goes on; override what is of interest. Must not block."""

    def notice(self, text: str) -> None:
        """Take a sentence about something that changed: an outage, a step down, a halt."""

    def answered(self, found: Answered) -> None:
        """Take note of a request that came to its end."""


class LogObserver(Observer):
    """Writes notices to the logger `ingest`; the default of the library."""

    def notice(self, text: str) -> None:
        """Log a notice as a warning."""
        log.warning("%s", text)
