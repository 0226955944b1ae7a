"""The session of a queue on a virtual clock: outages of hours, ends, and what the queue is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import ConfigError, LocalFailure
from ingest.messages import Messages, Unreadable
from ingest.sources.base import Block
from ingest.sources.sqs import SqsSettings, SqsSource
from ingest.sources.sqs_client import Trouble, where
from ingest.sources.sqs_session import SqsSession
from ingest.sources.sqs_ties import Counts, Ties
from ingest.visibility import MOST
from tests.examples import examples
from tests.sources.sqs_queue import FakeQueue
from tests.virtual_clock import run

HOUR: Final = 3600.0


async def at_once() -> None:
    """Nothing is to be brought to safety."""


def line_of(message: bytes, kind: str | None) -> bytes:
    """What an intake would read; some messages become nothing, or cannot be read."""
    if message == b"nothing":
        return b""
    if message == b"unfit":
        raise Unreadable("bad", "", "it has 'ada'", "it has something")
    return message if kind is None else b"%b:%b" % (kind.encode(), message)


class Worked:
    """A session at work, with what it said."""

    def __init__(self, queue: FakeQueue, **more: Any) -> None:
        self.queue = queue
        self.said: list[str] = []
        self.troubles: list[Trouble | None] = []
        self.counts = Counts()
        told: dict[str, Any] = {
            "ordered": queue.ordered,
            "give_back": False,
            "pollers": 4,
            "visibility": 60,
            "line": line_of,
            "durable": at_once,
            "buffer_bytes": 1_000_000,
            "buffer_messages": 1_000,
            **more,
        }
        self.session = SqsSession(
            Ties(
                queue=queue,
                name="q",
                answered=self.troubles.append,
                say=self.said.append,
                rarely=self.said.append,
                counts=self.counts,
                **told,
            )
        )
        self.blocks: list[Block] = []
        self.open: dict[int, str] = {}
        self.error: BaseException | None = None
        self.session.begin()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for block in self.session.blocks():
                self.blocks.append(block)
                self.open |= dict(
                    zip(block.numbers(), [one.decode() for one in block.lines()], strict=True)
                )
                self.open |= {row.line: row.raw.decode(errors="replace") for row in block.unfit}
        except Exception as error:
            self.error = error

    def settle(self, numbers: Collection[int] | None = None, bad: Collection[int] = ()) -> None:
        """Settle messages; all that are open, if none are named."""
        some = list(self.open) if numbers is None else list(numbers)
        for number in some:
            del self.open[number]
        self.session.settled(0, some, bad)

    async def end(self) -> None:
        """End it as a worker does."""
        self.session.stop()
        await self._reading
        await self.session.end()


def worked(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test on a virtual clock."""

    async def inside() -> None:
        await test()
        assert len(asyncio.all_tasks()) == 1, "tasks are left"

    run(inside())


def names(count: int, start: int = 0) -> list[str]:
    """Return as many different messages."""
    return [str(number) for number in range(start, start + count)]


@pytest.mark.parametrize("hours", [3, 14])
def test_an_outage_of_hours_loses_nothing_and_reads_nothing_twice(hours: int) -> None:
    """Not even after 12 hours, when a queue gives messages out again: they are here already."""

    async def test() -> None:
        queue = FakeQueue()
        queue.send(*names(300))
        one = Worked(queue)
        await asyncio.sleep(60)
        assert len(one.open) == 300
        asked = queue.requests["keep"]
        await asyncio.sleep(hours * HOUR)
        assert queue.requests["keep"] - asked < 300 * hours, "one in ten, ten times an hour"
        assert len(one.open) == 300
        assert not queue.deleted
        assert (one.counts.again > 0) == (hours > 12)
        assert one.counts.let_go == one.counts.again
        assert len(one.said) == (1 if hours > 12 else 0)
        one.settle()
        await asyncio.sleep(5)
        assert sorted(queue.deleted) == sorted(names(300))
        assert one.counts.expired == 0
        await one.end()

    worked(test)


@settings(max_examples=examples(40), deadline=None)
@given(seed=st.integers(0, 2**32), ordered=st.booleans(), redrive=st.booleans())
def test_whatever_happens_a_message_is_deleted_only_after_it_was_settled(
    seed: int, ordered: bool, redrive: bool
) -> None:
    """With a queue that is down now and then, letters that take their time, and bad messages."""

    async def test() -> None:
        dice = random.Random(seed)
        queue = FakeQueue(ordered=ordered)
        queue.send(*names(40), group="a")
        queue.send(*names(40, 40), group="b")

        async def durable() -> None:
            await asyncio.sleep(dice.choice([0, 0.1, 3]))

        one = Worked(
            queue,
            durable=durable,
            give_back=redrive and not ordered,
            visibility=dice.choice([2, 30]),
        )
        settled: set[str] = set()
        for _ in range(30):
            await asyncio.sleep(dice.uniform(0, 4))
            queue.down = dice.random() < 0.2
            queue.refuse = dice.choice([0, 0, 5])
            some = [number for number in one.open if dice.random() < 0.5]
            settled.update(one.open[number] for number in some)
            one.settle(some, [number for number in some if dice.random() < 0.2])
            assert set(queue.deleted) <= settled
        queue.down, queue.refuse = False, 0
        # Whatever was lost meanwhile comes again.
        async with asyncio.timeout(HOUR):
            while queue.lying:
                one.settle()
                await asyncio.sleep(1)
        assert sorted(queue.deleted) == sorted(names(80))
        await one.end()

    worked(test)


