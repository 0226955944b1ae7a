"""How an attributes object changes a profile: overwriting, operators, and what vanishes in silence.

This module decides the new value of every attribute, and which updates are dropped though the
answer says success (it names each drop, which the real destination does not). It knows no
identities and no requests.

Dates of nested objects stay as they came (`{"$time": ...}`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ingest.codec import dumps
from ingest.sandbox.objects import valid_time

STRING_CHARS: Final = 255
VALUE_BYTES: Final = 102_400
"""100 KB: an array or object that would grow beyond it keeps its old value."""

INTEGER_MAX: Final = 2**63 - 1
"""What JSON integers of 64 bits can say; an increment beyond it is not applied."""

CONTROL: Final = frozenset(
    {
        "external_id",
        "user_alias",
        "braze_id",
        "_update_existing_only",
        "_merge_objects",
        "push_token_import",
        "_sandbox_poison",
        "_sandbox_reject",
    }
)
"""Keys that steer an update and are no attributes themselves."""

OPAQUE: Final = frozenset(
    {"push_tokens", "subscription_groups", "current_location", "facebook", "twitter"}
)
"""Standard fields that are objects or arrays of a shape of their own; overwritten as they are."""

LONG_STRING: Final = "string_too_long"
BAD_NESTED: Final = "invalid_nested_value"
BAD_ARRAY: Final = "invalid_array_element"
TOO_BIG: Final = "value_over_100_kb"
ARRAY_TRIMMED: Final = "array_trimmed_to_500"
ARRAY_TRUNCATED: Final = "array_truncated_to_25"
WRONG_TYPE: Final = "operator_on_wrong_type"
EMPTY_NAME: Final = "empty_name"

_INC: Final = frozenset({"inc"})
_SET_OPERATORS: Final = frozenset({"add", "remove"})
_OBJECT_OPERATORS: Final = frozenset({"$add", "$remove", "$update"})

Attributes = dict[str, Any]


class ArrayCap(msgspec.Struct, frozen=True):
    """How many scalars an array holds, which of them stay, and the reason that is then counted."""

    elements: int
    newest: bool
    reason: str


ARRAYS: Final = ArrayCap(500, newest=True, reason=ARRAY_TRIMMED)
"""Today's arrays: the oldest element falls out."""
LEGACY_ARRAYS: Final = ArrayCap(25, newest=False, reason=ARRAY_TRUNCATED)
"""Arrays of Appboy: what does not fit is cut off."""


class Dropped(Exception):
    """An update is not applied; the argument is the reason, one of the names above."""


def apply_attributes(
    state: Attributes, update: Attributes, arrays: ArrayCap = ARRAYS
) -> Sequence[str]:
    """Apply one attributes object to `state` in place; return the reasons of what was dropped."""
    reasons: list[str] = []
    merge = update.get("_merge_objects") is True
    for key, value in update.items():
        if key in CONTROL:
            continue
        name = key.strip()
        kind = type(value)
        if not name:
            reasons.append(EMPTY_NAME)
        elif value is None:
            state.pop(name, None)
        elif kind is str:
            if len(value) > STRING_CHARS:
                reasons.append(LONG_STRING)
            else:
                state[name] = value
        elif (kind is not list and kind is not dict) or name in OPAQUE:
            state[name] = value
        else:
            try:
                new = _new_value(state.get(name), value, merge)
                if type(new) is list and len(new) > arrays.elements and type(new[0]) is not dict:
                    kept = arrays.elements
                    new = new[-kept:] if arrays.newest else new[:kept]
                    reasons.append(arrays.reason)
                if _may_be_big(new) and len(dumps(new)) > VALUE_BYTES:
                    raise Dropped(TOO_BIG)
                state[name] = new
            except Dropped as drop:
                reasons.append(str(drop))
    return reasons


def _new_value(old: Any, value: Any, merge: bool) -> Any:
    """Return the value after an update by a list or an object, or raise `Dropped`."""
    if type(value) is list:
        return _array(value)
    if value.keys() == _INC:
        return _incremented(old, value["inc"])
    if value and value.keys() <= _SET_OPERATORS:
        return _edited_set(old, value)
    if value and value.keys() <= _OBJECT_OPERATORS:
        return _edited_objects(old, value, merge)
    check_nested(value)
    return merged(old, value) if merge and type(old) is dict else value


def _may_be_big(value: Any) -> bool:
    """False for integers and short arrays of scalars, whose encoding is far below the limit."""
    if type(value) is list:
        # 20 strings of 255 characters, each escaped to 6 bytes, are 30 KB.
        return len(value) > 20 or any(type(item) is dict for item in value)
    return type(value) is dict


