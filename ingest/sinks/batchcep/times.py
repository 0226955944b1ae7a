"""Dates and times of the source as what Batch CEP takes: RFC 3339 in UTC.

Decides which text is a time, and when that is. A time without a zone is one of UTC; a day is its
first moment. Knows no clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_ZONE: Final = r"(?:[Zz]|\ ?(?:UTC|GMT)|\ ?([+-])(\d\d)(?::?(\d\d))?)?"
_DATED: Final = re.compile(
    rf"(\d{{4}})-(\d\d)-(\d\d)(?:[Tt\ ](\d\d):(\d\d)(?::(\d\d)(?:[.,:](\d+))?)?{_ZONE})?", re.ASCII
)
_BASIC: Final = re.compile(
    rf"(\d{{4}})(\d\d)(\d\d)T(\d\d)(\d\d)(?:(\d\d)(?:[.,](\d+))?)?{_ZONE}", re.ASCII
)
_AMERICAN: Final = re.compile(r"(\d\d)/(\d\d)/(\d{4})", re.ASCII)

_LEAP_SECOND: Final = 60


def moment(text: str) -> datetime | None:
    """Return the time of an event, naive in UTC, or None for what is none.

    Of the formats that Braze documents, that with the name of a weekday has a zone by its letters,
    of which nobody knows what they mean: it is none here.
    """
    if (found := _DATED.fullmatch(text)) or (found := _BASIC.fullmatch(text)):
        return _read(found)
    if american := _AMERICAN.fullmatch(text):
        return _read(_DATED.fullmatch(f"{american[3]}-{american[1]}-{american[2]}"))
    return None


def as_date(text: str) -> str | None:
    """Return an ISO date, or date and time, as RFC 3339 in UTC; None for any other text.

    Eight digits, or numbers between slashes, may be anything: they are no dates here.
    """
    if text[4:5] != "-":  # one character tells most texts from dates
        return None
    at = _read(_DATED.fullmatch(text))
    return None if at is None else rfc3339(at)


def rfc3339(at: datetime) -> str:
    """Return a naive time of UTC as text."""
    return at.isoformat() + "Z"


def epoch(at: datetime) -> float:
    """Return a naive time of UTC as epoch seconds."""
    return at.replace(tzinfo=UTC).timestamp()


def _read(found: re.Match[str] | None) -> datetime | None:
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = found.groups()
    seconds = int(second or 0)
    leap = seconds == _LEAP_SECOND
    try:
        at = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            seconds - leap,
            int(fraction[:6].ljust(6, "0")) if fraction else 0,
        )
        if sign:
            # Read as a clock, so that an offset of 25 hours or 70 minutes is none.
            ahead = timedelta(hours=int(hours), minutes=int(minutes or 0))
            if int(hours) > 23 or int(minutes or 0) > 59:
                return None
            at = at - ahead if sign == "+" else at + ahead
        return at + timedelta(seconds=1) if leap else at
    except (ValueError, OverflowError):
        return None  # not in the calendar, or in UTC no more
