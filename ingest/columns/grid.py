"""Rows that were cut by their delimiter alone: columns at the price of one split.

Decides which text can be cut so: one without quotes and returns, in which every line has as many
cells as the first, and more than one. Says of all cells at once what else would cost a look at
each. Cuts exactly as the reader of rows does (`ingest.sources.rows`); knows no types and no plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from typing import Final, overload

_END: Final = "\n"
_MARK: Final = "\0"
"""What is in no text that can be cut."""

_UNSAFE: Final = bytes({*range(32)} - {ord(_END)}) + b'"\\'
"""What JSON does not hold as it is; a line break is in no cell."""


class Grid(Sequence[list[str]]):
    """Rows of one width, not none; as columns, and as rows, they are made when somebody asks.

    `text` holds them as lines, each with its end.
    """

    def __init__(self, text: str, delimiter: str, width: int, size: int) -> None:
        self.text: Final = text
        self.delimiter: Final = delimiter
        self.width: Final = width
        self._size: Final = size

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, at: int) -> list[str]: ...
    @overload
    def __getitem__(self, at: slice) -> list[list[str]]: ...
    def __getitem__(self, at: int | slice) -> list[str] | list[list[str]]:
        return self._rows[at]

    def __iter__(self) -> Iterator[list[str]]:
        return iter(self._rows)

    @cached_property
    def columns(self) -> list[list[str]]:
        """The cells of each column."""
        cells = self._row.split(self.delimiter)
        return [cells[at :: self.width] for at in range(self.width)]

    @cached_property
    def _row(self) -> str:
        """All rows, as if they were one."""
        return self.text[: -len(_END)].replace(_END, self.delimiter)

    @cached_property
    def _rows(self) -> list[list[str]]:
        return list(map(list, zip(*self.columns, strict=True)))

    @cached_property
    def plain(self) -> bool:
        """Whether every cell is written in JSON as it is, between quotes."""
        data = self.text.encode()
        unsafe = _UNSAFE.replace(self.delimiter.encode(), b"")
        return len(data.translate(None, unsafe)) == len(data)

    @cached_property
    def gapless(self) -> bool:
        """Whether no cell is empty."""
        mark, row = self.delimiter, self._row
        # A pattern finds two characters twice as fast as `in` where there are many of the first.
        twice = re.compile(re.escape(mark * 2))
        return not (row.startswith(mark) or row.endswith(mark) or twice.search(row))

    def surely_lacks(self, *cells: str) -> bool:
        """Tell whether surely no cell is one of these texts."""
        return all(cell not in self.text if cell else self.gapless for cell in cells)


def cut(text: str, delimiter: str) -> Grid | None:
    """Return the rows of whole lines, the last end being optional; None if it takes a reader."""
    if '"' in text or "\r" in text or _MARK in text:
        return None
    whole = text if text.endswith(_END) else text + _END
    width = whole[: whole.index(_END)].count(delimiter) + 1
    if width == 1:
        return None
    mark, marked = delimiter, whole
    if not delimiter.isascii():  # it has several bytes
        mark, marked = _MARK, whole.replace(delimiter, _MARK)
    # What is left of the lines without their cells shows how many each has.
    shape = marked.encode(errors="surrogatepass").translate(None, _all_but(mark))
    size = len(shape) // width
    if shape != (mark * (width - 1) + _END).encode() * size:
        return None
    return Grid(whole, delimiter, width, size)


@cache
def _all_but(mark: str) -> bytes:
    return bytes({*range(256)} - {ord(mark), ord(_END)})
