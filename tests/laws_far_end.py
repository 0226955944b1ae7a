"""The far end of a play: a real wire on a made-up network, and the laws held at every request.

`Far` is the sink that a pipeline delivers to. It throttles, breaks, loses answers and dislikes some
records, as the habits of a plan say; before that it checks ceilings, order and bodies.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from typing import Final, Literal

from ingest.codec import loads
from ingest.outcomes import (
    Delivered,
    Invalid,
    ItemError,
    Lost,
    Outcome,
    Reply,
    Response,
    TooMany,
    Unanswered,
    Unsent,
)
from ingest.records import Batch, UserKey
from ingest.schemas import Encoded
from ingest.sinks.base import Answer, HttpSink, Request, Wire
from tests.laws_rows import MARK, NOW, Dislike, Plan, wire_knows

MOST_REQUESTS: Final = 2_000
"""A play that needs more has lost its way."""

SUCCESS: Final = b'{"message":"success","code":"SUCCESS"}'
"""What any of the destinations says when all went well; another one's word does no harm."""

Fate = Literal["taken", "not", "doubt"]
"""What a request did to a record: applied or judged it, did nothing, or nobody knows."""


class _Said:
    """A transport that has its reply already, and sees that a request is made alike twice."""

    host: Final = "far.example"

    def __init__(self, reply: Reply, expected: Request) -> None:
        self._reply = reply
        self._expected = expected

    def begin(self, request: Request) -> None:
        """Send nothing without waiting."""

    async def send(self, request: Request) -> Reply:
        assert request == self._expected
        return self._reply

    async def aclose(self) -> None:
        pass


