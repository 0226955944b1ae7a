"""A tiny driver of a Kafka source: takes blocks, and settles their messages in a random order.

Run as a program it writes down what it does, a line an act, so that a `kill -9` leaves all of it:
`h TIME PARTITION OFFSET,...` for what was handed over, `s` for what is about to be settled.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from ingest.codec import loads
from ingest.sources.base import Block
from ingest.sources.kafka import KafkaSource
from ingest.sources.kafka_settings import KafkaSettings
from ingest.sources.live import Session

ROUND_SECONDS: Final = 0.01
"""Between two times that something is settled."""

SHARE: Final = 0.6
"""Of what is in flight is settled each time."""

Act = Callable[[str, Session, int, Sequence[int]], None]
"""Is told "h" or "s", the session, the part, and the offsets."""


class Driver:
    """Works on one session after another. While `gate` is not set, it asks for no block."""

    def __init__(self, source: KafkaSource, act: Act, seed: int = 0) -> None:
        self.source = source
        self.gate = asyncio.Event()
        self.gate.set()
        self.settling = asyncio.Event()
        self.settling.set()
        self.sessions = 0
        self.blocks: list[Block] = []
        self.keep_blocks = False
        self._act = act
        self._dice = random.Random(seed)

    async def run(self) -> None:
        """Work until the source is stopped."""
        async for session in self.source.sessions():
            self.sessions += 1
            await self._work(session)

    async def _work(self, session: Session) -> None:
        open_: dict[int, list[int]] = {}
        reading = asyncio.create_task(self._read(session, open_))
        settling = asyncio.create_task(self._settle(session, open_))
        revoked = asyncio.create_task(session.revoked())
        await asyncio.wait({reading, revoked}, return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, settling, revoked):
            task.cancel()
        for task in (reading, settling, revoked):
            with suppress(asyncio.CancelledError):
                await task
        self._settle_some(session, open_)  # what was sent has its answer; the rest is given up
        await session.end()

    async def _read(self, session: Session, open_: dict[int, list[int]]) -> None:
        blocks = session.blocks()
        while True:
            await self.gate.wait()
            block = await anext(blocks, None)
            if block is None:
                return
            if self.keep_blocks:
                self.blocks.append(block)
            offsets = [*block.numbers(), *(row.line for row in block.unfit)]
            self._act("h", session, block.part, offsets)
            open_.setdefault(block.part, []).extend(offsets)
            await asyncio.sleep(0)

    async def _settle(self, session: Session, open_: dict[int, list[int]]) -> None:
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            await self.settling.wait()
            self._settle_some(session, open_)

    def _settle_some(self, session: Session, open_: dict[int, list[int]]) -> None:
        for part, offsets in open_.items():
            self._dice.shuffle(offsets)
            some = offsets[: 1 + int(len(offsets) * SHARE)]
            del offsets[: len(some)]
            if some:
                self._act("s", session, part, some)
                session.settled(part, some, ())


async def durable() -> None:
    """Nothing is to be brought to safety."""


async def main(path: str, seed: str, settings: str) -> None:
    """Work until SIGTERM, and write down what is done."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    told: dict[str, Any] = loads(settings)
    told["topics"] = tuple(told["topics"])
    source = KafkaSource(KafkaSettings(**told), durable)

    def act(what: str, session: Session, part: int, offsets: Sequence[int]) -> None:
        numbers = ",".join(map(str, offsets))
        partition = session.whence(part, 0)["partition"]
        os.write(fd, f"{what} {time.monotonic_ns()} {partition} {numbers}\n".encode())

    await source.open()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, source.stop)
    await Driver(source, act, int(seed)).run()
    await source.aclose()
    os.write(fd, b"end 0 0 0\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
