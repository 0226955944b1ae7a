"""All destinations at one port, over real sockets of the loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import aiohttp
import pytest

from ingest.codec import dumps, loads
from ingest.errors import ConfigError
from ingest.sandbox import Sandbox, SandboxSettings

pytestmark = pytest.mark.asyncio

UPDATE, MASS = "/2.11/profiles/update", "/2.11/profiles/mass-update"
BEARER = {"Authorization": "Bearer sandbox-key"}
PROJECT = {**BEARER, "X-Batch-Project": "sandbox-project"}


class Client:
    """A caller of one sandbox, and a clock that stands still."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.now = 1_767_225_600.0
        self.sandbox: Sandbox
        self._session = session

    async def post(
        self, path: str, body: Any, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Return status and body: decoded JSON, or the text of a page."""
        url, data = self.sandbox.url + path, BytesIO(dumps(body))
        headers = {"Content-Type": "application/json", **(headers or {})}
        async with self._session.post(url, data=data, headers=headers) as response:
            raw = await response.read()
            is_json = response.content_type == "application/json"
            return response.status, loads(raw) if is_json else raw.decode()

    async def appboy(self, path: str = "/users/track", **body: Any) -> tuple[int, Any]:
        """Send a body with the group."""
        return await self.post(path, {"app_group_id": "sandbox-key", **body})


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Client]:
    """Run a sandbox and a client without a header of its own."""
    async with aiohttp.ClientSession() as session:
        client = Client(session)
        async with Sandbox(SandboxSettings(**settings), clock=lambda: client.now) as sandbox:
            client.sandbox = sandbox
            yield client


def edits(count: int, **members: Any) -> list[dict[str, Any]]:
    return [{"identifiers": {"custom_id": f"u{i}"}, **members} for i in range(count)]


async def test_all_destinations_share_the_profiles() -> None:
    """A custom id is an external id; paths are counted as they were called."""
    async with serving() as client:
        one = [{"external_id": "u0", "plan": "pro"}]
        assert await client.appboy(attributes=one) == (201, {"message": "success"})
        status, _ = await client.post("/users/track", {"api_key": "sandbox-key", "attributes": one})
        assert status == 201
        assert (await client.post("/users/track", {"attributes": one}, BEARER))[0] == 201
        status, body = await client.post(UPDATE, edits(1, attributes={"city": "Paris"}), PROJECT)
        assert (status, body) == (202, {"code": "SUCCESS"})
        user = client.sandbox.user("u0")
        assert user is not None
        assert user["attributes"] == {"plan": "pro", "city": "Paris"}
        stats = client.sandbox.stats()
        assert stats["by_path"] == {"/users/track": 3, UPDATE: 1}
        assert (stats["users"], stats["updates"], stats["objects"]["attributes"]) == (1, 1, 4)


async def test_without_a_group_or_a_key_a_request_is_unauthorized() -> None:
    """An unknown group is not found, and never echoed."""
    async with serving() as client:
        assert (await client.post("/users/track", {}))[0] == 401
        assert (await client.post("/users/track", {"app_group_id": None}))[0] == 401
        status, body = await client.post("/users/track", {"app_group_id": "wrong"})
        assert (status, "wrong" in str(body)) == (404, False)
        assert (await client.post("/users/track", {"app_group_id": "x" * 4_000_000}))[0] == 413
        assert client.sandbox.stats()["max_body_bytes"] > 4_000_000


async def test_appboy_has_a_window_of_its_own() -> None:
    """Braze's does not touch it, and what is refused counts as over the rate."""
    async with serving(appboy_rate="1/1h", rate="1/1h") as client:
        good: dict[str, Any] = {"attributes": [{"external_id": "u"}]}
        assert [(await client.appboy(**good))[0] for _ in range(2)] == [201, 429]
        assert (await client.post("/users/track", good, BEARER))[0] == 201
        assert client.sandbox.stats()["over_rate"] == 1
        client.sandbox.reset()
        assert (await client.appboy(**good))[0] == 201


async def test_updates_are_counted_in_a_second_wherever_it_begins() -> None:
    """Only of requests that were accepted."""
    async with serving() as client:
        statuses = []
        for seconds, count in ((0.0, 6_000), (0.9, 4_000), (0.95, 1), (1.0, 6_000)):
            client.now = 1_767_225_600.0 + seconds
            statuses.append((await client.post(MASS, edits(count), PROJECT))[0])
        assert statuses == [202, 202, 429, 202]
        assert (await client.post(UPDATE, edits(201), PROJECT))[0] == 400
        stats = client.sandbox.stats()
        assert (stats["updates"], stats["max_updates_per_second"]) == (16_000, 10_000)
        assert (stats["over_rate"], stats["users"]) == (1, 6_000)
        assert stats["max_objects"]["attributes"] == 6_000
        client.sandbox.reset()
        stats = client.sandbox.stats()
        assert (stats["updates"], stats["max_updates_per_second"]) == (0, 0)


@pytest.mark.parametrize(
    ("name", "status", "updates"), [("503", 503, 0), ("504-after", 504, 2), ("202", 202, 2)]
)
async def test_faults_befall_every_destination(name: str, status: int, updates: int) -> None:
    """What was applied is counted, whatever was answered."""
    async with serving(faults=f"{name}:1") as client:
        status_of_cep, body = await client.post(UPDATE, edits(2), PROJECT)
        assert status_of_cep == status
        if status == 503:
            assert set(body) == {"error_code", "error_message"}
        assert (await client.appboy(attributes=[{"external_id": "u"}]))[0] == status
        stats = client.sandbox.stats()
        assert (stats["updates"], stats["faults"]) == (updates, {name: 2})


async def test_a_request_is_not_at_fault_that_was_over_the_rate() -> None:
    """Its true refusal is answered."""
    async with serving(cep_burst=1, faults="500:1") as client:
        assert (await client.post(UPDATE, edits(2), PROJECT))[0] == 429
        stats = client.sandbox.stats()
        assert (stats["over_rate"], stats["faults"]) == (1, {})


async def test_rows_share_their_pools() -> None:
    """Delete, alias/new and identify one; rename and remove each its own; all others one."""
    rates = dict.fromkeys(("users_rate", "rename_rate", "remove_rate", "pool_rate"), "1/1h")
    async with serving(**rates) as client:
        statuses = [
            (await client.post(path, {}, BEARER))[0]
            for path in (
                "/users/delete",
                "/users/alias/new",
                "/users/identify",
                "/users/external_ids/rename",
                "/users/external_ids/remove",
                "/email/status",
                "/email/bounce/remove",
                "/email/spam/remove",
                "/push_notification/remove",
                "/campaigns/trigger/send",
            )
        ]
        assert statuses == [400, 429, 429, 400, 400, 400, 429, 429, 429, 429]


async def test_rows_take_a_key_in_the_body() -> None:
    """And say what became of the profiles."""
    async with serving() as client:
        track = {"attributes": [{"external_id": "a"}, {"external_id": "b"}]}
        await client.post("/users/track", track, BEARER)
        status, body = await client.post(
            "/users/delete", {"api_key": "sandbox-key", "external_ids": ["a", "x"]}
        )
        assert (status, body) == (
            201,
            {"deleted": 1, "message": "success", "invalid_user_ids": ["x"]},
        )
        send = {"campaign_id": "c", "recipients": [{"external_user_id": "b"}]}
        assert (await client.appboy("/campaigns/trigger/send", **send))[0] == 201
        stats = client.sandbox.stats()
        assert (stats["users"], stats["sends"]) == (1, 1)


@pytest.mark.parametrize("fault", ["500", "503", "reset-before"])
async def test_a_row_that_failed_before_did_nothing(fault: str) -> None:
    """So sending it again is no second message."""
    async with serving(faults=f"{fault}:1") as client:
        send = {"campaign_id": "c", "recipients": [{"external_user_id": "b"}]}
        try:
            status, _ = await client.post("/campaigns/trigger/send", send, BEARER)
        except aiohttp.ClientConnectionError:
            status = 0
        assert status in (0, 500, 503)
        assert client.sandbox.stats()["sends"] == 0


async def test_settings_that_make_no_sense_are_refused() -> None:
    """Each budget by its own sentence."""
    for wrong in (
        SandboxSettings(cep_rate="x"),
        SandboxSettings(cep_mass_rate="1/1s,2/2s"),
        SandboxSettings(cep_burst=0),
        SandboxSettings(appboy_rate="1"),
        SandboxSettings(pool_rate="-"),
    ):
        with pytest.raises(ConfigError):
            Sandbox(wrong)