class Far:
    """A sink of a real wire and a made-up network, which holds every request to the laws.

    `fates[line]` is what became of a record in each request that held it, in their order.
    """

    host: Final = "far.example"

    def __init__(self, wire: Wire, plan: Plan, ended: dict[int, str]) -> None:
        self.wire = wire
        self.name, self.endpoint = wire.name, wire.endpoint
        self.overhead, self.schema, self.folding = wire.overhead, wire.schema, wire.folding
        self.record_of, self.repeatable = wire.record_of, wire.repeatable
        self.fates: dict[int, list[Fate]] = defaultdict(list)
        self.requests = 0
        self.known = {
            line: known
            for line, known in enumerate(map(wire_knows(wire), plan.lines), 1)
            if known is not None
        }
        self._plan = plan
        self._ended = ended
        self._dice = random.Random(plan.seed)
        self._flying: Counter[UserKey] = Counter()
        self._lines_of: dict[UserKey, list[int]] = defaultdict(list)
        for line, one in self.known.items():
            self._lines_of[one.key].append(line)

    async def deliver(self, batch: Batch) -> Answer:
        """Check a request, let some time pass, and answer it."""
        request = self.wire.request(batch)
        self.requests += 1
        assert self.requests < MOST_REQUESTS
        self.check_ceilings(batch, request)
        self.check_order(batch)
        self.check_body(batch, request)
        self._flying.update(batch.users())
        try:
            await asyncio.sleep(self._dice.random() * 0.2)
            said, fate = self._answer(batch)
        finally:
            self._flying.subtract(batch.users())
        for line in lines_in(batch):
            self.fates[line].append(fate)
        if isinstance(said, Response | Unsent | Lost):
            return await HttpSink(self.wire, _Said(said, request)).deliver(batch)
        return Answer(said, status=said.status)

    async def aclose(self) -> None:
        """Nothing is open."""

    # What must hold of every request

    def check_ceilings(self, batch: Batch, request: Request) -> None:
        """Law 2: every cap that it was packed under, and the bytes as they are really encoded."""
        caps = self._plan.caps[batch.generation]
        assert all(map(int.__le__, map(len, batch.columns), caps.per_slot))
        assert 0 < len(batch) <= caps.total
        assert len(request.body) <= caps.body_bytes
        assert len(request.body) <= batch.nbytes + self.overhead
        users = Counter(key for column in batch.columns for key in column.keys)
        assert caps.users is None or len(users) <= caps.users
        assert caps.per_user is None or max(users.values()) <= caps.per_user

    def check_order(self, batch: Batch) -> None:
        """Law 4: nobody is in two requests at once, nobody's record overtakes an older one."""
        users = batch.users()
        assert not any(self._flying[user] for user in users)
        here = set(lines_in(batch))
        assert len(here) == len(batch)
        assert not here & self._ended.keys()
        for user in users:
            newest = max(here.intersection(self._lines_of[user]))
            older = {line for line in self._lines_of[user] if line < newest}
            assert older <= here | self._ended.keys()
        for column in batch.columns:
            for user in set(column.keys):
                own = [
                    at for at, key in zip(column.positions, column.keys, strict=True) if key == user
                ]
                assert own == sorted(own)

    def check_body(self, batch: Batch, request: Request) -> None:
        """The body holds the records of the batch, as the schema encodes them, and no other."""
        marks = []
        for slot, column in enumerate(batch.columns):
            rows = zip(column.fragments(), column.keys, column.lines, strict=True)
            for fragment, key, line in rows:
                known = self.known[line]
                encoded = Encoded(slot, fragment, batch.partition)
                assert (known.key, known.encoded) == (key, encoded)
                marks += MARK.findall(self._plan.lines[line - 1])
        assert sorted(MARK.findall(request.body)) == sorted(marks)
        body = loads(request.body)
        if self.folding is not None:
            assert len(body) == len(batch.users())
            self.check_folding(batch, request)
            return
        arrays = (
            [body]
            if isinstance(body, list)
            else [body.get(slot, []) for slot in self.endpoint.slots]
        )
        assert arrays == [[*map(loads, column.fragments())] for column in batch.columns]
        shared = loads(b"{" + batch.partition.members + b"}")
        assert not shared or body.items() >= shared.items()

    def check_folding(self, batch: Batch, request: Request) -> None:
        """The records of each user do fold, and what happened to one is told in its order."""
        assert self.folding is not None
        of_user: dict[UserKey, list[tuple[int, int, bytes]]] = defaultdict(list)
        for slot, column in enumerate(batch.columns):
            rows = zip(column.keys, column.lines, column.fragments(), strict=True)
            for user, line, fragment in rows:
                of_user[user].append((line, slot, fragment))
        for records in of_user.values():
            (_, slot, first), *later = sorted(records)
            item = self.folding.begin(slot, first)
            assert all(self.folding.join(item, slot, fragment) for _, slot, fragment in later)
            happened = [
                request.body.index(b'"m%d"' % line) for line, slot, _ in sorted(records) if slot
            ]
            assert happened == sorted(happened)

    # What it answers

    def _answer(self, batch: Batch) -> tuple[Reply | Outcome, Fate]:
        habits, luck = self._plan.habits, self._dice.random()
        if luck < habits.throttled:
            return _response(429, b'{"message":"slow down"}'), "not"
        luck -= habits.throttled
        if luck < habits.unavailable:
            return self._broken(batch, self._dice.choice((500, 502, 503)), b"<html>")
        luck -= habits.unavailable
        if luck < habits.unsent:
            return Unsent("no route"), "not"
        luck -= habits.unsent
        if luck < habits.lost:
            return self._dice.choice((Lost("a reset"), _response(504, b""))), "doubt"
        if len(batch) > habits.takes:
            return TooMany(400), "not"
        return self._judge(batch)

    def _judge(self, batch: Batch) -> tuple[Reply | Outcome, Fate]:
        errors = tuple(
            ItemError(slot, index, "poison", "is poisoned", already=self._dislikes == "gone")
            for slot, index in batch.rows()
            if batch.columns[slot].lines[index] in self._plan.poisoned
        )
        if not errors:
            return _response(201, SUCCESS), "taken"
        match self._dislikes:
            case "refused":
                return _response(400, b'{"message":"no"}'), "taken" if len(batch) == 1 else "not"
            case "broken":
                return self._broken(batch, 500, b'{"message":"oh"}')
            case "invalid":
                return Invalid(400, errors), "not"
            case "pieces":
                return Delivered(202, pieces=errors), "taken"
            case _:
                return Delivered(201, errors), "taken"

    def _broken(self, batch: Batch, status: int, body: bytes) -> tuple[Reply, Fate]:
        """Answer a server error, of which a destination may say that all may be kept."""
        response = _response(status, body)
        doubted = isinstance(self.wire.interpret(batch, response), Unanswered)
        return response, "doubt" if doubted else "not"

    @property
    def _dislikes(self) -> Dislike:
        return self._plan.habits.dislikes


def lines_in(batch: Batch) -> list[int]:
    """Return the line of every record of a batch."""
    return [line for column in batch.columns for line in column.lines]


def _response(status: int, body: bytes) -> Response:
    return Response(status, {"Content-Type": "application/json"}, body, NOW)
