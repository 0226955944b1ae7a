"""What a person sees while a run goes on: a bar on a terminal, a line now and then elsewhere.

Reads the pipeline, and never waits for it. What is estimated is estimated in `ingest.pace`; here it
is decided how often to look, and how it is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from ingest.observer import Observer
from ingest.pace import Fading, left, remaining
from ingest.pipeline import Driver
from ingest.settings import format_bytes, format_duration
from ingest.throttle import SPACED

BAR_EVERY: Final = 0.2
"""Seconds between two pictures on a terminal."""

LOOK_EVERY: Final = 1.0
"""Seconds between two looks: the estimate reads up to a thousand entries of each window."""

PLAIN_EVERY: Final = 10.0
"""Seconds between two lines where there is no terminal."""

SHOWN_OVER: Final = 10.0
"""Seconds over which the rates shown are averages."""

PACE_OVER: Final = 60.0
"""Seconds over which the pace that an estimate rests on is one."""

LONG_WAIT: Final = 2.0
"""Seconds; what is waited for longer is told with its end, and is no part of the pace."""

DAY: Final = 86_400.0
"""Seconds from which a time of day alone would be ambiguous."""

WIDEST_BAR: Final = 60
NARROWEST_BAR: Final = 10
"""Columns of the bar."""

SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPINNER_PLAIN: Final = "|/-\\"
"""One for each picture; the second where a terminal knows no more than ASCII."""


class Notices(Observer):
    """The observer of a run: prints what a person should know, above the bar."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def notice(self, text: str) -> None:
        """Print a sentence."""
        said = Text.assemble(("!", "yellow"), " ", text)
        self._console.print(said, highlight=False, soft_wrap=True)


class Look(msgspec.Struct, frozen=True):
    """What was seen of a run at one moment: `share` is in [0, 1], `left` in seconds, None: unknown.

    `parts` says it all in a few words each, the most important first.
    """

    share: float | None
    left: float | None
    parts: tuple[str, ...]


