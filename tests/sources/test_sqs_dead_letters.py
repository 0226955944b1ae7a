"""Letters to a queue that fails: nothing is lost, nothing is told too early, and it is said."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import dumps, loads
from ingest.errors import InputError, LocalFailure
from ingest.sources import sqs_letters
from ingest.sources.sqs_client import TEN, Queue
from ingest.sources.sqs_letters import AGAIN_SECONDS, MOST_BYTES, MOST_SECONDS, SqsDeadLetters
from tests.sources.sqs_queue import FakeQueue
from tests.sources.test_sqs import Worked, names
from tests.virtual_clock import run

exceptions: Any = pytest.importorskip(
    "botocore.exceptions", reason="the extra 'sqs' is not installed"
)

URL: Final = "https://sqs.eu-west-1.amazonaws.com/1/letters"
HOUR: Final = 3600.0

Fate = Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]]
"""From the entries of a request to its answer, or to an error."""


class Client:
    """What the SDK makes: it takes entries, but for requests that have a fate of their own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.fates: list[Fate] = []
        self.taken: list[bytes] = []
        self.sizes: list[int] = []
        self.entries: list[Mapping[str, Any]] = []
        self.meta = self
        self.endpoint_url = "https://q.example.test"

    async def send_message_batch(self, **told: Any) -> Mapping[str, Any]:
        """Answer a request as SQS does."""
        entries = told["Entries"]
        assert told["QueueUrl"] == self._url
        assert len(entries) <= TEN
        self.sizes.append(sum(len(one["MessageBody"].encode()) for one in entries))
        self.entries.extend(entries)
        await asyncio.sleep(0.01)
        return (self.fates.pop(0) if self.fates else self.all_taken)(entries)

    def all_taken(self, entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Take all."""
        return self.some_taken(range(len(entries)))(entries)

    def some_taken(self, places: Sequence[int], code: str = "InternalError") -> Fate:
        """Take those at some places of a request; the others fail."""

        def fate(entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
            self.taken += [one["MessageBody"].encode() for one in entries if at(one) in places]
            failed = [{"Id": one["Id"], "Code": code, "SenderFault": False} for one in entries]
            return {
                "Successful": [{"Id": one["Id"]} for one in entries if at(one) in places],
                "Failed": [one for one in failed if int(one["Id"]) not in places],
            }

        return fate


def at(entry: Mapping[str, Any]) -> int:
    """Return the place of an entry in its request."""
    return int(entry["Id"])


def down(entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Do not answer."""
    raise exceptions.EndpointConnectionError(endpoint_url=URL)


def answered(code: str) -> Fate:
    """Answer the whole of a request by an error."""

    def fate(entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        raise exceptions.ClientError({"Error": {"Code": code}}, "SendMessageBatch")

    return fate


class Scene:
    """Letters, the client that they go to, and what was said; to be opened."""

    def __init__(self, url: str = URL, **attributes: str) -> None:
        self.client = client = Client(url)
        self.said: list[str] = []

        class Connected(Queue):
            async def open(self) -> dict[str, str]:
                self._client = client
                return attributes

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sqs_letters, "Queue", Connected)
            self.letters = SqsDeadLetters(url, say=self.said.append)
            run(self.letters.open())

    def written(self, *letters: bytes) -> None:
        """Write letters, and bring them to safety."""
        self.letters.write([one + b"\n" for one in letters])
        run(self.letters.flush())


def letter(number: int, size: int = 0) -> bytes:
    """A letter like no other."""
    return dumps({"code": "c", "n": number, "record": {"p": "x" * size}})


def test_of_a_request_that_failed_in_part_only_that_part_is_sent_again() -> None:
    """Each letter is there once, and those that failed go before those behind them."""
    scene = Scene()
    letters = [letter(number) for number in range(25)]
    scene.client.fates = [scene.client.some_taken([0, 1, 2, 4, 5, 6, 8, 9], "Throttled")]
    scene.written(*letters)
    assert Counter(scene.client.taken) == Counter(letters)
    assert scene.client.taken[8:10] == [letters[3], letters[7]]
    assert scene.letters.waiting == 0
    (said,) = scene.said
    assert "The queue letters did not take 2 dead letters (Throttled)" in said


def test_a_letter_of_which_nothing_is_heard_is_sent_again() -> None:
    """An answer that has it neither among those taken nor among those refused says nothing."""
    scene = Scene()
    scene.client.fates = [lambda entries: {"Successful": [{"Id": "0"}]}]
    scene.written(letter(0), letter(1))
    assert scene.client.taken == [letter(1)]


def test_a_queue_that_is_away_is_waited_for() -> None:
    """For hours, asked less and less often, said now and then; then all is there."""
    scene = Scene()

    async def story() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        scene.letters.write([letter(number) for number in range(30)])
        flushing = asyncio.create_task(scene.letters.flush())
        scene.client.fates = [down] * 10_000
        await asyncio.sleep(HOUR)
        assert not flushing.done()
        assert scene.letters.waiting == 30
        asked = 10_000 - len(scene.client.fates)
        assert HOUR / MOST_SECONDS - 1 < asked < HOUR / MOST_SECONDS + 10
        scene.client.fates = [answered("ServiceUnavailable")]
        await flushing
        return loop.time() - began

    assert run(story()) < HOUR + 3 * MOST_SECONDS
    assert scene.client.taken == [letter(number) for number in range(30)]
    assert "cannot be reached" in scene.said[0]
    assert "Nothing is deleted until it takes dead letters again" in scene.said[0]


def test_after_an_answer_the_next_wait_is_short_again() -> None:
    """A queue that takes some letters is not one that is away."""
    scene = Scene()
    scene.client.fates = [down, down, down, scene.client.some_taken([0]), down]

    async def story() -> float:
        began = asyncio.get_running_loop().time()
        scene.letters.write([letter(0), letter(1)])
        await scene.letters.flush()
        return asyncio.get_running_loop().time() - began

    # Three waits, doubled; what was left goes at once; one more wait, of the first length.
    assert run(story()) == pytest.approx((1 + 2 + 4 + 1) * AGAIN_SECONDS, abs=0.1)


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken", "QueueDoesNotExist"])
def test_what_somebody_has_to_mend_is_told(code: str) -> None:
    """Waiting does not help; the letters are not safe, so their source is told nothing."""
    scene = Scene()
    scene.client.fates = [answered(code)]
    with pytest.raises(LocalFailure, match=r"Dead letters are not taken. .* letters"):
        scene.written(letter(0))
    assert scene.letters.waiting == 1


def test_a_letter_that_is_refused_for_itself_is_told_with_its_size() -> None:
    """The same answer would come for ever."""
    scene = Scene()
    refused = {"Id": "1", "Code": "InvalidParameterValue", "SenderFault": True}
    scene.client.fates = [lambda entries: {"Successful": [{"Id": "0"}], "Failed": [refused]}]
    with pytest.raises(LocalFailure, match=f"letter of {len(letter(1)):,} bytes is refused by"):
        scene.written(letter(0), letter(1))


def test_a_letter_that_is_too_long_goes_without_its_record() -> None:
    """It says how long it was; people are told once; the others go as they are."""
    scene = Scene(MaximumMessageSize="2048")
    raw = dumps({"code": "c", "raw": "y" * 3_000, "source": {"message_id": "m"}})
    scene.written(letter(0), letter(1, 4_000), raw, letter(2))
    first, cut, short, last = map(loads, scene.client.taken)
    assert (first, last) == (loads(letter(0)), loads(letter(2)))
    assert cut == {"code": "c", "n": 1, "left_out": len(letter(1, 4_000))}
    assert short == {"code": "c", "source": {"message_id": "m"}, "left_out": len(raw)}
    (said,) = scene.said
    assert "takes no letter of" in said
    assert "2,048" in said


def test_a_letter_that_is_too_long_without_its_record_is_told() -> None:
    """Then the queue is too small for any letter of that sort."""
    scene = Scene(MaximumMessageSize="1024")
    for long in ({"reason": "z" * 2_000}, {"reason": "z" * 2_000, "record": {}}):
        with pytest.raises(LocalFailure, match=r"longer than the queue letters takes \(1,024\)"):
            scene.written(dumps(long))
    assert not scene.client.taken


def test_a_request_is_never_longer_than_the_service_takes() -> None:
    """Long letters go in fewer than ten, whatever a queue says of one alone."""
    for attributes in ({}, {"MaximumMessageSize": "262144"}, {"MaximumMessageSize": "nonsense"}):
        scene = Scene(**attributes)
        scene.written(*(letter(number, 60_000) for number in range(9)))
        assert len(scene.client.taken) == 9
        assert max(scene.client.sizes) <= MOST_BYTES
        assert len(scene.client.sizes) == 3


def test_a_letter_that_is_sent_again_has_its_name_in_an_ordered_queue() -> None:
    """So that it is there once, if it was taken the first time and only the answer was lost."""
    scene = Scene(f"{URL}.fifo")
    scene.client.fates = [down]
    scene.written(letter(0), letter(1))
    first, other, again, _ = scene.client.entries
    assert first == again
    assert first["MessageGroupId"] == other["MessageGroupId"]
    assert first["MessageDeduplicationId"] != other["MessageDeduplicationId"]


def test_who_gives_up_waiting_loses_no_letter() -> None:
    """A flush that is cancelled leaves them to the next one."""
    scene = Scene()
    scene.client.fates = [scene.client.some_taken([0]), *[down] * 3]

    async def story() -> None:
        scene.letters.write([letter(number) for number in range(4)])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await scene.letters.flush()
        assert scene.letters.waiting == 3
        await scene.letters.flush()

    run(story())
    assert scene.client.taken == [letter(number) for number in range(4)]


def test_letters_that_come_while_others_are_on_their_way_are_the_next_flush_s() -> None:
    """A flush is over once those are safe that were there when it began."""
    scene = Scene()

    async def story() -> None:
        scene.letters.write([letter(0)])
        flushing = asyncio.create_task(scene.letters.flush())
        await asyncio.sleep(0)
        scene.letters.write([letter(1)])
        await flushing
        assert scene.letters.waiting == 1
        await scene.letters.flush()

    run(story())
    assert scene.client.taken == [letter(0), letter(1)]


def test_a_queue_that_is_not_there_is_told_before_anything_is_read() -> None:
    """Opening asks for it."""

    async def absent(queue: Queue) -> dict[str, str]:
        raise InputError("There is no queue letters at x.")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Queue, "open", absent)
        with pytest.raises(InputError, match="Dead letters cannot be written: There is no queue"):
            run(SqsDeadLetters(URL).open())


