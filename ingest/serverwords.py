"""What a destination said about pace: rate-limit headers of either dialect, in seconds from now.

Total: any headers give a word, and nothing raises. Knows no budget, nor what time it is: a response
says when it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

import msgspec

from ingest.outcomes import Response, lowered

MAX_WAIT: Final = 3600.0
"""Longest wait in seconds a destination can impose: the longest documented window is an hour, and
asking again costs one request, while believing nonsense costs a night."""

EPOCH_FLOOR: Final = 1e9
"""A reset of this or more is epoch seconds (2001 and later), a smaller one is seconds left."""

CLOCKS_AGREE: Final = 1.5
"""Seconds by which our clock may be after a date for both to agree: the part of a second that the
date leaves out, and half a second on the way."""

# --- what a transport returns -------------------------------------------------------------------


class ServerWord(msgspec.Struct, frozen=True):
    """What the headers say about pace. Every time is in seconds from the answer on.

    `retry_after` and `reset_in` lie in 0..`MAX_WAIT`; `limit` is at least 1, `remaining` at least
    0. None means: not said, or nonsense. `over_for` lies in 0..`MAX_WAIT` too: since when the
    window is over, where a moment was told that is past. An answer takes its time.
    """

    throttled: bool
    retry_after: float | None
    limit: int | None
    remaining: int | None
    reset_in: float | None
    over_for: float = 0.0


SILENT: Final = ServerWord(False, None, None, None, None)
"""What most answers say."""

_WORDS: Final = frozenset(
    {
        *("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
        *("retry-after", "x-ratelimit-retry-after"),
    }
)
_NUMBER: Final = re.compile(r"\s*([+-]?[0-9]{1,15}(?:\.[0-9]{0,9})?)\s*")


def server_word(response: Response, headers: Mapping[str, str] | None = None) -> ServerWord:
    """Read the rate-limit headers of either dialect, in any case. Never raises.

    `headers` are those of the response as `lowered` returns them, where somebody has them. Where
    two of them ask for a wait, the longer one counts: a word only ever tightens.
    """
    if headers is None:
        headers = lowered(response.headers)
    if response.status != 429 and _WORDS.isdisjoint(headers):
        return SILENT
    limit = _number(headers.get("x-ratelimit-limit"))
    remaining = _number(headers.get("x-ratelimit-remaining"))
    reset = _number(headers.get("x-ratelimit-reset"))
    after = _wait(headers.get("retry-after"), headers, response.at)
    other = _wait(headers.get("x-ratelimit-retry-after"), headers, response.at)
    if after is None or (other is not None and other > after):
        after = other
    ends_in = None if reset is None else _from_now(reset, headers, response.at)
    return ServerWord(
        throttled=response.status == 429,
        retry_after=after,
        limit=int(limit) if limit is not None and limit >= 1 else None,
        remaining=max(0, int(remaining)) if remaining is not None else None,
        reset_in=None if ends_in is None else _clamp(ends_in),
        over_for=_clamp(-ends_in) if ends_in and reset and reset >= EPOCH_FLOOR else 0.0,
    )


def _number(text: str | None) -> float | None:
    if not text:
        return None
    if len(text) <= 15 and text.isascii() and text.isdigit():
        return float(text)  # what nearly all of them are: a third of the time
    match = _NUMBER.fullmatch(text)
    return float(match[1]) if match else None


def _wait(text: str | None, headers: Mapping[str, str], at: float) -> float | None:
    """Read seconds, epoch seconds or an HTTP date as seconds from now."""
    if not text:
        return None
    number = _number(text)
    if number is None:
        number = _http_date(text)
        if number is None:
            return None
        return _clamp(number - _server_time(headers, at))
    return _clamp(_from_now(number, headers, at))


def _from_now(number: float, headers: Mapping[str, str], at: float) -> float:
    return number - _server_time(headers, at) if number >= EPOCH_FLOOR else number


def _server_time(headers: Mapping[str, str], at: float) -> float:
    """Return the server's own clock: its dates then need no agreement with ours.

    A date tells whole seconds only. Where our clock agrees with it, ours is the more exact one.
    """
    date = _http_date(headers.get("date"))
    return at if date is None or 0.0 <= at - date <= CLOCKS_AGREE else date


@lru_cache(maxsize=16)  # all answers of one second carry the same date
def _http_date(text: str | None) -> float | None:
    if not text:
        return None
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
        # The standard parser raises all of these on garbage, depending on where it trips.
        return None


def _clamp(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_WAIT)
