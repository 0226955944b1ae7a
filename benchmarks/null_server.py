"""A destination that costs almost nothing: reads requests, answers 201, looks at nothing.

Run as a process of its own (`python -m benchmarks.null_server`); prints its port, and serves until
its stdin is closed. With `--latency SECONDS` an answer comes that much later, as from afar.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

ANSWER = (
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n"
    b'{"message":"success"}'
)
HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"


class Null(asyncio.Protocol):
    """Answers each whole request, `latency` seconds after its end."""

    def __init__(self, latency: float) -> None:
        self._latency = latency

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
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
            at = head.index(LENGTH) + len(LENGTH)
            length = int(head[at : (head.find(b"\r\n", at) + 1 or len(head) + 1) - 1])
            rest = len(self._buffer) - end - len(HEAD_END)
            if rest < length:
                self._buffer.clear()
                self._missing = length - rest
                return
            del self._buffer[: end + len(HEAD_END) + length]
            self._answer()

    def _answer(self) -> None:
        if self._latency:
            asyncio.get_running_loop().call_later(self._latency, self._transport.write, ANSWER)
        else:
            self._transport.write(ANSWER)


async def serve(latency: float) -> None:
    """Serve on a free port of this machine until stdin ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Null(latency), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    """Serve as told."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_server")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds until an answer")
    asyncio.run(serve(parser.parse_args().latency))


if __name__ == "__main__":
    main()
