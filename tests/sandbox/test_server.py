"""The sandbox as a server, over real sockets of the loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import aiohttp
import pytest

from ingest.codec import dumps
from ingest.errors import ConfigError
from ingest.sandbox import Sandbox, SandboxSettings

pytestmark = pytest.mark.asyncio

EVENT = {"external_id": "u/1 \u00e9", "name": "n", "time": "2026-01-02"}
GOOD = {"events": [EVENT]}


class Client:
    """A caller of one sandbox."""

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self._session = session

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Return status and body: decoded JSON, or the text of a page."""
        # A stream, because the client warns of large bodies that are bytes.
        data, headers = BytesIO(dumps(body)), {"Content-Type": "application/json"}
        url = self.sandbox.url + path
        async with self._session.post(url, data=data, headers=headers) as response:
            if response.content_type == "application/json":
                return response.status, await response.json()
            return response.status, await response.text()

    async def track(self, body: Any = GOOD) -> int:
        """Send a body to `/users/track`; return the status."""
        return (await self.post("/users/track", body))[0]

    async def get(self, path: str) -> tuple[int, Any]:
        """Return status and decoded body."""
        async with self._session.get(self.sandbox.url + path) as response:
            return response.status, await response.json()


@asynccontextmanager
async def serving(sleep: Any = None, clock: Any = None, **settings: Any) -> AsyncIterator[Client]:
    """Run a sandbox and a client with its key."""
    injected = {"sleep": sleep, "clock": clock}
    given = {name: value for name, value in injected.items() if value is not None}
    async with (
        Sandbox(SandboxSettings(**settings), **given) as sandbox,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {sandbox.key}"}) as session,
    ):
        yield Client(sandbox, session)


class Gate:
    """A sleep that lasts until it is opened, and says how long was asked for."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.opened = asyncio.Event()
        self.entered = asyncio.Condition()
        self.left = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait until `opened` is set; note it if the wait is over, or cut short."""
        async with self.entered:
            self.asked.append(seconds)
            self.entered.notify_all()
        try:
            await self.opened.wait()
        finally:
            self.left.set()

    async def asleep(self, count: int) -> None:
        """Wait until so many sleeps have begun."""
        async with self.entered:
            await self.entered.wait_for(lambda: len(self.asked) >= count)


async def test_what_is_tracked_can_be_seen() -> None:
    """By stats and by profile, over HTTP and in the process."""
    async with serving() as client:
        status, body = await client.post("/users/track", GOOD)
        assert (status, body) == (201, {"message": "success", "events_processed": 1})
        status, user = await client.get("/sandbox/users/u%2F1%20%C3%A9")
        assert (status, user["events"]) == (200, [EVENT])
        assert user == client.sandbox.user(EVENT["external_id"])
        status, stats = await client.get("/sandbox/stats")
        assert stats == client.sandbox.stats()
        assert stats["by_status"] == {"201": 1}
        assert stats["by_path"] == {"/users/track": 1}
        assert stats["objects"] == {"attributes": 0, "event": 1, "purchase": 0}
        assert (stats["requests"], stats["users"], stats["distinct_objects"]) == (1, 1, 1)
        assert (await client.get("/sandbox/users/nobody"))[0] == 404


async def test_reset_forgets_and_keeps_serving() -> None:
    """Counts begin at zero."""
    async with serving(rate="1/1h") as client:
        assert [await client.track(), await client.track()] == [201, 429]
        assert client.sandbox.stats()["over_rate"] == 1
        assert (await client.post("/sandbox/reset", {}))[0] == 200
        assert client.sandbox.stats()["requests"] == 0
        assert await client.track() == 201


async def test_a_body_over_4_mb_gets_our_413() -> None:
    """The web framework's own limit lies far above."""
    async with serving() as client:
        status, body = await client.post("/users/track", {"x": "y" * 4_000_000})
        assert (status, body) == (413, {"message": "Request Entity Too Large"})
        assert client.sandbox.stats()["max_body_bytes"] > 4_000_000


