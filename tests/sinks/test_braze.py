"""What a request to Braze looks like, and what its answers mean for the records of a batch."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from ingest.errors import ConfigError
from ingest.outcomes import (
    MOST_REMARKS,
    OTHERS,
    Delivered,
    Invalid,
    ItemError,
    Outcome,
    Refused,
    Remark,
    Response,
    Throttled,
    TooLarge,
    TooMany,
    Unanswered,
    Unauthorized,
    Unavailable,
)
from ingest.records import Batch, Column
from ingest.sinks.base import Choice, HttpSink
from ingest.sinks.braze import AUTHS, DESTINATION, ENDPOINTS, BrazeSink, BrazeWire
from ingest.sinks.rows import ROWS
from ingest.sinks.rows.answers import GENERIC_CODE, error_code, interpret_row

KEY = "5e7c1f9a-0000-4b1d-8a3e-abcdefabcdef"
TRACK = ENDPOINTS["track"]
WIRE = BrazeWire(TRACK, KEY)
NOBODYS = "an entry of 'errors' names no record of the request"
REQUIRED = "'external_id' or 'braze_id' or 'user_alias' is required"


def column(*fragments: bytes) -> Column:
    """Make a column of records of as many users."""
    rows = range(len(fragments))
    return Column.of(fragments, [f"u{row}" for row in rows], rows, rows)


def batch(attributes: int = 0, events: int = 0, purchases: int = 0) -> Batch:
    """Make a batch of so many records per slot."""
    columns = tuple(
        column(*(b'{"n":%d}' % n for n in range(count)))
        for count in (attributes, events, purchases)
    )
    return Batch(1, 1, columns)


def answer(
    body: bytes | object, status: int = 201, of: Batch | None = None, truncated: bool = False
) -> Outcome:
    """Interpret an answer to a batch, of 3 attributes and 2 events if not said otherwise."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    said = Response(status, {}, raw, 0.0, truncated)
    return WIRE.interpret(of or batch(3, 2), said)


def delivered(body: bytes | object, status: int = 201, **options: Any) -> Delivered:
    """Interpret an answer that is a success."""
    outcome = answer(body, status, **options)
    assert isinstance(outcome, Delivered)
    return outcome


# --- totality -----------------------------------------------------------------------------------

garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)
error_entries = garbage | st.fixed_dictionaries(
    {},
    optional={
        "type": garbage | st.sampled_from([REQUIRED, "EMAIL_BAD_FORMAT", KEY]),
        "input_array": garbage | st.sampled_from(["attributes", "events", "purchases"]),
        "index": garbage | st.integers(-2, 4) | st.integers(0, 4).map(str),
    },
)
bodies = st.binary() | st.fixed_dictionaries(
    {},
    optional={
        "message": garbage
        | st.sampled_from(["success", "queued", "Max Input Length Exceeded", f"Bad {KEY}"]),
        "errors": garbage | st.lists(error_entries, max_size=6),
    },
).map(lambda value: json.dumps(value).encode())


@given(st.integers(100, 599), bodies, st.booleans())
@example(201, b"[" * 100_000, False)
@example(201, b'{"errors":' * 100_000, False)
@example(201, b"\xff\xfe", False)
def test_interpret_is_total(status: int, body: bytes, truncated: bool) -> None:
    """Any answer gives an outcome whose errors name records of the batch, and shows no key."""
    of = batch(3, 2)
    outcome = WIRE.interpret(of, Response(status, {}, body, 0.0, truncated))
    assert isinstance(outcome, get_args(Outcome))
    assert isinstance(outcome, Delivered) == (200 <= status < 300)
    assert KEY not in repr(outcome)
    if isinstance(outcome, Delivered | Invalid):
        assert {(error.slot, error.index) for error in outcome.rejected} <= set(of.rows())
        assert all(error.code and error.reason for error in outcome.rejected)
        assert len(set(outcome.rejected)) == len(outcome.rejected)
    if isinstance(outcome, Delivered):
        assert len(outcome.remarks) <= MOST_REMARKS + 1
        assert len({remark.code for remark in outcome.remarks}) == len(outcome.remarks)
    if isinstance(outcome, Invalid):
        assert status == 400
        assert outcome.rejected


# --- success ------------------------------------------------------------------------------------


@pytest.mark.parametrize("errors", [None, []])
@pytest.mark.parametrize("status", [200, 201, 202])
def test_success(status: int, errors: object) -> None:
    """The plain success, with or without an empty list of errors."""
    body = {"message": "success", "attributes_processed": 3, "errors": errors}
    assert delivered(body, status) == Delivered(status)


