"""What a request to legacy Appboy looks like, and what its answers mean for a batch."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.forms import Found
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
from ingest.quoting import masked
from ingest.rates import WindowLimit
from ingest.records import KINDS, Batch, Column, Partition
from ingest.serverwords import server_word
from ingest.sinks.appboy.rows import ENDPOINTS, ROWS, SENDS
from ingest.sinks.appboy.schema import AppboySchema
from ingest.sinks.appboy.sink import COMPLAINT, DESTINATION, SETTINGS, AppboySink, AppboyWire
from ingest.sinks.base import Choice
from ingest.validation import Problem

GROUP = "5e7c1f9a-0000-4b1d-8a3e-abcdefabcdef"
URL = "https://api.appboy.com"
WIRE = AppboyWire(ROWS["track"], GROUP)
DELETE = AppboyWire(ROWS["delete"], GROUP)


def column(*fragments: bytes) -> Column:
    """Make a column of records of as many users, called by their fragments."""
    rows = range(len(fragments))
    return Column.of(fragments, [f.decode().strip('"') for f in fragments], rows, rows)


def batch(*counts: int) -> Batch:
    """Make a batch of so many records per slot, of 3 attributes and 2 events if not said."""
    filled = counts or (3, 2, 0)
    return Batch(1, 1, tuple(column(*(b'"u%d"' % n for n in range(many))) for many in filled))


def answer(body: bytes | object, status: int = 200, truncated: bool = False) -> Outcome:
    """Interpret an answer to a batch."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WIRE.interpret(batch(), Response(status, {}, raw, 0.0, truncated))


def delivered(body: bytes | object, status: int = 200) -> Delivered:
    """Interpret an answer that is a success."""
    outcome = answer(body, status)
    assert isinstance(outcome, Delivered)
    return outcome


# --- totality -----------------------------------------------------------------------------------

garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)
complaint = st.sampled_from(
    ["'name' is required", "no user 'u1'", "no user 'u2'", f"bad group {GROUP}", "x@y.example", ""]
)
error_entries = (
    complaint
    | garbage
    | st.fixed_dictionaries(
        {},
        optional={
            "type": complaint | garbage,
            "input_array": garbage | st.sampled_from(["attributes", "events"]),
            "index": garbage | st.integers(-1, 3),
        },
    )
)
bodies = st.binary() | st.fixed_dictionaries(
    {},
    optional={
        "message": garbage | st.sampled_from(["success", "queued", f"Unknown {GROUP}"]),
        "errors": error_entries | st.lists(error_entries, max_size=8),
        "invalid_user_ids": garbage | st.lists(st.sampled_from(["u0", "u1", "x"])),
    },
).map(lambda value: json.dumps(value).encode())


@given(st.sampled_from(sorted(ROWS)), st.integers(100, 599), bodies, st.booleans())
@example("track", 200, b'{"errors":["a",' + b"[" * 500 + b"]" * 500 + b"]}", False)
@example("track", 200, b'{"errors":' * 100_000, False)
@example("track", 200, b'"errors"\xff\xfe', False)
def test_interpret_is_total(name: str, status: int, body: bytes, truncated: bool) -> None:
    """Any answer to any row gives an outcome about records of the batch, without the group id."""
    of = batch(*(2 for _ in ROWS[name].endpoint.slots))
    wire = AppboyWire(ROWS[name], GROUP)
    outcome = wire.interpret(of, Response(status, {}, body, 0.0, truncated))
    assert isinstance(outcome, get_args(Outcome))
    assert isinstance(outcome, Delivered) == (200 <= status < 300)
    assert GROUP not in repr(outcome)
    if isinstance(outcome, Delivered | Invalid):
        assert {(error.slot, error.index) for error in outcome.rejected} <= set(of.rows())
    if isinstance(outcome, Delivered):
        assert all(remark.code and remark.summary for remark in outcome.remarks)


