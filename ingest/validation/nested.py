"""Rules of values that hold values: arrays, nested attributes, operators, and sizes.

Decides what the destination drops of them in silence. Walks are loops, not recursion: a decoded
record may be nested a thousand deep.
"""

from __future__ import annotations

from typing import Any, Final

from ingest.codec import dumps
from ingest.validation.identity import utf8_len
from ingest.validation.problems import MAX_ELEMENTS, MAX_TEXT, Findings, Step
from ingest.validation.times import is_late, is_time

MAX_ATTRIBUTE: Final = 102_400
"""Bytes of JSON in a nested attribute, an array of objects and an array (100 KB)."""

_SCALAR_OPERATORS: Final = frozenset({"add", "remove"})
_OBJECT_OPERATORS: Final = frozenset({"$add", "$remove", "$update"})
_MATCHED: Final = {
    "$remove": frozenset({"$identifier_key", "$identifier_value"}),
    "$update": frozenset({"$identifier_key", "$identifier_value", "$new_object"}),
}

Path = tuple[Step, ...]


def encoded_size(value: Any) -> int:
    """Return the bytes of `value` as compact JSON.

    What the encoder cannot take (nested too deep, a huge integer) is counted by its texts alone: a
    lower bound, so that nothing is called too big that is not.
    """
    try:
        return len(dumps(value))
    except TypeError:
        pass
    size, todo = 0, [value]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            size += sum(map(utf8_len, node))
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
        elif isinstance(node, str):
            size += utf8_len(node)
    return size


def check_texts(found: Findings, path: Path, value: Any) -> None:
    """Note every string over 255 characters in `value`, at any depth."""
    todo = [(path, value)]
    while todo:
        path, node = todo.pop()
        if isinstance(node, str):
            if len(node) > MAX_TEXT:
                found.add("long-string", *path)
        elif isinstance(node, dict):
            todo.extend(((*path, key), child) for key, child in reversed(node.items()))
        elif isinstance(node, list):
            todo.extend(((*path, i), node[i]) for i in range(len(node) - 1, -1, -1))


def _check_tree(found: Findings, path: Path, value: Any) -> None:
    """Note what is wrong inside of an attribute: keys, nulls, times and long strings."""
    todo = [(path, value)]
    while todo:
        path, node = todo.pop()
        if node is None:
            found.add("nested-null", *path)
        elif isinstance(node, str):
            if len(node) > MAX_TEXT:
                found.add("long-string", *path)
        elif isinstance(node, list):
            todo.extend(((*path, i), node[i]) for i in range(len(node) - 1, -1, -1))
        elif isinstance(node, dict):
            if node.keys() == {"$time"}:
                _check_nested_time(found, path, node["$time"])
                continue
            for key in node:
                if "$" in key or "." in key or " " in key:
                    found.add("nested-key", *path, key)
                elif len(key) > MAX_TEXT:
                    found.add("long-name", *path, key)
            todo.extend(((*path, key), child) for key, child in reversed(node.items()))


def _check_nested_time(found: Findings, path: Path, value: Any) -> None:
    if not isinstance(value, str) or not is_time(value):
        found.add("nested-time", *path)
    elif is_late(value):
        found.add("late-year", *path)


def _check_size(found: Findings, path: Path, value: Any) -> None:
    if encoded_size(value) > MAX_ATTRIBUTE:
        found.add("big-attribute", *path)


def check_array(found: Findings, path: Path, value: list[Any]) -> None:
    """Note what is wrong with an array attribute, of scalars or of objects."""
    if len(value) > MAX_ELEMENTS and not any(isinstance(element, dict) for element in value):
        found.add("long-array", *path)
    _check_tree(found, path, value)
    _check_size(found, path, value)


def check_object(found: Findings, path: Path, value: dict[str, Any]) -> None:
    """Note what is wrong with an attribute that is an object: operators or a nested attribute."""
    names = value.keys()
    if names == {"inc"}:
        step = value["inc"]
        if not isinstance(step, int) or isinstance(step, bool):
            found.add("odd-operator", *path)
    elif names and names <= _SCALAR_OPERATORS:
        for name, operand in value.items():
            if isinstance(operand, list):
                check_array(found, (*path, name), operand)
            else:
                found.add("odd-operator", *path)
    elif names and names <= _OBJECT_OPERATORS:
        for name, operand in value.items():
            _check_object_operator(found, (*path, name), name, operand)
        _check_size(found, path, value)
    else:
        _check_tree(found, path, value)
        _check_size(found, path, value)


def _check_object_operator(found: Findings, path: Path, name: str, operand: Any) -> None:
    """Note what is wrong with one of $add, $remove and $update on an array of objects."""
    if not isinstance(operand, list):
        found.add("odd-operator", *path)
        return
    wanted = _MATCHED.get(name)
    for i, element in enumerate(operand):
        if not isinstance(element, dict) or (wanted and element.keys() != wanted):
            found.add("odd-operator", *path, i)
        elif wanted:
            for key, child in element.items():
                _check_tree(found, (*path, i, key), child)
        else:
            _check_tree(found, (*path, i), element)
