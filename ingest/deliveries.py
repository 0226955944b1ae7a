"""Requests on their way, and what becomes of their records when they are answered.

A batch is noted, sent, and waited for by nobody in particular; the answers of a turn of the loop
are concluded together: the core is asked what becomes of the records, and they are settled. Does
not decide what goes, or when: see `ingest.pipeline`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, cast

import msgspec

from ingest.agenda import Agenda
from ingest.balance import Balance
from ingest.dispositions import Disposition, RetryPolicy, Weather
from ingest.health import Health
from ingest.hearing import Hearing
from ingest.inflight import Fixed, InFlight
from ingest.noting import Noting
from ingest.outcomes import Reply, Unanswered
from ingest.profiles import CapsLadder
from ingest.records import Batch
from ingest.resends import Case
from ingest.retry import decide, plainly
from ingest.sinks.base import Answer, HttpSink, Sink


class Deliveries:
    """The requests of one run that are in flight.

    `heard` is called after an answer that was none of the plain ones was learned from, `settled`
    after all of a turn of the loop, and `failed` with what has to end the run. `dice` is a source
    of numbers in [0, 1), `clock` monotonic, in seconds.
    """

    def __init__(
        self,
        sink: Sink,
        agenda: Agenda,
        noting: Noting,
        *,
        balance: Balance,
        policy: RetryPolicy,
        ladder: CapsLadder,
        health: Health,
        hearing: Hearing,
        in_flight: InFlight | Fixed,
        heard: Callable[[], None],
        settled: Callable[[], None],
        failed: Callable[[BaseException], None],
        dice: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self.noting = noting
        self.count = 0
        """Requests in flight: sent, and not concluded."""
        self._sink = sink
        # One that delivers in its own way is let do so.
        plain = getattr(sink.deliver, "__func__", None) is HttpSink.deliver
        self._prompt = cast(HttpSink, sink) if plain else None
        self._agenda = agenda
        self._balance = balance
        self._policy = policy
        self._ladder = ladder
        self._health = health
        self._hearing = hearing
        self._in_flight = in_flight
        self._heard = heard
        self._settled = settled
        self._failed = failed
        self._dice = dice
        self._clock = clock
        self._open: dict[asyncio.Future[Any], Case] = {}
        self._answers: list[tuple[Case, Answer]] = []  # of this turn of the loop

    @property
    def open(self) -> tuple[asyncio.Future[Any], ...]:
        """What is to be waited for until all requests are answered, or to be cancelled."""
        return tuple(self._open)

    def launch(self, cases: Sequence[Case]) -> None:
        """Send requests that may go now. Raises `LocalFailure`: then none of them went."""
        self.noting.note([case.batch for case in cases])
        now = self._clock()
        for case in cases:
            case.out, case.begun, case.sent_at = True, False, now
        self._in_flight.sent(now, len(cases))
        self.count += len(cases)
        for case in cases:
            reply = None if self._prompt is None else self._prompt.begin(case.batch)
            if reply is None:
                self._begin(case)
                continue
            self._note_sent(case, now)
            self._open[reply] = case
            reply.add_done_callback(self._replied)

    def _note_sent(self, case: Case, now: float) -> None:
        case.begun, case.sent_at = True, now
        self._balance.sent(case.batch.records, again=case.tries.sends > 0)

    def _begin(self, case: Case) -> None:
        task = asyncio.create_task(self._deliver(case))
        self._open[task] = case
        task.add_done_callback(self._returned)

    async def _deliver(self, case: Case) -> None:
        self._note_sent(case, self._clock())
        try:
            answer = await self._sink.deliver(case.batch)
        except asyncio.CancelledError:
            self.count -= 1
            self._abandon(case)
            raise
        except BaseException:
            self.count -= 1
            raise
        self._answered(case, answer)

    def _replied(self, reply: asyncio.Future[Reply]) -> None:
        """Do as `_deliver` does in the end, for a request that nobody had to wait for."""
        assert self._prompt is not None
        case = self._open.pop(reply)
        if reply.cancelled():
            self.count -= 1
            self._minded(self._abandon, case)
            return
        try:
            answer = self._prompt.answer(case.batch, reply.result())
        except BaseException as error:
            self.count -= 1
            self._failed(error)
        else:
            self._answered(case, answer)

    def _answered(self, case: Case, answer: Answer) -> None:
        if not self._answers:
            asyncio.get_running_loop().call_soon(self.conclude)
        self._answers.append((case, answer))

    def _abandon(self, case: Case) -> None:
        """Write down that whether a request arrived is not known, for the run was stopped at once.

        That is no fault of the destination, and what is not held stays pending (law 5).
        """
        answer = Answer(Unanswered(None, "the run was stopped before an answer"))
        self._balance.answered(None, throttled=False)
        found = self._decide(case, answer, Weather(outage=True))
        # Nothing goes again in this run, so nothing of it can be a copy.
        found = msgspec.structs.replace(found, duplicated=0)
        self.noting.abandon(case.batch, answer, found, attempts=case.tries.sends + 1)
        self._agenda.settle(case, found, self._clock())  # what is left of it is in doubt

    def conclude(self) -> None:
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
        self._settled()

    def _conclude_plain(self, taken: Sequence[tuple[Case, Answer]], now: float) -> None:
        """Do as `_conclude` for requests all of which were taken as they are."""
        self._hearing.took(taken, now, self.count - 1)
        self.count -= len(taken)
        cases = [case for case, _ in taken]
        self.noting.settle_plain([case.batch for case in cases])
        self._agenda.delivered(cases)

    def _conclude(self, case: Case, answer: Answer, now: float) -> None:
        """Learn from an answer, ask what becomes of the records, and settle them."""
        self.count -= 1
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
            self.count,
            cut_alone_since=agenda.suspect_since(case) if alone else None,
            jitter=self._dice(),
        )
        self._heard()
        if heard.halt is not None:
            self._failed(heard.halt)
        asked_delay = (answer.word.retry_after or 0.0) if answer.word else 0.0
        disposition = self._decide(case, answer, weather, asked_delay)
        self.noting.settle(case.batch, answer, disposition, attempts=case.tries.sends + 1)
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
            self._ladder.sure,
            repeatable=self._repeatable(case.batch),
            jitter=self._dice(),
            asked_delay=asked_delay,
            folded=self._sink.folding is not None,
            doubted=self.noting.doubted(case.batch),
        )

    def _returned(self, task: asyncio.Future[Any]) -> None:
        """Mind the end of a delivery: what it raised ends the run, and is not lost."""
        case = self._open.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if case is not None and not case.begun:
            self.count -= 1
            self.noting.withdraw(case.batch)  # nothing of it went, and it stays pending
        if error is not None:
            self._failed(error)

    def _minded(self, step: Callable[..., None], *given: Any) -> None:
        """Take a step, and mind what it raises."""
        try:
            step(*given)
        except BaseException as error:  # nobody above would tell of it
            self._failed(error)

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
