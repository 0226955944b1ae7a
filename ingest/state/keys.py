"""Keys of requests that were answered, so that a request which comes again is not accepted twice.

A key becomes durable with what was accepted, as its note in the spool; here it outlives the segment
that it is in. So nothing waits for a commit: what a crash keeps from being written here is found in
the spool again. Decides how long a key stays (`ingest.posts`) and when it is written down.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from ingest.appending import PRIVATE
from ingest.errors import LocalFailure
from ingest.posts import WINDOW_SECONDS, Remembered, remembered_in
from ingest.state.directory import unusable

FILE: Final = "keys.sqlite3"

COMMIT_EVERY: Final = 1.0
"""Seconds between two commits: what comes in between is in memory, and in the spool."""

PRUNE_EVERY: Final = 60.0
"""Seconds between two deletions of keys that are over."""

APPLICATION: Final = 0x696E676B
"""Marks the file as ours ("ingk")."""

VERSION: Final = 1
"""Of the tables below."""

_TABLES: Final = (
    """CREATE TABLE keys (
        key BLOB PRIMARY KEY, body BLOB NOT NULL, at REAL NOT NULL, status INTEGER NOT NULL,
        answer BLOB NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX keys_at ON keys (at)",
    "CREATE TABLE mark (id INTEGER PRIMARY KEY, spool TEXT, part INTEGER, end INTEGER)",
)

Place = tuple[int, int]
"""A segment of the spool, and the bytes of it before which every note is written down here."""

T = TypeVar("T")


class Keys:
    """The keys in a state directory, of requests whose lines went into one spool.

    Needs a running loop. Opening blocks for some milliseconds; raises `LocalFailure`. `wall` is
    the time of day in epoch seconds, `spool` the mark of the spool, `window` how long a key is
    remembered, in seconds.
    """

    def __init__(
        self,
        directory: Path,
        spool: str,
        *,
        window: float = WINDOW_SECONDS,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = directory / FILE
        self._spool = spool
        self._window = window
        self._wall = wall
        self._fresh: dict[str, Remembered] = {}
        self._pruned_at = wall()
        self._failure: LocalFailure | None = None
        self._timer: asyncio.Handle | None = None
        self._commit: asyncio.Future[None] | None = None
        with self._told():
            self._db = self._opened()
            row = self._db.execute("SELECT part, end FROM mark WHERE spool=?", (spool,)).fetchone()
        self._mark: Place = (row[0], row[1]) if row else (0, 0)
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keys")

    @property
    def mark(self) -> Place:
        """The place in the spool before which no note has to be looked at again."""
        return self._mark

    def recover(self, notes: Iterable[tuple[Place, bytes]]) -> None:
        """Take up the notes of a spool that end after `mark`. Blocks."""
        for place, text in notes:
            if (found := remembered_in(text)) is not None:
                self.remember(found, place)

    def remember(self, request: Remembered, place: Place) -> None:
        """Keep the answer to a request whose lines end there in the spool, and are durable."""
        self._fresh[request.key] = request
        self._mark = max(self._mark, place)
        if self._timer is None and self._commit is None:
            self._timer = self._loop.call_later(COMMIT_EVERY, self._begin)

    async def find(self, key: str) -> Remembered | None:
        """Return the request that had a key, if it is remembered. Raises `LocalFailure`."""
        found = self._fresh.get(key)
        if found is None:
            found = await self._in_thread(lambda: self._look(key))
        # Another may have come while it was looked for.
        found = self._fresh.get(key, found)
        return None if found is None or found.is_over(self._wall(), self._window) else found

    async def durable(self) -> None:
        """Return when all that was told up to now is written down here. Raises `LocalFailure`."""
        told = dict(self._fresh)  # and not what comes meanwhile, or a busy port would never be done
        while any(self._fresh.get(key) is request for key, request in told.items()):
            if self._failure is not None:
                raise self._failure
            if self._commit is None:
                if self._timer is not None:
                    self._timer.cancel()
                self._begin()
            assert self._commit is not None
            await asyncio.wait([self._commit])

    async def aclose(self) -> None:
        """Write down what is left, and close. Raises `LocalFailure`."""
        try:
            await self.durable()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            await self._in_thread(self._db.close)
            self._thread.shutdown()

    # The loop's side

    def _begin(self) -> None:
        self._timer = None
        fresh, mark, now = dict(self._fresh), self._mark, self._wall()
        prune = now - self._pruned_at >= PRUNE_EVERY
        if prune:
            self._pruned_at = now
        over = now - self._window if prune else None
        self._commit = self._loop.run_in_executor(self._thread, self._write, fresh, mark, over)

        def written(done: asyncio.Future[None]) -> None:
            self._commit = None
            error = done.exception()
            if error is None:
                self._failure = None
                for key, request in fresh.items():
                    if self._fresh.get(key) is request:
                        del self._fresh[key]
            else:
                self._failure = error if isinstance(error, LocalFailure) else _failed(self._path)
            if self._fresh and self._timer is None:  # also after a failure: room may have come
                self._timer = self._loop.call_later(COMMIT_EVERY, self._begin)

        self._commit.add_done_callback(written)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._thread, work)

    # The thread's side

    def _look(self, key: str) -> Remembered | None:
        with self._told():
            row = self._db.execute(
                "SELECT body, at, status, answer FROM keys WHERE key=?", (bytes.fromhex(key),)
            ).fetchone()
        if row is None:
            return None
        body, at, status, answer = row
        return Remembered(key, body.hex(), at, status, msgspec.Raw(answer))

    def _write(self, fresh: dict[str, Remembered], mark: Place, over: float | None) -> None:
        rows = [
            (bytes.fromhex(key), bytes.fromhex(one.body), one.at, one.status, bytes(one.answer))
            for key, one in fresh.items()
        ]
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR REPLACE INTO keys VALUES (?,?,?,?,?)", rows)
                self._db.execute(
                    "INSERT OR REPLACE INTO mark VALUES (1,?,?,?)", (self._spool, *mark)
                )
                if over is not None:
                    self._db.execute("DELETE FROM keys WHERE at<?", (over,))
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # Opening

    def _opened(self) -> sqlite3.Connection:
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE))
            self._path.chmod(PRIVATE)
        except OSError as error:
            raise unusable(self._path, error) from error
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if not tables:
                db.execute("BEGIN IMMEDIATE")
                for table in _TABLES:
                    db.execute(table)
                db.execute(f"PRAGMA application_id={APPLICATION}")
                db.execute(f"PRAGMA user_version={VERSION}")
                db.execute("COMMIT")
            found = [
                db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version")
            ]
            if found != [APPLICATION, VERSION]:
                raise LocalFailure(
                    f"{self._path} is another program's, or of another version of ingest: move it "
                    "away, or choose another state directory"
                )
        except BaseException:
            db.close()
            raise
        return db

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LocalFailure(
                f"the keys of requests in {self._path} cannot be used: {error}. Make room on the "
                "disk, or mend it; a damaged file can be moved away: then requests of the last day "
                "that come again are accepted again"
            ) from error


def _failed(path: Path) -> LocalFailure:
    return LocalFailure(f"the keys of requests in {path} cannot be used: start again")
