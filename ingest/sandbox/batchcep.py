"""The Batch CEP side of the sandbox: bare arrays of edits, and budgets counted in updates.

This module decides the answer to a request when its body is there, because what it costs is the
number of its edits. It is a table beside `braze`, with the same store: a custom id is an external
id. No answer has rate-limit headers. What has no documented limit (bytes of a body, items of an
array) has none here.

It knows no sockets, no faults and no latency; `now` is an argument (wall clock, epoch seconds).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ingest.codec import dumps, loads
from ingest.records import ATTRIBUTES, EVENT, UserKey
from ingest.sandbox import edits
from ingest.sandbox.attributes import WRONG_TYPE, added, removed
from ingest.sandbox.buckets import Budget
from ingest.sandbox.calls import Admitted, Answer, Call, is_json, page, told
from ingest.sandbox.edits import AID_MARK, Edit, spellings_of
from ingest.sandbox.faults import Fault
from ingest.sandbox.objects import Object
from ingest.sandbox.rules import Verdict
from ingest.sandbox.store import Store, tally
from ingest.sandbox.windows import Ruling

UPDATE_EDITS: Final = 200
MASS_UPDATE_EDITS: Final = 10_000
"""Most edits of a request, by path."""

_PATH: Final = re.compile(r"/([2-9]|[1-9]\d)\.\d{1,2}/profiles/(update|mass-update)")
"""Any version from 2.0 on; the number of them is bounded, since each is counted apart."""

PROJECT: Final = "X-Batch-Project"
NO_WINDOWS: Final = Ruling(())

_CODES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("BAD_REQUEST", "the request could not be read"),
    401: ("AUTHENTICATION_INVALID", "the key or the project is missing or unknown"),
    403: ("FORBIDDEN", "the request is not allowed"),
    404: ("NOT_FOUND", "there is nothing at this path and method"),
    413: ("REQUEST_TOO_LARGE", "the body is too large to be read"),
    415: ("UNSUPPORTED_MEDIA_TYPE", "the body must be plain JSON"),
    429: ("TOO_MANY_REQUESTS", "more updates than the project may send: slow down"),
    500: ("INTERNAL_SERVER_ERROR", "something went wrong"),
    503: ("SERVICE_UNAVAILABLE", "maintenance: try again later"),
}


class Allowance(msgspec.Struct, frozen=True):
    """What a path takes: the most edits of a request, and the budget its updates come out of."""

    most: int
    budget: Budget


class BatchCep:
    """Answers calls out of a store.

    Args:
        key: the REST key that is accepted as a bearer; any project will do.
        update, mass_update: budgets of the two paths, in updates; an update is an edit.
    """

    by_body = True

    def __init__(self, store: Store, *, key: str, update: Budget, mass_update: Budget) -> None:
        self._store = store
        self._key = key
        self._allowances: Mapping[str, Allowance] = {
            "update": Allowance(UPDATE_EDITS, update),
            "mass-update": Allowance(MASS_UPDATE_EDITS, mass_update),
        }

    def place(self, path: str) -> str | None:
        """Return what a path is counted as; None when it is not here."""
        return path if _PATH.fullmatch(path) else None

    def claims(self, call: Call, body: bytes | None) -> bool | None:
        """Take its own paths, which no other destination has."""
        return self.place(call.path) is not None

    def reset(self) -> None:
        """Fill the budgets; the store is reset by its owner."""
        for allowance in self._allowances.values():
            allowance.budget.reset()

    def admit(self, call: Call, body: bytes = b"") -> Admitted | Answer:
        """Decide by key, headers, the shape of the body and the budget.

        A request that is refused as a whole, for whatever reason, costs nothing.
        """
        matched = _PATH.fullmatch(call.path)
        if matched is None or call.method != "POST":
            return _refusal(404)
        allowance = self._allowances[matched[2]]
        if call.headers.get("Authorization") != f"Bearer {self._key}":
            return _refusal(401)
        if not call.headers.get(PROJECT, "").strip():
            return _refusal(401)
        if not is_json(call.headers):
            return _refusal(415)
        try:
            decoded = loads(body)
        except ValueError:
            return _refusal(400)
        reason = edits.refuse_whole(decoded, allowance.most)
        if reason is not None:
            return msgspec.structs.replace(_refusal(400, reason), sizes=_sizes(decoded))
        if not allowance.budget.take(len(decoded), call.now):
            return _refusal(429)
        return Admitted(call, NO_WINDOWS, lambda body: self._judge(decoded, call.now, body))

    def answer(self, admitted: Admitted, body: bytes, request: int, *, apply: bool) -> Answer:
        """Judge a body and, if `apply`, store what is accepted under this request number."""
        verdict = admitted.judge(body)
        if apply and verdict.effect is not None:
            verdict.effect(request)
        return told(verdict, {})

    def _judge(self, decoded: list[Object], now: float, body: bytes) -> Verdict:
        sizes, users = _sizes(decoded), _users(decoded)
        aids = AID_MARK in body
        poison = edits.poison_of(decoded) if aids else None
        if poison is not None:
            answer = _worded(poison, edits.POISON if poison == 400 else None)
            return Verdict(poison, answer, sizes=sizes, users=users)
        judged = edits.judge_edits(decoded, now, aids=aids)
        answer = {"code": "SUCCESS"}
        if judged.errors:
            answer = {"code": "SUCCESS_WITH_PARTIAL_ERRORS", "errors": judged.errors}

        def effect(request: int) -> None:
            for edit in judged.edits:
                apply_edit(self._store, request, edit)

        return Verdict(
            202,
            answer,
            sizes=sizes,
            rejected=len(judged.errors),
            users=users,
            effect=effect,
            updates=len(decoded),
        )

    def fault_answer(self, admitted: Admitted, fault: Fault, answer: Answer) -> Answer:
        """Return the answer of a fault in place of the true one; a 202 is what success is."""
        if fault.ending == "success":
            return answer
        if fault.html:
            return page(fault, answer)
        body = dumps(_worded(fault.status))
        return msgspec.structs.replace(answer, status=fault.status, body=body, headers={})

    def too_long(self) -> Answer:
        """Return the answer to a body that the server did not even read to its end."""
        return _refusal(413)


def apply_edit(store: Store, request: int, edit: Edit) -> None:
    """Apply what is taken of an edit; a profile is there afterwards, whatever was taken."""
    custom_id = edit.custom_id
    profile = store.find(custom_id) or store.create(custom_id)
    store.touch(profile)
    # The id is part of what is counted: the same event of two users is no copy.
    if edit.attributes:
        encoded = dumps({"custom_id": custom_id, "attributes": edit.attributes})
        store.arrive(request, ATTRIBUTES, custom_id, encoded)
        store.change(profile, lambda state: change_attributes(state, edit.attributes))
    for event in edit.events:
        store.arrive(request, EVENT, custom_id, dumps({"custom_id": custom_id, **event}))
        tally(profile, EVENT, event["name"], event["time"])


def change_attributes(state: Object, attributes: Object) -> list[str]:
    """Apply accepted attributes in place under the keys they came with; return what was dropped.

    Of the spellings of an attribute (`spellings_of`) the last one set is the only one there.
    """
    reasons = []
    for key, value in attributes.items():
        known = [each for each in spellings_of(key) if each in state]
        if type(value) is dict:
            old = state[known[0]] if known else []
            if type(old) is not list:
                reasons.append(WRONG_TYPE)
                continue
            value = removed(added(old, value.get("$add", [])), value.get("$remove", []))
        for each in known:
            del state[each]
        if value is not None:
            state[key] = value
    return reasons


def _sizes(decoded: Any) -> tuple[int, int, int]:
    """Return the edits of a body, and their events, in the places of attributes and events."""
    if type(decoded) is not list:
        return (0, 0, 0)
    events = [edit.get("events") for edit in decoded if type(edit) is dict]
    return (len(decoded), sum(len(each) for each in events if type(each) is list), 0)


def _users(decoded: list[Object]) -> frozenset[UserKey]:
    return frozenset(edit["identifiers"]["custom_id"] for edit in decoded)


def _worded(status: int, reason: str | None = None) -> dict[str, Any]:
    code, message = _CODES[status]
    return {"error_code": code, "error_message": reason or message}


def _refusal(status: int, reason: str | None = None) -> Answer:
    return Answer(status, dumps(_worded(status, reason)), {})
