"""A row on the wire: what a request of any row looks like, with the credentials of a destination.

Decides how a batch is put into a body and what a second copy of a record would change. Pure: sends
nothing and knows no time. Which headers, which member of the body and which hints there are is the
matter of the destination (`ingest.sinks.braze`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ingest.outcomes import HINTS, Outcome, Response
from ingest.records import ATTRIBUTES, Batch
from ingest.schemas import Schema
from ingest.sinks.base import BodyShape, Request
from ingest.sinks.rows.answers import interpret_row
from ingest.sinks.rows.data import Row
from ingest.sinks.rows.schema import record_of, schema_of

_NOT_REPEATABLE: Final = (b'"inc"', b'"$add"', b"\\")
"""Operators of which a second copy changes a profile again: an increment, an object appended. With
a backslash a key may be written in another way, and the doubt is the record's."""


def repeatable(slot: int, fragment: bytes) -> bool:
    """Whether a second copy of a record of users/track changes nothing: so with plain attributes.

    Every event and every purchase is one more occurrence, for there is no idempotency key.
    """
    return slot == ATTRIBUTES and not any(mark in fragment for mark in _NOT_REPEATABLE)


class RowWire:
    """Requests to, and answers of, the endpoint of one row.

    `extra` is one encoded member that every body starts with, such as `"api_key":"..."`; `secrets`
    are what `headers` and `extra` hold that must never be shown; `hints` say what an operator
    should look at, by status; `schema` is that of the row, if not another one.
    """

    folding: Final = None

    def __init__(
        self,
        row: Row,
        *,
        name: str,
        headers: Sequence[tuple[str, str]] = (),
        extra: bytes = b"",
        secrets: Sequence[str] = (),
        hints: Mapping[int, str] = HINTS,
        schema: Schema | None = None,
    ) -> None:
        self.name: Final = name
        self.row: Final = row
        self.endpoint: Final = row.endpoint
        self.schema: Final = schema or schema_of(row)
        self.secrets: Final = tuple(secrets)
        self._headers = (("Content-Type", "application/json"), *headers)
        self._extra = extra
        self._shape = BodyShape(row.endpoint.slots, extra)
        self.overhead: Final = self._shape.overhead
        self._hints = hints

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint.name})"

    def request(self, batch: Batch) -> Request:
        """Encode a batch. The body is at most `batch.nbytes + overhead` bytes."""
        return Request("POST", self.endpoint.path, self._headers, self._shape.join(batch))

    def asking(self, path: str, members: bytes) -> Request:
        """Return a request to another path with the same credentials; `members` are its body's."""
        body = b",".join(filter(None, (self._extra, members)))
        return Request("POST", path, self._headers, b"{" + body + b"}")

    def interpret(self, batch: Batch, response: Response) -> Outcome:
        """Say what the response means for the batch. Total: never raises."""
        return interpret_row(self.row, batch, response, secrets=self.secrets, hints=self._hints)

    def repeatable(self, slot: int, fragment: bytes) -> bool:
        """Whether a second copy of a record changes nothing."""
        repeats = self.row.repeats
        return repeats == "always" or (repeats == "plain-attributes" and repeatable(slot, fragment))

    def record_of(self, batch: Batch, slot: int, fragment: bytes) -> bytes:
        """Return the record as it came, encoded, of a fragment of the batch."""
        return record_of(self.row, batch, slot, fragment)
