"""Posts: which lines the body of a request holds, and what is answered about them.

Decides by the content type alone how a body is read. Does not judge records, and knows no HTTP
server; what cannot be read is an `Unreadable` with the status and the sentence of its answer.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

from ingest.codec import (
    DecodeError,
    JSONDecodeError,
    ValidationError,
    dumps,
    loads,
    typed,
    verbatim,
)
from ingest.errors import ConfigError
from ingest.forms import JSON_SPACE
from ingest.settings import parse_duration
from ingest.taken import Refusal

MOST_LINES: Final = 10_000
"""Lines of a request at most: each may be refused with a sentence of its own, and 10,000 of those
are an answer of 3 MB."""

WAIT_SECONDS: Final = 30.0
"""How long verdicts are waited for, if nothing is said: shorter than the patience of most clients
and proxies (60 s)."""

MOST_WAIT_SECONDS: Final = 600.0
"""How long they are waited for at most."""

WINDOW_SECONDS: Final = 24 * 3600.0
"""How long a key of a request is remembered."""

MOST_KEY_CHARACTERS: Final = 255
"""Length of an `Idempotency-Key`: what the APIs that have them take."""

Form = Literal["ndjson", "json"]

FORMS: Final[dict[str, Form]] = {
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
    "application/json": "json",
}
"""Content types that are taken. Those that a page of another origin may post unasked (plain text,
a form, none at all) are not: a port of this machine is open to every page in its browser."""

_ITEMS: Final = typed(list[msgspec.Raw])
_NEWLINE: Final = b"\n"
_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")


class Unreadable(Exception):
    """A request that is refused as a whole, with a status and a sentence; nothing is kept."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line of a body and its number from 1, or an item of an array and its place from 1."""

    number: int
    text: bytes


def form_of(content_type: str) -> Form:
    """Return how a body of this content type is read. Raises `Unreadable`."""
    name, _, parameters = content_type.partition(";")
    form = FORMS.get(name.strip().lower())
    if form is None:
        raise Unreadable(
            415,
            "the Content-Type must be application/x-ndjson (a record a line), or application/json "
            "(an array of records)",
        )
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "charset" and value.strip(' "').lower() not in ("utf-8", "utf8"):
            raise Unreadable(415, "records must be UTF-8")
    return form


def lines_of(form: Form, body: bytes) -> list[Line]:
    """Return the lines of a body that are not blank. Raises `Unreadable`."""
    if not body.strip(JSON_SPACE):
        raise Unreadable(400, "the request has no body: send a record a line, or an array of them")
    if form == "json":
        lines = [Line(at, text) for at, text in enumerate(_items(body), 1)]
    else:
        lines = [
            Line(at, text.removesuffix(b"\r"))
            for at, text in enumerate(body.split(_NEWLINE), 1)
            if text.strip(JSON_SPACE)
        ]
    if len(lines) > MOST_LINES:
        raise Unreadable(
            413, f"the request has {len(lines):,} records: send {MOST_LINES:,} at most at a time"
        )
    return lines


def _items(body: bytes) -> list[bytes]:
    """Return the items of an array, or an object that stands alone, each on one line."""
    try:
        items = [bytes(item) for item in _ITEMS.decode(body)]
    except ValidationError:
        try:
            value = loads(body)
        except JSONDecodeError as error:
            raise _no_json() from error
        if not isinstance(value, dict):
            raise Unreadable(400, "the body must be an array of records") from None
        items = [body.strip(JSON_SPACE)]
    except (DecodeError, RecursionError) as error:
        raise _no_json() from error
    # JSON has line ends between its tokens only, where a space does as well.
    return [item.translate(_LINE_ENDS) for item in items]


def _no_json() -> Unreadable:
    return Unreadable(
        400,
        "the body is not JSON: send an array of records, or, with the Content-Type "
        "application/x-ndjson, a record a line",
    )


def waits_of(query: Mapping[str, str]) -> float | None:
    """Return for how many seconds verdicts are waited for; None if they are not asked for.

    Raises `Unreadable`.
    """
    wait, timeout = query.get("wait"), query.get("timeout")
    if wait is None and timeout is None:
        return None
    if wait != "delivered":
        raise Unreadable(400, "the only thing to wait for is ?wait=delivered")
    if timeout is None:
        return WAIT_SECONDS
    try:
        seconds = parse_duration(timeout, what="timeout")
    except ConfigError as error:
        raise Unreadable(400, "the timeout must be a duration, such as timeout=30s") from error
    if seconds > MOST_WAIT_SECONDS:
        raise Unreadable(400, f"the timeout may be {MOST_WAIT_SECONDS:.0f}s at most")
    return seconds


