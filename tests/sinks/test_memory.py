"""The fake that users test with: it accepts, counts, and says what it is told to."""

from __future__ import annotations

import asyncio

import pytest

from ingest.outcomes import Delivered, ItemError, Outcome, Throttled, Unanswered
from ingest.records import EMPTY_COLUMN, Batch, Column
from ingest.sinks.base import Answer
from ingest.sinks.memory import MemorySink
from tests.virtual_clock import run


def batch(*users: str, id: int = 1) -> Batch:
    """Make a batch of one attributes record and one event per user."""
    rows = range(len(users))
    return Batch(
        id,
        id,
        (
            Column.of([f'{{"a":"{user}"}}'.encode() for user in users], users, rows, rows),
            Column.of([f'{{"e":"{user}"}}'.encode() for user in users], users, rows, rows),
            EMPTY_COLUMN,
        ),
    )


@pytest.mark.asyncio
async def test_everything_is_delivered() -> None:
    """Without a script every record is kept, by slot and in order."""
    sink = MemorySink()
    answer = await sink.deliver(batch("u", "v"))
    assert answer == Answer(Delivered(201), status=201)
    assert sink.delivered == [[b'{"a":"u"}', b'{"a":"v"}'], [b'{"e":"u"}', b'{"e":"v"}'], []]
    await sink.aclose()
    assert sink.closed


@pytest.mark.asyncio
async def test_what_was_refused_is_not_kept() -> None:
    """Rejected records of a delivered batch stay out, and so does all of any other batch."""
    partly = Delivered(201, (ItemError(0, 1, "x", "x"),))
    unanswered = Answer(Unanswered(None, "reset"), request_id="r")
    script: list[Outcome | Answer] = [partly, Throttled(429), unanswered]
    sink = MemorySink(lambda batch: script.pop(0))
    answers = [await sink.deliver(batch("u", "v")) for _ in range(3)]
    assert answers == [
        Answer(partly, status=201),
        Answer(Throttled(429), status=429),
        unanswered,
    ]
    assert sink.delivered == [[b'{"a":"u"}'], [b'{"e":"u"}', b'{"e":"v"}'], []]
    assert sink.requests == 3


def test_what_is_in_flight_together_is_counted() -> None:
    """Two requests of one user overlap; two of different users are merely in flight together."""

    async def main() -> MemorySink:
        sink = MemorySink(latency=60.0)
        await asyncio.gather(*(sink.deliver(batch(user)) for user in ("u", "v", "u", "w")))
        await sink.deliver(batch("u"))
        return sink

    sink = run(main())
    assert (sink.max_in_flight, sink.same_user_overlaps, sink.in_flight) == (4, 1, 0)


@pytest.mark.asyncio
async def test_a_script_that_raises() -> None:
    """An error is the caller's, and nothing is in flight afterwards."""

    def script(batch: Batch) -> Outcome:
        raise ZeroDivisionError

    sink = MemorySink(script)
    with pytest.raises(ZeroDivisionError):
        await sink.deliver(batch("u"))
    assert sink.in_flight == 0
    with pytest.raises(ZeroDivisionError):
        await sink.deliver(batch("u"))
    assert sink.same_user_overlaps == 0
