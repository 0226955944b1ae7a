"""Postbox, a made-up destination: `POST /v2/batch` takes people, events and orders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingest.outcomes import Delivered, ItemError, Outcome, Response, classify
from ingest.profiles import Caps
from ingest.quoting import quote, read_body
from ingest.rates import parse_rate
from ingest.records import KINDS, Batch
from ingest.schemas import TrackSchema
from ingest.settings import secret
from ingest.sinks.base import BodyShape, Choice, Destination, Endpoint, HttpSink, Request
from ingest.sinks.http import HttpSettings, HttpTransport

BATCH: Final = Endpoint(
    name="batch",
    path="/v2/batch",
    slots=("people", "events", "orders"),  # the lists of a body, in the order of their kinds
    kinds=KINDS,
    # Documented: 100 items in a request, in any list, and 500 kB; the margin is for a proxy.
    caps=(Caps(per_slot=(100, 100, 100), total=100, body_bytes=480_000),),
    limits=parse_rate("100/1s"),
    example='{"attributes": {"external_id": "u1", "plan": "pro"}}',
    summary="people, events and orders",
)


class PostboxWire:
    """Requests to, and answers of, Postbox with one key."""

    name: Final = "postbox"
    endpoint: Final = BATCH
    schema: Final = TrackSchema()
    folding: Final = None

    def __init__(self, key: str) -> None:
        self.secrets: Final = (key,)
        self._headers = (("Content-Type", "application/json"), ("Authorization", f"Bearer {key}"))
        self._shape = BodyShape(BATCH.slots)
        self.overhead: Final = self._shape.overhead

    def request(self, batch: Batch) -> Request:
        """Encode a batch: {"people":[...],"events":[...],"orders":[...]}."""
        return Request("POST", BATCH.path, self._headers, self._shape.join(batch))

    def interpret(self, batch: Batch, response: Response) -> Outcome:
        """Read the errors of a 207; every other status means what it means in HTTP."""
        if response.status != 207:
            return classify(response, secrets=self.secrets)
        errors = read_body(response, self.secrets).fields.get("errors")
        refused: list[ItemError] = []
        for error in errors if isinstance(errors, list) else ():
            match error:
                case {"list": where, "index": int(index), "reason": str(reason)}:
                    slot = BATCH.slot_reported_as(where)
                    if slot is not None and 0 <= index < len(batch.columns[slot]):
                        said = quote(reason, self.secrets)
                        refused.append(ItemError(slot, index, "refused-by-postbox", said))
        return Delivered(207, tuple(refused))

    def repeatable(self, slot: int, fragment: bytes) -> bool:
        """A person can be sent again; a second copy of another record is one more of it."""
        return slot == 0

    def record_of(self, batch: Batch, slot: int, fragment: bytes) -> bytes:
        """Return the record as it came: the fragment, for nothing is translated."""
        return fragment


def _opened(environ: Mapping[str, str], choice: Choice) -> HttpSink:
    url, key = secret(environ, "POSTBOX_URL"), secret(environ, "POSTBOX_KEY")
    transport = HttpTransport(url, HttpSettings(), allow_http=choice.allow_http)
    return HttpSink(PostboxWire(key), transport)


DESTINATION: Final = Destination(
    name="postbox",
    endpoints={BATCH.name: BATCH},
    opened=_opened,
    sandboxed=lambda url, key: {"POSTBOX_URL": url, "POSTBOX_KEY": key},
)
