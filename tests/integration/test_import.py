"""What must hold of `ingest import`, with real processes and real sockets, under faults."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ingest.codec import dumps
from ingest.samples import samples
from tests.integration.processes import Sending, Served, eventually, sent, served, written
from tests.sinks.raw_server import RawServer, Talk, http, read_request, serving

pytestmark = pytest.mark.integration

NO_LIMIT = ("--rate", "1000000/1s")
"""For a sandbox whose rate is not the point."""

BAD = (
    (b'{"event": {"external_id": "u", "name": "e"', "unknown"),  # no JSON
    (b'{"event": {"external_id": "u", "time": "2026-11-01T00:00:00Z"}}', "event"),  # no name
    (b'{"purchase": {"external_id": "u", "product_id": "p"}}', "purchase"),  # no price
    (b'{"attributes": {"plan": "pro"}}', "attributes"),  # nobody
    (b'{"name": "bare"}', "unknown"),  # of no kind
)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20,000 records of all kinds, as `ingest sample 20000` prints them."""
    return written(tmp_path_factory.mktemp("data") / "mixed.ndjson", list(samples(20_000)))


def some(where: Path, count: int, **how: Any) -> Path:
    """Write samples to a file."""
    return written(where / f"some-{count}.ndjson", list(samples(count, **how)))


# --- 1: nothing lost, nothing twice ---------------------------------------------------------------


def test_every_good_record_once(tmp_path: Path) -> None:
    """One request in four fails, fifty lines are bad: each record is where it belongs, once."""
    lines = list(samples(20_000))
    expected = {}
    for i in range(50):
        at = i * 397
        bad, kind = BAD[i % len(BAD)]
        lines.insert(at, bad)
        expected[at + 1] = (kind, bad)
    path = written(tmp_path / "in.ndjson", lines)
    faults = "500:6%,503:5%,502html:5%,429:2%,reset-before:4%,202:3%"
    with served("--faults", faults, "--limits", "combined", "--seed", "5", *NO_LIMIT) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path)
        stats = sandbox.stats()
    assert ended.status == 1, ended.stderr
    assert ended.records == {"read": 20_050, "delivered": 20_000, "invalid": 50}
    assert (stats["distinct_objects"], stats["copies"]) == (20_000, 0)
    assert {name for name, count in stats["faults"].items() if count} >= {"500", "502html", "202"}
    assert stats["same_user_overlaps"] == 0
    assert ended.report["of_which"]["queued"] > 0
    assert {letter["source"]["line"]: letter["kind"] for letter in ended.letters} == {
        line: kind for line, (kind, _) in expected.items()
    }
    assert all(letter["code"] and letter["column"] == "invalid" for letter in ended.letters)


def test_no_answer_loses_nothing(tmp_path: Path) -> None:
    """Applied, and the answer lost: resent, and every copy was announced as possible."""
    path = some(tmp_path, 6_000)
    faults = "reset-after:6%,504-after:3%,timeout:1%"  # one time-out with this seed: 30 s
    with served("--faults", faults, "--limits", "combined", "--seed", "3", *NO_LIMIT) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path)
        stats = sandbox.stats()
    assert ended.status == 0, ended.stderr
    assert ended.records == {"read": 6_000, "delivered": 6_000}
    assert stats["distinct_objects"] == 6_000
    assert 0 < stats["copies"] <= ended.report["of_which"]["maybe_duplicated"]
    assert all(stats["faults"].get(name) for name in ("reset-after", "504-after", "timeout"))


def test_holding_what_got_no_answer(tmp_path: Path) -> None:
    """With hold no copy is made, and what is held can be replayed once somebody decided so."""
    path = some(tmp_path, 10_000, kinds=("event", "purchase"))
    with served("--faults", "reset-before:5%", "--limits", "combined", *NO_LIMIT) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path, "--if-unanswered", "hold")
        stats = sandbox.stats()
        assert ended.status == 1, ended.stderr
        held = ended.records["held"]
        assert ended.records == {"read": 10_000, "delivered": 10_000 - held, "held": held}
        assert len(ended.letters) == held > 0
        assert (stats["copies"], stats["distinct_objects"]) == (0, 10_000 - held)
        sandbox.post("/sandbox/faults", {"faults": ""})
        replayed = sent(tmp_path, sandbox.url, "replay", ended.letters_path)
        stats = sandbox.stats()
    assert replayed.status == 0, replayed.stderr
    assert replayed.records == {"read": held, "delivered": held}
    assert (stats["copies"], stats["distinct_objects"]) == (0, 10_000)


