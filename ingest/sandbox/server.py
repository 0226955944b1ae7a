"""The sandbox as a server: sockets, latency, faults and the `/sandbox` paths.

This is the driver: it waits, and does what the pure modules decide. A request is counted and, when
its body is there, judged and applied at once; only then comes the latency, so that a caller who
gives up early is left with objects that were applied, as in life.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final

import msgspec
from aiohttp import web

from ingest.codec import dumps, loads
from ingest.errors import ConfigError
from ingest.records import UserKey
from ingest.sandbox.appboy import Appboy
from ingest.sandbox.batchcep import BatchCep
from ingest.sandbox.braze import Braze, RowRates
from ingest.sandbox.buckets import bucket, sliding
from ingest.sandbox.calls import Admitted, Answer, Call, Destination, Routes
from ingest.sandbox.faults import Fault, Faults, parse_faults
from ingest.sandbox.rules import parse_limits
from ingest.sandbox.store import Store
from ingest.sandbox.traffic import Traffic
from ingest.sandbox.windows import parse_dialect, parse_rate

TRACK_RATE: Final = "3000/3s"
BULK_RATE: Final = "50/1s"
"""Documented limits of the two track paths."""

READ_BYTES: Final = 64 * 1024 * 1024
"""A body beyond this is not read to its end; far above every documented cap, whose 413 is ours."""

SLOW_FACTOR: Final = 5
SLOW_EXTRA_SECONDS: Final = 0.5
"""A slow answer takes five times the latency and half a second: slow even without latency."""

CLOSE_SECONDS: Final = 0.5
"""How long closing waits for requests that are being answered, before it cuts them off."""

CLOSE_HEADERS: Final = {"Connection": "close"}
OTHER_PATH: Final = "other"
"""What paths that do not exist are counted as."""


class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a sandbox behaves. Strings are read by the sandbox, which raises `ConfigError`.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        key: the REST key it accepts, which is the Appboy app group id as well.
        limits: objects per request: `per-array` (75 each), `combined` (75), or a number in total.
        rate: windows of each track path, `N/PERIOD[,N/PERIOD]`; empty for no limit, None for the
            documented ones of contracts with data points (`TRACK_RATE`, `BULK_RATE`).
        export_rate: windows of `/users/export/ids`; the default is that of accounts since 2024.
        users_rate: windows of `/users/delete`, `/users/alias/new` and `/users/identify` together.
        rename_rate, remove_rate: windows of the two paths of external ids.
        pool_rate: windows of `/email/...`, `/push_notification/remove` and
            `/campaigns/trigger/send` together.
        appboy_rate: windows of all paths, for requests with an `app_group_id`.
        cep_rate, cep_burst: updates of `/2.x/profiles/update`: a bucket of `cep_burst`, refilled
            at `N/PERIOD`.
        cep_mass_rate: updates of `/2.x/profiles/mass-update` in any PERIOD, wherever it begins.
        dialect: `classic` or `mau` rate-limit headers.
        latency: seconds between the arrival of a body and its answer.
        faults: `NAME:SHARE[,...]`, see `ingest.sandbox.faults`.
        seed: of the dice that draw faults.
        hold: seconds that a `timeout` fault keeps a request open without an answer.
        keep: objects kept per profile to show what arrived.
        keep_bytes: memory for all kept objects together.
    """

    host: str = "127.0.0.1"
    port: int = 0
    key: str = "sandbox-key"
    limits: str | int = "combined"
    rate: str | None = None
    export_rate: str = "250/1m"
    users_rate: str = "20000/1m"
    rename_rate: str = "1000/1m"
    remove_rate: str = "1000/1m"
    pool_rate: str = "250000/1h"
    appboy_rate: str = "50000/1h"
    cep_rate: str = "300/1s"
    cep_burst: int = 1_000
    cep_mass_rate: str = "10000/1s"
    dialect: str = "classic"
    latency: float = 0.0
    faults: str = ""
    seed: int = 0
    hold: float = 60.0
    keep: int = 1_000
    keep_bytes: int = 128 * 1024 * 1024


