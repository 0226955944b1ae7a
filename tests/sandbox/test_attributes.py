"""How an attributes object changes a profile."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sandbox.attributes import (
    ARRAY_TRIMMED,
    BAD_ARRAY,
    BAD_NESTED,
    EMPTY_NAME,
    LEGACY_ARRAYS,
    LONG_STRING,
    TOO_BIG,
    WRONG_TYPE,
    apply_attributes,
)

SCALARS = st.sampled_from([1, True, 0, False, 1.5, "a", "b", "c", ""])


def applied(state: dict[str, Any], *updates: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Apply updates to a copy; return it with the reasons of all drops."""
    state = deepcopy(state)
    reasons: list[str] = []
    for update in updates:
        reasons += apply_attributes(state, update)
    return state, reasons


def after(state: dict[str, Any], *updates: dict[str, Any]) -> dict[str, Any]:
    """Apply updates of which none is dropped."""
    state, reasons = applied(state, *updates)
    assert reasons == []
    return state


def test_values_overwrite_and_null_removes() -> None:
    """An empty string is a value; identifiers and controls are no attributes."""
    update = {"external_id": "u", "_update_existing_only": True, "a": 2, "b": None, "c": ""}
    assert after({"a": 1, "b": 1}, update) == {"a": 2, "c": ""}


def test_names_lose_their_blanks() -> None:
    """Leading and trailing blanks are stripped; a name of blanks only is dropped."""
    assert applied({}, {" a ": 1, "  ": 2}) == ({"a": 1}, [EMPTY_NAME])


def test_a_long_string_vanishes() -> None:
    """255 characters are kept, 256 leave the old value."""
    assert after({}, {"a": "x" * 255})["a"] == "x" * 255
    assert applied({"a": "old"}, {"a": "x" * 256}) == ({"a": "old"}, [LONG_STRING])


def test_increments_add_up() -> None:
    """From nothing they begin at zero; on anything but an integer they are dropped."""
    assert after({"a": 1}, {"a": {"inc": 4}}, {"b": {"inc": -2}}) == {"a": 5, "b": -2}
    assert applied({"a": "x"}, {"a": {"inc": 1}}) == ({"a": "x"}, [WRONG_TYPE])
    assert applied({"a": True}, {"a": {"inc": 1}}) == ({"a": True}, [WRONG_TYPE])
    assert applied({}, {"a": {"inc": 1.5}}) == ({}, [WRONG_TYPE])
    assert applied({"a": 2**63 - 1}, {"a": {"inc": 1}})[1] == [WRONG_TYPE]


def test_arrays_are_sets_in_order_of_last_mention() -> None:
    """Adding what is there moves it to the end; true is not one."""
    assert after({"a": ["x", "y"]}, {"a": {"add": ["x", "z"]}})["a"] == ["y", "x", "z"]
    assert after({"a": [1]}, {"a": {"add": [True]}})["a"] == [1, True]
    assert after({"a": ["x", "y"]}, {"a": {"remove": ["x", "q"]}})["a"] == ["y"]
    assert after({}, {"a": ["x", "y", "x"]})["a"] == ["y", "x"]


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({"add": [None]}, BAD_ARRAY),
        ({"add": [[1]]}, BAD_ARRAY),
        ({"add": ["x" * 256]}, LONG_STRING),
        ({"add": "x"}, WRONG_TYPE),
        (["x", None], BAD_ARRAY),
        (["x", {}], BAD_ARRAY),
    ],
)
def test_a_bad_element_drops_the_update(update: Any, reason: str) -> None:
    """The array stays what it was."""
    assert applied({"a": ["x"]}, {"a": update}) == ({"a": ["x"]}, [reason])


def test_set_operators_leave_other_types_alone() -> None:
    """A string or an array of objects is not added to."""
    for old in ("x", [{"k": 1}]):
        assert applied({"a": old}, {"a": {"add": ["y"]}}) == ({"a": old}, [WRONG_TYPE])