class Watch:
    """Looks at a pipeline from time to time. `total` is the bytes to read, None if unknown.

    What earlier processes of the run settled counts as done, and is nothing of the pace of this
    one. `clock` must be the pipeline's, `wall` gives the time of day in epoch seconds.
    """

    def __init__(
        self,
        pipeline: Driver,
        total: int | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._pipeline = pipeline
        self._total = total
        self._clock = clock
        self._wall = wall
        self._at = clock()
        self._settled = self._settled_before = self._count_settled()
        self._requests = self._requests_before = pipeline.balance.requests
        self._record_rate, self._request_rate = Fading(SHOWN_OVER), Fading(SHOWN_OVER)
        self._pace = Fading(PACE_OVER)

    def look(self) -> Look:
        """Take in what happened since the last look, and say how things stand."""
        now = self._clock()
        self._take_in(now)
        rest = self._remaining()
        settled = self._count_settled()
        share = None if rest is None else settled / (settled + rest) if settled + rest else 1.0
        seconds = self._left(rest)
        return Look(share, seconds, tuple(self._parts(now, share, seconds)))

    def _take_in(self, now: float) -> None:
        passed = now - self._at
        if passed <= 0:
            return
        settled, requests = self._count_settled(), self._pipeline.balance.requests
        records = settled - self._settled
        self._record_rate.add(records, passed)
        self._request_rate.add(requests - self._requests, passed)
        if records or not self._waits_long(now):
            self._pace.add(records, passed)
        self._at, self._settled, self._requests = now, settled, requests

    def _count_settled(self) -> int:
        balance = self._pipeline.balance
        return balance.count("read") - balance.count("pending")

    def _waits_long(self, now: float) -> bool:
        """Whether nothing can be sent for longer: that is no pace, and is reckoned by itself."""
        until = self._pipeline.waiting_until
        return bool(self._pipeline.outage) or (until is not None and until - now > LONG_WAIT)

    def _remaining(self) -> float | None:
        pipeline = self._pipeline
        if self._total is None:
            return None  # a stream: even at its end there is nothing to compare with
        return remaining(
            total=self._total,
            read=pipeline.bytes_read,
            records=pipeline.records_read,
            settled=self._count_settled(),
            pending=pipeline.balance.count("pending"),
            ended=pipeline.source_ended,
            allowed=pipeline.records_allowed,
        )

    def _left(self, rest: float | None) -> float | None:
        pipeline = self._pipeline
        if pipeline.outage or pipeline.state != "running":
            return None  # nobody knows when it is back
        throttle = pipeline.throttle
        sent = pipeline.balance.requests - self._requests_before
        each = throttle.granted / throttle.grants if throttle.grants else 0.0
        answered = each * (sent - pipeline.requests_in_flight)
        return left(
            throttle.standing(),
            rest,
            pace=self._pace.rate,
            settled=self._settled - self._settled_before,
            cost=answered,
            out=throttle.granted - answered,
        )

    # What is told

    def _parts(self, now: float, share: float | None, seconds: float | None) -> list[str]:
        pipeline, balance = self._pipeline, self._pipeline.balance
        parts = [] if share is None else [f"{share:.0%}"]
        if seconds is not None:
            parts.append(f"about {format_duration(seconds)} left ({self._time(seconds)})")
        parts.append(f"{self._count_settled():,} records settled")
        if balance.bad:
            parts.append(f"{balance.bad:,} bad")
        parts.append(f"{self._read()} read")
        parts.append(f"{self._record_rate.rate:,.0f} records/s")
        parts.append(f"{self._request_rate.rate:,.0f} requests/s")
        parts.append(f"{pipeline.requests_in_flight} in flight")
        if balance.throttled:
            parts.append(f"{balance.throttled:,} x 429")
        if balance.retried:
            parts.append(f"{balance.retried:,} retries")
        if waits := self._waits(now):
            parts.append(waits)
        return parts

    def _read(self) -> str:
        read = self._pipeline.bytes_read
        if not self._total:
            return format_bytes(read)
        size = format_bytes(self._total)
        done = format_bytes(min(read, self._total))
        number, unit = done.split()
        return f"{number if unit == size.split()[1] else done} of {size}"

    def _waits(self, now: float) -> str:
        """Say what the next request waits for, and until when, where that is known."""
        pipeline = self._pipeline
        if outage := pipeline.outage:
            since, until = outage
            return (
                f"the destination is down since {self._time(since - now)}: tried again and again, "
                f"and given up at {self._time(until - now)}, in "
                f"{format_duration(max(0.0, until - now))}"
            )
        if (waited := pipeline.waiting_for) in ("", SPACED):
            return ""
        until_when = pipeline.waiting_until
        if until_when is None or until_when - now <= LONG_WAIT:
            return f"waits for {waited}"
        wait = until_when - now
        return f"waits for {waited}, until {self._time(wait)}, in {format_duration(wait)}"

    def _time(self, seconds: float) -> str:
        """Return the time of day that is so many seconds ahead, in the zone of who reads it."""
        at = datetime.fromtimestamp(self._wall() + seconds).astimezone()
        if abs(seconds) >= DAY:
            return f"{at:%Y-%m-%d %H:%M %Z}"
        # Of what is near the seconds matter, of what is far they would be pretence.
        return f"{at:%H:%M:%S}" if abs(seconds) < 600 else f"{at:%H:%M %Z}"


class Shown:
    """Shows a pipeline until it is cancelled. `total` is the bytes to read, None if unknown."""

    def __init__(
        self, pipeline: Driver, console: Console, *, style: str, total: int | None
    ) -> None:
        self._console = console
        self._style = style
        self._watch = Watch(pipeline, total)

    async def run(self) -> None:
        """Show until cancelled."""
        if self._style == "plain":
            await self._lines()
        elif self._style != "none":
            await self._bar()

    async def _lines(self) -> None:
        looks = round(PLAIN_EVERY / LOOK_EVERY)
        while True:
            for _ in range(looks):
                await asyncio.sleep(LOOK_EVERY)
                seen = self._watch.look()
            self._console.print(Text(line_of(seen)), highlight=False, soft_wrap=True)

    async def _bar(self) -> None:
        pictures = round(LOOK_EVERY / BAR_EVERY)
        with Live(console=self._console, transient=True, auto_refresh=False) as live:
            turn = 0
            while True:
                if turn % pictures == 0:
                    seen = self._watch.look()
                live.update(picture(seen, self._console, turn), refresh=True)
                turn += 1
                await asyncio.sleep(BAR_EVERY)


def line_of(seen: Look) -> str:
    """Return a look as one line of a log."""
    return "Progress: " + ", ".join(seen.parts)


def picture(seen: Look, console: Console, turn: int) -> Group:
    """Return a look as lines of a terminal, none of them wider than it is: nothing is cut off."""
    frames = SPINNER if console.encoding.startswith("utf") else SPINNER_PLAIN
    width = console.width
    lines = flowed(seen.parts, width - 2)
    head = Text(f"{frames[turn % len(frames)]} {lines[0]}")
    rows = [head, *(Text(f"  {line}") for line in lines[1:])]
    if seen.share is None or width < NARROWEST_BAR:
        return Group(*rows)
    bar = ProgressBar(total=1.0, completed=seen.share, width=min(WIDEST_BAR, width))
    return Group(Padding(bar), *rows)  # a bar alone ends no line


def flowed(parts: Sequence[str], width: int) -> list[str]:
    """Join parts to lines of at most `width` characters; one that is longer is cut between words.

    Nothing is left out; a word that is longer than a line stays whole.
    """
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 3 <= width:
            lines[-1] += f" · {part}"
            continue
        words = part.split()
        line = words[0]
        for word in words[1:]:
            if len(line) + 1 + len(word) <= width:
                line += f" {word}"
            else:
                lines.append(line)
                line = word
        lines.append(line)
    return lines
