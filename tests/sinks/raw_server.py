"""A server that says exactly the bytes it is told to: resets, cuts, silence and nonsense."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What to do with one connection. It is closed afterwards."""


def http(status: int, body: bytes = b"{}", *headers: str) -> bytes:
    """Encode an answer with its length."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one request; return its head and its body. Raises `IncompleteReadError` at an end."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head, await reader.readexactly(length)


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with an RST instead of a FIN."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class RawServer:
    """A server on a free port of this machine. `requests` are the whole requests it has read."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0
        self.requests: list[tuple[bytes, bytes]] = []

    @property
    def url(self) -> str:
        """Base URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """Base URL that makes a client speak TLS, which the server does not."""
        return f"https://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(
    talk: Callable[[RawServer], Talk], tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[RawServer]:
    """Serve what `talk` says until the block ends, over TLS if there is a context for it."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections += 1
        try:
            await talk(server)(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    listener = await asyncio.start_server(connected, host, 0, backlog=512, ssl=tls)
    server = RawServer(listener.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


def answering(*answers: bytes) -> Callable[[RawServer], Talk]:
    """Read requests, note them, and give the answers in turn over kept-alive connections."""
    left = list(answers)

    def of(server: RawServer) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while left:
                server.requests.append(await read_request(reader))
                writer.write(left.pop(0))
                await writer.drain()

        return talk

    return of
