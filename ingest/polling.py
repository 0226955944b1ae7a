"""How many polls of a queue are useful at a time: one when it is quiet, more while they come full.

Decides the number alone. Knows no queue.
"""

from __future__ import annotations

from typing import Final

MOST_MESSAGES: Final = 10
"""Messages of one poll: a queue gives no more."""

FEW: Final = MOST_MESSAGES // 2
"""Fewer than this: the queue is nearly empty, and the other polls bring more of nothing."""


class Need:
    """The number of polls that are wanted, from 1 to `most`."""

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self.wanted = 1

    def came(self, messages: int) -> None:
        """Note what a poll brought."""
        if messages >= MOST_MESSAGES:
            self.wanted = min(self._most, self.wanted + 1)
        elif messages < FEW:
            self.wanted = max(1, self.wanted - 1)

    def failed(self) -> None:
        """Note a poll without an answer: one is enough to find out when there are answers again."""
        self.wanted = 1
