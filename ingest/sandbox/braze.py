"""The Braze side of the sandbox: its paths, its key, and what each path answers.

This module decides the answer to a request in two steps, because a rate limit counts at arrival
and a verdict needs the body: `admit` (path, key, rate, headers), then `answer` (the body). It is
a table of routes; `appboy` and `batchcep` are others beside it.

It knows no sockets, no faults and no latency; `now` is an argument (wall clock, epoch seconds).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ingest.codec import dumps, loads
from ingest.sandbox import rules, windows
from ingest.sandbox.calls import (
    FAULT_REASONS,
    RATE_LIMITED,
    UNSUPPORTED,
    Admitted,
    Answer,
    Call,
    Route,
    is_json,
    page,
    plain,
    queued,
    told,
    too_long_to_read,
)
from ingest.sandbox.contacts import contact_rows
from ingest.sandbox.export import judge_export
from ingest.sandbox.faults import Fault
from ingest.sandbox.rows import DELETE_BY, REMOVE, RENAME, user_rows
from ingest.sandbox.rules import AID_MARK, BULK_CAPS, Caps, Judge, Verdict
from ingest.sandbox.store import Store
from ingest.sandbox.windows import Dialect, Rate, Windows

TRACK: Final = "/users/track"
BULK: Final = "/users/track/bulk"
EXPORT: Final = "/users/export/ids"

INVALID_URL: Final = "Invalid URL"
ACCESS_DENIED: Final = "Access Denied"
INVALID_KEY: Final = "Invalid API key: {}"


class RowRates(msgspec.Struct, frozen=True):
    """Windows of the rows, each a pool of its own; empty means no limit.

    Attributes:
        users: delete, alias/new and identify together.
        rename, remove: of external ids.
        contacts: the rows about addresses, push tokens and triggered messages together.
    """

    users: tuple[Rate, ...] = ()
    rename: tuple[Rate, ...] = ()
    remove: tuple[Rate, ...] = ()
    contacts: tuple[Rate, ...] = ()


class Braze:
    """Answers calls out of a store.

    Args:
        key: the REST key that is accepted, as a bearer or, without an `Authorization` header, as
            `api_key` in the body (accounts of 2018 to 2020).
        caps: ceilings of `/users/track`.
        rate, bulk_rate, export_rate: windows of these three paths.
        dialect: how rate-limit headers are worded.
        row_rates: windows of the rows.
    """

    by_body = False

    def __init__(
        self,
        store: Store,
        *,
        key: str,
        caps: Caps,
        rate: tuple[Rate, ...],
        bulk_rate: tuple[Rate, ...],
        export_rate: tuple[Rate, ...],
        dialect: Dialect,
        row_rates: RowRates | None = None,
    ) -> None:
        self._store = store
        self._key = key
        self._dialect = dialect
        rates = row_rates or RowRates()
        users, contacts = Windows(rates.users), Windows(rates.contacts)
        own = {RENAME: Windows(rates.rename), REMOVE: Windows(rates.remove)}
        self.routes: Mapping[str, Route] = {
            TRACK: Route(caps, Windows(rate), _track_with(caps)),
            BULK: Route(BULK_CAPS, Windows(bulk_rate), _track_with(BULK_CAPS)),
            EXPORT: Route(
                Caps(), Windows(export_rate), lambda body, *, aids: judge_export(body, store)
            ),
            **{
                path: Route(Caps(), own.get(path, users), judge)
                for path, judge in user_rows(store, DELETE_BY).items()
            },
            **{path: Route(Caps(), contacts, judge) for path, judge in contact_rows(store).items()},
        }

    def place(self, path: str) -> str | None:
        """Return what a path is counted as; None when it is not here."""
        return path if path in self.routes else None

    def claims(self, call: Call, body: bytes | None) -> bool | None:
        """Take whatever comes."""
        return True

    def reset(self) -> None:
        """Empty the windows; the store is reset by its owner."""
        for route in self.routes.values():
            route.windows.reset()

    def admit(self, call: Call, body: bytes = b"") -> Admitted | Answer:
        """Decide at arrival, without the body. A request that gets a 401 here costs no rate."""
        route = self.routes.get(call.path)
        if route is None:
            slashed = call.path.endswith("/") and call.path.rstrip("/") in self.routes
            return plain(403, ACCESS_DENIED) if slashed else plain(404, INVALID_URL)
        if call.method != "POST":
            return plain(404, INVALID_URL)
        authorization = call.headers.get("Authorization")
        if authorization is not None:
            sent = authorization.removeprefix("Bearer ")
            if sent != self._key or sent == authorization:
                return _unauthorized(sent)
        ruling = route.windows.arrive(call.now)
        if not ruling.allowed:
            return plain(429, RATE_LIMITED, windows.headers(self._dialect, ruling, call.now))
        if not is_json(call.headers):
            headers = windows.headers(self._dialect, ruling, call.now)
            return plain(415, UNSUPPORTED, headers)
        authorized = authorization is not None
        return Admitted(call, ruling, lambda body: self._judge(route, authorized, body))

    def answer(self, admitted: Admitted, body: bytes, request: int, *, apply: bool) -> Answer:
        """Judge a body and, if `apply`, store what is accepted under this request number."""
        verdict = admitted.judge(body)
        if verdict.status == 401:
            return _unauthorized(verdict.body["message"])
        if apply:
            self._store.apply(request, verdict.items)
            if verdict.effect is not None:
                verdict.effect(request)
        headers = windows.headers(self._dialect, admitted.ruling, admitted.call.now)
        return told(verdict, headers)

    def _judge(self, route: Route, authorized: bool, body: bytes) -> Verdict:
        too_large = rules.judge_size(len(body), route.caps)
        if too_large is not None:
            return too_large
        try:
            decoded = loads(body)
        except ValueError:
            return rules.refusal(400, rules.BAD_SYNTAX)
        if not authorized:
            sent = decoded.get("api_key") if isinstance(decoded, dict) else None
            if sent != self._key:
                return rules.refusal(401, sent if isinstance(sent, str) else "")
        return route.judge(decoded, aids=AID_MARK in body)

    def fault_answer(self, admitted: Admitted, fault: Fault, answer: Answer) -> Answer:
        """Return the answer of a fault in place of the true one.

        A fault that lets a request succeed changes a success only: a refusal stays what it is.
        Its errors stay as well, so that every refused object is still accounted for.
        """
        call = admitted.call
        if fault.ending == "success":
            return queued(fault, answer)
        if fault.html:
            return page(fault, answer)
        word = windows.fault_headers if fault.status == 429 else windows.headers
        headers = word(self._dialect, admitted.ruling, call.now)
        body = dumps({"message": FAULT_REASONS[fault.status]})
        return msgspec.structs.replace(answer, status=fault.status, body=body, headers=headers)

    def too_long(self) -> Answer:
        """Return the answer to a body that the server did not even read to its end."""
        return too_long_to_read()


def _track_with(caps: Caps) -> Judge:
    return lambda body, *, aids: rules.judge(body, caps, aids=aids)


def _unauthorized(sent: str) -> Answer:
    """Return a 401, which echoes what was sent as the key, as the real one does."""
    readable = sent.encode("utf-8", "replace").decode()  # headers may hold any bytes
    return plain(401, INVALID_KEY.format(readable), windows.unauthorized_headers())
