"""Telling a queue what became of its messages: deleted, or given back.

Decides when it is told: in tens, soon after messages were settled, after their dead letters are
safe, and again for what did not work. Which messages, `ingest.receipts` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress

from ingest.receipts import Ask, Receipts
from ingest.sources.sqs_client import TEN, Ends, Trouble
from ingest.sources.sqs_holding import Holder
from ingest.sources.sqs_ties import (
    AGAIN_SECONDS,
    AT_ONCE,
    LINGER_SECONDS,
    MOST_SECONDS,
    Ties,
    tens,
)


class Teller:
    """Tells the queue of what is settled, for as long as `run` runs."""

    def __init__(self, ties: Ties, receipts: Receipts, holder: Holder) -> None:
        self._ties = ties
        self._receipts = receipts
        self._holder = holder
        self._settled = asyncio.Event()
        self._telling = asyncio.Lock()

    def settle(self, numbers: Iterable[int], bad: Collection[int]) -> None:
        """Take messages that have their end."""
        self._receipts.settle(numbers, bad)
        self._settled.set()

    def owed(self) -> None:
        """Note that there is something to tell already."""
        self._settled.set()

    async def run(self) -> None:
        """Tell the queue of what is settled, soon after it is."""
        while True:
            await self._settled.wait()
            self._settled.clear()
            await asyncio.sleep(LINGER_SECONDS)
            wait = AGAIN_SECONDS
            while (failed := await self.told()) is not None:
                if not failed:
                    wait = LINGER_SECONDS
                await asyncio.sleep(wait)
                wait = min(2 * max(wait, AGAIN_SECONDS), MOST_SECONDS)

    async def told(self) -> int | None:
        """Tell the queue of what is settled now.

        Returns of how many messages that did not work, None if there was nothing to tell.
        """
        async with self._telling:
            # Before `durable` is asked: what is settled while it works has letters that are not
            # safe yet, and waits for the next time.
            ended = self._receipts.ended()
            if ended:
                await self._ties.durable()
                self._receipts.safe(ended)
            delete, back = self._receipts.due()
            if not delete and not back:
                return None
            self._holder.drop(ask.number for ask in back)
            if self._ties.ordered:
                return await self._deleted_in_order(delete)
            gate = asyncio.Semaphore(AT_ONCE)
            jobs = [self._ask(self._deleted, ten, gate) for ten in tens(delete)]
            jobs += [self._ask(self._back, ten, gate) for ten in tens(back)]
            return sum(await asyncio.gather(*jobs))

    async def _deleted_in_order(self, asks: Sequence[Ask]) -> int:
        """Delete one ten after another, up to the first of which something is left."""
        gate = asyncio.Semaphore(1)
        for at in range(0, len(asks), TEN):
            failed = await self._ask(self._deleted, asks[at : at + TEN], gate)
            if failed:
                for ask in asks[at + TEN :]:
                    self._receipts.failed(ask)
                return failed
        return 0

    async def _ask(
        self,
        what: Callable[[Sequence[Ask]], Awaitable[Ends]],
        asks: Sequence[Ask],
        gate: asyncio.Semaphore,
    ) -> int:
        """Ask for ten messages at most; return of how many that did not work."""
        try:
            async with gate:
                ends = await what(asks)
        except Trouble as why:
            self._ties.answered(why)
            ends = Ends([], [], list(range(len(asks))))
        for at in ends.done:
            self._receipts.done(asks[at])
        for at in ends.failed:
            self._receipts.failed(asks[at])
        if ends.failed and ends.why:
            self._ties.rarely(
                f"{len(ends.failed)} messages of {self._ties.name} could not be deleted or given "
                f"back ({ends.why}); that is tried again."
            )
        return len(ends.failed)

    async def _deleted(self, asks: Sequence[Ask]) -> Ends:
        ends = await self._ties.queue.delete(asks)
        self._ties.counts.deleted += len(ends.done)
        self._holder.drop(asks[at].number for at in (*ends.done, *ends.gone))
        expired = sum(self._receipts.expired(asks[at]) for at in ends.gone)
        if expired:
            self._ties.counts.expired += expired
            self._ties.rarely(
                f"{expired} messages of {self._ties.name} were settled after the queue had taken "
                "them back: they may be delivered twice. Raise 'visibility' in [source] if that "
                "happens often."
            )
        return ends

    async def _back(self, asks: Sequence[Ask]) -> Ends:
        """Give bad messages back: the queue's own policy says what becomes of them."""
        ends = await self._ties.queue.keep([(ask, 0) for ask in asks])
        self._ties.counts.given_back += len(ends.done)
        for at in ends.gone:
            self._receipts.expired(asks[at])
        return ends

    async def give_back(self, numbers: Sequence[int]) -> None:
        """Give messages back that are not settled: others get them at once."""
        await self._holder.dropped(numbers)  # or an extension would come after it
        asks = self._receipts.give_up(numbers)
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(ten: Sequence[Ask]) -> None:
            async with gate:
                with suppress(Trouble):  # then they come again by themselves
                    ends = await self._ties.queue.keep([(ask, 0) for ask in ten])
                    self._ties.counts.given_back += len(ends.done)

        await asyncio.gather(*map(one, tens(asks)))
