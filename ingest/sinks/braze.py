"""Braze on the wire: what a request to `/users/track` looks like, and what its answers mean.

Decides how a batch is put into a body, which records of it an answer refuses, and what an operator
should check. Pure: sends nothing and knows no time. Legacy Appboy answers in the same shapes, so
`interpret_track` takes the endpoint and the credentials as arguments.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ingest import codec
from ingest.errors import ConfigError
from ingest.outcomes import (
    HINTS,
    Body,
    Delivered,
    Invalid,
    ItemError,
    Outcome,
    Refused,
    Response,
    TooMany,
    classify,
    quote,
    read_body,
)
from ingest.profiles import Caps
from ingest.records import ATTRIBUTES, KINDS, Batch
from ingest.settings import secret
from ingest.sinks.base import BodyShape, Endpoint, HttpSink, Request, Transport
from ingest.sinks.http import HttpSettings, HttpTransport

# --- the endpoints ------------------------------------------------------------------------------

TRACK_BYTES: Final = 3_800_000
"""Documented as 4 MB without saying which; this is below both, and leaves room for a proxy."""

BULK_BYTES: Final = 1_800_000
"""Documented as 2 MB; the same margin."""

_SLOTS: Final = ("attributes", "events", "purchases")


def _track_caps(total: int) -> Caps:
    return Caps(per_slot=(75, 75, 75), total=total, body_bytes=TRACK_BYTES)


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    row.name: row
    for row in (
        Endpoint(
            name="track",
            path="/users/track",
            slots=_SLOTS,
            kinds=KINDS,
            reported_as=_SLOTS,
            idempotent=False,
            # 75 in each array (legacy contracts), 75 in total (2026), 50 in total (some MAU texts).
            caps=(_track_caps(225), _track_caps(75), _track_caps(50)),
            rate="3000/3s",
        ),
        Endpoint(
            name="track-bulk",
            path="/users/track/bulk",
            slots=_SLOTS,
            kinds=KINDS,
            reported_as=_SLOTS,
            idempotent=False,
            caps=(Caps((1000, 1000, 1000), total=1000, body_bytes=BULK_BYTES, per_user=100),),
            rate="50/1s",
        ),
    )
}
"""The batchable endpoints of Braze, by the name that `--endpoint` takes."""


_NOT_REPEATABLE: Final = (b'"inc"', b'"$add"', b"\\")
"""Operators of which a second copy changes a profile again: an increment, an object appended. With
a backslash a key may be written in another way, and the doubt is the record's."""


def repeatable(slot: int, fragment: bytes) -> bool:
    """Whether a second copy of a record changes nothing: so it is with plain attributes.

    Every event and every purchase is one more occurrence, for there is no idempotency key.
    """
    return slot == ATTRIBUTES and not any(mark in fragment for mark in _NOT_REPEATABLE)


# --- reading an answer --------------------------------------------------------------------------

GENERIC_CODE: Final = "rejected-by-destination"
"""Code of a refusal whose text is not known here."""

MAX_WARNINGS: Final = 10
"""Warnings kept of one answer; the rest is counted: they are for reading."""

_TOO_MANY: Final = re.compile(rb"(?i)max input length exceeded|per request was exceeded")

_CODE: Final = re.compile(r"[A-Z][A-Z0-9]{1,30}(?:_[A-Z0-9]{1,30}){0,9}")
"""A code of Braze, such as EMAIL_BAD_FORMAT: short, upper case, no spaces."""

_FIELD: Final = re.compile(
    r"^'(name|time|product_id|currency|price|quantity|app_id|properties|user_alias|email|phone)'"
    r" (?:is|must|was|should)\b"
)
"""A sentence about one documented field; any other quoted word might be a value."""

_SENTENCES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), code)
    for pattern, code in (
        (r"^'external_id'.* is required", "identifier-required"),
        (r"^'external_id' must be fewer than \d+ bytes", "external-user-id-too-large"),
        (r"blacklisted and disallowed", "blacklisted-external-user-id"),
        (r"not a valid email", "email-bad-format"),
        (r"must be an ISO 4217 currency", "invalid-currency"),
        (r"^invalid 'properties' field", "invalid-properties"),
        (r"did not contain a required property", "schema-missing-property"),
        (r"did not match the following type", "schema-wrong-type"),
        (r"contains additional properties", "schema-additional-properties"),
    )
)
"""Sentences that live traffic carries instead of codes, and a stable slug for each."""


