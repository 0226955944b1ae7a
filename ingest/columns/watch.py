"""One column of a table while it is surveyed: of which type every cell so far was.

Decides when a type is out, and what is known of cells to come. It keeps no cell but some samples.
What was seen of a column in two halves of a table makes what would have been seen in the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from ingest.columns.cells import GUESSES
from ingest.columns.glance import Known
from ingest.columns.plan import MOST_SAMPLES, Column
from ingest.columns.times import count_zoneless

_NOUNS: Final = {
    "number": "a number",
    "boolean": "true or false",
    "json": "a JSON array or object",
    "date": "a date or a time",
}


class Seen(msgspec.Struct, frozen=True):
    """What was seen of a column in some rows, which are numbered from 1.

    `first` is the row of the first cell with a value, 0 where there is none; `open` are the types
    that every cell may still be of, and `broken` is (type, row) of the first that was not of what
    all before it were.
    """

    samples: tuple[str, ...]
    cells: int
    first: int
    open: tuple[str, ...]
    broken: tuple[str, int] | None
    zoneless: int


class Watch:
    """What is known of one column so far."""

    def __init__(self, index: int, column: Column, kind: str, guess: bool) -> None:
        self.index = index
        self._column = column
        self.guesses = guess
        self.dated = column.type == "date"
        self._open = list(GUESSES) if guess else []
        self._moments = kind != "attributes" and column.path == ("time",)
        self._samples: list[str] = []
        self._cells = 0
        self._first = 0
        self._zoneless = 0
        self._broken: tuple[str, int] | None = None

    def see(self, cells: Sequence[str], rows: Sequence[int], null: str, *, blanks: bool) -> None:
        """Look at the column's cells in some rows, whose numbers are `rows`.

        `blanks` false says that surely none of them is empty, or the text that unsets.
        """
        blank = 0
        if blanks:
            blank = cells.count("") + (cells.count(null) if null else 0)
        self._cells += len(cells) - blank
        dated = "date" in self._open or self._column.type == "date"
        if not (self._open or dated or len(self._samples) < MOST_SAMPLES):
            return
        kept = [c for c in cells if c and c != null] if blank else cells
        if not kept:
            return
        if not self._first:
            self._first = next(
                row for cell, row in zip(cells, rows, strict=True) if cell and cell != null
            )
        if len(self._samples) < MOST_SAMPLES:
            self._sample(dict.fromkeys(kept))
        if self._open:
            self._narrow(kept, cells, rows, null)
        if self._open == ["date"] or self._column.type == "date":
            self._zoneless += count_zoneless(kept, moments=self._moments)

    def _sample(self, cells: Iterable[str]) -> None:
        new = [c for c in cells if c not in self._samples]
        self._samples += new[: MOST_SAMPLES - len(self._samples)]

    def pass_over(self, cells: int) -> None:
        """Count cells that are as the column is `known`."""
        self._cells += cells

    @property
    def known(self) -> Known | None:
        """What cells are that need no look, for they have a value and tell nothing new."""
        if len(self._open) > 1 or not self._samples:
            return None
        kind = self._open[0] if self._open else self._column.type
        if len(self._samples) < MOST_SAMPLES:
            # How many of these are times without a zone would have to be counted.
            return None if kind == "date" else Known(kind, tuple(self._samples))
        if kind == "date":
            return Known("moment" if self._moments else "date")
        return Known(kind if self._open else "string")

    def _narrow(
        self, kept: Sequence[str], cells: Sequence[str], rows: Sequence[int], null: str
    ) -> None:
        # The first cell alone tells most types off, at the price of one cell.
        if len(self._open) > 1:
            self._open = [name for name in self._open if GUESSES[name](kept[:1])]
        for name in self._open:
            if not GUESSES[name](kept):
                test = GUESSES[name]
                self._broken = next(
                    (name, row)
                    for cell, row in zip(cells, rows, strict=True)
                    if cell and cell != null and not test([cell])
                )
                self._open, self._zoneless = [], 0

    def seen(self) -> Seen:
        """Return what was seen so far."""
        return Seen(
            tuple(self._samples),
            self._cells,
            self._first,
            tuple(self._open),
            self._broken,
            self._zoneless,
        )

    def join(self, later: Seen, rows: int) -> None:
        """Take what was seen in later rows, which follow those so far, for seen here."""
        if not later.cells:
            return
        broken = later.broken and (later.broken[0], rows + later.broken[1])
        first = rows + later.first
        self._sample(later.samples)
        if not self._cells:
            self._first, self._open, self._broken = first, list(later.open), broken
        elif self._open and self._open != list(later.open):
            # What was of one type, and is then of none or another, breaks where that begins.
            name = self._open[0]
            self._broken = broken if broken and broken[0] == name else (name, first)
            self._open, self._zoneless = [], 0
        if self.dated or self._open == ["date"]:
            self._zoneless += later.zoneless
        self._cells += later.cells

    def decided(self) -> Column:
        """Return the column, with its type and the reason of it."""
        kind, why = self._column.type, self._column.why
        if self.guesses:
            kind = self._open[0] if self._open and self._cells else "string"
            if not self._cells:
                why = "no cell has a value"
            elif self._open:
                why = f"every cell is {_NOUNS[kind]}"
            elif self._broken is not None:
                name, row = self._broken
                why = f"the cell of row {row} is not {_NOUNS[name]}, as all before it"
            else:
                why = "text"
        return msgspec.structs.replace(
            self._column,
            type=kind,
            why=why,
            samples=tuple(self._samples),
            cells=self._cells,
            zoneless=self._zoneless,
        )
