"""Lines that would be said over and over, said now and then.

Decides when a line is passed on, and that none is left out without a word. Knows no log and no
terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

SELDOM_SECONDS: Final = 60.0
"""Between two lines of one sort: a broker that is away is noticed ten times a second."""


class Seldom:
    """Passes lines on to people, one a minute; the next one tells how many there were between."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._next = float("-inf")
        self._left_out = 0

    def __call__(self, line: str) -> None:
        """Take a line."""
        now = self._clock()
        if now < self._next:
            self._left_out += 1
            return
        more = f" ({self._left_out} more like it)" if self._left_out else ""
        self._say(f"{line}{more}")
        self._next, self._left_out = now + SELDOM_SECONDS, 0
