"""The one driver that waits: from blocks of lines to settled records.

Puts together those who do it: the reader takes blocks in while the byte budget allows, the
dispatcher launches what may go, deliveries are concluded when they are answered. Decides when a run
ends, and in which state; what to do with a record is decided in the core.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
)
from typing import Any, Literal

import msgspec

from ingest.acking import Acks
from ingest.agenda import Agenda
from ingest.batcher import Batcher
from ingest.deliveries import Deliveries
from ingest.dispatcher import JOURNAL, Dispatcher
from ingest.dispositions import RetryPolicy
from ingest.errors import (
    Halted,
    IngestError,
    InputError,
    LocalFailure,
)
from ingest.health import Health
from ingest.hearing import Hearing
from ingest.inflight import Fixed, InFlight
from ingest.intake import Intake
from ingest.ledger import Ledger
from ingest.noting import Noting
from ingest.observer import LogObserver, Observer
from ingest.profiles import CapsLadder
from ingest.proving import Prover
from ingest.reader import Reader
from ingest.records import Batch
from ingest.sinks.base import Sink
from ingest.sources.base import Block
from ingest.state.recording import Recording
from ingest.taken import Refusal
from ingest.throttle import Throttle
from ingest.tolerance import Tolerance, TooManyBad

State = Literal["running", "finished", "interrupted", "halted"]


class DriverSettings(msgspec.Struct, frozen=True):
    """How a run waits. Times are in seconds, `memory` in bytes.

    Events with a time before `old_before` (a date, YYYY-MM-DD) bring a notice; empty: never.
    With `patient` no answer ends the run: what would is tried again every minute (`halted`).
    After `limit` records, those of earlier processes included, no more are read. `max_bad` is how
    many bad ones halt the run.
    """

    memory: int = 96_000_000
    linger: float = 1.0
    give_up_after: float = 1_800.0
    policy: RetryPolicy = RetryPolicy()
    old_before: str = ""
    limit: int | None = None
    max_bad: Tolerance | None = None
    patient: bool = False


class Driver:
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
        settings: DriverSettings | None = None,
        observer: Observer | None = None,
        dice: Callable[[], float] = random.random,
        clock: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.time,
        acks: Acks | None = None,
    ) -> None:
        self.balance = ledger.balance
        self.state: State = "running"
        self.error: IngestError | None = None
        self._sink = sink
        self.ledger = ledger
        self.ladder = ladder
        self._throttle = throttle
        self._settings = settings = settings or DriverSettings()
        self._policy = settings.policy
        if not sink.endpoint.resendable:
            every_slot = frozenset(range(len(sink.endpoint.slots)))
            self._policy = msgspec.structs.replace(self._policy, hold_unanswered=every_slot)
        observer = observer or LogObserver()
        self._clock = clock or time.monotonic
        self._stopping = asyncio.Event()
        self._agenda = Agenda(
            Batcher(slots=len(sink.endpoint.slots), overhead=sink.overhead, folding=sink.folding),
            ladder,
            memory=settings.memory,
            linger=settings.linger,
        )
        self._reader = Reader(
            intake,
            self._agenda,
            observer,
            kinds=sink.endpoint.kinds,
            old_before=settings.old_before,
            came=self._wake,
            checked=self._mind_the_bad,
            stopping=self._stopping.is_set,
            clock=self._clock,
            wall=wall,
        )
        self._health = Health(sink.host, ladder, patient=settings.patient)
        self._acks = acks
        self._noting = self._noting_in(None)
        self._deliveries = Deliveries(
            *(sink, self._agenda, self._noting),
            balance=self.balance,
            policy=self._policy,
            ladder=ladder,
            health=self._health,
            hearing=Hearing(self.balance, self._health, throttle, in_flight, observer),
            in_flight=in_flight,
            heard=self._heard,
            settled=self._settled,
            failed=self._mind,
            dice=dice,
            clock=self._clock,
        )
        self._dispatcher = Dispatcher(
            *(self._agenda, self._deliveries),
            throttle=throttle,
            in_flight=in_flight,
            ladder=ladder,
            health=self._health,
            cost=sink.endpoint.cost,
            give_up_after=settings.give_up_after,
            make_room=self._reader.make_room,
            stopping=self._stopping.is_set,
            clock=self._clock,
        )
        self._crash: BaseException | None = None

    def keep(self, recording: Recording) -> None:
        """Keep a journal of the run, from before its beginning."""
        self._noting = self._deliveries.noting = self._noting_in(recording)

    @property
    def prover(self) -> Prover | None:
        """What proves lines before they are read, in another process perhaps; None if nothing."""
        return self._reader.prover

    def begin_at(
        self, ordinals: Mapping[int, int], offsets: Mapping[int, int] | None = None
    ) -> None:
        """Number the records of these parts from here on: an earlier run read those before.

        `offsets` are the raw bytes of these parts that it read.
        """
        self._reader.begin_at(ordinals, offsets or {})

    def _noting_in(self, recording: Recording | None) -> Noting:
        kinds = self._sink.endpoint.kinds
        return Noting(self.ledger, kinds, self._holds, recording, self._acks)

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
        limit = self._settings.limit
        if limit is not None:
            limit -= self.balance.count("read")
        reader = asyncio.create_task(self._reader.read(blocks, self._noting, limit=limit))
        dispatcher = asyncio.create_task(self._dispatcher.run())
        tasks = (reader, dispatcher, asyncio.create_task(self._stopping.wait()))
        for task in tasks:
            task.add_done_callback(self._returned)
        try:
            # The dispatcher ends when everything is settled, and a stop ends it before that.
            await asyncio.wait((dispatcher, tasks[-1]), return_when=asyncio.FIRST_COMPLETED)
            reader.cancel()
            dispatcher.cancel()
            await asyncio.wait((reader, dispatcher))
            self._dispatcher.waiting_for = "the last answers"
            while unanswered := self._deliveries.open:
                await asyncio.wait(unanswered)
        finally:
            unfinished: tuple[asyncio.Future[Any], ...] = (*tasks, *self._deliveries.open)
            for one in unfinished:
                one.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            self._deliveries.conclude()  # what was answered in the last turn of the loop
            try:
                self.ledger.close()
            except LocalFailure as error:
                self._halt(error)
        if self._crash is not None:
            raise self._crash
        self.error = self.error or self._reader.error
        if self.state == "running" and self.error is None:
            self._mind_the_bad(ended=True)
        if self.state == "running":
            self.state = "halted" if self.error else "finished"
            # Whatever the reason: what is pending, or was not read, is not at its end.
            if self.state == "finished" and (self.limited or self.balance.count("pending")):
                self.state = "interrupted"
        self._dispatcher.waiting_for = ""
        return self.state

    def interrupt(self) -> None:
        """Stop reading and sending; `run` returns when what is in flight was answered."""
        if self.state == "running":
            self.state = "interrupted"
        self._stop()

    @property
    def halted(self) -> Halted | None:
        """Why the destination forbids sending for now, where the run is patient; else None."""
        return self._health.halted

    @property
    def full(self) -> bool:
        """Whether there is no room for more records."""
        return self._agenda.enough

    def offer(self, line: bytes, number: int) -> Refusal | None:
        """Take in a line at once, whatever room there is, or nothing of it; return why nothing.

        `number` is the line's. For whoever has records, and no source: `run` with one that ends
        when no more come.
        """
        return self._reader.offer(line, number, self._noting)

    async def room(self) -> None:
        """Return when there is room for more records; one at a time may wait."""
        await self._reader.room()

    def hurry(self) -> None:
        """Let what was read go without waiting for more."""
        self._reader.take_offered(self._noting)
        self._agenda.hurry()
        self._wake()

    def doubted(self) -> Iterator[Batch]:
        """Yield what has no end, and may have arrived all the same."""
        return self._agenda.doubted()

    def left(self) -> Iterator[tuple[Batch, bool]]:
        """Yield what has no end, once `run` has returned, and whether it may have arrived.

        Nothing of it will be sent any more.
        """
        return self._agenda.left()

    @property
    def requests_in_flight(self) -> int:
        """Requests that were sent, and are not concluded."""
        return self._deliveries.count

    @property
    def limited(self) -> bool:
        """Whether reading stopped at the limit, with more to read."""
        return self._reader.limited

    @property
    def waiting_for(self) -> str:
        """What the next request waits for, as a phrase; empty while it goes on (law 12)."""
        if self._noting.reading_waits and not self.queued_records:
            return JOURNAL
        return self._throttle.waits_for() or self._dispatcher.waiting_for

    @property
    def waiting_until(self) -> float | None:
        """When that is over at the latest, by the pipeline's clock; None where nobody can tell."""
        if self._throttle.waits_for():
            return self._throttle.waiting_until
        return self._dispatcher.waits_until if self._dispatcher.waiting_for else None

    @property
    def outage(self) -> tuple[float, float] | None:
        """Since when the destination is down, and when it is given up; None while it is not."""
        breaker = self._health.breaker
        if not breaker.open:
            return None
        return breaker.down_since, breaker.down_since + self._settings.give_up_after

    @property
    def throttle(self) -> Throttle:
        """What the run waits for its budget by; only to be asked."""
        return self._throttle

    @property
    def source_ended(self) -> bool:
        """Whether everything that will be read was read."""
        return self._agenda.source_ended

    @property
    def bytes_read(self) -> int:
        """Raw bytes of the source that were taken in, by earlier processes of this run too."""
        return self._reader.bytes_read

    @property
    def records_allowed(self) -> int | None:
        """Records that may still be read under the limit of this process; None without one."""
        return self._reader.left

    @property
    def records_read(self) -> int:
        """Records that lie in the bytes read: of whole blocks, as these are."""
        return self._reader.records_read

    @property
    def queued_records(self) -> int:
        """Records read and not yet settled."""
        return self._agenda.records

    @property
    def memory_used(self) -> int:
        """Bytes counted against the byte budget: queue, look-ahead and bodies."""
        return self._agenda.memory_used

    # What comes back

    def _heard(self) -> None:
        self._dispatcher.heard()

    def _settled(self) -> None:
        """Go on after what the answers of a turn of the loop told of."""
        self._mind_the_bad()
        self._reader.make_room()
        self._wake()

    def _returned(self, task: asyncio.Task[Any]) -> None:
        """Mind the end of a task: what it raised ends the run, and is not lost."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._mind(error)

    def _mind(self, error: BaseException) -> None:
        """End the run because of an error, which is not lost."""
        if isinstance(error, IngestError):
            self._halt(error)
        else:
            self._crash = error
            self._stop()

    # The end

    def _mind_the_bad(self, *, ended: bool = False) -> None:
        """Halt if too many records are bad."""
        tolerance = self._settings.max_bad
        if tolerance is None or self.state != "running":
            return
        letters, resumable = str(self.ledger.dead_letters.path), self._noting.resumable
        why = tolerance.verdict(self.balance, letters, ended=ended, resumable=resumable)
        if why is not None:
            self._halt(TooManyBad(why))

    def _stop(self) -> None:
        self._stopping.set()
        self._reader.make_room()  # whoever waits for room finds that there will be none
        self._wake()

    def _wake(self) -> None:
        self._dispatcher.wake()

    def _halt(self, error: IngestError) -> None:
        # An input that broke off is told already, and is the lesser reason to stop.
        if self.error is None or isinstance(self.error, InputError):
            self.error = error
        self.state = "halted"
        self._stop()
