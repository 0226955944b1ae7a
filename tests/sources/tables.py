"""Columns that are made into nothing but themselves, for the tests of what reads tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ingest.codec import dumps, loads
from ingest.sources.base import Block

Seen = list[tuple[int, list[str]]]


class Refusal(NamedTuple):
    """Why a row makes no record."""

    code: str
    field: str
    reason: str
    summary: str = ""
    who: bytes = b""


class Plain:
    """Makes a list of every row, and refuses those of another width than the header's."""

    def __init__(self) -> None:
        self.surveyed: dict[tuple[str, ...], list[list[str]]] = {}
        self.asked: list[tuple[bool, bool]] = []

    def survey(self, header: tuple[str, ...], *, guess: bool, typed: bool) -> PlainSurvey:
        """Return a survey that keeps what it sees."""
        self.asked.append((guess, typed))
        return PlainSurvey(header, self.surveyed.setdefault(header, []))

    def encoder(self, plan: tuple[str, ...]) -> PlainEncoder:
        """Return an encoder for rows of as many cells."""
        return PlainEncoder(plan)


class PlainSurvey:
    """Keeps all rows; its plan is the header."""

    needed = True

    def __init__(self, header: tuple[str, ...], rows: list[list[str]]) -> None:
        self._header = header
        self._rows = rows

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Keep some rows."""
        self._rows += map(list, rows)

    def findings(self) -> list[list[str]]:
        """Return all rows."""
        return self._rows

    def join(self, later: list[list[str]]) -> None:
        """Keep rows that another survey kept."""
        self._rows += later

    def plan(self) -> tuple[str, ...]:
        """Return the header."""
        return self._header


class PlainEncoder:
    """Encodes a row as an array."""

    def __init__(self, header: tuple[str, ...]) -> None:
        self._width = len(header)

    def encode(self, rows: Sequence[Sequence[Any]]) -> list[bytes | Refusal]:
        """Return an array for each row that has as many cells as the header."""
        refusal = Refusal("cells", "", "the row has another number of cells")
        return [dumps(row) if len(row) == self._width else refusal for row in rows]

    encode_values = encode

    def vouch(self, rows: Sequence[Sequence[Any]]) -> None:
        """Vouch for nothing."""


def lines_of(blocks: Sequence[Block]) -> list[tuple[int, Any]]:
    """Return all lines, decoded, with their numbers."""
    found: list[tuple[int, Any]] = []
    for block in blocks:
        lines = block.lines()
        numbers = block.numbers()
        assert len(lines) == len(numbers)
        found += [(number, loads(line)) for number, line in zip(numbers, lines, strict=True)]
    return found


def in_order(blocks: Sequence[Block]) -> list[tuple[int, str]]:
    """Return the line of each row that was read, in the order it came, with what became of it."""
    found: list[tuple[int, str]] = []
    for block in blocks:
        rows = [(number, "line") for number in block.numbers()]
        rows += [(row.line, row.code) for row in block.unfit]
        rows += [(line, "oversize") for line, _ in block.oversize]
        found += sorted(rows)
    return found