def test_a_queue_that_can_be_read_on_the_way_is_told() -> None:
    """Letters hold people's data."""
    url = "http://queues.example.test/1/letters"
    assert "by plain http" in Scene(url).said[0]
    assert Scene("http://127.0.0.1:1/1/letters").said == []


def test_nothing_is_deleted_while_letters_are_not_taken() -> None:
    """Of a source of SQS: bad messages, and the good ones settled with them, stay in the queue."""
    scene = Scene()

    async def story() -> None:
        queue = FakeQueue()
        queue.send(*names(20))
        one = Worked(queue, durable=scene.letters.flush)
        await asyncio.sleep(1)
        scene.client.fates = [down] * 1_000
        bad = [number for number, name in one.open.items() if int(name) % 4 == 0]
        scene.letters.write([letter(number) for number in bad])
        one.settle(bad=bad)
        await asyncio.sleep(HOUR)
        assert queue.deleted == []
        assert queue.visible == []
        scene.client.fates = []
        await asyncio.sleep(2 * MOST_SECONDS)
        assert len(queue.deleted) == 20
        await one.end()

    run(story())
    assert len(scene.client.taken) == 5


@given(
    st.lists(st.integers(0, 30_000), min_size=1, max_size=40),
    st.lists(st.none() | st.sets(st.integers(0, 9)), max_size=12),
)
def test_whatever_a_queue_takes_of_a_request_each_letter_is_there_once(
    sizes: list[int], fates: list[set[int] | None]
) -> None:
    """In their order, but for those that failed alone; none is safe before it is taken."""
    scene = Scene()
    letters = [letter(number, size) for number, size in enumerate(sizes)]
    taken = scene.client.some_taken
    scene.client.fates = [down if some is None else taken(sorted(some)) for some in fates]
    scene.written(*letters)
    assert Counter(scene.client.taken) == Counter(letters)
    assert max(scene.client.sizes) <= MOST_BYTES
    assert scene.letters.waiting == 0
