"""What every HTTP client here shares: patience, caps, the name we go by, and the system's words."""

from __future__ import annotations

import importlib.metadata
import os
import ssl
from typing import Final, Literal

import msgspec

DNS_CACHE_SECONDS: Final = 60
"""The hosts sit behind a CDN that moves: long enough to be free, short enough to follow."""

KEEP_ALIVE_SECONDS: Final = 15.0
"""Idle connections are dropped before the far end does (60 s and more at usual balancers): a
request that meets a closing connection is lost, not unsent."""


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Patience and caps of a transport, times in seconds.

    `connect` covers name, connection and TLS; `read` the silence between bytes of an answer;
    `total` all of a request. More than `answer_bytes` of an answer's body is cut off. The `fastest`
    client is our own where httptools is installed and no proxy stands in between, else aiohttp.
    """

    connect: float = 10.0
    read: float = 30.0
    total: float = 60.0
    answer_bytes: int = 1 << 20
    client: Literal["fastest", "aiohttp"] = "fastest"


def os_text(error: BaseException) -> str:
    """Return what the system says of an error, which shows no URL and no credential."""
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or "handshake failed"
        return str(reason).replace("_", " ").lower()
    number = getattr(error, "errno", None)
    # A resolver's and a happy-eyeballs error have numbers of their own; the words are safe to show.
    return os.strerror(number) if isinstance(number, int) and number > 0 else type(error).__name__


def user_agent() -> str:
    """Return the name and version that we go by."""
    try:
        return f"ingestline/{importlib.metadata.version('ingestline')}"
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        return "ingestline"
