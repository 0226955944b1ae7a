"""HTTP: the one module that knows aiohttp's client.

Decides one thing: whether a request that got no answer may have reached the destination. A body of
which no byte was handed to the network is `Unsent`; anything else without an answer is `Lost`. It
does not know what an answer means, and never sends anything twice: aiohttp repeats a request on a
dead kept-alive connection only for methods that are idempotent by name, and POST is not.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import ssl
import time
import urllib.request
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict
from yarl import URL

from ingest.errors import ConfigError
from ingest.outcomes import Lost, Reply, Response, Unsent
from ingest.sinks.base import Request

DNS_CACHE_SECONDS: Final = 60
"""The hosts sit behind a CDN that moves: long enough to be free, short enough to follow."""

KEEP_ALIVE_SECONDS: Final = 15.0
"""Idle connections are dropped before the far end does (60 s and more at usual balancers): a
request that meets a closing connection is lost, not unsent."""

LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
"""Plain http is safe here, and no proxy is asked."""

HEADER_SETS: Final = 64
"""Sets of request headers kept ready; a wire uses one."""


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Patience and caps of a transport, times in seconds.

    `connect` covers name, connection and TLS; `read` the silence between bytes of an answer;
    `total` all of a request. More than `answer_bytes` of an answer's body is cut off.
    """

    connect: float = 10.0
    read: float = 30.0
    total: float = 60.0
    answer_bytes: int = 1 << 20


def check_url(url: str, allow_http: bool = False) -> str:
    """Return a base URL in normal form, without a slash at its end.

    It is https (http only for this machine, or if `allow_http`), has a host and maybe a port and a
    path prefix, and nothing else. Raises `ConfigError`, which never shows a user or password.
    """
    text = url.strip()
    if "://" not in text:
        # Shown only if it looks like a host: somebody may have pasted the key here.
        like = f": write https://{text}" if "." in text and not set(text) & set("@ ?#") else ""
        raise ConfigError(f"the REST URL has no scheme{like or ': it starts with https://'}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        normal = str(URL(text).origin()) if host else ""
    except ValueError:
        raise ConfigError(
            "the REST URL cannot be read: it looks like https://host or https://host:port"
        ) from None
    if not host:
        raise ConfigError("the REST URL has no host: it looks like https://host")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"the REST URL of {host} holds a user or password: remove them, credentials are given "
            "in the environment"
        )
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ConfigError(f"the REST URL of {host} ends in a query or fragment: remove it")
    if parts.scheme not in ("http", "https"):
        raise ConfigError(f"the REST URL of {host} is neither https nor http")
    if port == 0:
        raise ConfigError(f"the REST URL of {host} names port 0: no server listens there")
    if parts.scheme == "http" and host not in LOCAL_HOSTS and not allow_http:
        raise ConfigError(
            f"plain http to {host} would show the key and the data to everyone on the way: "
            "use https, or --allow-http if the network is yours"
        )
    return normal + parts.path.rstrip("/")


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


class HttpTransport:
    """Sends requests to one base URL over kept-alive connections.

    Not bound to an event loop until the first `send`. Raises `ConfigError` for a bad URL.
    """

    def __init__(
        self, url: str, settings: HttpSettings | None = None, *, allow_http: bool = False
    ) -> None:
        self.settings = settings or HttpSettings()
        self.url = check_url(url, allow_http)
        self._base = URL(self.url)
        self._urls: dict[str, URL] = {}
        self._headers: dict[tuple[tuple[str, str], ...], CIMultiDict[str]] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def host(self) -> str:
        """Host and port, as the operator wrote them."""
        return self.url.partition("://")[2].partition("/")[0]

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
        proxy, auth = self._proxy()
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
            headers={"User-Agent": _user_agent()},
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy,
            proxy_auth=auth,
        )
        return session

    def _proxy(self) -> tuple[URL | None, aiohttp.BasicAuth | None]:
        """Return the proxy of the environment, read once.

        aiohttp's own `trust_env` asks for it in a thread for every request, and for a netrc entry,
        which it then refuses to combine with our Authorization header.
        """
        host = self._base.host or ""
        if host in LOCAL_HOSTS or urllib.request.proxy_bypass(host):
            return None, None
        text = urllib.request.getproxies().get(self._base.scheme)
        if not text:
            return None, None
        try:
            proxy = URL(text if "://" in text else f"http://{text}")
            proxy.origin()
        except ValueError:
            raise ConfigError(
                f"{self._base.scheme.upper()}_PROXY cannot be read: it looks like http://host:port"
            ) from None
        if proxy.user is None and proxy.password is None:
            return proxy, None
        return proxy.with_user(None), aiohttp.BasicAuth(proxy.user or "", proxy.password or "")

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
                return f"TLS with {host} failed: {_os_text(error.os_error)}"
            case aiohttp.ClientConnectorDNSError():
                return f"the name {host} was not found: check the REST URL and the network"
            case aiohttp.ClientProxyConnectionError():
                return f"the proxy to {host} cannot be reached: {_os_text(error.os_error)}"
            case aiohttp.ClientConnectorError():
                return f"{host} cannot be reached: {_os_text(error.os_error)}"
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
                return f"the connection to {host} broke: {_os_text(error)}"
            case _:
                return f"the request to {host} failed: {type(error).__name__}"


def _os_text(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or "handshake failed"
        return str(reason).replace("_", " ").lower()
    number = getattr(error, "errno", None)
    # A resolver's and a happy-eyeballs error have numbers of their own; the words are safe to show.
    return os.strerror(number) if isinstance(number, int) and number > 0 else type(error).__name__


def _user_agent() -> str:
    try:
        return f"ingestline/{importlib.metadata.version('ingestline')}"
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        return "ingestline"
