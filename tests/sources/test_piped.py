"""A pipe as a live source: lines as they come, and a stop that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import InputError
from ingest.sources import piped
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


async def stopped_after(
    pipe: tuple[int, int], text: bytes, then: bytes = b"", *, close: bool = False
) -> list[Block]:
    """Write text, read a block of it, stop; write more, and return all blocks."""
    read, write = pipe
    source = PipeSource(read)
    session = await opened(source)
    blocks = session.blocks()
    async with asyncio.timeout(PATIENCE):
        os.write(write, text)
        found = [await anext(blocks)]
        source.stop()
        os.write(write, then)
        if close:
            os.close(write)
        found += [block async for block in blocks]
    assert not source.ready
    assert [one async for one in source.sessions()] == []
    await session.end()
    source.stop()
    return found


@pytest.mark.asyncio
async def test_a_stop_reads_the_line_that_is_open_to_its_end(pipe: tuple[int, int]) -> None:
    """And nothing behind it, which stays in the pipe."""
    found = await stopped_after(pipe, b"one\ntw", b"o\nthree\n")
    assert [block.data for block in found] == [b"one\n", b"two\n"]
    assert [list(block.numbers()) for block in found] == [[1], [2]]
    assert os.read(pipe[0], 100) == b"three\n"


@pytest.mark.asyncio
async def test_a_stop_between_two_lines_reads_nothing_more(pipe: tuple[int, int]) -> None:
    """There is nothing to wait for, and nothing is missing."""
    found = await stopped_after(pipe, b"one\ntwo\n", b"three\n")
    assert [block.data for block in found] == [b"one\ntwo\n"]
    assert os.read(pipe[0], 100) == b"three\n"


@pytest.mark.asyncio
async def test_a_line_whose_end_does_not_come_is_no_record(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much of it does: what there is makes an unfit row, with its number and a reason."""
    monkeypatch.setattr(piped, "REST_SECONDS", 0.05)
    first, last = await stopped_after(pipe, b'one\n{"event"', b": {}}")
    (row,) = last.unfit
    assert (first.data, last.data, last.following) == (b"one\n", b"", 3)
    assert (row.line, row.code, row.raw) == (2, "cut-off", b'{"event": {}}')
    assert "stopped in the middle of the line" in row.reason
    assert os.get_blocking(pipe[0])


@pytest.mark.asyncio
async def test_the_end_of_a_pipe_ends_its_last_line(pipe: tuple[int, int]) -> None:
    """Whether it was told to stop or not: whoever wrote it is done."""
    found = await stopped_after(pipe, b"one\ntw", b"o", close=True)
    assert [block.data for block in found] == [b"one\n", b"two"]


@pytest.mark.asyncio
async def test_blanks_without_an_end_are_no_line(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was cut off there."""
    monkeypatch.setattr(piped, "REST_SECONDS", 0.0)
    found = await stopped_after(pipe, b"one\n ")
    assert [block.unfit for block in found] == [(), ()]


@pytest.mark.asyncio
async def test_the_rest_of_a_line_that_is_too_long_is_not_read(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte more than may be held says that it is too long; it is no record in any case."""
    monkeypatch.setattr(piped, "MAX_LINE_BYTES", 10)
    first, last = await stopped_after(pipe, b"one\n" + b"x" * 8, b"y" * 8)
    assert first.data == b"one\n"
    assert [row.raw for row in last.unfit] == [b"x" * 8 + b"y" * 3]
    assert os.read(pipe[0], 100) == b"y" * 5


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=8), st.data())
def test_no_record_is_ever_a_part_of_a_line(texts: list[bytes], data: st.DataObject) -> None:
    """Wherever a stop falls: whole lines are handed over, in order, and one part at most."""
    lines = [text.replace(b"\n", b"-").hex().encode() for text in texts]
    whole = b"".join(line + b"\n" for line in lines)
    at = data.draw(st.integers(0, len(whole)))
    until = data.draw(st.integers(at, len(whole)))

    async def read() -> tuple[list[bytes], list[bytes]]:
        ends = os.pipe()
        source = PipeSource(ends[0])
        session = await opened(source)
        os.write(ends[1], whole[:at])
        blocks = aiter(session.blocks())
        found = [await anext(blocks)] if whole[:at].count(b"\n") else []
        source.stop()
        os.write(ends[1], whole[at:until])
        found += [block async for block in blocks]
        await source.aclose()
        for end in ends:
            os.close(end)
        parts = [row.raw for block in found for row in block.unfit]
        return [line for block in found for line in block.lines()], parts

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(piped, "REST_SECONDS", 0.001)
        taken, parts = asyncio.run(read())
    assert taken == lines[: len(taken)]
    assert len(parts) <= 1
    assert all(lines[len(taken)].startswith(part) for part in parts)


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
