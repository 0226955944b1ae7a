"""The one driver that waits: from blocks of lines to settled records.

The reader takes blocks in while the byte budget allows. The dispatcher waits for a place, for work
and for a permit, in this order, and launches a request, or as many full ones as may go at once.
The answers of a turn of the loop are concluded
together: the core is asked what becomes of the records, and they are settled.

Everything that is decided here is when to wait; what to do is decided in the core.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from itertools import groupby
from typing import Any, Final, Literal, cast

import msgspec

from ingest.acking import Acks
from ingest.agenda import Agenda
from ingest.batcher import Batcher
from ingest.errors import (
    Halted,
    IngestError,
    InputError,
    LocalFailure,
)
from ingest.health import Health
from ingest.hearing import Hearing
from ingest.inflight import FIRST, Fixed, InFlight
from ingest.intake import Intake
from ingest.ledger import Ledger
from ingest.noting import Noting
from ingest.observer import LogObserver, Observer
from ingest.outcomes import Reply, Unanswered
from ingest.profiles import CapsLadder
from ingest.proving import Prover
from ingest.reader import Reader
from ingest.records import Batch
from ingest.resends import Case
from ingest.retry import Disposition, RetryPolicy, Weather, decide, plainly
from ingest.sinks.base import Answer, HttpSink, Sink
from ingest.sources.base import Block
from ingest.state.recording import Recording
from ingest.taken import Refusal
from ingest.throttle import Throttle
from ingest.tolerance import Tolerance, TooManyBad

PROBE_PATIENCE: Final = 1.0
"""Seconds for which a probe of caps is waited for once `FIRST` requests are out, it included: what
goes beside it is smaller than it need be. One that takes longer may be lost."""

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
        self._waiting_for = "the first records"
        self._waits_until: float | None = None
        self.requests_in_flight = 0
        self._sink = sink
        # One that delivers in its own way is let do so.
        plain = getattr(sink.deliver, "__func__", None) is HttpSink.deliver
        self._prompt = cast(HttpSink, sink) if plain else None
        self.ledger = ledger
        self.ladder = ladder
        self._throttle = throttle
        self._in_flight = in_flight
        self._settings = settings = settings or DriverSettings()
        self._policy = settings.policy
        if not sink.endpoint.resendable:
            every_slot = frozenset(range(len(sink.endpoint.slots)))
            self._policy = msgspec.structs.replace(self._policy, hold_unanswered=every_slot)
        observer = observer or LogObserver()
        self._dice = dice
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
        self._hearing = Hearing(self.balance, self._health, throttle, in_flight, observer)
        self._probed_at, self._beside_probe = 0.0, 0
        self._permit_timeout: asyncio.Timeout | None = None
        self._crash: BaseException | None = None
        self._acks = acks
        self._noting = self._noting_in(None)
        self._changed = asyncio.Event()
        self._deliveries: dict[asyncio.Future[Any], Case] = {}
        self._answers: list[tuple[Case, Answer]] = []  # of this turn of the loop

    def keep(self, recording: Recording) -> None:
        """Keep a journal of the run, from before its beginning."""
        self._noting = self._noting_in(recording)

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
            unfinished: tuple[asyncio.Future[Any], ...] = (*tasks, *self._deliveries)
            for one in unfinished:
                one.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            self._conclude_all()  # what was answered in the last turn of the loop
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
        self._waiting_for = ""
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
    def limited(self) -> bool:
        """Whether reading stopped at the limit, with more to read."""
        return self._reader.limited

    @property
    def waiting_for(self) -> str:
        """What the next request waits for, as a phrase; empty while it goes on (law 12)."""
        return self._throttle.waits_for() or self._waiting_for

    @property
    def waiting_until(self) -> float | None:
        """When that is over at the latest, by the pipeline's clock; None where nobody can tell."""
        if self._throttle.waits_for():
            return self._throttle.waiting_until
        return self._waits_until if self._waiting_for else None

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

    # The dispatcher

    async def _dispatch(self) -> None:
        # Cancelling comes some turns of the loop after a halt: nothing may go out in between.
        while not self._stopping.is_set():
            now = self._clock()
            gone = self._health.gone(now, self._settings.give_up_after)
            if gone is not None:
                self._halt(gone)
                return
            allowed = self._in_flight.allowed(now)
            if self.ladder.probing:
                allowed = min(allowed, FIRST)  # the rest is packed better once it is answered
                patience = self._probed_at + PROBE_PATIENCE - now
                if self._beside_probe >= FIRST - 1 and patience > 0:
                    await self._pause(patience, "answers")
                    continue
            if self.requests_in_flight >= allowed:
                await self._pause(None, "answers")
                continue
            closed_for = self._health.breaker.delay(now)
            if closed_for > 0:
                # A probe that is out brings its answer by itself.
                until = None if math.isinf(closed_for) else closed_for
                await self._pause(until, "the destination, which is down")
                continue
            room = allowed - self.requests_in_flight
            if await self._launch_several(room):
                continue
            case = self._agenda.take(now)
            if self._agenda.reader_waits and not self._agenda.enough:
                self._reader.make_room()  # less of what was read may go than it thought
            if case is None:
                if self._agenda.done:
                    return
                await self._pause(self._agenda.next_moment(now), self._lack())
                continue
            await self._noting.own_up()
            if await self._permit(case):
                self._note_probe(case)
                self._launch((case,))
            else:
                self._agenda.put_back(case, now)

    def _note_probe(self, case: Case) -> None:
        """Tell whether a request is the probe of caps or of an outage, or goes beside one."""
        beside = self.ladder.probing
        self._health.sent(case.batch)
        if beside:
            self._beside_probe += 1
        elif self.ladder.probing:
            self._probed_at, self._beside_probe = self._clock(), 0

    async def _pause(self, seconds: float | None, why: str) -> None:
        """Wait until something changed, or for so many seconds."""
        self._waiting_for = why
        self._waits_until = None if seconds is None else self._clock() + seconds
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
        case.cost = cost = self._sink.endpoint.cost(case.batch)
        granted = await self._throttle.at_once(cost, self.requests_in_flight)
        if granted is not None:
            case.granted_at = granted
            return True
        try:
            async with asyncio.timeout(self._patience()) as self._permit_timeout:
                case.granted_at = await self._throttle.acquire(
                    cost, in_flight=lambda: self.requests_in_flight
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

    def _lack(self) -> str:
        if self.requests_in_flight:
            return "answers"
        if self._agenda.retries_waiting:
            return "the next try of what failed"
        return "records"

    async def _launch_several(self, room: int) -> bool:
        """Launch full requests of fresh records that may all go at once; return whether any did.

        What each of them costs beside its bytes is paid once for all, where a destination is fast.
        None of them is a probe.
        """
        if room < 2 or self._health.breaker.open or self._noting.owes:
            return False
        most = self._throttle.several(room, self.requests_in_flight)
        cases = self._agenda.take_full(most)
        if not cases:
            return False
        granted = await self._throttle.at_once(1, self.requests_in_flight, len(cases))
        if granted is None:  # a turn that was left over has ended just now
            for case in cases:
                self._agenda.put_back(case, self._clock())
            return False
        for case in cases:
            case.granted_at = granted
        if self._agenda.reader_waits and not self._agenda.enough:
            self._reader.make_room()
        self._launch(cases)
        return True

    def _launch(self, cases: Sequence[Case]) -> None:
        self._noting.note([case.batch for case in cases])
        now = self._clock()
        for case in cases:
            case.out, case.begun, case.sent_at = True, False, now
        self._in_flight.sent(now, len(cases))
        self.requests_in_flight += len(cases)
        for case in cases:
            reply = None if self._prompt is None else self._prompt.begin(case.batch)
            if reply is None:
                self._begin(case)
                continue
            self._note_sent(case, now)
            self._deliveries[reply] = case
            reply.add_done_callback(self._replied)

    def _note_sent(self, case: Case, now: float) -> None:
        case.begun, case.sent_at = True, now
        self.balance.sent(case.batch.records, again=case.tries.sends > 0)

    def _begin(self, case: Case) -> None:
        task = asyncio.create_task(self._deliver(case))
        self._deliveries[task] = case
        task.add_done_callback(self._returned)

    # A delivery

    async def _deliver(self, case: Case) -> None:
        self._note_sent(case, self._clock())
        try:
            answer = await self._sink.deliver(case.batch)
        except asyncio.CancelledError:
            self.requests_in_flight -= 1
            self._abandon(case)
            raise
        except BaseException:
            self.requests_in_flight -= 1
            raise
        self._answered(case, answer)

    def _replied(self, reply: asyncio.Future[Reply]) -> None:
        """Do as `_deliver` does in the end, for a request that nobody had to wait for."""
        assert self._prompt is not None
        case = self._deliveries.pop(reply)
        if reply.cancelled():
            self.requests_in_flight -= 1
            self._minded(self._abandon, case)
            return
        try:
            answer = self._prompt.answer(case.batch, reply.result())
        except BaseException as error:
            self.requests_in_flight -= 1
            self._mind(error)
        else:
            self._answered(case, answer)

    def _answered(self, case: Case, answer: Answer) -> None:
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._conclude_all)
        self._answers.append((case, answer))

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
        self._agenda.settle(case, found, self._clock())  # what is left of it is in doubt

    def _conclude_all(self) -> None:
        """Learn from the answers of a turn of the loop, and settle what they tell of."""
        answers, self._answers = self._answers, []
        if not answers:
            return
        now = self._clock()
        for plain, some in groupby(answers, lambda answered: plainly(answered[1].outcome)):
            if plain:
                self._minded(self._conclude_plain, tuple(some), now)
            else:
                for case, answer in some:
                    self._minded(self._conclude, case, answer, now)
        self._mind_the_bad()
        self._reader.make_room()
        self._wake()

    def _conclude_plain(self, taken: Sequence[tuple[Case, Answer]], now: float) -> None:
        """Do as `_conclude` for requests all of which were taken as they are."""
        self._hearing.took(taken, now, self.requests_in_flight - 1)
        self.requests_in_flight -= len(taken)
        cases = [case for case, _ in taken]
        self._noting.settle_plain([case.batch for case in cases])
        self._agenda.delivered(cases)

    def _conclude(self, case: Case, answer: Answer, now: float) -> None:
        """Learn from an answer, ask what becomes of the records, and settle them."""
        self.requests_in_flight -= 1
        agenda, breaker = self._agenda, self._health.breaker
        alone = agenda.alone(case)
        weather = Weather(
            outage=breaker.open,
            others_succeed=breaker.last_success > agenda.failing_since(case),
            alone=alone,
            bisected=agenda.cuts(case),
        )
        heard = self._hearing.hear(
            case,
            answer,
            now,
            self.requests_in_flight,
            cut_alone_since=agenda.suspect_since(case) if alone else None,
            jitter=self._dice(),
        )
        if self._permit_timeout is not None and (patience := self._patience()) is not None:
            # It went down while a permit is waited for, by its own word perhaps for hours.
            self._permit_timeout.reschedule(asyncio.get_running_loop().time() + patience)
        if heard.halt is not None:
            self._halt(heard.halt)
        asked_delay = (answer.word.retry_after or 0.0) if answer.word else 0.0
        disposition = self._decide(case, answer, weather, asked_delay)
        self._noting.settle(case.batch, answer, disposition, attempts=case.tries.sends + 1)
        agenda.settle(case, disposition, now)

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

    def _returned(self, task: asyncio.Future[Any]) -> None:
        """Mind the end of a task: what it raised ends the run, and is not lost."""
        case = self._deliveries.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if case is not None and not case.begun:
            self.requests_in_flight -= 1
            self._noting.withdraw(case.batch)  # nothing of it went, and it stays pending
        if error is not None:
            self._mind(error)

    def _minded(self, step: Callable[..., None], *given: Any) -> None:
        """Take a step, and mind what it raises."""
        try:
            step(*given)
        except BaseException as error:  # nobody above would tell of it
            self._mind(error)

    def _mind(self, error: BaseException) -> None:
        """End the run because of an error, which is not lost."""
        if isinstance(error, IngestError):
            self._halt(error)
        else:
            self._crash = error
            self._stop()

    def _repeatable(self, batch: Batch) -> Callable[[int, int], bool]:
        """Return what says of a record of the batch whether a second copy changes nothing."""
        if not self._sink.endpoint.resendable:
            return lambda slot, index: False
        fragments: dict[int, list[bytes]] = {}

        def repeatable(slot: int, index: int) -> bool:
            # Cut out of its column once for all, and only if anybody asks.
            if slot not in fragments:
                fragments[slot] = batch.columns[slot].fragments()
            return self._sink.repeatable(slot, fragments[slot][index])

        return repeatable

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
        self._changed.set()

    def _halt(self, error: IngestError) -> None:
        # An input that broke off is told already, and is the lesser reason to stop.
        if self.error is None or isinstance(self.error, InputError):
            self.error = error
        self.state = "halted"
        self._stop()
