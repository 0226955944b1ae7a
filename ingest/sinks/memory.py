"""A destination in memory: the public fake, for the tests of users and for ours.

Decides nothing by itself: a script says what is answered. It keeps what was delivered and counts
what a test of the laws wants to know: requests, how many were in flight together, and whether two
of them carried the same user.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from ingest.outcomes import Delivered, Outcome
from ingest.records import Batch, UserKey
from ingest.schemas import TrackSchema
from ingest.sinks.base import Answer, BodyShape, Endpoint
from ingest.sinks.braze import ENDPOINTS
from ingest.sinks.rows.wire import repeatable

Script = Callable[[Batch], Outcome | Answer]
"""Says what is answered to a batch. What it raises is raised by `deliver`."""

CREATED: Final = 201
"""HTTP status of an answer that accepts everything."""


class MemorySink:
    """Accepts every batch, or answers what `script` says, after `latency` seconds.

    `delivered[slot]` are the fragments accepted, in the order in which their answers came; a batch
    of which the outcome is not `Delivered` leaves nothing there. `same_user_overlaps` counts the
    requests that came while another one with one of their users was in flight.
    """

    def __init__(
        self,
        script: Script | None = None,
        latency: float = 0.0,
        *,
        endpoint: Endpoint = ENDPOINTS["track"],
    ) -> None:
        # On the object, not on the class: for type checkers a protocol's properties are its own.
        self.name: Final = "memory"
        self.host: Final = "memory"
        self.schema: Final = TrackSchema()
        self.folding: Final = None
        self.endpoint: Final = endpoint
        self.overhead: Final = BodyShape(endpoint.slots).overhead
        self.delivered: list[list[bytes]] = [[] for _ in endpoint.slots]
        self.requests = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.same_user_overlaps = 0
        self.closed = False
        self._script = script
        self._latency = latency
        self._users: Counter[UserKey] = Counter()

    async def deliver(self, batch: Batch) -> Answer:
        """Take a batch and answer it. Always gives other tasks a turn."""
        users = batch.users()
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.same_user_overlaps += any(self._users[user] for user in users)
        self._users.update(users)
        try:
            await asyncio.sleep(self._latency)
            said = self._script(batch) if self._script else Delivered(CREATED)
        finally:
            self.in_flight -= 1
            self._users.subtract(users)
            for user in users:
                if not self._users[user]:
                    del self._users[user]
        answer = said if isinstance(said, Answer) else Answer(said, status=_status(said))
        if isinstance(answer.outcome, Delivered):
            self._keep(batch, answer.outcome)
        return answer

    def record_of(self, batch: Batch, slot: int, fragment: bytes) -> bytes:
        """Return the record as it came: the fragment."""
        return fragment

    def repeatable(self, slot: int, fragment: bytes) -> bool:
        """Whether a second copy of a record changes nothing, as at Braze."""
        return repeatable(slot, fragment)

    async def aclose(self) -> None:
        """Note that the pipeline is done with it."""
        self.closed = True

    def _keep(self, batch: Batch, outcome: Delivered) -> None:
        refused = {(error.slot, error.index) for error in outcome.rejected}
        for slot, column in enumerate(batch.columns):
            self.delivered[slot] += [
                fragment
                for index, fragment in enumerate(column.fragments())
                if (slot, index) not in refused
            ]


def _status(outcome: Outcome) -> int | None:
    return outcome.status
