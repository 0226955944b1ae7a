"""Signals to a run: the first drains it, the second stops it, and no other is heard.

The balance and the report are written whatever comes, and how often.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any, Final

from rich.console import Console

from ingest.pipeline import Driver

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

SIGNAL_BASE: Final = 128
"""A process ended by signal n has the exit status 128 + n, by the shells' convention."""


class Signals:
    """Hears signals while it is entered, for a run of `pipeline` that is the task `running`."""

    def __init__(self, pipeline: Driver, running: asyncio.Task[Any], console: Console) -> None:
        self._pipeline = pipeline
        self._running = running
        self._console = console
        self.received: int | None = None

    def __enter__(self) -> Signals:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on, number)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            if self.received is not None:
                # Who is impatient by now must not cost the balance and the report.
                signal.signal(number, signal.SIG_IGN)

    @property
    def status(self) -> int | None:
        """The exit status that the signal asks for, None if none came."""
        return None if self.received is None else SIGNAL_BASE + self.received

    def _on(self, number: int) -> None:
        if self._running.done():
            return  # nothing is left to stop
        if self.received is not None:
            # Cancelled once: again would break off the settling of what was in flight.
            if not self._running.cancelling():
                self._running.cancel()
            return
        self.received = number
        self._console.print(
            f"Stopping: {in_flight(self._pipeline.requests_in_flight)} waited for. Once more to "
            "stop at once.",
            highlight=False,
            soft_wrap=True,
        )
        self._pipeline.interrupt()


def in_flight(count: int) -> str:
    """Say how many requests are in flight and that they are to be answered, as half a sentence."""
    if count == 1:
        return "1 request is in flight, and its answer is"
    return f"{count:,} requests are in flight, and their answers are"
