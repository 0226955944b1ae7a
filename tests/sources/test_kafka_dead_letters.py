"""Letters to a topic that fails: nothing is lost, nothing is told too early, and it is said."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import dumps, loads
from ingest.errors import InputError, LocalFailure
from ingest.sources import kafka_letters
from ingest.sources.kafka_letters import AGAIN_SECONDS, AT_ONCE, KafkaDeadLetters
from ingest.sources.kafka_talk import Heard
from ingest.watermarks import Commit
from tests.sources.test_kafka_session import EVERY, KEY, Far, messages, taken
from tests.virtual_clock import run

errors: Any = pytest.importorskip("aiokafka.errors", reason="the extra 'kafka' is not installed")

HOUR: Final = 3600.0
ROUND_TRIP: Final = 0.01


@pytest.fixture(autouse=True)
def _nobody_listens_afterwards() -> Iterator[None]:
    """Some of these letters are never closed; the log of the client is everybody's."""
    yield
    log = logging.getLogger("aiokafka")
    for one in [handler for handler in log.handlers if isinstance(handler, Heard)]:
        log.removeHandler(one)
    log.propagate = True


class Producer:
    """What aiokafka makes: it takes letters, but for those that have an error in store."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.fates: list[Exception | None] = []
        self.down = False
        self.under_way = 0
        self.most = 0
        self.longest: int | None = None
        self.refused: Exception | None = None
        self.stopped = False

    async def start(self) -> None:
        """Connect."""

    async def partitions_for(self, topic: str) -> set[int]:
        """Say how a topic is parted."""
        if self.refused is not None:
            raise self.refused
        return {0}

    async def send(self, topic: str, letter: bytes) -> asyncio.Future[None]:
        """Take a letter into a batch, or refuse it there."""
        if self.longest is not None and len(letter) > self.longest:
            raise errors.MessageSizeTooLargeError
        fate = self.fates.pop(0) if self.fates else None
        return asyncio.ensure_future(self._acknowledged(letter, fate))

    async def _acknowledged(self, letter: bytes, fate: Exception | None) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(ROUND_TRIP)
        self.under_way -= 1
        if self.down:
            raise errors.KafkaTimeoutError
        if fate is not None:
            raise fate
        self.taken.append(letter)

    async def stop(self) -> None:
        """Close."""
        self.stopped = True


class Scene:
    """Letters, the producer that they go to, and what was said; to be opened."""

    def __init__(self) -> None:
        self.producer = Producer()
        self.said: list[str] = []
        self.letters = KafkaDeadLetters("b:9092", "letters", {}, say=self.said.append)

    async def opened(self) -> Scene:
        """Open it."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(kafka_letters, "made", lambda *_, **__: self.producer)
            await self.letters.open()
        return self

    async def written(self, *letters: bytes) -> None:
        """Write letters, and bring them to safety."""
        self.letters.write([one + b"\n" for one in letters])
        await self.letters.flush()

    def told(self, *letters: bytes) -> Scene:
        """Open it, bring letters to safety, and close it."""

        async def story() -> None:
            await self.opened()
            try:
                await self.written(*letters)
            finally:
                await self.letters.aclose()

        run(story())
        return self


def letter(number: int, size: int = 0) -> bytes:
    """A letter like no other."""
    return dumps({"code": "c", "n": number, "record": {"p": "x" * size}})


def test_of_many_letters_only_those_that_failed_are_sent_again() -> None:
    """Each is there once; it is said that the broker took some not."""
    scene = Scene()
    fates: list[Exception | None] = [None] * 30
    fates[3], fates[9] = errors.NotLeaderForPartitionError(), errors.KafkaTimeoutError()
    scene.producer.fates = fates
    letters = [letter(number) for number in range(30)]
    scene.told(*letters)
    assert Counter(scene.producer.taken) == Counter(letters)
    assert set(scene.producer.taken[-2:]) == {letters[3], letters[9]}
    assert scene.letters.waiting == 0
    (said,) = scene.said
    assert "not taken by Kafka at b:9092 (KafkaTimeoutError)" in said
    assert "nothing is committed meanwhile" in said
    assert scene.producer.stopped


def test_few_letters_are_on_their_way_at_once() -> None:
    """However many wait: each is a task, and a place in a buffer."""
    scene = Scene().told(*(letter(number) for number in range(3 * AT_ONCE)))
    assert scene.producer.most == AT_ONCE
    assert len(scene.producer.taken) == 3 * AT_ONCE