def test_queued() -> None:
    """In maintenance a request is stored: delivered, and counted as queued."""
    assert delivered({"message": "queued"}, 202) == Delivered(202, queued=True)


def test_indexed_errors_take_their_records_only() -> None:
    """The rest of the batch is accepted."""
    body = {
        "message": "success",
        "errors": [
            {"type": REQUIRED, "input_array": "events", "index": 1},
            {"type": "EMAIL_BAD_FORMAT", "input_array": "attributes", "index": 0},
            {"type": "BAD_DEVICE_ID", "input_array": "attributes", "index": 0},
            {"type": "BAD_DEVICE_ID", "input_array": "attributes", "index": "2"},
        ],
    }
    assert delivered(body) == Delivered(
        201,
        (
            ItemError(1, 1, "identifier-required", REQUIRED),
            ItemError(0, 0, "email-bad-format", "EMAIL_BAD_FORMAT"),
            ItemError(0, 0, "bad-device-id", "BAD_DEVICE_ID"),
            ItemError(0, 2, "bad-device-id", "BAD_DEVICE_ID"),
        ),
    )


@pytest.mark.parametrize(
    "error",
    [
        "a plain sentence",
        {"type": "a plain sentence"},
        {"type": "a plain sentence", "input_array": "events"},
        {"type": "a plain sentence", "input_array": "events", "index": 2},
        {"type": "a plain sentence", "input_array": "events", "index": -1},
        {"type": "a plain sentence", "input_array": "events", "index": True},
        {"type": "a plain sentence", "input_array": "events", "index": 0.0},
        {"type": "a plain sentence", "input_array": "events", "index": "-1"},
        {"type": "a plain sentence", "input_array": "events", "index": "٣"},
        {"type": "a plain sentence", "input_array": "purchases", "index": 0},
        {"type": "a plain sentence", "input_array": "user_identifiers", "index": 0},
        {"type": "a plain sentence", "input_array": ["events"], "index": 0},
        {"message": "a plain sentence", "index": 0},
    ],
)
def test_an_error_that_names_no_record_is_a_remark(error: object) -> None:
    """On a success nothing is guessed: the records count as delivered, and the text is kept."""
    expected = (Remark("unplaced-errors-a-plain-sentence", f"{NOBODYS}: a plain sentence"),)
    assert delivered({"message": "success", "errors": [error]}) == Delivered(201, remarks=expected)
    assert isinstance(answer({"message": "failed", "errors": [error]}, 400), Refused)


@pytest.mark.parametrize("errors", ["one", {"type": "one"}])
def test_errors_that_are_no_list(errors: object) -> None:
    """A single error may come without its list."""
    assert len(delivered({"message": "success", "errors": errors}).remarks) == 1


def test_an_error_of_no_known_type() -> None:
    """An error may be anything at all, and may give no reason."""
    said = delivered({"message": "success", "errors": [7, {"input_array": "events", "index": 0}]})
    assert said.rejected == (ItemError(1, 0, GENERIC_CODE, "no reason given"),)
    assert said.remarks == (
        Remark("unplaced-errors-no-reason-given", f"{NOBODYS}: no reason given"),
    )


def test_an_unnamed_array_is_clear_if_only_one_was_sent() -> None:
    """Some answers leave `input_array` out."""
    body = {"message": "success", "errors": [{"type": "EMAIL_BAD_FORMAT", "index": 1}]}
    assert delivered(body, of=batch(events=2)).rejected == (
        ItemError(1, 1, "email-bad-format", "EMAIL_BAD_FORMAT"),
    )


@pytest.mark.parametrize(
    ("body", "code", "summary"),
    [
        (b"", "answer-empty", "the answer 201 has an empty body, and no JSON"),
        (
            b"<html><title>Hi</title>",
            "answer-not-json-an-html-page-titled",
            "the answer 201 is no JSON: an HTML page titled …",
        ),
        (b'{"message":"succ', "answer-not-json", "the answer 201 is no JSON"),
        (b'{"message":"\xff"}', "answer-not-json", "the answer 201 is no JSON"),
        (
            {"message": f"no\x00 {KEY} for u1@example.com"},
            "odd-message-no-for",
            "the answer 201 has another message than 'success': no … for …",
        ),
        (
            {"message": 3},
            "answer-without-message",
            "the answer 201 has no message, not even 'success'",
        ),
        ([], "answer-without-message", "the answer 201 has no message, not even 'success'"),
    ],
)
def test_an_odd_success_is_a_success(body: object, code: str, summary: str) -> None:
    """Whatever its body looks like, a 2xx is never resent, and the oddity is told, masked."""
    assert delivered(body) == Delivered(201, remarks=(Remark(code, summary),))


