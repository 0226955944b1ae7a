"""Rows that say nothing new of their columns, told by one match for all of them.

Decides what a cell must look like to change nothing of what a survey knows: it is of the column's
type, none of it has to be counted, and it is no new sample. Cells that may, or would take longer to
be told so than to be looked at, are picked out of the rows. A glance is never mistaken: where it is
not sure of a row, all have to be looked at. It remembers nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

import msgspec

from ingest.columns.cells import EXACT_CHARS
from ingest.columns.grid import Grid

DELIMITERS: Final = ",;\t|"
"""Delimiters that can be in no cell of a type, so that a cell cannot be mistaken for two."""

MOST_CHARS: Final = 200
"""Characters of samples that are looked for one by one: a pattern is to stay small."""

MOST_PICKED: Final = 1 / 6
"""The share of columns beyond which picking out their cells costs as much as a split of all."""

_LINE: Final = "\n"
_END: Final = "END"
_LEAP: Final = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DAY: Final = (
    r"(?!0000)(?:[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    rf"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)|{_LEAP}-02-29)"
)
_CLOCK: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]++)?+)?+"
_MOMENT: Final = rf"{_DAY}[Tt ]{_CLOCK}(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9])"
_CELLS: Final = {
    "": rf"[^{_END}]*+",
    "string": rf"[^{_END}]++",
    # As many characters as any double carries: then it need not be read.
    "number": rf"(?=[^{_END}]{{1,{EXACT_CHARS}}}{_END})-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+",
    "boolean": r"(?:[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])",
    "date": rf"(?:{_MOMENT}|{_DAY})",
    "moment": _MOMENT,
}
"""What cells of a type look like that say nothing new; `_END` is what follows the cell."""


class Known(msgspec.Struct, frozen=True):
    """What a cell is that says nothing new of its column: of a type; one of some texts, if any.

    The type "" is that of any cell, "date" that of a day or of a moment with a zone, "moment" that
    of the latter alone.
    """

    type: str
    texts: tuple[str, ...] = ()

    def pattern(self, end: str, null: str) -> str | None:
        """Return what matches such a cell before its `end`; None where it is not worth it.

        `null` is the text that unsets, "" for none.
        """
        if self.texts:
            texts = [text for text in self.texts if not (end in text or _LINE in text)]
            short = 0 < sum(map(len, texts)) <= MOST_CHARS
            return f"(?:{'|'.join(map(re.escape, texts))})" if short else None
        if self.type not in _CELLS:
            return None
        mark = re.escape(end)
        cell = _CELLS[self.type].replace(_END, mark)
        if self.type and null and re.match(cell + mark, null + end):
            return f"(?!{re.escape(null)}{mark}){cell}"
        return cell


ANY: Final = Known("")
"""Of a column of which nothing is to be known."""


class Glance:
    """Looks at rows of whose columns this is known; None where every cell has to be looked at."""

    def __init__(self, known: Sequence[Known | None], delimiter: str, null: str) -> None:
        self.known: Final = known
        self.delimiter: Final = delimiter
        self._ends: Final = [delimiter] * (len(known) - 1) + [_LINE]
        self._cells: Final = [
            None if what is None else what.pattern(end, null)
            for what, end in zip(known, self._ends, strict=True)
        ]
        self._picked: Final = [at for at, cell in enumerate(self._cells) if cell is None]

    @property
    def pays(self) -> bool:
        """Whether it is cheaper than a look at every cell."""
        return len(self._picked) <= MOST_PICKED * len(self.known)

    def look(self, rows: Grid) -> Mapping[int, Sequence[str]] | None:
        """Return the cells of the columns that need a look; None where others may need one."""
        if not self._picked:
            return {} if self._row.fullmatch(rows.text) else None
        found = self._row.findall(rows.text)
        # Each is one line or more, from its beginning: so many are a line each.
        if len(found) != len(rows):
            return None
        columns = [found] if len(self._picked) == 1 else zip(*found, strict=True)
        return dict(zip(self._picked, columns, strict=True))

    def unlike(self, rows: Grid) -> set[int]:
        """Return the columns with a cell that is not as it is known."""
        return {
            at
            for at, (cell, end) in enumerate(zip(self._cells, self._ends, strict=True))
            if cell is not None
            and not re.fullmatch(
                f"(?:{cell}{re.escape(end)})*+", "".join([c + end for c in rows.columns[at]])
            )
        }

    @cached_property
    def _row(self) -> re.Pattern[str]:
        row = "".join(
            (f"([^{re.escape(end)}]*+)" if cell is None else cell) + re.escape(end)
            for cell, end in zip(self._cells, self._ends, strict=True)
        )
        return re.compile(f"^{row}" if self._picked else f"(?:{row})*+", re.MULTILINE)


class Glances:
    """Makes a glance of what is known of columns, and another one when that has changed."""

    def __init__(self, null: str) -> None:
        self._null: Final = null
        self._glance: Glance | None = None
        self._odd: set[int] = set()  # columns with cells that are not always as they are known
        self._wait, self._patience = 0, 1

    def look(self, rows: Grid) -> Mapping[int, Sequence[str]] | None:
        """Do as `Glance.look`, which has to be asked before `learn` is."""
        glance = self._glance
        return glance.look(rows) if glance and glance.delimiter == rows.delimiter else None

    def learn(self, rows: Grid, known: Sequence[Known | None]) -> None:
        """Take what is known of the columns, now that every cell of some rows was looked at.

        A glance costs as much as a look at some rows to make: each that was in vain has to be made
        up for by twice as many rows before another one is made.
        """
        if self._glance is not None and self._glance.delimiter == rows.delimiter:
            before = self._glance.known
            self._odd |= {at for at in self._glance.unlike(rows) if known[at] == before[at]}
        self._glance = None
        if self._wait:
            self._wait -= 1
        elif rows.delimiter in DELIMITERS:
            told = [None if at in self._odd else what for at, what in enumerate(known)]
            glance = Glance(told, rows.delimiter, self._null)
            self._glance = glance if glance.pays else None
            self._wait, self._patience = self._patience, 2 * self._patience
