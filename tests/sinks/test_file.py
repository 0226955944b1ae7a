"""Request bodies in a file: whole lines, private, and no lie about what is on disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ingest.errors import ConfigError, LocalFailure
from ingest.outcomes import Delivered
from ingest.records import EMPTY_COLUMN, Batch, Column
from ingest.sinks.base import Answer
from ingest.sinks.file import FileSink


def batch(fragment: bytes = b'{"a":1}') -> Batch:
    """Make a batch of one record."""
    return Batch(1, 1, (Column.of([fragment], ["u"], [0], [1]), EMPTY_COLUMN, EMPTY_COLUMN))


LINE = b'{"attributes":[{"a":1}]}\n'


@pytest.mark.asyncio
async def test_bodies_are_lines(tmp_path: Path) -> None:
    """One body a line, at once on its way to disk; another run goes on behind it."""
    path = tmp_path / "out.ndjson"
    sink = FileSink(path)
    assert await sink.deliver(batch()) == Answer(Delivered(200), status=200)
    assert path.read_bytes() == LINE
    await sink.deliver(batch(b'{\n"a":\r\n1}'))
    await sink.aclose()
    await sink.aclose()
    again = FileSink(path)
    await again.deliver(batch())
    await again.aclose()
    assert path.read_bytes() == LINE + b'{"attributes":[{ "a":\r 1}]}\n' + LINE
    assert sink.host == str(path)


@pytest.mark.asyncio
async def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    """What a crash left behind gets an end of line; nothing that was there is taken away."""
    path = tmp_path / "out.ndjson"
    path.write_bytes(b'{"attrib')
    sink = FileSink(path)
    await sink.deliver(batch())
    await sink.aclose()
    assert path.read_bytes() == b'{"attrib\n' + LINE


@pytest.mark.asyncio
async def test_the_file_is_private(tmp_path: Path) -> None:
    """Nobody else can read it, even if it was there before."""
    old = tmp_path / "old"
    old.touch(0o644)
    for path in (old, tmp_path / "new"):
        await FileSink(path).aclose()
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.asyncio
async def test_the_null_destination() -> None:
    """/dev/null takes everything, and is neither changed nor synced."""
    mode = os.stat("/dev/null").st_mode
    sink = FileSink("/dev/null")
    assert isinstance((await sink.deliver(batch())).outcome, Delivered)
    await sink.aclose()
    assert os.stat("/dev/null").st_mode == mode


@pytest.mark.asyncio
async def test_a_full_device_stops_the_run() -> None:
    """A device that is always full is a failure of this machine."""
    sink = FileSink("/dev/full")
    with pytest.raises(LocalFailure, match="No space left"):
        await sink.deliver(batch())
    await sink.aclose()


@pytest.mark.asyncio
@pytest.mark.parametrize("truncates", [True, False])
async def test_a_disk_that_fills_up_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truncates: bool
) -> None:
    """Half a line is taken back, if the disk still lets us, and the batch is not delivered."""
    path = tmp_path / "out.ndjson"
    sink = FileSink(path)
    await sink.deliver(batch())
    write = os.write
    room = [10, 0]

    def filling(fd: int, data: bytes) -> int:
        if size := room.pop(0):
            return write(fd, data[:size])
        raise OSError(errno.ENOSPC, "No space left on device")

    def stuck(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", filling)
        if not truncates:
            patch.setattr(os, "ftruncate", stuck)
        with pytest.raises(LocalFailure, match=r"out\.ndjson failed: No space left"):
            await sink.deliver(batch())
    await sink.aclose()
    assert path.read_bytes() == LINE + (b"" if truncates else LINE[:10])


@pytest.mark.asyncio
async def test_a_disk_that_cannot_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run is not a success if the disk does not confirm it."""

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    sink = FileSink(tmp_path / "out")
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(LocalFailure, match="cannot be synced"):
        await sink.aclose()
    with pytest.raises(LocalFailure, match="closed"):
        await sink.deliver(batch())


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """A wrong path is told before anything is read."""
    for path in (tmp_path, tmp_path / "missing" / "out"):
        with pytest.raises(ConfigError, match="cannot be opened"):
            FileSink(path)
