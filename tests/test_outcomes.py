"""What a status, its headers and its body mean, and that nothing a server says raises or leaks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.outcomes import (
    MOST_READ,
    OTHERS,
    Delivered,
    Outcome,
    Refused,
    Remark,
    Response,
    Throttled,
    TooLarge,
    Unanswered,
    Unauthorized,
    Unavailable,
    Words,
    classify,
    lowered,
    remarks_of,
)
from ingest.serverwords import _NUMBER, MAX_WAIT, ServerWord, _number, server_word

NOW = 1_700_000_000.0
"""Wall clock of the tests: Tue, 14 Nov 2023 22:13:20 GMT."""

KEY = "5e7c1f9a-0000-4b1d-8a3e-abcdefabcdef"


def response(
    status: int, body: bytes | object = b"", headers: Mapping[str, str] | None = None
) -> Response:
    """Make a response; a body that is not bytes is encoded as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, headers or {}, raw, NOW)


def word(status: int = 201, /, **headers: str) -> ServerWord:
    """Read headers given as keyword arguments, with underscores for dashes."""
    return server_word(
        response(status, headers={name.replace("_", "-"): text for name, text in headers.items()})
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
bodies = (
    st.binary()
    | st.text().map(lambda text: text.encode("utf-8", "replace"))
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {}, optional={"message": json_values, "errors": json_values, "error": json_values}
    ).map(lambda value: json.dumps(value).encode())
    | st.just(b"<html><title>Request Entity Too Large</title></html>")
)
header_text = (
    st.text(max_size=40)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    | st.text(alphabet="0123456789 :,+-GMTJanFebSun", max_size=40)
)
header_names = st.sampled_from(
    [
        "Retry-After",
        "retry-after",
        "DATE",
        "Location",
        "X-RateLimit-Limit",
        "x-ratelimit-remaining",
        "X-Ratelimit-Reset",
        "X-Ratelimit-Retry-After",
        "Content-Type",
    ]
) | st.text(max_size=20)
headers_of_any_kind = st.dictionaries(header_names, header_text, max_size=8)


# --- totality -----------------------------------------------------------------------------------


@given(st.integers(100, 599), headers_of_any_kind, bodies)
def test_classify_is_total(status: int, headers: dict[str, str], body: bytes) -> None:
    """Any status, headers and body give an outcome."""
    outcome = classify(Response(status, headers, body, NOW), secrets=(KEY,))
    assert isinstance(outcome, get_args(Outcome))
    assert outcome.status == status
    assert isinstance(outcome, Delivered) == (200 <= status < 300)


@pytest.mark.parametrize("status", [*range(100, 600), 0, 999])
def test_every_status_has_an_outcome(status: int) -> None:
    """No status is left out, those that HTTP does not know included."""
    assert classify(response(status)).status == status


@given(st.text(st.sampled_from("0123456789+-. ٣²e_"), max_size=18) | st.none())
@example("9" * 15)
@example("9" * 16)
def test_a_number_is_what_the_pattern_finds(text: str | None) -> None:
    """Plain digits are read without the pattern, and come to the same."""
    match = _NUMBER.fullmatch(text or "")
    assert _number(text) == (float(match[1]) if match else None)


@given(st.none() | st.integers(0, 4000), st.none() | st.integers(0, 4000))
def test_the_longer_wait_counts(after: int | None, other: int | None) -> None:
    """Whichever of the two headers asks for it, and the one alone where the other is missing."""
    named = {"retry-after": after, "x-ratelimit-retry-after": other}
    headers = {name: str(wait) for name, wait in named.items() if wait is not None}
    waits = [min(wait, MAX_WAIT) for wait in (after, other) if wait is not None]
    assert server_word(response(429, headers=headers)).retry_after == max(waits, default=None)


@given(st.integers(100, 599), headers_of_any_kind, st.floats(0, 4e9))
@example(429, {"Retry-After": "Tue, 99 Nov 2023 22:13:20 GMT"}, NOW)
@example(429, {"Retry-After": "1 1 1 1 1 1 1"}, NOW)
@example(429, {"Retry-After": "Mon, 01 Jan 0001 00:00:00 +2359"}, NOW)
@example(429, {"Retry-After": "9" * 5000}, NOW)
@example(429, {"Retry-After": "\udcff"}, NOW)
def test_server_word_is_total_and_sane(status: int, headers: dict[str, str], at: float) -> None:
    """Any headers give a word, and no number in it is nonsense."""
    response = Response(status, headers, b"", at)
    said = server_word(response)
    assert said == server_word(response, lowered(headers))
    assert said.throttled == (status == 429)
    for wait in (said.retry_after, said.reset_in):
        assert wait is None or (math.isfinite(wait) and 0 <= wait <= MAX_WAIT)
    assert 0 <= said.over_for <= MAX_WAIT
    assert not (said.over_for and said.reset_in)
    assert said.limit is None or said.limit >= 1
    assert said.remaining is None or said.remaining >= 0


