"""What a spool says is durable is there for whoever opens it next, and nothing is there twice."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import LocalFailure
from ingest.segments import SpoolFull, SpoolRules, segment_name
from ingest.state.spool import Appended, Spool
from tests.examples import examples

SMALL = SpoolRules(spool_bytes=400, segment_bytes=40)


@asynccontextmanager
async def opened(directory: Path, rules: SpoolRules | None = None) -> AsyncIterator[Spool]:
    """A spool that is closed at the end; it survives its process, not its machine."""
    spool = Spool(directory, rules, power_safe=False)
    try:
        yield spool
    finally:
        await spool.aclose()


async def put(spool: Spool, *lines: bytes, note: bytes = b"") -> Appended:
    """Append lines, durably."""
    appended = spool.append(lines, note)
    await spool.durable(appended)
    return appended


def texts(spool: Spool) -> dict[int, list[bytes]]:
    """The lines that can be read, by segment."""
    found = {}
    for part in spool.sizes:
        offset, data = 0, b""
        while offset < spool.end(part):
            piece, offset = spool.piece(part, offset, 16)
            data += piece
        found[part] = data.split(b"\n")[:-1]
    return found


def segments(directory: Path) -> list[Path]:
    """The files of segments."""
    return list(directory.glob("*.ndjson"))


def every_line(spool: Spool) -> list[bytes]:
    """The lines that can be read, without those of notes."""
    return [line for lines in texts(spool).values() for line in lines if line]


@pytest.mark.asyncio
async def test_what_is_durable_is_there_for_the_next(tmp_path: Path) -> None:
    """With the numbers that were told: segment, line and bytes."""
    async with opened(tmp_path) as spool:
        first = await put(spool, b"a", b"bb")
        second = await put(spool, b"c", note=b"note")
        assert (first.part, first.line, first.end) == (1, 1, 5)
        assert (second.part, second.line) == (1, 4)
        assert spool.lines(1) == 4
        mark = spool.id
    async with opened(tmp_path) as spool:
        assert texts(spool) == {1: [b"a", b"bb", b"", b"c"]}
        assert list(spool.notes()) == [((1, second.end), b"note")]
        assert list(spool.notes((1, second.end))) == []
        assert (spool.id, spool.used, spool.lines(1)) == (mark, second.end, 4)
        assert (await put(spool, b"d")).line == 5


@pytest.mark.asyncio
async def test_it_is_private(tmp_path: Path) -> None:
    """What people sent is for the user alone."""
    async with opened(tmp_path / "spool") as spool:
        await put(spool, b"a")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "spool").iterdir()}
    assert modes == {"00000001.ndjson": 0o600, "id": 0o600}
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


@pytest.mark.asyncio
async def test_many_that_wait_share_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred appends at one moment cost one or two, not a hundred."""
    syncs: list[int] = []
    monkeypatch.setattr(os, "fdatasync", syncs.append)
    spool = Spool(tmp_path)
    appended = [spool.append([b"%d" % number]) for number in range(100)]
    await asyncio.gather(*map(spool.durable, appended))
    assert len(syncs) == 1
    assert len(every_line(spool)) == 100
    await spool.aclose()


@pytest.mark.asyncio
async def test_only_what_is_durable_can_be_read(tmp_path: Path) -> None:
    """A line that a crash may take back has no position yet."""
    async with opened(tmp_path) as spool:
        appended = spool.append([b"a"])
        assert spool.end(1) == 0
        waits = asyncio.create_task(spool.grown(1, 0))
        await spool.durable(appended)
        await waits
        assert spool.end(1) == 2