# Answers


class Ended(Protocol):
    """The end of one record: its column, and why, if it was not delivered."""

    @property
    def column(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def field(self) -> str: ...
    @property
    def reason(self) -> str: ...


class Posted(msgspec.Struct, frozen=True):
    """The answer to a request: its status and its body, JSON."""

    status: int
    body: bytes


GOOD: Final = frozenset(("delivered", "unchanged", "merged"))
"""Columns of records that are at the destination."""


def error_of(number: int, refusal: Refusal) -> dict[str, Any]:
    """Return what is told about a line that is not taken."""
    return {
        "line": number,
        "code": refusal.code,
        "field": refusal.field or None,
        "reason": refusal.reason,
    }


def accepted(count: int, errors: Sequence[dict[str, Any]]) -> Posted:
    """Answer that lines are kept for good, and which are not."""
    if not errors:
        return Posted(202, dumps({"accepted": count}))
    value = {"accepted": count, "invalid": len(errors), "errors": errors}
    return Posted(207, dumps(value))


def verdicts(
    ends: Mapping[int, Sequence[Ended] | None], errors: Sequence[dict[str, Any]]
) -> Posted:
    """Answer what became of each line by its number; None for what has no end yet.

    A line with several records has the verdict of the first that did not arrive. 200: all arrived;
    202: some have no end yet; 207: all have, and some did not arrive.
    """
    rows = [_verdict(number, each) for number, each in ends.items()]
    rows += [{**error, "verdict": "invalid"} for error in errors]
    rows.sort(key=lambda row: int(row["line"]))
    pending = sum(each is None for each in ends.values())
    good = sum(row["verdict"] in GOOD for row in rows)
    value: dict[str, Any] = {"accepted": len(ends)}
    if errors:
        value["invalid"] = len(errors)
    value |= {"delivered": good, "pending": pending, "verdicts": rows}
    status = 202 if pending else 200 if good == len(rows) else 207
    return Posted(status, dumps(value))


def _verdict(number: int, ends: Sequence[Ended] | None) -> dict[str, Any]:
    if ends is None:
        return {"line": number, "verdict": "pending"}
    end = next((each for each in ends if each.column not in GOOD), None)
    if end is None:
        return {"line": number, "verdict": ends[0].column if ends else "delivered"}
    told = {"code": end.code, "field": end.field or None, "reason": end.reason}
    return {"line": number, "verdict": end.column, **told}


# Keys of requests


class Remembered(msgspec.Struct, frozen=True):
    """A request that had a key, and its answer.

    `key` and `body` are hashes in hexadecimal digits, `at` is epoch seconds, `answer` a JSON text.
    """

    key: str
    body: str
    at: float
    status: int
    answer: msgspec.Raw

    @property
    def posted(self) -> Posted:
        """Its answer."""
        return Posted(self.status, bytes(self.answer))

    def is_over(self, now: float, window: float = WINDOW_SECONDS) -> bool:
        """Whether it is too old to be remembered; one from the future stays."""
        return now - self.at >= window


_REMEMBERED: Final = typed(Remembered)


def key_of(header: str, token: str) -> str:
    """Return the hash of an `Idempotency-Key`, of nobody's use who has another token.

    Raises `Unreadable`.
    """
    if not header.strip() or len(header) > MOST_KEY_CHARACTERS:
        raise Unreadable(
            400, f"the Idempotency-Key must have 1 to {MOST_KEY_CHARACTERS} characters"
        )
    told = header.encode("utf-8", "surrogateescape")
    return hmac.new(token.encode(), told, hashlib.sha256).hexdigest()


def hash_of(form: Form, body: bytes) -> str:
    """Return the hash by which the same body is known again."""
    return hashlib.sha256(form.encode() + _NEWLINE + body).hexdigest()


def note_of(remembered: Remembered) -> bytes:
    """Encode it as the note that is kept with what was accepted: one line."""
    value = msgspec.structs.asdict(remembered)
    return dumps(value | {"answer": verbatim(bytes(remembered.answer))})


def remembered_in(note: bytes) -> Remembered | None:
    """Return what `note_of` wrote; None for a note of somebody else."""
    try:
        return _REMEMBERED.decode(note)
    except DecodeError:
        return None
