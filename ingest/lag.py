"""In-flight control that knows how late its own event loop is.

Decides when to look: a timer runs while requests are in flight, and what it is late by was our own
doing (a busy process, a machine that is shared), not the destination's. What follows from that is
decided in `ingest.inflight`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

from ingest.inflight import MOST, InFlight

BEAT: Final = 0.05
"""Seconds between two looks."""

NOTICED: Final = 0.005
"""Seconds; timers are good to 1 ms, and less than this makes no answer slow."""

REST: Final = 5.0
"""Seconds without a send after which nobody looks any more: the run may have ended."""


class Watched(InFlight):
    """`InFlight` on a running loop; `clock` gives monotonic seconds."""

    def __init__(
        self,
        rate: float = math.inf,
        *,
        most: int = MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(rate, most=most)
        self._clock = clock
        self._watching = False
        self._sent_at = -math.inf
        self._due = 0.0

    def sent(self, now: float, count: int = 1) -> None:
        """Note attempts on their way, and watch the loop until they are answered."""
        super().sent(now, count)
        self._sent_at = now
        if not self._watching:
            self._watching = True
            self._look_again()

    def _look_again(self) -> None:
        self._due = self._clock() + BEAT
        asyncio.get_running_loop().call_later(BEAT, self._look)

    def _look(self) -> None:
        now = self._clock()
        if now - self._due > NOTICED:
            self.stalled(now, now - self._due)
        self._watching = self.out > 0 and now - self._sent_at < REST
        if self._watching:
            self._look_again()
