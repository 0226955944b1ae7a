"""The Appboy side of the sandbox: the paths of 2016, known by an `app_group_id` in the body.

This module decides the answer to a request when its body is there, because only the body tells who
asks. It is a table beside `braze`, with the same store, smaller caps, one window for all paths, and
errors that are plain strings: which object one is about is not told. Every refused object has
exactly one.

It knows no sockets, no faults and no latency; `now` is an argument (wall clock, epoch seconds).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ingest.codec import dumps, loads
from ingest.records import ATTRIBUTES, UserKey
from ingest.sandbox import rules, windows
from ingest.sandbox.attributes import CONTROL, LEGACY_ARRAYS, OPAQUE
from ingest.sandbox.braze import EXPORT, TRACK
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
from ingest.sandbox.objects import check
from ingest.sandbox.rows import DELETE, user_rows
from ingest.sandbox.rules import AID_MARK, Caps, Judge, Verdict
from ingest.sandbox.store import Store
from ingest.sandbox.windows import Dialect, Rate, Windows

GROUP: Final = "app_group_id"
_GROUP_MARK: Final = b'"app_group_id"'

CAPS: Final = Caps(per_slot=50)
"""50 attributes, 50 events and 50 purchases, counted apart; bodies of 4 MB."""

DIALECT: Final[Dialect] = "classic"
"""There was only one: the end of the window as epoch seconds."""

DELETE_BY: Final = {"external_ids": "external_id", "appboy_ids": "braze_id"}
"""Arrays of `/users/delete`, of which one is given; ids by the vendor kept their form."""

MISSING_GROUP: Final = "'app_group_id' is required"
UNKNOWN_GROUP: Final = "the app group is unknown"
NO_EXTERNAL_ID: Final = "'external_id' is required"
NESTED_ATTRIBUTE: Final = "attributes must not be nested"
UNKNOWN_OPERATOR: Final = "an attribute has an operator that is unknown"
NESTED_PROPERTY: Final = "'properties' must not be nested"

_OPERATORS: Final = ({"inc"}, {"add"}, {"remove"}, {"add", "remove"})


class Appboy:
    """Answers calls out of a store.

    Args:
        key: the app group id that is accepted.
        rate: windows of all its paths together.
    """

    by_body = True

    def __init__(self, store: Store, *, key: str, rate: tuple[Rate, ...]) -> None:
        self._store = store
        self._key = key
        shared = Windows(rate)
        rows: dict[str, Judge] = {
            DELETE: user_rows(store, DELETE_BY)[DELETE],
            EXPORT: lambda body, *, aids: judge_export(body, store),
            **contact_rows(store),
        }
        self.routes: Mapping[str, Route] = {
            TRACK: Route(CAPS, shared, judge_track),
            **{path: Route(Caps(), shared, judge) for path, judge in rows.items()},
        }

    def place(self, path: str) -> str | None:
        """Return what a path is counted as; None when it is not here."""
        return path if path in self.routes else None

    def claims(self, call: Call, body: bytes | None) -> bool | None:
        """Take what names an app group in the body, and has no header that names a key."""
        if call.path not in self.routes or "Authorization" in call.headers:
            return False
        if body is None:
            return None
        if _GROUP_MARK not in body:
            return False
        try:
            decoded = loads(body)
        except ValueError:
            return False
        return type(decoded) is dict and GROUP in decoded

    def reset(self) -> None:
        """Empty the window; the store is reset by its owner."""
        for route in self.routes.values():
            route.windows.reset()

    def admit(self, call: Call, body: bytes = b"") -> Admitted | Answer:
        """Decide by method, headers, app group and rate. What is no valid request costs no rate."""
        route = self.routes[call.path]
        if call.method != "POST":
            return plain(404, "Invalid URL")
        if not is_json(call.headers):
            return plain(415, UNSUPPORTED)
        if rules.judge_size(len(body), route.caps) is not None:
            return self.too_long()
        decoded = loads(body)  # it is JSON, or the request would not have been claimed
        group = decoded[GROUP]
        if type(group) is not str or not group:
            return plain(401, MISSING_GROUP)
        if group != self._key:
            return plain(404, UNKNOWN_GROUP)
        ruling = route.windows.arrive(call.now)
        if not ruling.allowed:
            return plain(429, RATE_LIMITED, windows.headers(DIALECT, ruling, call.now))
        return Admitted(call, ruling, lambda body: route.judge(decoded, aids=AID_MARK in body))

    def answer(self, admitted: Admitted, body: bytes, request: int, *, apply: bool) -> Answer:
        """Judge a body and, if `apply`, store what is accepted under this request number."""
        verdict = unindexed(admitted.judge(body))
        if apply:
            self._store.apply(request, verdict.items, LEGACY_ARRAYS)
            if verdict.effect is not None:
                verdict.effect(request)
        return told(verdict, windows.headers(DIALECT, admitted.ruling, admitted.call.now))

    def fault_answer(self, admitted: Admitted, fault: Fault, answer: Answer) -> Answer:
        """Return the answer of a fault in place of the true one; see `Braze.fault_answer`."""
        if fault.ending == "success":
            return queued(fault, answer)
        if fault.html:
            return page(fault, answer)
        word = windows.fault_headers if fault.status == 429 else windows.headers
        headers = word(DIALECT, admitted.ruling, admitted.call.now)
        body = dumps({"message": FAULT_REASONS[fault.status]})
        return msgspec.structs.replace(answer, status=fault.status, body=body, headers=headers)

    def too_long(self) -> Answer:
        """Return the answer to a body over its limit."""
        return too_long_to_read()


def judge_track(body: Any, *, aids: bool) -> Verdict:
    """Judge a decoded body of `/users/track` as it was in 2016; errors still have an index."""
    verdict = rules.judge(body, CAPS, aids=aids, checks=check_object)
    if verdict.status == 201:
        answer = {
            name: verdict.body[name] for name in ("message", "errors") if name in verdict.body
        }
        return msgspec.structs.replace(verdict, body=answer)
    return verdict


def unindexed(verdict: Verdict) -> Verdict:
    """Return the verdict with the first error of each object, as a plain string."""
    errors = verdict.body.get("errors")
    if not errors:
        return verdict
    first: dict[tuple[str, int], str] = {}
    for error in errors:
        first.setdefault((error["input_array"], error["index"]), error["type"])
    return msgspec.structs.replace(verdict, body=verdict.body | {"errors": list(first.values())})


def check_object(slot: int, obj: Any, key: UserKey | None) -> list[str]:
    """Return the errors of an object of this slot, by the rules of 2016; empty if none."""
    if type(obj) is not dict:
        return check(slot, obj, key)
    if type(key) is not str and not (slot == ATTRIBUTES and obj.get("push_token_import") is True):
        return [NO_EXTERNAL_ID]
    errors = check(slot, obj, key)
    if slot == ATTRIBUTES:
        return errors + _attribute_errors(obj)
    properties = obj.get("properties")
    if type(properties) is dict and any(type(each) in (list, dict) for each in properties.values()):
        errors.append(NESTED_PROPERTY)
    return errors


def _attribute_errors(obj: dict[str, Any]) -> list[str]:
    for name, value in obj.items():
        if name in CONTROL or name in OPAQUE:
            continue
        if type(value) is dict and value.keys() not in _OPERATORS:
            operator = any(each.startswith("$") for each in value)
            return [UNKNOWN_OPERATOR if operator else NESTED_ATTRIBUTE]
        if type(value) is list and any(type(each) in (list, dict) for each in value):
            return [NESTED_ATTRIBUTE]
    return []
