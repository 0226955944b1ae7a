"""What was learned of an account's caps, kept between runs.

One small JSON file in the state directory. Accounts are named by a salted hash of host and
credential, so the file tells nobody either of them. Losing it costs a few refused requests.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

import msgspec

from ingest.appending import PRIVATE
from ingest.codec import DecodeError, dumps, typed

FORGET_AFTER: Final = 7 * 86_400.0
"""Seconds after which an account is asked anew: contracts change, and asking costs a request."""


class Learned(msgspec.Struct, frozen=True):
    """Records in total that a request was known to hold, and the least that was refused."""

    confirmed: int
    refused: int | None
    at: float


class _File(msgspec.Struct):
    salt: str
    accounts: dict[str, Learned]


_DECODER: Final = typed(_File)


class LearnedCaps:
    """The file of learned caps in a state directory; `now` is wall-clock time in epoch seconds."""

    def __init__(self, state: Path) -> None:
        self._path = state / "limits.json"
        try:
            self._file = _DECODER.decode(self._path.read_bytes())
        except (OSError, DecodeError):
            self._file = _File(secrets.token_hex(16), {})

    @property
    def salt(self) -> bytes:
        """What an account's name is salted with."""
        return self._file.salt.encode()

    def recall(self, account: str, now: float) -> Learned | None:
        """Return what is known of an account, unless it is too old."""
        known = self._file.accounts.get(account)
        return known if known is not None and now - known.at < FORGET_AFTER else None

    def remember(self, account: str, learned: Learned) -> None:
        """Keep what was learned; a state directory that cannot be written is no reason to fail."""
        self._file.accounts[account] = learned
        beside = self._path.with_suffix(".tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
            with os.fdopen(fd, "wb") as file:
                file.write(dumps(self._file))
            beside.replace(self._path)
        except OSError:
            return
