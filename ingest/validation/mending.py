"""Mending a record: dropping or shortening the fields that are bad by themselves.

Decides nothing about what is bad: it follows the problems it is given, and returns a new object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ingest.validation.problems import MAX_ELEMENTS, MAX_TEXT, Mend, Problem, Step

_GONE: Final = object()
"""Stands for a dropped element until its array is closed up: indices must keep their meaning."""


class _Copy:
    """A record copied as far as it is changed; what is untouched stays shared."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.root = dict(record)
        self.own: set[tuple[Step, ...]] = {()}
        self.gaps: set[tuple[Step, ...]] = set()

    def open(self, path: tuple[Step, ...]) -> Any:
        """Return the container at `path`, ours to change; `None` if it was dropped before."""
        node: Any = self.root
        for depth, step in enumerate(path, start=1):
            child = _at(node, step)
            if not isinstance(child, (dict, list)):
                return None
            if path[:depth] not in self.own:
                child = child.copy()
                node[step] = child
                self.own.add(path[:depth])
            node = child
        return node

    def drop(self, path: tuple[Step, ...]) -> None:
        """Take the value at `path` away."""
        parent = self.open(path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)
        elif _at(parent, path[-1]) is not _GONE:
            parent[path[-1]] = _GONE
            self.gaps.add(path[:-1])

    def shorten(self, path: tuple[Step, ...], most: int | None) -> None:
        """Cut the text or array at `path` to what the destination takes."""
        parent = self.open(path[:-1])
        value = _at(parent, path[-1])
        if value is not _GONE:
            if most is None:
                most = MAX_TEXT if isinstance(value, str) else MAX_ELEMENTS
            parent[path[-1]] = value[:most]

    def close(self) -> dict[str, Any]:
        """Return the mended record."""
        # The deepest first: closing an array moves what stands behind a gap.
        for path in sorted(self.gaps, key=len, reverse=True):
            array = self.open(path)
            if array is not None:
                array[:] = [element for element in array if element is not _GONE]
        return self.root


def _at(node: Any, step: Step) -> Any:
    """Return what `node` holds at `step`, or the mark of what is gone."""
    try:
        return node[step]
    except (KeyError, IndexError, TypeError):
        return _GONE


def mend(
    record: dict[str, Any], problems: Sequence[Problem], how: Mend
) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """Return a new object without what `how` can mend, and the problems that were mended.

    "drop" drops every field that a problem allows to drop or to shorten; "truncate" only shortens
    texts and arrays (to 255 characters and 500 elements, unless a problem says). `problems` are
    those that were found in this very record; the record itself is left as it is.
    """
    copy = _Copy(record)
    mended: list[Problem] = []
    for found in problems:
        if found.mend is None or (how == "truncate" and found.mend != "truncate"):
            continue
        if how == "drop":
            copy.drop(found.path)
        else:
            copy.shorten(found.path, found.most)
        mended.append(found)
    return copy.close(), tuple(mended)