@given(st.lists(complaint | st.text(max_size=9), max_size=80))
@example([f"{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(60)])
def test_every_complaint_is_counted_once(errors: list[str]) -> None:
    """Counts add up exactly, the different ones are few, and no code stands for two sentences."""
    remarks = delivered({"message": "success", "errors": errors}).remarks
    assert sum(remark.count for remark in remarks) == len(errors)
    assert len(remarks) <= MOST_REMARKS + 1
    assert len({remark.code for remark in remarks}) == len(remarks)
    assert all(remark.summary.startswith(COMPLAINT) or remark.code == OTHERS for remark in remarks)
    assert not any(c.isdigit() or c == "@" for remark in remarks for c in remark.summary)


# --- success ------------------------------------------------------------------------------------


@pytest.mark.parametrize("errors", [None, [], ""])
@pytest.mark.parametrize("status", [200, 201])
def test_success(status: int, errors: object) -> None:
    """The plain success, with or without an empty list of errors."""
    assert delivered({"message": "success", "errors": errors}, status) == Delivered(status)


def test_queued() -> None:
    """In maintenance a request is stored: delivered, counted as queued and never resent."""
    assert delivered({"message": "queued"}, 202) == Delivered(202, queued=True)


def test_texts_are_counted_and_no_record_is_blamed() -> None:
    """All are delivered; complaints that differ by the record alone are one."""
    errors = [
        "the event 'rented' of 'u1' is not valid",
        "the event 'bought' of 'u2' is not valid",
        "'time' is required",
        "'time' is required",
        "the event 'seen' of 'u3' is not valid",
    ]
    said = delivered({"message": "success", "errors": errors})
    assert said.rejected == ()
    assert [(remark.code, remark.count) for remark in said.remarks] == [
        ("the-event-of-is-not-valid", 3),
        ("time-is-required", 2),
    ]
    first = said.remarks[0]
    assert first.summary == f"{COMPLAINT}: the event … of … is not valid"


def test_different_complaints_have_different_codes() -> None:
    """A report is keyed by codes: no two sentences share the generic one."""
    errors = ["no such app", "bad attribute 'u7'", "…", ""]
    said = delivered({"message": "success", "errors": errors})
    assert [remark.code for remark in said.remarks] == [
        "no-such-app",
        "bad-attribute",
        "said-by-destination",
    ]
    assert said.remarks[-1].count == 2


def test_many_different_complaints_are_counted_together() -> None:
    """Beyond the bound they are one remark, and none is lost."""
    errors = [f"{chr(97 + n)}{chr(97 + n)} is odd" for n in range(26)]
    said = delivered({"message": "success", "errors": errors}).remarks
    assert len(said) == MOST_REMARKS + 1
    assert (said[-1].code, said[-1].count) == (OTHERS, 26 - MOST_REMARKS)


def test_a_single_text_may_come_without_its_list() -> None:
    """It is a complaint like any other; the rest of an odd answer is told beside it."""
    said = delivered({"message": "odd", "errors": "'name' is required"})
    assert [remark.code for remark in said.remarks] == ["odd-message-odd", "name-is-required"]


def test_an_error_with_an_index_is_believed() -> None:
    """Should one name its record, it takes that record alone."""
    error = {"type": "'name' is required", "input_array": "events", "index": 1}
    said = delivered({"message": "success", "errors": ["'time' is required", error]})
    assert said.rejected == (ItemError(1, 1, "invalid-name", "'name' is required"),)
    assert [remark.code for remark in said.remarks] == ["time-is-required"]


def test_an_echoed_group_id_is_not_shown() -> None:
    """It is the credential."""
    (remark,) = delivered({"message": "success", "errors": [f"odd {GROUP}"]}).remarks
    assert remark == Remark("odd", f"{COMPLAINT}: odd …")
    assert GROUP not in repr(remark)


# --- refusals -----------------------------------------------------------------------------------


def test_a_400_is_refused_with_all_that_it_says() -> None:
    """Nothing was processed and no record is named: the core looks for it."""
    said = answer({"message": "Bad Request", "errors": ["'name' is required", "no user 'u1'"]}, 400)
    assert isinstance(said, Refused)
    assert said.reason == (
        "the destination answered 400: Bad Request; 'name' is required; no user …"
    )


@pytest.mark.parametrize(
    "body",
    [{"message": "Bad Request"}, {"message": "Bad Request", "errors": [1]}, b"Bad Request"],
)
def test_a_400_that_says_little(body: object) -> None:
    """It is refused all the same."""
    assert answer(body, 400) == Refused(400, "the destination answered 400: Bad Request")


@pytest.mark.parametrize("status", [401, 404])
def test_an_unknown_group_halts(status: int) -> None:
    """No record is at fault, and the operator is told what to check."""
    said = answer({"message": f"Unknown app group id {GROUP}"}, status)
    assert isinstance(said, Unauthorized)
    assert "APPBOY_APP_GROUP_ID" in said.reason
    assert GROUP not in said.reason


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, Unauthorized),
        (413, TooLarge),
        (429, Throttled),
        (500, Unavailable),
        (503, Unavailable),
        (504, Unanswered),
        (405, Refused),
    ],
)
def test_other_statuses(status: int, kind: type[Outcome]) -> None:
    """Each means what the table of the documents says, or HTTP."""
    assert type(answer({"message": "x", "errors": ["y"]}, status)) is kind


