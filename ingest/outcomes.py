"""What a destination said to one request: replies and outcomes.

Decides what a status, its headers and its body mean, as far as HTTP alone tells. It is total: any
status, any headers and any bytes give an outcome, and nothing raises. It does not know a single
destination (a wire in `ingest.sinks` reads what only that destination means), what becomes of
the records (`ingest.retry`), nor what was said about pace (`ingest.serverwords`).

Text of a destination comes into a reason by way of `ingest.quoting` alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ingest.quoting import Body, masked, quote, read_body, slug


class Response(msgspec.Struct, frozen=True):
    """An answer as it came. `at` is the wall clock (epoch seconds) when it came.

    `headers` may be in any case. `truncated` says that the body was longer than what is kept.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    at: float
    truncated: bool = False


class Unsent(msgspec.Struct, frozen=True):
    """No byte of the body left this machine: name, connection or TLS failed."""

    reason: str


class Lost(msgspec.Struct, frozen=True):
    """The body, or a part of it, left, and no whole answer came."""

    reason: str


Reply = Response | Unsent | Lost
"""What a transport returns; it never raises for a dead destination."""


# --- what was said ------------------------------------------------------------------------------


class ItemError(msgspec.Struct, frozen=True):
    """The destination refused one record of the request; several may hit one (slot, index).

    `code` is a stable slug, `reason` the destination's own sentence, redacted and capped. `field`
    names the piece of the record that is meant, if it is a piece. `already` says that the record
    earns this error as well when an earlier copy of it has done its work: an id to be deleted that
    is not there.
    """

    slot: int
    index: int
    code: str
    reason: str
    field: str = ""
    already: bool = False


class Remark(msgspec.Struct, frozen=True):
    """Something said beside a success that names no record of the request, `count` times.

    `summary` is fit for a report: it holds no value of a record. `code` is a slug that tells it
    from others. `remarks_of` makes both of a destination's words.
    """

    code: str
    summary: str
    count: int = 1


class Delivered(msgspec.Struct, frozen=True):
    """2xx: everything but `rejected` was accepted. Never resent, whatever the body looks like.

    Of the records in `pieces` a piece was refused; the rest of each was taken.
    """

    status: int
    rejected: tuple[ItemError, ...] = ()
    queued: bool = False
    remarks: tuple[Remark, ...] = ()
    pieces: tuple[ItemError, ...] = ()


class Throttled(msgspec.Struct, frozen=True):
    """429: the destination is healthy and asks for less."""

    status: int


class Unavailable(msgspec.Struct, frozen=True):
    """Not processed: the same bytes may be sent again. `status` is None if nothing was sent."""

    status: int | None
    reason: str


class Unanswered(msgspec.Struct, frozen=True):
    """Neither success nor failure: the request may have been processed, or not."""

    status: int | None
    reason: str


class TooLarge(msgspec.Struct, frozen=True):
    """The body has too many bytes; nothing was processed."""

    status: int


class TooMany(msgspec.Struct, frozen=True):
    """The request holds more objects than this account takes; nothing was processed."""

    status: int


class Invalid(msgspec.Struct, frozen=True):
    """Refused whole, with verdicts: nothing was processed, `rejected` never will be."""

    status: int
    rejected: tuple[ItemError, ...]


class Refused(msgspec.Struct, frozen=True):
    """These bytes, as they are, will not be taken there; which record is at fault is not said."""

    status: int
    reason: str


class Unauthorized(msgspec.Struct, frozen=True):
    """No bytes will be taken: credentials, permissions or the host are wrong."""

    status: int
    reason: str


Outcome = (
    Delivered
    | Throttled
    | Unavailable
    | Unanswered
    | TooLarge
    | TooMany
    | Invalid
    | Refused
    | Unauthorized
)


# --- what was said beside a success -------------------------------------------------------------

MOST_REMARKS: Final = 20
"""Different remarks of one answer that are told apart; all others are counted together."""

MOST_READ: Final = 200
"""Different words of one answer that are looked at: each costs up to 0.2 ms, and an answer may have
some for each of 10,000 users. The others are counted."""

SAID: Final = "said-by-destination"
"""Code of words of which nothing is left that may be shown."""

OTHERS: Final = "other-remarks"
"""Code of what is not told apart any more."""

_OTHERS_SUMMARY: Final = "the destination said more different things than are told apart"


class Words(NamedTuple):
    """What was said beside a success: `ours` says what it is, `theirs` are the destination's words.

    `theirs` may hold values of a record, and secrets; `ours` holds neither. `sort` begins the code.
    """

    ours: str
    theirs: str = ""
    sort: str = ""


