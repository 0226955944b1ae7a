"""In-flight control on a loop that stalls: what is told, and when nobody looks."""

from __future__ import annotations

import asyncio

from ingest.lag import BEAT, REST, Watched
from tests.virtual_clock import run


class Told(Watched):
    """Keeps what it is told of stalls, on a clock that can be moved as a stalled loop's is."""

    def __init__(self) -> None:
        self.skipped = 0.0
        super().__init__(1000.0, most=100, clock=lambda: self.now())
        self.stalls: list[float] = []

    def now(self) -> float:
        """The loop's time, and what was skipped."""
        return asyncio.get_running_loop().time() + self.skipped

    def stalled(self, now: float, seconds: float) -> None:
        """Keep it."""
        self.stalls.append(round(seconds, 3))
        super().stalled(now, seconds)


def test_a_late_timer_is_told_and_a_punctual_one_is_not() -> None:
    """While a request is in flight, what the loop was late by is known to the control."""

    async def main() -> list[float]:
        control = Told()
        control.sent(control.now())
        control.sent(control.now())
        await asyncio.sleep(3.5 * BEAT)
        control.skipped = 0.2
        await asyncio.sleep(3 * BEAT)
        return control.stalls

    assert run(main()) == [0.2]


def test_nobody_looks_once_all_is_answered_or_nothing_was_sent_for_long() -> None:
    """A run that ended leaves no timer behind, and neither does one that was broken off."""

    async def main(answered: bool) -> list[float]:
        control = Told()
        control.sent(control.now())
        if answered:
            control.answered(control.now(), 0.0, "ok")
        await asyncio.sleep(2 * BEAT if answered else REST + 2 * BEAT)
        control.skipped = 1.0
        await asyncio.sleep(10 * BEAT)
        return control.stalls

    assert run(main(True)) == []
    assert run(main(False)) == []
