"""Rows that were cut by their delimiter alone: columns at the price of one split.

Decides which text can be cut so: one without quotes and returns, in which every line has as many
cells as the first, and more than one. Says of all cells at once what else would cost a look at
each. Cuts exactly as the reader of rows does (`ingest.sources.rows`); knows no types and no plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final, overload

_END: Final = "\n"
_UNSAFE: Final = bytes({*range(32)} - {ord(_END)}) + b'"\\'
"""What JSON does not hold as it is; a line break is in no cell."""


class Grid(Sequence[list[str]]):
    """Rows of one width, not none, as columns too; as rows they are made when somebody asks."""

    def __init__(self, columns: Sequence[Sequence[str]], text: str, delimiter: str) -> None:
        self.columns: Final = columns
        self._text: Final = text
        self._delimiter: Final = delimiter

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, at: int) -> list[str]: ...
    @overload
    def __getitem__(self, at: slice) -> list[list[str]]: ...
    def __getitem__(self, at: int | slice) -> list[str] | list[list[str]]:
        return self._rows[at]

    def __iter__(self) -> Iterator[list[str]]:
        return iter(self._rows)

    @cached_property
    def _rows(self) -> list[list[str]]:
        return list(map(list, zip(*self.columns, strict=True)))

    @cached_property
    def plain(self) -> bool:
        """Whether every cell is written in JSON as it is, between quotes."""
        data = self._text.encode()
        unsafe = _UNSAFE.replace(self._delimiter.encode(), b"")
        return len(data.translate(None, unsafe)) == len(data)

    @cached_property
    def gapless(self) -> bool:
        """Whether no cell is empty."""
        return all(map(all, self.columns))

    def surely_lacks(self, *cells: str) -> bool:
        """Tell whether surely no cell is one of these texts."""
        return all(cell not in self._text if cell else self.gapless for cell in cells)


def cut(text: str, delimiter: str) -> Grid | None:
    """Return the rows of whole lines, the last end being optional; None if it takes a reader."""
    if '"' in text or "\r" in text or "\0" in text:
        return None
    whole = text.removesuffix(_END)
    width = whole.partition(_END)[0].count(delimiter) + 1
    if width == 1:
        return None
    # Each end of a line becomes a cell of its own. It is in its place after every row, and nowhere
    # else, if all rows are as wide as the first.
    each = width + 1
    cells = whole.replace(_END, f"{delimiter}{_END}{delimiter}").split(delimiter)
    ends = cells[width::each]
    if (
        len(cells) % each != width
        or ends.count(_END) != len(ends)
        or len(ends) != whole.count(_END)
    ):
        return None
    return Grid([cells[at::each] for at in range(width)], whole, delimiter)
