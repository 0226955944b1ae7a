"""From the cells of one column to members of objects, encoded: `,"name":value` for each row.

Decides how a cell of a type is written, and which cell is not of its type. Works on whole columns:
a cell that is JSON already is never decoded to be encoded again. It knows nothing of other columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import Final

import msgspec

from ingest.codec import JSONDecodeError, dumps, dumps_pretty, loads
from ingest.columns.cells import SWITCHES, all_finite, all_integers
from ingest.columns.names import called, is_text
from ingest.columns.times import all_times, zoned

ROW_LENGTH: Final = "row-length"
NOTHING: Final = "nothing-to-send"
WRONG_TYPE: Final = "wrong-type"
NOT_UNICODE: Final = "not-unicode"

_WANTED: Final = {
    "string": "a text, a number, or true or false",
    "number": "a number as JSON writes it, such as 12.5",
    "integer": "a whole number, such as 12",
    "boolean": "true or false (or yes, no, 1, 0)",
    "json": "JSON, such as an array or an object",
    "date": "a date or a time, such as 2026-01-31T12:00:00Z",
    "value": "of a type that JSON has",
}


class Unfit(msgspec.Struct, frozen=True):
    """A row that becomes no record, and why; never with a value.

    `summary` is what `reason` says of any such row, where the reason tells of this one alone. `who`
    is an object of the identity in a row of attributes, as far as its cells have one.
    """

    code: str
    field: str
    reason: str
    summary: str = ""
    who: bytes = b""


def wrong_type(column: str, field: str, kind: str) -> Unfit:
    """Say of a row that its cell in a column is not of the column's type."""
    reason = f"the cell of the column {called(column)} must be {_WANTED[kind]}"
    return Unfit(WRONG_TYPE, field, reason)


def not_unicode(column: str, field: str) -> Unfit:
    """Say of a row that its text has half of a character, which JSON cannot hold."""
    return Unfit(NOT_UNICODE, field, f"the cell of the column {called(column)} is no valid text")


class Spelling(msgspec.Struct, frozen=True):
    """How the cells of a type are written, none of them empty.

    `all_of` writes a whole column, each cell after `prefix`, or returns None where a cell is not of
    the type; `one` writes a cell alone, or returns None. They agree; so does `plain`, which returns
    cells that need no escaping as they are written (between quotes, if `quoted`), or None.
    """

    all_of: Callable[[bytes, Sequence[str]], list[bytes] | None]
    one: Callable[[str], bytes | None]
    plain: Callable[[Sequence[str]], Sequence[str] | None] = lambda cells: None
    quoted: bool = True


def encoded_texts(prefix: bytes, cells: Sequence[object]) -> list[bytes]:
    """Write texts, or other scalars, as JSON. Raises `TypeError` for what JSON cannot hold."""
    # Indented, each is in a line of its own: no line break is left inside of a JSON string.
    lines = dumps_pretty(cells)[4:-3]
    return (prefix + lines.replace(b",\n  ", b"\n" + prefix)).split(b"\n")


def _texts(prefix: bytes, cells: Sequence[str]) -> list[bytes] | None:
    try:
        return encoded_texts(prefix, cells)
    except TypeError:
        return None


def _text(cell: str) -> bytes | None:
    try:
        return dumps(cell)
    except TypeError:
        return None


def _verbatim(test: Callable[[Sequence[str]], bool]) -> Spelling:
    """Write cells as they are: they are JSON, and have no space in them."""

    def all_of(prefix: bytes, cells: Sequence[str]) -> list[bytes] | None:
        if not test(cells):
            return None
        name = prefix.decode()
        return (name + "\n".join(cells).replace("\n", "\n" + name)).encode().split(b"\n")

    return Spelling(
        all_of,
        lambda cell: cell.encode() if test([cell]) else None,
        lambda cells: cells if test(cells) else None,
        quoted=False,
    )


def _each(one: Callable[[str], bytes | None]) -> Spelling:
    """Write cells one by one, the same ones once."""

    def all_of(prefix: bytes, cells: Sequence[str]) -> list[bytes] | None:
        table: dict[str, bytes] = {}
        for cell in set(cells):
            written = one(cell)
            if written is None:
                return None
            table[cell] = prefix + written
        return [table[cell] for cell in cells]

    def plain(cells: Sequence[str]) -> Sequence[str] | None:
        written = {cell: one(cell) for cell in set(cells)}
        table = {cell: piece.decode() for cell, piece in written.items() if piece is not None}
        return list(map(table.__getitem__, cells)) if len(table) == len(written) else None

    return Spelling(all_of, one, plain, quoted=False)


