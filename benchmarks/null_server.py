"""A destination that costs almost nothing: reads requests, answers 201, looks at nothing.

Run as a process of its own (`python -m benchmarks.null_server`); prints its port, and serves until
its stdin is closed; then it prints what came, as JSON. With `--latency SECONDS` an answer comes
that much later, give or take up to `--jitter SECONDS`. With `--limit 1000/1s` it answers 429 to
what is more than that in a window on the clock's edge, and tells with every answer what is left.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import sys
import time
from collections.abc import Coroutine
from typing import Any

CREATED = b'{"message":"success"}'
REFUSED = b'{"message":"Rate limit exceeded"}'
HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s"
ANSWER = HEAD % (b"201 Created", len(CREATED), b"", CREATED)
LEFT = b"X-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d\r\n"
HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"
SEED = 6


class Window:
    """A limit of `amount` requests per `period` seconds, counted from edge to edge of the clock."""

    def __init__(self, amount: int, period: float) -> None:
        self.amount = amount
        self.period = period
        self._number = -1
        self._count = 0

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read `1000/1s`. Raises `ValueError`."""
        amount, _, period = text.partition("/")
        return cls(int(amount), float(period.removesuffix("s")))

    def arrive(self, now: float) -> tuple[bool, int, int]:
        """Count a request; say whether it is within, what is left, and when the window ends.

        What is refused is not counted. `now` is epoch seconds, and so is the end, rounded up.
        """
        number = math.floor(now / self.period)
        if number != self._number:
            self._number, self._count = number, 0
        within = self._count < self.amount
        self._count += within
        return within, self.amount - self._count, math.ceil((number + 1) * self.period)


class Book:
    """What came: when those requests arrived that were accepted, refusals, the most in flight."""

    def __init__(self, window: Window | None) -> None:
        self.arrivals: list[float] = []
        self.refused = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self._window = window

    def answer(self, now: float) -> bytes:
        """Enter a request that arrived, and return its answer."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        within, headers = True, b""
        if self._window:
            within, left, end = self._window.arrive(now)
            headers = LEFT % (self._window.amount, left, end)
        if not within:
            self.refused += 1
            return HEAD % (b"429 Too Many Requests", len(REFUSED), headers, REFUSED)
        self.arrivals.append(now)
        return HEAD % (b"201 Created", len(CREATED), headers, CREATED) if headers else ANSWER

    def told(self) -> dict[str, Any]:
        """Return it as JSON; arrivals in seconds since the first."""
        first = self.arrivals[0] if self.arrivals else 0.0
        return {
            "arrivals": [round(at - first, 4) for at in self.arrivals],
            "refused": self.refused,
            "most_in_flight": self.most_in_flight,
        }


class Delays:
    """Draws when an answer comes: `latency` seconds, give or take up to `jitter`, seeded."""

    def __init__(self, latency: float, jitter: float) -> None:
        self._latency = latency
        self._jitter = jitter
        self._dice = random.Random(SEED)

    def draw(self) -> float:
        """Return seconds, never fewer than none."""
        if not self._jitter:
            return self._latency
        return max(0.0, self._latency + self._dice.uniform(-self._jitter, self._jitter))


class Null(asyncio.Protocol):
    """Answers each whole request, `delays` after its end. `book` is None where nobody looks."""

    def __init__(self, delays: Delays, book: Book | None) -> None:
        self._delays = delays
        self._book = book

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: Any = transport
        self._buffer = bytearray()
        self._missing = 0

    def data_received(self, data: bytes) -> None:
        """Skip bodies by their length, and answer at their end."""
        if self._missing > len(data):
            self._missing -= len(data)
            return
        if self._missing:
            data = data[self._missing :]
            self._missing = 0
            self._answer()
        self._buffer += data
        while (end := self._buffer.find(HEAD_END)) >= 0:
            head = bytes(self._buffer[:end]).lower()
            at = head.find(LENGTH)
            length = int(head[at + len(LENGTH) :].partition(b"\r\n")[0]) if at >= 0 else 0
            rest = len(self._buffer) - end - len(HEAD_END)
            if rest < length:
                self._buffer.clear()
                self._missing = length - rest
                return
            del self._buffer[: end + len(HEAD_END) + length]
            self._answer()

    def _answer(self) -> None:
        answer = self._book.answer(time.time()) if self._book else ANSWER
        if delay := self._delays.draw():
            asyncio.get_running_loop().call_later(delay, self._say, answer)
        else:
            self._say(answer)

    def _say(self, answer: bytes) -> None:
        if self._book:
            self._book.in_flight -= 1
        self._transport.write(answer)


async def serve(delays: Delays, book: Book | None) -> None:
    """Serve on a free port of this machine until stdin ends; then tell what came."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Null(delays, book), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()
    if book:
        print(json.dumps(book.told()), flush=True)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on the fastest loop there is, so that the destination is not what is measured."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


def main() -> None:
    """Serve as told."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_server")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds until an answer")
    parser.add_argument("--jitter", type=float, default=0.0, help="seconds more or less than that")
    parser.add_argument("--limit", type=Window.parse, help="requests per window, such as 1000/1s")
    given = parser.parse_args()
    book = Book(given.limit) if given.limit else None
    run(serve(Delays(given.latency, given.jitter), book))


if __name__ == "__main__":
    main()
