"""The library: records are put by code, and go out in batches while its loop goes on.

Decides what `put` means: when it waits, what it refuses, and what becomes of records that are left
when the block is left. How they are packed, paced and tried again is the driver's.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

from ingest.acking import Acks, End
from ingest.assembly import Choices, paced, piped, rules_of
from ingest.balance import Balance
from ingest.codec import loads
from ingest.errors import ConfigError, Halted, IngestError, InvalidRecord, QueueFull
from ingest.judging import LineJudge
from ingest.ledger import Ledger, Named
from ingest.objects import Typed, line_of
from ingest.observer import LogObserver, Observer
from ingest.records import Batch
from ingest.segments import SpoolFull, SpoolRules
from ingest.settings import parse_bytes, parse_duration
from ingest.sinks.base import Sink
from ingest.sources.base import Block
from ingest.sources.spooled import SpoolSource
from ingest.spooling import Kept, kept, recorded
from ingest.state.dead_letters import LetterLines
from ingest.taken import Refusal

log = logging.getLogger("ingest")

NAME: Final = "put"
"""What a record's source is called: the code that put it."""

FIRST: Final = 2
"""Number of the first record: the first line of an input may be a heading, and none is here."""

LAST_ANSWERS: Final = 5.0
"""Seconds that requests in flight get for their answers once the time to drain is over."""

LOOK_EVERY: Final = 0.05
"""Seconds between two looks whether a full spool has room again."""

YIELD_EVERY: Final = 100
"""Records put at once after which others get their turn: some 2 ms of work."""

NOT_DELIVERED: Final = End(
    "pending", "not-delivered", "", "the pipeline was closed before it was delivered"
)
UNANSWERED: Final = End(
    "pending",
    "unanswered",
    "",
    "the pipeline was closed before the destination answered: it may have arrived",
)

WhenFull = Literal["wait", "raise", "spool"]
OnDeadLetter = Callable[[dict[str, Any]], None]
Record = Typed | Mapping[str, Any]