@pytest.mark.asyncio
async def test_segments_follow_one_another(tmp_path: Path) -> None:
    """An append is in one segment wholly, and the next one begins where it does not fit."""
    async with opened(tmp_path, SMALL) as spool:
        for number in range(5):
            await put(spool, b"%d" % number * 18)
        assert {part: len(lines) for part, lines in texts(spool).items()} == {1: 2, 2: 2, 3: 1}
        assert (spool.after(1), spool.after(2), spool.after(3)) == (2, 3, None)
        await spool.grown(1, 38)  # is followed
    async with opened(tmp_path, SMALL) as spool:
        assert len(every_line(spool)) == 5
        assert (await put(spool, b"x")).part == 3


@pytest.mark.asyncio
async def test_a_full_spool_refuses_and_keeps(tmp_path: Path) -> None:
    """Bytes are counted exactly, also when it is opened again; what is deleted makes room."""
    lines = [b"%03d" % number + b"." * 36 for number in range(10)]
    async with opened(tmp_path, SMALL) as spool:
        for line in lines:
            await put(spool, line)
        assert (spool.used, spool.has_room(1)) == (400, False)
        with pytest.raises(SpoolFull, match="400 bytes"):
            spool.append([b"x"])
    async with opened(tmp_path, SMALL) as spool:
        assert (spool.used, spool.has_room(1)) == (400, False)
        with pytest.raises(SpoolFull):
            spool.append([b"x"])
        await spool.discard(1)
        await spool.discard(1)
        assert (spool.used, spool.has_room(1)) == (360, True)
        await put(spool, b"x")
        assert every_line(spool) == [*lines[1:], b"x"]


@pytest.mark.asyncio
async def test_there_is_room_for_so_many_bytes_or_there_is_not(tmp_path: Path) -> None:
    """What is asked for counts: a spool that takes a byte more may take no body more."""
    async with opened(tmp_path, SMALL) as spool:
        for _ in range(9):
            await put(spool, b"x" * 39)
        assert [spool.has_room(nbytes) for nbytes in (1, 40, 41)] == [True, True, False]


@pytest.mark.asyncio
async def test_the_newest_segment_stays(tmp_path: Path) -> None:
    """Its number says which is the next: a number that came again would be settled already."""
    async with opened(tmp_path) as spool:
        await put(spool, b"a")
        await spool.discard(1)
        assert every_line(spool) == [b"a"]
        assert await spool.roll()
        assert not await spool.roll()
        await spool.discard(1)
        assert spool.sizes == {2: 0}
    async with opened(tmp_path) as spool:
        assert (await put(spool, b"b")).part == 2


@pytest.mark.asyncio
async def test_a_segment_goes_only_when_the_next_is_on_the_disk(tmp_path: Path) -> None:
    """Until then it is the newest that a crash would leave."""
    async with opened(tmp_path, SMALL) as spool:
        await put(spool, b"a" * 39)
        appended = spool.append([b"b" * 39])
        assert (appended.part, list(spool.sizes)) == (2, [1])
        await spool.discard(1)
        assert list(spool.sizes) == [1]
        await spool.durable(appended)
        assert list(spool.sizes) == [1, 2]


@pytest.mark.asyncio
async def test_a_spool_whose_files_are_gone_is_another_one(tmp_path: Path) -> None:
    """Its numbers begin again, so no journal may take it for the old one."""
    async with opened(tmp_path) as spool:
        mark = spool.id
    (tmp_path / segment_name(1)).unlink()
    async with opened(tmp_path) as spool:
        assert spool.id != mark


@pytest.mark.asyncio
@pytest.mark.parametrize("torn", [b"half a li", b"\x1e30 note\nhalf", b"\x1e30 no"])
async def test_half_a_line_is_cut_away(tmp_path: Path, torn: bytes) -> None:
    """It was never acknowledged; what was is there, and what comes next is whole."""
    async with opened(tmp_path) as spool:
        await put(spool, b"a", note=b"n")
    path = tmp_path / segment_name(1)
    with path.open("ab") as file:
        file.write(torn)
    async with opened(tmp_path) as spool:
        assert path.stat().st_size == spool.used
        await put(spool, b"b")
        assert every_line(spool) == [b"a", b"b"]


