"""The records of a user become one edit that says the same, and each piece leads to its record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from ingest.records import EMPTY_COLUMN, Batch, Column
from ingest.sinks.batchcep.folding import EDIT_OVERHEAD, EditFolding, Edits, record_in
from ingest.sinks.batchcep.names import base_of

FOLDING = EditFolding(15, 50)

Row = tuple[int, str, Any]
"""Slot, user and piece of a record."""


def fragment_of(user: str, piece: Any, at: int = 0) -> bytes:
    record = {"external_id": user, "at": at} | ({} if isinstance(piece, str) else piece)
    return json.dumps([piece, record], ensure_ascii=False, separators=(",", ":")).encode()


def batch_of(rows: Sequence[Row]) -> Batch:
    """Make a batch of rows in source order."""
    columns = []
    for slot in range(3):
        at = [i for i, row in enumerate(rows) if row[0] == slot]
        columns.append(
            Column.of(
                [fragment_of(rows[i][1], rows[i][2], i) for i in at],
                [rows[i][1] for i in at],
                at,
                at,
            )
            if at
            else EMPTY_COLUMN
        )
    return Batch(1, 1, tuple(columns))


def folded(rows: Sequence[Row], folding: EditFolding = FOLDING) -> list[Row]:
    """Return the rows that go into one request: what does not fold bars its user's later ones."""
    items: dict[str, Any] = {}
    barred: set[str] = set()
    taken = []
    for slot, user, piece in rows:
        fragment = fragment_of(user, piece)
        if user in barred:
            continue
        if user not in items:
            items[user] = folding.begin(slot, fragment)
        elif not folding.join(items[user], slot, fragment):
            barred.add(user)
            continue
        taken.append((slot, user, piece))
    return taken


def applied(profile: dict[str, Any], attributes: dict[str, Any]) -> None:
    """Do what the destination does with the attributes of one edit."""
    for key, value in attributes.items():
        name = base_of(key)
        if value is None:
            profile.pop(name, None)
        elif isinstance(value, dict):
            kept = profile.get(name, ("", []))[1]
            kept = list(kept) if isinstance(kept, list) else []
            kept += [text for text in value.get("$add", ()) if text not in kept]
            gone = value.get("$remove", ())
            profile[name] = (key, [text for text in kept if text not in gone])
        else:
            profile[name] = (key, value)


_ELEMENTS = st.lists(st.sampled_from("pqr"), max_size=2)
_ATTRIBUTES = st.dictionaries(
    st.sampled_from(["a", "b", "c", "date(a)", "url(a)", "$language"]),
    st.one_of(
        st.none(),
        st.integers(0, 9),
        st.just("é\n"),
        _ELEMENTS,
        _ELEMENTS.map(lambda texts: {"$add": texts}),
        _ELEMENTS.map(lambda texts: {"$remove": texts}),
    ),
    max_size=3,
).filter(lambda piece: len(set(map(base_of, piece))) == len(piece))
_OCCURRENCES = st.fixed_dictionaries(
    {"name": st.sampled_from(["seen", "paid", "a"])},
    optional={"attributes": st.dictionaries(st.sampled_from(["x", "date(y)"]), st.integers(0, 9))},
)
_ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["u1", "ü\n2", "3"])).flatmap(
        lambda head: st.tuples(
            st.just(head[0]), st.just(head[1]), _OCCURRENCES if head[0] else _ATTRIBUTES
        )
    ),
    max_size=30,
)


@given(_ROWS)
def test_an_edit_does_what_its_records_would_do(rows: list[Row]) -> None:
    """The law of folding: one edit leaves the profile as all of the pieces in order would."""
    rows = folded(rows)
    expected: dict[str, dict[str, Any]] = {}
    events: dict[str, list[Any]] = {}
    for slot, user, piece in rows:
        profile = expected.setdefault(user, {"a": ("a", ["q"])})
        if slot == 0:
            applied(profile, piece)
        else:
            events.setdefault(user, []).append(piece)
    body = json.loads(Edits(batch_of(rows)).body())
    users = [edit["identifiers"]["custom_id"] for edit in body]
    assert users == list(expected)
    for edit, user in zip(body, users, strict=True):
        profile = {"a": ("a", ["q"])}
        applied(profile, edit.get("attributes", {}))
        assert profile == expected[user]
        assert edit.get("events", []) == events.get(user, [])
        assert len(edit.get("events", [])) <= 15


@given(_ROWS, st.data())
def test_any_part_of_what_folds_folds(rows: list[Row], data: st.DataObject) -> None:
    """A batch that is split or bisected keeps a user in one edit."""
    rows = folded(rows)
    part = [row for row in rows if data.draw(st.booleans())]
    assert folded(part) == part
    body = json.loads(Edits(batch_of(part)).body())
    assert len(body) == len({user for _, user, _ in part})


