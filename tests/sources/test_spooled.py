"""A spool is read as it grows, goes on where the journal says, and is given back when settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingest.balance import Balance
from ingest.records import position
from ingest.segments import SpoolRules
from ingest.sources import spooled
from ingest.sources.base import Block, Start
from ingest.sources.live import LiveSource, Session
from ingest.sources.spooled import SpoolSession, SpoolSource
from ingest.state.groups import Place
from ingest.state.journal import Journal
from ingest.state.recording import Recording
from ingest.state.spool import Spool
from tests.state.journals import begun, identity, letters_in

RULES = SpoolRules(spool_bytes=4_000, segment_bytes=40)
PATIENCE = 20.0


class Kept:
    """A spool with a journal, as a worker has them."""

    def __init__(self, spool: Spool, journal: Journal, recording: Recording) -> None:
        self.spool = spool
        self.journal = journal
        self.recording = recording
        self.source = SpoolSource(spool, "http")
        self.source.keep(recording)

    async def put(self, *lines: bytes, note: bytes = b"") -> None:
        """Append lines, durably."""
        await self.spool.durable(self.spool.append(lines, note))

    def take(self, block: Block, ordinals: dict[int, int]) -> list[int]:
        """Count what a block holds as read, as a driver does; return the positions."""
        part = block.part
        first = ordinals.get(part, 0)
        records = [line for line in block.lines() if line]
        ordinals[part] = first + len(records)
        self.recording.take_in(part, ordinals[part])
        place = Place(ordinals[part], block.following, block.end_offset)
        self.recording.begins(part, place)
        return [position(part, first + at) for at in range(len(records))]


@asynccontextmanager
async def kept(directory: Path) -> AsyncIterator[Kept]:
    """Open both, as a start does."""
    with Journal(directory) as journal:
        spool = Spool(directory / "spool", RULES, power_safe=False)
        run = journal.find(identity())
        if run is None:
            run = begun(journal, directory)
        else:
            journal.reopen(run)
        async with (
            asyncio.timeout(PATIENCE),
            journal.record(run, Balance(), letters_in(directory)) as recording,
        ):
            yield Kept(spool, journal, recording)
        await spool.aclose()


async def session_of(source: SpoolSource) -> SpoolSession:
    """The session that there is."""
    async for session in source.sessions():
        return session
    raise AssertionError("no session")


async def read(blocks: AsyncIterator[Block], lines: int) -> list[Block]:
    """Blocks, until they have so many lines."""
    found: list[Block] = []
    while sum(len([line for line in block.lines() if line]) for block in found) < lines:
        found.append(await anext(blocks))
    return found


@pytest.mark.asyncio
async def test_it_is_a_live_source(tmp_path: Path) -> None:
    """By the seam that all of them share."""
    async with kept(tmp_path) as it:
        source: LiveSource = it.source
        session: Session = await session_of(it.source)
        assert (source.name, source.ready, source.lag) == ("http", True, 0)
        assert session.place(3, 7) == "http[3]:7"
        assert session.whence(3, 7) == {"name": "http", "part": 3, "line": 7}
        session.settled(3, [7], ())
        await session.end()
        await session.revoked()
        await source.aclose()


@pytest.mark.asyncio
async def test_lines_are_handed_over_as_they_come(tmp_path: Path) -> None:
    """With their numbers and the bytes before the next, through segments and notes."""
    async with kept(tmp_path) as it:
        session = await session_of(it.source)
        blocks = session.blocks()
        await it.put(b"a" * 20)
        (first,) = await read(blocks, 1)
        assert (first.part, first.first_line, first.end_offset) == (1, 1, 21)
        waits = asyncio.create_task(read(blocks, 2))
        await it.put(b"b" * 20, note=b"n")
        await it.put(b"c" * 5)
        rest = await waits  # in one block or two
        assert {block.part for block in rest} == {2}
        numbered = [
            pair for block in rest for pair in zip(block.numbers(), block.lines(), strict=True)
        ]
        assert numbered == [(1, b""), (2, b"b" * 20), (3, b"c" * 5)]
        assert rest[-1].end_offset == it.spool.end(2)
        assert it.source.lag == 0
        await it.put(b"d")
        assert it.source.lag == 1
        session.stop()
        assert [block async for block in blocks] == []
        await session.end()


@pytest.mark.asyncio
async def test_what_is_settled_is_deleted_once_that_is_durable(tmp_path: Path) -> None:
    """First the file goes, then the rows: a crash in between sends nothing again."""
    async with kept(tmp_path) as it:
        for number in range(5):
            await it.put(b"%d" % number * 18)
        assert list(it.spool.sizes) == [1, 2, 3]
        blocks = (session := await session_of(it.source)).blocks()
        ordinals: dict[int, int] = {}
        positions = [at for block in await read(blocks, 5) for at in it.take(block, ordinals)]
        it.recording.settle(positions[1:])
        await it.recording.durable()
        assert await it.source.sweep() == 1  # the second: the first has one open, the third grows
        assert list(it.spool.sizes) == [1, 3]
        it.recording.settle(positions[:1])
        await it.recording.durable()
        assert await it.source.sweep() == 1
        assert list(it.spool.sizes) == [3]
        assert list(it.recording.settling.taken) == [3]
        await session.end()


@pytest.mark.asyncio
async def test_after_a_crash_it_goes_on_where_all_is_settled(tmp_path: Path) -> None:
    """By the places in the journal; what is after them is read again, and let go by positions."""
    async with kept(tmp_path) as it:
        for number in range(4):
            await it.put(b"%d" % number * 7)
        session = await session_of(it.source)
        ordinals: dict[int, int] = {}
        (block,) = await read(session.blocks(), 4)
        positions = it.take(block, ordinals)
        it.recording.settle(positions)
        await it.put(b"last")
    async with kept(tmp_path) as it:
        places = it.recording.settling.places
        assert places == {1: Place(4, 5, 32)}
        it.source.start_at({part: Start(p.offset, p.line, p.ordinal) for part, p in places.items()})
        session = await session_of(it.source)
        assert it.source.lag == 1
        (block,) = await read(session.blocks(), 1)
        assert (block.data, block.first_line) == (b"last\n", 5)
        await session.end()


@pytest.mark.asyncio
async def test_rows_of_a_segment_that_is_gone_are_let_go(tmp_path: Path) -> None:
    """The process died between the file and the rows."""
    async with kept(tmp_path) as it:
        await it.put(b"a" * 38)
        await it.put(b"b")
        session = await session_of(it.source)
        ordinals: dict[int, int] = {}
        for block in await read(session.blocks(), 2):
            it.recording.settle(it.take(block, ordinals))
        await it.recording.durable()
        await it.spool.discard(1)
    async with kept(tmp_path) as it:
        assert list(it.recording.settling.taken) == [2]
        assert list(it.recording.settling.settled) == [(position(2, 0), position(2, 1))]


@pytest.mark.asyncio
async def test_a_segment_waits_for_whoever_keeps_something_of_it(tmp_path: Path) -> None:
    """The keys of requests are written down before their notes go."""
    seen: list[list[int]] = []
    async with kept(tmp_path) as it:

        async def noted() -> None:
            seen.append(list(it.spool.sizes))

        it.source = SpoolSource(it.spool, "http", before=[noted])
        assert await it.source.sweep() == 0  # without a journal nothing is known to be settled
        it.source.keep(it.recording)
        await it.put(b"a" * 38)
        await it.put(b"b")
        session = await session_of(it.source)
        for block in await read(session.blocks(), 2):
            it.recording.settle(it.take(block, {}))
        await it.recording.durable()
        await session.end()
        assert seen == [[1, 2]]
        assert list(it.spool.sizes) == [2]


@pytest.mark.asyncio
async def test_what_was_delivered_long_ago_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest segment ends too when nothing has come for a while and all of it is settled."""
    monkeypatch.setattr(spooled, "IDLE_SWEEPS", 2)
    async with kept(tmp_path) as it:
        await it.put(b"a")
        session = await session_of(it.source)
        for block in await read(session.blocks(), 1):
            positions = it.take(block, {})
        for _ in range(5):
            assert await it.source.sweep() == 0
        it.recording.settle(positions)
        await it.recording.durable()
        assert await it.source.sweep() == 1
        assert it.spool.sizes == {2: 0}
        for _ in range(5):
            assert await it.source.sweep() == 0
        await session.end()