@pytest.mark.asyncio
async def test_an_older_segment_ends_with_a_line_too(tmp_path: Path) -> None:
    """Whatever was done to it: a reader would wait for the rest of the line for ever."""
    async with opened(tmp_path) as spool:
        await put(spool, b"a", b"b")
        await spool.roll()
        await put(spool, b"c")
    os.truncate(tmp_path / segment_name(1), 3)
    async with opened(tmp_path) as spool:
        assert texts(spool) == {1: [b"a"], 2: [b"c"]}


@pytest.mark.asyncio
async def test_a_disk_without_room_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure it is looked at whether there is any; the next attempt shows it."""
    async with opened(tmp_path, SMALL) as spool:
        monkeypatch.setattr(os, "write", Failing(0, errno.ENOSPC, 1))
        with pytest.raises(LocalFailure):
            await put(spool, b"a")
        assert spool.has_room(1)
        monkeypatch.setattr(spool._files, "free", lambda: 0)
        assert not spool.has_room(1)
        await put(spool, b"a")
        assert spool.has_room(1)


class Failing:
    """An `os.write` that takes some bytes, and then fails for so many calls."""

    def __init__(self, takes: int, number: int, times: int = 1) -> None:
        self.takes, self.number, self.times = takes, number, times
        self.write = os.write

    def __call__(self, fd: int, data: Any) -> int:
        if self.takes:
            part, self.takes = self.takes, 0
            return self.write(fd, bytes(data)[:part])
        if self.times:
            self.times -= 1
            raise OSError(self.number, os.strerror(self.number))
        return self.write(fd, data)


@pytest.mark.asyncio
async def test_a_full_disk_refuses_what_comes_and_keeps_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits is told so, half a line is cut back, and later there may be room again."""
    async with opened(tmp_path) as spool:
        await put(spool, b"a")
        monkeypatch.setattr(os, "write", Failing(3, errno.ENOSPC))
        refused = spool.append([b"bbbbbb"])
        with pytest.raises(LocalFailure, match="is full: nothing new is accepted"):
            await spool.durable(refused)
        assert "full" in spool.ailing
        assert (tmp_path / segment_name(1)).read_bytes() == b"a\n"
        assert spool.used == 2
        appended = await put(spool, b"c")
        assert (appended.line, spool.ailing) == (2, "")
        assert every_line(spool) == [b"a", b"c"]


@pytest.mark.asyncio
async def test_what_was_to_follow_on_a_full_disk_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line numbers would be others than were told."""
    async with opened(tmp_path, SMALL) as spool:
        await put(spool, b"a" * 30)
        monkeypatch.setattr(os, "write", Failing(1, errno.ENOSPC))
        first = spool.append([b"b" * 30])
        assert first.part == 2
        waits = asyncio.create_task(spool.durable(first))
        for _ in itertools.takewhile(lambda _: not spool._writing, itertools.count()):
            await asyncio.sleep(0)
        second = spool.append([b"c" * 30])
        for each in (waits, spool.durable(second)):
            with pytest.raises(LocalFailure):
                await each
        third = await put(spool, b"d" * 30)
        assert (third.part, third.line) == (3, 1)
        assert every_line(spool) == [b"a" * 30, b"d" * 30]


@pytest.mark.asyncio
async def test_a_disk_that_fails_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on such a disk is not sure any more: nothing is accepted, and readers are told."""
    async with opened(tmp_path) as spool:
        await put(spool, b"a")
        reader = asyncio.create_task(spool.grown(1, 2))
        await asyncio.sleep(0)
        monkeypatch.setattr(os, "write", Failing(0, errno.EIO))
        with pytest.raises(LocalFailure, match="mend the disk"):
            await put(spool, b"b")
        for attempt in (reader, spool.grown(1, 2), put(spool, b"c"), spool.roll()):
            with pytest.raises(LocalFailure, match="mend the disk"):
                await attempt
        assert not spool.has_room(1)
        assert every_line(spool) == [b"a"]