# --- 2: ceilings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours", "each"),
    [
        ("per-array", "per-array", 210.0),
        ("combined", "combined", 74.0),
        ("37", "37", 36.5),
        ("per-array", "auto", 150.0),
        ("combined", "auto", 73.0),
        ("50", "auto", 48.0),
    ],
)
def test_requests_are_full_and_never_too_full(
    tmp_path: Path, mixed: Path, theirs: str, ours: str, each: float
) -> None:
    """No cap is exceeded; requests are filled; what is not known is found out in 3 refusals."""
    with served("--limits", theirs, *NO_LIMIT) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", mixed, "--limits", ours)
        stats = sandbox.stats()
    assert ended.status == 0, ended.stderr
    assert ended.records == {"read": 20_000, "delivered": 20_000}
    assert stats["distinct_objects"] == 20_000
    assert stats["by_status"].get("400", 0) <= (3 if ours == "auto" else 0)
    assert stats["by_status"].get("413", 0) == 0
    assert ended.report["requests"]["records_each"] >= each


@pytest.mark.parametrize("endpoint", ["track", "track-bulk"])
def test_large_records_stay_below_the_bytes(tmp_path: Path, endpoint: str) -> None:
    """Events of 90 KB fill a request up to the byte cap, and not beyond."""
    lines = [
        dumps(
            {
                "event": {
                    "external_id": f"u{i}",
                    "name": "large",
                    "time": "2026-11-01T00:00:00Z",
                    "properties": {f"p{n}": f"{i:05}" + "x" * 240 for n in range(350)},
                }
            }
        )
        for i in range(400)
    ]
    assert 85_000 < len(lines[0]) < 95_000
    path = written(tmp_path / "large.ndjson", lines)
    cap = 4_000_000 if endpoint == "track" else 2_000_000
    with served(*NO_LIMIT) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path, "--endpoint", endpoint, "--no-validate")
        stats = sandbox.stats()
    assert ended.status == 0, ended.stderr
    assert ended.records == {"read": 400, "delivered": 400}
    assert 0.85 * cap < stats["max_body_bytes"] <= cap
    assert set(stats["by_status"]) == {"201"}


def test_bulk_requests(tmp_path: Path, mixed: Path) -> None:
    """The bulk endpoint takes a thousand records, a hundred of one user."""
    with served(*NO_LIMIT) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", mixed, "--endpoint", "track-bulk")
        stats = sandbox.stats()
    assert ended.records == {"read": 20_000, "delivered": 20_000}, ended.stderr
    assert set(stats["by_status"]) == {"201"}
    assert 900 <= stats["max_objects"]["total"] <= 1_000
    assert stats["distinct_objects"] == 20_000


# --- 3: order and width ---------------------------------------------------------------------------


def test_order_of_each_user_under_failures(tmp_path: Path) -> None:
    """Few users, failures, latency: never two requests of one user, and each in source order."""
    path = some(tmp_path, 12_000, users=200)
    options = ("--latency", "30ms", "--faults", "503:5%,500:5%", *NO_LIMIT)
    with served(*options) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path)
        stats = sandbox.stats()
        profiles = [sandbox.get(f"/sandbox/users/user-{i}") for i in range(200)]
    assert ended.records == {"read": 12_000, "delivered": 12_000}, ended.stderr
    assert (stats["same_user_overlaps"], stats["copies"]) == (0, 0)
    known = [profile for profile in profiles if profile]
    assert len(known) > 180  # the others go by an alias or by e-mail
    for profile in known:
        by_kind = defaultdict(list)
        spans: dict[int, list[int]] = defaultdict(list)
        for arrival in profile["arrivals"]:
            record = arrival["object"]
            number = record.get("sample", record.get("properties", {}).get("sample"))
            by_kind[arrival["kind"]].append(number)
            spans[arrival["request"]].append(number)
        assert all(numbers == sorted(numbers) for numbers in by_kind.values())
        requests = list(spans.values())
        assert all(max(a) < min(b) for a, b in pairwise(requests))


@pytest.mark.alone
def test_many_users_go_side_by_side(tmp_path: Path) -> None:
    """With many users and some latency, enough requests are in flight without any tuning."""
    path = some(tmp_path, 30_000, users=30_000)
    with served("--latency", "100ms", *NO_LIMIT) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path)
        stats = sandbox.stats()
    assert ended.records == {"read": 30_000, "delivered": 30_000}, ended.stderr
    assert stats["max_in_flight"] >= 16
    assert stats["same_user_overlaps"] == 0


# --- 4: pace --------------------------------------------------------------------------------------


