"""How the answers to sends name bad records, in all the shapes that are around."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.outcomes import Delivered, Invalid, ItemError, Outcome, Refused, Remark, Response
from ingest.records import EMPTY_COLUMN, Batch, Column, UserKey
from ingest.sinks.rows import ROWS
from ingest.sinks.rows.answers import interpret_row

UNKNOWN = "the destination knows no such user"


def batch(row: str, *keys: UserKey, slot: int = 0) -> Batch:
    """Make a batch of records of these users in one slot."""
    columns = [EMPTY_COLUMN] * len(ROWS[row].endpoint.slots)
    columns[slot] = Column.of([b"{}"] * len(keys), keys, range(len(keys)), range(len(keys)))
    return Batch(1, 1, tuple(columns))


def answer(row: str, of: Batch, body: dict[str, Any], status: int = 201) -> Outcome:
    """Interpret an answer to a request of a row."""
    return interpret_row(ROWS[row], of, Response(status, {}, json.dumps(body).encode(), 0.0))


def refusals(row: str, of: Batch, body: dict[str, Any]) -> list[tuple[int, str, str, bool]]:
    """Return index, code, reason and `already` of what is refused."""
    outcome = answer(row, of, {"message": "success"} | body)
    assert isinstance(outcome, Delivered)
    assert outcome.remarks == ()
    return [(one.index, one.code, one.reason, one.already) for one in outcome.rejected]


def test_unknown_users_of_a_deletion() -> None:
    """Each of their records is refused, and would be by a second request as well."""
    of = batch("delete", "a", "b", "a")
    body = {"deleted": 1, "invalid_user_ids": ["a"]}
    assert answer("delete", of, body) == Delivered(
        201,
        (
            ItemError(0, 0, "unknown-user", UNKNOWN, already=True),
            ItemError(0, 2, "unknown-user", UNKNOWN, already=True),
        ),
    )


@pytest.mark.parametrize(
    ("slot", "key", "entry"),
    [
        (0, "7", 7),
        (0, "7", "7"),
        (0, "7", ["7"]),
        (0, "7", {"external_id": "7"}),
        (1, ("braze_id", "b"), "b"),
        (2, ("alias", "l", "n"), {"alias_name": "n", "alias_label": "l"}),
        (2, ("alias", "l", "n"), {"user_alias": {"alias_name": "n", "alias_label": "l"}}),
    ],
)
def test_an_unknown_user_by_any_identifier(slot: int, key: UserKey, entry: object) -> None:
    """Whatever was sent is what comes back, and a number is an id there, never an index."""
    of = batch("delete", "other", key, slot=slot)
    outcome = answer("delete", of, {"message": "success", "invalid_user_ids": [entry]})
    assert isinstance(outcome, Delivered)
    assert [(one.slot, one.index) for one in outcome.rejected] == [(slot, 1)]


@pytest.mark.parametrize("entry", ["z", 0, "0", {"alias_name": "n"}, None, [[]]])
def test_an_unknown_user_who_was_not_sent(entry: object) -> None:
    """It names no record: the answer is kept as a remark, without the value."""
    of = batch("delete", "a", "b")
    outcome = answer("delete", of, {"message": "success", "invalid_user_ids": [entry]})
    code = "unplaced-invalid-user-ids-the-destination-knows-no-such-user"
    summary = f"an entry of 'invalid_user_ids' names no record of the request: {UNKNOWN}"
    assert outcome == Delivered(201, remarks=(Remark(code, summary),))


@pytest.mark.parametrize(
    "entry",
    [
        [1, "no such id"],
        ["no such id", 1],
        ["1", "no such id"],
        ["b", "no such id"],
        [1, "b", "no such id"],
        {"index": 1, "message": "no such id"},
        {"external_id": "b", "error": "no such id"},
        [{"index": 1, "type": "no such id"}],
    ],
)
def test_the_errors_of_a_rename(entry: object) -> None:
    """By index or by id, as a list or as an object: the record is found, and the sentence kept."""
    of = batch("rename", "a", "b", "c")
    expected = [(1, "rename-refused", "no such id", True)]
    assert refusals("rename", of, {"rename_errors": [entry]}) == expected


def test_a_sentence_that_names_an_index() -> None:
    """The index may stand in the text alone."""
    of = batch("remove", "a", "b")
    body = {"removal_errors": ["the id at index 1 is the primary one"]}
    expected = [(1, "removal-refused", "the id at index 1 is the primary one", False)]
    assert refusals("remove", of, body) == expected


def test_a_bare_index_has_a_reason_all_the_same() -> None:
    """Without a sentence the row's own one is told."""
    expected = [(0, "removal-refused", "the destination did not remove the id", False)]
    assert refusals("remove", batch("remove", "a"), {"removal_errors": [[0]]}) == expected