def test_what_is_settled_is_not_deleted_before_letters_are_safe() -> None:
    """Nor is what was settled while letters were on their way; then it goes in tens."""

    async def test() -> None:
        queue, safe, asked = FakeQueue(), asyncio.Event(), []

        async def durable() -> None:
            asked.append(len(one.open))
            await safe.wait()

        queue.send(*names(40))
        one = Worked(queue, durable=durable)
        await asyncio.sleep(5)
        one.settle(list(one.open)[:25])
        await asyncio.sleep(1)
        one.settle(list(one.open)[:5])
        await asyncio.sleep(600)
        assert not queue.deleted
        safe.set()
        await asyncio.sleep(1)
        assert len(queue.deleted) == 30
        assert queue.requests["delete"] == 3 + 1
        assert asked == [15, 10]
        await one.end()
        assert len(queue.visible) == 10

    worked(test)


def test_stopping_gives_back_what_was_not_handed_over_and_the_end_the_rest() -> None:
    """At once; also what a poll brings that was under way."""

    async def test() -> None:
        queue = FakeQueue()
        one = Worked(queue, visibility=600)
        queue.send(*names(30))
        while one.counts.received < 30:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        one.settle(list(one.open)[:7])
        one.session.stop()
        queue.send("late")
        await asyncio.sleep(0.5)
        assert "late" in queue.visible or queue.lying["late"].received == 0
        await one.end()
        assert len(queue.deleted) == 7
        assert len(queue.visible) == 24
        assert one.counts.given_back >= 23

    worked(test)


def test_bad_messages_go_back_or_away_as_is_wished() -> None:
    """Given back they can be had at once, and nothing holds on to them."""

    async def test() -> None:
        for give_back in (True, False):
            queue = FakeQueue()
            queue.send(*names(20))
            one = Worked(queue, give_back=give_back)
            await asyncio.sleep(1)
            bad = [number for number, name in one.open.items() if int(name) % 2]
            queue.refuse = 0
            one.settle(bad=bad)
            await asyncio.sleep(0.2)
            one.session.stop()
            await asyncio.sleep(0.3)
            assert len(queue.deleted) == (10 if give_back else 20)
            await one.end()
            assert len(queue.visible) == (10 if give_back else 0)

    worked(test)


def test_one_poll_when_it_is_quiet_more_when_it_is_not_and_none_without_room() -> None:
    """Nothing is received that there is no place for."""

    async def test() -> None:
        queue = FakeQueue()
        one = Worked(queue, pollers=8)
        await asyncio.sleep(300)
        assert queue.most_polls == 1
        queue.send(*names(2000))
        await asyncio.sleep(30)
        assert queue.most_polls == 8
        assert len(one.open) == 2000
        await asyncio.sleep(120)
        assert queue.polls == 1
        await one.end()

        queue = FakeQueue()
        queue.send(*names(500))
        one = Worked(queue, buffer_messages=100)
        one._reading.cancel()
        await asyncio.sleep(600)
        assert one.session.waiting == one.counts.received == 100
        assert len(queue.visible) == 400
        one.session.stop()
        await asyncio.sleep(1)
        assert len(queue.visible) == 500
        await one.session.end()

    worked(test)


def test_a_queue_that_is_down_is_asked_again_less_and_less_often() -> None:
    """By one poll, and said each time to whoever says it rarely."""

    async def test() -> None:
        queue = FakeQueue()
        queue.down = True
        one = Worked(queue)
        await asyncio.sleep(600)
        assert 15 < queue.requests["receive"] < 60
        assert all(one.troubles)
        queue.down = False
        queue.send("later")
        await asyncio.sleep(40)
        assert list(one.open.values()) == ["later"]
        assert one.troubles[-1] is None
        queue.down = True
        one.settle()
        await one.end()
        assert not queue.deleted

    worked(test)


def test_what_comes_again_after_a_late_delete_is_deleted_and_not_read() -> None:
    """It was delivered: to read it again would deliver it twice."""

    async def test() -> None:
        queue = FakeQueue()
        queue.send("x")
        one = Worked(queue, pollers=1)
        await asyncio.sleep(1)
        queue.lying["x"].received += 1  # given to somebody else, who crashed
        queue.lying["x"].visible = 100.0
        one.settle()
        await asyncio.sleep(150)
        assert queue.deleted == ["x"]
        assert (one.counts.expired, one.counts.owed) == (1, 1)
        assert len(one.blocks) == 1
        assert any("twice" in line for line in one.said)
        await one.end()

    worked(test)