def error_code(text: str) -> str:
    """Return the slug of a refusal's text, which must be free of secrets already."""
    if _CODE.fullmatch(text):
        return text.lower().replace("_", "-")
    for pattern, code in _SENTENCES:
        if pattern.search(text):
            return code
    field = _FIELD.match(text)
    return f"invalid-{field[1].replace('_', '-')}" if field else GENERIC_CODE


class _TrackAnswer(msgspec.Struct):
    """Just enough of an answer to know that all went well."""

    message: str = ""
    errors: Any = None


_decode: Final = codec.typed(_TrackAnswer).decode


def interpret_track(
    endpoint: Endpoint,
    batch: Batch,
    response: Response,
    *,
    secrets: Sequence[str] = (),
    hints: Mapping[int, str] = HINTS,
) -> Outcome:
    """Say what an answer to a `users/track` request means for its batch. Never raises."""
    status = response.status
    success = 200 <= status < 300
    if success:
        # The answer of nearly every request costs one microsecond.
        try:
            said = _decode(response.body)
        except (codec.DecodeError, ValueError, RecursionError):
            pass  # no JSON, not UTF-8, or thousands of open brackets: each raises its own
        else:
            if said.message == "success" and not said.errors and not response.truncated:
                return Delivered(status)
    if not success and status != 400:
        return classify(response, secrets=secrets, hints=hints)
    if status == 400 and _TOO_MANY.search(response.body):
        return TooMany(status)
    body = read_body(response, secrets)
    rejected, unusable = _item_errors(endpoint, batch, body.fields.get("errors"), secrets)
    if success:
        message = body.fields.get("message")
        doubts = (*_doubts(status, body, message, truncated=response.truncated), *unusable)
        return Delivered(status, rejected, message == "queued", _capped(doubts))
    outcome = classify(response, secrets=secrets, hints=hints, body=body)
    if isinstance(outcome, Refused) and rejected:
        return Invalid(status, rejected)
    return outcome


def _doubts(status: int, body: Body, message: object, *, truncated: bool) -> Iterable[str]:
    """Say what is odd about the answer of a success: it counts all the same."""
    if truncated:
        yield f"the answer {status} was cut short: refusals of single records may be missing"
    elif not body.is_json:
        said = f": {body.says}" if body.says else ", but an empty body"
        yield f"the answer {status} is no JSON{said}"
    elif message not in ("success", "queued"):
        said = f"with the message '{body.says}'" if body.says else "without a message"
        yield f"the destination answered {status} {said} instead of 'success'"


def _capped(warnings: tuple[str, ...]) -> tuple[str, ...]:
    if len(warnings) <= MAX_WARNINGS:
        return warnings
    return (*warnings[:MAX_WARNINGS], f"and {len(warnings) - MAX_WARNINGS} more like these")


def _item_errors(
    endpoint: Endpoint, batch: Batch, errors: Any, secrets: Sequence[str]
) -> tuple[tuple[ItemError, ...], list[str]]:
    """Return the errors that name a record of the batch, and in words those that do not."""
    if not errors:
        return (), []
    usable: dict[ItemError, None] = {}  # an ordered set
    unusable: list[str] = []
    read: dict[str, tuple[str, str]] = {}
    for error in errors if isinstance(errors, list) else [errors]:
        fields = error if isinstance(error, dict) else {}
        text = error if isinstance(error, str) else _first_text(fields)
        if text not in read:
            shown = quote(text, secrets)
            read[text] = (error_code(shown), shown or "no reason given")
        code, reason = read[text]
        slot = _slot(endpoint, batch, fields.get("input_array"))
        index = _index(fields.get("index"))
        if slot is None or index is None or index >= len(batch.columns[slot]):
            unusable.append(f"an error that names no record of the request: {reason}")
        else:
            usable[ItemError(slot, index, code, reason)] = None
    return tuple(usable), unusable