async def test_paths_that_do_not_exist_are_counted_together() -> None:
    """So that a scanner cannot fill the memory."""
    async with serving() as client:
        assert (await client.post("/nowhere", {}))[0] == 404
        assert (await client.post("/users/track/", GOOD))[0] == 403
        assert client.sandbox.stats()["by_path"] == {"other": 2}


async def test_answers_carry_a_request_id_and_the_rate() -> None:
    """The window is of the wall clock."""
    async with (
        serving(rate="5/1m", clock=lambda: 1_000_000_030.0) as client,
        aiohttp.ClientSession(headers={"Authorization": "Bearer sandbox-key"}) as session,
        session.post(client.sandbox.url + "/users/track", json=GOOD) as response,
    ):
        assert response.headers["X-Request-Id"] == "sandbox-1"
        assert response.headers["X-RateLimit-Reset"] == "1000000080"


async def test_requests_with_the_same_user_in_flight_are_noticed() -> None:
    """Applied at arrival, answered after the latency; the overlap counts at arrival."""
    gate = Gate()
    async with serving(sleep=gate.sleep, latency=0.25) as client:
        first = asyncio.create_task(client.track())
        await gate.asleep(1)
        assert client.sandbox.stats()["same_user_overlaps"] == 0
        second = asyncio.create_task(
            client.track({"events": [EVENT, {**EVENT, "external_id": "o"}]})
        )
        await gate.asleep(2)
        stats = client.sandbox.stats()
        assert (stats["same_user_overlaps"], stats["max_in_flight"]) == (1, 2)
        assert (stats["objects"]["event"], stats["by_status"]) == (3, {})
        gate.opened.set()
        assert [await first, await second] == [201, 201]
        assert gate.asked == [0.25, 0.25]
        assert await client.track() == 201
        assert client.sandbox.stats()["same_user_overlaps"] == 1


async def test_a_caller_that_hangs_up_is_no_longer_in_flight() -> None:
    """Its objects were applied; sending them again is a copy and no overlap."""
    gate = Gate()
    async with serving(sleep=gate.sleep, latency=1.0) as client:
        lost = asyncio.create_task(client.track())
        await gate.asleep(1)
        lost.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lost
        await gate.left.wait()
        gate.opened.set()
        assert await client.track() == 201
        stats = client.sandbox.stats()
        assert (stats["same_user_overlaps"], stats["copies"], stats["unanswered"]) == (0, 1, 1)


@pytest.mark.parametrize(("name", "applied"), [("reset-before", 0), ("reset-after", 1)])
async def test_a_reset_leaves_no_answer(name: str, applied: int) -> None:
    """The objects are applied, or not, by the name of the fault."""
    async with serving(faults=f"{name}:1") as client:
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.track()
        stats = client.sandbox.stats()
        assert (stats["objects"]["event"], stats["unanswered"]) == (applied, 1)
        assert (stats["faults"], stats["by_status"]) == ({name: 1}, {})
        client.sandbox.set_faults("")
        assert await client.track() == 201


@pytest.mark.parametrize(
    ("name", "status", "applied"),
    [
        ("500", 500, 0),
        ("503", 503, 0),
        ("502html", 502, 0),
        ("403html", 403, 0),
        ("429", 429, 0),
        ("202", 202, 1),
        ("504-after", 504, 1),
    ],
)
async def test_a_fault_answers_and_applies_as_its_name_says(
    name: str, status: int, applied: int
) -> None:
    """An invented 429 is not over the rate."""
    async with serving(faults=f"{name}:100%") as client:
        assert await client.track() == status
        stats = client.sandbox.stats()
        assert (stats["objects"]["event"], stats["by_status"]) == (applied, {str(status): 1})
        assert stats["over_rate"] == 0


