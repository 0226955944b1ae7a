"""The pages of a worker for whoever looks after it: is it alive, is it ready, how is it.

Decides what probes are answered, and how long a connection may be held by somebody who is slow.
What there is to measure, `ingest.metrics` says; what makes a worker ready, whoever made it. No page
holds anything of a record, and none asks for a token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

from aiohttp import web

from ingest.errors import ConfigError
from ingest.metrics import CONTENT_TYPE, Metrics, Vitals

HEALTH: Final = "/healthz"
READY: Final = "/readyz"
METRICS: Final = "/metrics"

CONNECTION_SECONDS: Final = 30.0
"""How long one connection may be there: longer than any scrape or probe waits (10 s)."""

LOOK_SECONDS: Final = 5.0
"""Between two looks at which connections are too old."""

CLOSE_SECONDS: Final = 2.0
"""How long an answer that is under way when the worker ends may still take."""

NOT_READY: Final = (
    "not ready: the source is not connected, its spool has no room, or the worker is being stopped"
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Ops:
    """Serves the pages on a port of their own. `async with` it; port 0 serves nowhere.

    `vitals` is asked at every scrape, and `ready` at every probe. Raises `MissingExtra` where
    prometheus_client is not installed, and `ConfigError`, when entered, for an address that cannot
    be had.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        vitals: Callable[[], Vitals],
        ready: Callable[[], bool],
    ) -> None:
        self.metrics: Final = Metrics(vitals)
        self._host: Final = host
        self._port: Final = port
        self._ready: Final = ready
        self._runner: web.AppRunner | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """`http://host:port` without a slash at the end; empty where nothing is served."""
        if self._runner is None:
            return ""
        name = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{name}:{self._port}"

    def pages(self) -> Mapping[str, Handler]:
        """Return the pages by their paths, for a server that has others beside them."""
        return {HEALTH: self._healthy, READY: self._readiness, METRICS: self._measured}

    async def __aenter__(self) -> Ops:
        if not self._port:
            return self
        app = web.Application(middlewares=[_told])
        for path, page in self.pages().items():
            app.router.add_get(path, page)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(
                f"probes and metrics cannot be served on {self._host}:{self._port} "
                f"({error.strerror}): choose another host or port in [ops], or port = 0 for none"
            ) from None
        self._runner = runner
        self._sweeper = asyncio.create_task(_sweep(runner))
        return self

    async def __aexit__(self, *error: object) -> None:
        runner, self._runner = self._runner, None
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
            self._sweeper = None
        if runner is not None:
            await runner.cleanup()

    async def _healthy(self, request: web.Request) -> web.StreamResponse:
        return _said(200, "ok")

    async def _readiness(self, request: web.Request) -> web.StreamResponse:
        return _said(200, "ready") if self._ready() else _said(503, NOT_READY)

    async def _measured(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _said(status: int, sentence: str) -> web.Response:
    # What was true a moment ago is of no use to anybody.
    return web.Response(status=status, text=f"{sentence}\n", headers={"Cache-Control": "no-store"})


@web.middleware
async def _told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say in a sentence what else there is; each answer ends its connection.

    A probe or a scrape comes every few seconds, and a connection of its own costs it nothing.
    """
    try:
        response = await handler(request)
    except web.HTTPException as error:
        allow = error.headers.get("Allow")
        told = f"{error.reason}: there are GET {HEALTH}, {READY} and {METRICS}"
        response = _said(error.status, told)
        if allow:
            response.headers["Allow"] = allow
    response.force_close()
    return response


async def _sweep(runner: web.AppRunner) -> None:
    """Close connections that are held for too long, by whoever does not ask or does not read."""
    loop = asyncio.get_running_loop()
    seen: dict[web.RequestHandler, float] = {}
    while True:
        now, server = loop.time(), runner.server
        there = () if server is None else server.connections
        seen = {one: seen.get(one, now) for one in there}
        for connection, since in seen.items():
            if now - since > CONNECTION_SECONDS:
                connection.force_close()
        await asyncio.sleep(LOOK_SECONDS)
