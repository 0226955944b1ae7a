"""Holding on to messages of a queue: their time is extended until they are settled or given back.

Decides how many requests for that are under way. Which messages, and for how long, is decided by
`ingest.visibility`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from ingest.receipts import Ask, Receipts
from ingest.sources.sqs_client import TEN, Trouble
from ingest.sources.sqs_ties import AT_ONCE, LINGER_SECONDS, Ties
from ingest.visibility import Visibility

PATIENCE: Final = 1 / 2
"""How long an extension may take, as a part of the time that a message is ours at first."""


class Holder:
    """Extends what is held of `receipts`, for as long as `run` runs."""

    def __init__(self, ties: Ties, receipts: Receipts) -> None:
        self._ties = ties
        self._receipts = receipts
        self._visibility = Visibility(ties.visibility)
        self._came = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def late(self) -> bool:
        """Whether it is behind, so that no more messages should be taken."""
        return self._visibility.late(_now())

    def take(self, number: int) -> None:
        """Hold on to a message that was received just now."""
        self._visibility.take(number, _now())
        self._came.set()

    def drop(self, numbers: Iterable[int]) -> None:
        """Hold on to messages no longer."""
        self._visibility.drop(numbers)

    async def dropped(self, numbers: Iterable[int]) -> None:
        """The same; returns when no extension of them is under way any more."""
        self._visibility.drop(numbers)
        if self._under_way:
            await asyncio.wait(list(self._under_way))

    async def run(self) -> None:
        """Extend messages before others get them."""
        gate = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            while True:
                await self._something_due()
                await gate.acquire()
                due = self._visibility.due(_now(), TEN)
                if due.let_go:
                    self._let_go(len(due.let_go))
                receipts = self._receipts
                asks = [(receipts.ask(n), seconds) for n, seconds in due.extend if n in receipts]
                task = group.create_task(self._extend(asks))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                task.add_done_callback(lambda _: gate.release())

    async def _something_due(self) -> None:
        while True:
            at, now = self._visibility.next(), _now()
            if at is not None and at <= now:
                return
            self._came.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if at is None else at - now):
                    await self._came.wait()

    async def _extend(self, asks: Sequence[tuple[Ask, int]]) -> None:
        if not asks:
            return
        asked = _now()
        try:
            async with asyncio.timeout(self._ties.visibility * PATIENCE):
                ends = await self._ties.queue.keep(asks)
        except TimeoutError:
            return  # it is due again, and the polls say what is wrong
        except Trouble as why:
            self._ties.answered(why)
            await asyncio.sleep(LINGER_SECONDS)
            return
        for at in ends.done:
            self._visibility.extended(asks[at][0].number, asked, asks[at][1])
        lost = [asks[at][0] for at in ends.gone if self._receipts.held_by(asks[at][0])]
        self._visibility.drop(ask.number for ask in lost)
        if lost:
            self._ties.counts.lost += len(lost)
            self._ties.rarely(
                f"{len(lost)} messages of {self._ties.name} could not be held on to: the queue "
                "gives them to others, and they may be delivered twice. Raise 'visibility' in "
                "[source] if that happens often."
            )

    def _let_go(self, messages: int) -> None:
        if self._ties.counts.let_go == 0:
            self._ties.say(
                f"Messages of {self._ties.name} were here for 12 hours, which is as long as a "
                "queue keeps any from others: they come again, and may be delivered twice."
            )
        self._ties.counts.let_go += messages


def _now() -> float:
    return asyncio.get_running_loop().time()