def _first_text(fields: Mapping[str, Any]) -> str:
    for name in ("type", "message", "reason", "error"):
        if isinstance(text := fields.get(name), str):
            return text
    return ""


def _slot(endpoint: Endpoint, batch: Batch, name: object) -> int | None:
    """Find the array meant; one that is not named is clear if only one was sent."""
    if name is not None:
        return endpoint.slot_reported_as(name)
    filled = [slot for slot, column in enumerate(batch.columns) if len(column)]
    return filled[0] if len(filled) == 1 else None


def _index(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return None


# --- the wire and the sink ----------------------------------------------------------------------

AUTHS: Final = ("bearer", "body")
"""How the key travels: in the Authorization header, or (accounts of 2018-2020) as `api_key`."""


class BrazeWire:
    """Requests to, and answers of, one endpoint with one key.

    Raises `ConfigError` for a key that no header can carry, and for an unknown `auth`.
    """

    name: Final = "braze"

    def __init__(self, endpoint: Endpoint, key: str, auth: str = "bearer") -> None:
        if auth not in AUTHS:
            raise ConfigError(f"unknown auth '{auth}': it is one of {', '.join(AUTHS)}")
        if not re.fullmatch(r"[!-~]+", key):
            raise ConfigError(
                "the Braze API key is empty or holds spaces, line breaks or other characters that "
                "no key has: copy it again"
            )
        self.endpoint: Final = endpoint
        self.secrets: Final = (key,)
        headers = [("Content-Type", "application/json")]
        extra = b""
        if auth == "bearer":
            headers.append(("Authorization", f"Bearer {key}"))
        else:
            extra = b'"api_key":' + codec.dumps(key)
        self._headers = tuple(headers)
        self._shape = BodyShape(endpoint.slots, extra)
        self.overhead: Final = self._shape.overhead
        permission = endpoint.path.strip("/").replace("/", ".")
        self._hints = {
            **HINTS,
            401: "check the API key, and that the REST URL is the one of the key's own instance",
            403: f"check that the key has the permission {permission}, and its IP allowlist",
            404: f"check the REST URL: {endpoint.path} is not known there",
        }

    def __repr__(self) -> str:
        return f"BrazeWire({self.endpoint.name})"

    def request(self, batch: Batch) -> Request:
        """Encode a batch. The body is at most `batch.nbytes + overhead` bytes."""
        return Request("POST", self.endpoint.path, self._headers, self._shape.join(batch))

    def interpret(self, batch: Batch, response: Response) -> Outcome:
        """Say what the response means for the batch. Total: never raises."""
        return interpret_track(
            self.endpoint, batch, response, secrets=self.secrets, hints=self._hints
        )

    def repeatable(self, slot: int, fragment: bytes) -> bool:
        """Whether a second copy of a record changes nothing."""
        return repeatable(slot, fragment)


class BrazeSink(HttpSink):
    """Delivers to Braze.

    `url` is the REST URL of the instance and `endpoint` a name out of `ENDPOINTS`. Plain http is
    for this machine only, unless `allow_http`. Raises `ConfigError`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        endpoint: str = "track",
        *,
        auth: str = "bearer",
        allow_http: bool = False,
        settings: HttpSettings | None = None,
        transport: Transport | None = None,
    ) -> None:
        if endpoint not in ENDPOINTS:
            raise ConfigError(
                f"unknown endpoint '{endpoint}' of braze: it is one of {', '.join(ENDPOINTS)}"
            )
        wire = BrazeWire(ENDPOINTS[endpoint], key, auth)
        super().__init__(
            wire, transport or HttpTransport(url, settings or HttpSettings(), allow_http=allow_http)
        )

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        endpoint: str = "track",
        auth: str = "bearer",
        allow_http: bool = False,
    ) -> BrazeSink:
        """Take BRAZE_REST_URL and BRAZE_API_KEY (or BRAZE_API_KEY_FILE) from the environment.

        Raises `ConfigError` that names what is missing.
        """
        environ = os.environ if environ is None else environ
        return cls(
            secret(environ, "BRAZE_REST_URL"),
            secret(environ, "BRAZE_API_KEY"),
            endpoint,
            auth=auth,
            allow_http=allow_http,
        )