def test_a_known_code_is_kept() -> None:
    """A slug of the destination says more than the row's own."""
    expected = [(0, "bad-thing", "BAD_THING", False)]
    assert refusals("rename", batch("rename", "a"), {"rename_errors": [[0, "BAD_THING"]]}) == (
        expected
    )


def test_ids_are_compared_before_digits_are_taken_for_an_index() -> None:
    """The id "0" is that of the second record here."""
    of = batch("rename", "a", "0")
    assert refusals("rename", of, {"rename_errors": [["0", "busy"]]}) == [
        (1, "rename-refused", "busy", False)
    ]


@pytest.mark.parametrize("entry", ["busy", [9, "busy"], ["9", "busy"], {"message": "busy"}])
def test_an_error_of_nobody_is_a_remark(entry: object) -> None:
    """Without an index of the request nobody is refused, and the sentence is kept."""
    outcome = answer("rename", batch("rename", "a"), {"message": "success", "rename_errors": entry})
    assert isinstance(outcome, Delivered)
    assert outcome.rejected == ()
    busy = Remark(
        "unplaced-rename-errors-busy",
        "an entry of 'rename_errors' names no record of the request: busy",
    )
    assert busy in outcome.remarks


@pytest.mark.parametrize(
    ("row", "text", "already"),
    [
        ("alias-new", "the alias already exists", True),
        ("alias-new", "'alias_name' is not valid", False),
        ("identify", "no user has this user_alias", True),
        ("rename", "the new external_id is in use", True),
        ("rename", "the external_id is a deprecated one", True),
        ("remove", "external_id not found", True),
        ("remove", "the external_id is not a deprecated one", False),
        ("email-status", "no user has this email", False),
    ],
)
def test_errors_that_a_second_copy_earns(row: str, text: str, already: bool) -> None:
    """What a first request may have done is told apart from what was wrong all along."""
    ((_, _, _, told),) = refusals(row, batch(row, "a"), {"errors": [{"type": text, "index": 0}]})
    assert told is already


def test_all_refused_is_a_list_of_verdicts() -> None:
    """A 400 with identifiers or indices refuses its records; without any it refuses the bytes."""
    said = answer("delete", batch("delete", "a"), {"invalid_user_ids": ["a"]}, 400)
    assert said == Invalid(400, (ItemError(0, 0, "unknown-user", UNKNOWN, already=True),))
    said = answer("delete", batch("delete", "a"), {"invalid_user_ids": ["b"]}, 400)
    assert isinstance(said, Refused)


def test_an_index_needs_one_array() -> None:
    """Where several arrays were sent, a number alone names no record."""
    keys = ["a"]
    column = Column.of([b"{}"], keys, [0], [0])
    of = Batch(1, 1, (column, column, EMPTY_COLUMN))
    body = {"message": "success", "errors": [{"type": "x", "index": 0}]}
    outcome = answer("identify", of, body)
    assert isinstance(outcome, Delivered)
    assert outcome.rejected == ()
    assert len(outcome.remarks) == 1


def test_a_cut_answer_of_a_send_is_told() -> None:
    """Refusals may be missing, even where no message is expected."""
    response = Response(201, {}, b'{"deleted":1}', 0.0, truncated=True)
    outcome = interpret_row(ROWS["delete"], batch("delete", "a"), response)
    assert isinstance(outcome, Delivered)
    assert "cut short" in outcome.remarks[0].summary


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ({"deleted": 3, "message": "success"}, {}),
        ({"deleted": 3}, {}),
        ({"deleted": 1, "message": "success"}, {"fewer-than-sent": 2}),
        ({"deleted": 2, "invalid_user_ids": ["u2"]}, {}),
        ({"error": "internal failure"}, {"odd-message": 1}),
        ({"status": "failed"}, {"answer-without-message": 1}),
    ],
)
def test_a_success_is_asked_for_how_many_it_was_done(
    body: dict[str, Any], codes: dict[str, int]
) -> None:
    """What the answer does not say, or says of fewer users than were sent, is remarked."""
    outcome = answer("delete", batch("delete", "u1", "u2", "u3"), body)
    assert isinstance(outcome, Delivered)
    assert sum(remark.count for remark in outcome.remarks) == sum(codes.values())
    assert all(any(remark.code.startswith(code) for remark in outcome.remarks) for code in codes), (
        outcome.remarks
    )


def test_a_count_of_unknown_users_is_no_name_of_one() -> None:
    """The user called 3 is not refused by it; and an id is what it is, in its own letters."""
    two = batch("delete", "3", "abc")
    counted = answer("delete", two, {"message": "success", "invalid_user_ids": 3})
    assert isinstance(counted, Delivered)
    assert counted.rejected == ()
    assert len(counted.remarks) == 1
    other = answer("delete", two, {"message": "success", "invalid_user_ids": ["ABC"]})
    assert isinstance(other, Delivered)
    assert other.rejected == ()
