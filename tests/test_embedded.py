"""The library: what `put` takes, refuses and waits for, and what becomes of what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ingest.acking import End
from ingest.codec import loads
from ingest.embedded import Pipeline
from ingest.errors import ConfigError, Halted, InvalidRecord, LocalFailure, QueueFull
from ingest.objects import Attributes, Event, Purchase
from ingest.observer import Answered, Observer
from ingest.outcomes import Delivered, ItemError, Outcome, Unauthorized, Unavailable
from ingest.records import EVENT, Batch
from ingest.sinks.base import Answer
from ingest.sinks.memory import MemorySink

PATIENCE = 20.0
"""Seconds after which a test that waits has failed."""

SOON = "1ms"


def event(user: str, number: int = 0) -> Event:
    """An event of a user, which says which one it is."""
    return Event(external_id=user, name="x", properties={"n": number})


def accounted(pipeline: Pipeline) -> dict[str, int]:
    """The columns that are not empty, after a look at law 1."""
    columns = pipeline.balance.columns()
    assert columns["read"] == sum(columns.values()) - columns["read"]
    return {name: count for name, count in columns.items() if count}


def down(batch: Batch) -> Outcome:
    """Be down."""
    return Unavailable(503, "down")


async def fill(pipeline: Pipeline, *, pause: float = 0.0) -> None:
    """Put until that raises."""
    for number in range(10_000):
        await pipeline.put(event(f"u{number}"), timeout=0.05)
        await asyncio.sleep(pause)


class Stuck:
    """A destination that answers when it is let go."""

    def __init__(self) -> None:
        self.up = False

    def __call__(self, batch: Batch) -> Outcome:
        return Delivered(201) if self.up else Unavailable(503, "down")


@pytest.mark.asyncio
async def test_what_is_put_is_delivered() -> None:
    """Typed or a mapping, of any kind, by the end of the block, and accounted for."""
    sink = MemorySink()
    async with asyncio.timeout(PATIENCE), Pipeline(sink) as pipeline:
        await pipeline.put(event("u1"))
        await pipeline.put(Attributes(external_id="u1", values={"plan": "pro"}))
        bought = {"external_id": "u2", "product_id": "p", "currency": "EUR", "price": 1}
        await pipeline.put({"purchase": {**bought, "time": "2026-11-22"}})
        pipeline.put_nowait(Purchase(external_id="u3", product_id="p", currency="EUR", price=2))
    assert accounted(pipeline) == {"read": 4, "delivered": 4}
    assert [len(slot) for slot in sink.delivered] == [1, 1, 2]
    assert sink.closed


@pytest.mark.asyncio
async def test_a_record_that_nobody_would_take_is_refused_where_it_is_put() -> None:
    """It is counted, and nobody else is told: whoever put it has it."""
    letters: list[Mapping[str, Any]] = []
    sink = MemorySink()
    async with asyncio.timeout(PATIENCE), Pipeline(sink, on_dead_letter=letters.append) as pipeline:
        with pytest.raises(InvalidRecord) as caught:
            await pipeline.put({"event": {"name": "x", "time": "2026-01-01"}})
        assert caught.value.code == "missing-identity"
        both = {"events": [{"name": "x"}], "attributes": [{"external_id": "u", "k": 1}]}
        with pytest.raises(InvalidRecord):
            pipeline.put_nowait(both)
    assert accounted(pipeline) == {"read": 2, "invalid": 2}
    assert (letters, sink.requests) == ([], 0)


@pytest.mark.asyncio
async def test_who_waits_for_a_verdict_gets_it() -> None:
    """Delivered, refused here, or refused there: a value, never an exception."""
    letters: list[Mapping[str, Any]] = []

    def picky(batch: Batch) -> Outcome:
        errors = (ItemError(EVENT, 0, "bad-name", "no such event"),)
        return Delivered(201, errors if b"bad" in batch.columns[EVENT].data else ())

    async with (
        asyncio.timeout(PATIENCE),
        Pipeline(MemorySink(picky), linger=SOON, on_dead_letter=letters.append) as pipeline,
    ):
        good = await pipeline.put_and_wait(event("u1"))
        here = await pipeline.put_and_wait({"event": {"name": "x"}})
        there = await pipeline.put_and_wait(Event(external_id="u2", name="bad"))
    assert (good.column, here.column, there.column) == ("delivered", "invalid", "rejected")
    assert (here.code, there.code) == ("missing-identity", "bad-name")
    assert [letter["record"]["name"] for letter in letters] == ["bad"]
    assert accounted(pipeline) == {"read": 3, "delivered": 1, "invalid": 1, "rejected": 1}


@pytest.mark.asyncio
async def test_flush_waits_for_what_was_put_before() -> None:
    """Without waiting for the linger, and not for what is put after it."""
    async with asyncio.timeout(PATIENCE), Pipeline(MemorySink(), linger="1h") as pipeline:
        assert await pipeline.put_many(event(f"u{n}") for n in range(200)) == 200
        await pipeline.flush()
        assert accounted(pipeline) == {"read": 200, "delivered": 200}
        await pipeline.flush()
        await pipeline.put(event("late"))


@pytest.mark.asyncio
async def test_many_producers_keep_the_order_of_each_user() -> None:
    """Tasks put at once; a user's records arrive as that user's task put them."""
    sink = MemorySink(latency=0.001)

    async def produce(user: str) -> None:
        for number in range(40):
            await pipeline.put(event(user, number))
            if number % 7 == 0:
                await asyncio.sleep(0)

    async with asyncio.timeout(PATIENCE), Pipeline(sink, linger=SOON) as pipeline:
        await asyncio.gather(*(produce(f"u{user}") for user in range(20)))
    order: dict[str, list[int]] = {}
    for fragment in sink.delivered[EVENT]:
        found = loads(fragment)
        order.setdefault(found["external_id"], []).append(found["properties"]["n"])
    assert order == {f"u{user}": list(range(40)) for user in range(20)}
    assert sink.same_user_overlaps == 0


@pytest.mark.asyncio
async def test_a_full_queue_makes_put_wait_or_raise() -> None:
    """By choice; a wait ends in time, and what raises was not taken."""
    for raises in (False, True):
        stuck = Stuck()
        async with (
            asyncio.timeout(PATIENCE),
            Pipeline(
                MemorySink(stuck),
                memory="20KB",
                linger=SOON,
                when_full="raise" if raises else "wait",
            ) as pipeline,
        ):
            with pytest.raises(QueueFull):
                await fill(pipeline)
            with pytest.raises(QueueFull):
                pipeline.put_nowait(event("x"))
            taken = accounted(pipeline)["read"]
            stuck.up = True
        assert accounted(pipeline) == {"read": taken, "delivered": taken}


@pytest.mark.asyncio
async def test_a_put_that_is_cancelled_took_nothing() -> None:
    """While it waits for room, nothing of its record is anywhere."""
    stuck = Stuck()
    sink = MemorySink(stuck)
    async with asyncio.timeout(PATIENCE), Pipeline(sink, memory="20KB", linger=SOON) as pipeline:
        with pytest.raises(QueueFull):
            await fill(pipeline)
        taken = accounted(pipeline)["read"]
        waits = asyncio.create_task(pipeline.put(event("never")))
        await asyncio.sleep(0.01)
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        stuck.up = True
    assert accounted(pipeline)["delivered"] == taken
    assert not any(b"never" in fragment for fragment in sink.delivered[EVENT])


@pytest.mark.asyncio
async def test_a_destination_that_forbids_sending_raises_at_put() -> None:
    """What was put before is kept, and handed over in the end."""
    letters: list[Mapping[str, Any]] = []

    def forbids(batch: Batch) -> Outcome:
        return Unauthorized(401, "Invalid API key")

    pipeline = Pipeline(
        MemorySink(forbids), linger=SOON, drain_timeout="10ms", on_dead_letter=letters.append
    )
    async with asyncio.timeout(PATIENCE), pipeline:
        waits = asyncio.create_task(pipeline.put_and_wait(event("u1")))
        with pytest.raises(Halted):
            await fill(pipeline, pause=0.001)
        with pytest.raises(Halted):
            await pipeline.flush()
    assert (await waits).column == "pending"
    assert {letter["column"] for letter in letters} == {"pending"}
    assert len(letters) == accounted(pipeline)["pending"]


@pytest.mark.asyncio
@pytest.mark.parametrize("told", [True, False])
async def test_what_there_was_no_time_for_is_handed_over(
    told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Each record once, or a line in the log that says how many are lost."""
    letters: list[Mapping[str, Any]] = []
    take: Callable[[dict[str, Any]], None] | None = letters.append if told else None
    pipeline = Pipeline(MemorySink(down), linger=SOON, drain_timeout="20ms", on_dead_letter=take)
    async with asyncio.timeout(PATIENCE), pipeline:
        for number in range(100):
            await pipeline.put(event(f"u{number % 7}", number))
    assert accounted(pipeline) == {"read": 100, "pending": 100}
    if told:
        assert sorted(letter["record"]["properties"]["n"] for letter in letters) == [*range(100)]
    assert "100 records were not delivered" in caplog.text