# --- statuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, Delivered),
        (201, Delivered),
        (204, Delivered),
        (301, Refused),
        (304, Refused),
        (400, Refused),
        (401, Unauthorized),
        (404, Refused),
        (407, Unauthorized),
        (408, Unavailable),
        (413, TooLarge),
        (415, Refused),
        (425, Unavailable),
        (429, Throttled),
        (500, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unanswered),
        (520, Unanswered),
        (524, Unanswered),
        (599, Unavailable),
        (101, Unanswered),
        (700, Unanswered),
    ],
)
def test_status(status: int, kind: type[Outcome]) -> None:
    """Each status means what its documentation says."""
    assert type(classify(response(status))) is kind


def test_a_403_is_a_verdict_only_in_json() -> None:
    """The API's own 403 halts; a gateway's page, or an empty one, is an outage."""
    said = classify(response(403, {"message": "Access Denied"}))
    assert isinstance(said, Unauthorized)
    assert "Access Denied" in said.reason
    assert "permission" in said.reason
    for body in (b"", b"<html><title>Blocked</title></html>", b"Forbidden", b"[]", b'{"mess'):
        blocked = classify(response(403, body))
        assert isinstance(blocked, Unavailable)
        assert "gateway" in blocked.reason


@pytest.mark.parametrize(
    "body",
    [
        {"message": "Request Entity Too Large"},
        {"error": "payload is too large"},
        b"Request body too large",
        b"<html><title>400 Request Entity Too Large</title>",
    ],
)
def test_a_400_may_say_too_large(body: object) -> None:
    """Some endpoints answer 400 where others answer 413."""
    assert classify(response(400, body)) == TooLarge(400)


def test_a_code_of_one_record_is_not_a_too_large_body() -> None:
    """A too large id makes no body too large."""
    said = classify(response(400, {"message": "EXTERNAL_USER_ID_TOO_LARGE"}))
    assert isinstance(said, Refused)


def test_a_404_says_what_to_check() -> None:
    """A wrong path is named as what it is."""
    said = classify(response(404, {"message": "Invalid URL"}))
    assert said == Refused(
        404, "the destination answered 404: Invalid URL (check the REST URL and the path)"
    )


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://user:pw@other.example:99/path?key=1", "to the host other.example;"),
        ("/login", "a redirect;"),
        ("", "a redirect;"),
        ("http://[broken", "a redirect;"),
    ],
)
def test_a_redirect_names_the_host_only(location: str, shown: str) -> None:
    """Nothing of a location is shown but its host."""
    said = classify(response(302, headers={"LOCATION": location}))
    assert isinstance(said, Refused)
    assert shown in said.reason
    assert "pw" not in said.reason
    assert "key" not in said.reason


def test_a_wire_may_bring_its_own_hints() -> None:
    """What to check depends on the destination."""
    said = classify(response(401), hints={401: "ask Ann"})
    assert said == Unauthorized(401, "the destination answered 401 (ask Ann)")


# --- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [501, 505])
def test_a_method_that_is_not_spoken_means_another_host(status: int) -> None:
    """No wait helps: the operator is told to look at the URL."""
    said = classify(response(status, b"no"))
    assert isinstance(said, Refused)
    assert "check the REST URL" in said.reason


def test_a_401_does_not_echo_the_key() -> None:
    """The one answer that is known to show the credential."""
    said = classify(response(401, {"message": f"Invalid API key: {KEY}"}), secrets=(KEY,))
    assert isinstance(said, Unauthorized)
    assert KEY not in repr(said)
    assert "Invalid API key: [redacted]" in said.reason
    assert "check the API key" in said.reason


# --- what is said beside a success --------------------------------------------------------------

said_words = st.builds(
    Words,
    st.sampled_from(["an entry names nobody", "the answer is no JSON"]),
    st.sampled_from(
        ["", "…", "no user u1", "no user u2", "'time' is required", f"bad key {KEY}", "x@y.example"]
    )
    | st.text(max_size=12),
    st.sampled_from(["", "answer-not-json"]),
)


@given(st.lists(said_words, max_size=60), st.integers(1, 5))
def test_remarks_count_everything_and_are_few(said: list[Words], most: int) -> None:
    """Counts add up exactly, no two share a code, and no summary holds a value or the key."""
    remarks = remarks_of(said, secrets=(KEY,), most=most)
    assert sum(remark.count for remark in remarks) == len(said)
    assert len(remarks) <= most + 1
    assert len({remark.code for remark in remarks}) == len(remarks)
    for remark in remarks:
        assert remark.code
        assert not any(c.isdigit() or c == "@" for c in remark.summary + remark.code)
        assert KEY not in remark.summary


