"""What must hold of a queue: a real server, visibility that runs out, kills, redrive and SNS."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from ingest.codec import dumps, loads
from ingest.errors import ConfigError, InputError
from ingest.messages import Messages
from ingest.sources.sqs import SqsSettings, SqsSource
from ingest.sources.sqs_letters import SqsDeadLetters
from tests.integration import queues
from tests.integration.queue_admin import REGION, administered, take_credentials
from tests.integration.servers import Server, free_port
from tests.integration.sqs_driver import Driver, durable

pytestmark = pytest.mark.integration

MESSAGES: Final = 20_000
TAKEN: Final = 18_000
"""Of these, the driver takes so many before it has no room."""
KILLED: Final = 4_000
VISIBILITY: Final = 5
"""Seconds that a message is ours at first."""
DOWN_SECONDS: Final = 15.0
PATIENCE: Final = 120.0


@pytest.fixture(params=["elasticmq", "moto"])
def server(request: pytest.FixtureRequest) -> Any:
    """Each server in turn; each test has queues of its own."""
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What any server of tests takes."""
    take_credentials(monkeypatch)


@asynccontextmanager
async def driven(source: SqsSource, driver: Driver) -> AsyncIterator[None]:
    """Open a source and work on it; stop and close it at the end, whatever happens."""
    await source.open()
    working = asyncio.create_task(driver.run())
    try:
        yield
    finally:
        source.stop()
        driver.gate.set()
        try:
            await asyncio.wait_for(working, PATIENCE)
        finally:
            await source.aclose()