@pytest.mark.asyncio
async def test_it_is_swept_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to ask for it."""
    monkeypatch.setattr(spooled, "SWEEP_EVERY", 0.0)
    async with kept(tmp_path) as it:
        await it.put(b"a" * 38)
        await it.put(b"b")
        session = await session_of(it.source)
        blocks = session.blocks()
        ordinals: dict[int, int] = {}
        for block in await read(blocks, 2):
            it.recording.settle(it.take(block, ordinals))
        await it.recording.durable()
        await until(lambda: 1 not in it.spool.sizes)
        await session.end()


async def until(condition: Callable[[], bool]) -> None:
    """Return when something is so; the test has an end of its own."""
    while not condition():  # noqa: ASYNC110  # nobody tells: it is what the test looks at
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_session_follows_another_until_it_is_stopped(tmp_path: Path) -> None:
    """A driver that was given up leaves the spool to the next one."""
    async with kept(tmp_path) as it:
        await it.put(b"a")
        seen = []
        async for session in it.source.sessions():
            seen.append(await read(session.blocks(), 1))
            if len(seen) == 2:
                it.source.stop()
            await session.end()
        assert [[block.data for block in blocks] for blocks in seen] == [[b"a\n"], [b"a\n"]]


class Front:
    """What fills a spool, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def start(self) -> None:
        self.told.append("start")

    def stop(self) -> None:
        self.told.append("stop")

    async def aclose(self) -> None:
        self.told.append("aclose")


