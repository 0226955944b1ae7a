"""A request that was answered is known again for a day, whatever became of the process."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from ingest.errors import LocalFailure
from ingest.posts import Remembered, note_of
from ingest.state import keys as keys_module
from ingest.state.keys import FILE, Keys

NOW = 1_790_000_000.0
DAY = 86_400.0


def request(key: str = "aa", at: float = NOW, status: int = 202) -> Remembered:
    """A request that was answered."""
    return Remembered(key, "bb", at, status, msgspec.Raw(b'{"accepted":1}'))


class Wall:
    """A time of day that is moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(
    directory: Path, wall: Wall | None = None, spool: str = "s"
) -> AsyncIterator[Keys]:
    """Keys that are written down at the end."""
    keys = Keys(directory, spool, wall=wall or Wall())
    try:
        yield keys
    finally:
        await keys.aclose()


async def found(keys: Keys, key: str = "aa") -> bytes | None:
    """The answer that is remembered."""
    known = await keys.find(key)
    return None if known is None else known.posted.body


@pytest.mark.asyncio
async def test_what_is_remembered_is_found_at_once_and_later(tmp_path: Path) -> None:
    """Before it is written down, after that, and by the next process."""
    async with opened(tmp_path) as keys:
        assert await found(keys) is None
        keys.remember(request(), (1, 10))
        assert await found(keys) == b'{"accepted":1}'
        await keys.durable()
        assert await found(keys) == b'{"accepted":1}'
    async with opened(tmp_path) as keys:
        assert await found(keys) == b'{"accepted":1}'
        assert keys.mark == (1, 10)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.asyncio
async def test_what_was_not_written_down_is_in_the_spool(tmp_path: Path) -> None:
    """Its notes are taken up again; what another wrote there is passed over."""
    async with opened(tmp_path) as keys:
        keys.recover([((1, 10), b"not ours"), ((2, 20), note_of(request("cc", status=207)))])
        known = await keys.find("cc")
        assert known is not None
        assert (known.status, known.body, keys.mark) == (207, "bb", (2, 20))


@pytest.mark.asyncio
async def test_the_mark_is_of_one_spool(tmp_path: Path) -> None:
    """In another one the numbers begin again, and all of its notes are looked at."""
    async with opened(tmp_path) as keys:
        keys.remember(request(), (7, 10))
    async with opened(tmp_path, spool="another") as keys:
        assert keys.mark == (0, 0)
        assert await found(keys) is not None


@pytest.mark.asyncio
async def test_a_key_is_over_after_a_day(tmp_path: Path) -> None:
    """Then it is not found, and soon it is not there any more."""
    wall = Wall()
    async with opened(tmp_path, wall) as keys:
        keys.remember(request(), (1, 10))
        await keys.durable()
        wall.now += DAY - 1
        assert await found(keys) is not None
        wall.now += 1
        assert await found(keys) is None
        wall.now += 1
        keys.remember(request("cc", wall.now), (1, 20))
        await keys.durable()
    with sqlite3.connect(tmp_path / FILE) as db:
        assert db.execute("SELECT count(*) FROM keys").fetchone() == (1,)
    db.close()


@pytest.mark.asyncio
async def test_a_later_answer_takes_the_place_of_the_first(tmp_path: Path) -> None:
    """Also if it comes while that is being written down."""
    async with opened(tmp_path) as keys:
        keys.remember(request(), (1, 10))
        keys._begin()
        keys.remember(request(status=200), (1, 10))
        await keys.durable()
        known = await keys.find("aa")
        assert known is not None
        assert known.status == 200


@pytest.mark.asyncio
async def test_what_nobody_waits_for_is_written_down_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while."""
    monkeypatch.setattr(keys_module, "COMMIT_EVERY", 0.0)
    async with opened(tmp_path) as keys:
        keys.remember(request(), (1, 10))
        assert keys._timer is not None
        while keys._fresh:
            await keys._in_thread(lambda: None)


@pytest.mark.asyncio
async def test_a_failing_disk_is_told_and_tried_again(tmp_path: Path) -> None:
    """Nothing is forgotten meanwhile."""
    async with opened(tmp_path) as keys:
        keys._db.execute("PRAGMA query_only=ON")
        keys.remember(request(), (1, 10))
        with pytest.raises(LocalFailure, match="cannot be used"):
            await keys.durable()
        assert await found(keys) is not None
        keys._db.execute("PRAGMA query_only=OFF")
        keys._begin()
        while keys._commit is not None:
            await keys._in_thread(lambda: None)
        await keys.durable()


@pytest.mark.asyncio
@pytest.mark.parametrize("content", [b"not a database at all" * 100, b""])
async def test_a_file_that_is_not_ours_is_told(tmp_path: Path, content: bytes) -> None:
    """Damaged, or another program's."""
    (tmp_path / FILE).write_bytes(content)
    if not content:
        with sqlite3.connect(tmp_path / FILE) as db:
            db.execute("CREATE TABLE other (a)")
        db.close()
    with pytest.raises(LocalFailure, match="move"):
        Keys(tmp_path, "s")


@pytest.mark.asyncio
async def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    """As a sentence."""
    with pytest.raises(LocalFailure, match="keys"):
        Keys(tmp_path / "nowhere", "s")
