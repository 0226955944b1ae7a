"""What must hold of a worker at a broker: nothing lost, nothing told too early, order kept."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Final

import pytest

from tests.integration import topics
from tests.integration.brokers import Broker
from tests.integration.processes import eventually, served
from tests.integration.workers import GENEROUS, working

pytestmark = pytest.mark.integration

SLOWLY: Final = (*GENEROUS, "--latency", "100")
RECORDS: Final = int(os.environ.get("INGEST_TEST_RECORDS", "20000"))
DOWN_SECONDS: Final = 15.0


def test_two_workers_of_a_topic_lose_nothing(tmp_path: Path, broker: Broker) -> None:
    """One is killed and started again, the other stopped: all arrives, in order, and is committed.

    What arrives twice was delivered by the one that was killed, and not committed yet.
    """
    asyncio.run(topics.topic_made(broker, "both"))
    asyncio.run(topics.filled(broker, "both", RECORDS))
    with served(*SLOWLY) as sandbox:
        config = topics.reading(broker, "both", sandbox, limits=50, in_flight=10)
        with working(tmp_path / "a", config) as one, working(tmp_path / "b", config) as other:
            eventually(lambda: sandbox.delivered > RECORDS // 5, "a fifth of the records")
            one.kill()
            before = sandbox.arrivals
            with working(tmp_path / "a", config) as again:
                eventually(lambda: sandbox.delivered > RECORDS // 2, "half of the records")
                assert other.terminate()[0] == 0, other.said
                eventually(lambda: sandbox.delivered == RECORDS, "all records")
                asyncio.run(topics.all_committed(broker, "both"))
                assert again.terminate()[0] == 0, again.said
        extra = sandbox.arrivals - RECORDS
        # What one second between two commits had delivered, and what was in flight.
        assert extra <= before
        sandbox.check_order(topics.USERS)


def test_a_worker_that_is_stopped_in_flight_repeats_nothing(tmp_path: Path, broker: Broker) -> None:
    """50 requests of 500 ms in flight at SIGTERM: exit 0 within 5 s, no copies afterwards."""
    asyncio.run(topics.topic_made(broker, "stopped"))
    asyncio.run(topics.filled(broker, "stopped", 5_000))
    with served(*GENEROUS, "--latency", "500") as sandbox:
        config = topics.reading(broker, "stopped", sandbox, limits=10, in_flight=50)
        with working(tmp_path, config) as worker:
            worker.await_metric("ingest_in_flight", 50)
            status, seconds = worker.terminate()
            assert (status, worker.said) == (0, worker.said)
            assert seconds < 5
        assert 0 < sandbox.arrivals < 5_000
        with working(tmp_path, config) as worker:
            eventually(lambda: sandbox.delivered == 5_000, "all records")
            assert worker.terminate()[0] == 0
        assert sandbox.arrivals == 5_000


def test_a_worker_stays_in_its_group_while_the_destination_is_down(
    tmp_path: Path, broker: Broker
) -> None:
    """Longer than any time-out of the group: no rebalance, nothing failed, no copies."""
    asyncio.run(topics.topic_made(broker, "down"))
    asyncio.run(topics.filled(broker, "down", RECORDS))
    with served(*SLOWLY) as sandbox:
        # So slow that there is something left to read when the outage begins.
        config = topics.reading(broker, "down", sandbox, limits=50, rate="100/1s")
        config["source"]["client"] = {**topics.QUICK, "max_poll_interval_ms": 6_000}
        with working(tmp_path, config) as worker:
            eventually(lambda: sandbox.delivered > RECORDS // 10, "a tenth of the records")
            sandbox.post("/sandbox/faults", {"faults": "503:1"})
            worker.await_metric("ingest_retries_total", 1)
            before = worker.column("read")
            for _ in range(int(DOWN_SECONDS)):
                assert worker.page("/readyz")[0] == 200
                threading.Event().wait(1)
            assert worker.column("read") < RECORDS
            assert worker.column("read") <= before + 10_000
            sandbox.post("/sandbox/faults", {"faults": ""})
            eventually(lambda: sandbox.delivered == RECORDS, "all records")
            asyncio.run(topics.all_committed(broker, "down"))
            assert worker.column("delivered") == worker.column("read") == RECORDS
            assert worker.terminate()[0] == 0, worker.said
        assert sandbox.arrivals == RECORDS


def test_what_no_destination_takes_goes_to_another_topic(tmp_path: Path, broker: Broker) -> None:
    """Bad messages become letters in a topic before they are committed."""
    for name in ("mixed", "mixed-letters"):
        asyncio.run(topics.topic_made(broker, name))
    asyncio.run(topics.filled(broker, "mixed", 300))
    asyncio.run(topics.sent(broker, "mixed", [b"bad %d" % n for n in range(100)]))
    with served(*SLOWLY) as sandbox:
        config = topics.reading(broker, "mixed", sandbox)
        config |= {"dead_letters": {"type": "kafka", "topic": "mixed-letters"}}
        with working(tmp_path, config) as worker:
            eventually(lambda: sandbox.delivered == 300, "all records")
            asyncio.run(topics.all_committed(broker, "mixed"))
            assert worker.metric("ingest_dead_letters_total") == 100
            assert worker.terminate()[0] == 0, worker.said
    assert sum(asyncio.run(topics.ends(broker, "mixed-letters")).values()) == 100
