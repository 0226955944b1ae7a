"""Blocks of another process, without a thread: all, in order, and no wait without an end."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import aclosing
from pathlib import Path

import pytest

from ingest.columns import Options
from ingest.errors import InputError, LocalFailure
from ingest.intake import Intake, IntakeRules
from ingest.sources import arriving as module
from ingest.sources.apart import Apart
from ingest.sources.arriving import arriving
from ingest.sources.base import Block
from ingest.sources.mixed import MixedSource
from ingest.sources.planning import TableColumns

LIMIT = 60.0
"""Seconds after which a test that hangs fails; none should take one."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Lines of more blocks than a pipe holds, one of which holds a line of more than that."""
    path = tmp_path / "a.ndjson"
    line = '{"attributes":{"external_id":"u%d","note":"%s"}}\n'
    path.write_text(
        "".join(line % (n, "x" * (1_500_000 if n == 9_000 else 100)) for n in range(20_000))
    )
    return path


@pytest.fixture
def broken(path: Path) -> Path:
    """The same, compressed, without its end."""
    broken = path.with_suffix(".ndjson.gz")
    broken.write_bytes(gzip.compress(path.read_bytes())[:-2_000])
    return broken


def read_apart(path: Path) -> Apart:
    """Begin to read lines in another process, which proves them."""
    columns = TableColumns(Options())
    reading = Apart(MixedSource([str(path)], columns), columns)
    reading.prover = Intake(IntakeRules(largest=2_000_000)).prover
    return reading


async def arrived(reading: Apart) -> list[Block]:
    """Return all blocks."""
    async with asyncio.timeout(LIMIT):
        return [block async for block in arriving(reading)]


@pytest.fixture(params=[True, False])
def waits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a loop can wait for a pipe."""
    found: bool = request.param
    monkeypatch.setattr(module, "WAITS_FOR_PIPES", found)
    return found


@pytest.mark.asyncio
async def test_all_blocks_arrive_in_order(path: Path, waits: bool) -> None:
    """They are those that whoever blocks gets, lines longer than a pipe too."""
    with read_apart(path) as reading:
        blocks = await arrived(reading)
        assert reading._out.closed
    with read_apart(path) as reading:
        assert blocks == list(reading.blocks())
    assert [n for block in blocks for n in block.numbers()] == list(range(1, 20_001))


@pytest.mark.asyncio
async def test_an_error_comes_after_the_blocks_before_it(broken: Path, waits: bool) -> None:
    """What was read of a file that is cut off is good."""
    numbers: list[int] = []

    async def read(reading: Apart) -> None:
        async for block in arriving(reading):
            numbers.extend(block.numbers())

    with read_apart(broken) as reading, pytest.raises(InputError, match="is cut off"):
        await read(reading)
    assert numbers == list(range(1, numbers[-1] + 1))
    assert numbers[-1] < 20_000


@pytest.mark.asyncio
async def test_a_process_that_is_gone_is_told(path: Path, waits: bool) -> None:
    """Between two blocks, and while one is waited for."""
    with read_apart(path) as reading:
        async with aclosing(arriving(reading)) as blocks:
            await anext(blocks)
            reading._process.kill()
            with pytest.raises(LocalFailure, match=r"ended \(status -9\)"):
                [block async for block in blocks]
    with read_apart(path) as reading:
        waiting = asyncio.create_task(arrived(reading))
        await asyncio.sleep(0)
        reading._process.kill()
        with pytest.raises(LocalFailure, match=r"ended \(status -9\)"):
            await waiting


@pytest.mark.asyncio
async def test_whoever_waits_can_be_cancelled(path: Path) -> None:
    """The pipe is closed then, and the loop does not look at it any more."""
    with read_apart(path) as reading:
        fd = reading.fileno()
        waiting = asyncio.create_task(arrived(reading))
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert reading._out.closed
        assert not asyncio.get_running_loop().remove_reader(fd)


@pytest.mark.asyncio
async def test_a_reader_that_stops_early_ends_the_process(path: Path) -> None:
    """It finds nobody who takes its blocks."""
    with read_apart(path) as reading:
        async with aclosing(arriving(reading)) as blocks:
            assert (await anext(blocks)).first_line == 1
        assert reading._process.wait(timeout=LIMIT) == 0
