"""What must hold of a worker at a queue: nothing lost, and nothing deleted before its end."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

import pytest

from ingest.codec import dumps
from tests.integration.processes import Served, eventually, served
from tests.integration.queue_admin import REGION, administered, take_credentials
from tests.integration.servers import Server
from tests.integration.workers import GENEROUS, Working, sink_of, working

pytestmark = pytest.mark.integration

MESSAGES: Final = int(os.environ.get("INGEST_TEST_MESSAGES", "20000"))
FEW: Final = int(os.environ.get("INGEST_TEST_MOTO_MESSAGES", "150"))
"""moto's server takes some 100 ms for ten, and keeping them counts too."""

VISIBILITY: Final = 5
"""Seconds that a message is a worker's at first."""
DOWN_SECONDS: Final = 15.0
SHORT_SECONDS: Final = 8.0


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What any server of tests takes."""
    take_credentials(monkeypatch)


def test_a_queue_loses_nothing_in_an_outage(tmp_path: Path, elasticmq: Server) -> None:
    """A destination is gone for three visibilities: nothing is deleted before its end, or doubled.

    Nor is anything counted as failed.
    """
    url = asyncio.run(_queue(elasticmq, "outage", MESSAGES))
    with (
        served(*GENEROUS, "--latency", "100") as sandbox,
        working(tmp_path, _reading(elasticmq, url, sandbox)) as worker,
    ):
        eventually(lambda: sandbox.delivered > MESSAGES // 10, "a tenth of the messages")
        sandbox.kill()
        asyncio.run(_watched(elasticmq, url, worker, MESSAGES, DOWN_SECONDS))
        sandbox.start()
        asyncio.run(_empty(elasticmq, url))
        assert worker.column("failed") == 0
        assert worker.column("delivered") == MESSAGES
        assert worker.terminate()[0] == 0, worker.said


def test_a_queue_that_is_slow_loses_nothing_in_an_outage(tmp_path: Path, moto: Server) -> None:
    """A destination that refuses for longer than a visibility: each message arrives in the end.

    Some may come again, where the server is too slow to keep them all.
    """
    url = asyncio.run(_queue(moto, "refused", FEW))
    with (
        served(*GENEROUS, "--latency", "100") as sandbox,
        working(tmp_path, _reading(moto, url, sandbox)) as worker,
    ):
        eventually(lambda: sandbox.delivered > FEW // 10, "a tenth of the messages")
        sandbox.post("/sandbox/faults", {"faults": "503:1"})
        asyncio.run(_watched(moto, url, worker, FEW, SHORT_SECONDS))
        sandbox.post("/sandbox/faults", {"faults": ""})
        asyncio.run(_empty(moto, url))
        assert worker.column("failed") == 0
        assert sandbox.delivered == FEW
        assert worker.column("delivered") == sandbox.arrivals
        assert worker.terminate()[0] == 0, worker.said


def _reading(server: Server, url: str, sandbox: Served) -> dict[str, Any]:
    source = {"type": "sqs", "queue_url": url, "region": REGION, "visibility": f"{VISIBILITY}s"}
    return {
        "state": "state",
        "source": {**source, "endpoint_url": server.endpoint},
        "sink": sink_of(sandbox),
    }


def _event(number: int) -> str:
    user = {"external_id": f"u{number}", "time": "2026-01-31T12:00:00Z"}
    return dumps({"event": {**user, "name": "n", "properties": {"n": number}}}).decode()


async def _queue(server: Server, name: str, count: int) -> str:
    async with administered(server) as admin:
        url = await admin.create(name, VisibilityTimeout=str(VISIBILITY))
        await admin.fill(url, [_event(number) for number in range(count)])
        return url


async def _watched(server: Server, url: str, worker: Working, count: int, seconds: float) -> None:
    """Look at a queue for a while: what is not delivered is there."""
    async with administered(server) as admin:
        for _ in range(int(seconds)):
            there = sum(await admin.counted(url))
            assert there >= count - worker.column("delivered")
            assert worker.process.poll() is None
            await asyncio.sleep(1)


async def _empty(server: Server, url: str) -> None:
    """Return once nothing is in a queue."""
    async with administered(server) as admin:
        for _ in range(600):
            if not sum(await admin.counted(url)):
                return
            await asyncio.sleep(0.2)
    raise AssertionError("the queue was not emptied")
