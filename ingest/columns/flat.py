"""Flat objects of cells that are JSON as they stand: the fastest way from columns to objects.

Decides nothing but how the text of many objects is laid: what is the same in all of them, and one
cell after the other in between, joined once. Which cells may be written so, their fields say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ingest.columns.fragments import Field
from ingest.validation.identity import utf8_len


class Flat:
    """Writes objects that have a member for each of some (place of a column, field), in order."""

    def __init__(self, members: Iterable[tuple[int, Field]]) -> None:
        self._members: Final = list(members)
        between, self._between = "{", list[str]()
        for _, field in self._members:
            quote = '"' if field.quoted else ""
            lead = field.prefix.decode() if self._between else field.prefix[1:].decode()
            self._between.append(f"{between}{lead}{quote}")
            between = quote
        self._end: Final = f"{between}}}\n"
        following = [self._end + "".join(self._between[:1]), *self._between[1:]]
        self._row: Final = [text for lead in following for text in (lead, "")]
        """What is the same in every row, with places for cells; it begins by ending another."""
        self.frame: Final = sum(map(utf8_len, self._row)) - len("\n")
        """Bytes of an object without its cells."""

    def objects(self, columns: Sequence[Sequence[str]], size: int) -> list[bytes] | None:
        """Return the object of each row; None where a cell is not as plain as its type asks.

        There must be rows. No cell may be empty, unset or need escaping.
        """
        texts = self._row * size
        for i, (place, field) in enumerate(self._members):
            cells = field.plain(columns[place])
            if cells is None:
                return None
            texts[2 * i + 1 :: len(self._row)] = cells
        texts[0] = self._between[0]
        return ("".join(texts) + self._end[:-1]).encode().split(b"\n")