def test_the_oldest_of_more_than_500_elements_fall_out() -> None:
    """The newest 500 stay, and the sandbox says so."""
    state, reasons = applied({"a": list(range(499))}, {"a": {"add": [1000, 1001]}})
    assert state["a"] == [*range(1, 499), 1000, 1001]
    assert reasons == [ARRAY_TRIMMED]


def test_object_operators_run_in_their_own_order() -> None:
    """Add, then remove, then update, however they are written."""
    update = {
        "$update": [
            {"$identifier_key": "id", "$identifier_value": 2, "$new_object": {"id": 2, "n": 9}}
        ],
        "$remove": [{"$identifier_key": "id", "$identifier_value": 1}],
        "$add": [{"id": 1}, {"id": 2, "n": 1}],
    }
    assert after({"a": [{"id": 1}, {"id": 3}]}, {"a": update})["a"] == [
        {"id": 3},
        {"id": 2, "n": 9},
    ]


def test_an_update_merges_only_when_asked_to() -> None:
    """With `_merge_objects` the other fields of a matching object stay."""
    change = {"$identifier_key": "id", "$identifier_value": 1, "$new_object": {"n": 2}}
    state = {"a": [{"id": 1, "n": 1}]}
    assert after(state, {"a": {"$update": [change]}})["a"] == [{"n": 2}]
    merged = after(state, {"_merge_objects": True, "a": {"$update": [change]}})
    assert merged["a"] == [{"id": 1, "n": 2}]


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({"$add": [{"k": None}]}, BAD_NESTED),
        ({"$add": [1]}, WRONG_TYPE),
        ({"$add": {}}, WRONG_TYPE),
        ({"$remove": [{"$identifier_key": "id"}]}, BAD_NESTED),
        ({"$update": [{"$identifier_key": "id", "$identifier_value": 1}]}, BAD_NESTED),
    ],
)
def test_a_bad_object_operator_drops_the_update(update: Any, reason: str) -> None:
    """The array stays what it was."""
    assert applied({"a": [{"id": 1}]}, {"a": update}) == ({"a": [{"id": 1}]}, [reason])


def test_nested_objects_overwrite_or_merge_deeply() -> None:
    """The flag decides for the whole attributes object."""
    old = {"a": {"x": {"p": 1}, "y": 1}}
    new = {"a": {"x": {"q": 2}}}
    assert after(old, new)["a"] == {"x": {"q": 2}}
    assert after(old, {**new, "_merge_objects": True})["a"] == {"x": {"p": 1, "q": 2}, "y": 1}
    assert old == {"a": {"x": {"p": 1}, "y": 1}}


def test_an_array_of_objects_is_overwritten_as_a_whole() -> None:
    """Equal objects stay apart: it is no set."""
    assert after({"a": [{"x": 1}]}, {"a": [{"y": 1}, {"y": 1}]})["a"] == [{"y": 1}, {"y": 1}]
    assert applied({"a": []}, {"a": [{"y": None}]}) == ({"a": []}, [BAD_NESTED])


def test_object_operators_leave_other_types_alone() -> None:
    """A string or an array of scalars is not added to."""
    for old in ("x", ["y"]):
        assert applied({"a": old}, {"a": {"$add": [{"k": 1}]}}) == ({"a": old}, [WRONG_TYPE])


def test_a_date_is_not_merged_into() -> None:
    """`$time` is a value, though it looks like an object."""
    date = {"$time": "2026-01-02T03:04:05Z"}
    update = {"_merge_objects": True, "a": {"x": {"p": 1}}}
    assert after({"a": {"x": date}}, update)["a"] == {"x": {"p": 1}}
    update = {"_merge_objects": True, "a": {"x": date}}
    assert after({"a": {"x": {"p": 1}}}, update)["a"] == {"x": date}


@pytest.mark.parametrize(
    "nested",
    [
        {"x": None},
        {"x": [1, None]},
        {"x": "y" * 256},
        {"x.y": 1},
        {"$x": 1},
        {"x y": 1},
        {"": 1},
        {"x" * 256: 1},
        {"x": {"$time": None}},
        {"x": {"$time": "soon"}},
        {"x": {"$time": "2026-01-02", "y": 1}},
    ],
)
def test_one_bad_value_drops_all_of_a_nested_attribute(nested: dict[str, Any]) -> None:
    """Other attributes of the same object are applied."""
    state, reasons = applied({"a": {"z": 1}}, {"a": {"good": 1, **nested}, "b": 2})
    assert (state, reasons) == ({"a": {"z": 1}, "b": 2}, [BAD_NESTED])


