"""The Braze side of the sandbox: paths, key, rate, and the answers of faults."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.codec import dumps, loads
from ingest.sandbox.braze import BULK, EXPORT, TRACK, Braze
from ingest.sandbox.calls import Admitted, Answer, Call
from ingest.sandbox.faults import FAULTS
from ingest.sandbox.rules import BAD_SYNTAX, parse_limits
from ingest.sandbox.store import Store
from ingest.sandbox.windows import Dialect, parse_rate

HEADERS = {"Authorization": "Bearer k", "Content-Type": "application/json; charset=utf-8"}
GOOD = {"attributes": [{"external_id": "u"}]}
MIXED = {"attributes": [{"external_id": "u"}, {}]}


def braze(rate: str = "", dialect: Dialect = "classic") -> Braze:
    return Braze(
        Store(keep=10, keep_bytes=10_000),
        key="k",
        caps=parse_limits("combined"),
        rate=parse_rate(rate),
        bulk_rate=parse_rate("50/1s"),
        export_rate=parse_rate("1/1m"),
        dialect=dialect,
    )


def admit(to: Braze, path: str = TRACK, now: float = 0.0, **changes: Any) -> Admitted | Answer:
    call = {"method": "POST", "headers": HEADERS} | changes
    return to.admit(Call(path=path, now=now, **call))


def ask(to: Braze, body: Any = GOOD, path: str = TRACK, **changes: Any) -> Answer:
    """Send a body, or raw bytes, and return the answer."""
    admitted = admit(to, path, **changes)
    if isinstance(admitted, Answer):
        return admitted
    raw = body if isinstance(body, bytes) else dumps(body)
    return to.answer(admitted, raw, 1, apply=True)


def message(answer: Answer) -> str:
    return str(loads(answer.body)["message"])


def test_a_good_request_succeeds_on_every_path() -> None:
    """Track, bulk and export share a store."""
    server = braze()
    assert [ask(server).status, ask(server, path=BULK).status] == [201, 201]
    assert loads(ask(server, {"external_ids": ["u"]}, EXPORT).body)["users"]


@pytest.mark.parametrize(
    ("path", "changes", "status", "text"),
    [
        ("/users/track/", {}, 403, "Access Denied"),
        ("/users", {}, 404, "Invalid URL"),
        ("/", {}, 404, "Invalid URL"),
        (TRACK, {"method": "GET"}, 404, "Invalid URL"),
        (TRACK, {"headers": {**HEADERS, "Content-Type": "text/plain"}}, 415, "Unsupported"),
        (TRACK, {"headers": {"Authorization": "Bearer k"}}, 415, "Unsupported"),
        (TRACK, {"headers": {**HEADERS, "Content-Encoding": "gzip"}}, 415, "Unsupported"),
    ],
)
def test_wrong_requests_are_refused_before_their_body(
    path: str, changes: dict[str, Any], status: int, text: str
) -> None:
    """Each with its status and a sentence in JSON."""
    answer = ask(braze(), path=path, **changes)
    assert (answer.status, answer.html) == (status, False)
    assert text in message(answer)


@pytest.mark.parametrize(
    ("sent", "echoed"), [("Bearer wrong", "wrong"), ("Bearer ", ""), ("k", "k"), ("\udcff", "?")]
)
def test_a_wrong_key_is_echoed(sent: str, echoed: str) -> None:
    """As the real one does, with the rate-limit headers empty."""
    answer = ask(braze("9/1s"), headers={**HEADERS, "Authorization": sent})
    assert (answer.status, message(answer)) == (401, f"Invalid API key: {echoed}")
    assert answer.headers["X-RateLimit-Remaining"] == ""


def test_without_a_header_the_key_may_be_in_the_body() -> None:
    """Accounts of 2018 to 2020; a wrong one is echoed, an absent one is an empty string."""
    headers = {"Content-Type": "application/json"}
    server = braze()
    assert ask(server, {**GOOD, "api_key": "k"}, headers=headers).status == 201
    wrong = ask(server, {**GOOD, "api_key": "x"}, headers=headers)
    absent = ask(server, GOOD, headers=headers)
    assert (wrong.status, message(wrong)) == (401, "Invalid API key: x")
    assert (absent.status, message(absent)) == (401, "Invalid API key: ")


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": 1,}', b'{"a": NaN}', b'{"a": "\xff"}'])
def test_a_body_that_is_not_json_is_bad_syntax(body: bytes) -> None:
    """Not UTF-8 is not JSON either."""
    answer = ask(braze(), body)
    assert (answer.status, message(answer)) == (400, BAD_SYNTAX)


def test_a_body_has_a_size_by_path() -> None:
    """4 MB get a 413, 2 MB of bulk a 400."""
    assert ask(braze(), b" " * 4_000_001).status == 413
    assert ask(braze(), b" " * 2_000_001, BULK).status == 400


def test_the_rate_counts_at_arrival() -> None:
    """Requests that were let in and never sent a body count; the next window is whole."""
    server = braze("2/1s")
    assert isinstance(admit(server), Admitted)
    assert isinstance(admit(server), Admitted)
    refused = admit(server)
    assert isinstance(refused, Answer)
    assert (refused.status, refused.headers["X-RateLimit-Reset"]) == (429, "1")
    assert message(refused)
    assert isinstance(admit(server, now=1.0), Admitted)


def test_every_path_has_its_own_windows() -> None:
    """The export's limit does not touch the track paths."""
    server = braze("1/1s")
    assert [ask(server, {"external_ids": ["u"]}, EXPORT).status for _ in range(2)] == [201, 429]
    assert [ask(server).status, ask(server, path=BULK).status, ask(server).status] == [
        201,
        201,
        429,
    ]
    server.reset()
    assert ask(server).status == 201