class _Order(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /sandbox/faults`. Without `for_seconds` the faults stay."""

    faults: str
    for_seconds: float | None = None


class Sandbox:
    """A local destination that enforces the documented rules.

    `async with Sandbox() as sandbox:` serves at `sandbox.url` until the block is left. Raises
    `ConfigError` for settings that make no sense, and on start for a port that cannot be had.
    """

    def __init__(
        self,
        settings: SandboxSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.settings = settings = settings or SandboxSettings()
        self.store = Store(keep=settings.keep, keep_bytes=settings.keep_bytes)
        self.faults = Faults(parse_faults(settings.faults), seed=settings.seed)
        self.traffic = Traffic()
        self._routes = Routes(_destinations(settings, self.store))
        self._clock = clock
        self._sleep = sleep
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """`http://host:port` without a slash at the end; empty before `start`."""
        return self._url

    @property
    def key(self) -> str:
        """The REST key it accepts."""
        return self.settings.key

    def stats(self) -> dict[str, Any]:
        """Return everything counted, as `GET /sandbox/stats` does."""
        return {**self.traffic.stats(), **self.store.stats()}

    def user(self, external_id: UserKey) -> dict[str, Any] | None:
        """Return a profile, as `GET /sandbox/users/{external_id}` does; None when unknown."""
        return self.store.view(external_id)

    def reset(self) -> None:
        """Forget profiles, counts and windows, and start the dice again; faults stay in force."""
        self.store.reset()
        self.traffic.reset()
        self._routes.reset()
        self.faults.reset()

    def set_faults(self, spec: str, *, for_seconds: float | None = None) -> None:
        """Change the faults from now on, or for some seconds. Raises `ConfigError`."""
        shares = parse_faults(spec)
        if for_seconds is None:
            self.faults.replace(shares)
        else:
            self.faults.schedule(shares, until=self._clock() + for_seconds)

    async def start(self) -> None:
        """Listen. Raises `ConfigError` when the address cannot be had."""
        if self._runner is not None:
            return
        self._closing.clear()
        app = web.Application(client_max_size=READ_BYTES)
        app.router.add_get("/sandbox/stats", self._get_stats)
        app.router.add_get("/sandbox/users/{external_id:.+}", self._get_user)
        app.router.add_post("/sandbox/reset", self._post_reset)
        app.router.add_post("/sandbox/faults", self._post_faults)
        app.router.add_route("*", "/{path:.*}", self._serve)
        # A caller that hangs up ends its request here, or a resend would look like an overlap.
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=CLOSE_SECONDS
        )
        await runner.setup()
        host, port = self.settings.host, self.settings.port
        try:
            await web.TCPSite(runner, host, port, backlog=1024).start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(
                f"the sandbox cannot listen on {host}:{port} ({error.strerror}): "
                "choose another port"
            ) from error
        self._runner = runner
        name = f"[{host}]" if ":" in host else host
        self._url = f"http://{name}:{runner.addresses[0][1]}"

    async def aclose(self) -> None:
        """Stop listening and cut off what is still open. What was counted can still be read."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self._closing.set()
            await runner.cleanup()

    async def __aenter__(self) -> Sandbox:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one request to the destination."""
        call = Call(request.method, request.path, request.headers, self._clock())
        number = self.traffic.arrive(self._routes.place(call.path) or OTHER_PATH)
        users: frozenset[UserKey] = frozenset()
        try:
            fault = self.faults.draw(call.now)
            # Ruled at arrival where the headers tell whom the request is for, else by its body.
            destination = self._routes.find(call)
            admitted: Admitted | Answer | None = None
            if destination is not None and not destination.by_body:
                admitted = destination.admit(call)
            try:
                body = await request.read()
            except web.HTTPRequestEntityTooLarge:
                answer = (destination or self._routes.fallback).too_long()
                return self._respond(number, answer, CLOSE_HEADERS)
            destination = destination or self._routes.find(call, body)
            assert destination is not None  # with the body, someone takes it
            if admitted is None:
                admitted = destination.admit(call, body)
                if isinstance(admitted, Answer):
                    self.traffic.sized(len(body), admitted.sizes)
            if isinstance(admitted, Answer):
                self.traffic.over_rate += admitted.status == 429
                await self._dawdle(None)
                return self._respond(number, admitted)
            apply = fault is None or fault.applied
            answer = destination.answer(admitted, body, number, apply=apply)
            users = answer.users
            self.traffic.carry(users)
            self.traffic.sized(len(body), answer.sizes)
            if apply:
                self.traffic.rejected += answer.rejected
                if answer.updates:
                    self.traffic.updated(answer.updates, call.now)
            if fault is not None and fault.ending in ("answer", "success"):
                answer = destination.fault_answer(admitted, fault, answer)
            await self._dawdle(fault)
            return await self._end(request, number, answer, fault)
        except asyncio.CancelledError:
            self.traffic.unanswered += 1  # the caller hung up, or the sandbox is closing
            raise
        finally:
            self.traffic.depart(users)

    async def _dawdle(self, fault: Fault | None) -> None:
        latency = self.settings.latency
        if fault is not None and fault.dawdles:
            latency = latency * SLOW_FACTOR + SLOW_EXTRA_SECONDS
        if latency > 0:
            await self._sleep(latency)

    async def _end(
        self,
        request: web.Request,
        number: int,
        answer: Answer,
        fault: Fault | None,
    ) -> web.StreamResponse:
        """Answer, unless the fault is that there is no answer at all."""
        if fault is None:
            return self._respond(number, answer)
        self.traffic.faults[fault.name] += 1
        if fault.ending in ("answer", "success"):
            return self._respond(number, answer)
        if fault.ending == "silence":
            await self._hold()
        self.traffic.unanswered += 1
        if request.transport is not None:
            request.transport.abort()
        return web.Response()  # goes nowhere: the connection is gone

    async def _hold(self) -> None:
        """Wait for `hold` seconds, or until the sandbox is closed."""
        waits = (
            asyncio.ensure_future(self._sleep(self.settings.hold)),
            asyncio.ensure_future(self._closing.wait()),
        )
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _respond(
        self, number: int, answer: Answer, more: dict[str, str] | None = None
    ) -> web.Response:
        self.traffic.by_status[answer.status] += 1
        return web.Response(
            status=answer.status,
            body=answer.body,
            headers={**answer.headers, "X-Request-Id": f"sandbox-{number}", **(more or {})},
            content_type="text/html" if answer.html else "application/json",
        )

    async def _get_stats(self, request: web.Request) -> web.Response:
        return _json(200, self.stats())

    async def _get_user(self, request: web.Request) -> web.Response:
        profile = self.store.view(request.match_info["external_id"])
        if profile is None:
            return _json(404, {"message": "no profile has this external_id"})
        return _json(200, profile)

    async def _post_reset(self, request: web.Request) -> web.Response:
        self.reset()
        return _json(200, {"message": "success"})

    async def _post_faults(self, request: web.Request) -> web.Response:
        try:
            order = msgspec.convert(loads(await request.read()), _Order)
            self.set_faults(order.faults, for_seconds=order.for_seconds)
        except (ValueError, msgspec.ValidationError, ConfigError) as error:
            return _json(400, {"message": str(error)})
        return _json(200, {"message": "success"})


def _destinations(settings: SandboxSettings, store: Store) -> tuple[Destination, ...]:
    """Return the destinations, those with the narrower claims first. Raises `ConfigError`."""
    return (
        BatchCep(
            store,
            key=settings.key,
            update=bucket(settings.cep_rate, settings.cep_burst),
            mass_update=sliding(settings.cep_mass_rate),
        ),
        Appboy(store, key=settings.key, rate=parse_rate(settings.appboy_rate)),
        Braze(
            store,
            key=settings.key,
            caps=parse_limits(settings.limits),
            rate=parse_rate(TRACK_RATE if settings.rate is None else settings.rate),
            bulk_rate=parse_rate(BULK_RATE if settings.rate is None else settings.rate),
            export_rate=parse_rate(settings.export_rate),
            dialect=parse_dialect(settings.dialect),
            row_rates=RowRates(
                users=parse_rate(settings.users_rate),
                rename=parse_rate(settings.rename_rate),
                remove=parse_rate(settings.remove_rate),
                contacts=parse_rate(settings.pool_rate),
            ),
        ),
    )


def _json(status: int, value: Any) -> web.Response:
    return web.Response(status=status, body=dumps(value), content_type="application/json")
