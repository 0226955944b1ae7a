"""What counts as the same, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.proof import Expected, Window, compared
from ingest.proof.comparing import NOT_CREATED, TOO_OLD, untold
from ingest.proof.expected import OPERATOR
from ingest.proof.moments import moment
from ingest.records import ATTRIBUTES, EVENT, PURCHASE, UserKey

NOW = moment("2026-11-01") or 0.0
WINDOW = Window(NOW, NOW)


def user(*records: tuple[int, dict[str, Any]], key: UserKey = "u") -> Expected:
    """A user with these records."""
    made = Expected(key)
    for line, (slot, record) in enumerate(records, start=1):
        made.add(slot, record, WINDOW, position=line - 1, line=line)
    return made


def found(name: str, wanted: Any, there: Any) -> str:
    """What is said of an attribute."""
    standard = name != "a"
    profile = {name: there} if standard else {"custom_attributes": {name: there}}
    if name == "current_location":
        profile = {"last_coordinates": there}
    verdict = compared(user((ATTRIBUTES, {name: wanted})), [profile])
    ((_, what, _),) = verdict.fields
    assert verdict.good == (what == "there")
    return what


@pytest.mark.parametrize(
    ("name", "wanted", "there"),
    [
        ("a", "x", "x"),
        ("a", 1, 1.0),
        ("a", True, True),
        ("a", "2026-08-08T16:03:26.598806", "2026-08-08T16:03:26.598Z"),
        ("a", "2026-08-08", "2026-08-08T00:00:00.000Z"),
        ("a", ["x", "y", "x"], ["y", "x"]),
        ("a", {"b": [{"c": "x"}]}, {"b": [{"c": "x"}]}),
        ("a", [{"b": 1}, {"b": "2026-01-01"}], [{"b": 1}, {"b": "2026-01-01T00:00:00Z"}]),
        ("a", "", None),
        ("a", [], None),
        ("a", {}, None),
        ("a", None, None),
        ("email", "Ann@Example.COM", "ann@example.com"),
        ("country", "de", "DE"),
        ("phone", "+49 (171) 555-1", "+491715551"),
        ("dob", "1980-12-21", "1980-12-21T00:00:00Z"),
        ("gender", "Female", "F"),
        ("first_name", "Zoë", "Zoë"),
        ("current_location", {"latitude": 48.1, "longitude": 11.6}, [11.600001, 48.1]),
    ],
)
def test_what_a_destination_writes_in_its_own_way_is_the_same(
    name: str, wanted: Any, there: Any
) -> None:
    """Times, addresses, sets, and what is empty and left out."""
    assert found(name, wanted, there) == "there"


@pytest.mark.parametrize(
    ("name", "wanted", "there", "what"),
    [
        ("a", "x", "X", "differs"),
        ("a", "x", None, "missing"),
        ("a", False, None, "missing"),
        ("a", 0, None, "missing"),
        ("a", None, 1, "still there"),
        ("a", 1, True, "differs"),
        ("a", True, 1, "differs"),
        ("a", 1, "1", "differs"),
        ("a", "2026-01-01", "2026-01-02", "differs"),
        ("a", "2026-01-01", "soon", "differs"),
        ("a", "2026-99-99", "2026-01-01", "differs"),
        ("a", ["x"], ["x", "y"], "differs"),
        ("a", [1], [True], "differs"),
        ("a", ["x"], "x", "differs"),
        ("a", [{"b": 1}], [{"b": 2}], "differs"),
        ("a", [{"b": 1}], [], "differs"),
        ("a", {"b": 1}, {"b": 1, "c": 2}, "differs"),
        ("a", {"b": 1}, [], "differs"),
        ("email", "a@b.c", "a@b.d", "differs"),
        ("phone", "+49171", "+49172", "differs"),
        ("dob", "1980-12-21", "1980-12-22", "differs"),
        ("gender", "F", "M", "differs"),
        ("current_location", {"latitude": 48.1, "longitude": 11.6}, [48.1, 11.6], "differs"),
        ("current_location", {"latitude": 48.1, "longitude": 11.6}, ["x", "y"], "differs"),
        ("current_location", {"latitude": 48.1, "longitude": 11.6}, "there", "differs"),
    ],
)
def test_what_is_another_value_differs(name: str, wanted: Any, there: Any, what: str) -> None:
    """Types are minded: a one is not true, and no text."""
    assert found(name, wanted, there) == what


def test_a_profile_without_custom_attributes_lacks_them() -> None:
    """Whatever stands there in their place."""
    verdict = compared(user((ATTRIBUTES, {"a": 1})), [{"custom_attributes": "none"}])
    assert [(each.field, each.what, each.line) for each in verdict.differences] == [
        ("a", "missing", 1)
    ]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"count": 2, "last": "2026-10-02T00:00:00Z"}, "there"),
        ({"count": 9, "last": "2026-10-20T00:00:00Z"}, "there"),  # there was a past, or a later one
        ({"count": 2}, "there"),
        ({"count": 1, "last": "2026-10-02T00:00:00Z"}, "differs"),
        ({"count": "2"}, "missing"),
        ({"count": 2, "last": "2026-10-01T00:00:00Z"}, "differs"),
    ],
)
def test_events_are_there_by_count_and_last_time(row: dict[str, Any], what: str) -> None:
    """More is no difference: a user may have had some before."""
    sent = [(EVENT, {"name": " e ", "time": time}) for time in ("2026-10-01", "2026-10-02")]
    verdict = compared(user(*sent), [{"custom_events": [{"name": "e", **row}, {"name": 5}, 7]}])
    assert [each[:2] for each in verdict.fields] == [("event  e ", what)]


def test_old_events_need_not_be_in_an_export() -> None:
    """If they are not, nobody can say; if recent ones are not, they are missing."""
    old = (PURCHASE, {"product_id": "p", "time": "2025-01-01"})
    assert compared(user(old), [{}]).fields == (("purchase p", "untold", TOO_OLD),)
    assert compared(user(old), [{}]).good
    new = (PURCHASE, {"product_id": "p", "time": "2026-10-31"})
    assert compared(user(old, new), [{"purchases": "none"}]).fields == (
        ("purchase p", "missing", ""),
    )


def test_a_user_who_is_not_there_lacks_everything() -> None:
    """It is one difference; what was unset, or not known, is not missed."""
    sent = {"a": 1, "gone": None, "n": {"inc": 1}}
    verdict = compared(user((ATTRIBUTES, sent), (EVENT, {"name": "e", "time": "2026-10-31"})), [])
    assert verdict.fields == (
        ("a", "missing", ""),
        ("n", "untold", OPERATOR),
        ("event e", "missing", ""),
    )
    assert [(each.field, each.what) for each in verdict.differences] == [("", "missing")]


def test_a_user_who_was_not_to_be_created_may_be_missing() -> None:
    """There is nothing wrong with that."""
    verdict = compared(user((ATTRIBUTES, {"a": 1, "_update_existing_only": True})), [])
    assert verdict == untold(user((ATTRIBUTES, {"a": 1})), NOT_CREATED)
    assert verdict.good


def test_of_several_profiles_the_one_that_fits_best_counts() -> None:
    """An address may be that of several users."""
    mail: UserKey = ("email", "a@b.c")
    sent = user((ATTRIBUTES, {"email": "a@b.c", "plan": "x"}), key=mail)
    others: list[dict[str, Any]] = [
        {"email": "a@b.c"},
        {"email": "a@b.c", "custom_attributes": {"plan": "x"}},
    ]
    assert compared(sent, others).good


VALUES = st.recursive(
    st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(VALUES)
def test_every_value_is_the_same_as_itself(value: Any) -> None:
    """If it can be compared at all."""
    verdict = compared(user((ATTRIBUTES, {"a": value})), [{"custom_attributes": {"a": value}}])
    assert verdict.good
