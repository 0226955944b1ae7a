"""The table of batchable endpoints: what holds for each of its rows. A new one is tested here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.forms import Found, Misformed
from ingest.outcomes import Delivered, Invalid, ItemError, Outcome, Response, TooMany
from ingest.profiles import Caps
from ingest.records import EMPTY_COLUMN, WHOLE, Batch, Column, UserKey
from ingest.schemas import Encoded
from ingest.sinks.rows import ENDPOINTS, MOST_ITEMS, POOLS, ROWS, SENDS, row_named
from ingest.sinks.rows.data import Row, Said
from ingest.sinks.rows.schema import schema_of
from ingest.sinks.rows.wire import RowWire
from ingest.validation import Grade, Problem

SECRET: Final = "5e7c1f9a-0000-4b1d-8a3e-abcdefabcdef"
EVERY_ROW: Final = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
EVERY_SEND: Final = pytest.mark.parametrize("row", [ROWS[name] for name in SENDS], ids=SENDS)


def wire_of(row: Row) -> RowWire:
    """Return the wire of a row that has a secret in its body."""
    extra = json.dumps({"app_group_id": SECRET})[1:-1].encode()
    return RowWire(row, name="test", extra=extra, secrets=(SECRET,))


def taken(row: Row, line: str) -> list[tuple[UserKey, Encoded]]:
    """Return user and item of each record of a line, none of which has an error."""
    schema, rows = schema_of(row), []
    for found in schema.read(line.encode(), None):
        assert isinstance(found, Found), found
        key, problems = schema.examine(found.kind, found.record, 0.0, validate=True)
        assert not isinstance(key, Problem), key
        assert [problem for problem in problems if problem.grade is Grade.ERROR] == []
        rows.append((key, schema.encode(found, found.record)))
    return rows


def batch_of(row: Row, *lines: str) -> Batch:
    """Make a batch of lines, which are of one partition."""
    rows = [one for line in lines for one in taken(row, line)]
    columns = []
    for slot in range(len(row.endpoint.slots)):
        of = [(key, encoded.fragment) for key, encoded in rows if encoded.slot == slot]
        at = range(len(of))
        keys, fragments = [key for key, _ in of], [fragment for _, fragment in of]
        columns.append(Column.of(fragments, keys, at, at) if of else EMPTY_COLUMN)
    (partition,) = {encoded.partition for _, encoded in rows}
    return Batch(1, 1, tuple(columns), partition=partition)


def answered(row: Row, batch: Batch, body: object, status: int = 201) -> Outcome:
    """Interpret an answer to a request of a row."""
    return wire_of(row).interpret(batch, Response(status, {}, json.dumps(body).encode(), 0.0))


# --- every row ----------------------------------------------------------------------------------


@EVERY_ROW
def test_a_row_describes_each_of_its_slots(row: Row) -> None:
    """Slots, kinds, items and caps are of one length, and caps shrink."""
    endpoint = row.endpoint
    slots = len(endpoint.slots)
    assert len(endpoint.kinds) == slots
    assert len(row.items) in (0, slots)
    totals = [caps.total for caps in endpoint.caps]
    assert totals == sorted(set(totals), reverse=True)
    assert all(len(caps.per_slot) == slots for caps in endpoint.caps)
    assert endpoint.path.startswith("/")
    assert endpoint.summary


@EVERY_SEND
def test_a_send_has_the_documented_caps_and_a_known_pool(row: Row) -> None:
    """At most 50 items in all arrays together, from the budget that the pool names."""
    caps = row.endpoint.caps
    assert [(one.total, set(one.per_slot)) for one in caps] == [(MOST_ITEMS, {MOST_ITEMS})]
    assert row.endpoint.limits == POOLS[row.endpoint.pool]
    assert set(row.endpoint.kinds) == {row.name}


@EVERY_ROW
def test_the_example_of_a_row_is_good_and_sent(row: Row) -> None:
    """It reads, is judged good, and stands in the body: items in its array, shared beside."""
    batch = batch_of(row, row.endpoint.example, row.endpoint.example)
    wire = wire_of(row)
    request = wire.request(batch)
    assert (request.method, request.path) == ("POST", row.endpoint.path)
    assert len(request.body) <= batch.nbytes + wire.overhead
    body = json.loads(request.body)
    assert body.pop("app_group_id") == SECRET
    ((slot, _), *_) = batch.rows()
    items = body.pop(row.endpoint.slots[slot])
    assert len(items) == 2
    assert items[0] == items[1]
    record = json.loads(row.endpoint.example)
    for name, value in body.items():
        assert record.pop(name) == value
    if row.items:
        bare = row.items[slot].bare
        assert items[0] == (record[bare] if bare else record)


@EVERY_ROW
def test_a_dead_letter_holds_the_record_as_it_came(row: Row) -> None:
    """What is rebuilt of an item reads again, and becomes the same item for the same user."""
    batch = batch_of(row, row.endpoint.example)
    ((slot, index),) = batch.rows()
    fragment = batch.columns[slot].fragments()[index]
    record = json.loads(wire_of(row).record_of(batch, slot, fragment))
    expected = json.loads(row.endpoint.example)
    assert record == (expected if row.items else expected[row.endpoint.kinds[slot]])
    letter = {"kind": row.endpoint.kinds[slot], "record": record, "column": "rejected"}
    assert taken(row, json.dumps(letter)) == taken(row, row.endpoint.example)


@EVERY_ROW
def test_a_bad_item_is_named_by_its_index(row: Row) -> None:
    """An error with an index takes that record only; of a refused request it is a verdict."""
    batch = batch_of(row, row.endpoint.example, row.endpoint.example)
    ((slot, _), *_) = batch.rows()
    error = {"type": "EMAIL_BAD_FORMAT", "index": 1}
    refused = (ItemError(slot, 1, "email-bad-format", "EMAIL_BAD_FORMAT"),)
    for name in (row.endpoint.slots[slot], "user_identifiers", None):
        body = {"message": "success", "errors": [error | {"input_array": name}]}
        assert answered(row, batch, body) == Delivered(201, refused)
        assert answered(row, batch, body, 400) == Invalid(400, refused)


@EVERY_ROW
def test_a_plain_success_is_one(row: Row) -> None:
    """Nothing is refused or remarked; a count of what was done is as good as a message."""
    batch = batch_of(row, row.endpoint.example)
    body = {"message": "success", "errors": [], **{said.member: [] for said in row.says}}
    assert answered(row, batch, body) == Delivered(201)
    assert answered(row, batch, {"message": "queued"}, 202) == Delivered(202, queued=True)
    silent = answered(row, batch, {"deleted": 1})
    assert isinstance(silent, Delivered)
    assert bool(silent.remarks) == (row.counts != "deleted")


@EVERY_ROW
@pytest.mark.parametrize(
    "message",
    [
        "The max number of external_ids and aliases per request was exceeded",
        "Maximum number of recipients exceeded",
    ],
)
def test_too_many_items(row: Row, message: str) -> None:
    """Whatever the endpoint calls its items, a smaller request is the answer."""
    assert answered(row, batch_of(row, row.endpoint.example), {"message": message}, 400) == (
        TooMany(400)
    )


@pytest.mark.parametrize(
    ("row", "said"),
    [
        pytest.param(row, said, id=f"{name}-{said.member}")
        for name, row in ROWS.items()
        for said in row.says
    ],
)
def test_a_list_of_a_row_names_its_users(row: Row, said: Said) -> None:
    """An identifier in the row's own list refuses every record that has it."""
    example = row.endpoint.example
    batch = batch_of(row, example.replace("u1", "u7"), example, example)
    body = {"message": "success", said.member: ["u1"]}
    refused = tuple(
        ItemError(0, index, said.code, said.reason, already=said.again) for index in (1, 2)
    )
    assert answered(row, batch, body) == Delivered(201, refused)
    assert answered(row, batch, body, 400) == Invalid(400, refused)


