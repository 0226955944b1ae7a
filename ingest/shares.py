"""What share of the records each slot gets: which slots are worth waiting for.

Decides by what came lately, and forgets slowly. Knows neither records nor caps.
"""

from __future__ import annotations

from typing import Final

MAJOR: Final = 0.75
"""A slot that gets at least this share of what the busiest slot gets is worth waiting for; a rarer
one cannot be full in every request, however far we look ahead."""

MEMORY: Final = 5_000.0
"""Records over which a slot's share is remembered."""


class Shares:
    """The shares of so many slots; before anything came, each is worth waiting for."""

    def __init__(self, slots: int) -> None:
        self._came = [0.0] * slots
        self.major = [True] * slots
        """Of each slot, whether it gets enough records to be worth waiting for."""

    def came(self, counts: list[int]) -> None:
        """Take note of records, so many of each slot."""
        fade = MEMORY / (MEMORY + sum(counts))
        self._came = [seen * fade + count for seen, count in zip(self._came, counts, strict=True)]
        worth = MAJOR * max(self._came)
        self.major = [seen >= worth for seen in self._came]