class Pipeline:
    """Takes records and delivers them; use it as an async context, or `start` and `aclose` it.

    `limits`, `rate`, `share`, `in_flight`, `memory`, `linger`, `if_unanswered`, `on_bad_field`,
    `strict`, `validate` and `update_existing_only` are those of the command line. With `spool` (a
    directory of its own) records are on the disk once `put` returns, and the next start sends what
    is left. `on_dead_letter` is called on the loop, with a dead letter as a dict, before its record
    is settled; without it a line is logged that holds nothing of the record. Raises `ConfigError`.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        limits: str | int = "auto",
        rate: str | None = None,
        share: str | float = "80%",
        in_flight: str | int = "adaptive",
        memory: str | int = "96MB",
        linger: str | float = "1s",
        if_unanswered: str | Mapping[str, str] = "resend",
        on_bad_field: Literal["reject", "drop", "truncate"] = "reject",
        strict: bool = False,
        validate: bool = True,
        update_existing_only: bool = False,
        when_full: WhenFull = "wait",
        spool: str | Path | None = None,
        spool_bytes: str | int = "1GB",
        drain_timeout: str | float = "25s",
        on_dead_letter: OnDeadLetter | None = None,
        observer: Observer | None = None,
    ) -> None:
        if when_full not in get_args(WhenFull):
            raise ConfigError(f"when_full is one of {', '.join(get_args(WhenFull))}")
        if when_full == "spool" and spool is None:
            raise ConfigError('when_full="spool" needs a directory: say spool=DIR as well')
        self._choices = Choices(
            limits=limits,
            rate=rate,
            unlimited=sink.name == "memory",
            share=share,
            in_flight=in_flight,
            memory=memory,
            linger=linger,
            if_unanswered=if_unanswered,
            on_bad_field=on_bad_field,
            strict=strict,
            validate=validate,
            update_existing_only=update_existing_only,
            patient=True,
            learned_in=None if spool is None else Path(spool),
        )
        self._sink = sink
        self._raises = when_full == "raise"
        self._waits = when_full == "wait"
        self._directory = None if spool is None else Path(spool)
        self._spool_rules = SpoolRules(parse_bytes(spool_bytes, what="spool_bytes"))
        self._drain_timeout = parse_duration(drain_timeout, what="drain_timeout")
        self._on_dead_letter = on_dead_letter
        self._observer = observer or LogObserver()
        self._acks = Acks(self._told)
        self._letters = LetterLines("on_dead_letter", self._dead, run=f"put-{time.time():.0f}")
        self._ledger = Ledger(
            self._letters,
            kinds=sink.endpoint.kinds,
            places=Named(lambda part: NAME),
            record_of=sink.record_of,
        )
        pace = paced(self._choices, sink)
        self._driver = piped(
            self._choices, sink, pace, self._ledger, observer=self._observer, acks=self._acks
        )
        self._judge = LineJudge(rules_of(self._choices, sink, pace.ladder), sink.schema)
        self._next = FIRST
        self._in_a_row = 0
        self._turn = asyncio.Lock()
        self._ended = asyncio.Event()
        self._flushing: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._running: asyncio.Task[Any] | None = None
        self._kept: Kept | None = None
        self._source: SpoolSource | None = None
        self._stack = AsyncExitStack()
        self._closed = False

    @property
    def balance(self) -> Balance:
        """The account of all records that were put; with a spool, in its whole life."""
        return self._ledger.balance

    # Life

    async def start(self) -> None:
        """Begin to deliver. Raises `ConfigError`, `LocalFailure`."""
        if self._running is not None:
            raise RuntimeError("the pipeline was started already")
        blocks = self._until_ended()
        if self._directory is not None:
            blocks = await self._spooled(self._directory)
        self._running = asyncio.create_task(self._driver.run(blocks))
        self._running.add_done_callback(self._ran)

    async def aclose(self) -> None:
        """Deliver what there is time for, then hand over, or keep, what is left, and say so.

        A record that is left is a dead letter in the column `pending`, unless it is in a spool.
        """
        if self._running is None or self._closed:
            return
        self._closed = True
        try:
            await self._drained(self._running)
        finally:
            try:
                self._give_up_what_is_left()
            finally:
                try:
                    await self._stack.aclose()
                finally:
                    await self._sink.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    # Putting

    async def put(
        self,
        record: Record,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # as documented
    ) -> None:
        """Take a record in: it will be delivered, or be a dead letter.

        Waits while there is no room, for `timeout` seconds at the most. Raises `InvalidRecord` for
        one that the destination would refuse, `QueueFull` if there is no room in time, `Halted`
        while the destination forbids sending. What raises, or is cancelled, was not taken; but with
        a spool, one that is cancelled while it is brought to the disk may have been.
        """
        await self._put(line_of(record), timeout)

    def put_nowait(self, record: Record) -> None:
        """Take a record in at once. Raises `QueueFull` if there is no room, and as `put` does."""
        if self._kept is not None:
            raise ConfigError("with a spool a record is taken once it is on the disk: await put()")
        line = line_of(record)
        self._check()
        if self._driver.full or self._turn.locked():
            raise QueueFull("the queue is full: the destination is slower than what is put")
        self._take(line)

    async def put_many(
        self,
        records: Iterable[Record],
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # as put
    ) -> int:
        """Take records in, one after the other; return how many.

        Raises as `put` does: those before the one that raises were taken.
        """
        until = None if timeout is None else time.monotonic() + timeout
        count = 0
        for record in records:
            left = None if until is None else max(0.0, until - time.monotonic())
            await self.put(record, timeout=left)
            count += 1
        return count

    async def put_and_wait(
        self,
        record: Record,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # as put
    ) -> End:
        """Take a record in and return its verdict, which is never raised.

        `timeout` is for the taking. Of several records in one mapping it is the first that was not
        delivered. Cancelling it changes nothing of a record that was taken.
        """
        try:
            ends = await self._put(line_of(record), timeout, watched=True)
        except InvalidRecord as error:
            return End("invalid", error.code, error.field, str(error))
        assert ends is not None
        found = await ends
        return next((end for end in found if end.column != "delivered"), found[0])

    async def flush(self) -> None:
        """Return when all that was put before has its end. Raises `Halted` if that cannot be."""
        self._check()
        await self._all_ended()

    async def _all_ended(self) -> None:
        assert self._running is not None
        self._driver.hurry()
        done = self._all_before_now()
        while not done():
            if self._running.done():
                raise self._driver.error or Halted("the pipeline has ended")
            if self._driver.halted is not None:
                raise self._driver.halted
            future = asyncio.get_running_loop().create_future()
            self._flushing.append((done, future))
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await future
            self._driver.hurry()

    # How

    async def _put(
        self, line: bytes, patience: float | None, *, watched: bool = False
    ) -> asyncio.Future[list[End]] | None:
        self._check()
        if self._kept is not None:
            return await self._put_to_spool(self._kept, line, patience, watched=watched)
        self._in_a_row += 1
        if self._in_a_row >= YIELD_EVERY:
            self._in_a_row = 0
            await asyncio.sleep(0)  # a loop that puts must not keep all others from theirs
            self._check()
        if self._driver.full or self._turn.locked():
            if self._raises:
                raise QueueFull("the queue is full: the destination is slower than what is put")
            await self._room(patience)
            self._check()
        return self._take(line, watched=watched)

    async def _room(self, patience: float | None) -> None:
        try:
            async with asyncio.timeout(patience), self._turn:
                await self._driver.room()
        except TimeoutError:
            raise QueueFull(
                f"the queue was full for {patience:g} s: the destination is slower than what is put"
            ) from None

    def _take(self, line: bytes, *, watched: bool = False) -> asyncio.Future[list[End]] | None:
        number, self._next = self._next, self._next + 1
        ends = self._acks.watch(0, number) if watched else None
        refusal = self._driver.offer(line, number)
        if refusal is not None:
            self._acks.forget(0, number)
            self._refuse(refusal)
        return ends

    def _refuse(self, refusal: Refusal) -> None:
        """Account for a record that whoever put it has back."""
        balance = self.balance
        balance.read(refusal.kind)
        balance.settle(refusal.kind, "invalid")
        summary = refusal.summary or refusal.reason
        balance.explain(refusal.code, refusal.field, "invalid", summary, NAME)
        raise InvalidRecord(refusal.code, refusal.field, refusal.reason)

    def _check(self) -> None:
        if self._running is None or self._closed:
            raise RuntimeError("the pipeline is not running: use it as a context, or start() it")
        if self._kept is None and self._driver.halted is not None:
            raise self._driver.halted
        if self._running.done():
            raise self._driver.error or Halted("the pipeline has ended")

    async def _until_ended(self) -> AsyncIterator[Block]:
        """Yield nothing: what is put is offered; the source ends when nothing more may come."""
        await self._ended.wait()
        nothing: tuple[Block, ...] = ()
        for block in nothing:
            yield block

    def _all_before_now(self) -> Callable[[], bool]:
        """Return what says whether all that was put up to now has its end."""
        if self._kept is not None:
            spool = self._kept.spool
            marks = {part: spool.lines(part) for part in spool.sizes}
            return partial(self._spool_settled, marks)
        last = self._next - 1

        def done() -> bool:
            oldest = self._acks.oldest(0)
            return oldest is None or oldest > last

        return done

    def _told(self, part: int, lines: object, bad: object) -> None:
        waiting, self._flushing = self._flushing, []
        for done, future in waiting:
            if not done():
                self._flushing.append((done, future))
            elif not future.done():
                future.set_result(None)

    # The spool

    async def _spooled(self, directory: Path) -> AsyncIterator[Block]:
        shape = {"endpoint": self._sink.endpoint.name, "from": NAME}
        self._kept = await self._stack.enter_async_context(
            kept(directory, self._spool_rules, self._sink, shape)
        )
        self._source = source = SpoolSource(self._kept.spool, NAME)
        recording = recorded(self._kept, self._driver, self._sink, source)
        await self._stack.enter_async_context(recording)
        session = await anext(source.sessions())
        self._stack.push_async_callback(session.end)
        return session.blocks()

    async def _put_to_spool(
        self, found: Kept, line: bytes, patience: float | None, *, watched: bool
    ) -> asyncio.Future[list[End]] | None:
        for refusal in self._judge((line,), time.time()).values():
            self._refuse(refusal)
        until = math.inf if patience is None else time.monotonic() + patience
        while True:
            try:
                appended = found.spool.append((line,))
                break
            except SpoolFull as error:
                if not self._waits or time.monotonic() >= until:
                    raise QueueFull(str(error)) from None
            await asyncio.sleep(LOOK_EVERY)
            self._check()
        ends = self._acks.watch(appended.part, appended.line) if watched else None
        await found.spool.durable(appended)
        return ends

    def _spool_settled(self, marks: Mapping[int, int]) -> bool:
        assert self._kept is not None
        assert self._source is not None
        taken = self._source.reached
        for part, last in marks.items():
            if part not in self._kept.spool.sizes:
                continue  # all of it was settled, and it is gone
            oldest = self._acks.oldest(part)
            if taken.get(part, 0) < last or (oldest is not None and oldest <= last):
                return False
        return True

    # The end

    async def _drained(self, running: asyncio.Task[Any]) -> None:
        try:
            async with asyncio.timeout(self._drain_timeout):
                if self._kept is not None and not running.done():
                    with suppress(IngestError):  # what cannot go is left in the spool
                        await self._all_ended()
                self._end_of_source()
                await asyncio.shield(running)
        except TimeoutError:
            self._end_of_source()
            self._driver.interrupt()
            await asyncio.wait((running,), timeout=LAST_ANSWERS)
        finally:
            self._end_of_source()
            self._driver.interrupt()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _end_of_source(self) -> None:
        """Let nothing more come, and what was put go without waiting for more."""
        self._driver.hurry()
        self._ended.set()
        if self._source is not None:
            self._source.stop()

    def _ran(self, running: asyncio.Task[Any]) -> None:
        """Let nobody wait for a driver that has ended, whatever ended it."""
        self._acks.abandon(NOT_DELIVERED, doubted=self._driver.doubted(), doubt=UNANSWERED)
        self._told(0, (), ())
        for _, future in self._flushing:
            if not future.done():
                future.set_result(None)

    def _give_up_what_is_left(self) -> None:
        kinds, left = self._sink.endpoint.kinds, 0
        for batch, doubted in self._driver.left():
            left += len(batch)
            if self._kept is None and self._on_dead_letter is not None:
                end = UNANSWERED if doubted else NOT_DELIVERED
                for letter in _undelivered(batch, kinds, self._sink, end):
                    try:
                        self._on_dead_letter(letter)
                    except Exception as error:
                        # The others are owed all the same.
                        name = type(error).__name__
                        log.error("on_dead_letter raised %s: a record is lost by it", name)
        if self._kept is not None:
            left += (self._source.lag or 0) if self._source is not None else 0
            if left:
                log.warning("%s records are left in the spool: the next start sends them", left)
        elif left:
            whither = "handed to on_dead_letter" if self._on_dead_letter else "lost"
            log.warning("%s records were not delivered in time: %s", left, whither)

    def _dead(self, lines: list[bytes]) -> None:
        for line in lines:
            letter = loads(line)
            if self._on_dead_letter is not None:
                self._on_dead_letter(letter)
            else:
                log.warning(
                    "a record of the kind %s is %s (%s); give on_dead_letter to get it",
                    *(letter[name] for name in ("kind", "column", "code")),
                )


def _undelivered(
    batch: Batch, kinds: tuple[str, ...], sink: Sink, end: End
) -> Iterable[dict[str, Any]]:
    """Yield dead letters of records that nobody gave up: there was no time."""
    for slot, column in enumerate(batch.columns):
        for fragment in column.fragments():
            yield {
                "v": 1,
                "kind": kinds[slot],
                "record": loads(sink.record_of(batch, slot, fragment)),
                "column": end.column,
                "code": end.code,
                "field": None,
                "reason": end.reason,
                "source": {"name": NAME},
            }