@EVERY_ROW
def test_what_a_second_copy_would_change(row: Row) -> None:
    """A send of messages is never repeated; the other sends change nothing twice."""
    ((_, encoded),) = taken(row, row.endpoint.example)
    expected = row.name != "trigger-send"
    assert wire_of(row).repeatable(encoded.slot, encoded.fragment) is expected
    assert row.endpoint.resendable is expected


@EVERY_ROW
def test_a_wire_shows_no_secret(row: Row) -> None:
    """Neither a wire nor its request shows what is in the body."""
    wire = wire_of(row)
    assert repr(wire) == f"RowWire({row.name})"
    assert SECRET not in repr(wire.request(batch_of(row, row.endpoint.example)))


def test_what_cannot_be_undone_is_marked() -> None:
    """These ask first."""
    assert {name for name, row in ROWS.items() if row.endpoint.irreversible} == {
        *("delete", "remove", "push-remove", "bounce-remove", "spam-remove"),
    }


def test_a_recipient_stands_once_in_a_request() -> None:
    """A repeated one would be taken once: the other goes into another request."""
    (caps,) = ROWS["trigger-send"].endpoint.caps
    assert caps == Caps((50,), 50, 3_800_000, per_user=1)


def test_the_lists_are_the_table() -> None:
    """What is imported and what is sent are the whole table, and share nothing."""
    assert {name: row.endpoint for name, row in ROWS.items()} == {**ENDPOINTS, **SENDS}
    assert list(ENDPOINTS) == ["track", "track-bulk"]
    assert set(SENDS) == {
        *("delete", "alias-new", "identify", "rename", "remove", "push-remove"),
        *("email-status", "bounce-remove", "spam-remove", "trigger-send"),
    }


