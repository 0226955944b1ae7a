"""A driver over a spool with a journal: what was settled is not sent again, whatever ends it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.outcomes import Delivered, Outcome, Unavailable
from ingest.pipeline import DriverSettings
from ingest.records import Batch
from ingest.segments import SpoolRules
from ingest.sinks.base import Answer
from ingest.sources.base import Start
from ingest.sources.spooled import SpoolSource
from ingest.state.journal import Journal
from ingest.state.spool import Spool
from tests.driving import Driven, Setup, assembled, attributes
from tests.state.journals import begun, identity

RULES = SpoolRules(spool_bytes=40_000, segment_bytes=2_000)
RECORDS = 300
PATIENCE = 30.0

Stops = Callable[[Driven], bool]


async def life(
    directory: Path,
    fresh: list[bytes],
    script: Callable[[Batch, float], Outcome | Answer],
    until: Stops,
    *,
    crash: bool,
) -> tuple[Driven, list[int]]:
    """One process over a spool: accept lines, deliver until something is so, then stop or crash.

    Returns the run and the segments that are left.
    """
    letters = directory / "letters.ndjson"
    setup = Setup(
        script=script, latency=0.0, letters=letters, settings=DriverSettings(linger=0.005)
    )
    with Journal(directory) as journal:
        spool = Spool(directory / "spool", RULES, power_safe=False)
        known = journal.find(identity())
        if known is None:
            known = begun(journal, directory)
        else:
            journal.reopen(known)
        driven = assembled(setup)
        file = driven.pipeline.ledger.dead_letters
        recording = journal.record(known, driven.pipeline.balance, file)
        source = SpoolSource(spool, "http")
        source.keep(recording)
        driven.pipeline.keep(recording)
        starts = {
            part: Start(place.offset, place.line, place.ordinal)
            for part, place in recording.settling.places.items()
        }
        source.start_at(starts)
        driven.pipeline.begin_at({part: start.ordinal for part, start in starts.items()})
        for at in range(0, len(fresh), 7):
            await spool.durable(spool.append(fresh[at : at + 7]))
        async with asyncio.timeout(PATIENCE):
            async for session in source.sessions():
                running = asyncio.create_task(driven.pipeline.run(session.blocks()))
                while not until(driven):  # noqa: ASYNC110  # nobody tells: the balance is looked at
                    await asyncio.sleep(0.001)
                if crash:
                    running.cancel()
                    await asyncio.gather(running, return_exceptions=True)
                source.stop()
                if not crash:
                    driven.state = await running
                    await recording.durable()
                await session.end()
        await recording.aclose()
        left = sorted(spool.sizes)
        await spool.aclose()
        return driven, left


@pytest.mark.asyncio
async def test_a_run_that_was_killed_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    """What was in flight goes again and is counted; what was settled does not."""
    lines = [attributes(f"u{number}", number) for number in range(RECORDS)]

    def taking(batch: Batch, now: float) -> Outcome:
        return Delivered(201)

    first, _ = await life(
        tmp_path,
        lines,
        taking,
        lambda run: run.pipeline.balance.count("delivered") >= 100,
        crash=True,
    )
    second, left = await life(
        tmp_path,
        [attributes("late", RECORDS)],
        taking,
        lambda run: run.pipeline.balance.count("delivered") == RECORDS + 1,
        crash=False,
    )
    counts = Counter(first.delivered() + second.delivered())
    assert set(counts) == set(range(RECORDS + 1))
    extra = counts.total() - (RECORDS + 1)
    assert extra <= second.pipeline.balance.maybe_duplicated
    assert second.columns == {"read": RECORDS + 1, "delivered": RECORDS + 1}
    assert len(left) == 1
    assert not (tmp_path / "letters.ndjson").exists()
    third, _ = await life(tmp_path, [], taking, lambda run: True, crash=False)
    assert third.delivered() == []
    assert third.columns == {"read": RECORDS + 1, "delivered": RECORDS + 1}


@pytest.mark.asyncio
async def test_a_destination_that_is_down_keeps_everything_in_the_spool(tmp_path: Path) -> None:
    """Nothing is deleted, and all of it goes out when it is back, in the order of each user."""
    lines = [attributes(f"u{number % 5}", number) for number in range(RECORDS)]
    refused: list[float] = []

    def refusing(batch: Batch, now: float) -> Outcome:
        refused.append(now)
        return Unavailable(503, "down")

    first, left = await life(tmp_path, lines, refusing, lambda run: len(refused) >= 3, crash=True)
    assert first.delivered() == []
    assert left == list(range(1, len(left) + 1))
    second, left = await life(
        tmp_path,
        [],
        lambda batch, now: Delivered(201),
        lambda run: run.pipeline.balance.count("delivered") == RECORDS,
        crash=False,
    )
    assert second.delivered() == list(range(RECORDS))
    for numbers in second.arrivals.values():
        assert numbers == sorted(numbers)
    assert len(left) == 1
