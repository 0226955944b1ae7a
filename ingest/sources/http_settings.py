"""How an HTTP intake listens: where, for whom, and for how much.

Decides what must not be (a port that others reach without a token), and what could not work.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

import msgspec

from ingest.errors import ConfigError
from ingest.segments import SpoolRules
from ingest.settings import optional
from ingest.sources.bodies import COPIES

TOKEN: Final = "INGEST_HTTP_TOKEN"

BODY_BYTES: Final = 8_000_000
"""Bytes of a body at most, inflated: twice the largest request of any destination."""

MEMORY: Final = 64_000_000
"""Bytes for bodies that are read or being kept, all copies together."""


class HttpIntakeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the intake listens. Port 0 takes a free one; sizes are in bytes.

    Without a token only this machine may post: `host` must be a loopback address then.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    body_bytes: int = BODY_BYTES
    memory: int = MEMORY


def token_from(environ: Mapping[str, str]) -> str | None:
    """Return the bearer token, from the environment or a file it names; None if there is none.

    Raises `ConfigError`.
    """
    return optional(environ, TOKEN)


def check(settings: HttpIntakeSettings, rules: SpoolRules) -> None:
    """Raise `ConfigError` for what must not, or could not, be."""
    if not settings.token and not _is_loopback(settings.host):
        raise ConfigError(
            f"an intake on {settings.host} can be reached by others, and needs a token: set "
            f"{TOKEN}, or {TOKEN}_FILE, or listen on 127.0.0.1"
        )
    if settings.memory < settings.body_bytes * COPIES:
        raise ConfigError(
            f"a body of {settings.body_bytes:,} bytes needs {COPIES} times as much memory, and "
            f"the intake has {settings.memory:,} bytes"
        )
    if rules.largest < 2 * settings.body_bytes:
        raise ConfigError(
            f"spool_bytes is too small: a body may have {settings.body_bytes:,} bytes, and a spool "
            f"for such has {8 * settings.body_bytes:,} at the least"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