class Silent(MemorySink):
    """A destination that takes requests and never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def deliver(self, batch: Batch) -> Answer:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.asyncio
async def test_what_got_no_answer_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 5: nobody may be told that it was not delivered; what waited behind it was not."""
    monkeypatch.setattr("ingest.embedded.LAST_ANSWERS", 0.01)
    letters: list[Mapping[str, Any]] = []
    options: dict[str, Any] = {"linger": SOON, "drain_timeout": "20ms"}
    async with asyncio.timeout(PATIENCE):
        sink = Silent()
        pipeline = Pipeline(sink, on_dead_letter=letters.append, **options)
        async with pipeline:
            first = asyncio.create_task(pipeline.put_and_wait(event("u1", 1)))
            await sink.asked.wait()
            behind = asyncio.create_task(pipeline.put_and_wait(event("u1", 2)))
            await asyncio.sleep(0.01)
        ends = [(end.column, end.code) for end in (await first, await behind)]
    assert ends == [("pending", "unanswered"), ("pending", "not-delivered")]
    assert [(one["record"]["properties"]["n"], one["code"]) for one in letters] == [
        (1, "unanswered"),
        (2, "not-delivered"),
    ]
    assert accounted(pipeline) == {"read": 2, "pending": 2}


@pytest.mark.asyncio
async def test_what_is_held_at_the_end_has_one_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop without an answer holds what must not be doubled: that is its one end."""
    monkeypatch.setattr("ingest.embedded.LAST_ANSWERS", 0.01)
    letters: list[Mapping[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        pipeline = Pipeline(
            Silent(),
            if_unanswered="hold",
            linger=SOON,
            drain_timeout="20ms",
            on_dead_letter=letters.append,
        )
        async with pipeline:
            await pipeline.put(Attributes(external_id="u1", values={"plan": "pro"}))
            held = await asyncio.gather(
                pipeline.put_and_wait(event("u2", 1)), pipeline.aclose(), return_exceptions=True
            )
    columns = [(letter["kind"], letter["column"], letter["code"]) for letter in letters]
    assert sorted(columns) == [
        ("attributes", "pending", "unanswered"),
        ("event", "held", "unanswered"),
    ]
    end = held[0]
    assert isinstance(end, End)
    assert (end.column, end.code) == ("held", "unanswered")
    assert accounted(pipeline) == {"read": 2, "held": 1, "pending": 1}


@pytest.mark.asyncio
async def test_a_letter_without_anybody_who_takes_it_is_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With its kind and code, and nothing of the record."""

    def refuses(batch: Batch) -> Outcome:
        return Delivered(201, (ItemError(EVENT, 0, "bad-name", "no"),))

    async with asyncio.timeout(PATIENCE), Pipeline(MemorySink(refuses)) as pipeline:
        await pipeline.put(event("somebody"))
    assert "rejected (bad-name)" in caplog.text
    assert "somebody" not in caplog.text


