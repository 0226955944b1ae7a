"""HTTP by aiohttp: the one module that knows its client.

Decides one thing: whether a request that got no answer may have reached the destination. A body of
which no byte was handed to the network is `Unsent`; anything else without an answer is `Lost`. It
does not know what an answer means, and never sends anything twice: aiohttp repeats a request on a
dead kept-alive connection only for methods that are idempotent by name, and POST is not.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict
from yarl import URL

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
"""Sets of request headers kept ready; a wire uses one."""


class _Body(aiohttp.Payload):
    """A request body that knows whether a byte of it was handed to the network."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._size = len(body)
        self.left = False

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        # aiohttp refuses to write to a closing transport before it takes a single byte. In any
        # other case the kernel may have taken some, whatever happens next.
        transport: asyncio.Transport | None = writer.transport  # type: ignore[attr-defined]  # not in the abstract class
        self.left = transport is not None and not transport.is_closing()
        await writer.write(self._value)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        await self.write(writer)  # the length is that of the body: nothing to cut


class Session:
    """Sends requests to one base URL in normal form, by a proxy if there is one.

    Not bound to an event loop until the first `send`.
    """

    def __init__(self, url: str, settings: HttpSettings, proxy: URL | None = None) -> None:
        self.settings = settings
        self.url = url
        self.host = url.partition("://")[2].partition("/")[0]
        self._proxy = proxy
        self._urls: dict[str, URL] = {}
        self._headers: dict[tuple[tuple[str, str], ...], CIMultiDict[str]] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def idle(self) -> int:
        """Connections that are kept for the next requests; aiohttp has no public name for it."""
        connector = self._session.connector if self._session else None
        pools = connector._conns.values() if connector else ()
        return sum(protocol.is_connected() for pool in pools for protocol, _ in pool)

    def begin(self, request: Request) -> None:
        """Return None: aiohttp sends nothing without waiting."""

    async def send(self, request: Request) -> Reply:
        """Send one request, once, and return what came back. Never raises for a dead host.

        An answer of which the status came but not the whole body is a `truncated` response.
        """
        session = self._session or self._open()
        url = self._urls.get(request.path)
        if url is None:
            url = self._urls[request.path] = URL(self.url + request.path, encoded=True)
        headers = self._headers.get(request.headers)
        if headers is None:
            if len(self._headers) >= HEADER_SETS:
                self._headers.clear()
            headers = self._headers[request.headers] = CIMultiDict(request.headers)
        body = _Body(request.body)
        try:
            answer = await session.request(
                request.method, url, data=body, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError) as error:
            reason = self._explain(error, left=body.left)
            return Lost(reason) if body.left else Unsent(reason)
        return await self._read(answer)

    async def aclose(self) -> None:
        """Close all connections. The transport opens again if it is used again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _read(self, answer: aiohttp.ClientResponse) -> Response:
        """Read the body up to the cap. A body that breaks off is cut there: the status counts."""
        at = time.time()
        content = answer.content
        most = self.settings.answer_bytes
        truncated = False
        data = b""
        try:
            data = await content.readany()
            if not content.at_eof():
                chunks = [data]
                size = len(data)
                while size <= most and (chunk := await content.readany()):
                    chunks.append(chunk)
                    size += len(chunk)
                data = b"".join(chunks)
        except (aiohttp.ClientError, OSError):
            truncated = True
        finally:
            # Closed already if the end was reached: the connection is back in its pool then.
            # Otherwise it must not be used again, and whatever is still being written stops.
            if not answer.closed:
                answer.close()
        if len(data) > most:
            data, truncated = data[:most], True
        return Response(answer.status, answer.headers, data, at, truncated)

    def _open(self) -> aiohttp.ClientSession:
        settings = self.settings
        proxy, auth = self._proxy, None
        if proxy is not None and (proxy.user is not None or proxy.password is not None):
            auth = aiohttp.BasicAuth(proxy.user or "", proxy.password or "")
            proxy = proxy.with_user(None)
        self._session = session = aiohttp.ClientSession(
            # Certificates are verified by the default context, which honours SSL_CERT_FILE. What
            # is in flight is limited by the pipeline, and must not be limited here a second time.
            connector=aiohttp.TCPConnector(
                limit=0,
                ttl_dns_cache=DNS_CACHE_SECONDS,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
            ),
            timeout=aiohttp.ClientTimeout(
                total=settings.total, connect=settings.connect, sock_read=settings.read
            ),
            headers={"User-Agent": user_agent()},
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy,
            proxy_auth=auth,
        )
        return session

    def _explain(self, error: BaseException, *, left: bool) -> str:
        """Say in one sentence what happened. Names the host only, never the exception's own text,
        which may show a URL or a proxy's credentials."""
        host = self.host
        match error:
            case aiohttp.ClientConnectorCertificateError():
                cause = error.certificate_error
                detail = getattr(cause, "verify_message", "") or "it does not fit the name"
                return f"the certificate of {host} is not trusted: {detail}"
            case aiohttp.ClientConnectorSSLError():
                return f"TLS with {host} failed: {os_text(error.os_error)}"
            case aiohttp.ClientConnectorDNSError():
                return f"the name {host} was not found: check the REST URL and the network"
            case aiohttp.ClientProxyConnectionError():
                return f"the proxy to {host} cannot be reached: {os_text(error.os_error)}"
            case aiohttp.ClientConnectorError():
                return f"{host} cannot be reached: {os_text(error.os_error)}"
            case aiohttp.ClientHttpProxyError():
                return f"the proxy refused the connection to {host} with {error.status}"
            case aiohttp.ClientResponseError():
                return f"what {host} answered is not HTTP"
            case aiohttp.ServerDisconnectedError():
                return f"{host} closed the connection before it answered"
            case TimeoutError() if left:
                return f"{host} did not answer in time"
            case TimeoutError():
                return f"no connection to {host} within {self.settings.connect:g} s"
            case OSError():
                return f"the connection to {host} broke: {os_text(error)}"
            case _:
                return f"the request to {host} failed: {type(error).__name__}"
