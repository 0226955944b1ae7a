"""The core played through with a made-up destination: no event loop, no sockets, a made-up clock.

Does what the pipeline does with the agenda, the retry rules, the ladder, the breaker and the
balance, in the same order, and checks law 4 at every request.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import msgspec

from ingest.agenda import Agenda
from ingest.balance import Balance
from ingest.batcher import Batcher
from ingest.breaker import Breaker
from ingest.dispositions import Disposition, RetryPolicy, Weather
from ingest.outcomes import (
    Delivered,
    Invalid,
    ItemError,
    Outcome,
    Refused,
    Throttled,
    TooMany,
    Unanswered,
    Unavailable,
)
from ingest.profiles import Caps, CapsLadder
from ingest.records import KINDS, Batch, UserKey
from ingest.resends import Case
from ingest.retry import decide
from tests.batches import SLOTS, chunk_of, positions_of

STEPS = tuple(Caps((9, 9, 9), total, 100_000) for total in (27, 9, 6))
"""The ladder of an account, scaled down so that few records make many requests."""

CHUNK = 20
MOST_REQUESTS = 2_000

MEMORY = 1_000_000
LINGER = 0.05
"""Seconds, of which a request takes 0.02 at the most."""

GIVE_UP_AFTER = 1_800.0
"""Seconds without a success after which a run gives up; a 429 now and then is none."""


class Habits(msgspec.Struct, frozen=True):
    """What a made-up destination does. Shares are of its answers, `outage` is in seconds.

    `dislikes` is what it says to a poisoned record: `indexed` (201 and an error), `invalid` (400
    with an index), `refused` (400 without one) or `broken` (500).
    """

    cap: int = STEPS[0].total
    poisoned: frozenset[int] = frozenset()
    dislikes: str = "indexed"
    throttled: float = 0.0
    unavailable: float = 0.0
    unanswered: float = 0.0
    outage: tuple[float, float] = (0.0, 0.0)


class Far:
    """The destination: answers, and remembers which records it has applied in which order."""

    def __init__(self, habits: Habits, dice: random.Random) -> None:
        self.habits = habits
        self.applied: dict[tuple[UserKey, int], list[int]] = defaultdict(list)
        self.seen: Counter[type[Outcome]] = Counter()
        self._dice = dice

    def answer(self, batch: Batch, now: float) -> Outcome:
        """Say something to a request, and apply it or not."""
        outcome = self._answer(batch, now)
        self.seen[type(outcome)] += 1
        return outcome

    def _answer(self, batch: Batch, now: float) -> Outcome:
        habits, luck = self.habits, self._dice.random()
        if habits.outage[0] <= now < habits.outage[1]:
            return Unavailable(503, "down")
        if luck < habits.throttled:
            return Throttled(429)
        luck -= habits.throttled
        if luck < habits.unavailable:
            return Unavailable(503, "bad luck")
        if len(batch) > habits.cap:
            return TooMany(400)
        poisoned = habits.poisoned & set(positions_of(batch))
        if luck < habits.unavailable + habits.unanswered:
            if not poisoned and self._dice.random() < 0.5:
                self._apply(batch, poisoned)
            return Unanswered(504, "no answer")
        if poisoned and habits.dislikes == "broken":
            return Unavailable(500, "it broke")
        if poisoned and habits.dislikes == "refused":
            return Refused(400, "something is wrong")
        errors = tuple(
            ItemError(slot, index, "poison", "poisoned")
            for slot, index in batch.rows()
            if batch.columns[slot].positions[index] in poisoned
        )
        if errors and habits.dislikes == "invalid":
            return Invalid(400, errors)
        self._apply(batch, poisoned)
        return Delivered(201, errors)

    def _apply(self, batch: Batch, poisoned: frozenset[int] | set[int]) -> None:
        for slot, column in enumerate(batch.columns):
            for key, at in zip(column.keys, column.positions, strict=True):
                if at not in poisoned:
                    self.applied[key, slot].append(at)


class Rehearsal:
    """Delivers (slot, user) rows to a destination; `columns` is where each position ended."""

    def __init__(
        self,
        rows: Sequence[tuple[int, UserKey]],
        habits: Habits,
        *,
        seed: int,
        in_flight: int = 4,
        hold: frozenset[int] = frozenset(),
    ) -> None:
        self.dice = random.Random(seed)
        self.far = Far(habits, self.dice)
        self.columns: dict[int, str] = {}
        self.balance = Balance()
        self.ladder = CapsLadder(STEPS)
        batcher = Batcher(slots=SLOTS, overhead=10)
        self.agenda = Agenda(batcher, self.ladder, memory=MEMORY, linger=LINGER)
        self.breaker = Breaker()
        self.now = 1.0
        self.gave_up = False
        self.failed_in_outage = 0
        self.bisecting: Counter[int] = Counter()
        self._policy = RetryPolicy(hold_unanswered=hold)
        self._in_flight = in_flight
        self._rows = rows
        self._unread = 0
        self._flying: list[Case] = []

    @property
    def waiting(self) -> int:
        """Records read and not settled."""
        return self.agenda.records

    def run(self) -> None:
        """Read, send and settle until everything is settled, or the destination is down."""
        while not self.agenda.done:
            if not self.agenda.source_ended and self.dice.random() < 0.5:
                self._read()
            while len(self._flying) < self._in_flight and self._launch():
                pass
            if self._flying:
                self.now += 0.02 * self.dice.random()
                self._come_back(self._flying.pop(self.dice.randrange(len(self._flying))))
            elif self.now - max(0.0, self.breaker.last_success) >= GIVE_UP_AFTER:
                self.gave_up = True
                return
            elif self.agenda.source_ended:
                self._sleep()

    def _read(self) -> None:
        rows = self._rows[self._unread : self._unread + CHUNK]
        self.agenda.add(chunk_of(rows, first=self._unread))
        self._unread += len(rows)
        self.agenda.source_ended = self._unread == len(self._rows)
        for slot, _ in rows:
            self.balance.read(KINDS[slot])

    def _sleep(self) -> None:
        delay = self.agenda.next_moment(self.now)
        assert delay is not None, "nothing is in flight, nothing is due, and records are left"
        self.now += max(0.0, delay, self.breaker.delay(self.now))

    def _launch(self) -> bool:
        if self.breaker.delay(self.now) > 0:
            return False
        case = self.agenda.take(self.now)
        if case is None:
            return False
        for other in self._flying:
            assert not other.batch.users() & case.batch.users()
        case.sent_at = self.now
        self.balance.sent(len(case.batch), again=case.tries.sends > 0)
        assert self.balance.requests < MOST_REQUESTS
        self.breaker.sent(case.batch.id)
        self.ladder.sent(case.batch.id, len(case.batch))
        self._flying.append(case)
        return True

    def _come_back(self, case: Case) -> None:
        outcome = self.far.answer(case.batch, self.now)
        weather = self._hear(case, outcome)
        if case.tries.suspect and not weather.outage:
            self.bisecting[case.batch.family] += 1
        found = decide(
            case.batch,
            outcome,
            case.tries,
            weather,
            self._policy,
            self.ladder.sure,
            repeatable=lambda slot, index: slot == 0,
            jitter=self.dice.random(),
        )
        self._settle(case, found, weather)

    def _hear(self, case: Case, outcome: Outcome) -> Weather:
        self.ladder.answered(case.batch.id)
        self.breaker.answered(case.batch.id)
        agenda = self.agenda
        alone = agenda.alone(case)
        weather = Weather(
            outage=self.breaker.open,
            others_succeed=self.breaker.last_success > agenda.failing_since(case),
            alone=alone,
            bisected=agenda.cuts(case),
        )
        match outcome:
            case Delivered() | Invalid():
                self.breaker.succeeded(self.now)
                self.ladder.accepted(len(case.batch))
            case Unavailable() | Unanswered():
                since = agenda.suspect_since(case) if alone else None
                if since is None or self.breaker.last_success <= since:
                    self.breaker.failed(self.now, self.dice.random())
                case.failed_at = self.now
            case TooMany():
                self.breaker.alive(self.now)
                self.ladder.refused(len(case.batch), case.batch.generation)
            case _:
                self.breaker.alive(self.now)
        return weather

    def _settle(self, case: Case, found: Disposition, weather: Weather) -> None:
        batch = case.batch
        ended = {(verdict.slot, verdict.index): verdict.column for verdict in found.verdicts}
        for row in batch.rows():
            column = ended.get(row) or ("delivered" if found.delivered else None)
            if column is not None:
                at = batch.columns[row[0]].positions[row[1]]
                assert at not in self.columns
                self.columns[at] = column
                self.balance.settle(KINDS[row[0]], column)
                self.failed_in_outage += weather.outage and column == "failed"
        self.agenda.settle(case, found, self.now)
