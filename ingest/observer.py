"""The one hook through which a run tells what happens: notices for people, and that is all.

Counts are in the balance, which anybody may read at any time. Decides nothing.
"""

from __future__ import annotations

import logging
from typing import Protocol

log = logging.getLogger("ingest")


class Observer(Protocol):
    """Told of what a person would want to know while a run goes on. Must not block."""

    def notice(self, text: str) -> None:
        """Take a sentence about something that changed: an outage, a step down, a halt."""
        ...


class LogObserver:
    """Writes notices to the logger `ingest`; the default of the library."""

    def notice(self, text: str) -> None:
        """Log a notice as a warning."""
        log.warning("%s", text)