# --- names --------------------------------------------------------------------------------------


@EVERY_ROW
def test_a_row_is_found_by_its_name_and_by_its_path(row: Row) -> None:
    """With a slash before the path or without."""
    path = row.endpoint.path
    assert all(row_named(text) is row for text in (row.name, path, path.strip("/"), path + "/"))


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("delte", "delete"),
        ("/users/external_id/rename", "rename"),
        ("triger-send", "trigger-send"),
        ("", "track"),
    ],
)
def test_an_unknown_name_lists_the_like_ones_first(text: str, first: str) -> None:
    """All names are listed, each once."""
    with pytest.raises(ConfigError, match=f"it is one of {first}, ") as caught:
        row_named(text)
    listed = str(caught.value).partition("one of ")[2].split(", ")
    assert sorted(listed) == sorted(ROWS)


# --- whatever comes -----------------------------------------------------------------------------

garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
aliases = st.fixed_dictionaries(
    {},
    optional={
        "alias_name": garbage | st.sampled_from(["a1", "x" * 999]),
        "alias_label": garbage | st.just("crm"),
    },
)
values = (
    garbage
    | aliases
    | st.sampled_from(["u1", "u1@example.com", "opted_in", "merge", "x" * 999, 7, {"k": "v"}])
)
rows_of_all = st.sampled_from(list(ROWS.values()))


def objects_of(row: Row) -> st.SearchStrategy[dict[str, Any]]:
    """Generate objects of known and of unknown names."""
    names = st.sampled_from(
        sorted(row.names | {"column", "record", "raw", "kind", "extra", *row.endpoint.slots})
    )
    example = json.loads(row.endpoint.example)
    changed = st.dictionaries(names, values, max_size=3).map(lambda more: example | more)
    record = st.dictionaries(names, values, max_size=5) | changed
    letters = st.fixed_dictionaries(
        {"column": st.just("rejected"), "kind": garbage | st.sampled_from([row.name, "event"])},
        optional={
            "record": record,
            "raw": garbage | record.map(json.dumps) | st.sampled_from(["u1", "external_id"]),
            "code": st.just("line-too-long"),
        },
    )
    return record | letters