@pytest.mark.alone
def test_a_known_limit_is_used_and_kept(tmp_path: Path) -> None:
    """Just below the destination's limit: hardly a 429, and hardly anything of the rate unused."""
    path = some(tmp_path, 9_440)
    looks: list[tuple[float, int]] = []
    with served("--rate", "120/1s", "--latency", "5ms") as sandbox:
        sending = Sending(
            tmp_path, sandbox.url, "import", str(path), "--rate", "118/1s", "--limits", "8"
        )
        while sending.process.poll() is None:
            looks.append((time.monotonic(), sandbox.requests))
            threading.Event().wait(0.1)
        stats = sandbox.stats()
    total = stats["requests"]
    assert stats["distinct_objects"] == 9_440
    assert stats["over_rate"] <= 0.01 * total
    running = [(at, count) for at, count in looks if 118 <= count < total - 60]
    (since, first), (until, last) = running[0], running[-1]
    assert until - since > 5
    assert (last - first) / (until - since) >= 0.97 * 118


@pytest.mark.parametrize("dialect", ["classic", "mau"])
@pytest.mark.alone
def test_an_unknown_limit_is_learned(tmp_path: Path, dialect: str) -> None:
    """Far above the destination's limit by our own: few 429s, and every record once."""
    path = some(tmp_path, 6_400)
    with served("--rate", "120/1s", "--dialect", dialect, "--latency", "5ms") as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path, "--limits", "8")
        stats = sandbox.stats()
    assert ended.records == {"read": 6_400, "delivered": 6_400}, ended.stderr
    assert (stats["distinct_objects"], stats["copies"]) == (6_400, 0)
    assert stats["over_rate"] < 0.10 * stats["requests"]


# --- 5: what is no verdict on data ----------------------------------------------------------------


def test_a_wrong_key(tmp_path: Path) -> None:
    """Halted at once, nothing judged, the key shown nowhere; the right key delivers all."""
    path = some(tmp_path, 60_000)
    wrong = "wrong-key-8d2f61"
    with served(*NO_LIMIT) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path, key=wrong)
        asked = sandbox.requests
        right = sent(tmp_path, sandbox.url, "import", path)
        stats = sandbox.stats()
    assert ended.status == 3, ended.stderr
    assert asked < 40
    assert set(ended.records) == {"read", "pending"}
    assert ended.balanced()
    assert not ended.letters
    for text in (ended.stdout, ended.stderr, str(ended.report)):
        assert wrong not in text
    assert "check the API key" in ended.stderr
    assert right.status == 0, right.stderr
    assert stats["distinct_objects"] == 60_000


@pytest.mark.parametrize(("answer", "column"), [("500", "failed"), ("400", "rejected")])
def test_a_poisoned_record(tmp_path: Path, answer: str, column: str) -> None:
    """A record that makes the destination fail is found among 3,000, and costs itself only."""
    lines = list(samples(3_000))
    poison = {"external_id": "user-1", "name": "e", "time": "2026-11-01T00:00:00Z"}
    lines[1_700] = dumps({"event": {**poison, "properties": {"_sandbox_poison": answer}}})
    path = written(tmp_path / "in.ndjson", lines)
    with served(*NO_LIMIT) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path)
        stats = sandbox.stats()
    assert ended.status == 1, ended.stderr
    assert ended.records == {"read": 3_000, "delivered": 2_999, column: 1}
    assert [letter["source"]["line"] for letter in ended.letters] == [1_701]
    assert (stats["distinct_objects"], stats["copies"]) == (2_999, 0)


def test_an_outage_of_20_seconds(tmp_path: Path, mixed: Path) -> None:
    """Everything answers 503 for a while: the run waits, gives nothing up, and says so."""
    with served("--limits", "combined", *NO_LIMIT) as sandbox:
        sending = Sending(tmp_path, sandbox.url, "import", str(mixed), "--rate", "40/1s")
        eventually(lambda: sandbox.requests > 60, "the middle of the run")
        sandbox.post("/sandbox/faults", {"faults": "503:1", "for_seconds": 20})
        ended = sending.end()
        stats = sandbox.stats()
    assert ended.status == 0, ended.stderr
    assert ended.records == {"read": 20_000, "delivered": 20_000}
    assert (stats["distinct_objects"], stats["copies"]) == (20_000, 0)
    assert stats["by_status"]["503"] < 60
    assert "is down" in ended.stderr
    assert "answers again" in ended.stderr


def test_a_destination_that_restarts(tmp_path: Path, mixed: Path) -> None:
    """The process over there is killed and started again: nothing failed, nothing lost."""
    with served("--limits", "combined", "--latency", "20ms", *NO_LIMIT) as sandbox:
        sending = Sending(tmp_path, sandbox.url, "import", str(mixed), "--rate", "40/1s")
        eventually(lambda: sandbox.requests > 60, "the middle of the run")
        before = sandbox.stats()
        sandbox.kill()
        eventually(lambda: "is down" in sending.said, "the notice")
        sandbox.start()
        ended = sending.end()
        after = sandbox.stats()
    assert ended.status == 0, ended.stderr
    assert ended.records == {"read": 20_000, "delivered": 20_000}
    # What arrived between the look and the kill is in neither count: a few requests of 75.
    assert before["distinct_objects"] + after["distinct_objects"] >= 20_000 - 20 * 75


