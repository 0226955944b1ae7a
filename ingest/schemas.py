"""Which records a destination takes, and how one is encoded for it: the seam, and users/track.

A schema reads a line into objects, judges each, and encodes what is good into a fragment of a
request. Pure: `now` is an argument. The schema of `users/track` is here, because the fast way of
the intake (`ingest.proving`) proves exactly what it would decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from ingest.forms import Found, Misformed, records_of, respelled
from ingest.records import KINDS, WHOLE, Partition, UserKey
from ingest.validation import Problem, examine, identity_only

Judged = tuple[UserKey | Problem, list[Problem]]
"""Whose record it is (or what is wrong with its identity), and everything wrong with it."""


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """A record as it goes into the array of its slot, and with whom it may share a request."""

    slot: int
    fragment: bytes
    partition: Partition = WHOLE


class Schema(Protocol):
    """What one endpoint makes of records.

    `provable` says that a record of which `ingest.proving` finds nothing wrong goes as it came, in
    the slot of its kind, with every other. `remembers` says that what it makes of a record depends
    on those before it, so that a run can only be gone on with by reading all of them again.
    """

    @property
    def provable(self) -> bool: ...

    @property
    def remembers(self) -> bool: ...

    def read(self, line: bytes, kind: str | None) -> Iterable[Found | Misformed]:
        """Yield what a line holds, at least one item; `kind` is that of bare objects."""
        ...

    def heading(self, line: bytes) -> bool:
        """Whether the first line of an input is a heading, and holds no record.

        Raises `InputError` for a heading of what this endpoint does not take.
        """
        ...

    def examine(self, kind: str, record: dict[str, Any], now: float, *, validate: bool) -> Judged:
        """Judge a record at the time `now` (epoch seconds).

        An identity problem is the first of the problems too. Without `validate` only that is found
        without which the record cannot be encoded.
        """
        ...

    def encode(self, found: Found, record: dict[str, Any]) -> Encoded:
        """Encode a record in which `examine` found no error: that of `found`, or mended.

        Raises `TypeError` or `RecursionError` where one is nested too deeply.
        """
        ...

    def withdraw(self, encoded: Encoded) -> None:
        """Take note that the record that was encoded last is refused after all."""
        ...


class TrackSchema:
    """Records of `users/track`: they go as they came, but for what has to be different."""

    provable = True
    remembers = False

    def read(self, line: bytes, kind: str | None) -> Iterable[Found | Misformed]:
        """Yield what a line holds."""
        return records_of(line, kind)

    def heading(self, line: bytes) -> bool:
        """Return False: every line is meant as a record."""
        return False

    def examine(self, kind: str, record: dict[str, Any], now: float, *, validate: bool) -> Judged:
        """Judge by the documented rules; on trust, by an identity alone."""
        if validate:
            return examine(kind, record)
        key = identity_only(record)
        return key, [key] if isinstance(key, Problem) else []

    def encode(self, found: Found, record: dict[str, Any]) -> Encoded:
        """Return the bytes as they came; an external id that is a number becomes text."""
        external_id = record.get("external_id")
        if isinstance(external_id, int) and not isinstance(external_id, bool):
            record = record | {"external_id": str(external_id)}
        fragment = found.fragment if record is found.record else respelled(found, record)
        return Encoded(KINDS.index(found.kind), fragment)

    def withdraw(self, encoded: Encoded) -> None:
        """Do nothing: a record leaves no trace here."""
