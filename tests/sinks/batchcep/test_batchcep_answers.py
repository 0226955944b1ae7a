"""What an answer of Batch CEP means for the records of a batch."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.intake import Intake, IntakeRules
from ingest.outcomes import (
    Delivered,
    ItemError,
    Outcome,
    Refused,
    Remark,
    Response,
    Throttled,
    TooLarge,
    Unanswered,
    Unauthorized,
    Unavailable,
)
from ingest.quoting import REASON_CHARS
from ingest.records import Batch, Column
from ingest.sinks.batchcep import ENDPOINTS, BatchCepWire
from ingest.sinks.batchcep.answers import GENERIC_CODE, SAID, UNTOLD
from ingest.sinks.batchcep.settings import BatchCepSettings

KEY, PROJECT = "0123456789abcdef-key", "project_0123456789"
NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
TIME = "2026-01-02T03:00:00Z"
WIRE = BatchCepWire(ENDPOINTS["update"], KEY, PROJECT, BatchCepSettings())

RECORDS: list[tuple[str, dict[str, Any]]] = [
    ("attributes", {"external_id": "u1", "Plan": "a", "email": "a@b.co"}),
    ("attributes", {"external_id": "u1", "Plan": "2026-01-01"}),
    ("attributes", {"external_id": "u2", "x": 1}),
    (
        "event",
        {"external_id": "u1", "name": "Paid", "time": TIME, "properties": {"Sum Of": 1}},
    ),
    ("event", {"external_id": "u1", "name": "Paid", "time": TIME, "app_id": "a"}),
    (
        "purchase",
        {"external_id": "u1", "product_id": "p", "currency": "EUR", "price": 1, "time": TIME},
    ),
    ("event", {"external_id": "u3", "name": "Seen", "time": TIME}),
]


def batch_of(records: list[tuple[str, dict[str, Any]]]) -> Batch:
    """Translate records into a batch, as the intake and the batcher do."""
    wire = BatchCepWire(ENDPOINTS["update"], KEY, PROJECT, BatchCepSettings())
    lines = [json.dumps({kind: record}).encode() for kind, record in records]
    rows = [
        row
        for taken in Intake(IntakeRules(), wire.schema).take(0, lines, 1, NOW)
        for chunk in taken.chunks
        for row in zip(chunk.slots, chunk.fragments, chunk.keys, chunk.positions, strict=True)
    ]
    assert len(rows) == len(records)
    columns = []
    for slot in range(3):
        of = [row for row in rows if row[0] == slot]
        columns.append(
            Column.of([r[1] for r in of], [r[2] for r in of], [r[3] for r in of], [0] * len(of))
        )
    return Batch(1, 1, tuple(columns))


BATCH = batch_of(RECORDS)


def answer(status: int, body: Any = None, *, raw: bytes | None = None, **more: Any) -> Outcome:
    data = json.dumps(body).encode() if raw is None else raw
    return WIRE.interpret(BATCH, Response(status, {}, data, 0.0, **more))


def partial(*errors: Any) -> Delivered:
    outcome = answer(202, {"code": "SUCCESS_WITH_PARTIAL_ERRORS", "errors": list(errors)})
    assert isinstance(outcome, Delivered)
    assert outcome.rejected == ()
    return outcome


def error(index: Any, attribute: Any = None, category: Any = "attribute") -> dict[str, Any]:
    told = {} if attribute is None else {"attribute": attribute}
    return {"category": category, "bulk_index": index, "reason": "bad value", **told}


def test_success_is_delivered() -> None:
    """202 is the ordinary success, and no queue."""
    assert answer(202, {"code": "SUCCESS"}) == Delivered(202)


@pytest.mark.parametrize(
    ("said", "slot", "row", "field"),
    [
        (error(0, "date(plan)"), 0, 1, "Plan"),
        (error(0, "plan"), 0, 1, "Plan"),
        (error(0, "$email_address"), 0, 0, "email"),
        (error(1, "x"), 0, 2, "x"),
        (error(0, "paid", "event"), 1, 0, "name"),
        (error(0, "sum_of", "event"), 1, 0, "properties.Sum Of"),
        (error(0, "app_id", "event"), 1, 1, "app_id"),
        (error(0, "price", "event"), 2, 0, "price"),
        (error(0, "purchase", "event"), 2, 0, ""),
        (error(2, "seen"), 1, 2, "name"),
    ],
)
def test_a_piece_that_is_refused_names_its_very_record(
    said: dict[str, Any], slot: int, row: int, field: str
) -> None:
    """The record whose value won, by the name that the source has for the piece."""
    code = f"{said['category']}-refused"
    assert partial(said).pieces == (ItemError(slot, row, code, "bad value", field),)


@pytest.mark.parametrize(
    ("said", "slot", "row"),
    [
        (error(0), 0, 0),
        (error(0, "unknown"), 0, 0),
        (error(0, 7), 0, 0),
        (error(2, "unknown"), 1, 2),
    ],
)
def test_a_piece_that_is_not_told_is_put_on_the_first_record(
    said: dict[str, Any], slot: int, row: int
) -> None:
    """And the reason says so."""
    assert partial(said).pieces == (
        ItemError(slot, row, "attribute-refused", f"bad value ({UNTOLD})"),
    )


@pytest.mark.parametrize("index", [None, -1, 3, True, "0", 1.0, 10**30])
def test_an_error_of_no_user_is_remarked(index: Any) -> None:
    """It is counted, and no record is blamed for it."""
    said = "an error that names no user of the request: bad value"
    assert partial(error(index), error(index)).remarks == (Remark(SAID, said, count=2),)


@pytest.mark.parametrize(
    ("category", "code"),
    [
        ("EVENT", "event-refused"),
        ("profile attribute", "profile-attribute-refused"),
        (None, GENERIC_CODE),
        ("<script>", GENERIC_CODE),
        ("x" * 500, GENERIC_CODE),
    ],
)
def test_a_sort_of_piece_is_a_code(category: Any, code: str) -> None:
    """Codes are few and short, whatever the destination calls a sort."""
    assert [piece.code for piece in partial(error(1, "x", category)).pieces] == [code]


def test_the_same_error_is_counted_once() -> None:
    """Two different ones of one record are two."""
    pieces = partial(error(1, "x"), error(1, "x"), error(1, "x", "other")).pieces
    assert [piece.code for piece in pieces] == ["attribute-refused", "other-refused"]


def test_an_error_without_a_reason_says_so() -> None:
    """Nor need an error be an object, or in a list."""
    outcome = answer(202, {"code": "X", "errors": {"bulk_index": 1, "attribute": "x"}})
    assert outcome == Delivered(
        202, pieces=(ItemError(0, 2, GENERIC_CODE, "no reason given", "x"),)
    )
    (remark,) = partial("broken").remarks
    assert remark.reason.endswith(": broken")


def test_a_reason_is_short_and_holds_no_secret() -> None:
    """Neither the key nor the project key, whatever the destination echoes."""
    said = error(0) | {"reason": f"key {KEY} of {PROJECT.upper()} " + "x" * 1000}
    (piece,) = partial(said).pieces
    assert KEY not in piece.reason
    assert PROJECT not in piece.reason.lower()
    assert len(piece.reason) <= REASON_CHARS
    assert piece.reason.endswith(f"({UNTOLD})")


@pytest.mark.parametrize(
    ("raw", "more", "said"),
    [
        (b"", {}, "is no JSON, but an empty body"),
        (b"<html><title>ok</title>", {}, "is no JSON: an HTML page titled 'ok'"),
        (b"{}", {}, "without a code"),
        (b'{"code":"SUCCESS_WITH_PARTIAL_ERRORS"}', {}, "SUCCESS_WITH_PARTIAL_ERRORS' alone"),
        (b'{"code":"SUCCESS"}', {"truncated": True}, "was cut short"),
        (b"\xff", {}, "is no JSON"),
    ],
)
def test_an_odd_success_is_delivered_with_a_remark(
    raw: bytes, more: dict[str, Any], said: str
) -> None:
    """2xx was taken, whatever the body looks like: nothing is ever resent."""
    outcome = answer(202, raw=raw, **more)
    assert isinstance(outcome, Delivered)
    (remark,) = outcome.remarks
    assert said in remark.reason
    assert outcome.pieces == ()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Refused),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, Refused),
        (413, TooLarge),
        (429, Throttled),
        (500, Unavailable),
        (503, Unavailable),
        (504, Unanswered),
    ],
)
def test_other_statuses_mean_what_they_mean(status: int, kind: type[Outcome]) -> None:
    """With the code of the destination, and a hint where one helps."""
    outcome = answer(status, {"error_code": "SOME_CODE", "error_message": f"about {KEY}"})
    assert isinstance(outcome, kind)
    if isinstance(outcome, (Refused, Unauthorized, Unavailable)):
        assert "SOME_CODE: about [redacted]" in outcome.reason


def test_an_error_code_alone_is_shown() -> None:
    """And a body without one is shown as it is."""
    outcome = answer(400, {"error_code": "SOME_CODE"})
    assert outcome == Refused(400, "the destination answered 400: SOME_CODE")
    assert answer(400, {"message": "no"}) == Refused(400, "the destination answered 400: no")


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 4), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["code", "errors", "bulk_index", "attribute", "category", "reason"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
_ERRORS = st.fixed_dictionaries(
    {},
    optional={
        "bulk_index": st.one_of(st.integers(-1, 4), _JSON),
        "attribute": st.one_of(
            st.sampled_from(["plan", "date(plan)", "paid", "sum_of", "$email_address", ")"]), _JSON
        ),
        "category": st.one_of(st.sampled_from(["attribute", "event"]), _JSON),
        "reason": _JSON,
    },
)


@given(
    st.sampled_from([200, 202, 400, 401, 403, 500]),
    st.one_of(
        st.binary(max_size=20),
        _JSON.map(json.dumps).map(str.encode),
        st.lists(_ERRORS, max_size=4)
        .map(lambda errors: json.dumps({"code": "PARTIAL", "errors": errors}))
        .map(str.encode),
    ),
)
def test_any_answer_is_an_outcome(status: int, body: bytes) -> None:
    """Nothing raises; every piece is of a record that is there."""
    outcome = WIRE.interpret(BATCH, Response(status, {}, body, 0.0))
    assert isinstance(outcome, get_args(Outcome))
    if status < 300:
        assert isinstance(outcome, Delivered)
        for piece in outcome.pieces:
            assert piece.index < len(BATCH.columns[piece.slot])


def test_properties_of_another_form_are_no_obstacle() -> None:
    """On trust, or once they were dropped, a record may have come with anything."""
    fragment = b'[{"name":"paid","attributes":{"app_id":"a"}},{"properties":[],"app_id":"a"}]'
    empty = Column(b"", (), (), (), ())
    batch = Batch(1, 1, (empty, Column.of([fragment], ["u"], [0], [0]), empty))
    body = json.dumps({"code": "X", "errors": [error(0, "app_id")]}).encode()
    outcome = WIRE.interpret(batch, Response(202, {}, body, 0.0))
    assert isinstance(outcome, Delivered)
    assert [piece.field for piece in outcome.pieces] == ["app_id"]
