"""A tiny driver of a source of SQS: takes blocks, and settles their messages in a random order.

Run as a program it writes down what it does, a line an act, so that a `kill -9` leaves all of it:
`h TIME NAME,...` for what was handed over, `s` for what is about to be settled. The name of a
message is the external id in it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Final

from ingest.codec import loads
from ingest.sources.base import Block
from ingest.sources.live import Session
from ingest.sources.sqs import SqsSettings, SqsSource

ROUND_SECONDS: Final = 0.02
"""Between two times that something is settled."""

SHARE: Final = 0.6
"""Of what is in flight is settled each time."""

Act = Callable[[str, Sequence[str]], None]
"""Is told "h" or "s", and the names of messages."""


class Driver:
    """Works on the session of a source. While `gate` is not set, it asks for no block."""

    def __init__(
        self, source: SqsSource, act: Act = lambda what, names: None, *, seed: int = 0
    ) -> None:
        self.source = source
        self.session: Session | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.settling = asyncio.Event()
        self.settling.set()
        self.blocks: list[Block] = []
        self.open: dict[int, str] = {}
        self.bad: Callable[[str], bool] = lambda name: False
        self._act = act
        self._dice = random.Random(seed)

    async def run(self) -> None:
        """Work until the source is stopped."""
        async for session in self.source.sessions():
            self.session = session
            settling = asyncio.create_task(self._settle(session))
            await self._read(session)
            settling.cancel()
            with suppress(asyncio.CancelledError):
                await settling
            await session.end()

    async def _read(self, session: Session) -> None:
        blocks = session.blocks()
        while True:
            await self.gate.wait()
            block = await anext(blocks, None)
            if block is None:
                return
            self.blocks.append(block)
            found = dict(zip(block.numbers(), map(name_of, block.lines()), strict=True))
            found |= {row.line: f"unfit:{row.code}" for row in block.unfit}
            self._act("h", list(found.values()))
            self.open |= found
            await asyncio.sleep(0)

    async def _settle(self, session: Session) -> None:
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            await self.settling.wait()
            numbers = list(self.open)
            self._dice.shuffle(numbers)
            some = numbers[: 1 + int(len(numbers) * SHARE)]
            if some:
                names = [self.open.pop(number) for number in some]
                self._act("s", names)
                pairs = zip(some, names, strict=True)
                bad: Collection[int] = {number for number, name in pairs if self.bad(name)}
                session.settled(0, some, bad)


def name_of(line: bytes) -> str:
    """Return the external id of the one record of a line."""
    value = loads(line)
    inner = next(iter(value.values())) if len(value) == 1 else value
    return str((inner[0] if isinstance(inner, list) else inner)["external_id"])


async def durable() -> None:
    """Nothing is to be brought to safety."""


async def main(path: str, seed: str, settings: str) -> None:
    """Work until SIGTERM, and write down what is done."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    told: dict[str, Any] = loads(settings)
    source = SqsSource(SqsSettings(**told), durable)

    def act(what: str, names: Sequence[str]) -> None:
        os.write(fd, f"{what} {time.monotonic_ns()} {','.join(names)}\n".encode())

    await source.open()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, source.stop)
    await Driver(source, act, seed=int(seed)).run()
    await source.aclose()
    os.write(fd, b"end 0 -\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