def test_a_broker_that_is_away_is_waited_for() -> None:
    """For hours, now and then; it is said seldom, and in the end all is there."""

    async def story() -> None:
        scene = await Scene().opened()
        scene.producer.down = True
        scene.letters.write([letter(number) for number in range(3)])
        flushing = asyncio.create_task(scene.letters.flush())
        await asyncio.sleep(HOUR)
        assert not flushing.done()
        assert scene.letters.waiting == 3
        assert scene.producer.taken == []
        scene.producer.down = False
        await asyncio.sleep(2 * AGAIN_SECONDS)
        assert flushing.done()
        assert set(scene.producer.taken) == {letter(number) for number in range(3)}

    run(story())


@pytest.mark.parametrize("error", ["TopicAuthorizationFailedError", "InvalidTopicError"])
def test_a_topic_that_may_not_be_written_to_is_told(error: str) -> None:
    """Waiting does not help; the letters are not safe, so their source is told nothing."""
    scene = Scene()
    scene.producer.fates = [getattr(errors, error)()]
    with pytest.raises(LocalFailure, match=rf"refused by letters .*\({error}\).* allow this user"):
        scene.told(letter(0))
    assert scene.letters.waiting == 1


def test_what_is_no_answer_of_a_broker_is_not_swallowed() -> None:
    """A defect shows, and no letter counts as safe."""
    scene = Scene()
    scene.producer.fates = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        scene.told(letter(0))
    assert scene.letters.waiting == 1


def test_a_letter_that_is_too_long_goes_without_its_record() -> None:
    """It says how long it was; people are told once; the others go as they are, and at once."""
    scene = Scene()
    scene.producer.longest = 1_000
    raw = dumps({"code": "c", "raw": "y" * 3_000, "source": {"offset": 3}})
    scene.told(letter(0), letter(1, 4_000), raw, letter(2))
    first, second, *cut = map(loads, scene.producer.taken)
    assert sorted((first["n"], second["n"])) == [0, 2]
    assert {one["left_out"]: one for one in cut} == {
        len(letter(1, 4_000)): {"code": "c", "n": 1, "left_out": len(letter(1, 4_000))},
        len(raw): {"code": "c", "source": {"offset": 3}, "left_out": len(raw)},
    }
    (said,) = scene.said
    assert "max.message.bytes" in said


def test_a_letter_that_is_too_long_without_its_record_is_told() -> None:
    """Then the topic is too small for any letter of that sort."""
    scene = Scene()
    scene.producer.longest = 100
    with pytest.raises(LocalFailure, match=r"bytes is refused by letters .*max.message.bytes"):
        scene.told(dumps({"reason": "z" * 2_000, "record": {}}))
    assert scene.letters.waiting == 1


def test_who_gives_up_waiting_loses_no_letter() -> None:
    """A flush that is cancelled leaves them to the next one."""

    async def story() -> None:
        scene = await Scene().opened()
        scene.producer.down = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await scene.written(letter(0), letter(1))
        scene.producer.down = False
        await scene.letters.flush()
        assert set(scene.producer.taken) == {letter(0), letter(1)}

    run(story())


def test_a_topic_that_is_not_there_is_told_before_anything_is_read() -> None:
    """And the client is closed."""
    scene = Scene()
    scene.producer.refused = errors.UnknownTopicOrPartitionError()
    with pytest.raises(InputError, match="Dead letters cannot go to letters of Kafka at b:9092"):
        run(scene.opened())
    assert scene.producer.stopped


def test_nothing_is_committed_while_letters_are_not_taken() -> None:
    """Of a source of Kafka: bad messages, and the good ones settled with them, stay uncommitted."""

    async def story() -> None:
        scene, far = await Scene().opened(), Far()
        session = far.session(durable=scene.letters.flush)
        await session.take(KEY, messages(0, 1, 2))
        await taken(session, 1)
        scene.producer.down = True
        scene.letters.write([letter(1)])
        session.settled(0, [0, 1, 2], {1})
        await asyncio.sleep(HOUR)
        assert far.commits == []
        scene.producer.down = False
        await asyncio.sleep(2 * AGAIN_SECONDS + EVERY)
        assert scene.producer.taken == [letter(1)]
        assert far.commits == [{KEY: Commit(3)}]
        await session.end()

    run(story())


@given(st.integers(1, 40), st.lists(st.booleans(), max_size=60))
def test_whatever_a_broker_takes_each_letter_is_there_once(count: int, fates: list[bool]) -> None:
    """None is safe before it is acknowledged, and none is left."""
    scene = Scene()
    scene.producer.fates = [None if fate else errors.KafkaTimeoutError() for fate in fates]
    letters = [letter(number) for number in range(count)]
    scene.told(*letters)
    assert Counter(scene.producer.taken) == Counter(letters)
    assert scene.letters.waiting == 0
