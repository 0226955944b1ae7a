"""HTTP over connections of our own: the one module that knows aiohappyeyeballs.

What a general client does for a request (cookies, redirects, middlewares, a tree of objects) costs
more than everything else that happens to it here. So where httptools is installed, and no proxy
stands in between, a request is a head that is ready, and a body; `ingest.sinks.connection` reads
the answer.

Decides what `ingest.sinks.session` decides, and says it in the same words: a request of which no
byte was handed to the network is `Unsent`, and anything else without an answer is `Lost`. Nothing
is ever sent twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

import aiohappyeyeballs

from ingest.outcomes import Reply, Unsent
from ingest.sinks.base import Request
from ingest.sinks.connection import Connection
from ingest.sinks.http_settings import (
    DNS_CACHE_SECONDS,
    KEEP_ALIVE_SECONDS,
    HttpSettings,
    os_text,
    user_agent,
)

HEADER_SETS: Final = 64
"""Heads of requests kept ready; a wire uses one."""

NEXT_ADDRESS_SECONDS: Final = 0.25
"""After which the next address of a name is tried beside the first (RFC 8305 has that figure)."""

LOOKS: Final = 10
"""Looks at the clock within the shortest patience: what is late is noticed a tenth later."""

LONGEST_LOOK: Final = 1.0
SHORTEST_LOOK: Final = 0.005
"""Seconds between two looks."""

FAREWELL_SECONDS: Final = 1.0
"""For what closing a connection may take, a TLS farewell say; then it is cut."""

Address = tuple[Any, ...]


class Direct:
    """Sends requests to one base URL over kept-alive connections, as many as there are requests.

    `url` is in normal form. It belongs to one event loop from the first `send` to `aclose`; what
    another loop has left behind is forgotten.
    """

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
        self._patience = min(settings.connect, settings.total)
        shortest = min(settings.read, settings.total)
        self._look_every = min(LONGEST_LOOK, max(SHORTEST_LOOK, shortest / LOOKS))
        self._timer: asyncio.TimerHandle | None = None
        self._move_to(None)

    def begin(self, request: Request) -> asyncio.Future[Reply] | None:
        """Send one request over a connection that is at rest; None if there is none.

        Where what is returned is cancelled, the connection is closed within a second.
        """
        begun = self._here().time()
        connection = self._rested(begun)
        if connection is None:
            return None
        return connection.exchange(self._head_of(request), request.body, begun)

    async def send(self, request: Request) -> Reply:
        """Send one request, once, and return what came back. Never raises for a dead host.

        An answer of which the status came but not the whole body is a `truncated` response.
        """
        begun = self._here().time()
        connection = self._rested(begun)
        if connection is None:
            made = await self._new()
            if isinstance(made, Unsent):
                return made
            connection = made
            if not connection.ready:
                return Unsent(f"{self.host} closed the connection before it answered")
        waiter = connection.exchange(self._head_of(request), request.body, begun)
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
        """Close all connections, and give up those that are being made.

        What is in flight has its reply then. Connections are made anew if it is used again.
        """
        self._here()
        making: list[asyncio.Future[Any]] = [*self._making]
        if self._resolving is not None:
            making.append(self._resolving)
        for task in making:
            task.cancel()
        await _ended(making)
        self._resting.clear()
        leaving = list(self._open)
        for connection in leaving:
            connection.close()
        await _ended(connection.gone for connection in leaving)
        for connection in leaving:
            connection.cut()
        await _ended(connection.gone for connection in leaving)
        if self._timer is not None and not self._open:
            self._timer.cancel()
            self._timer = None

    def _here(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, to which the connections belong from now on."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        return loop

    def _move_to(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Begin anew in this event loop: another one's connections are of no use in it."""
        self._loop: Any = loop
        self._open: set[Connection] = set()
        self._resting: list[Connection] = []
        self._making: set[asyncio.Task[Connection | Unsent]] = set()
        self._resolving: asyncio.Task[list[Address]] | None = None
        self._addresses: list[Address] = []
        self._addresses_until = 0.0
        self._timer = None

    def _look(self) -> None:
        """Look at the clock, for all connections together: timers of their own cost more."""
        self._timer = self._loop.call_later(self._look_every, self._look) if self._open else None
        now = self._loop.time()
        for connection in list(self._open):
            connection.look(now)
        self._resting[:] = [connection for connection in self._resting if connection.ready]

    def _rested(self, now: float) -> Connection | None:
        """Return a connection that is kept alive, the one used last; None if there is none."""
        while self._resting:
            connection = self._resting.pop()
            if connection.ready and now - connection.rested < KEEP_ALIVE_SECONDS:
                return connection
        return None

    # Making connections

    async def _new(self) -> Connection | Unsent:
        """Return a new connection, or why there is none.

        It is made by a task of its own: who gives up the making does not cancel who asked for it.
        """
        task: asyncio.Task[Connection | Unsent] = self._loop.create_task(self._make())
        self._making.add(task)
        task.add_done_callback(self._making.discard)
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            if not task.cancel() and isinstance(made := task.result(), Connection):
                self._resting.append(made)  # it was made in the same moment
            raise
        if task.cancelled():
            return Unsent(f"the connection to {self.host} was closed here before it was made")
        return task.result()

    async def _make(self) -> Connection | Unsent:
        try:
            async with asyncio.timeout(self._patience):
                connection = await self._connect()
        except (OSError, RuntimeError, ValueError) as error:  # of uvloop, of names
            return Unsent(self._explain(error))
        if connection.ready:
            self._open.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._look_every, self._look)
        return connection

    async def _connect(self) -> Connection:
        context = self._tls_context() if self._tls else None
        sock = await aiohappyeyeballs.start_connection(
            await self._resolved(),
            loop=self._loop,
            happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
            interleave=1,
        )
        rests, lost = self._resting.append, self._open.discard
        connection = Connection(self._loop, self.host, self.settings, rests, lost)
        try:
            raw, _ = await self._loop.create_connection(lambda: connection, sock=sock)
            if context is not None and connection.ready:
                connection.over(
                    await self._loop.start_tls(
                        raw,
                        connection,
                        context,
                        server_hostname=self._name.rstrip("."),
                        ssl_handshake_timeout=self.settings.connect,
                        ssl_shutdown_timeout=FAREWELL_SECONDS,
                    )
                )
        except BaseException:
            connection.cut()
            if not connection.made:
                with contextlib.suppress(OSError):  # the loop has closed it, or never took it
                    sock.close()
            raise
        return connection

    async def _resolved(self) -> list[Address]:
        """Return the addresses of the host; a name is asked for once, by whoever comes first."""
        if self._loop.time() < self._addresses_until:
            return self._addresses
        resolving = self._resolving
        if resolving is None:
            resolving = self._resolving = self._loop.create_task(self._resolve())
            resolving.add_done_callback(self._have_resolved)
        await asyncio.wait((resolving,))
        return resolving.result()

    async def _resolve(self) -> list[Address]:
        found = await self._loop.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
        self._addresses = list(found)
        self._addresses_until = self._loop.time() + DNS_CACHE_SECONDS
        return self._addresses

    def _have_resolved(self, task: asyncio.Task[list[Address]]) -> None:
        if self._resolving is task:
            self._resolving = None
        if not task.cancelled():
            task.exception()  # or asyncio complains if nobody waits for it any more

    def _tls_context(self) -> ssl.SSLContext:
        """Certificates are verified by the default context, which honours SSL_CERT_FILE."""
        if self._context is None:
            self._context = ssl.create_default_context()
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context

    def _head_of(self, request: Request) -> bytes:
        which = (request.method, request.path, request.headers)
        return self._heads.get(which) or self._head(*which)

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

    def _explain(self, error: Exception) -> str:
        """Say in one sentence why there is no connection."""
        host = self.host
        match error:
            case ssl.SSLCertVerificationError():
                detail = error.verify_message or "it does not fit the name"
                return f"the certificate of {host} is not trusted: {detail}"
            case ssl.SSLError():
                return f"TLS with {host} failed: {os_text(error)}"
            case socket.gaierror() | UnicodeError():
                return f"the name {host} was not found: check the REST URL and the network"
            case TimeoutError():
                return f"no connection to {host} within {self._patience:g} s"
            case _:
                return f"{host} cannot be reached: {os_text(error)}"


async def _ended(what: Iterable[asyncio.Future[Any]]) -> None:
    """Wait until all of this has ended, but not for long."""
    if futures := list(what):
        await asyncio.wait(futures, timeout=FAREWELL_SECONDS)