def test_a_cut_answer_is_told() -> None:
    """Errors may be missing from an answer that was cut, even if what is left looks whole."""
    said = delivered({"message": "success"}, truncated=True)
    summary = "the answer 201 was cut short: refusals of single records may be missing"
    assert said.remarks == (Remark("answer-cut-short", summary),)


def test_equal_remarks_are_counted_together() -> None:
    """A sentence that stands there forty times is one remark of forty."""
    said = delivered({"message": "success", "errors": ["slow down"] * 40})
    assert said.remarks == (Remark("unplaced-errors-slow-down", f"{NOBODYS}: slow down", 40),)


def test_different_remarks_are_bounded() -> None:
    """Of hundreds of different sentences a few are kept, and all are counted."""
    errors = [f"{'abcdefghijklmnopqrstuvwxy'[n % 25]}x is odd" for n in range(50)]
    said = delivered({"message": "success", "errors": errors})
    assert len(said.remarks) == MOST_REMARKS + 1
    assert (said.remarks[-1].code, said.remarks[-1].count) == (OTHERS, 10)
    assert sum(remark.count for remark in said.remarks) == 50


# --- refusals -----------------------------------------------------------------------------------


def test_all_bad_is_a_list_of_verdicts() -> None:
    """A 400 with usable indices says which records are at fault; other entries do not matter."""
    body = {
        "message": "Valid data must be provided in the 'attributes', 'events', or 'purchases' "
        "fields.",
        "errors": [
            {"type": "'quantity' is not valid", "input_array": "events", "index": 0},
            "something else",
        ],
    }
    assert answer(body, 400) == Invalid(
        400, (ItemError(1, 0, "invalid-quantity", "'quantity' is not valid"),)
    )


@pytest.mark.parametrize("errors", [None, [], ["a"], [{"type": "a", "index": 99}]])
def test_a_400_without_a_usable_index_is_refused(errors: object) -> None:
    """Nobody knows which record it was."""
    said = answer({"message": "Bad syntax", "errors": errors}, 400)
    assert isinstance(said, Refused)
    assert "Bad syntax" in said.reason


@pytest.mark.parametrize(
    "body",
    [
        {"message": "Max Input Length Exceeded"},
        {"message": "error", "errors": ["max input length exceeded"]},
        {
            "message": "Max Input Length Exceeded",
            "errors": [{"type": "a", "input_array": "events", "index": 0}],
        },
        b"<p>Max Input Length Exceeded</p>",
        {"message": "The max number of ids per request was exceeded"},
    ],
)
def test_too_many_objects(body: object) -> None:
    """Whatever else the body holds, a smaller request is the answer."""
    assert answer(body, 400) == TooMany(400)


def test_too_large() -> None:
    """The bulk endpoint answers 400 to a body that is too large, others 413."""
    body = {
        "message": "Request Entity Too Large",
        "errors": [{"type": "a", "input_array": "events", "index": 0}],
    }
    assert answer(body, 400) == TooLarge(400)
    assert answer(b"", 413) == TooLarge(413)


def test_other_statuses_are_read_as_http() -> None:
    """An error list changes nothing about a status that is no verdict on records."""
    body = {"message": "x", "errors": [{"type": "a", "input_array": "events", "index": 0}]}
    kinds = {429: Throttled, 500: Unavailable, 504: Unanswered, 403: Unauthorized, 404: Refused}
    assert {status: type(answer(body, status)) for status in kinds} == kinds


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "the key's own instance"), (403, "users.track,"), (404, "/users/track is not known")],
)
def test_hints_are_those_of_braze(status: int, hint: str) -> None:
    """An operator is told what to look at, and never the key."""
    said = answer({"message": f"Invalid API key: {KEY}"}, status)
    assert isinstance(said, Unauthorized | Refused)
    assert hint in said.reason
    assert KEY not in said.reason


def test_the_permission_is_that_of_the_endpoint() -> None:
    """The bulk endpoint has a permission of its own."""
    wire = BrazeWire(ENDPOINTS["track-bulk"], KEY)
    said = wire.interpret(batch(1), Response(403, {}, b"{}", 0.0))
    assert isinstance(said, Unauthorized)
    assert "users.track.bulk" in said.reason


