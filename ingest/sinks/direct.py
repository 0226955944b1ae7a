"""HTTP over connections of our own: the one module that knows httptools and aiohappyeyeballs.

What a general client does for a request (cookies, redirects, middlewares, a tree of objects) costs
more than everything else that happens to it here. So where httptools is installed, and no proxy
stands in between, a request is a head that is ready, and a body; httptools reads the answer.

Decides what `ingest.sinks.session` decides, and says it in the same words: a request of which no
byte was handed to the network is `Unsent`, and anything else without an answer is `Lost`. Nothing
is ever sent twice.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import zlib
from typing import Any, Final
from urllib.parse import urlsplit

import aiohappyeyeballs
import httptools

from ingest.outcomes import Lost, Reply, Response, Unsent
from ingest.sinks.base import Request
from ingest.sinks.http_settings import (
    DNS_CACHE_SECONDS,
    KEEP_ALIVE_SECONDS,
    HttpSettings,
    os_text,
    user_agent,
)

HEADER_SETS: Final = 64
"""Heads of requests kept ready; a wire uses one."""

HEAD_BYTES: Final = 65_536
"""Longest head of an answer that is read: eight times what servers allow."""

NEXT_ADDRESS_SECONDS: Final = 0.25
"""After which the next address of a name is tried beside the first (RFC 8305 has that figure)."""

LOOKS: Final = 10
"""Looks at the clock within the shortest patience: what is late is noticed a tenth later."""

LONGEST_LOOK: Final = 1.0
SHORTEST_LOOK: Final = 0.005
"""Seconds between two looks."""

FAREWELL_SECONDS: Final = 1.0
"""For what closing a connection may take, a TLS farewell say; then it is cut."""

_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_EITHER_FORMAT: Final = 32 + zlib.MAX_WBITS
"""What makes zlib tell gzip from deflate by the first bytes."""

Address = tuple[Any, ...]


class Connection(asyncio.Protocol):
    """One connection: a request at a time, and the answer to it.

    It is `ready` between them, and gives itself back to its client then.
    """

    def __init__(self, client: Direct) -> None:
        self._client = client
        self._transport: Any = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Reply] | None = None
        self._begun = self._heard = self.rested = 0.0
        self._unwritten = 0
        self._forget()

    def _forget(self) -> None:
        """Begin with an answer of which nothing is known."""
        self._headers: dict[str, str] = {}
        self._status = 0
        self._answered = False  # whether the head is whole
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._size = 0
        self._unpack: Any = None
        self._unreadable = False

    @property
    def ready(self) -> bool:
        """Whether a request may go out on it."""
        return self._waiter is None and not self._transport.is_closing()

    # What the client asks of it

    def exchange(self, head: bytes, body: bytes, begun: float) -> asyncio.Future[Reply]:
        """Send a request, and return what its answer will be in. It is `ready`; `begun` is when
        the request began to wait, by the loop's clock."""
        loop = self._client.loop
        self._forget()  # what the last answer said must not be taken for this one's
        self._begun, self._heard = begun, loop.time()
        self._waiter = waiter = loop.create_future()
        self._transport.writelines((head, b"%d\r\n\r\n" % len(body), body))
        return waiter

    def look(self, now: float) -> None:
        """Give up what takes too long."""
        settings = self._client.settings
        if self._waiter is None:
            if now - self.rested >= KEEP_ALIVE_SECONDS:
                self._transport.close()
            return
        unwritten = self._transport.get_write_buffer_size()
        if unwritten != self._unwritten:
            self._unwritten, self._heard = unwritten, now  # what is being sent is no silence
        if now - self._heard >= settings.read or now - self._begun >= settings.total:
            self.fail(f"{self._client.host} did not answer in time")

    def fail(self, reason: str) -> None:
        """End the connection and its request, if there is one."""
        if self._waiter is not None:
            self._end(self._response(truncated=True) if self._answered else Lost(reason))
        self._transport.abort()

    def give_up(self, waiter: asyncio.Future[Reply]) -> None:
        """End the connection if this request is still on it: another one may be by now."""
        if self._waiter is waiter:
            self.fail("the request was given up")

    def close(self) -> None:
        """End the connection in good manners if nothing is on it."""
        if self._waiter is None:
            self._transport.close()
        else:
            self.fail("the connection was closed here before an answer")

    # What the event loop says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._client.made(self)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self._transport.abort()  # it speaks without being asked: whatever that is, not for us
            return
        self._heard = self._client.loop.time()
        if not self._answered:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._transport.abort()  # told as it is; what follows is no HTTP
        except httptools.HttpParserError:
            self.fail(f"what {self._client.host} answered is not HTTP")
        if not self._answered and self._head_bytes > HEAD_BYTES:
            self.fail(f"what {self._client.host} answered is not HTTP")

    def connection_lost(self, error: Exception | None) -> None:
        self._client.lost(self)
        if self._waiter is None:
            return
        if self._answered:
            self._end(self._response(truncated=error is not None or self._has_length))
        elif error is None:
            self._end(Lost(f"{self._client.host} closed the connection before it answered"))
        else:
            self._end(Lost(f"the connection to {self._client.host} broke: {os_text(error)}"))

    # What the parser says

    def on_message_begin(self) -> None:
        if self._waiter is None:
            self._transport.abort()  # more than was asked for
        self._forget()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("utf-8", "surrogateescape")

    def on_headers_complete(self) -> None:
        self._status = status = self._parser.get_status_code()
        self._answered = status >= 200 or status == 101

    def on_body(self, data: bytes) -> None:
        most = self._client.settings.answer_bytes
        if self._unreadable or self._size > most:
            return
        encoding = self._headers.get("content-encoding")
        if encoding is not None and self._unpack is None and encoding != "identity":
            if encoding.strip().lower() not in _PACKED:
                self._unreadable = True  # it was told that we read none
                return
            self._unpack = zlib.decompressobj(_EITHER_FORMAT)
        if self._unpack is not None:
            try:
                data = self._unpack.decompress(data, most + 1 - self._size)
            except zlib.error:
                self._unreadable = True
                return
        self._body.append(data)
        self._size += len(data)
        if self._size > most and self._waiter is not None:
            self._end(self._response(truncated=True))
            self._transport.abort()

    def on_message_complete(self) -> None:
        if self._waiter is None or not self._answered:
            return  # 100 Continue and its like: the answer comes after it
        response = self._response()
        keep = self._parser.should_keep_alive() and self._status != 101
        # What is still being written is the body of a request that is answered already.
        if keep and not self._transport.get_write_buffer_size():
            self._end(response)
            self.rested = self._heard
            self._client.rests(self)
        else:
            self._end(response)
            self._transport.abort()

    @property
    def _has_length(self) -> bool:
        """Whether the answer says by itself where it ends; otherwise the connection's end does."""
        return "content-length" in self._headers or "transfer-encoding" in self._headers

    def _response(self, *, truncated: bool = False) -> Response:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        most = self._client.settings.answer_bytes
        if len(body) > most:
            body, truncated = body[:most], True
        if self._unreadable or (self._unpack is not None and not self._unpack.eof):
            truncated = True
        return Response(self._status, self._headers, body, time.time(), truncated)

    def _end(self, reply: Reply) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(reply)


