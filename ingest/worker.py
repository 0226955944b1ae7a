"""A worker: a driver for each session of a live source, one after another, until `stop`.

Decides what happens when a session is taken away, when the worker is told to stop, and when that
takes too long. What is left of a session unsent is its source's: it is counted as never read. Knows
no source and no sink; what is read and what is sent with, it is given.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from ingest.acking import Acks
from ingest.balance import Balance
from ingest.errors import IngestError
from ingest.metrics import Vitals
from ingest.pipeline import Driver
from ingest.sources.base import Block
from ingest.sources.live import LiveSource, Session
from ingest.taken import Refusal
from ingest.throttle import Throttle

log = logging.getLogger("ingest")

TELL_SECONDS: Final = 60.0
"""Between two lines with the balance."""

MARK_SECONDS: Final = 1.0
"""Between two marks of when messages were read: the age of the oldest is as exact as that."""

GIVEN_BACK: Final = "given_back"
"""Column of records that were read, and given back to their source unsent."""

_BAD: Final = ("rejected", "invalid", "failed", "held")

Drive = Callable[[Session], tuple[Driver, Acks]]
"""Makes the driver of a session, and what follows its messages; all count in one balance."""

Passed = Callable[[Block], Awaitable[Block]]
"""What a block passes on its way to the driver; it may wait there."""


async def _as_it_is(block: Block) -> Block:
    return block


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker ends. `drain_timeout` is in seconds.

    With `drains` what is queued is sent too before it ends, for its source has it no more. With
    `keeps` a journal has what is queued, so that it stays pending.
    """

    drain_timeout: float = 25.0
    drains: bool = False
    keeps: bool = False


