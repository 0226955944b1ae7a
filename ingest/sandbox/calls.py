"""The seam between the server and its destinations: what arrives, what is said, who says it.

This module decides which destination a request is for, asking each in turn, and how a fault is
worded by those that answer in `{"message": ...}`. A further destination is another table beside
`braze`, `appboy` and `batchcep`, and one more element of `Routes`.

It knows no path, no key and no limit; `now` is an argument (wall clock, epoch seconds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from ingest.codec import dumps, loads
from ingest.records import UserKey
from ingest.sandbox.faults import Fault
from ingest.sandbox.rules import SERVER_ERROR, TOO_LARGE, Caps, Judge, Verdict
from ingest.sandbox.windows import Ruling, Windows

RATE_LIMITED: Final = "Rate limit exceeded"
UNSUPPORTED: Final = "Unsupported Media Type"

_PAGE: Final = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body><h1>{0}</h1></body>\r\n</html>\r\n"
)
FAULT_REASONS: Final[Mapping[int, str]] = {
    403: "403 Forbidden",
    429: RATE_LIMITED,
    500: SERVER_ERROR,
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
    """What is sent back, and whose objects the request carried.

    `sizes` are the objects sent by slot, `rejected` how many were refused of a request that was
    not; `updates` is what an accepted request counts in budgets of updates.
    """

    status: int
    body: bytes
    headers: dict[str, str]
    html: bool = False
    users: frozenset[UserKey] = frozenset()
    sizes: tuple[int, int, int] = (0, 0, 0)
    rejected: int = 0
    updates: int = 0


class Route(msgspec.Struct, frozen=True):
    """A path: the caps of its body, its own windows, and what it says to a decoded body.

    Paths that share a budget share one `windows`.
    """

    caps: Caps
    windows: Windows
    judge: Judge


class Admitted(msgspec.Struct, frozen=True):
    """A request that was let in: its place in the windows, and what will be said to its body."""

    call: Call
    ruling: Ruling
    judge: Callable[[bytes], Verdict]


class Destination(Protocol):
    """A table of paths and what each of them answers.

    Attributes:
        by_body: whether `admit` needs the body; without it a request is ruled at its arrival.
    """

    by_body: bool

    def place(self, path: str) -> str | None:
        """Return what a path is counted as; None when it is not here."""
        ...

    def claims(self, call: Call, body: bytes | None) -> bool | None:
        """Whether a request is for this destination; None when only the body can tell."""
        ...

    def admit(self, call: Call, body: bytes = b"") -> Admitted | Answer:
        """Let a request in (key, rate, headers), or refuse it."""
        ...

    def answer(self, admitted: Admitted, body: bytes, request: int, *, apply: bool) -> Answer:
        """Judge a body and, if `apply`, store what is accepted under this request number."""
        ...

    def fault_answer(self, admitted: Admitted, fault: Fault, answer: Answer) -> Answer:
        """Return the answer of a fault in place of the true one."""
        ...

    def too_long(self) -> Answer:
        """Return the answer to a body that the server did not even read to its end."""
        ...

    def reset(self) -> None:
        """Forget the arrivals; the store is reset by its owner."""
        ...


class Routes:
    """The destinations at one port; the last one takes whatever no other claims."""

    def __init__(self, destinations: Sequence[Destination]) -> None:
        self._destinations = tuple(destinations)

    @property
    def fallback(self) -> Destination:
        """The destination of requests that no other claims."""
        return self._destinations[-1]

    def place(self, path: str) -> str | None:
        """Return what a path is counted as; None when no destination has it."""
        places = (destination.place(path) for destination in self._destinations)
        return next((place for place in places if place is not None), None)

    def find(self, call: Call, body: bytes | None = None) -> Destination | None:
        """Return whom a request is for; None when that needs the body, which was not given."""
        for destination in self._destinations[:-1]:
            claimed = destination.claims(call, body)
            if claimed is None:
                return None
            if claimed:
                return destination
        return self.fallback

    def reset(self) -> None:
        """Forget all arrivals."""
        for destination in self._destinations:
            destination.reset()


def is_json(headers: Mapping[str, str]) -> bool:
    """Whether the body claims to be JSON, and plain: compressed bodies are not documented."""
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return (
        content_type == "application/json"
        and headers.get("Content-Encoding", "identity").lower() == "identity"
    )


def plain(status: int, message: str, headers: dict[str, str] | None = None) -> Answer:
    """Return an answer of one message."""
    return Answer(status, dumps({"message": message}), headers or {})


def too_long_to_read() -> Answer:
    """Return the answer to a body that was not read to its end, as one message."""
    return plain(413, TOO_LARGE)


def told(verdict: Verdict, headers: dict[str, str]) -> Answer:
    """Return the answer that says a verdict."""
    return Answer(
        verdict.status,
        dumps(verdict.body),
        headers,
        users=verdict.users,
        sizes=verdict.sizes,
        rejected=verdict.rejected,
        updates=verdict.updates,
    )


def page(fault: Fault, answer: Answer) -> Answer:
    """Return the page of a gateway, which knows no destination and so no headers of one."""
    body = _PAGE.format(FAULT_REASONS[fault.status]).encode()
    return msgspec.structs.replace(answer, status=fault.status, body=body, headers={}, html=True)


def queued(fault: Fault, answer: Answer) -> Answer:
    """Return a success as maintenance words it; its errors stay, and so does a refusal."""
    if not fault.status or not 200 <= answer.status < 300:
        return answer
    told: dict[str, Any] = {"message": "queued"}
    true = loads(answer.body)
    told |= {name: true[name] for name in true if name.endswith("errors")}
    return msgspec.structs.replace(answer, status=fault.status, body=dumps(told))
