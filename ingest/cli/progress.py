"""What a person sees while a run goes on: a bar on a terminal, a line now and then elsewhere.

Reads the pipeline, and never waits for it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from ingest.pipeline import Pipeline
from ingest.settings import format_duration

BAR_EVERY: Final = 0.2
PLAIN_EVERY: Final = 10.0
"""Seconds between two looks."""

SMOOTHING: Final = 0.2
"""Weight of the newest look in the rates shown."""


class Notices:
    """The observer of a run: prints what a person should know, above the bar."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def notice(self, text: str) -> None:
        """Print a sentence."""
        said = Text.assemble(("!", "yellow"), " ", text)
        self._console.print(said, highlight=False, soft_wrap=True)


class Rates:
    """Records and requests per second, smoothed."""

    def __init__(self, now: float) -> None:
        self._at = now
        self._records = self._requests = 0
        self.records = self.requests = 0.0

    def look(self, now: float, records: int, requests: int) -> None:
        """Take in the counts at `now`."""
        passed = now - self._at
        if passed <= 0:
            return
        weight = SMOOTHING if self.records else 1.0
        self.records += weight * ((records - self._records) / passed - self.records)
        self.requests += weight * ((requests - self._requests) / passed - self.requests)
        self._at, self._records, self._requests = now, records, requests


class Shown:
    """Shows a pipeline until it is cancelled. `total` is the bytes to read, None if unknown."""

    def __init__(
        self, pipeline: Pipeline, console: Console, *, style: str, total: int | None
    ) -> None:
        self._pipeline = pipeline
        self._console = console
        self._style = style
        self._total = total
        self._since = time.monotonic()
        self._rates = Rates(self._since)

    async def run(self) -> None:
        """Show until cancelled."""
        if self._style == "none":
            return
        if self._style == "plain":
            while True:
                await asyncio.sleep(PLAIN_EVERY)
                self._console.print(Text(self._line()), highlight=False, soft_wrap=True)
        with Progress(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[line]}", markup=False),
            console=self._console,
            transient=True,
        ) as bar:
            task = bar.add_task("", total=self._total, line="")
            while True:
                self._update(bar, task)
                await asyncio.sleep(BAR_EVERY)

    def _update(self, bar: Progress, task: TaskID) -> None:
        done = self._share() * (self._total or 0)
        # Two lines: what is waited for must not be cut off by a narrow terminal.
        lines = " · ".join(self._progress()) + "\n" + " · ".join(self._requests())
        bar.update(task, completed=done, line=lines)

    def _line(self) -> str:
        return " · ".join((*self._progress(), *self._requests()))

    def _progress(self) -> list[str]:
        balance, now = self._pipeline.balance, time.monotonic()
        settled = balance.count("read") - balance.count("pending")
        self._rates.look(now, settled, balance.requests)
        parts = [f"{settled:,} records", f"{self._rates.records:,.0f}/s"]
        if balance.bad:
            parts.append(f"{balance.bad:,} bad")
        if left := self._left(now):
            parts.append(left)
        return parts

    def _requests(self) -> list[str]:
        pipeline, balance = self._pipeline, self._pipeline.balance
        parts = [
            f"{self._rates.requests:,.0f} requests/s",
            f"{pipeline.requests_in_flight} in flight",
        ]
        if balance.throttled:
            parts.append(f"{balance.throttled:,} x 429")
        if balance.retried:
            parts.append(f"{balance.retried:,} retries")
        if pipeline.waiting_for:
            parts.append(f"waits for {pipeline.waiting_for}")
        return parts

    def _share(self) -> float:
        """Share of the input that is settled: of the bytes read, what is not queued any more."""
        if not self._total:
            return 0.0
        balance = self._pipeline.balance
        read = balance.count("read")
        settled = (read - balance.count("pending")) / read if read else 0.0
        return self._pipeline.bytes_read / self._total * settled

    def _left(self, now: float) -> str:
        """The share that is done, and the time that the rest takes at the pace so far."""
        share, passed = self._share(), now - self._since
        if not self._total:
            return ""
        if share <= 0.0 or passed < 1.0:
            return f"{share:.0%}"
        return f"{share:.0%}, {format_duration(passed * (1 - share) / share)} left"