def test_an_object_over_100_kb_keeps_its_old_value() -> None:
    """The size counts after merging."""
    half = {f"k{i}": "x" * 250 for i in range(250)}
    other = {f"j{i}": "x" * 250 for i in range(250)}
    state = after({}, {"a": half})
    assert applied(state, {"a": other, "_merge_objects": True}) == (state, [TOO_BIG])
    assert after(state, {"a": other})["a"] == other


def test_standard_fields_with_a_shape_of_their_own_are_taken_as_they_are() -> None:
    """A location is no nested custom attribute."""
    update = {"current_location": {"latitude": 1, "longitude": 2, "altitude": None}}
    assert after({}, update) == update


@given(
    st.lists(st.tuples(st.sampled_from(["add", "remove", "set"]), st.lists(SCALARS, max_size=4)))
)
def test_set_operators_agree_with_a_naive_model(
    steps: list[tuple[str, list[Any]]],
) -> None:
    """Against a list of (type, value) pairs that is searched through for every element."""
    state: dict[str, Any] = {}
    model: list[tuple[bool, Any]] = []
    for operator, items in steps:
        update = items if operator == "set" else {operator: items}
        assert apply_attributes(state, {"a": update}) == []
        if operator == "set":
            model = []
        for item in items:
            pair = (isinstance(item, bool), item)
            model = [other for other in model if other != pair]
            if operator != "remove":
                model.append(pair)
        assert [(isinstance(item, bool), item) for item in state["a"]] == model


@given(
    st.lists(st.one_of(st.integers(-9, 9), st.integers(-9, 9).map(lambda n: {"inc": n}), st.none()))
)
def test_increments_agree_with_a_naive_model(updates: list[Any]) -> None:
    """Overwrites, increments and removals, in any order."""
    state: dict[str, Any] = {}
    model: int | None = None
    for update in updates:
        apply_attributes(state, {"a": update})
        model = (model or 0) + update["inc"] if isinstance(update, dict) else update
        assert state.get("a") == model


NESTED = st.recursive(
    st.integers(0, 3),
    lambda inner: st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
).filter(lambda value: isinstance(value, dict))


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return the values that are no objects, by path."""
    if not isinstance(value, dict):
        return {path: value}
    found: dict[tuple[str, ...], Any] = {}
    for key, inner in value.items():
        found |= leaves(inner, (*path, key))
    return found


@given(old=NESTED, new=NESTED)
def test_a_merge_keeps_what_is_new_and_what_is_not_in_its_way(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    """New leaves hold, untouched keys of each level keep their values, and twice is as once."""
    before = deepcopy((old, new))
    merged = after({"a": old}, {"a": new, "_merge_objects": True})["a"]
    assert leaves(new).items() <= leaves(merged).items()
    level: list[tuple[Any, Any, Any]] = [(old, new, merged)]
    while level:
        was, came, now = level.pop()
        assert now.keys() == was.keys() | came.keys()
        for key in was:
            if key not in came:
                assert now[key] == was[key]
            elif isinstance(was[key], dict) and isinstance(came[key], dict):
                level.append((was[key], came[key], now[key]))
    assert after({"a": merged}, {"a": new, "_merge_objects": True})["a"] == merged
    assert (old, new) == before


def test_an_array_of_appboy_is_cut_off() -> None:
    """What does not fit is left out, where today the oldest falls out; objects are no elements."""
    state: dict[str, Any] = {"b": [*range(25)]}
    update = {"a": [*range(26)], "b": {"add": [99]}, "c": [{"n": n} for n in range(26)]}
    assert apply_attributes(state, update, LEGACY_ARRAYS) == ["array_truncated_to_25"] * 2
    assert (state["a"], state["b"]) == ([*range(25)], [*range(25)])
    assert len(state["c"]) == 26
