"""A row of a table as the loops that people write make a record of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

EACH = 75
"""Records of a request: the most that the destination takes of a kind."""


def value_of(cell: str) -> Any:
    """Return what a cell looks like: null, a boolean, a number, or its text."""
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    if cell.lower() == "null":
        return None
    try:
        return float(cell) if "." in cell else int(cell)
    except ValueError:
        return cell


def object_of(row: dict[str, str]) -> dict[str, Any]:
    """Return a row as an attributes object, without its empty cells."""
    values = {name: value_of(cell) for name, cell in row.items() if cell}
    return {**values, "external_id": row["external_id"]}


def chunks(rows: Iterable[dict[str, str]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the objects of each request."""
    left = iter(rows)
    while chunk := [object_of(row) for row in islice(left, EACH)]:
        yield chunk
