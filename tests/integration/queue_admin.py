"""Queues of a server of SQS, as the other programs around a worker make, fill and look at them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from tests.integration.servers import Server

aio: Any = pytest.importorskip("aiobotocore.session", reason="the extra 'sqs' is not installed")

REGION: Final = "eu-central-1"


def take_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what any server of tests takes, and forget what this machine has."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


class Admin:
    """What the other users of a queue do."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def create(self, name: str, **attributes: str) -> str:
        """Create a queue; return its URL."""
        said = await self.client.create_queue(QueueName=name, Attributes=attributes)
        return str(said["QueueUrl"])

    async def fill(self, url: str, bodies: Sequence[str], **more: Any) -> None:
        """Send messages."""
        entries = [
            {"Id": str(at % 10), "MessageBody": one, **more} for at, one in enumerate(bodies)
        ]
        tens = [entries[at : at + 10] for at in range(0, len(entries), 10)]

        async def send(some: list[list[dict[str, Any]]]) -> None:
            for ten in some:
                said = await self.client.send_message_batch(QueueUrl=url, Entries=ten)
                assert not said.get("Failed")

        await asyncio.gather(*(send(tens[at::8]) for at in range(8)))

    async def counted(self, url: str) -> tuple[int, int]:
        """Return how many messages wait, and how many are held."""
        said = await self.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        waits, held = (int(said["Attributes"][name]) for name in names)
        return waits, held

    async def drained(self, url: str, count: int, seconds: float = 60.0) -> list[str]:
        """Receive and delete messages until there are so many."""
        found: list[str] = []
        until = time.monotonic() + seconds
        while len(found) < count and time.monotonic() < until:
            said = await self.client.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1
            )
            if messages := said.get("Messages", ()):
                found += [one["Body"] for one in messages]
                handles = (one["ReceiptHandle"] for one in messages)
                entries = [{"Id": str(at), "ReceiptHandle": one} for at, one in enumerate(handles)]
                await self.client.delete_message_batch(QueueUrl=url, Entries=entries)
        return found


@asynccontextmanager
async def administered(server: Server) -> AsyncIterator[Admin]:
    """Connect as one of the others."""
    making = aio.get_session().create_client(
        "sqs", region_name=REGION, endpoint_url=server.endpoint
    )
    async with making as client:
        yield Admin(client)