class Worker:
    """Delivers what a source has, until `stop`.

    `balance` is that of all drivers, `throttle` what they all wait by. `passed` is what each block
    passes on its way, `spool_bytes` says how much is in a spool. `tell` takes a line a minute.
    """

    def __init__(
        self,
        source: LiveSource,
        drive: Drive,
        *,
        balance: Balance,
        throttle: Throttle,
        settings: WorkerSettings | None = None,
        passed: Passed = _as_it_is,
        spool_bytes: Callable[[], int | None] = lambda: None,
        tell: Callable[[str], None] = log.info,
    ) -> None:
        self.balance = balance
        self.drained = True
        """Whether all that was in flight, and had to be sent, had its end before the worker."""
        self._source = source
        self._drive = drive
        self._throttle = throttle
        self._settings = settings or WorkerSettings()
        self._passed = passed
        self._spool_bytes = spool_bytes
        self._tell = tell
        self._stopping = asyncio.Event()
        self._opened = False
        self._driver: Driver | None = None
        self._running: asyncio.Task[Any] | None = None
        self._error: IngestError | None = None
        self._ages = Ages()
        self._given_back = Counter[str]()
        self._turned_away = Counter[str]()

    # What others may do and ask

    async def run(self) -> bool:
        """Work until `stop`, or until the source ends; return whether all was drained.

        Raises what opening the source raises, `InputError` for one that cannot be read on, and
        `LocalFailure`.
        """
        teller = asyncio.create_task(self._keep_telling())
        try:
            if await self._open():
                async for session in self._source.sessions():
                    await self._work(session)
                    if self._error is not None:
                        break
        finally:
            self._stopping.set()
            self._source.stop()
            teller.cancel()
            await asyncio.gather(teller, return_exceptions=True)
            await self._source.aclose()
        if self._error is not None:
            raise self._error
        return self.drained

    def stop(self) -> None:
        """Read nothing more, and end when what is in flight was answered; called again, end now."""
        if self._stopping.is_set():
            self._break_off()
            return
        self._stopping.set()
        self._source.stop()
        self._interrupt()
        asyncio.get_running_loop().call_later(self._settings.drain_timeout, self._break_off)

    def turned_away(self, refusals: Sequence[Refusal]) -> None:
        """Account for records that were refused at the door: whoever sent them has them."""
        for one in refusals:
            self.balance.read(one.kind)
            self.balance.settle(one.kind, "invalid")
            summary = one.summary or one.reason
            self.balance.explain(one.code, one.field, "invalid", summary, self._source.name)
            self._turned_away[one.code] += 1

    @property
    def ready(self) -> bool:
        """Whether it reads: the source is connected, and nobody told it to stop."""
        return self._opened and self._source.ready and not self._stopping.is_set()

    @property
    def requests_in_flight(self) -> int:
        """Requests without an answer yet."""
        return 0 if self._driver is None else self._driver.requests_in_flight

    def vitals(self) -> Vitals:
        """Return how it is now."""
        balance, driver = self.balance, self._driver
        records = {
            (column, kind): count
            for kind, row in balance.kinds().items()
            for column, count in row.items()
            if column != "pending" and (count or column in ("read", "delivered"))
        }
        for kind, count in self._given_back.items():
            # A counter never goes back: what was given back was read all the same.
            records["read", kind] += count
            records[GIVEN_BACK, kind] = count
        letters = Counter[str]()
        for reason in balance.reasons():
            if reason.column in _BAD:
                letters[reason.code] += reason.count
        letters.subtract(self._turned_away)
        return Vitals(
            records=records,
            requests=dict(balance.by_status),
            letters=+letters,
            retries=balance.retried,
            maybe_duplicated=balance.maybe_duplicated,
            in_flight=self.requests_in_flight,
            queued=0 if driver is None else driver.queued_records,
            spool_bytes=self._spool_bytes(),
            rate_wait=self._throttle.waited,
            rate_limit_remaining=self._throttle.remaining,
            lag=self._source.lag,
            oldest_unsettled=self._ages.oldest(_now()),
            halted=driver is not None and driver.halted is not None,
        )

    def sentence(self) -> str:
        """Return the balance as a sentence, without its end."""
        columns = self.balance.columns()
        bad = ", ".join(f"{columns[name]:,} {name}" for name in _BAD if columns[name])
        pending = columns["pending"]
        return (
            f"{columns['read']:,} records read, {columns['delivered']:,} delivered, "
            f"{bad or 'none bad'}, {pending:,} pending"
        )

    # The sessions

    async def _open(self) -> bool:
        """Open the source; return whether it was, before somebody said to stop."""
        opening = asyncio.ensure_future(self._source.open())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _ended(stopping)
            if not opening.done():
                await _ended(opening)
        if opening.cancelled():
            return False
        opening.result()
        self._opened = True
        return not self._stopping.is_set()

    async def _work(self, session: Session) -> None:
        """Work on a session to its end, whoever brings that about."""
        driver, acks = self._drive(session)
        self._driver = driver
        self._ages = Ages(acks.oldest)
        running = self._running = asyncio.create_task(driver.run(self._blocks(session)))
        revoked = asyncio.create_task(session.revoked())
        if self._stopping.is_set():
            self._interrupt()
        try:
            await asyncio.wait((running, revoked), return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                driver.interrupt()
                await asyncio.wait((running,))
        finally:
            await _ended(revoked)
            await _ended(running)
            try:
                await session.end()
            finally:
                self._ages = Ages()
                self._give_back()
        if not running.cancelled():
            running.result()  # a defect is not hidden
        self._error = driver.error

    async def _blocks(self, session: Session) -> AsyncIterator[Block]:
        async for block in session.blocks():
            self._ages.read(block, _now())
            yield await self._passed(block)

    def _give_back(self) -> None:
        """Count what is left as never read, unless a journal counts it as read for good."""
        if self._settings.drains and self.balance.count("pending"):
            self.drained = False
        elif not (self._settings.keeps or self._settings.drains):
            self._given_back.update(self.balance.give_back())

    # The end

    def _interrupt(self) -> None:
        if self._driver is not None and not self._settings.drains:
            self._driver.interrupt()

    def _break_off(self) -> None:
        running = self._running
        if running is not None and not running.done() and not running.cancelling():
            # Cancelled once: again would break off the settling of what was in flight.
            self.drained = False
            running.cancel()

    # The line a minute

    async def _keep_telling(self) -> None:
        requests, throttled = self.balance.requests, self.balance.throttled
        while True:
            await asyncio.sleep(TELL_SECONDS)
            now, refused = self.balance.requests, self.balance.throttled
            said = f"{self.sentence()}; {(now - requests) / TELL_SECONDS:.1f} requests/s"
            if refused - throttled:
                said += f", {refused - throttled:,} answers of 429"
            if (lag := self._source.lag) is not None:
                said += f"; {lag:,} wait in {self._source.name}"
            if (driver := self._driver) is not None and driver.waiting_for:
                said += f"; waiting for {driver.waiting_for}"
            self._tell(said)
            requests, throttled = now, refused


class Ages:
    """How old the oldest message is that has no end. `first` says which that is, of a part."""

    def __init__(self, first: Callable[[int], int | None] = lambda part: None) -> None:
        self._first = first
        self._marks: dict[int, deque[tuple[int, float]]] = {}

    def read(self, block: Block, now: float) -> None:
        """Note when a block was read."""
        marks = self._marks.setdefault(block.part, deque())
        first = self._first(block.part)
        if first is None:
            marks.clear()  # all before it have their end
        while len(marks) > 1 and first is not None and marks[1][0] <= first:
            marks.popleft()
        if not marks or now - marks[-1][1] >= MARK_SECONDS:
            numbers = [*block.numbers()[:1], *(row.line for row in block.unfit[:1])]
            marks.append((min(numbers, default=block.first_line), now))

    def oldest(self, now: float) -> float:
        """Return the age in seconds; 0 if all have their end."""
        ages = [0.0]
        for part in list(self._marks):
            first, marks = self._first(part), self._marks[part]
            if first is None:
                del self._marks[part]
                continue
            while len(marks) > 1 and marks[1][0] <= first:
                marks.popleft()
            ages.append(now - marks[0][1])
        return max(ages)


async def _ended(task: asyncio.Future[Any]) -> None:
    """Cancel a task, and wait for its end."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _now() -> float:
    return asyncio.get_running_loop().time()
