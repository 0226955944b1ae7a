"""The session of a queue: what is received, what waits for the driver, and how it ends.

Decides when to poll, what becomes a line, and in which order the end goes. How long messages are
ours, and what the queue is told of them, is done beside it (`sqs_holding`, `sqs_telling`); how many
polls are useful, `ingest.polling` says. Knows no client but by what it is asked for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from contextlib import suppress
from typing import Any, Final

from ingest.messages import Unreadable
from ingest.polling import MOST_MESSAGES, Need
from ingest.receipts import Receipts
from ingest.records import KINDS
from ingest.sources.base import Block, Unfit
from ingest.sources.sqs_client import POLL_SECONDS, Message, Trouble
from ingest.sources.sqs_holding import Holder
from ingest.sources.sqs_shelf import Shelf
from ingest.sources.sqs_telling import Teller
from ingest.sources.sqs_ties import AGAIN_SECONDS, LINGER_SECONDS, MOST_SECONDS, Ties, cancelled

SHORT_SECONDS: Final = 1
"""How long polls beside the first one wait: they are for a queue that is full. A poll that waits
takes what is given back at the end, so that one poll at most may be waiting then."""

LAST_SECONDS: Final = 0.5
"""How long the end waits for the poll that waits, once all is given back: it answers at once if it
took something. One that is cancelled may still be answered, to nobody, with a message that comes
within its 20 s; that message comes again once its time is up."""

END_SECONDS: Final = 10.0
"""How long the last deletes are tried: what is not deleted is only read again."""

BACK_SECONDS: Final = 5.0
"""The same for giving back: what is not given back comes again once its time is up."""


class SqsSession:
    """Messages of one queue, until `stop`."""

    def __init__(self, ties: Ties) -> None:
        self._ties = ties
        self._receipts = Receipts(ordered=ties.ordered, give_back=ties.give_back)
        self._holder = Holder(ties, self._receipts)
        self._teller = Teller(ties, self._receipts, self._holder)
        self._need = Need(ties.pollers)
        self._shelf = Shelf()
        self._polling = 0  # polls under way
        self._go = asyncio.Event()  # a poll may be useful again
        self._news = asyncio.Event()  # for the driver
        self._stopped = False
        self._failed: Exception | None = None
        self._over = asyncio.Event()
        self._pollers: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._returning: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Start to poll."""
        self._pollers = [self._started(self._poll(at)) for at in range(self._ties.pollers)]
        self._tasks = [self._started(self._holder.run()), self._started(self._teller.run())]

    @property
    def waiting(self) -> int:
        """Messages that were received, and not handed over."""
        return len(self._shelf)

    # For the driver

    async def blocks(self) -> AsyncIterator[Block]:
        """Yield blocks as messages come. Raises what ended the session, if something did."""
        while True:
            if self._failed is not None:
                raise self._failed
            if self._stopped:
                return
            block = self._shelf.take()
            if block is None:
                self._news.clear()
                await self._news.wait()
                continue
            self._go.set()
            yield block

    def stop(self) -> None:
        """Hand over no more; what was not handed over is given back at once."""
        if self._stopped:
            return
        self._stopped = True
        self._go.set()
        self._news.set()
        self._return(self._shelf.clear())

    async def revoked(self) -> None:
        """Return when the session has ended: nobody takes a queue away."""
        await self._over.wait()

    def settled(self, part: int, lines: Sequence[int], bad: Collection[int]) -> None:
        """Note messages that have their end; the queue is told within some 50 ms."""
        self._teller.settle(lines, bad)

    def place(self, part: int, line: int) -> str:
        """Return what people call a message: `user-events@MESSAGE-ID`."""
        return f"{self._ties.name}@{self._receipts.message_id(line) or f'message {line}'}"

    def whence(self, part: int, line: int) -> dict[str, Any]:
        """Return the `source` of a dead letter."""
        return {"name": self._ties.name, "message_id": self._receipts.message_id(line)}

    async def end(self) -> None:
        """Delete what is settled, as far as that can be done, and give the rest back.

        Raises `LocalFailure` if dead letters cannot be brought to safety; then nothing more is
        deleted.
        """
        self.stop()
        try:
            async with asyncio.timeout(END_SECONDS):
                while (failed := await self._teller.told()) is not None:
                    if failed:
                        await asyncio.sleep(AGAIN_SECONDS)
        except TimeoutError:
            pass
        finally:
            await self._all_end()
            self._over.set()

    async def _all_end(self) -> None:
        """Give back what is held, once nothing can hold on to it any more."""
        await cancelled(self._tasks)
        if others := self._pollers[1:]:
            await asyncio.wait(others, timeout=2 * SHORT_SECONDS)
            await cancelled(others)
        await self._all_back()
        await asyncio.wait(self._pollers[:1], timeout=LAST_SECONDS)
        await cancelled(self._pollers)
        await self._all_back()
        await cancelled(self._returning)

    async def _all_back(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(BACK_SECONDS):
                while self._returning:
                    await asyncio.wait(self._returning)
                await self._teller.give_back(self._receipts.rest())

    # Receiving

    async def _poll(self, at: int) -> None:
        """Poll for as long as poll number `at` is one of those that are useful."""
        ties, wait = self._ties, AGAIN_SECONDS
        patience = POLL_SECONDS if at == 0 else SHORT_SECONDS
        while not self._stopped:
            if at >= self._need.wanted or not self._room:
                self._go.clear()
                await self._go.wait()
                continue
            if self._holder.late:
                # What is here comes first: the queue would give it to others.
                await asyncio.sleep(LINGER_SECONDS)
                continue
            self._polling += 1
            try:
                messages = await ties.queue.receive(ties.visibility, patience)
            except Trouble as why:
                ties.answered(why)
                self._need.failed()
                await self._pause(wait)
                wait = min(2 * wait, MOST_SECONDS)
                continue
            finally:
                self._polling -= 1
            ties.answered(None)
            wait = AGAIN_SECONDS
            before = self._need.wanted
            self._need.came(len(messages))
            if self._need.wanted > before:
                self._go.set()
            self._take(messages)

    @property
    def _room(self) -> bool:
        ties, shelf = self._ties, self._shelf
        coming = len(shelf) + (self._polling + 1) * MOST_MESSAGES
        return coming <= ties.buffer_messages and shelf.bytes < ties.buffer_bytes

    async def _pause(self, seconds: float) -> None:
        """Wait for a part of some seconds, or for the end."""
        until = _now() + random.uniform(0.5, 1.0) * seconds
        while not self._stopped and (left := until - _now()) > 0:
            self._go.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._go.wait()

    def _take(self, messages: Sequence[Message]) -> None:
        counts, receipts = self._ties.counts, self._receipts
        nothing: list[int] = []
        late: list[int] = []
        for message in messages:
            counts.received += 1
            here = len(receipts)
            number, fresh = receipts.take(message.message_id, message.handle, message.group)
            self._holder.take(number)
            if not fresh:
                if len(receipts) > here:
                    counts.owed += 1
                    self._teller.owed()
                else:
                    counts.again += 1
            elif self._stopped:
                late.append(number)
            elif not self._put(number, message):
                nothing.append(number)
        if nothing:
            self.settled(0, nothing, ())
        self._return(late)
        if messages:
            self._news.set()

    def _put(self, number: int, message: Message) -> bool:
        """Put a message on the shelf; False if it holds nothing."""
        body = message.body.encode(errors="surrogatepass")  # half a character is no JSON
        if not body or body.isspace():
            self._ties.counts.tombstones += 1
            return False
        kind = message.kind if message.kind in KINDS else None  # else it is somebody else's
        try:
            line = self._ties.line(body, kind)
        except Unreadable as bad:
            row = Unfit(number, bad.code, bad.field, str(bad), body, bad.summary)
            self._shelf.put_unfit(row)
            return True
        if not line:
            self._ties.counts.emptied += 1
            return False
        self._shelf.put(number, line)
        return True

    def _return(self, numbers: Sequence[int]) -> None:
        """Give messages back that were not handed over, soon."""
        if numbers:
            task = self._started(self._teller.give_back(numbers))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    # Tasks

    def _started(self, work: Awaitable[None]) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # dead letters that cannot be written, for one
                self._failed = error
                self._news.set()

        return asyncio.create_task(guarded())


def _now() -> float:
    return asyncio.get_running_loop().time()
