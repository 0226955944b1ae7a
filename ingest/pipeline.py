"""The one driver that waits: from blocks of lines to settled records.

Three kinds of task share one loop. The reader takes blocks in while the byte budget allows. The
dispatcher waits for a place, for work and for a permit, in this order, and launches one delivery
per request. A delivery sends, asks the core what becomes of the records, and settles them.

Everything that is decided here is when to wait; what to do is decided in the core.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import cache
from itertools import count
from typing import Any, Final, Literal

import msgspec

from ingest.batcher import Batcher
from ingest.errors import (
    IngestError,
    InputError,
    LocalFailure,
)
from ingest.health import Health
from ingest.inflight import Fixed, InFlight
from ingest.intake import Intake
from ingest.ledger import Ledger
from ingest.noting import Noting
from ingest.observer import LogObserver, Observer
from ingest.outcomes import (
    Delivered,
    Throttled,
    Unanswered,
    Unavailable,
)
from ingest.profiles import CapsLadder
from ingest.reading import judged
from ingest.records import Batch
from ingest.resends import Case, Resends
from ingest.retry import Disposition, Piece, RetryPolicy, Weather, decide, repacked
from ingest.sinks.base import Answer, Sink
from ingest.sources.base import Block
from ingest.state.recording import Recording
from ingest.throttle import Throttle

YIELD_AFTER: Final = 0.002
"""Seconds of work on the loop after which others get their turn."""

BODIES_SHARE: Final = 0.5
"""Share of the byte budget that bodies may take before the first one that is not begun any more;
a body counts twice, and what it replaces in the queue once, so the budget is exceeded by a quarter
at the most."""

READ_AHEAD_BATCHES: Final = 64
"""Full batches of records that wait for nobody; reading further only makes memory slow. Three times
the look-ahead of the batcher. Records that wait for their user are not among them."""

FIRST_PIECE_ID: Final = 1 << 40
"""Ids of pieces start here, far above those that the batcher gives to fresh batches."""

State = Literal["running", "finished", "interrupted", "halted"]


class PipelineSettings(msgspec.Struct, frozen=True):
    """How a run waits. Times are in seconds, `memory` in bytes.

    Events with a time before `old_before` (a date, YYYY-MM-DD) bring a notice; empty: never.
    """

    memory: int = 96_000_000
    linger: float = 1.0
    give_up_after: float = 1_800.0
    policy: RetryPolicy = RetryPolicy()
    old_before: str = ""


class Pipeline:
    """Delivers the records of a source to one sink, and accounts for every one.

    `clock` is a monotonic clock in seconds, `wall` the time of day in epoch seconds, `dice` a
    source of numbers in [0, 1).
    """

    def __init__(
        self,
        sink: Sink,
        *,
        intake: Intake,
        ladder: CapsLadder,
        throttle: Throttle,
        in_flight: InFlight | Fixed,
        ledger: Ledger,
        settings: PipelineSettings | None = None,
        observer: Observer | None = None,
        dice: Callable[[], float] = random.random,
        clock: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.balance = ledger.balance
        self.state: State = "running"
        self.error: IngestError | None = None
        self._waiting_for = "the first records"
        self.requests_in_flight = 0
        self._sink = sink
        self._intake = intake
        self.ledger = ledger
        self.ladder = ladder
        self._throttle = throttle
        self._in_flight = in_flight
        self._settings = settings = settings or PipelineSettings()
        self._policy = settings.policy
        if not sink.endpoint.resendable:
            every_slot = frozenset(range(len(sink.endpoint.slots)))
            self._policy = msgspec.structs.replace(self._policy, hold_unanswered=every_slot)
        self._observer = observer or LogObserver()
        self._dice = dice
        self._clock = clock or time.monotonic
        self._wall = wall
        self._batcher = Batcher(
            slots=len(sink.endpoint.slots), overhead=sink.overhead, folding=sink.folding
        )
        self._resends = Resends()
        self._health = Health(sink.host, ladder)
        self._permit_timeout: asyncio.Timeout | None = None
        self._piece_ids = count(FIRST_PIECE_ID)
        self._source_ended = False
        self._lingers_since: float | None = None
        self._overdue = 0  # records that waited while another request lingered
        self._reader_waits = False
        self._said_old = False
        self._offsets: dict[int, int] = {}
        self._crash: BaseException | None = None
        self._noting = self._noting_in(None)
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._stopping = asyncio.Event()
        self._deliveries: set[asyncio.Task[Any]] = set()

    def keep(self, recording: Recording) -> None:
        """Keep a journal of the run, from before its beginning."""
        self._noting = self._noting_in(recording)

    def begin_at(self, ordinals: Mapping[int, int]) -> None:
        """Number the records of these parts from here on: an earlier run read those before."""
        for part, ordinal in ordinals.items():
            self._intake.begin(part, ordinal)

    def _noting_in(self, recording: Recording | None) -> Noting:
        return Noting(self.ledger, self._sink.endpoint.kinds, self._holds, recording)

    def _holds(self, slot: int, fragment: bytes) -> bool:
        """Whether a record that may have arrived is held, and not sent again."""
        if slot not in self._policy.hold_unanswered:
            return False
        return not (self._sink.endpoint.resendable and self._sink.repeatable(slot, fragment))

    # What others may do and ask

    async def run(self, blocks: AsyncIterator[Block]) -> State:
        """Deliver everything, or as much as the destination lets us; never raises for that.

        Returns the end state; `error` holds the sentence that goes with a halt. Cancelling stops
        at once: what was in flight stays pending.
        """
        reader = asyncio.create_task(self._read(blocks))
        dispatcher = asyncio.create_task(self._dispatch())
        tasks = (reader, dispatcher, asyncio.create_task(self._stopping.wait()))
        for task in tasks:
            task.add_done_callback(self._returned)
        try:
            # The dispatcher ends when everything is settled, and a stop ends it before that.
            await asyncio.wait((dispatcher, tasks[-1]), return_when=asyncio.FIRST_COMPLETED)
            reader.cancel()
            dispatcher.cancel()
            await asyncio.wait((reader, dispatcher))
            self._waiting_for = "the last answers"
            while self._deliveries:
                await asyncio.wait(self._deliveries)
        finally:
            unfinished = (*tasks, *self._deliveries)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            try:
                self.ledger.close()
            except LocalFailure as error:
                self._halt(error)
        if self._crash is not None:
            raise self._crash
        if self.state == "running":
            self.state = "halted" if self.error else "finished"
            if self.state == "finished" and self.balance.count("pending"):
                self.state = "interrupted"  # whatever the reason: what is pending is not at its end
        self._waiting_for = ""
        return self.state

    def interrupt(self) -> None:
        """Stop reading and sending; `run` returns when what is in flight was answered."""
        if self.state == "running":
            self.state = "interrupted"
        self._stop()

    @property
    def waiting_for(self) -> str:
        """What the next request waits for, as a phrase; empty while it goes on (law 12)."""
        return self._throttle.waits_for() or self._waiting_for

    @property
    def bytes_read(self) -> int:
        """Raw bytes of the source that were taken in, for a progress bar."""
        return sum(self._offsets.values())

    @property
    def queued_records(self) -> int:
        """Records read and not yet settled."""
        return len(self._batcher) + self._resends.records

    @property
    def memory_used(self) -> int:
        """Bytes counted against the byte budget: queue, look-ahead and bodies."""
        # A body in flight is there twice: as columns and as the joined bytes on the wire.
        return self._batcher.nbytes + 2 * self._resends.nbytes

    # The reader

    async def _read(self, blocks: AsyncIterator[Block]) -> None:
        try:
            async for block in blocks:
                await self._take_in(block)
        except InputError as error:
            # What was read before is good, and goes out; the run ends with the sentence.
            self.error = error
            self._observer.notice(str(error))
        finally:
            self._source_ended = True
            self._changed.set()

    async def _take_in(self, block: Block) -> None:
        since = self._clock()
        for found in judged(self._intake, block, self._wall()):
            taken = self._noting.take_in(block.part, found, self._intake)
            self._mind_the_past(taken.time)
            for chunk in taken.chunks:
                self._batcher.add(chunk)
            self._changed.set()
            while self._enough_read():
                self._reader_waits = True
                self._changed.set()
                self._settled.clear()
                await self._settled.wait()
                self._reader_waits = False
            if self._clock() - since >= YIELD_AFTER:
                await asyncio.sleep(0)
                since = self._clock()
        self._noting.read(block, self._intake)
        self._offsets[block.part] = block.end_offset

    def _enough_read(self) -> bool:
        """Whether the byte budget is used up, or more that may go was read than is of any use."""
        if self.memory_used >= self._settings.memory:
            return True
        may_go = len(self._batcher) - self._batcher.barred
        return may_go >= READ_AHEAD_BATCHES * self.ladder.current.fill

    def _mind_the_past(self, time: str) -> None:
        """Say once that history is being sent: events and purchases fire live campaigns."""
        if not self._said_old and time and time < self._settings.old_before:
            self._said_old = True
            self._observer.notice(
                "events or purchases of the past are being sent: to the destination they happen "
                "now, so live campaigns and canvases may fire on them"
            )

    # The dispatcher

    async def _dispatch(self) -> None:
        # Cancelling comes some turns of the loop after a halt: nothing may go out in between.
        while not self._stopping.is_set():
            now = self._clock()
            gone = self._health.gone(now, self._settings.give_up_after)
            if gone is not None:
                self._halt(gone)
                return
            if self.requests_in_flight >= self._in_flight.allowed(now):
                await self._pause(None, "answers")
                continue
            closed_for = self._health.breaker.delay(now)
            if closed_for > 0:
                # A probe that is out brings its answer by itself.
                until = None if math.isinf(closed_for) else closed_for
                await self._pause(until, "the destination, which is down")
                continue
            case = self._next_case(now)
            if case is None:
                if self._source_ended and not len(self._batcher) and not len(self._resends):
                    return
                await self._pause(self._next_moment(now), self._lack())
                continue
            self._noting.note(case.batch)  # it is durable by the time that the permit is there
            try:
                granted = await self._permit(case)
            except BaseException:
                self._noting.withdraw(case.batch)
                raise
            if granted:
                self._launch(case)
            else:
                self._noting.withdraw(case.batch)
                self._resends.again(case, case.tries, now)

    def _next_case(self, now: float) -> Case | None:
        """Return what goes next: what failed goes ahead of fresh work."""
        case = self._resends.take(now)
        if case is None:
            return None if self._bodies_full() else self._fresh(now)
        caps = self.ladder.next()
        if len(case.batch) <= caps.total:
            return case
        # Packed before it was known how much the account takes, or while a probe finds that out.
        self._split(case, repacked(case.batch, case.tries, caps), now)
        return self._resends.take(now)

    async def _pause(self, seconds: float | None, why: str) -> None:
        """Wait until something changed, or for so many seconds."""
        self._waiting_for = why
        self._changed.clear()
        if (patience := self._patience()) is not None:
            seconds = patience if seconds is None else min(seconds, patience)
        timer = None
        if seconds is not None:
            timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._changed.set)
        try:
            await self._changed.wait()
        finally:
            if timer is not None:
                timer.cancel()
            self._waiting_for = ""

    async def _permit(self, case: Case) -> bool:
        """Wait for the budget; return whether the request may still go then."""
        try:
            async with asyncio.timeout(self._patience()) as self._permit_timeout:
                case.granted_at = await self._throttle.acquire(
                    self._sink.endpoint.cost(case.batch),
                    in_flight=lambda: self.requests_in_flight,
                )
        except TimeoutError:
            return False
        finally:
            self._permit_timeout = None
        return self._health.breaker.delay(self._clock()) <= 0 and not self._stopping.is_set()

    def _patience(self) -> float | None:
        """Seconds until a destination that is down is given up; None while it is not down."""
        breaker = self._health.breaker
        if not breaker.open:
            return None
        return max(0.0, breaker.down_since + self._settings.give_up_after - self._clock())

    def _fresh(self, now: float) -> Case | None:
        """Pack a batch of fresh records, if enough are there or none will come soon."""
        if not len(self._batcher):
            self._overdue = 0
            return None
        barred = self._batcher.barred
        if self._lingered(now) and not self._overdue:
            self._overdue = len(self._batcher) - barred
        batch = self._batcher.take(
            self.ladder.next(),
            self.ladder.generation,
            partial=self._hurry(now),
            more=not (self._source_ended or self._reader_waits),
        )
        if self._batcher.barred > barred:
            self._settled.set()  # less of what was read may go than the reader thought
        if batch is not None:
            self._lingers_since = None
            self._overdue = max(0, self._overdue - len(batch))
            return self._resends.start(batch)
        if not self._batcher.open_records:
            self._lingers_since = None
        elif self._lingers_since is None:
            self._lingers_since = now
        return None

    def _hurry(self, now: float) -> bool:
        """Whether a batch may go that is not full: nobody would fill it, or not in time."""
        # With nothing in flight, what is barred waits for the batch that is being filled.
        if self._source_ended and not (self._batcher.barred and len(self._resends)):
            return True
        if self._overdue:
            return True
        if self._lingers_since is not None:
            return self._lingered(now)
        return self._reader_waits and not len(self._resends)

    def _lingered(self, now: float) -> bool:
        """Whether a request has waited long enough to be filled."""
        since = self._lingers_since
        return since is not None and now - since >= self._settings.linger

    def _bodies_full(self) -> bool:
        """Whether bodies take so much of the byte budget that fresh ones must wait for answers."""
        return 2 * self._resends.nbytes >= self._settings.memory * BODIES_SHARE

    def _nothing_else(self) -> bool:
        """Whether nothing could be sent but what is unsettled, whose users bar all the rest."""
        ended = self._source_ended or self._reader_waits
        return ended and len(self._batcher) == self._batcher.barred

    def _others_succeed(self, case: Case) -> bool:
        """Whether another request succeeded since this one failed, or since its family was cut."""
        since = self._resends.bisecting_since(case.batch.family) if case.tries.suspect else None
        if since is None:
            since = case.failed_at or case.sent_at
        return self._health.breaker.last_success > since

    def _alone(self, case: Case) -> bool:
        """Whether no other request could show that the destination is up: all failed, or wait."""
        return self._nothing_else() and all(
            other is case or other.tries.failures or not self._resends.may_go(other)
            for other in self._resends.unsettled()
        )

    def _next_moment(self, now: float) -> float | None:
        """Seconds until waiting records may be sent without anything else happening."""
        due = self._resends.next_due()
        if self._lingers_since is not None:
            lingers_until = self._lingers_since + self._settings.linger
            due = lingers_until if due is None else min(due, lingers_until)
        return None if due is None else due - now

    def _lack(self) -> str:
        if self.requests_in_flight:
            return "answers"
        if self._resends.waiting:
            return "the next try of what failed"
        return "records"

    def _launch(self, case: Case) -> None:
        now = self._clock()
        batch = case.batch
        case.out, case.sent_at = True, now
        self.requests_in_flight += 1
        self.balance.sent(len(batch), again=case.tries.sends > 0)
        self._in_flight.sent(now)
        self._health.sent(batch)
        task = asyncio.create_task(self._deliver(case))
        self._deliveries.add(task)
        task.add_done_callback(self._returned)

    # A delivery

    async def _deliver(self, case: Case) -> None:
        try:
            await self._noting.noted(case.batch)
        except BaseException:
            self.requests_in_flight -= 1
            self._noting.withdraw(case.batch)  # it was not sent, and stays pending
            raise
        case.sent_at = self._clock()
        try:
            answer = await self._sink.deliver(case.batch)
        except asyncio.CancelledError:
            self.requests_in_flight -= 1
            self._abandon(case)
            raise
        except BaseException:
            self.requests_in_flight -= 1
            raise
        self.requests_in_flight -= 1
        self._conclude(case, answer)

    def _abandon(self, case: Case) -> None:
        """Write down that whether a request arrived is not known, for the run was stopped at once.

        That is no fault of the destination, and what is not held stays pending (law 5).
        """
        answer = Answer(Unanswered(None, "the run was stopped before an answer"))
        self.balance.answered(None, throttled=False)
        found = self._decide(case, answer, Weather(outage=True))
        # Nothing goes again in this run, so nothing of it can be a copy.
        found = msgspec.structs.replace(found, duplicated=0)
        self._noting.abandon(case.batch, answer, found, attempts=case.tries.sends + 1)

    def _conclude(self, case: Case, answer: Answer) -> None:
        """Learn from an answer, ask what becomes of the records, and settle them."""
        now = self._clock()
        asked_delay = (answer.word.retry_after or 0.0) if answer.word else 0.0
        alone = self._alone(case)
        weather = Weather(
            outage=self._health.breaker.open,
            others_succeed=self._others_succeed(case),
            alone=alone,
            bisected=self._resends.bisected(case.batch.family),
        )
        self._hear(case, answer, asked_delay, now, alone=alone)
        self._settle(case, answer, self._decide(case, answer, weather, asked_delay), now)

    def _decide(
        self, case: Case, answer: Answer, weather: Weather, asked_delay: float = 0.0
    ) -> Disposition:
        return decide(
            case.batch,
            answer.outcome,
            case.tries,
            weather,
            self._policy,
            # What is refused as too many is packed again under caps that need no probe.
            self.ladder.sure,
            repeatable=self._repeatable(case.batch),
            jitter=self._dice(),
            asked_delay=asked_delay,
            folded=self._sink.folding is not None,
            doubted=self._noting.doubted(case.batch),
        )

    def _returned(self, task: asyncio.Task[Any]) -> None:
        """Mind the end of a task: what it raised ends the run, and is not lost."""
        self._deliveries.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, IngestError):
            self._halt(error)
        elif error is not None:
            self._crash = error
            self._stop()

    def _repeatable(self, batch: Batch) -> Callable[[int, int], bool]:
        """Return what says of a record of the batch whether a second copy changes nothing."""
        if not self._sink.endpoint.resendable:
            return lambda slot, index: False
        # Cut out of its column once for all, and only if anybody asks.
        fragments = cache(lambda slot: batch.columns[slot].fragments())
        return lambda slot, index: self._sink.repeatable(slot, fragments(slot)[index])

    def _hear(
        self, case: Case, answer: Answer, asked_delay: float, now: float, *, alone: bool
    ) -> None:
        """Tell everybody who learns from an answer."""
        batch, outcome = case.batch, answer.outcome
        self.balance.answered(answer.status, throttled=isinstance(outcome, Throttled))
        self._health.answered(batch)
        self._throttle.hear(
            answer.word,
            self.requests_in_flight,
            accepted=isinstance(outcome, Delivered),
            sent=case.granted_at,
            cost=self._sink.endpoint.cost(batch),
        )
        heard = self._health.hear(
            batch,
            outcome,
            now,
            asked_delay=asked_delay,
            cut_alone_since=self._resends.bisecting_since(batch.family) if alone else None,
            jitter=self._dice(),
        )
        if isinstance(outcome, Unavailable | Unanswered):
            case.failed_at = now
        self._in_flight.rate = self._throttle.rate / self._sink.endpoint.cost(batch)
        self._in_flight.answered(now, now - case.sent_at, heard.said)
        if self._permit_timeout is not None and (patience := self._patience()) is not None:
            # It went down while a permit is waited for, by its own word perhaps for hours.
            self._permit_timeout.reschedule(asyncio.get_running_loop().time() + patience)
        if heard.notice:
            self._observer.notice(heard.notice)
        if heard.halt is not None:
            self._halt(heard.halt)

    # The settlement

    def _settle(self, case: Case, answer: Answer, disposition: Disposition, now: float) -> None:
        batch = case.batch
        self._noting.settle(batch, answer, disposition, attempts=case.tries.sends + 1)
        if disposition.bisecting:
            self._resends.note_bisecting(batch.family, now)
        due = now + disposition.delay
        pieces = disposition.pieces
        if not pieces:
            self._batcher.release(self._resends.settle(case))
        elif len(pieces) == 1 and pieces[0].rows is None:
            self._resends.again(case, pieces[0].tries, due)
        else:
            self._split(case, pieces, due)
        self._settled.set()
        self._changed.set()

    def _split(self, case: Case, pieces: Sequence[Piece], due: float) -> None:
        batch = case.batch
        made = [
            (batch.take(piece.rows or (), id=next(self._piece_ids)), piece.tries)
            for piece in pieces
        ]
        self._batcher.release(self._resends.split(case, made, due))

    # The end

    def _stop(self) -> None:
        self._stopping.set()
        self._changed.set()

    def _halt(self, error: IngestError) -> None:
        # An input that broke off is told already, and is the lesser reason to stop.
        if self.error is None or isinstance(self.error, InputError):
            self.error = error
        self.state = "halted"
        self._stop()
