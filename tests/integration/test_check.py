"""`ingest check` against what it asks: a sandbox, a real broker of Kafka, and a server of SQS."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.brokers import Broker
from tests.integration.processes import COMMAND, KEY, PATIENCE, Served, served
from tests.integration.queues import moto, no_moto

pytestmark = pytest.mark.integration

KAFKA: Final = """\
[source]
type = "kafka"
topics = ["checked-events"]
group = "checking"
bootstrap = "{bootstrap}"
[sink]
type = "braze"
url = "{url}"
[dead_letters]
type = "kafka"
topic = "checked-letters"
[ops]
port = 0
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Served]:
    """A destination."""
    with served() as one:
        yield one


def groups(broker: Broker) -> list[str]:
    """Return the groups that the broker knows."""
    admin: Any = pytest.importorskip("aiokafka.admin")

    async def ask() -> list[str]:
        client = admin.AIOKafkaAdminClient(bootstrap_servers=broker.address)
        await client.start()
        found = await client.list_consumer_groups()
        await client.close()
        return [name for name, *_ in found]

    return asyncio.run(ask())


def checked(
    where: Path, text: str, environ: Mapping[str, str], *options: str
) -> subprocess.CompletedProcess[str]:
    """Run `ingest check` on a configuration."""
    (where / "worker.toml").write_text(text)
    return subprocess.run(
        [*COMMAND, "check", "worker.toml", *options],
        cwd=where,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_topics_a_group_and_a_key(tmp_path: Path, broker: Broker, sandbox: Served) -> None:
    """A topic that is not there is told; then all is well, and neither side has changed."""
    from tests.integration.topics import topic_made

    asyncio.run(topic_made(broker, "checked-events"))
    text = KAFKA.format(bootstrap=broker.address, url=sandbox.url)
    ran = checked(tmp_path, text, {"BRAZE_API_KEY": KEY})
    assert ran.returncode == 2, ran.stderr
    assert f"Kafka at {broker.address} has no topic checked-letters" in ran.stderr
    asyncio.run(topic_made(broker, "checked-letters", 1))
    ran = checked(tmp_path, text, {"BRAZE_API_KEY": KEY})
    assert ran.returncode == 0, ran.stderr
    assert "checked-events (6 partitions); the group checking has no member now" in ran.stderr
    assert "checked-letters (1 partition)" in ran.stderr
    assert "checking" not in groups(broker)
    assert sandbox.stats()["distinct_objects"] == 0
    assert ran.stdout == ""


def test_a_key_that_is_refused_has_a_status_of_its_own(tmp_path: Path, sandbox: Served) -> None:
    """And is not shown."""
    text = f'[source]\ntype = "stdin"\n[sink]\ntype = "braze"\nurl = "{sandbox.url}"\n'
    ran = checked(tmp_path, text + "[ops]\nport = 0\n", {"BRAZE_API_KEY": "wrong-key"})
    assert ran.returncode == 3, ran.stderr
    assert "refuses the credential" in ran.stderr
    assert "wrong-key" not in ran.stderr


QUEUE: Final = """\
[source]
type = "sqs"
queue_url = "{url}"
region = "eu-central-1"
[sink]
type = "sandbox"
[ops]
port = 0
"""
SDK: Final = {
    "AWS_ACCESS_KEY_ID": "a-key",
    "AWS_SECRET_ACCESS_KEY": "a-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""What any server of tests takes."""


def test_a_queue_and_its_policy(tmp_path: Path) -> None:
    """One that is not there is told; of one that is, nothing is received."""
    if (lack := no_moto()) is not None:
        pytest.skip(lack)
    aio: Any = pytest.importorskip("aiobotocore.session", reason="the extra 'sqs' is not there")
    with moto(tmp_path) as server:

        async def make() -> str:
            async with aio.get_session().create_client(
                "sqs",
                region_name="eu-central-1",
                endpoint_url=server.endpoint,
                aws_access_key_id="a-key",
                aws_secret_access_key="a-secret",
            ) as client:
                url = str((await client.create_queue(QueueName="events"))["QueueUrl"])
                await client.send_message(QueueUrl=url, MessageBody="{}")
                return url

        url = asyncio.run(make())
        ran = checked(tmp_path, QUEUE.format(url=url), SDK)
        assert ran.returncode == 0, ran.stderr
        assert "the queue events answers; about 1 message in it; no redrive policy" in ran.stderr
        ran = checked(tmp_path, QUEUE.format(url=url.replace("events", "others")), SDK)
        assert ran.returncode == 2, ran.stderr
        assert "There is no queue others" in ran.stderr
        without = {name: value for name, value in SDK.items() if "KEY" not in name}
        ran = checked(tmp_path, QUEUE.format(url=url), without)
        assert ran.returncode == 3, ran.stderr
        assert "The SDK finds no credentials" in ran.stderr
