"""When events and purchases happened: from when to when, how many are old, how many are to come.

Decides what moment a documented text is; without a zone it is one of UTC, as the destinations take
it. The words of a weekday's form are read by day and clock alone, for what its zone's letters mean
nobody says. Knows no clock: `now` is epoch seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

OLD: Final = 86_400.0
"""Seconds after which an event is history: to the destination it happens now, and may fire live
campaigns. The same day that an import minds."""

CLOCK_SKEW: Final = 300.0
"""Seconds that a time may be ahead: clocks differ, and a plan is made some time before."""

_MONTHS: Final = {
    name: f"{number:02}"
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_FIRST: Final = datetime.min.replace(tzinfo=UTC).timestamp()
_LAST: Final = datetime.max.replace(tzinfo=UTC).timestamp()
"""In UTC, the years of four digits: what is beyond can be written in no form."""

_AMERICAN: Final = re.compile(r"(\d\d)/(\d\d)/(\d{4})", re.ASCII)
_COLON: Final = re.compile(r"(.*\d\d:\d\d:\d\d)[:,.](\d+)(.*)", re.ASCII)
_LEAP: Final = re.compile(r"(.*\d\d:?\d\d:?)60(.*)", re.ASCII)
_WORDY: Final = re.compile(
    r"[A-Z][a-z]{2} (\d\d|[A-Z][a-z]{2}) (\d\d) (\d\d:\d\d:\d\d).* (\d{4})", re.ASCII
)
_ZONE: Final = re.compile(r"(.*\d) ?(?:UTC|GMT|([+-]\d\d:?\d\d))", re.ASCII)


def instant(text: str) -> float | None:
    """Return the epoch seconds of a documented date or time; None for what is none."""
    found = _read(text)
    if found is not None or len(text) > 64:  # none has half as many, and patterns cost time
        return found
    if american := _AMERICAN.fullmatch(text):
        return _read(f"{american[3]}-{american[1]}-{american[2]}")
    if wordy := _WORDY.fullmatch(text):
        month = _MONTHS.get(wordy[1], wordy[1])
        return _read(f"{wordy[4]}-{month}-{wordy[2]}T{wordy[3]}")
    if zoned := _ZONE.fullmatch(text):
        text = zoned[1] + (zoned[2] or "Z")
    if leap := _LEAP.fullmatch(text):
        text = f"{leap[1]}59{leap[2]}"
    if colon := _COLON.fullmatch(text):
        text = f"{colon[1]}.{colon[2][:6]}{colon[3]}"
    return _read(text)


def _read(text: str) -> float | None:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    at = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    return at if _FIRST <= at < _LAST else None


class Span:
    """The times seen so far. `earliest` and `latest` are epoch seconds, None before the first.

    `old` are more than `OLD` before `now`, `future` more than `CLOCK_SKEW` after it; `unread` are
    no times that are known here.
    """

    def __init__(self, now: float) -> None:
        self._old_before = now - OLD
        self._future_after = now + CLOCK_SKEW
        self._least, self._most = math.inf, -math.inf
        self.read = self.old = self.future = self.unread = 0

    @property
    def earliest(self) -> float | None:
        """The first moment."""
        return self._least if self.read else None

    @property
    def latest(self) -> float | None:
        """The last moment."""
        return self._most if self.read else None

    def see(self, times: Iterable[Any]) -> None:
        """Look at some values of `time`."""
        found = [instant(time) if isinstance(time, str) else None for time in times]
        known = [at for at in found if at is not None]
        self.unread += len(found) - len(known)
        if known:
            self.read += len(known)
            self._least = min(self._least, *known)
            self._most = max(self._most, *known)
            self.old += sum(at < self._old_before for at in known)
            self.future += sum(at > self._future_after for at in known)