def test_a_destination_that_refuses_everything(tmp_path: Path, mixed: Path) -> None:
    """400 to whatever is sent: halted within 20 requests, with no verdict on any record."""
    with raw(http(400, b'{"message":"no"}')) as server:
        ended = sent(tmp_path, server.url, "import", mixed)
        asked = len(server.requests)
    assert ended.status == 3, ended.stderr
    assert asked <= 20
    assert set(ended.records) == {"read", "pending"}
    assert "refuses every request" in ended.stderr


# --- 6: ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_drains(tmp_path: Path, mixed: Path, number: signal.Signals, status: int) -> None:
    """What is in flight is answered and counted, the rest is pending, and the status tells."""
    with served("--latency", "300ms", *NO_LIMIT) as sandbox:
        sending = Sending(tmp_path, sandbox.url, "import", str(mixed), "--rate", "30/1s")
        eventually(lambda: sandbox.requests > 20, "the middle of the run")
        sending.signal(number)
        ended = sending.end()
        stats = sandbox.stats()
    assert ended.status == status, ended.stderr
    assert ended.balanced()
    assert set(ended.records) == {"read", "delivered", "pending"}
    assert ended.records["delivered"] == stats["distinct_objects"]
    assert (stats["unanswered"], ended.report["state"]) == (0, "interrupted")


def test_a_second_signal_stops(tmp_path: Path, mixed: Path) -> None:
    """Who asks twice does not wait for a destination that is slow to answer."""
    with served("--latency", "100s", *NO_LIMIT) as sandbox:
        sending = Sending(tmp_path, sandbox.url, "import", str(mixed))
        eventually(lambda: sandbox.requests, "the first request")
        sending.signal(signal.SIGINT)
        eventually(lambda: "Once more" in sending.said, "the notice")
        since = time.monotonic()
        sending.signal(signal.SIGINT)
        ended = sending.end()
    assert ended.status == 130, ended.stderr
    assert time.monotonic() - since < 10
    assert ended.balanced()
    assert "Traceback" not in ended.stderr


def test_a_dead_destination(tmp_path: Path, mixed: Path) -> None:
    """Nobody listens: given up in time, resumable, nothing judged."""
    gone = Served()
    gone.start()
    gone.kill()
    ended = sent(tmp_path, gone.url, "import", mixed, "--give-up-after", "3s")
    assert ended.status == 75, ended.stderr
    assert set(ended.records) == {"read", "pending"}
    assert not ended.letters
    assert "Run the same command again" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("in.ndjson", "--limts", "75"), "--limts"),
        (("in.ndjson", "--rate", "fast"), "rate"),
        (("missing.ndjson",), "missing.ndjson"),
        (("in.ndjson", "--memory", "lots"), "--memory"),
        (("catalog.csv",), "--kind"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    """A sentence and the status 2, before anything is sent."""
    some(tmp_path, 10).rename(tmp_path / "in.ndjson")
    (tmp_path / "catalog.csv").write_text("sku,name\n1,Alien\n")
    paths = [str(tmp_path / one) if "." in one else one for one in arguments]
    with raw(http(201, b'{"message":"success"}')) as server:
        ended = sent(tmp_path, server.url, "import", *paths)
        assert not server.requests
    assert ended.status == 2, ended.stderr
    assert says in ended.stderr.lower()
    assert "Traceback" not in ended.stderr


# --- 7: memory ------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_large_import(tmp_path: Path, mixed: Path) -> None:
    """300 MB go through less than 150 MB of memory."""
    data = mixed.read_bytes()
    path = tmp_path / "large.ndjson"
    with path.open("wb") as file:
        for _ in range(300_000_000 // len(data) + 1):
            file.write(data)
    sending = Sending(tmp_path, "", "import", str(path), "--to", "file:/dev/null")
    most_memory = sending.most_memory()
    ended = sending.end()
    size = path.stat().st_size
    path.unlink()
    assert size >= 300_000_000
    assert ended.status == 0, ended.stderr
    assert 0 < most_memory < 150_000_000


# --- a destination of the test's own --------------------------------------------------------------


class raw:
    """A server in a thread that gives the same bytes to every request."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def __enter__(self) -> RawServer:
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()

        def of(server: RawServer) -> Talk:
            async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while True:
                    server.requests.append(await read_request(reader))
                    writer.write(self._answer)
                    await writer.drain()

            return talk

        async def main() -> None:
            async with serving(of) as self._server:
                started.set()
                await self._ended.wait()

        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(main(),))
        self._thread.start()
        assert started.wait(10)
        return self._server

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()
