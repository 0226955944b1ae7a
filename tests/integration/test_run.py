"""What must hold of a worker: real processes, real brokers, kills, restarts and outages."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any, Final

import pytest

from ingest.codec import dumps
from tests.integration.processes import eventually, served
from tests.integration.servers import free_port
from tests.integration.workers import GENEROUS, post, sink_of, working

pytestmark = pytest.mark.integration

"""A sandbox that is never the one who is slow."""

CLIENTS: Final = 20


def event(number: int, pad: int = 0) -> bytes:
    """A record that is like no other."""
    told = {"external_id": f"u{number}", "name": "n", "time": "2026-01-31T12:00:00Z"}
    return dumps({"event": {**told, "properties": {"n": number, "p": "x" * pad}}})


def intake(**more: Any) -> dict[str, Any]:
    """The source of a worker that takes posts in."""
    return {"type": "http", "port": free_port(), **more}


def url_of(source: dict[str, Any]) -> str:
    """Where to post."""
    return f"http://127.0.0.1:{source['port']}"


def test_sigterm_waits_for_what_is_in_flight_and_nothing_goes_twice(tmp_path: Path) -> None:
    """50 requests of 500 ms: exit 0 within 5 s; the rest goes after the restart, without copies."""
    with served(*GENEROUS, "--latency", "500") as sandbox:
        source = intake()
        config = {
            "state": str(tmp_path / "state"),
            "source": source,
            "sink": sink_of(sandbox, in_flight=50, limits=10),
        }
        with working(tmp_path, config) as worker:
            worker.await_ready()
            for at in range(0, 5_000, 500):
                assert post(url_of(source), [*map(event, range(at, at + 500))]) == 202
            worker.await_metric("ingest_in_flight", 50)
            status, seconds = worker.terminate()
            assert (status, worker.said) == (0, worker.said)
            assert seconds < 5
        assert 0 < sandbox.delivered < 5_000
        assert sandbox.arrivals == sandbox.delivered
        with working(tmp_path, config) as worker:
            eventually(lambda: sandbox.delivered == 5_000, "all records")
            status, _ = worker.terminate()
            assert (status, worker.said) == (0, worker.said)
        assert sandbox.arrivals == 5_000


def test_what_was_accepted_is_delivered_after_a_kill(tmp_path: Path) -> None:
    """5,000 lines, killed after the last 202: all arrive after the restart."""
    with served(*GENEROUS, "--latency", "100") as sandbox:
        source = intake()
        config = {
            "state": str(tmp_path / "state"),
            "source": source,
            "sink": sink_of(sandbox, limits=50),
        }
        with working(tmp_path, config) as worker:
            worker.await_ready()
            for at in range(0, 5_000, 100):
                assert post(url_of(source), [*map(event, range(at, at + 100))]) == 202
            worker.kill()
        with working(tmp_path, config) as worker:
            worker.await_ready()  # the first one may have sent all of them
            eventually(lambda: sandbox.delivered == 5_000, "all records")
            counted = worker.metric("ingest_maybe_duplicated_total")
            assert worker.terminate()[0] == 0
        # Those in flight, and those of which the journal does not know yet that they are not.
        assert 0 <= sandbox.arrivals - 5_000 <= counted


def test_a_destination_that_is_down_fills_the_spool_and_no_memory(tmp_path: Path) -> None:
    """20 clients get 503 once the spool is full; when it is back, everything accepted arrives."""
    with served(*GENEROUS) as sandbox:
        source = intake(spool_bytes="8MB", body_bytes="1MB")
        config = {
            "state": str(tmp_path / "state"),
            "memory": "16MB",
            "source": source,
            "sink": sink_of(sandbox),
        }
        sandbox.kill()
        with working(tmp_path, config) as worker:
            worker.await_ready()
            accepted: list[int] = []
            refused = [0] * CLIENTS

            def client(at: int) -> None:
                number = at * 1_000_000
                while refused[at] < 5:
                    status = post(
                        url_of(source), [event(number + one, pad=300) for one in range(100)]
                    )
                    if status == 202:
                        accepted.append(number)
                        number += 100
                    else:
                        assert status == 503
                        refused[at] += 1

            threads = [threading.Thread(target=client, args=(at,)) for at in range(CLIENTS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            total = 100 * len(accepted)
            assert total > 10_000
            assert worker.most_memory < 250_000_000
            assert worker.page("/healthz")[0] == 200
            sandbox.start()
            eventually(lambda: sandbox.delivered == total, "all records")
            assert worker.metric("ingest_spool_bytes") < 8_000_000
            assert worker.terminate()[0] == 0
        assert sandbox.arrivals == total


def test_a_destination_that_answers_too_late_leaves_the_rest_to_the_next_start(
    tmp_path: Path,
) -> None:
    """Exit status 1 once the drain timeout is over; all is delivered later, copies counted."""
    source = intake()
    config = {"state": str(tmp_path / "state"), "drain_timeout": "500ms", "source": source}
    with served(*GENEROUS, "--latency", "5s") as sandbox:
        config["sink"] = sink_of(sandbox)
        with working(tmp_path, config) as worker:
            worker.await_ready()
            assert post(url_of(source), [*map(event, range(100))]) == 202
            worker.await_metric("ingest_in_flight", 1)
            status, seconds = worker.terminate()
            assert (status, worker.said) == (1, worker.said)
            assert seconds < 4
        with working(tmp_path, config) as worker:
            eventually(lambda: sandbox.delivered == 100, "all records")
            worker.await_metric("ingest_records_total", 100)
            assert worker.terminate()[0] in (0, 1)


def test_a_second_signal_ends_a_worker_at_once(tmp_path: Path) -> None:
    """However long an answer takes, and however much time there is."""
    source = intake()
    config = {"state": str(tmp_path / "state"), "drain_timeout": "60s", "source": source}
    with served(*GENEROUS, "--latency", "20s") as sandbox:
        config["sink"] = sink_of(sandbox)
        with working(tmp_path, config) as worker:
            worker.await_ready()
            assert post(url_of(source), [event(1)]) == 202
            worker.await_metric("ingest_in_flight", 1)
            worker.process.send_signal(signal.SIGTERM)
            eventually(lambda: any("Stopping" in one for one in worker.said), "a word")
            status, seconds = worker.terminate()
            assert (status, worker.said) == (1, worker.said)
            assert seconds < 5