def test_a_wrong_key_costs_no_rate() -> None:
    """A 401 does not count in a window."""
    server = braze("1/1s")
    ask(server, headers={**HEADERS, "Authorization": "Bearer wrong"})
    assert ask(server).status == 201


def test_what_is_not_to_be_applied_is_judged_all_the_same() -> None:
    """The users are known, and nothing is stored."""
    store = Store(keep=1, keep_bytes=1)
    server = Braze(
        store,
        key="k",
        caps=parse_limits(75),
        rate=(),
        bulk_rate=(),
        export_rate=(),
        dialect="classic",
    )
    admitted = admit(server)
    assert isinstance(admitted, Admitted)
    answer = server.answer(admitted, dumps(GOOD), 1, apply=False)
    assert (answer.status, len(store)) == (201, 0)
    assert answer.users == {"u"}


def fault(name: str, body: Any = GOOD, dialect: Dialect = "classic") -> Answer:
    server = braze("9/3s,90/1h", dialect)
    admitted = admit(server, now=1.0)
    assert isinstance(admitted, Admitted)
    answer = server.answer(admitted, dumps(body), 1, apply=True)
    return server.fault_answer(admitted, FAULTS[name], answer)


@pytest.mark.parametrize(
    ("name", "status", "html"),
    [
        ("500", 500, False),
        ("503", 503, False),
        ("502html", 502, True),
        ("403html", 403, True),
        ("504-after", 504, True),
        ("429", 429, False),
    ],
)
def test_a_fault_answers_in_json_or_as_a_gateway_does(name: str, status: int, html: bool) -> None:
    """Pages of a gateway carry no rate-limit headers."""
    answer = fault(name)
    assert (answer.status, answer.html) == (status, html)
    assert answer.body.startswith(b"<html>") == html
    assert ("X-RateLimit-Limit" in answer.headers) == (not html)


def test_a_429_of_a_fault_is_worded_in_the_dialect() -> None:
    """It asks for the short wait."""
    assert fault("429").headers["X-RateLimit-Reset"] == "3"
    assert fault("429", dialect="mau").headers == {"X-Ratelimit-Retry-After": "2"}


def test_maintenance_queues_what_would_have_succeeded() -> None:
    """Objects that are refused stay listed; a refused request stays refused."""
    assert (fault("202").status, loads(fault("202").body)) == (202, {"message": "queued"})
    assert len(loads(fault("202", MIXED).body)["errors"]) == 1
    assert fault("202", {}).status == 400


def test_a_slow_answer_is_the_true_one() -> None:
    """Only late."""
    assert fault("slow").status == 201