@pytest.mark.asyncio
async def test_whoever_stops_waiting_stops_nothing(tmp_path: Path) -> None:
    """What was appended is brought to the disk all the same."""
    async with opened(tmp_path) as spool:
        waits = asyncio.create_task(spool.durable(spool.append([b"a"])))
        await asyncio.sleep(0)
        waits.cancel()
        await put(spool, b"b")
        assert every_line(spool) == [b"a", b"b"]


@pytest.mark.asyncio
async def test_closing_brings_what_is_left_to_the_disk(tmp_path: Path) -> None:
    """And takes no more."""
    spool = Spool(tmp_path)
    spool.append([b"a"])
    await asyncio.sleep(0)
    spool.append([b"b"])
    await spool.aclose()
    with pytest.raises(LocalFailure, match="closed"):
        spool.append([b"c"])
    assert (tmp_path / segment_name(1)).read_bytes() == b"a\nb\n"


@pytest.mark.asyncio
async def test_a_directory_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    """With its name, and no traceback."""
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(LocalFailure, match="spool"):
        Spool(tmp_path / "spool")


@pytest.mark.asyncio
async def test_a_segment_that_was_changed_is_told(tmp_path: Path) -> None:
    """What was accepted and is not there cannot be made up."""
    async with opened(tmp_path) as spool:
        await put(spool, b"a", b"b")
        os.truncate(tmp_path / segment_name(1), 2)
        with pytest.raises(LocalFailure, match="shorter"):
            spool.piece(1, 2, 10)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 3), st.booleans()),
        st.tuples(st.just("settle"), st.integers(1, 9), st.just(False)),
        st.tuples(st.just("crash"), st.integers(0, 60), st.just(False)),
        st.tuples(st.just("fail"), st.integers(0, 30), st.booleans()),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=examples(60))
@given(STEPS)
def test_a_spool_is_what_was_acknowledged_and_not_discarded(
    tmp_path_factory: pytest.TempPathFactory, steps: Iterable[tuple[str, int, bool]]
) -> None:
    """Through crashes and full disks: each line once, in order, at its place; bytes exact."""
    directory = tmp_path_factory.mktemp("spool")
    asyncio.run(_play(directory, steps))


async def _play(directory: Path, steps: Iterable[tuple[str, int, bool]]) -> None:
    numbers = itertools.count()
    kept: dict[tuple[int, int], bytes] = {}
    spool = Spool(directory, SMALL, power_safe=False)
    for what, count, flag in steps:
        lines = [b"%05d" % next(numbers) for _ in range(count)]
        if what == "put":
            try:
                appended = await put(spool, *lines, note=b"n" if flag else b"")
            except SpoolFull:
                continue
            kept |= {(appended.part, appended.line + at): one for at, one in enumerate(lines)}
        elif what == "settle":
            await spool.discard(count)
            if count not in spool.sizes:
                kept = {place: line for place, line in kept.items() if place[0] != count}
        elif what == "crash":
            await spool.aclose()
            newest = max(segments(directory))
            with newest.open("ab") as file:  # a write that nobody was told of
                file.write((b"\x1e60 n\n" if flag else b"") + b"z" * (count % 7))
            spool = Spool(directory, SMALL, power_safe=False)
        else:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "write", Failing(count, errno.ENOSPC))
                with pytest.raises((LocalFailure, SpoolFull)):
                    await put(spool, *[b"x" * 40 for _ in range(2)], note=b"n" if flag else b"")
        there = {
            (part, at): line
            for part, found in texts(spool).items()
            for at, line in enumerate(found, 1)
            if line
        }
        assert there == kept
        on_disk = sum(path.stat().st_size for path in segments(directory))
        assert spool.used == on_disk == sum(spool.sizes.values())
        assert spool.used <= SMALL.spool_bytes
    await spool.aclose()
