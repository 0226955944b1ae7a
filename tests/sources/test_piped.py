"""A pipe as a live source: lines as they come, and a stop that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.errors import InputError
from ingest.sources.base import Block
from ingest.sources.piped import PipeSession, PipeSource

PATIENCE = 10.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe: to read from, and to write to."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


async def opened(source: PipeSource) -> PipeSession:
    """Open a source, and return its session."""
    assert not source.ready
    await source.open()
    assert source.ready
    async for session in source.sessions():
        return session
    raise AssertionError("no session")


@pytest.mark.asyncio
async def test_lines_come_as_they_are_written(pipe: tuple[int, int]) -> None:
    """None waits for the end, and the end of the pipe is that of the session."""
    read, write = pipe
    source = PipeSource(read, "a pipe")
    session = await opened(source)
    blocks = session.blocks()
    async with asyncio.timeout(PATIENCE):
        os.write(write, b"one\ntwo\nthr")
        first = await anext(blocks)
        os.write(write, b"ee\n")
        second = await anext(blocks)
        os.close(write)
        assert await anext(blocks, None) is None
    assert (first.data, list(first.numbers())) == (b"one\ntwo\n", [1, 2])
    assert (second.data, list(second.numbers())) == (b"three\n", [3])
    assert source.lag is None
    await source.aclose()


@pytest.mark.asyncio
async def test_a_stop_hands_over_what_was_read(pipe: tuple[int, int]) -> None:
    """Also a line without its end; nothing is read after it, and there is no other session."""
    read, write = pipe
    source = PipeSource(read)
    session = await opened(source)
    blocks = session.blocks()
    async with asyncio.timeout(PATIENCE):
        os.write(write, b"one\ntw")
        found = [await anext(blocks)]
        source.stop()
        found += [block async for block in blocks]
        os.write(write, b"o\n")
    assert b"".join(block.data for block in found) == b"one\ntw"
    assert not source.ready
    assert [one async for one in source.sessions()] == []
    await session.end()
    source.stop()


@pytest.mark.asyncio
async def test_nobody_takes_a_pipe_away(pipe: tuple[int, int]) -> None:
    """The session is over when it ends, and not before."""
    session = await opened(PipeSource(pipe[0]))
    revoked = asyncio.create_task(session.revoked())
    await asyncio.sleep(0)
    assert not revoked.done()
    session.settled(0, [1], ())
    await session.end()
    await revoked
    assert session.place(0, 7) == "stdin:7"
    assert session.whence(0, 7) == {"name": "stdin", "line": 7}


@pytest.mark.asyncio
async def test_a_closed_pipe_is_told(pipe: tuple[int, int]) -> None:
    """A service without stdin would otherwise end at once, without a word."""
    os.close(pipe[0])
    with pytest.raises(InputError, match="stdin is closed"):
        await PipeSource(pipe[0]).open()


@pytest.mark.asyncio
async def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A directory, for one."""
    fd = os.open(tmp_path, os.O_RDONLY)
    session = await opened(PipeSource(fd))
    found: list[Block] = []
    with pytest.raises(InputError, match="stdin cannot be read on"):
        found.extend([block async for block in session.blocks()])
    os.close(fd)
