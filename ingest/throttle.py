"""The driver that waits for the budget, in the order in which it was asked.

Decides nothing: `ingest.limits.Budget` says how long, this waits that long, or until an answer
changes it. Sends that cost 1 each are also spaced (the only use of aiolimiter) so that they arrive
evenly; the ceiling is the budget alone. It knows no request and no destination.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from typing import Final

from aiolimiter import AsyncLimiter

from ingest.errors import ConfigError
from ingest.limits import Budget, pacing
from ingest.pace import Standing
from ingest.serverwords import ServerWord

SPACED: Final = "its turn, for sends are spaced"
"""What is waited for when there is room, and only the evenness of sends is kept."""

SHORTEST_WAIT: Final = 2e-3
"""Seconds; timers are good to 1 ms and may be early, and asking again too early must not become a
busy loop. What was sent in 2 ms leaves its window in one lump then; of a second, 0.1 % is lost."""


MADE_UP: Final = 0.1
"""Seconds by which turns that our own loop was too late for are made up for, at once; a longer
time passed without work. The ceiling is the budget."""


class Throttle:
    """Grants sends under a `Budget`, first come first served.

    `clock` gives monotonic seconds, `jitter` a number in [0, 1). It belongs to one event loop.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._budget = budget
        self._clock = clock
        self._jitter = jitter
        # What costs the users in it is not spaced. Spaced by requests, a limit in users would let a
        # few large ones through at once all the same, and hold many small ones up; spaced by cost,
        # a burst of 10 ms is smaller than one request, which aiolimiter refuses. A pace limit is
        # even by itself, and in the others a few requests fill a window: no clap to spread.
        spacing = pacing(budget.limits) if budget.counts == "requests" else None
        self._spacing = AsyncLimiter(*spacing) if spacing else None
        self._turns = 0  # sends of the present burst that are left, each its own turn
        self._turns_at = -math.inf
        self._turn = asyncio.Lock()
        self._changed: asyncio.Future[None] | None = None
        self.waiting_until: float | None = None
        """When the first in line asks again at the latest, by the clock; None if nobody waits."""
        self.grants = 0
        self.granted = 0.0
        """Requests that were granted so far, and what they cost."""
        self.waited = 0.0
        """Seconds that those waited to be granted."""

    @property
    def rate(self) -> float:
        """Cost a second that the budget lets go while there is work; inf without a limit."""
        return self._budget.rate

    @property
    def remaining(self) -> int | None:
        """What the destination last said is left of its window; None if it does not say."""
        return self._budget.remaining

    def standing(self) -> Standing:
        """Return how the budget stands now, to tell how long many more requests take."""
        return self._budget.standing(self._clock())

    async def acquire(self, cost: float = 1, in_flight: Callable[[], int] = lambda: 0) -> float:
        """Wait until a request of `cost` may go; return the clock's time of the grant.

        `cost` is 1, or the users in it where the budget counts those. `in_flight` is asked for the
        number of unanswered requests while waiting. A cancelled wait spends nothing. Raises
        `ConfigError` for a cost that no wait makes affordable.
        """
        since = self._clock()
        async with self._turn:
            now = await self._free(cost, in_flight)
            if self._spacing and not self._has_turn(now):
                await self._space(now, self._spacing)
                now = await self._free(cost, in_flight)
            self._spend(now, cost)
            self.waited += now - since
            return now

    def several(self, most: int, in_flight: int) -> int:
        """Return how many requests that cost 1 `at_once` grants in this moment, at most `most`.

        0 where that takes asking for each of them.
        """
        if self._turn.locked() or self._budget.counts != "requests":
            return 0
        now = self._clock()
        if self._spacing is not None:
            if self._has_turn(now):
                most = min(most, self._turns)
            elif self._spacing.has_capacity(self._spacing.max_rate):
                most = min(most, int(self._spacing.max_rate))
            else:
                return 0
        return most if self._budget.free_for(now, most, in_flight) else 0

    async def at_once(self, cost: float, in_flight: int, count: int = 1) -> float | None:
        """Do as `acquire` without a step of the loop; None, and nothing spent, if one has to wait.

        What is spaced has to wait for its turn, unless it has come already. For a `count` of
        requests, ask `several` before.
        """
        if self._turn.locked():
            return None
        now = self._clock()
        if self._budget.delay(now, cost * count, in_flight=in_flight + count - 1):
            return None
        if self._spacing is not None and not self._has_turn(now):
            if not self._spacing.has_capacity(self._spacing.max_rate):
                return None
            await self._space(now, self._spacing)  # it has room, so this returns at once
        self._spend(now, cost, count)
        return now

    def _spend(self, now: float, cost: float, count: int = 1) -> None:
        self._budget.spend(now, cost * count)
        self._turns -= count
        self.grants += count
        self.granted += cost * count

    def hear(
        self,
        word: ServerWord | None,
        in_flight: int,
        *,
        accepted: bool = False,
        sent: float | None = None,
        cost: float = 1,
    ) -> None:
        """Take in how a request ended: what was said, if anything, and whether it was a success.

        Call it for every request, lost ones too, once it no longer counts as in flight;
        `in_flight` are the others, `sent` is what `acquire` returned for it, and `cost` what it was
        asked for.
        """
        now = self._clock()
        if accepted:
            self._budget.accepted(now, sent, cost)
        if word is not None:
            self._budget.hear(word, now, self._jitter(), in_flight, sent)
        if self._changed and self._budget.answers_matter:
            _wake(self._changed)

    def waits_for(self) -> str:
        """Return what the first in line waits for, as a phrase; empty if nobody waits."""
        if self.waiting_until is None:
            return ""
        return self._budget.waits_for(self._clock()) or SPACED

    async def _free(self, cost: float, in_flight: Callable[[], int]) -> float:
        """Wait until the budget has room; return the time."""
        while True:
            now = self._clock()
            delay = self._budget.delay(now, cost, in_flight=in_flight())
            if not delay:
                return now
            if math.isinf(delay):
                raise ConfigError(self._never(cost, now))
            await self._wait(now, max(delay, SHORTEST_WAIT))

    def _never(self, cost: float, now: float) -> str:
        limit = self._budget.waits_for(now)
        if self._budget.counts == "users":
            return (
                f"a request holds {cost:g} users, more than {limit} ever grants: raise the rate, "
                "or put fewer users into a request"
            )
        return f"a request costs {cost:g}, more than {limit} ever grants: raise the rate"

    async def _wait(self, now: float, delay: float) -> None:
        """Wait for `delay` seconds, or until something was heard."""
        loop = asyncio.get_running_loop()
        changed = self._changed = loop.create_future()
        timer = loop.call_later(delay, _wake, changed)
        self.waiting_until = now + delay
        try:
            await changed
        finally:
            timer.cancel()
            self._changed = self.waiting_until = None

    async def _space(self, now: float, spacing: AsyncLimiter) -> None:
        """Wait for the turns of a burst, together: a timer for each would come late, and cost.

        The lock lets nobody else wait for them, so they come within one space.
        """
        self.waiting_until = now + spacing.time_period
        try:
            await spacing.acquire(spacing.max_rate)
        finally:
            self.waiting_until = None
        now = self._clock()
        late = now - self._turns_at - spacing.time_period
        made_up = late / spacing.time_period if 0.0 < late < MADE_UP else 0.0
        self._turns = int(spacing.max_rate * (1 + made_up))
        self._turns_at = now

    def _has_turn(self, now: float) -> bool:
        """Whether one of the burst is left; what nobody took in its time is lost."""
        return self._turns > 0 and now < self._turns_at + MADE_UP


def _wake(changed: asyncio.Future[None]) -> None:
    if not changed.done():
        changed.set_result(None)
