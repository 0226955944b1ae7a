"""What Batch CEP answers, and which record each piece that it refuses came from.

Decides what an answer means for a batch. 202 is the ordinary success; with another code than
SUCCESS the edits were taken all the same, but for pieces that the answer names by the position of
the edit and the key. Pure: sends nothing and knows no time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ingest import codec
from ingest.outcomes import Delivered, ItemError, Outcome, Remark, Response, classify
from ingest.quoting import REASON_CHARS, Body, quote, read_body
from ingest.records import ATTRIBUTES, Batch
from ingest.sinks.batchcep.folding import Edits
from ingest.sinks.batchcep.names import base_of, slug
from ingest.sinks.batchcep.translation import FIELD_OF

GENERIC_CODE: Final = "piece-refused"
"""Code of a refused piece of a sort that is not named, or not like a name."""

SAID: Final = "said-by-destination"
"""Code of what the destination says beside a success that names no record."""

UNTOLD: Final = "which piece of the user's records is meant is not told"

_CATEGORY: Final = re.compile(r"[a-z][a-z0-9]{0,20}(?:[ _-][a-z0-9]{1,20}){0,3}")


class _CepAnswer(msgspec.Struct):
    """Just enough of an answer to know that all went well."""

    code: str = ""
    errors: Any = None


_decode: Final = codec.typed(_CepAnswer).decode
_members: Final = codec.typed(dict[str, msgspec.Raw]).decode


def interpret_update(
    batch: Batch,
    response: Response,
    *,
    secrets: Sequence[str],
    hints: Mapping[int, str],
) -> Outcome:
    """Say what an answer means for its batch. Never raises."""
    status = response.status
    if not 200 <= status < 300:
        return classify(response, secrets=secrets, hints=hints, body=_error_body(response, secrets))
    try:
        said = _decode(response.body)
    except (codec.DecodeError, ValueError, RecursionError):
        pass  # no JSON, not UTF-8, or thousands of open brackets: each raises its own
    else:
        if said.code == "SUCCESS" and not said.errors and not response.truncated:
            return Delivered(status)
    body = read_body(response, secrets)
    errors = body.fields.get("errors")
    listed = errors if isinstance(errors, list) else [errors] if errors else []
    pieces, unusable = _refused(Edits(batch), listed, secrets) if listed else ((), [])
    doubts = Counter((*_doubts(status, body, listed, secrets, response.truncated), *unusable))
    remarks = tuple(Remark(SAID, reason, count=count) for reason, count in doubts.items())
    return Delivered(status, remarks=remarks, pieces=pieces)


def _error_body(response: Response, secrets: Sequence[str]) -> Body:
    """Read the body of an error, whose code says more than its sentence."""
    body = read_body(response, secrets)
    code = body.fields.get("error_code")
    if not isinstance(code, str) or not code:
        return body
    message = body.fields.get("error_message")
    text = f"{code}: {message}" if isinstance(message, str) and message else code
    return Body(body.value, True, quote(text, secrets))


def _doubts(
    status: int, body: Body, listed: Sequence[Any], secrets: Sequence[str], truncated: bool
) -> Iterable[str]:
    """Say what is odd about the answer of a success: it counts all the same."""
    code = body.fields.get("code")
    if truncated:
        yield f"the answer {status} was cut short: refusals of single pieces may be missing"
    elif not body.is_json:
        said = f": {body.says}" if body.says else ", but an empty body"
        yield f"the answer {status} is no JSON{said}"
    elif not isinstance(code, str):
        yield f"the destination answered {status} without a code"
    elif code != "SUCCESS" and not listed:
        yield f"the destination answered {status} with the code '{quote(code, secrets)}' alone"


def _refused(
    edits: Edits, errors: Sequence[Any], secrets: Sequence[str]
) -> tuple[tuple[ItemError, ...], list[str]]:
    """Return the pieces that were refused, and in words the errors that name no edit."""
    pieces: dict[ItemError, None] = {}  # an ordered set
    unusable: list[str] = []
    read: dict[str, str] = {}
    for error in errors:
        fields = error if isinstance(error, dict) else {}
        text = fields.get("reason", error)
        text = text if isinstance(text, str) else ""
        if text not in read:
            read[text] = quote(text, secrets) or "no reason given"
        reason = read[text]
        index = fields.get("bulk_index")
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(edits):
            unusable.append(f"an error that names no user of the request: {reason}")
            continue
        category = fields.get("category")
        code = _code(category)
        name = fields.get("attribute")
        place = None
        if isinstance(name, str) and name:
            event = isinstance(category, str) and "event" in category.lower()
            place = edits.find(index, name, event=event)
        if place is None or not isinstance(name, str):
            reason = f"{reason[: REASON_CHARS - len(UNTOLD) - 3]} ({UNTOLD})"
            pieces[ItemError(*edits.first(index), code, reason)] = None
        else:
            pieces[ItemError(*place, code, reason, _field(edits, place, name))] = None
    return tuple(pieces), unusable


def _code(category: object) -> str:
    """Return the slug of what sort of piece was refused."""
    name = category.lower() if isinstance(category, str) else ""
    if not _CATEGORY.fullmatch(name):
        return GENERIC_CODE
    return re.sub("[ _]", "-", name) + "-refused"


def _field(edits: Edits, place: tuple[int, int], name: str) -> str:
    """Return what the record calls the piece that its translation calls `name`."""
    if name in FIELD_OF:
        return FIELD_OF[name]
    base, members = base_of(name), _members(edits.record(place))
    if place[0] == ATTRIBUTES:
        return next((field for field in members if slug(field) == base), base)
    properties = members.get("properties")
    try:
        fields = _members(properties) if properties is not None else {}
    except codec.ValidationError:
        fields = {}
    found = next((field for field in fields if slug(field) == base), "")
    if found:
        return f"properties.{found}"
    return next((field for field in (base, "name") if field in members), "")