def lines_of(row: Row) -> st.SearchStrategy[bytes]:
    """Generate lines of all sorts."""
    texts = st.text(max_size=9) | st.sampled_from(sorted(row.names | {'"a""b"', "1e3", "007"}))
    return (
        st.binary(max_size=20)
        | texts.map(lambda text: text.encode("utf-8", "replace"))
        | (values | objects_of(row)).map(lambda value: json.dumps(value).encode())
    )


@given(st.data(), rows_of_all, st.booleans())
def test_no_line_is_too_odd(data: st.DataObject, row: Row, validate: bool) -> None:
    """Any line is read and judged without an error, and what is good goes round and back."""
    schema, wire = schema_of(row), wire_of(row)
    for found in schema.read(data.draw(lines_of(row)), None):
        if isinstance(found, Misformed):
            assert found.code
            assert found.reason
            continue
        key, problems = schema.examine(found.kind, found.record, 0.0, validate=validate)
        if isinstance(key, Problem):
            assert problems[0] == key
            continue
        if any(problem.grade is Grade.ERROR for problem in problems) or not row.items:
            continue
        assert found.kind == row.name
        encoded = schema.encode(found, found.record)
        fragment, slot = encoded.fragment, encoded.slot
        columns = [EMPTY_COLUMN] * len(row.items)
        columns[slot] = Column.of([fragment], [key], [0], [1])
        batch = Batch(1, 1, tuple(columns), partition=encoded.partition)
        body = json.loads(wire.request(batch).body)
        assert body[row.endpoint.slots[slot]] == [json.loads(fragment)]
        again = wire.record_of(batch, slot, fragment)
        same = Found(row.name, json.loads(again), again)
        assert schema.encode(same, same.record).partition == encoded.partition
        assert json.loads(schema.encode(same, same.record).fragment) == json.loads(fragment)
        assert schema.examine(row.name, same.record, 0.0, validate=validate)[0] == key


def entries() -> st.SearchStrategy[Any]:
    """Generate entries of lists of refusals."""
    parts = garbage | st.integers(-1, 3) | st.sampled_from(["u1", "1", "at index 1", SECRET])
    return (
        parts
        | st.lists(parts, max_size=3)
        | aliases
        | st.fixed_dictionaries(
            {},
            optional={
                "type": parts,
                "message": parts,
                "index": parts,
                "input_array": parts,
                "user_alias": parts | aliases,
                "external_id": parts,
            },
        )
    )


@given(
    rows_of_all,
    st.sampled_from([200, 201, 202, 400, 404, 500]),
    st.dictionaries(
        st.sampled_from(["message", "errors", "invalid_user_ids", "rename_errors"])
        | st.just("removal_errors"),
        entries() | st.lists(entries(), max_size=4),
    ),
)
def test_any_answer_has_an_outcome(row: Row, status: int, body: dict[str, Any]) -> None:
    """What is refused is in the batch, is named once for each reason, and shows no secret."""
    batch = batch_of(row, row.endpoint.example, row.endpoint.example)
    outcome = answered(row, batch, body, status)
    assert isinstance(outcome, get_args(Outcome))
    assert SECRET not in repr(outcome)
    if isinstance(outcome, Delivered | Invalid):
        named: Iterable[tuple[int, int]] = [(one.slot, one.index) for one in outcome.rejected]
        assert set(named) <= set(batch.rows())
        assert len(set(outcome.rejected)) == len(outcome.rejected)
        assert all(error.code and error.reason for error in outcome.rejected)


def test_records_of_track_may_share_a_request_with_all() -> None:
    """The first rows of the table have neither items nor partitions of their own."""
    assert batch_of(ROWS["track"], ROWS["track"].endpoint.example).partition == WHOLE
