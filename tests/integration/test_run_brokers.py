"""What must hold of a worker at a broker: nothing lost, nothing told too early, order kept."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from ingest.codec import dumps
from tests.integration.brokers import Broker, brokered, why_not
from tests.integration.processes import Served, eventually, served
from tests.integration.queues import Server, elasticmq, no_elasticmq
from tests.integration.workers import Working, sink_of, working

pytest.importorskip("aiokafka", reason="the extra 'kafka' is not installed")
pytest.importorskip("aiobotocore", reason="the extra 'sqs' is not installed")

from tests.integration import test_kafka as topics
from tests.integration import test_sqs as queues

pytestmark = pytest.mark.integration

GENEROUS: Final = ("--rate", "1000000/1s", "--limits", "per-array", "--latency", "100")
RECORDS: Final = int(os.environ.get("INGEST_TEST_RECORDS", "20000"))
MESSAGES: Final = int(os.environ.get("INGEST_TEST_MESSAGES", "20000"))
DOWN_SECONDS: Final = 15.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker; each test has topics of its own."""
    if (lack := why_not()) is not None:
        pytest.skip(lack)
    with brokered(tmp_path_factory.mktemp("kafka")) as one:
        yield one


@pytest.fixture(scope="module")
def queue_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """ElasticMQ."""
    if (lack := no_elasticmq()) is not None:
        pytest.skip(lack)
    with elasticmq(tmp_path_factory.mktemp("elasticmq")) as one:
        yield one


def delivered(sandbox: Served) -> int:
    """Different records that arrived."""
    return int(sandbox.stats().get("distinct_objects", 0))


def arrivals(sandbox: Served) -> int:
    """Records that arrived, copies too."""
    return int(sum(sandbox.stats()["objects"].values()))


def reading(broker: Broker, topic: str, sandbox: Served, **sink: Any) -> dict[str, Any]:
    """The configuration of a worker of a topic."""
    return {
        "state": "state",
        "source": {
            "type": "kafka",
            "topics": [topic],
            "group": topics.GROUP,
            "bootstrap": broker.address,
            "client": topics.QUICK,
        },
        "sink": sink_of(sandbox, **sink),
    }


def in_order(sandbox: Served, users: int) -> None:
    """Check that what arrived of each user came in its order, copies left out."""
    for user in range(users):
        profile = sandbox.get(f"/sandbox/users/u{user}")
        numbers = [one["properties"]["n"] for one in profile["events"]]
        first = list(dict.fromkeys(numbers))
        assert first == sorted(first)