def test_a_remark_is_of_its_sort_and_of_the_words() -> None:
    """Words that differ by a value are one; other words, and another sort, are another."""
    said = [
        Words("it is odd", "no user u1", "odd"),
        Words("it is odd", "no user u2", "odd"),
        Words("it is bad", "no user u1", "bad"),
        Words("it is odd", sort="odd"),
        Words("it is odd", "1234"),
    ]
    assert remarks_of(said, secrets=()) == (
        Remark("odd-no-user", "it is odd: no user …", 2),
        Remark("bad-no-user", "it is bad: no user …"),
        Remark("odd", "it is odd"),
        Remark("said-by-destination", "it is odd"),
    )


def test_of_very_many_words_not_all_are_looked_at() -> None:
    """Those beyond are counted, even if they are like one that is known."""
    said = [Words("it is odd", f"no user u{n}") for n in range(MOST_READ + 5)]
    first, others = remarks_of([*said, said[0]], secrets=())
    assert (first.code, first.count) == ("no-user", MOST_READ + 1)
    assert (others.code, others.count) == (OTHERS, 5)


# --- pace ---------------------------------------------------------------------------------------


def test_classic_dialect() -> None:
    """A reset in epoch seconds is a distance from now."""
    said = word(
        X_RateLimit_Limit="250000", X_RateLimit_Remaining="249999", X_RateLimit_Reset="1700000060"
    )
    assert said == ServerWord(False, None, 250_000, 249_999, 60.0)


@given(st.floats(-2 * MAX_WAIT, 2 * MAX_WAIT))
def test_a_reset_lies_ahead_or_is_past(ahead: float) -> None:
    """An answer may take longer than its window: then it tells since when that is over."""
    reset = round(NOW + ahead, 3)
    said = word(X_RateLimit_Reset=f"{reset:.3f}")
    assert said.reset_in == min(max(0.0, reset - NOW), MAX_WAIT)
    assert said.over_for == min(max(0.0, NOW - reset), MAX_WAIT)


def test_seconds_left_are_never_past() -> None:
    """Fewer than none are nonsense, and tell of no moment."""
    assert word(X_RateLimit_Reset="-3") == ServerWord(False, None, None, None, 0.0)


def test_contract_dialect() -> None:
    """A small reset is seconds left; names come in any case."""
    said = word(201, **{"x-ratelimit-reset": "2128", "X-RATELIMIT-LIMIT": " 50000 "})
    assert said == ServerWord(False, None, 50_000, None, 2128.0)


def test_a_429_with_only_its_own_header() -> None:
    """The contract dialect drops the three headers on a 429 and names the wait alone."""
    said = word(429, **{"X-Ratelimit-Retry-After": "7"})
    assert said == ServerWord(True, 7.0, None, None, None)


def test_empty_headers_say_nothing() -> None:
    """On a 401 the headers are there, and empty."""
    said = word(401, X_RateLimit_Limit="", X_RateLimit_Remaining="", X_RateLimit_Reset="")
    assert said == ServerWord(False, None, None, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("86400", MAX_WAIT),
        ("1700000030", 30.0),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("soon", None),
        ("1_0", None),
        ("٣", None),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:50 -0000", 30.0),
        ("Tue, 14 Nov 2023 22:12:20 GMT", 0.0),
        ("Tue, 14 Nov 2093 22:13:20 GMT", MAX_WAIT),
        ("Tue, 14 Nov 99999 22:13:20 GMT", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    """Seconds and dates are read, nonsense is not believed."""
    assert word(503, Retry_After=text).retry_after == seconds


def test_a_date_is_read_against_the_clock_of_the_server() -> None:
    """Our own clock may be wrong by hours."""
    said = word(
        429,
        Date="Tue, 14 Nov 2023 10:00:00 GMT",
        Retry_After="Tue, 14 Nov 2023 10:00:05 GMT",
        X_RateLimit_Reset="1699956009",
    )
    assert said.retry_after == 5.0
    assert said.reset_in == 9.0


def test_the_longer_of_two_waits_counts() -> None:
    """A word only ever tightens."""
    assert word(429, Retry_After="3", X_Ratelimit_Retry_After="11").retry_after == 11.0


def test_negative_and_zero_counts() -> None:
    """A remaining below nothing is nothing; a limit of nothing is no limit that could be kept."""
    said = word(X_RateLimit_Limit="0", X_RateLimit_Remaining="-4")
    assert (said.limit, said.remaining) == (None, 0)
