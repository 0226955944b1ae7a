"""Dates in cells: which are, which say no zone, and how a zone is added.

Decides by the documented formats (`ingest.validation.times`). A day without a clock is a day, in
any zone, unless it has to be a moment: then it is the midnight that begins it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from ingest.columns.names import called
from ingest.errors import ConfigError
from ingest.validation.times import is_day, is_time

_SIXTY: Final = r"[0-5]\d"
_CLOCK: Final = rf"(?:[01]\d|2[0-3]):{_SIXTY}(?::{_SIXTY}(?:[.,:]\d++)?+)?+"
_DAY: Final = (
    r"(?!0000)\d{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
    r"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
_USUAL: Final = re.compile(
    rf"(?:{_DAY}(?:[Tt ]{_CLOCK}(?:[Zz]|[+-](?:[01]\d|2[0-3]):?{_SIXTY})?+)?+\n)*+", re.ASCII
)
"""Lines of the usual form, which are surely dates: one match for a whole column."""

_ZONELESS: Final = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)[Tt ](\d\d):?(\d\d)(?::?(\d\d)(?:[.,:](\d+))?)?", re.ASCII
)
_ZONELESS_LINE: Final = re.compile(
    # The same, with no group to remember.
    "^" + _ZONELESS.pattern.replace("(?:", "(").replace("(", "(?:") + "$",
    re.ASCII | re.MULTILINE,
)
_LONE_DAY: Final = re.compile(r"^(?:\d{4}-\d\d-\d\d|\d\d/\d\d/\d{4})$", re.ASCII | re.MULTILINE)


def zone_of(name: str) -> tzinfo:
    """Return the zone of an IANA name. Raises `ConfigError` for a name there is not."""
    try:
        return ZoneInfo(name)
    except (ValueError, LookupError, OSError):
        raise ConfigError(
            f"the time zone {called(name)} is not known: give an IANA name, such as Europe/Paris"
        ) from None


def all_times(cells: Sequence[str]) -> bool:
    """Tell whether every cell is a date or a time."""
    # A cell with a line break in it would pass as two.
    text = "\n".join(cells) + "\n"
    if _USUAL.fullmatch(text) and text.count("\n") == len(cells):
        return True
    return all(map(is_time, set(cells)))


def count_zoneless(cells: Sequence[str], *, moments: bool) -> int:
    """Count the cells that have a clock and no zone; of `moments`, those that are a day too."""
    lines = [cell for cell in cells if "\n" not in cell]
    text = "\n".join(lines)
    found = len(_ZONELESS_LINE.findall(text))
    return found + len(_LONE_DAY.findall(text)) if moments else found


def zoned(cell: str, zone: tzinfo, *, moment: bool) -> str:
    """Return a date or time with the offset of `zone` on it; what has a zone stays as it is.

    Where the clock was turned back, the first of the two hours is meant.
    """
    if moment and (is_day(cell) or cell[2:3] == "/"):
        day = cell if cell[4] == "-" else f"{cell[6:]}-{cell[:2]}-{cell[3:5]}"
        cell = f"{day}T00:00:00"
    found = _ZONELESS.fullmatch(cell)
    if found is None:
        return cell
    year, month, day, hour, minute, second, fraction = found.groups()
    second = second or "00"
    day, clock = f"{year}-{month}-{day}", f"{hour}:{minute}"
    offset = _offset_of_day(zone, day) or _offset(zone, f"{day}T{clock}")
    parts = f".{fraction}" if fraction else ""
    return f"{day}T{clock}:{second}{parts}{offset}"


def _offset(zone: tzinfo, moment: str) -> str:
    """Return the offset of a zone at a local time, to the minute: "+02:00"."""
    text = datetime.fromisoformat(moment).replace(tzinfo=zone).strftime("%z")
    return f"{text[:3]}:{text[3:5]}"


@lru_cache(maxsize=16_384)
def _offset_of_day(zone: tzinfo, day: str) -> str:
    """Return the offset of a zone all through a day, "" for a day on which it changes.

    The days of 40 years are remembered: a look into the zone costs more than the rest of a row.
    """
    first, last = _offset(zone, f"{day}T00:00"), _offset(zone, f"{day}T23:59")
    return first if first == last else ""
