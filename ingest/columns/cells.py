"""What cells are by their text: numbers, booleans, JSON, dates or plain text.

Decides for whole columns at a time, since a call for each cell would cost more than the rest of an
import: what is said of a column is always what is said of each of its cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from ingest.codec import JSONDecodeError, loads
from ingest.columns.times import all_times

TYPES: Final = ("string", "number", "integer", "boolean", "json", "date")
"""What a column of text may be."""

VALUE: Final = "value"
"""What a column of a table with types of its own is, if nothing else is said: what it holds."""

ALSO: Final = {
    "text": "string",
    "str": "string",
    "float": "number",
    "double": "number",
    "int": "integer",
    "bool": "boolean",
    "array": "json",
    "object": "json",
    "datetime": "date",
    "time": "date",
    "timestamp": "date",
}
"""Other names of types that people write."""

BOOLEANS: Final = {"true": True, "false": False}
SWITCHES: Final = BOOLEANS | {
    **dict.fromkeys(("yes", "y", "t", "1"), True),
    **dict.fromkeys(("no", "n", "f", "0"), False),
}
"""What is a boolean where a person says so of the column; `BOOLEANS` are by themselves."""

EXACT_CHARS: Final = 15
"""Characters of a number that a double carries for certain: it has 15 significant digits."""

INT64: Final = range(-(2**63), 2**63)
INT64_CHARS: Final = 20
"""Characters of the longest integer of 64 bits."""

_SPACES: Final = " \t\r\n"


def numbers_of(cells: Sequence[str]) -> list[Any] | None:
    """Return the numbers that the cells are, None where one of them is none.

    A number is one of JSON without space around it, and not infinite.
    """
    text = ",".join(cells)
    if any(space in text for space in _SPACES):
        return None
    try:
        values = loads(f"[{text}]")
    except JSONDecodeError:
        return None
    # Numbers alone, and as many as cells: then no cell holds a comma, a quote or a bracket.
    right = len(values) == len(cells) and set(map(type, values)) <= {int, float}
    return values if right else None


def all_numbers(cells: Sequence[str]) -> bool:
    """Tell whether every cell is a number that a double, or an integer of 64 bits, carries."""
    if numbers_of(cells) is None:
        return False
    # Mostly none is longer, nor has an exponent: a look at all of them is cheaper than at each.
    text = "".join(cells)
    if not ("e" in text or "E" in text or max(map(len, cells), default=0) > EXACT_CHARS):
        return True
    return all(_is_exact(c) for c in cells if len(c) > EXACT_CHARS or "e" in c or "E" in c)


def _is_exact(cell: str) -> bool:
    if cell.removeprefix("-").isdigit():
        return len(cell) <= INT64_CHARS and int(cell) in INT64
    try:
        return Decimal(repr(float(cell))) == Decimal(cell)
    except ArithmeticError:  # an exponent of more digits than any number needs
        return False


def all_finite(cells: Sequence[str]) -> bool:
    """Tell whether every cell is a number of JSON, be it rounded where it is kept."""
    return numbers_of(cells) is not None


def all_integers(cells: Sequence[str]) -> bool:
    """Tell whether every cell is an integer of 64 bits."""
    values = numbers_of(cells)
    if not values:
        return values is not None
    return set(map(type, values)) == {int} and min(values) in INT64 and max(values) in INT64


def all_booleans(cells: Sequence[str]) -> bool:
    """Tell whether every cell is true or false, in any case."""
    return all(cell.lower() in BOOLEANS for cell in set(cells))


def all_composite(cells: Sequence[str]) -> bool:
    """Tell whether every cell is a JSON array or object."""
    return all(cell[:1] in ("[", "{") for cell in cells) and all_json(cells)


def all_json(cells: Sequence[str]) -> bool:
    """Tell whether every cell is JSON."""
    try:
        for cell in set(cells):
            loads(cell)
    except JSONDecodeError:
        return False
    return True


GUESSES: Final[dict[str, Callable[[Sequence[str]], bool]]] = {
    "number": all_numbers,
    "boolean": all_booleans,
    "json": all_composite,
    "date": all_times,
}
"""Type -> whether all of a column's cells, none of them empty, are of it. A cell is of one type
at most: the order does not matter."""
