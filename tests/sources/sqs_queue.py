"""A queue in memory that keeps the rules of SQS, on the clock of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from ingest.receipts import Ask
from ingest.sources.sqs_client import TEN, Ends, Message, Trouble
from ingest.visibility import MOST

STEP: float = 0.05
"""Seconds that any request takes."""


class Lying(msgspec.Struct):
    """A message: when it may be given out, and by which receipt it was given out last."""

    name: str
    body: str
    kind: str | None = None
    group: str = ""
    visible: float = 0.0
    first: float = 0.0
    received: int = 0

    @property
    def handle(self) -> str:
        return f"{self.name}/{self.received}"


class FakeQueue:
    """What a session asks; `down` makes each request fail, `refuse` the next entries."""

    def __init__(self, *, ordered: bool = False) -> None:
        self.lying: dict[str, Lying] = {}
        self.ordered = ordered
        self.down = False
        self.refuse = 0
        self.deleted: list[str] = []
        self.requests = {"receive": 0, "delete": 0, "keep": 0}
        self.polls = 0
        self.most_polls = 0

    def send(self, *bodies: str, kind: str | None = None, group: str = "") -> None:
        """Put messages there; a message is called by its body."""
        for body in bodies:
            self.lying[body] = Lying(body, body, kind, group)

    @property
    def visible(self) -> list[str]:
        """The messages that others could get now."""
        return [one.name for one in self.lying.values() if one.visible <= _now()]

    async def receive(self, seconds: int, wait: int) -> list[Message]:
        """Give out ten at most, or none after a while."""
        self.polls += 1
        self.most_polls = max(self.most_polls, self.polls)
        try:
            await self._asked("receive")
            until = _now() + wait
            while not (found := self._given(seconds)) and _now() < until:  # noqa: ASYNC110  # virtual time
                await asyncio.sleep(0.25)
            return found
        finally:
            self.polls -= 1

    def _given(self, seconds: int) -> list[Message]:
        now = _now()
        locked = {one.group for one in self.lying.values() if one.visible > now}
        found = []
        for one in self.lying.values():
            if one.visible > now or (self.ordered and one.group in locked):
                continue
            one.received += 1
            one.visible, one.first = now + seconds, now
            found.append(Message(one.name, one.handle, one.body, one.kind, one.group))
            if len(found) == TEN:
                break
        return found

    async def delete(self, asks: Sequence[Ask]) -> Ends:
        """Delete those whose receipt is the newest, and still good."""
        await self._asked("delete")
        ends = Ends([], [], [], "InternalError")
        for at, ask in enumerate(asks):
            one = self._found(ask)
            if self.refuse:
                self.refuse -= 1
                ends.failed.append(at)
            elif one is None:
                ends.gone.append(at)
            else:
                ends.done.append(at)
                self.deleted.append(one.name)
                del self.lying[one.name]
        return ends

    async def keep(self, asks: Sequence[tuple[Ask, int]]) -> Ends:
        """Change how long messages are another's."""
        await self._asked("keep")
        ends = Ends([], [], [])
        for at, (ask, seconds) in enumerate(asks):
            one = self._found(ask)
            if one is None or _now() + seconds > one.first + MOST:
                ends.gone.append(at)
            else:
                ends.done.append(at)
                one.visible = _now() + seconds
        return ends

    def _found(self, ask: Ask) -> Lying | None:
        one = self.lying.get(ask.handle.rpartition("/")[0])
        return one if one and one.handle == ask.handle and one.visible > _now() else None

    async def _asked(self, what: str) -> None:
        self.requests[what] += 1
        await asyncio.sleep(STEP)
        if self.down:
            raise Trouble("The queue is down")


def _now() -> float:
    return asyncio.get_running_loop().time()