async def test_a_slow_answer_takes_five_times_the_latency_and_half_a_second() -> None:
    """And is the true one."""
    gate = Gate()
    gate.opened.set()
    async with serving(sleep=gate.sleep, latency=0.1, faults="slow:1") as client:
        assert await client.track() == 201
    assert gate.asked == [1.0]


async def test_a_time_out_is_applied_and_held_then_cut() -> None:
    """The hold is a setting; the caller never gets an answer."""
    gate = Gate()
    async with serving(sleep=gate.sleep, hold=33.0, faults="timeout:1") as client:
        call = asyncio.create_task(client.track())
        await gate.asleep(1)
        assert gate.asked == [33.0]
        assert client.sandbox.stats()["objects"]["event"] == 1
        gate.opened.set()
        with pytest.raises(aiohttp.ClientConnectionError):
            await call


async def test_closing_does_not_wait_for_what_is_held() -> None:
    """A sandbox in a test ends when the test does."""
    gate = Gate()
    async with serving(sleep=gate.sleep, faults="timeout:1") as client:
        call = asyncio.create_task(client.track())
        await gate.asleep(1)
        await client.sandbox.aclose()
        with pytest.raises(aiohttp.ClientConnectionError):
            await call
        assert client.sandbox.stats()["unanswered"] == 1


async def test_an_outage_can_be_scheduled_over_http() -> None:
    """It ends by itself, or when the faults are changed again."""
    now = 100.0
    async with serving(clock=lambda: now) as client:
        order = {"faults": "503:1", "for_seconds": 20}
        assert (await client.post("/sandbox/faults", order))[0] == 200
        assert await client.track() == 503
        now = 120.0
        assert await client.track() == 201
        await client.post("/sandbox/faults", {"faults": "503:1"})
        assert await client.track() == 503
        await client.post("/sandbox/faults", {"faults": ""})
        assert await client.track() == 201


@pytest.mark.parametrize("order", [{"faults": "x:1"}, {}, [], {"faults": "", "more": 1}])
async def test_an_order_that_makes_no_sense_is_refused(order: Any) -> None:
    """With a sentence, and the faults stay."""
    async with serving() as client:
        status, body = await client.post("/sandbox/faults", order)
        assert (status, bool(body["message"])) == (400, True)


async def test_poison_and_rejects_work_over_http() -> None:
    """The test aids are found in a body wherever they are."""
    async with serving() as client:
        assert await client.track({"events": [EVENT, {**EVENT, "_sandbox_poison": "500"}]}) == 500
        poisoned = {**EVENT, "properties": {"_sandbox_poison": "400"}}
        assert await client.track({"events": [EVENT, poisoned]}) == 400
        assert await client.track({"events": [EVENT, {**EVENT, "_sandbox_reject": "no"}]}) == 201
        stats = client.sandbox.stats()
        assert (stats["objects"]["event"], stats["rejected_objects"]) == (1, 1)


async def test_a_port_in_use_is_an_error_that_says_so() -> None:
    """Not a traceback of the socket module."""
    async with serving() as client:
        port = int(client.sandbox.url.rpartition(":")[2])
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            await Sandbox(SandboxSettings(port=port)).start()


async def test_settings_that_make_no_sense_are_refused_before_the_start() -> None:
    """Each by its own sentence."""
    for wrong in ({"limits": "all"}, {"rate": "x"}, {"dialect": "x"}, {"faults": "x:1"}):
        with pytest.raises(ConfigError):
            Sandbox(SandboxSettings(**wrong))  # type: ignore[arg-type]  # wrong on purpose


async def test_it_can_be_started_again() -> None:
    """Closing twice and starting twice do no harm; counts stay."""
    sandbox = Sandbox()
    for _ in range(2):
        await sandbox.start()
        await sandbox.start()
        assert sandbox.url.startswith("http://127.0.0.1:")
        await sandbox.aclose()
        await sandbox.aclose()