def _array(items: list[Any]) -> list[Any]:
    """Return a whole array: objects as they are, scalars as a set in order of last mention."""
    if items and all(type(item) is dict for item in items):
        check_nested(items)
        return items
    return added([], items)


def _incremented(old: Any, by: Any) -> int:
    if type(by) is not int or not (old is None or type(old) is int):
        raise Dropped(WRONG_TYPE)
    total: int = by if old is None else old + by
    if not -INTEGER_MAX <= total <= INTEGER_MAX:
        raise Dropped(WRONG_TYPE)
    return total


def _edited_set(old: Any, operators: Attributes) -> list[Any]:
    array = [] if old is None else old
    if type(array) is not list or any(type(item) is dict for item in array):
        raise Dropped(WRONG_TYPE)
    if any(type(items) is not list for items in operators.values()):
        raise Dropped(WRONG_TYPE)
    return removed(added(array, operators.get("add", [])), operators.get("remove", []))


def _identity(item: Any) -> tuple[bool, Any]:
    """Return what makes two scalars the same value: in Python `True == 1`, in JSON it is not."""
    return type(item) is bool, item


def added(array: list[Any], items: list[Any]) -> list[Any]:
    """Return the array with scalars added; one that is there already moves to the end."""
    entries = {_identity(item): None for item in array}
    for item in items:
        if item is None or type(item) in (list, dict):
            raise Dropped(BAD_ARRAY)
        if type(item) is str and len(item) > STRING_CHARS:
            raise Dropped(LONG_STRING)
        entries.pop(_identity(item), None)
        entries[_identity(item)] = None
    return [item for _, item in entries]


def removed(array: list[Any], items: list[Any]) -> list[Any]:
    """Return the array without these scalars."""
    gone = {_identity(item) for item in items if type(item) not in (list, dict)}
    return [item for item in array if _identity(item) not in gone] if gone else array


def _edited_objects(old: Any, operators: Attributes, merge: bool) -> list[Any]:
    """Apply `$add`, then `$remove`, then `$update`, whatever the order they were written in."""
    array = [] if old is None else old
    if type(array) is not list or any(type(item) is not dict for item in array):
        raise Dropped(WRONG_TYPE)
    for entries in operators.values():
        if type(entries) is not list or any(type(entry) is not dict for entry in entries):
            raise Dropped(WRONG_TYPE)
    new_objects = operators.get("$add", [])
    check_nested(new_objects)
    array = array + new_objects
    for entry in operators.get("$remove", []):
        array = [item for item in array if not _matches(item, entry)]
    for entry in operators.get("$update", []):
        new = entry.get("$new_object")
        if type(new) is not dict:
            raise Dropped(BAD_NESTED)
        check_nested(new)
        array = [
            (merged(item, new) if merge else new) if _matches(item, entry) else item
            for item in array
        ]
    return array


def _matches(item: Attributes, entry: Attributes) -> bool:
    key = entry.get("$identifier_key")
    if type(key) is not str or "$identifier_value" not in entry:
        raise Dropped(BAD_NESTED)
    wanted = entry["$identifier_value"]
    return key in item and _identity(item[key]) == _identity(wanted)


def merged(old: Attributes, new: Attributes) -> Attributes:
    """Return `old` with `new` merged into it, object by object; all else overwrites."""
    result = dict(old)
    for key, value in new.items():
        before: Any = result.get(key)
        both = type(before) is dict and type(value) is dict
        # A date is a value, though it is written as an object.
        plain = not both or "$time" in value or "$time" in before
        result[key] = value if plain else merged(before, value)
    return result


def check_nested(value: Any) -> None:
    """Raise `Dropped` if anything inside is null, too long, or under a key that is not allowed.

    One bad value drops the whole update of its attribute.
    """
    stack = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is str:
            if len(item) > STRING_CHARS:
                raise Dropped(BAD_NESTED)
        elif kind is list:
            stack.extend(item)
        elif kind is dict:
            if "$time" in item:
                if len(item) != 1 or not valid_time(item["$time"]):
                    raise Dropped(BAD_NESTED)
                continue
            for key in item:
                if not key or len(key) > STRING_CHARS or "." in key or "$" in key or " " in key:
                    raise Dropped(BAD_NESTED)
            stack.extend(item.values())
        elif item is None:
            raise Dropped(BAD_NESTED)