def test_messages_that_are_no_lines_have_their_end() -> None:
    """Empty ones and those that become nothing are deleted; unreadable ones are rows."""

    async def test() -> None:
        queue = FakeQueue()
        queue.send(" ", "nothing", "unfit", "fine")
        queue.send("kinded", kind="event")
        queue.send("other", kind="invoice")
        one = Worked(queue)
        await asyncio.sleep(2)
        assert sorted(queue.deleted) == [" ", "nothing"]
        assert sorted(one.open.values()) == ["event:kinded", "fine", "other", "unfit"]
        rows = [row for block in one.blocks for row in block.unfit]
        assert [(row.reason, row.summary) for row in rows] == [("it has 'ada'", "it has something")]
        assert (one.counts.tombstones, one.counts.emptied) == (1, 1)
        number = next(number for number, name in one.open.items() if name == "fine")
        assert one.session.place(0, number) == "q@fine"
        assert one.session.whence(0, number) == {"name": "q", "message_id": "fine"}
        one.settle()
        await asyncio.sleep(1)
        assert one.session.place(0, number) == f"q@message {number}"
        ended = asyncio.create_task(one.session.revoked())
        await asyncio.sleep(10)
        assert not ended.done()
        await one.end()
        await ended

    worked(test)


def test_letters_that_cannot_be_kept_end_the_session_and_nothing_is_deleted() -> None:
    """The driver is told, and the messages are given back."""

    async def test() -> None:
        async def durable() -> None:
            raise LocalFailure("The disk is full.")

        queue = FakeQueue()
        queue.send(*names(5))
        one = Worked(queue, durable=durable)
        await asyncio.sleep(1)
        one.settle()
        await asyncio.sleep(1)
        assert isinstance(one.error, LocalFailure)
        one.session.stop()
        await one.session.end()
        assert not queue.deleted
        assert len(queue.visible) == 5

    worked(test)


@pytest.mark.parametrize(
    ("url", "region", "endpoint"),
    [
        ("https://sqs.eu-west-3.amazonaws.com/1/q", "eu-west-3", None),
        ("https://sqs.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1", None),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1", None),
        ("https://eu-west-3.queue.amazonaws.com/1/q", "eu-west-3", None),
        ("https://vpce-1.sqs.eu-west-3.vpce.amazonaws.com/1/q", "eu-west-3", "https://vpce-1.sqs.eu-west-3.vpce.amazonaws.com"),
        ("https://queue.amazonaws.com/1/q", None, None),
        ("http://127.0.0.1:9324/1/q", None, "http://127.0.0.1:9324"),
    ],
)  # fmt: skip
def test_the_url_of_a_queue_says_where_it_is(
    url: str, region: str | None, endpoint: str | None
) -> None:
    """Unless it is told: the region of AWS, or another endpoint."""
    found = where(url, None, None, table="[source]")
    assert (found.name, found.region, found.endpoint) == ("q", region, endpoint)
    told = where(url, "x-1", "https://e", table="[source]")
    assert (told.region, told.endpoint) == ("x-1", "https://e")


@pytest.mark.parametrize(
    ("url", "endpoint", "what"),
    [
        ("user-events", None, "'queue_url' in .source. must be a URL"),
        ("https://[", None, "must be a URL"),
        ("https://sqs.eu-west-3.amazonaws.com/", None, "names no queue"),
        ("https://a:b@host/1/q", None, "'queue_url' in .source. holds a credential"),
        ("https://host/1/q", "http://a@host", "'endpoint_url' in .source. holds a credential"),
    ],
)
def test_a_url_that_cannot_be_is_refused(url: str, endpoint: str | None, what: str) -> None:
    """With the key that is wrong; a credential in it is not repeated."""
    with pytest.raises(ConfigError, match=what) as found:
        where(url, None, endpoint, table="[source]")
    assert "a:b" not in str(found.value)


def test_plain_http_to_another_machine_is_in_the_clear() -> None:
    """To this one it is not."""
    found = [
        where(f"http://{host}/1/q", None, None, table="") for host in ("localstack", "localhost")
    ]
    assert [one.in_the_clear for one in found] == [True, False]


def test_a_visibility_that_no_queue_has_is_refused() -> None:
    """From a second to twelve hours."""

    async def test() -> None:
        for seconds in (0, int(MOST) + 1):
            with pytest.raises(ConfigError, match="from 1s to 12h"):
                SqsSource(SqsSettings(queue_url="https://h/q", visibility=seconds), at_once)
        source = SqsSource(SqsSettings(queue_url="https://h/1/q.fifo"), at_once)
        assert (source.name, source.ready, source.lag) == ("q.fifo", False, None)
        assert source.tombstones == 0
        await source.aclose()

    worked(test)


def test_the_line_of_a_message_is_that_of_messages_everywhere() -> None:
    """Half a character is no JSON, and no reason to stop."""

    async def test() -> None:
        queue = FakeQueue()
        queue.send('{"event": {}}\n', '{"x": "\ud800"}')
        one = Worked(queue, line=Messages(mapping={"unwrap": "sns"}).line)
        await asyncio.sleep(1)
        assert [row.code for block in one.blocks for row in block.unfit] == ["not-json"]
        await one.end()

    worked(test)
