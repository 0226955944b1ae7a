"""Times as a destination may write them again: one moment, in any of the documented forms.

Decides which moment a text means, so that two spellings of it are equal. A time without a zone is
UTC, as documented; one that is in none of the forms that sort, is no moment here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_SLASHED: Final = re.compile(r"(\d\d)/(\d\d)/(\d{4})")
_COLON_MILLIS: Final = re.compile(r"(?<=\d\d:\d\d:\d\d):(?=\d{3})")
_SPACED_ZONE: Final = re.compile(r" (?=[+-]\d\d:?\d\d$)")
_DATED: Final = re.compile(r"\d{4}-\d\d-\d\d")


def moment(text: object) -> float | None:
    """Return the epoch seconds that a text means, None if it is no time that is understood here."""
    if not isinstance(text, str):
        return None
    if slashed := _SLASHED.fullmatch(text):
        month, day, year = slashed.groups()
        text = f"{year}-{month}-{day}"
    if not _DATED.match(text):
        return None
    try:
        found = datetime.fromisoformat(_SPACED_ZONE.sub("", _COLON_MILLIS.sub(".", text)))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