class Direct:
    """Sends requests to one base URL over kept-alive connections, as many as there are requests.

    `url` is in normal form. It belongs to one event loop from the first `send` to `aclose`.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, url: str, settings: HttpSettings) -> None:
        parts = urlsplit(url)
        self.settings = settings
        self.host = parts.netloc
        self._name = parts.hostname or ""
        self._prefix = parts.path
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._context: ssl.SSLContext | None = None
        self._heads: dict[tuple[str, str, tuple[tuple[str, str], ...]], bytes] = {}
        self._addresses: list[Address] = []
        self._addresses_until = 0.0
        self._resolving: asyncio.Task[list[Address]] | None = None
        self._open: set[Connection] = set()
        self._resting: list[Connection] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Future[None] | None = None
        shortest = min(settings.read, settings.total)
        self._look_every = min(LONGEST_LOOK, max(SHORTEST_LOOK, shortest / LOOKS))

    async def send(self, request: Request) -> Reply:
        """Send one request, once, and return what came back. Never raises for a dead host.

        An answer of which the status came but not the whole body is a `truncated` response.
        """
        self.loop = asyncio.get_running_loop()
        begun = self.loop.time()
        which = (request.method, request.path, request.headers)
        head = self._heads.get(which)
        if head is None:
            head = self._head(*which)
        connection = self._rested()
        if connection is None:
            try:
                connection = await self._connect()
            except (OSError, TimeoutError) as error:
                return Unsent(self._explain(error))
            if not connection.ready:
                return Unsent(f"{self.host} closed the connection before it answered")
        waiter = connection.exchange(head, request.body, begun)
        try:
            return await waiter
        except asyncio.CancelledError:
            connection.give_up(waiter)
            raise

    @property
    def idle(self) -> int:
        """Connections that are kept for the next requests."""
        return sum(connection.ready for connection in self._resting)

    async def aclose(self) -> None:
        """Close all connections. They are made anew if it is used again."""
        if self._resolving is not None:
            self._resolving.cancel()
        self._resolving = None
        self._resting.clear()
        for connection in list(self._open):
            connection.close()
        if self._open:
            self._closing = self.loop.create_future()
            await asyncio.wait((self._closing,), timeout=FAREWELL_SECONDS)
            self._closing = None
            for connection in list(self._open):
                connection.fail("the connection was closed here")
            await asyncio.sleep(0)  # what was cut is told in the next step of the loop
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What connections say

    def made(self, connection: Connection) -> None:
        """Note a connection that is there."""
        self._open.add(connection)
        if self._timer is None:
            self._timer = self.loop.call_later(self._look_every, self._look)

    def rests(self, connection: Connection) -> None:
        """Take back a connection whose request is answered."""
        self._resting.append(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that is gone."""
        self._open.discard(connection)
        if self._closing is not None and not self._open and not self._closing.done():
            self._closing.set_result(None)

    def _look(self) -> None:
        """Look at the clock, for all connections together: timers of their own cost more."""
        now = self.loop.time()
        for connection in list(self._open):
            connection.look(now)
        self._resting = [connection for connection in self._resting if connection.ready]
        self._timer = self.loop.call_later(self._look_every, self._look) if self._open else None

    # Making connections

    def _rested(self) -> Connection | None:
        """Return a connection that is kept alive, the one used last; None if there is none."""
        while self._resting:
            connection = self._resting.pop()
            if connection.ready and self.loop.time() - connection.rested < KEEP_ALIVE_SECONDS:
                return connection
        return None

    async def _connect(self) -> Connection:
        async with asyncio.timeout(self.settings.connect):
            addresses = await self._resolved()
            sock = await aiohappyeyeballs.start_connection(
                addresses,
                loop=self.loop,
                happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
                interleave=1,
            )
            try:
                _, connection = await self.loop.create_connection(
                    lambda: Connection(self),
                    sock=sock,
                    ssl=self._tls_context() if self._tls else None,
                    server_hostname=self._name if self._tls else None,
                )
            except BaseException:
                sock.close()  # the loop may not have taken it
                raise
            return connection

    async def _resolved(self) -> list[Address]:
        """Return the addresses of the host; a name is asked for once, by whoever comes first."""
        if self.loop.time() < self._addresses_until:
            return self._addresses
        if self._resolving is None:
            self._resolving = self.loop.create_task(self._resolve())
        return await asyncio.shield(self._resolving)

    async def _resolve(self) -> list[Address]:
        try:
            found = await self.loop.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
        finally:
            self._resolving = None
        self._addresses = list(found)
        self._addresses_until = self.loop.time() + DNS_CACHE_SECONDS
        return self._addresses

    def _tls_context(self) -> ssl.SSLContext:
        """Certificates are verified by the default context, which honours SSL_CERT_FILE."""
        if self._context is None:
            self._context = ssl.create_default_context()
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context

    def _head(self, method: str, path: str, headers: tuple[tuple[str, str], ...]) -> bytes:
        """Return all of a request but the figure of its length, and what follows that."""
        if len(self._heads) >= HEADER_SETS:
            self._heads.clear()
        own = (("Host", self.host), ("User-Agent", user_agent()), ("Accept", "*/*"))
        rest = (("Accept-Encoding", "identity"), *headers, ("Content-Length", ""))
        fields = [f"{name}: {value}" for name, value in (*own, *rest)]
        head = "\r\n".join((f"{method} {self._prefix}{path} HTTP/1.1", *fields))
        if head.count("\n") != len(fields) or head.count("\r") != len(fields):
            raise ValueError("a header or path of a request holds a line break")
        made = self._heads[method, path, headers] = head.encode()
        return made

    def _explain(self, error: OSError) -> str:
        """Say in one sentence why there is no connection."""
        host = self.host
        match error:
            case ssl.SSLCertVerificationError():
                detail = error.verify_message or "it does not fit the name"
                return f"the certificate of {host} is not trusted: {detail}"
            case ssl.SSLError():
                return f"TLS with {host} failed: {os_text(error)}"
            case socket.gaierror():
                return f"the name {host} was not found: check the REST URL and the network"
            case TimeoutError():
                return f"no connection to {host} within {self.settings.connect:g} s"
            case _:
                return f"{host} cannot be reached: {os_text(error)}"