@pytest.mark.asyncio
async def test_only_a_running_pipeline_takes_records() -> None:
    """Before the start and after the end there is nobody to deliver them."""
    pipeline = Pipeline(MemorySink())
    with pytest.raises(RuntimeError, match="not running"):
        await pipeline.put(event("u"))
    await pipeline.aclose()
    await pipeline.start()
    with pytest.raises(RuntimeError, match="already"):
        await pipeline.start()
    await pipeline.aclose()
    await pipeline.aclose()
    with pytest.raises(RuntimeError, match="not running"):
        pipeline.put_nowait(event("u"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"when_full": "drop"},
        {"when_full": "spool"},
        {"memory": "lots"},
        {"limits": "many"},
        {"share": "120%"},
        {"linger": "soon"},
        {"spool_bytes": "x"},
        {"drain_timeout": "x"},
    ],
)
def test_a_choice_that_makes_no_sense_is_refused_at_once(wrong: dict[str, Any]) -> None:
    """Before anything is put."""
    with pytest.raises(ConfigError):
        Pipeline(MemorySink(), **wrong)


@pytest.mark.asyncio
async def test_an_observer_sees_every_request() -> None:
    """With its status, its time and its records: for metrics of one's own."""
    seen: list[Answered] = []

    class Counting(Observer):
        def answered(self, found: Answered) -> None:
            seen.append(found)

    sink = MemorySink()
    async with asyncio.timeout(PATIENCE), Pipeline(sink, observer=Counting()) as pipeline:
        await pipeline.put_many(event(f"u{n}") for n in range(300))
    assert (len(seen), sum(one.records for one in seen)) == (sink.requests, 300)
    assert all(one.seconds >= 0 for one in seen)


