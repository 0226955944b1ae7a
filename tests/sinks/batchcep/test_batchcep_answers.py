"""What an answer of Batch CEP means for the records of a batch."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.intake import Intake, IntakeRules
from ingest.outcomes import (
    MOST_REMARKS,
    OTHERS,
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
from ingest.records import EMPTY_COLUMN, Batch, Column
from ingest.sinks.batchcep import ENDPOINTS, BatchCepWire
from ingest.sinks.batchcep.answers import GENERIC_CODE, NOBODYS, UNTOLD, UNTOLD_OF
from ingest.sinks.batchcep.settings import BatchCepSettings

KEY, PROJECT = "0123456789abcdef-key", "project_0123456789"
NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
TIME = "2026-01-02T03:00:00Z"
WIRE = BatchCepWire(ENDPOINTS["update"], KEY, PROJECT, BatchCepSettings())

RECORDS: list[tuple[str, dict[str, Any]]] = [
    ("attributes", {"external_id": "u1", "Plan": "a", "email": "a@b.co", "n": 1}),
    ("attributes", {"external_id": "u1", "Plan": "2026-01-01"}),
    ("attributes", {"external_id": "u2", "x": 1}),
    (
        "event",
        {"external_id": "u1", "name": "Paid", "time": TIME, "properties": {"Sum Of": 1}},
    ),
    ("event", {"external_id": "u1", "name": "Paid", "time": TIME, "app_id": "a"}),
    (
        "purchase",
        {"external_id": "u1", "product_id": "p", "currency": "EUR", "price": 1, "time": TIME}
        | {"properties": {"n": 1}},
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
        (error(1, "x"), 0, 2, "x"),
        (error(1), 0, 2, "x"),
        (error(0, "sum_of", "event"), 1, 0, "properties.Sum Of"),
        (error(0, "app_id", "event"), 1, 1, "app_id"),
        (error(0, "price", "event"), 2, 0, "price"),
        (error(0, "purchase", "event"), 2, 0, ""),
        (error(0, "purchase", "what"), 2, 0, ""),
        (error(2, "seen"), 1, 2, "name"),
        (error(2, "unknown", "event"), 1, 2, ""),
        (error(2, None, "event"), 1, 2, ""),
        (error(1, "x", "event"), 0, 2, "x"),
    ],
)
def test_a_record_of_which_nothing_was_taken_is_rejected(
    said: dict[str, Any], slot: int, row: int, field: str
) -> None:
    """An event is one piece, and an attribute may be all that was sent for its record."""
    code = said["category"].replace(" ", "-") + "-refused"
    assert partial(said) == Delivered(202, (ItemError(slot, row, code, "bad value", field),))


@pytest.mark.parametrize(
    ("said", "slot", "row", "field"),
    [
        (error(0, "$email_address"), 0, 0, "email"),
        (error(0, "n", "event attribute"), 2, 0, "properties.n"),
        (error(0, "price"), 2, 0, "price"),
        (error(0, "price", "event attribute"), 2, 0, "price"),
        (error(2, "unknown", "event attribute"), 1, 2, ""),
    ],
)
def test_a_record_of_which_a_piece_was_taken_is_delivered(
    said: dict[str, Any], slot: int, row: int, field: str
) -> None:
    """With a letter about the piece, by the name that the source has for it."""
    code = said["category"].replace(" ", "-") + "-refused"
    assert partial(said) == Delivered(202, pieces=(ItemError(slot, row, code, "bad value", field),))


@pytest.mark.parametrize(
    ("said", "slot", "row", "field", "of"),
    [
        (error(0, "paid", "event"), 1, 0, "name", 2),
        (error(0, None, "event"), 1, 0, "", 3),
        (error(0, "unknown", "event"), 1, 0, "", 3),
        (error(0, "n"), 0, 0, "n", 2),
        (error(0, "n", None), 0, 0, "n", 2),
    ],
)
def test_what_several_records_may_mean_says_so(
    said: dict[str, Any], slot: int, row: int, field: str, of: int
) -> None:
    """The first of the likeliest ones gets the letter, which says how many there are."""
    outcome = partial(said)
    (letter,) = (*outcome.rejected, *outcome.pieces)
    assert (letter.slot, letter.index, letter.field) == (slot, row, field)
    assert letter.reason == f"bad value ({UNTOLD_OF.format(of)})"
    assert bool(outcome.rejected) == (slot == 1)


def test_each_error_about_events_of_one_name_is_about_another_one() -> None:
    """As many are rejected as were refused, and never more than there are."""
    said = error(0, "paid", "event")
    for errors, rows in ((1, [0]), (2, [0, 1]), (3, [0, 1])):
        rejected = partial(*[said] * errors).rejected
        assert [(piece.slot, piece.index) for piece in rejected] == [(1, row) for row in rows]


def test_a_record_is_rejected_once_nothing_of_it_is_left() -> None:
    """Its errors come together, and all of them are rejections then."""
    outcome = partial(error(0, "$email_address"), error(0, "n"))
    assert [(each.index, each.field) for each in outcome.rejected] == [(0, "email"), (0, "n")]
    assert outcome.pieces == ()


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
    assert partial(error(index), error(index)).remarks == (
        Remark("unplaced-errors-bad-value", f"{NOBODYS}: bad value", 2),
    )


def test_an_error_for_each_of_many_users_is_no_remark_for_each() -> None:
    """Of 20,000 different sentences a few are told apart, and all are counted."""
    letters = "abcdefghij"
    reasons = [
        f"{''.join(letters[int(digit)] for digit in str(n))} is odd for u{n}" for n in range(20_000)
    ]
    remarks = partial(*(error(None) | {"reason": reason} for reason in reasons)).remarks
    assert len(remarks) == MOST_REMARKS + 1
    assert sum(remark.count for remark in remarks) == 20_000
    assert (remarks[-1].code, remarks[-1].count) == (OTHERS, 20_000 - MOST_REMARKS)


def test_a_remark_holds_no_value_of_a_record() -> None:
    """Errors that differ by the user alone are one, and name no user."""
    said = [error(None) | {"reason": f"user u{n}@example.com is '{n}'"} for n in range(40)]
    assert partial(*said).remarks == (
        Remark("unplaced-errors-user-is", f"{NOBODYS}: user … is …", 40),
    )


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
    outcome = partial(error(1, "x", category))
    assert [letter.code for letter in (*outcome.rejected, *outcome.pieces)] == [code]


def test_the_same_error_is_counted_once() -> None:
    """Two different ones of one record are two."""
    pieces = partial(error(1, "x"), error(1, "x"), error(1, "x", "other")).rejected
    assert [piece.code for piece in pieces] == ["attribute-refused", "other-refused"]


def test_an_error_without_a_reason_says_so() -> None:
    """Nor need an error be an object, or in a list."""
    outcome = answer(202, {"code": "X", "errors": {"bulk_index": 1, "attribute": "x"}})
    assert outcome == Delivered(
        202, rejected=(ItemError(0, 2, GENERIC_CODE, "no reason given", "x"),)
    )
    (remark,) = partial("broken").remarks
    assert remark.summary == f"{NOBODYS}: broken"


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
        (b"", {}, "has an empty body, and no JSON"),
        (b"<html><title>ok</title>", {}, "is no JSON: an HTML page titled …"),
        (b"{}", {}, "has no code"),
        (
            b'{"code":"SUCCESS_WITH_PARTIAL_ERRORS"}',
            {},
            "another code than 'SUCCESS', and no errors: success with partial errors",
        ),
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
    assert said in remark.summary
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
        (408, Unavailable),
        (500, Unanswered),
        (501, Refused),
        (502, Unanswered),
        (503, Unavailable),
        (504, Unanswered),
        (599, Unanswered),
    ],
)
def test_other_statuses_mean_what_they_mean(status: int, kind: type[Outcome]) -> None:
    """With the code of the destination, and a hint where one helps.

    Of its server errors 503 alone is documented as maintenance: after any other one the events may
    have been kept.
    """
    outcome = answer(status, {"error_code": "SOME_CODE", "error_message": f"about {KEY}"})
    assert isinstance(outcome, kind)
    if isinstance(outcome, Refused | Unauthorized | Unavailable | Unanswered):
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
        for piece in (*outcome.rejected, *outcome.pieces):
            assert piece.index < len(BATCH.columns[piece.slot])
        bad = {(piece.slot, piece.index) for piece in outcome.rejected}
        assert not bad & {(piece.slot, piece.index) for piece in outcome.pieces}


def test_properties_of_another_form_are_no_obstacle() -> None:
    """On trust, or once they were dropped, a record may have come with anything."""
    fragment = b'[{"name":"paid","attributes":{"app_id":"a"}},{"properties":[],"app_id":"a"}]'
    batch = Batch(1, 1, (EMPTY_COLUMN, Column.of([fragment], ["u"], [0], [0]), EMPTY_COLUMN))
    body = json.dumps({"code": "X", "errors": [error(0, "app_id")]}).encode()
    outcome = WIRE.interpret(batch, Response(202, {}, body, 0.0))
    assert isinstance(outcome, Delivered)
    assert [piece.field for piece in outcome.pieces] == ["app_id"]