def remarks_of(
    said: Iterable[Words], *, secrets: Sequence[str], most: int = MOST_REMARKS
) -> tuple[Remark, ...]:
    """Count what was said; words that differ by the values of a record alone are one remark.

    The counts add up to the length of `said`. At most `most` different remarks, in the order in
    which they came, and one for all others. No two share a code.
    """
    told: dict[str, Remark] = {}
    for read, (words, count) in enumerate(Counter(said).items()):
        remark = _remark(words, secrets) if read < MOST_READ else None
        if remark is None or (remark.code not in told and len(told) >= most):
            remark = Remark(OTHERS, _OTHERS_SUMMARY)
        # Of sentences with the same code, the first one stands for all.
        known = told.get(remark.code)
        before = known.count if known else 0
        told[remark.code] = msgspec.structs.replace(known or remark, count=before + count)
    return tuple(told.values())


def _remark(words: Words, secrets: Sequence[str]) -> Remark:
    said = masked(quote(words.theirs, secrets))
    if not slug(said):  # only marks are left of it
        return Remark(words.sort or SAID, words.ours)
    return Remark(slug(f"{words.sort} {said}"), f"{words.ours}: {said}")


# --- the generic reading ------------------------------------------------------------------------


UNANSWERED_STATUSES: Final = frozenset({504, 520, 524})
"""A gateway reached the service and got no usable answer in time: 504, and 520 and 524 of the
Cloudflare edge in front of Braze. All may have been processed."""

UNSPOKEN_STATUSES: Final = frozenset({501, 505})
"""5xx that are about the method or the protocol: another host is meant, and no wait helps."""

RESENDABLE_STATUSES: Final = frozenset({408, 425})
"""4xx that are about this transmission, not about its bytes."""

HINTS: Final[Mapping[int, str]] = {
    401: "check the API key, and that the REST URL is the one of this account's own instance",
    403: "check that the key has the permission for this endpoint, its IP allowlist and the plan",
    404: "check the REST URL and the path",
    405: "check the REST URL and the path",
    407: "check the user and password in HTTPS_PROXY",
    415: "a proxy may have removed the Content-Type header",
    501: "check the REST URL: what answers there does not know this method",
    505: "check the REST URL: what answers there does not speak this version of HTTP",
}
"""What an operator should look at, by status. A wire may pass its own."""

_TOO_LARGE: Final = re.compile(r"(?i)\b(?:request|entity|payload|body|content)\b.*\btoo large\b")


def classify(
    response: Response,
    *,
    secrets: Sequence[str] = (),
    hints: Mapping[int, str] = HINTS,
    body: Body | None = None,
) -> Outcome:
    """Say what any HTTP destination means by this status, and this kind of body. Never raises.

    `secrets` are removed from all text; pass `body` if it has been read already.
    """
    status = response.status
    if 200 <= status < 300:
        return Delivered(status)
    if status == 429:
        return Throttled(status)
    if status == 413:
        return TooLarge(status)
    body = body or read_body(response, secrets)
    if status == 400 and _TOO_LARGE.search(body.says):
        return TooLarge(status)
    reason = _sentence(status, body.says, hints.get(status, ""))
    if status in (401, 407):
        return Unauthorized(status, reason)
    if status == 403:
        if isinstance(body.value, dict):
            return Unauthorized(status, reason)
        # Without the API's own JSON it is a gateway that speaks: no verdict on the key.
        return Unavailable(status, _sentence(status, body.says, "a gateway in between blocked it"))
    if status in UNANSWERED_STATUSES or not 300 <= status < 600:
        return Unanswered(status, reason)
    if status in UNSPOKEN_STATUSES:
        return Refused(status, reason)
    if status >= 500 or status in RESENDABLE_STATUSES:
        return Unavailable(status, reason)
    if status < 400:
        return Refused(status, _redirect(response, secrets))
    return Refused(status, reason)


def _sentence(status: int, says: str, hint: str) -> str:
    said = f"the destination answered {status}" + (f": {says}" if says else "")
    return f"{said} ({hint})" if hint else said


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers under lower-case names."""
    return {name.lower(): value for name, value in headers.items()}


def _redirect(response: Response, secrets: Sequence[str]) -> str:
    """Name the host only: the rest of a location may carry anything."""
    try:
        host = urlsplit(lowered(response.headers).get("location", "")).hostname or ""
    except ValueError:
        host = ""
    where = f" to the host {quote(host, secrets, 100)}" if host else ""
    return (
        f"the destination answered {response.status}, a redirect{where}; "
        "redirects are not followed: check the REST URL"
    )