def test_too_many_objects() -> None:
    """A request of more than the account takes is packed again."""
    assert answer({"message": "Max input length exceeded"}, 400) == TooMany(400)


def test_the_headers_tell_when_the_hour_ends() -> None:
    """The reset is in epoch seconds, and names of headers come in any case."""
    headers = {
        "X-RateLimit-Limit": "50000",
        "x-ratelimit-remaining": "49999",
        "X-RateLimit-Reset": "1700000900",
    }
    word = server_word(Response(429, headers, b"", 1_700_000_000.0))
    assert (word.throttled, word.limit, word.remaining, word.reset_in) == (
        True,
        50_000,
        49_999,
        900.0,
    )


# --- requests -----------------------------------------------------------------------------------


def test_a_request() -> None:
    """The group id is the first member of the body, and no header holds a credential."""
    request = WIRE.request(batch(1, 0, 2))
    assert (request.method, request.path) == ("POST", "/users/track")
    assert request.headers == (("Content-Type", "application/json"),)
    assert request.body == (
        b'{"app_group_id":"%b","attributes":["u0"],"purchases":["u0","u1"]}' % GROUP.encode()
    )


@given(st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_a_body_keeps_its_bound(counts: list[int]) -> None:
    """It has no more bytes than the batch and the overhead."""
    of = batch(*counts)
    assert len(WIRE.request(of).body) <= of.nbytes + WIRE.overhead


def test_nothing_shows_the_group_id() -> None:
    """Neither a wire nor a request shows the credential."""
    assert GROUP not in repr((WIRE, WIRE.request(batch())))
    assert WIRE.secrets == (GROUP,)


@pytest.mark.parametrize("group", ["", " ", "a b", "a\n", "gruppe-ä"])
def test_a_group_id_that_is_none(group: str) -> None:
    """A badly copied id is refused before it is sent, and not shown."""
    with pytest.raises(ConfigError, match="copy it again") as caught:
        AppboyWire(ROWS["track"], group)
    assert "gruppe" not in str(caught.value)


def test_what_a_second_copy_would_change() -> None:
    """Only attributes that overwrite may be repeated."""
    assert WIRE.repeatable(0, b'{"external_id":"u","tags":{"add":["x"]}}')
    assert not WIRE.repeatable(0, b'{"visits":{"inc":1}}')
    assert not WIRE.repeatable(1, b'{"name":"e"}')


def test_the_record_as_it_came() -> None:
    """Of users/track it is the fragment; of another row, what the row made it of."""
    assert WIRE.record_of(batch(), 0, b'{"a":1}') == b'{"a":1}'
    assert DELETE.record_of(batch(1, 1), 1, b'"a1"') == b'{"appboy_id":"a1"}'


# --- rows ---------------------------------------------------------------------------------------


def test_the_caps_are_those_of_the_documents() -> None:
    """50 in each array, counted apart; 50 in all of any other endpoint."""
    assert ROWS["track"].endpoint.caps[0].per_slot == (50, 50, 50)
    assert ROWS["track"].endpoint.caps[0].total == 150
    assert {row.endpoint.caps[0].total for row in ROWS.values() if row.items} == {50}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_rows_are_consistent(row: Any) -> None:
    """Every row describes each of its slots once, and all draw on one hourly budget."""
    endpoint = row.endpoint
    assert endpoint.limits == (WindowLimit(50_000, 3600.0),)
    assert (endpoint.pool, endpoint.counts) == ("appboy", "requests")
    assert len(endpoint.slots) == len(endpoint.kinds)
    assert all(len(caps.per_slot) == len(endpoint.slots) for caps in endpoint.caps)
    assert not row.items or len(row.items) == len(endpoint.slots)
    wire = AppboyWire(row, GROUP)
    kind = None if endpoint.kinds == KINDS else endpoint.kinds[0]
    (found,) = wire.schema.read(endpoint.example.encode(), kind)
    assert isinstance(found, Found)
    key, problems = wire.schema.examine(found.kind, found.record, 0.0, validate=True)
    assert not isinstance(key, Problem)
    assert problems == []
    assert wire.schema.encode(found, found.record).fragment


def test_which_rows_there_are() -> None:
    """What came later than Appboy is not offered."""
    assert list(ENDPOINTS) == ["track"]
    assert set(SENDS) == {
        *("delete", "push-remove", "email-status", "bounce-remove", "spam-remove"),
        "trigger-send",
    }
    assert not SENDS["trigger-send"].resendable
    assert SENDS["delete"].irreversible


def test_users_are_deleted_by_either_id() -> None:
    """The two arrays exclude each other, and unknown ids are refused by record."""
    found = [next(iter(DELETE.schema.read(line, None))) for line in (b"u1", b'{"appboy_id":"a1"}')]
    assert all(isinstance(one, Found) for one in found)
    encoded = [DELETE.schema.encode(one, one.record) for one in found if isinstance(one, Found)]
    assert [(one.slot, one.fragment) for one in encoded] == [(0, b'"u1"'), (1, b'"a1"')]
    assert encoded[0].partition != encoded[1].partition
    said = DELETE.interpret(
        batch(3, 0), Response(200, {}, b'{"deleted":2,"invalid_user_ids":["u1"]}', 0.0)
    )
    assert isinstance(said, Delivered)
    assert [(error.slot, error.index, error.code) for error in said.rejected] == [
        (0, 1, "unknown-user")
    ]


def test_a_body_of_a_row_starts_with_the_group_id_too() -> None:
    """What the records share comes after it."""
    of = Batch(1, 1, (column(b'"a@x.example"'),), 0, Partition("", b'"subscription_state":"x"'))
    body = AppboyWire(ROWS["email-status"], GROUP).request(of).body
    assert json.loads(body) == {
        "app_group_id": GROUP,
        "subscription_state": "x",
        "email": ["a@x.example"],
    }


# --- the sink and the destination ---------------------------------------------------------------

ENVIRON = {"APPBOY_REST_URL": URL, "APPBOY_APP_GROUP_ID": GROUP}


def test_the_sink_of_an_environment() -> None:
    """URL and group id come from the environment."""
    sink = AppboySink.from_env(ENVIRON)
    assert (sink.name, sink.host) == ("appboy", "api.appboy.com")
    assert sink.endpoint is ENDPOINTS["track"]
    assert (sink.overhead, sink.folding) == (WIRE.overhead, None)
    assert isinstance(sink.schema, AppboySchema)


def test_the_sink_of_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument it is the process's own environment."""
    monkeypatch.setenv("APPBOY_REST_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("APPBOY_APP_GROUP_ID", GROUP)
    assert AppboySink.from_env().host == "127.0.0.1:1"


@pytest.mark.parametrize("missing", ENVIRON)
def test_what_is_missing_is_named(missing: str) -> None:
    """The error says which variable would do."""
    environ = {name: value for name, value in ENVIRON.items() if name != missing}
    with pytest.raises(ConfigError, match=missing):
        AppboySink.from_env(environ)


def test_an_unknown_endpoint() -> None:
    """The choices are named."""
    with pytest.raises(ConfigError, match="track"):
        AppboySink(URL, GROUP, "alias-new")


def test_the_destination_opens_what_is_chosen() -> None:
    """Endpoint and settings are the choice's; the sandbox is led to by the environment."""
    sink = DESTINATION.open(ENVIRON, Choice(settings={"array_elements": "100"}))
    record = {"external_id": "u", "tags": [1] * 100}
    assert sink.schema.examine("attributes", record, 0.0, validate=True) == ("u", [])
    assert DESTINATION.open(ENVIRON, Choice("delete")).endpoint is SENDS["delete"]
    sandboxed = DESTINATION.sandboxed("http://127.0.0.1:9", "key")
    assert DESTINATION.open(sandboxed, Choice()).host == "127.0.0.1:9"


@pytest.mark.parametrize("settings", [{"elements": "1"}, {"array_elements": "many"}])
def test_a_setting_that_makes_no_sense(settings: dict[str, str]) -> None:
    """The error names what there is."""
    with pytest.raises(ConfigError, match="array_elements"):
        DESTINATION.open(ENVIRON, Choice(settings=settings))
    assert set(SETTINGS) == {"array_elements"}


def test_a_masked_complaint_stays_as_it_is() -> None:
    """What goes to a report has been masked once and for all."""
    assert masked(COMPLAINT) == COMPLAINT