def test_an_endpoint_may_report_its_arrays_under_other_names() -> None:
    """How an answer names the arrays is data of the row."""
    row = replace(ROWS["track"], endpoint=replace(TRACK, reported_as=("a", "b", "c")))
    body = b'{"message":"success","errors":[{"type":"x","input_array":"b","index":0}]}'
    said = interpret_row(row, batch(1, 1), Response(201, {}, body, 0.0))
    assert said == Delivered(201, (ItemError(1, 0, GENERIC_CODE, "x"),))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("EXTERNAL_USER_ID_TOO_LARGE", "external-user-id-too-large"),
        ("'external_id' must be fewer than 988 bytes", "external-user-id-too-large"),
        (
            "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required",
            "identifier-required",
        ),
        ("provided external_id is blacklisted and disallowed", "blacklisted-external-user-id"),
        (
            "The value provided for the 'email' field is not a valid email.",
            "email-bad-format",
        ),
        ("'currency' must be an ISO 4217 currency", "invalid-currency"),
        ("Invalid 'properties' field", "invalid-properties"),
        ("'product_id' is required", "invalid-product-id"),
        (
            "The property '#/' did not contain a required property of 'product_id'",
            "schema-missing-property",
        ),
        (
            "The property '#/price' of type string did not match the following type: number",
            "schema-wrong-type",
        ),
        (
            "The property '#/' contains additional properties [x] outside of the schema when none "
            "are allowed",
            "schema-additional-properties",
        ),
        ("'secret_of_a_user' is not valid", GENERIC_CODE),
        ("JOHN.DOE@EXAMPLE.COM", GENERIC_CODE),
        ("[redacted]", GENERIC_CODE),
        ("", GENERIC_CODE),
    ],
)
def test_error_codes(text: str, code: str) -> None:
    """A code is a stable slug, and never holds a value."""
    assert error_code(text) == code


# --- requests -----------------------------------------------------------------------------------


def test_a_request() -> None:
    """Fragments go into their arrays as they are; the key goes into a header."""
    request = WIRE.request(batch(2, 0, 1))
    assert (request.method, request.path) == ("POST", "/users/track")
    assert request.body == b'{"attributes":[{"n":0},{"n":1}],"purchases":[{"n":0}]}'
    assert dict(request.headers) == {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {KEY}",
    }


def test_a_request_with_the_key_in_its_body() -> None:
    """Accounts of 2018-2020 know no header."""
    request = BrazeWire(TRACK, KEY, "body").request(batch(events=1))
    assert json.loads(request.body) == {"api_key": KEY, "events": [{"n": 0}]}
    assert "Authorization" not in dict(request.headers)


def test_an_empty_batch_is_an_object() -> None:
    """A body is JSON even without records."""
    for auth in AUTHS:
        assert json.loads(BrazeWire(TRACK, KEY, auth).request(batch()).body) in (
            {},
            {"api_key": KEY},
        )


objects = st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=2)
fragments = st.lists(objects.map(lambda value: json.dumps(value).encode()), max_size=4)


@given(fragments, fragments, fragments, st.sampled_from(AUTHS))
def test_a_body_is_what_its_fragments_say(
    attributes: list[bytes], events: list[bytes], purchases: list[bytes], auth: str
) -> None:
    """The body holds every record in order, only filled arrays, and keeps its byte bound."""
    wire = BrazeWire(TRACK, KEY, auth)
    given_ = dict(zip(TRACK.slots, (attributes, events, purchases), strict=True))
    of = Batch(1, 1, tuple(column(*rows) for rows in given_.values()))
    body = wire.request(of).body
    said = json.loads(body)
    said.pop("api_key", None)
    assert said == {
        name: [json.loads(row) for row in rows] for name, rows in given_.items() if rows
    }
    assert len(body) <= of.nbytes + wire.overhead
    if all(given_.values()):
        assert len(body) == of.nbytes + wire.overhead


def test_nothing_shows_the_key() -> None:
    """Neither a wire nor a request shows credentials or data."""
    for auth in AUTHS:
        wire = BrazeWire(TRACK, KEY, auth)
        request = wire.request(batch(1))
        assert KEY not in repr((wire, request, request.__rich_repr__()))
        assert "/users/track" in repr(request)


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "schlüssel"])
def test_a_key_that_no_header_can_carry(key: str) -> None:
    """A badly copied key is refused before it is sent, and not shown."""
    with pytest.raises(ConfigError, match="copy it again") as caught:
        BrazeWire(TRACK, key)
    assert "schl" not in str(caught.value)


def test_an_unknown_auth() -> None:
    """The choices are named."""
    with pytest.raises(ConfigError, match="bearer, body"):
        BrazeWire(TRACK, KEY, "basic")