def _switch(cell: str) -> bytes | None:
    value = SWITCHES.get(cell.lower())
    return None if value is None else dumps(value)


def _json(cell: str) -> bytes | None:
    try:
        loads(cell)
    except JSONDecodeError:
        return None
    # A line break stands between the tokens of JSON only.
    return cell.strip().replace("\n", " ").replace("\r", " ").encode()


def _dates(zone: tzinfo | None, moment: bool) -> Spelling:
    def one(cell: str) -> bytes | None:
        if not all_times((cell,)):
            return None
        return dumps(cell if zone is None else zoned(cell, zone, moment=moment))

    def all_of(prefix: bytes, cells: Sequence[str]) -> list[bytes] | None:
        if not all_times(cells):
            return None
        if zone is None:
            return encoded_texts(prefix, cells)
        return encoded_texts(prefix, [zoned(cell, zone, moment=moment) for cell in cells])

    def plain(cells: Sequence[str]) -> Sequence[str] | None:
        return cells if zone is None and all_times(cells) else None

    return Spelling(all_of, one, plain)


_SPELLINGS: Final = {
    "string": Spelling(_texts, _text, lambda cells: cells),
    "value": Spelling(_texts, _text),
    "number": _verbatim(all_finite),
    "integer": _verbatim(all_integers),
    "boolean": _each(_switch),
    "json": _each(_json),
}


def spelling_of(kind: str, zone: tzinfo | None, *, moment: bool) -> Spelling:
    """Return how cells of a type are written; dates get the offset of `zone`, if there is one."""
    return _dates(zone, moment) if kind == "date" else _SPELLINGS[kind]


class Field:
    """Writes the cells of one column. `unfit` tables are row -> why, the first reason kept."""

    def __init__(
        self, column: str, field: str, kind: str, prefix: bytes, spelling: Spelling, null: str
    ) -> None:
        self.column: Final = column
        self.field: Final = field
        self.kind: Final = kind
        self.prefix: Final = prefix
        self._spelling: Final = spelling
        self._null: Final = null
        self.unset: bytes = prefix + b"null"
        """What stands for a cell that unsets: null, or nothing where that has no meaning."""
        self.takes_objects = False
        """Whether an object of a typed table becomes its JSON text: a payload does."""
        self.drops = False
        """Whether a cell that is not of the type is left out, and its row goes."""
        self.dropped = 0
        """Cells left out so."""

    def fragments(self, cells: Sequence[str], unfit: dict[int, Unfit]) -> list[bytes]:
        """Return what each cell becomes; b"" for what is left out, or is noted in `unfit`."""
        null = self._null
        if "" not in cells and not (null and null in cells):
            found = self._spelling.all_of(self.prefix, cells)
            return self._one_by_one(cells, unfit) if found is None else found
        kept = [cell for cell in cells if cell and cell != null]
        written = self._spelling.all_of(self.prefix, kept) if kept else []
        if written is None:
            return self._one_by_one(cells, unfit)
        rest = iter(written)
        # An empty `null` never gets as far: an empty cell is left out first.
        return [(self.unset if c == null else next(rest)) if c else b"" for c in cells]

    def plain(self, cells: Sequence[str]) -> Sequence[str] | None:
        """Return cells as they are written, without the prefix and quotes; None if it takes more.

        None of them may be empty, unset or need escaping.
        """
        return self._spelling.plain(cells)

    @property
    def quoted(self) -> bool:
        """Whether what `plain` returns stands between quotes."""
        return self._spelling.quoted

    def written(self, cell: str) -> bytes | None:
        """Return a cell that is not empty alone, without the prefix; None if it is not fit."""
        return self._spelling.one(cell)

    def _one_by_one(self, cells: Sequence[str], unfit: dict[int, Unfit]) -> list[bytes]:
        found: list[bytes] = []
        for i, cell in enumerate(cells):
            if not cell:
                found.append(b"")
            elif cell == self._null:
                found.append(self.unset)
            elif (written := self._spelling.one(cell)) is not None:
                found.append(self.prefix + written)
            else:
                found.append(b"")
                self.refuse(i, cell, unfit)
        return found

    def refuse(self, row: int, cell: object, unfit: dict[int, Unfit]) -> None:
        """Note that the cell of a row is not of the type, or leave it out, as told."""
        if self.drops:
            self.dropped += 1
        elif isinstance(cell, str) and not is_text(cell):
            unfit.setdefault(row, not_unicode(self.column, self.field))
        else:
            unfit.setdefault(row, wrong_type(self.column, self.field, self.kind))