def test_two_workers_of_a_topic_lose_nothing(tmp_path: Path, broker: Broker) -> None:
    """One is killed and started again, the other stopped: all arrives, in order, and is committed.

    What arrives twice was delivered by the one that was killed, and not committed yet.
    """
    asyncio.run(topics.topic_made(broker, "both"))
    asyncio.run(topics.filled(broker, "both", RECORDS))
    with served(*GENEROUS) as sandbox:
        config = reading(broker, "both", sandbox, limits=50, in_flight=10)
        with working(tmp_path / "a", config) as one, working(tmp_path / "b", config) as other:
            eventually(lambda: delivered(sandbox) > RECORDS // 5, "a fifth of the records")
            one.kill()
            before = arrivals(sandbox)
            with working(tmp_path / "a", config) as again:
                eventually(lambda: delivered(sandbox) > RECORDS // 2, "half of the records")
                assert other.terminate()[0] == 0, other.said
                eventually(lambda: delivered(sandbox) == RECORDS, "all records")
                asyncio.run(topics.all_committed(broker, "both"))
                assert again.terminate()[0] == 0, again.said
        extra = arrivals(sandbox) - RECORDS
        # What one second between two commits had delivered, and what was in flight.
        assert extra <= before
        in_order(sandbox, topics.USERS)


def test_a_worker_that_is_stopped_in_flight_repeats_nothing(tmp_path: Path, broker: Broker) -> None:
    """50 requests of 500 ms in flight at SIGTERM: exit 0 within 5 s, no copies afterwards."""
    asyncio.run(topics.topic_made(broker, "stopped"))
    asyncio.run(topics.filled(broker, "stopped", 5_000))
    with served(*GENEROUS[:-1], "500") as sandbox:
        config = reading(broker, "stopped", sandbox, limits=10, in_flight=50)
        with working(tmp_path, config) as worker:
            worker.await_metric("ingest_in_flight", 50)
            status, seconds = worker.terminate()
            assert (status, worker.said) == (0, worker.said)
            assert seconds < 5
        assert 0 < arrivals(sandbox) < 5_000
        with working(tmp_path, config) as worker:
            eventually(lambda: delivered(sandbox) == 5_000, "all records")
            assert worker.terminate()[0] == 0
        assert arrivals(sandbox) == 5_000


def test_a_worker_stays_in_its_group_while_the_destination_is_down(
    tmp_path: Path, broker: Broker
) -> None:
    """Longer than any time-out of the group: no rebalance, nothing failed, no copies."""
    asyncio.run(topics.topic_made(broker, "down"))
    asyncio.run(topics.filled(broker, "down", RECORDS))
    with served(*GENEROUS) as sandbox:
        config = reading(broker, "down", sandbox, limits=50)
        config["source"]["client"] = {**topics.QUICK, "max_poll_interval_ms": 6_000}
        with working(tmp_path, config) as worker:
            eventually(lambda: delivered(sandbox) > RECORDS // 10, "a tenth of the records")
            sandbox.post("/sandbox/faults", {"faults": "503:1"})
            worker.await_metric("ingest_retries_total", 1)
            before = _column(worker, "read")
            for _ in range(int(DOWN_SECONDS)):
                assert worker.page("/readyz")[0] == 200
                threading.Event().wait(1)
            assert _column(worker, "read") < RECORDS
            assert _column(worker, "read") <= before + 10_000
            sandbox.post("/sandbox/faults", {"faults": ""})
            eventually(lambda: delivered(sandbox) == RECORDS, "all records")
            asyncio.run(topics.all_committed(broker, "down"))
            assert _column(worker, "delivered") == _column(worker, "read") == RECORDS
            assert worker.terminate()[0] == 0, worker.said
        assert arrivals(sandbox) == RECORDS


def test_what_no_destination_takes_goes_to_another_topic(tmp_path: Path, broker: Broker) -> None:
    """Bad messages become letters in a topic before they are committed."""
    for name in ("mixed", "letters"):
        asyncio.run(topics.topic_made(broker, name))
    asyncio.run(topics.filled(broker, "mixed", 300))
    asyncio.run(_spoiled(broker, "mixed", 100))
    with served(*GENEROUS) as sandbox:
        config = reading(broker, "mixed", sandbox)
        config |= {"dead_letters": {"type": "kafka", "topic": "letters"}}
        with working(tmp_path, config) as worker:
            eventually(lambda: delivered(sandbox) == 300, "all records")
            asyncio.run(topics.all_committed(broker, "mixed"))
            assert worker.metric("ingest_dead_letters_total") == 100
            assert worker.terminate()[0] == 0, worker.said
    assert sum(asyncio.run(topics.ends(broker, "letters")).values()) == 100


async def _spoiled(broker: Broker, name: str, count: int) -> None:
    async with topics.produced(broker) as producer:
        for number in range(count):
            await producer.send(name, b"bad %d" % number)
        await producer.flush()


def test_a_queue_loses_nothing_in_an_outage(
    tmp_path: Path, queue_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Visibility 5 s, a destination that is down for 15 s: nothing is deleted before its end."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    url = asyncio.run(_queue(queue_server, "outage", MESSAGES))
    with served(*GENEROUS) as sandbox:
        config = {
            "state": "state",
            "source": {
                "type": "sqs",
                "queue_url": url,
                "region": queues.REGION,
                "endpoint_url": queue_server.endpoint,
                "visibility": "5s",
            },
            "sink": sink_of(sandbox),
        }
        with working(tmp_path, config) as worker:
            eventually(lambda: delivered(sandbox) > MESSAGES // 10, "a tenth of the messages")
            sandbox.kill()
            asyncio.run(_watched(queue_server, url, worker, DOWN_SECONDS))
            sandbox.start()
            asyncio.run(_empty(queue_server, url))
            assert _column(worker, "delivered") == MESSAGES
            assert worker.terminate()[0] == 0, worker.said


def _column(worker: Working, column: str) -> int:
    lines = worker.page("/metrics")[1].splitlines()
    wanted = f'ingest_records_total{{column="{column}"'
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith(wanted)))


async def _queue(server: Server, name: str, count: int) -> str:
    bodies = [
        dumps(
            {
                "event": {
                    "external_id": f"u{number}",
                    "name": "n",
                    "time": "2026-01-31T12:00:00Z",
                    "properties": {"n": number},
                }
            }
        ).decode()
        for number in range(count)
    ]
    async with queues.administered(server) as admin:
        url = await admin.create(name, VisibilityTimeout="5")
        await admin.fill(url, bodies)
        return url


async def _watched(server: Server, url: str, worker: Working, seconds: float) -> None:
    """Look at a queue for a while: what is not delivered is there."""
    async with queues.administered(server) as admin:
        for _ in range(int(seconds)):
            there = sum(await admin.counted(url))
            assert there >= MESSAGES - _column(worker, "delivered")
            assert worker.process.poll() is None
            await asyncio.sleep(1)


async def _empty(server: Server, url: str) -> None:
    """Return once nothing is in a queue."""
    async with queues.administered(server) as admin:
        for _ in range(600):
            if not sum(await admin.counted(url)):
                return
            await asyncio.sleep(0.2)
    raise AssertionError("the queue was not emptied")