@pytest.mark.parametrize(
    ("slot", "fragment", "harmless"),
    [
        (0, b'{"external_id":"u","plan":"pro","tags":{"add":["x"]}}', True),
        (0, b'{"visits":{"inc":1}}', False),
        (0, b'{"pets":{"$add":[{"id":1}]}}', False),
        (0, b'{"visits":{"\\u0069nc":1}}', False),
        (1, b'{"name":"e"}', False),
        (2, b'{"product_id":"p"}', False),
    ],
)
def test_what_a_second_copy_would_change(slot: int, fragment: bytes, harmless: bool) -> None:
    """Only attributes that overwrite may be repeated; an escape in a key is not trusted."""
    assert WIRE.repeatable(slot, fragment) is harmless


# --- sinks --------------------------------------------------------------------------------------


def test_the_sink_of_an_environment() -> None:
    """URL and key come from the environment."""
    environ = {"BRAZE_REST_URL": "https://rest.iad-01.braze.com/", "BRAZE_API_KEY": KEY}
    sink = BrazeSink.from_env(environ, endpoint="track-bulk")
    assert (sink.name, sink.host) == ("braze", "rest.iad-01.braze.com")
    assert sink.endpoint is ENDPOINTS["track-bulk"]
    assert sink.overhead == WIRE.overhead


def test_the_sink_of_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument it is the process's own environment."""
    monkeypatch.setenv("BRAZE_REST_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("BRAZE_API_KEY", KEY)
    assert BrazeSink.from_env().host == "127.0.0.1:1"


def test_a_missing_key_is_named() -> None:
    """The error says which variables would do."""
    with pytest.raises(ConfigError, match="BRAZE_API_KEY_FILE"):
        BrazeSink.from_env({"BRAZE_REST_URL": "https://rest.iad-01.braze.com"})


def test_an_unknown_endpoint() -> None:
    """The choices are named."""
    with pytest.raises(ConfigError, match="track, track-bulk"):
        BrazeSink("https://rest.iad-01.braze.com", KEY, "zzz")


@pytest.mark.parametrize("endpoint", ["delete", "/users/delete"])
def test_the_sink_of_a_row(endpoint: str) -> None:
    """Any row of the table is an endpoint, by its name or by its path."""
    sink = BrazeSink("https://rest.iad-01.braze.com", KEY, endpoint)
    assert sink.endpoint is DESTINATION.sends["delete"]
    assert sink.folding is None


def test_the_destination_opens_what_was_chosen() -> None:
    """The row of the registry makes a sink of an environment, and leads it to a sandbox."""
    environ = DESTINATION.sandboxed("http://127.0.0.1:1", KEY)
    default = DESTINATION.open(environ, Choice())
    assert (default.endpoint, default.host) == (TRACK, "127.0.0.1:1")
    chosen = DESTINATION.open(environ, Choice(endpoint="remove", auth="body"))
    assert chosen.endpoint is DESTINATION.sends["remove"]
    of = Batch(1, 1, (column(b'"u1"'),))
    assert json.loads(chosen.wire.request(of).body) == {"api_key": KEY, "external_ids": ["u1"]}


def test_an_import_takes_track_alone_and_a_send_the_rest() -> None:
    """The two lists of the destination share no name, and the default endpoint is the first."""
    assert next(iter(DESTINATION.endpoints)) == "track"
    assert set(DESTINATION.endpoints) | set(DESTINATION.sends) == set(ROWS)
    assert not set(DESTINATION.endpoints) & set(DESTINATION.sends)


def test_another_key_is_noticed_without_keeping_any() -> None:
    """The hash of the credential depends on key and salt, and shows neither."""

    def hashed(key: str, salt: bytes) -> str:
        sink: HttpSink = BrazeSink("https://rest.iad-01.braze.com", key)
        return sink.credential_hash(salt)

    assert hashed("a", b"1") == hashed("a", b"1")
    assert len({hashed("a", b"1"), hashed("b", b"1"), hashed("a", b"2")}) == 3


@pytest.mark.parametrize("row", ENDPOINTS.values(), ids=ENDPOINTS)
def test_rows_are_consistent(row: Any) -> None:
    """Every row describes each of its slots once, and its caps shrink step by step."""
    assert len(row.slots) == len(row.kinds)
    totals = [caps.total for caps in row.caps]
    assert totals == sorted(set(totals), reverse=True)
    assert all(len(caps.per_slot) == len(row.slots) for caps in row.caps)
