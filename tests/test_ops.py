"""The pages of a worker, over real sockets: what probes and scrapes get, and slow clients too."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
from aiohttp import ClientSession, web

from ingest import ops as module
from ingest.errors import ConfigError, MissingExtra
from ingest.metrics import Vitals
from ingest.ops import Ops


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def served(
    vitals: Vitals | None = None, *, ready: bool = True, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[Ops, ClientSession]]:
    """Serve the pages of a worker that is as told, with a client of it."""
    ops = Ops(host, free_port(), vitals=lambda: vitals or Vitals(), ready=lambda: ready)
    async with ops, ClientSession(ops.url) as client:
        yield ops, client


@pytest.mark.asyncio
async def test_a_worker_that_runs_is_alive() -> None:
    """Also one that is not ready: to start it again would help nobody."""
    async with served(ready=False) as (_, client), client.get("/healthz") as answer:
        assert (answer.status, await answer.text()) == (200, "ok\n")
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.asyncio
@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
async def test_readiness_is_asked_for_each_time(ready: bool, status: int) -> None:
    """It is a sentence, for who looks at it by hand."""
    async with served(ready=ready) as (_, client), client.get("/readyz") as answer:
        assert answer.status == status
        assert (await answer.text()).startswith("ready" if ready else "not ready: the source")


@pytest.mark.asyncio
async def test_a_scrape_gets_what_is_so_now() -> None:
    """In the text format of Prometheus, with what was told of requests."""
    async with served(Vitals(queued=7)) as (ops, client):
        ops.metrics.answered(0.3)
        async with client.get("/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text = await answer.text()
    assert "ingest_queued_records 7.0\n" in text
    assert "ingest_request_seconds_count 1.0\n" in text


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_heads_are_answered_without_a_body(path: str) -> None:
    """Some probes ask by HEAD."""
    async with served() as (_, client), client.head(path) as answer:
        assert (answer.status, await answer.read()) == (200, b"")


@pytest.mark.asyncio
async def test_an_unknown_path_is_told_of_those_there_are() -> None:
    """So is a method that no page has; what was asked for is not repeated."""
    async with served() as (_, client):
        async with client.get("/users/somebody@example.com?key=hush") as answer:
            text = await answer.text()
            assert answer.status == 404
            assert text == "Not Found: there are GET /healthz, /readyz and /metrics\n"
        async with client.post("/metrics", data=b"x" * 100_000) as answer:
            assert answer.status == 405
            assert answer.headers["Allow"] == "GET,HEAD"


@pytest.mark.asyncio
async def test_other_servers_have_the_same_pages() -> None:
    """The port of an intake serves them, and asks for no token either."""
    async with served(Vitals(queued=3)) as (ops, _):
        app = web.Application()
        for path, page in ops.pages().items():
            app.router.add_get(path, page)
        runner = web.AppRunner(app)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        async with ClientSession(f"http://127.0.0.1:{port}") as client:
            for path, told in (("/healthz", "ok"), ("/readyz", "ready"), ("/metrics", "ingest_")):
                async with client.get(path) as answer:
                    assert answer.status == 200
                    assert told in await answer.text()
        await runner.cleanup()


@pytest.mark.asyncio
async def test_port_0_serves_nowhere() -> None:
    """The pages are there all the same, for an intake."""
    async with Ops("127.0.0.1", 0, vitals=Vitals, ready=lambda: True) as ops:
        assert ops.url == ""
        assert set(ops.pages()) == {"/healthz", "/readyz", "/metrics"}


@pytest.mark.asyncio
async def test_a_port_in_use_is_a_sentence() -> None:
    """It says what to change; afterwards the address may be tried again."""
    async with served() as (ops, _):
        port = int(ops.url.rpartition(":")[2])
        other = Ops("127.0.0.1", port, vitals=Vitals, ready=lambda: True)
        with pytest.raises(ConfigError, match=rf":{port} \(.*in use.*\[ops\]"):
            await other.__aenter__()
    async with other:
        assert other.url


@pytest.mark.asyncio
async def test_an_address_that_is_none_is_a_sentence() -> None:
    """As a name that nobody knows."""
    ops = Ops("no-such-host.invalid", free_port(), vitals=Vitals, ready=lambda: True)
    with pytest.raises(ConfigError, match="cannot be served on no-such-host"):
        await ops.__aenter__()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, and not at the first scrape."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtra, match=r"ingestline\[cli\]"):
        Ops("127.0.0.1", 0, vitals=Vitals, ready=lambda: True)


@pytest.mark.asyncio
async def test_who_holds_a_connection_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks nothing, or for ever asks; probes are answered all the same."""
    monkeypatch.setattr(module, "CONNECTION_SECONDS", 0.02)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    async with served() as (ops, client):
        port = int(ops.url.rpartition(":")[2])
        silent = await asyncio.open_connection("127.0.0.1", port)
        halting = await asyncio.open_connection("127.0.0.1", port)
        halting[1].write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-")
        async with client.get("/healthz") as answer:
            assert answer.status == 200
        async with asyncio.timeout(5):
            assert await silent[0].read() == b""
            await halting[0].read()
        for _, writer in (silent, halting):
            writer.close()


@pytest.mark.asyncio
async def test_a_connection_is_for_one_answer() -> None:
    """What is asked in one go besides is not answered: nobody keeps a connection."""
    async with served() as (ops, _):
        port = int(ops.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        async with asyncio.timeout(5):
            said = await reader.read()
        writer.close()
    assert said.count(b"200 OK") == 1
    assert b"Connection: close" in said