@pytest.mark.asyncio
async def test_it_is_ready_while_a_large_body_finds_room(tmp_path: Path) -> None:
    """A spool with a byte left would refuse every body, and must say so before it is sent one."""
    async with kept(tmp_path) as it:
        source = SpoolSource(it.spool, "http", room=500)
        for _ in range(35):
            await it.put(b"x" * 99)
        assert source.ready
        await it.put(b"x" * 99)
        assert not source.ready
        assert it.source.ready  # whoever appends a line at a time


@pytest.mark.asyncio
async def test_its_front_is_opened_stopped_and_closed_with_it(tmp_path: Path) -> None:
    """It stops taking in when nothing more is handed over, and closes at the very end."""
    front = Front()
    async with kept(tmp_path) as it:
        source = SpoolSource(it.spool, "http", front=front)
        await source.open()
        source.stop()
        assert [session async for session in source.sessions()] == []
        await source.aclose()
    assert front.told == ["start", "stop", "aclose"]


@pytest.mark.asyncio
async def test_what_comes_after_a_start_was_sent_by_nobody(tmp_path: Path) -> None:
    """After a power cut lines that were there may have been sent, and no others."""
    async with kept(tmp_path) as at:
        await at.put(b"one", b"two")
        at.source.keep(at.recording)  # as at a start that finds them
        at.recording.settling.unsure = 50
        blocks = SpoolSession(
            *(at.spool, "http", {}, at.source.sweep), reads=at.source._mind_the_new
        ).blocks()
        await anext(blocks)
        assert at.recording.settling.unsure == 50
        await at.put(b"three")
        await anext(blocks)
        assert at.recording.settling.unsure == 0