async def until(true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is looked at tells nobody of a change
            await asyncio.sleep(0.02)


def event(name: object, **more: Any) -> str:
    """Return an event of a user of that name."""
    return dumps({"event": {"external_id": str(name), "name": "seen", **more}}).decode()


def settings(server: Server, url: str, **more: Any) -> SqsSettings:
    """Return settings for a queue of a server."""
    found = {"region": REGION, "endpoint_url": server.endpoint, "watch_seconds": 0.5, **more}
    return SqsSettings(queue_url=url, **found)


@pytest.mark.asyncio
async def test_a_destination_that_is_down_for_three_visibilities_costs_nothing(
    elasticmq: Server,
) -> None:
    """All are delivered once, none is deleted before it is settled, none comes twice."""
    async with administered(elasticmq) as admin:
        url = await admin.create("down")
        await admin.fill(url, [event(number) for number in range(MESSAGES)])
        handed: Counter[str] = Counter()
        settled: set[str] = set()

        def act(what: str, names: Sequence[str]) -> None:
            if what == "h":
                handed.update(names)
            else:
                settled.update(names)

        said: list[str] = []
        source = SqsSource(
            settings(elasticmq, url, visibility=VISIBILITY), durable, say=said.append
        )
        driver = Driver(source, act, seed=1)
        driver.settling.clear()
        began = time.monotonic()
        async with driven(source, driver):
            await until(lambda: len(handed) >= TAKEN)
            took = time.monotonic() - began
            # A driver has room for so much. It also keeps polls from waiting at an empty queue:
            # while one does, ElasticMQ looks through all that is held whenever one is extended.
            driver.gate.clear()
            await asyncio.sleep(DOWN_SECONDS)
            waits, held = await admin.counted(url)
            assert waits + held == MESSAGES
            assert source.counts.deleted == 0
            assert source.counts.again == 0
            driver.settling.set()
            driver.gate.set()
            up = time.monotonic()
            await until(lambda: source.counts.deleted >= MESSAGES)
            emptied = time.monotonic() - up
        print(f"read {TAKEN / took:,.0f}/s, deleted {MESSAGES / emptied:,.0f}/s", source.counts)
        assert set(handed) == settled == {str(number) for number in range(MESSAGES)}
        assert set(handed.values()) == {1}
        assert (source.counts.lost, source.counts.expired, source.counts.let_go) == (0, 0, 0)
        assert await admin.counted(url) == (0, 0)
        assert said == [line for line in said if "no redrive policy" in line]


def parsed(path: Path) -> tuple[Counter[str], set[str], bool]:
    """Return what a driver handed over, what it settled, and whether it came to its end."""
    handed: Counter[str] = Counter()
    settled: set[str] = set()
    ended = False
    for line in path.read_text().splitlines():
        what, _, names = line.split(" ")
        if what == "h":
            handed.update(names.split(","))
        elif what == "s":
            settled.update(names.split(","))
        ended = what == "end"
    return handed, settled, ended


@pytest.mark.asyncio
async def test_a_kill_brings_all_back_that_was_not_deleted(
    elasticmq: Server, tmp_path: Path
) -> None:
    """Nothing is lost, and what is read again was not settled, or just so."""
    async with administered(elasticmq) as admin:
        url = await admin.create("killed")
        await admin.fill(url, [event(number) for number in range(KILLED)])
        told: dict[str, Any] = {
            "queue_url": url,
            "region": REGION,
            "endpoint_url": elasticmq.endpoint,
        }
        told |= {"visibility": VISIBILITY}
        program = [sys.executable, "-m", "tests.integration.sqs_driver"]

        def started(name: str) -> subprocess.Popen[bytes]:
            path = str(tmp_path / name)
            return subprocess.Popen([*program, path, "7", dumps(told).decode()])

        first = started("first")
        try:
            path = tmp_path / "first"
            await until(lambda: path.exists() and len(parsed(path)[1]) > KILLED // 4)
        finally:
            first.kill()
            first.wait()
        before, done, _ = parsed(tmp_path / "first")
        assert len(done) < KILLED, "killed too late to show anything"
        second = started("second")
        try:
            path = tmp_path / "second"
            await until(lambda: path.exists() and len(parsed(path)[1] | done) >= KILLED, PATIENCE)
            async with asyncio.timeout(PATIENCE):
                while await admin.counted(url) != (0, 0):  # noqa: ASYNC110 - a server tells nobody
                    await asyncio.sleep(0.1)
            second.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(second.wait, 30) == 0
        finally:
            second.kill()
            second.wait()
        after, done_after, ended = parsed(tmp_path / "second")
        assert ended
        assert done | done_after == {str(number) for number in range(KILLED)}
        assert set(before) - done <= set(after)
        print(
            f"{len(before)} read, {len(done)} settled, {len(set(before) & set(after))} again, "
            f"{len(done & set(after))} of them settled"
        )
        assert max(after.values()) == 1


@pytest.mark.asyncio
async def test_bad_messages_are_left_to_the_policy_of_the_queue(server: Server) -> None:
    """They come again as often as it says, and are then in its dead-letter queue; good ones not."""
    async with administered(server) as admin:
        dead = await admin.create("graves")
        said = await admin.client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
        policy = {"deadLetterTargetArn": said["Attributes"]["QueueArn"], "maxReceiveCount": 2}
        url = await admin.create("living", RedrivePolicy=dumps(policy).decode())
        await admin.fill(url, [event(f"{'bad' if n % 5 == 0 else 'good'}{n}") for n in range(25)])
        handed: Counter[str] = Counter()

        def act(what: str, names: Sequence[str]) -> None:
            if what == "h":
                handed.update(names)

        source = SqsSource(settings(server, url), durable)
        driver = Driver(source, act)
        driver.bad = lambda name: name.startswith("bad")
        async with driven(source, driver):
            found = await admin.drained(dead, 5)
            await until(lambda: source.counts.deleted == 20)
        assert sorted(loads(one)["event"]["external_id"] for one in found) == sorted(
            f"bad{n}" for n in range(0, 25, 5)
        )
        assert {count for name, count in handed.items() if name.startswith("good")} == {1}
        assert {count for name, count in handed.items() if name.startswith("bad")} <= {1, 2}
        assert await admin.counted(url) == (0, 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("bad", ["redrive", "dead-letters"])
async def test_bad_messages_of_a_queue_without_a_policy_are_deleted(
    server: Server, bad: Any
) -> None:
    """Once dead letters are safe, and it is said at the start unless it was asked for."""
    async with administered(server) as admin:
        url = await admin.create(f"alone-{bad}")
        await admin.fill(url, [event(number) for number in range(5)])
        safe, said = asyncio.Event(), list[str]()

        async def slowly() -> None:
            await safe.wait()

        source = SqsSource(settings(server, url, bad=bad), slowly, say=said.append)
        driver = Driver(source)
        driver.bad = lambda name: True
        async with driven(source, driver):
            await until(lambda: len(driver.blocks) > 0 and not driver.open)
            assert source.counts.deleted == 0
            safe.set()
            await until(lambda: source.counts.deleted == 5)
        assert ["no redrive policy" in line for line in said] == (
            [True] if bad == "redrive" else []
        )


@pytest.mark.asyncio
async def test_notifications_of_sns_and_kinds_by_attribute_become_records(server: Server) -> None:
    """An envelope is taken off; what is no JSON is a row of its own; nothing is deleted unread."""
    async with administered(server) as admin:
        url = await admin.create("mixed")
        note = {"Type": "Notification", "MessageId": "m", "Message": event("in sns")}
        kind = {"kind": {"DataType": "String", "StringValue": "attributes"}}
        await admin.fill(url, [dumps(note).decode(), event("raw\nwith a break"), "no json", "  "])
        await admin.fill(url, ['{"external_id": "by\\nkind"}'], MessageAttributes=kind)
        source = SqsSource(
            settings(server, url), durable, line=Messages(mapping={"unwrap": "sns"}).line
        )
        driver = Driver(source)
        async with driven(source, driver):
            await until(lambda: source.counts.deleted == 5)
            assert driver.session is not None
            whence = driver.session.whence(0, 2)
            assert whence["name"] == "mixed"
            assert source.ready
            assert source.lag is not None
        lines = [loads(line) for block in driver.blocks for line in block.lines()]
        users = sorted(next(iter(line.values()))["external_id"] for line in lines)
        assert users == ["by\nkind", "in sns", "raw\nwith a break"]
        assert {"attributes": {"external_id": "by\nkind"}} in lines
        assert [row.code for block in driver.blocks for row in block.unfit] == ["not-json"]
        assert source.tombstones == 1


@pytest.mark.asyncio
async def test_stopping_gives_messages_back_at_once(server: Server) -> None:
    """What was not handed over, and at the end what was not settled, is there for others."""
    async with administered(server) as admin:
        url = await admin.create("stopped")
        await admin.fill(url, [event(number) for number in range(10)])
        source = SqsSource(settings(server, url, visibility=600), durable)

        def act(what: str, names: Sequence[str]) -> None:
            driver.gate.clear()  # one block, and then it takes no more

        driver = Driver(source, act)
        driver.settling.clear()
        async with driven(source, driver):
            await until(lambda: bool(driver.open))
            await admin.fill(url, [event(number) for number in range(10, 40)])
            await until(lambda: source.counts.received == 40)
            assert len(driver.open) <= 10
            began = time.monotonic()
            source.stop()
            while (await admin.counted(url))[1] > len(driver.open):
                assert time.monotonic() < began + 5
            assert driver.open, "what the driver has is still its own"
        assert time.monotonic() < began + 10
        assert await admin.counted(url) == (40, 0)
        found = await admin.drained(url, 40)
        assert len(found) == 40


@pytest.mark.asyncio
async def test_a_group_of_a_fifo_queue_comes_back_from_its_first_open_message(
    server: Server,
) -> None:
    """What was settled out of turn is not deleted, so that nothing overtakes what comes again."""
    async with administered(server) as admin:
        attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        url = await admin.create("orders.fifo", **attributes)
        for number in range(6):
            await admin.client.send_message(
                QueueUrl=url, MessageBody=event(number), MessageGroupId="a"
            )
        said: list[str] = []
        source = SqsSource(settings(server, url, visibility=600), durable, say=said.append)
        driver = Driver(source)
        driver.settling.clear()
        async with driven(source, driver):
            await until(lambda: len(driver.open) == 6)
            assert list(driver.open.values()) == [str(number) for number in range(6)]
            assert driver.session is not None
            numbers = {name: number for number, name in driver.open.items()}
            driver.open.clear()
            driver.session.settled(0, [numbers["3"], numbers["0"], numbers["1"]], [numbers["1"]])
            await until(lambda: source.counts.deleted == 2)
        assert any("FIFO" in line for line in said)
        again = SqsSource(settings(server, url), durable)
        driver = Driver(again)
        async with driven(again, driver):
            await until(lambda: again.counts.deleted == 4)
        found = [loads(line) for block in driver.blocks for line in block.lines()]
        assert [one["event"]["external_id"] for one in found] == ["2", "3", "4", "5"]


@pytest.mark.asyncio
async def test_a_server_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    """The source is not ready meanwhile, says so once, and goes on when it is back."""
    if (lack := queues.no_elasticmq()) is not None:
        pytest.skip(lack)
    with queues.elasticmq(tmp_path) as server:
        async with administered(server) as admin:
            url = await admin.create("away")
        said: list[str] = []
        source = SqsSource(settings(server, url), durable, say=said.append)
        driver = Driver(source)
        async with driven(source, driver):
            assert source.ready
            server.stop()
            await until(lambda: not source.ready)
            server.start()
            async with administered(server) as admin:
                url = await admin.create("away")
                await admin.fill(url, [event("later")])
                await until(lambda: source.counts.deleted == 1)
            assert source.ready
        assert sum("tried on" in line for line in said) == 1
        assert sum("answers again" in line for line in said) == 1
        assert "secret" not in "".join(said)


@pytest.mark.asyncio
async def test_what_cannot_be_opened_says_why(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that is not there, a server that is not, no credentials, no region: sentences."""
    url = f"{server.endpoint}/000000000000/nowhere"
    with pytest.raises(InputError, match="There is no queue nowhere at http://127"):
        await SqsSource(settings(server, url), durable).open()
    away = f"http://127.0.0.1:{free_port()}"
    source = SqsSource(settings(server, f"{away}/0/q", endpoint_url=away), durable)
    with pytest.raises(InputError, match=r"q cannot be reached at http://127.*is up\."):
        await source.open()
    with pytest.raises(ConfigError, match="region of the queue nowhere is not known"):
        await SqsSource(settings(server, url, region=None), durable).open()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InputError, match="finds no credentials for the queue nowhere"):
        await SqsSource(settings(server, url), durable).open()


@pytest.mark.asyncio
async def test_dead_letters_are_safe_once_they_are_flushed(server: Server) -> None:
    """More than ten, some long; one that is too long goes without its record, and says so."""
    async with administered(server) as admin:
        url = await admin.create("letters")
        said: list[str] = []
        letters = SqsDeadLetters(url, REGION, server.endpoint, say=said.append)
        await letters.open()
        try:
            lines = [
                dumps({"code": "c", "n": n, "record": {"x": "\ufffe" * 9000}}) for n in range(23)
            ]
            lines.append(dumps({"code": "long", "n": 23, "record": {"x": "y" * 1_100_000}}))
            letters.write([line + b"\n" for line in lines])
            assert letters.waiting == 24
            await letters.flush()
            assert letters.waiting == 0
        finally:
            await letters.aclose()
        found = {one["n"]: one for one in map(loads, await admin.drained(url, 24))}
        assert sorted(found) == list(range(24))
        assert found[0] == loads(lines[0])
        assert found[23] == {"code": "long", "n": 23, "left_out": len(lines[23])}
        assert ["without their record" in line for line in said] == [True]
