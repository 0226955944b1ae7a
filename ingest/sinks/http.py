"""HTTP: where a destination is, by which proxy, and which client sends to it.

Decides what a URL has to look like, and that the faster of the two clients is used where it can be:
`ingest.sinks.direct` over connections of its own, `ingest.sinks.session` by aiohttp. They say the
same of the same end of a request.
"""

from __future__ import annotations

import asyncio
import importlib.util
import urllib.request
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from yarl import URL

from ingest.errors import ConfigError
from ingest.outcomes import Reply
from ingest.sinks.base import Request
from ingest.sinks.http_settings import HttpSettings

if TYPE_CHECKING:
    from ingest.sinks.direct import Direct
    from ingest.sinks.session import Session

__all__ = ["HttpSettings", "HttpTransport", "check_url"]

LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
"""Plain http is safe here, and no proxy is asked."""


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


def proxy_of(url: str) -> URL | None:
    """Return the proxy that the environment names for a URL, with its credentials; None without.

    aiohttp's own `trust_env` asks for it in a thread for every request, and for a netrc entry,
    which it then refuses to combine with our Authorization header. Raises `ConfigError`.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in LOCAL_HOSTS or urllib.request.proxy_bypass(host):
        return None
    text = urllib.request.getproxies().get(parts.scheme)
    if not text:
        return None
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
        proxy.origin()
    except ValueError:
        raise ConfigError(
            f"{parts.scheme.upper()}_PROXY cannot be read: it looks like http://host:port"
        ) from None
    return proxy


class HttpTransport:
    """Sends requests to one base URL over kept-alive connections.

    Not bound to an event loop until the first `send`. Raises `ConfigError` for a bad URL.
    """

    def __init__(
        self, url: str, settings: HttpSettings | None = None, *, allow_http: bool = False
    ) -> None:
        self.settings = settings or HttpSettings()
        self.url = check_url(url, allow_http)
        self._client: Direct | Session | None = None

    @property
    def host(self) -> str:
        """Host and port, as the operator wrote them."""
        return self.url.partition("://")[2].partition("/")[0]

    def begin(self, request: Request) -> asyncio.Future[Reply] | None:
        """Send one request at once, if a connection is at rest that takes it; None if none is."""
        return None if self._client is None else self._client.begin(request)

    def send(self, request: Request) -> Coroutine[Any, Any, Reply]:
        """Send one request, once, and return what came back. Never raises for a dead host.

        An answer of which the status came but not the whole body is a `truncated` response. Raises
        `ConfigError` for a proxy of the environment that cannot be read.
        """
        return (self._client or self._chosen()).send(request)

    @property
    def idle(self) -> int:
        """Connections that are kept for the next requests."""
        return self._client.idle if self._client else 0

    async def aclose(self) -> None:
        """Close all connections. The transport opens again if it is used again."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _chosen(self) -> Direct | Session:
        """Make the client. Each is imported only where it is used: that takes its time."""
        proxy = proxy_of(self.url)
        fastest = self.settings.client == "fastest" and proxy is None
        if fastest and importlib.util.find_spec("httptools") is not None:
            from ingest.sinks.direct import Direct

            self._client = Direct(self.url, self.settings)
        else:
            from ingest.sinks.session import Session

            self._client = Session(self.url, self.settings, proxy)
        return self._client
