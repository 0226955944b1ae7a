"""The Braze side of the sandbox: its paths, its key, and what each path answers.

This module decides the answer to a request in two steps, because a rate limit counts at arrival
and a verdict needs the body: `admit` (path, key, rate, headers), then `answer` (the body). It is
a table of routes, so that another destination is another table beside it.

It knows no sockets, no faults and no latency; `now` is an argument (wall clock, epoch seconds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ingest.codec import dumps, loads
from ingest.records import UserKey
from ingest.sandbox import rules, windows
from ingest.sandbox.export import judge_export
from ingest.sandbox.faults import Fault
from ingest.sandbox.rules import AID_MARK, BULK_CAPS, Caps, Verdict
from ingest.sandbox.store import Store
from ingest.sandbox.windows import Dialect, Ruling, Windows

TRACK: Final = "/users/track"
BULK: Final = "/users/track/bulk"
EXPORT: Final = "/users/export/ids"

INVALID_URL: Final = "Invalid URL"
ACCESS_DENIED: Final = "Access Denied"
INVALID_KEY: Final = "Invalid API key: {}"
RATE_LIMITED: Final = "Rate limit exceeded"
UNSUPPORTED: Final = "Unsupported Media Type"

_PAGE: Final = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body><h1>{0}</h1></body>\r\n</html>\r\n"
)
_FAULT_REASON: Final = {
    403: "403 Forbidden",
    429: RATE_LIMITED,
    500: rules.SERVER_ERROR,
    502: "502 Bad Gateway",
    503: "Service Unavailable",
    504: "504 Gateway Time-out",
}


class Call(msgspec.Struct, frozen=True):
    """A request as it arrived. `headers` are found by any case; `now` is the time of arrival."""

    method: str
    path: str
    headers: Mapping[str, str]
    now: float


class Answer(msgspec.Struct, frozen=True):
    """What is sent back, and whose objects the request carried."""

    status: int
    body: bytes
    headers: dict[str, str]
    html: bool = False
    users: frozenset[UserKey] = frozenset()
    sizes: tuple[int, int, int] = (0, 0, 0)
    rejected: int = 0


class Route(msgspec.Struct, frozen=True):
    """A path: the caps of its body, its own windows, and what it says to a decoded body.

    `judge` takes the decoded body and whether the bytes contain a test aid.
    """

    caps: Caps
    windows: Windows
    judge: Callable[[Any, bool], Verdict]


class Admitted(msgspec.Struct, frozen=True):
    """A request that may send its body; without `authorized` the key must be in the body."""

    call: Call
    route: Route
    ruling: Ruling
    authorized: bool


class Braze:
    """Answers calls out of a store.

    Args:
        key: the REST key that is accepted, as a bearer or, without an `Authorization` header, as
            `api_key` in the body (accounts of 2018 to 2020).
        caps: ceilings of `/users/track`.
        rate, bulk_rate, export_rate: windows of the three paths.
        dialect: how rate-limit headers are worded.
    """

    def __init__(
        self,
        store: Store,
        *,
        key: str,
        caps: Caps,
        rate: tuple[windows.Rate, ...],
        bulk_rate: tuple[windows.Rate, ...],
        export_rate: tuple[windows.Rate, ...],
        dialect: Dialect,
    ) -> None:
        self._store = store
        self._key = key
        self._dialect = dialect
        self.routes: Mapping[str, Route] = {
            TRACK: Route(caps, Windows(rate), _track_with(caps)),
            BULK: Route(BULK_CAPS, Windows(bulk_rate), _track_with(BULK_CAPS)),
            EXPORT: Route(Caps(), Windows(export_rate), lambda body, _: judge_export(body, store)),
        }

    def reset(self) -> None:
        """Empty the windows; the store is reset by its owner."""
        for route in self.routes.values():
            route.windows.reset()

    def admit(self, call: Call) -> Admitted | Answer:
        """Decide at arrival, without the body. A request that gets a 401 here costs no rate."""
        route = self.routes.get(call.path)
        if route is None:
            slashed = call.path.endswith("/") and call.path.rstrip("/") in self.routes
            return _plain(403, ACCESS_DENIED) if slashed else _plain(404, INVALID_URL)
        if call.method != "POST":
            return _plain(404, INVALID_URL)
        authorization = call.headers.get("Authorization")
        if authorization is not None:
            sent = authorization.removeprefix("Bearer ")
            if sent != self._key or sent == authorization:
                return _unauthorized(sent)
        ruling = route.windows.arrive(call.now)
        if not ruling.allowed:
            return _plain(429, RATE_LIMITED, windows.headers(self._dialect, ruling, call.now))
        if not _is_json(call.headers):
            headers = windows.headers(self._dialect, ruling, call.now)
            return _plain(415, UNSUPPORTED, headers)
        return Admitted(call, route, ruling, authorized=authorization is not None)

    def answer(self, admitted: Admitted, body: bytes, request: int, *, apply: bool) -> Answer:
        """Judge a body and, if `apply`, store what is accepted under this request number."""
        verdict = self._judge(admitted, body)
        if verdict.status == 401:
            return _unauthorized(verdict.body["message"])
        if apply:
            self._store.apply(request, verdict.items)
        return Answer(
            verdict.status,
            dumps(verdict.body),
            windows.headers(self._dialect, admitted.ruling, admitted.call.now),
            users=verdict.users,
            sizes=verdict.sizes,
            rejected=verdict.rejected,
        )

    def _judge(self, admitted: Admitted, body: bytes) -> Verdict:
        route = admitted.route
        too_large = rules.judge_size(len(body), route.caps)
        if too_large is not None:
            return too_large
        try:
            decoded = loads(body)
        except ValueError:
            return rules.refusal(400, rules.BAD_SYNTAX)
        if not admitted.authorized:
            sent = decoded.get("api_key") if isinstance(decoded, dict) else None
            if sent != self._key:
                return rules.refusal(401, sent if isinstance(sent, str) else "")
        return route.judge(decoded, AID_MARK in body)

    def fault_answer(self, admitted: Admitted, fault: Fault, answer: Answer) -> Answer:
        """Return the answer of a fault in place of the true one.

        A fault that lets a request succeed changes a success only: a refusal stays what it is.
        Its errors stay as well, so that every refused object is still accounted for.
        """
        call = admitted.call
        if fault.ending == "success":
            if not fault.status or not 200 <= answer.status < 300:
                return answer
            queued = {"message": "queued"}
            errors = loads(answer.body).get("errors")
            body = dumps({**queued, "errors": errors} if errors else queued)
            return msgspec.structs.replace(answer, status=fault.status, body=body)
        reason = _FAULT_REASON[fault.status]
        if fault.status == 429:
            headers = windows.fault_headers(self._dialect, admitted.ruling, call.now)
        elif fault.html:
            headers = {}
        else:
            headers = windows.headers(self._dialect, admitted.ruling, call.now)
        body = _PAGE.format(reason).encode() if fault.html else dumps({"message": reason})
        return msgspec.structs.replace(
            answer, status=fault.status, body=body, headers=headers, html=fault.html
        )


def too_long_to_read() -> Answer:
    """Return the answer to a body that the server did not even read to its end."""
    return _plain(413, rules.TOO_LARGE)


def _track_with(caps: Caps) -> Callable[[Any, bool], Verdict]:
    return lambda body, aids: rules.judge(body, caps, aids=aids)


def _is_json(headers: Mapping[str, str]) -> bool:
    """Whether the body claims to be JSON, and plain: compressed bodies are not documented."""
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return (
        content_type == "application/json"
        and headers.get("Content-Encoding", "identity").lower() == "identity"
    )


def _plain(status: int, message: str, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, dumps({"message": message}), headers or {})


def _unauthorized(sent: str) -> Answer:
    """Return a 401, which echoes what was sent as the key, as the real one does."""
    readable = sent.encode("utf-8", "replace").decode()  # headers may hold any bytes
    return _plain(401, INVALID_KEY.format(readable), windows.unauthorized_headers())