@given(_ROWS)
def test_a_body_is_within_its_bound(rows: list[Row]) -> None:
    """What is counted when a batch is packed is never less than what is sent."""
    batch = batch_of(folded(rows))
    bound = batch.nbytes + 2 + len(batch.users()) * EDIT_OVERHEAD
    assert len(Edits(batch).body()) <= bound


@given(_ROWS)
def test_every_piece_leads_to_a_record_that_has_it(rows: list[Row]) -> None:
    """An attribute leads to the record whose value won, an event to its own."""
    rows = folded(rows)
    batch = batch_of(rows)
    edits = Edits(batch)
    for index, edit in enumerate(json.loads(edits.body())):
        user = edit["identifiers"]["custom_id"]
        of_user = [(at, row) for at, row in enumerate(rows) if row[1] == user]
        winners = edits.winners(index)
        assert winners.keys() == set(map(base_of, edit.get("attributes", {})))
        for name, won in winners.items():
            winner = max(
                at for at, (slot, _, piece) in of_user if slot == 0 and name in map(base_of, piece)
            )
            assert batch.columns[0].positions[won] == winner
        happened = edits.occurrences(index)
        events = edit.get("events", [])
        assert [each.name for each in happened] == [event["name"] for event in events]
        for each, event in zip(happened, events, strict=True):
            assert each.attributes == set(map(base_of, event.get("attributes", {})))
        assert [batch.columns[each.place[0]].positions[each.place[1]] for each in happened] == [
            at for at, (slot, _, _) in of_user if slot
        ]
        slot, row = edits.first(index)
        assert batch.columns[slot].positions[row] == of_user[0][0]
        assert json.loads(bytes(edits.record((slot, row))))["at"] == of_user[0][0]


def test_an_edit_closes_at_its_number_of_events() -> None:
    """Events and purchases are counted together."""
    rows: list[Row] = [(1 + i % 2, "u", {"name": str(i)}) for i in range(20)]
    assert folded(rows) == rows[:15]


def test_an_edit_closes_at_its_number_of_attributes() -> None:
    """An attribute that is written again is counted once."""
    rows: list[Row] = [(0, "u", {f"a{i}": 1}) for i in range(10)]
    again: Row = (0, "u", {"date(a0)": "2026-01-01T00:00:00Z"})
    assert folded([*rows, again, (0, "u", {"b": 1})], EditFolding(15, 10)) == [*rows, again]


def test_an_operator_does_not_fold_with_the_same_attribute() -> None:
    """Neither after a value nor before one, nor with another operator; with others it does."""
    value, operator = {"a": ["x"]}, {"a": {"$add": ["y"]}}
    for first, second in ((value, operator), (operator, value), (operator, operator)):
        rows: list[Row] = [(0, "u", first), (0, "u", {"b": 1}), (0, "u", second)]
        assert folded(rows) == rows[:2]


def test_a_later_type_replaces_an_earlier_one() -> None:
    """The type is in the key: both keys in one edit would be two values of one attribute."""
    rows: list[Row] = [(0, "u", {"a": 1, "b": 2}), (0, "u", {"date(a)": "x"}), (0, "u", {})]
    (edit,) = json.loads(Edits(batch_of(rows)).body())
    assert edit["attributes"] == {"date(a)": "x", "b": 2}


def test_an_edit_without_attributes_names_its_user_only() -> None:
    """A record that is nothing but an id creates the user, as it does at Braze."""
    (edit,) = json.loads(Edits(batch_of([(0, "u", {})])).body())
    assert edit == {"identifiers": {"custom_id": "u"}}


def test_users_stand_in_the_order_of_their_first_record() -> None:
    """Of whatever kind that is."""
    rows: list[Row] = [(2, "c", {"name": "x"}), (0, "a", {}), (1, "b", {"name": "x"}), (0, "c", {})]
    body = json.loads(Edits(batch_of(rows)).body())
    assert [edit["identifiers"]["custom_id"] for edit in body] == ["c", "a", "b"]


def test_numbers_go_as_they_were_translated() -> None:
    """No value is serialised again."""
    fragment = b'[{"n":1.0e2,"a":{"$add":[]}},{"external_id":"u"}]'
    batch = Batch(1, 1, (Column.of([fragment], ["u"], [0], [0]), EMPTY_COLUMN, EMPTY_COLUMN))
    assert b'"attributes":{"n":1.0e2,"a":{"$add":[]}}' in Edits(batch).body()


def test_a_record_comes_back_as_it_came() -> None:
    """With its spaces, from bytes or a view of them."""
    fragment = b'[{},{"external_id": "u"}]'
    assert record_in(fragment) == record_in(Raw(fragment)) == b'{"external_id": "u"}'