@pytest.mark.asyncio
async def test_a_loop_that_only_puts_is_bounded_and_lets_others_go_on() -> None:
    """However little it waits by itself: memory is bounded, and the rest of the service runs."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    stuck = Stuck()
    sink = MemorySink(stuck)
    async with asyncio.timeout(PATIENCE), Pipeline(sink, memory="100KB", linger=SOON) as pipeline:
        endless = (event(f"u{n}") for n in range(100_000))
        with pytest.raises(QueueFull):
            await pipeline.put_many(endless, timeout=0.1)
        assert pipeline.balance.count("read") < 2_000
        stuck.up = True
    beside.cancel()
    assert turns > 10


@pytest.mark.asyncio
async def test_nobody_waits_for_a_pipeline_that_has_ended(tmp_path: Path) -> None:
    """Whatever ended it: a flush raises, a verdict is that there is none, a put raises."""

    def broken(batch: Batch) -> Outcome:
        raise LocalFailure("the disk is full")

    pipeline = Pipeline(MemorySink(broken), linger=SOON, drain_timeout="10ms")
    async with asyncio.timeout(PATIENCE), pipeline:
        verdict = await pipeline.put_and_wait(event("u"))
        assert verdict.column == "pending"
        with pytest.raises(LocalFailure):
            await pipeline.flush()
        with pytest.raises(LocalFailure):
            await pipeline.put(event("u"))


# --- the spool --------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_spool_keeps_what_was_not_delivered_for_the_next_start(tmp_path: Path) -> None:
    """Nothing is lost and nothing comes twice, whoever was down in between."""
    async with (
        asyncio.timeout(PATIENCE),
        Pipeline(
            MemorySink(down), spool=tmp_path, when_full="spool", drain_timeout="10ms", linger=SOON
        ) as first,
    ):
        await first.put_many(event(f"u{n}", n) for n in range(50))
    assert accounted(first)["pending"] == accounted(first)["read"]
    sink = MemorySink()
    async with asyncio.timeout(PATIENCE), Pipeline(sink, spool=tmp_path, linger=SOON) as second:
        verdict = await second.put_and_wait(event("late", 50))
        await second.flush()
        assert verdict.column == "delivered"
    numbers = [loads(one)["properties"]["n"] for one in sink.delivered[EVENT]]
    assert sorted(numbers) == list(range(51))
    assert accounted(second) == {"read": 51, "delivered": 51}


@pytest.mark.asyncio
async def test_a_full_spool_raises_and_takes_nothing(tmp_path: Path) -> None:
    """The byte cap is the bound; a bad record is refused before it is kept."""
    pipeline = Pipeline(
        MemorySink(down),
        spool=tmp_path,
        spool_bytes="2KB",
        when_full="spool",
        drain_timeout="1ms",
    )
    async with asyncio.timeout(PATIENCE), pipeline:
        with pytest.raises(InvalidRecord):
            await pipeline.put({"event": {"name": "x"}})
        with pytest.raises(QueueFull, match="spool is full"):
            await pipeline.put_many(event(f"u{n}") for n in range(1_000))
        with pytest.raises(ConfigError, match="await put"):
            pipeline.put_nowait(event("u"))


@pytest.mark.asyncio
async def test_what_was_spooled_for_one_sink_goes_to_no_other(tmp_path: Path) -> None:
    """Another destination under the same directory is refused while records are left there."""
    left = Pipeline(MemorySink(down), spool=tmp_path, drain_timeout="1ms")
    async with asyncio.timeout(PATIENCE), left:
        await left.put(event("u"))
    other = MemorySink()
    other.name = "elsewhere"  # type: ignore[misc]  # another destination, for the test
    with pytest.raises(ConfigError, match="holds records for memory"):
        await Pipeline(other, spool=tmp_path, rate="1/1s").start()
