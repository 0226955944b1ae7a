"""What the records of one user add up to."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.proof.expected import (
    ALTERED,
    DOUBTFUL,
    NOT_EXPORTED,
    OPERATOR,
    Expected,
    Tally,
    Window,
    may_create,
)
from ingest.proof.moments import moment
from ingest.records import ATTRIBUTES, EVENT, PURCHASE, UserKey

BEGAN = "2026-11-01T00:00:00Z"
WINDOW = Window(now=moment("2026-11-02") or 0.0, began=moment(BEGAN) or 0.0, elements=3)
ALIAS: UserKey = ("alias", "crm", "n")


def expected(*records: tuple[int, dict[str, Any]], key: UserKey = "u") -> Expected:
    """A user with these records."""
    user = Expected(key)
    for line, (slot, record) in enumerate(records, start=1):
        user.add(slot, record, WINDOW, position=line - 1, line=line)
    return user


def told(user: Expected) -> dict[str, Any]:
    """Attribute -> its value, or why nobody knows it."""
    return {name: each.untold or each.value for name, each in user.attributes.items()}


def test_the_last_value_counts_and_names_are_stripped() -> None:
    """A null unsets; what steers an update is no attribute, and an empty name neither."""
    user = expected(
        (ATTRIBUTES, {"external_id": "u", "plan": "a", "gone": 1, "_merge_objects": False}),
        (ATTRIBUTES, {"external_id": "u", " plan ": "b", "gone": None, " ": 1}),
    )
    assert told(user) == {"plan": "b", "gone": None}
    assert (user.attributes["plan"].position, user.attributes["plan"].line) == (1, 2)
    assert len(user) == 2
    assert user.certain


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("a", {"inc": 1}, OPERATOR),
        ("a", {"add": ["x"]}, OPERATOR),
        ("a", {"$update": []}, OPERATOR),
        ("push_tokens", [], NOT_EXPORTED),
        ("image_url", "https://example.org", NOT_EXPORTED),
        ("a", "x" * 256, ALTERED),
        ("a", ["x" * 256], ALTERED),
        ("a", [1, 2, 3, 4], ALTERED),
        ("a", [1, {"b": 1}], ALTERED),
        ("a", [[1]], ALTERED),
        ("a", [None], ALTERED),
        ("a", {"b": None}, ALTERED),
        ("a", {"b": {"$time": "2026-01-01"}}, ALTERED),
        ("a", {"b c": 1}, ALTERED),
        ("a", {"": 1}, ALTERED),
        ("a", [{"b": "x" * 200, "n": n} for n in range(600)], ALTERED),
        ("current_location", "here", ALTERED),
        ("current_location", {"latitude": 1}, ALTERED),
    ],
)
def test_what_nobody_can_know_is_told_apart(name: str, value: Any, why: str) -> None:
    """And it is known again after a plain value."""
    unknown = (ATTRIBUTES, {"external_id": "u", name: value})
    assert told(expected(unknown)) == {name: why}
    if why != NOT_EXPORTED:
        assert told(expected(unknown, (ATTRIBUTES, {name: None}))) == {name: None}


@pytest.mark.parametrize(
    "value",
    [True, 0, 1.5, "", "x" * 255, [], [1, 2, 3], {}, {"b": [1, "x"]}, [{"b": 1}, {"b": 2}] * 3],
)
def test_a_plain_value_is_known(value: Any) -> None:
    """Arrays and objects too, if nothing in them is cut or dropped."""
    assert told(expected((ATTRIBUTES, {"external_id": "u", "a": value}))) == {"a": value}


def test_a_place_is_known() -> None:
    """By latitude and longitude; unset, it is nowhere."""
    place = {"latitude": 1, "longitude": 2.5}
    assert told(expected((ATTRIBUTES, {"current_location": place}))) == {"current_location": place}
    assert told(expected((ATTRIBUTES, {"current_location": None}))) == {"current_location": None}


def test_merged_objects_are_not_known() -> None:
    """What was there stays in them; plain values beside them are known."""
    user = expected((ATTRIBUTES, {"_merge_objects": True, "a": {"b": 1}, "c": 1}))
    assert told(user) == {"a": OPERATOR, "c": 1}


def test_events_and_purchases_are_counted_by_name() -> None:
    """A purchase counts by its quantity; the last time is that of the calendar."""
    user = expected(
        (EVENT, {"name": "e", "time": "2026-10-02"}),
        (EVENT, {"name": "e", "time": "2026-10-01T23:00:00Z"}),
        (PURCHASE, {"product_id": "p", "quantity": 4, "time": "2026-10-01"}),
        (PURCHASE, {"product_id": "p", "quantity": "many", "time": "2026-10-01"}),
        (EVENT, {"name": 5}),
    )
    assert user.events == {"e": Tally(2, 2, moment("2026-10-02"), 1, 2)}
    assert user.purchases == {"p": Tally(5, 5, moment("2026-10-01"), 3, 4)}


@pytest.mark.parametrize(
    ("time", "recent", "last"),
    [
        ("2026-08-01", 0, moment("2026-08-01")),  # older than an export is
        ("2026-11-01T00:00:01Z", 0, None),  # ahead of the run: the destination sets it back
        ("Thu Jan 01 10:00:00.UTC 2026", 0, None),
        ("2026-10-31", 1, moment("2026-10-31")),
    ],
)
def test_only_what_an_export_must_have_is_recent(
    time: str, recent: int, last: float | None
) -> None:
    """All are counted; of some no last time can be told."""
    assert expected((EVENT, {"name": "e", "time": time})).events["e"] == Tally(
        1, recent, last, 0, 1
    )


def test_a_doubtful_record_makes_its_fields_doubtful() -> None:
    """Its events are not counted, for at least so many have to be there as surely arrived."""
    user = expected((ATTRIBUTES, {"plan": "a", "b": 1}))
    user.add(ATTRIBUTES, {"plan": "c"}, WINDOW, doubtful=True)
    user.add(EVENT, {"name": "e", "time": BEGAN}, WINDOW, doubtful=True)
    assert told(user) == {"plan": DOUBTFUL, "b": 1}
    assert user.events == {}


@pytest.mark.parametrize(
    ("key", "record", "creates"),
    [
        ("u", {}, True),
        ("u", {"_update_existing_only": True}, False),
        (ALIAS, {}, False),
        (ALIAS, {"_update_existing_only": False}, True),
        (("email", "a@b.c"), {}, True),
        (("email", "a@b.c"), {"_update_existing_only": True}, False),
        (("braze_id", "x"), {}, False),
    ],
)
def test_who_may_create_a_user(key: UserKey, record: dict[str, Any], creates: bool) -> None:
    """By the documented defaults: an alias has to ask, and nobody makes up a braze_id."""
    assert may_create(key, record) is creates


def test_what_came_before_the_user_was_there_is_doubtful() -> None:
    """It took effect only if the user existed; what came with and after the creation is known."""
    user = expected(
        (ATTRIBUTES, {"plan": "a", "old": 1}),
        (EVENT, {"name": "e", "time": BEGAN}),
        (PURCHASE, {"product_id": "p", "time": BEGAN}),
        key=ALIAS,
    )
    assert not user.certain
    user.add(ATTRIBUTES, {"plan": "b", "_update_existing_only": False}, WINDOW)
    assert user.certain
    assert told(user) == {"plan": "b", "old": DOUBTFUL}
    assert (user.events, user.purchases) == ({}, {})
