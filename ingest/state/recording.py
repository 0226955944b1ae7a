"""Writing a run down while it runs: in groups, in a thread of its own, as often as somebody waits.

Decides when a commit happens: at once if somebody waits for it and none was begun lately, after the
commit that is under way, or after a second if nobody minds. What is told between two commits is one
group, and a group is cut on the loop, so whoever tells several things without waiting in between
finds them on the disk together. Does not know what a record is.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ingest.errors import LocalFailure
from ingest.state import store
from ingest.state.directory import Reserve
from ingest.state.hands import Hands
from ingest.state.settling import Group, Place, Settling
from ingest.state.store import Unwritten

COMMIT_EVERY: Final = 0.002
"""Seconds between the beginnings of two commits at the least: each costs some 0.3 ms of work beside
what it holds, and a disk that is fast would have a thousand of them. A slow disk paces by itself.
With 10 ms, 8 requests of 40 ms in flight lost a fifth of their throughput to waiting."""

COMMIT_AT_MOST: Final = 0.016
"""The same where longer waits cost no throughput: a commit holds eight times as much then, and
nobody feels a wait so short. At 1,000 requests a second, all of them answered at once, that spares
a tenth of the time of a processor against 8 ms; with 24 ms it was the same."""

WAIT_EACH: Final = 0.00005
"""Seconds between commits for each request in flight: with 64 that were answered after 40 ms,
throughput was that of commits every 2 ms."""

COMMIT_LAZILY: Final = 1.0
"""Seconds until what nobody waits for is committed, so that `ingest status` tells of it."""

Finish = Callable[[sqlite3.Connection], None]


def pause(in_flight: int, room: int, noted: int, seconds: float) -> float:
    """Return how many seconds after the beginning of a commit the next one may begin.

    `noted` batches came in the last `seconds`, and never fewer than `room` requests more might have
    been in flight. What is noted during a pause waits, and is in flight for longer: as long as so
    many more may be, that costs nothing.
    """
    if noted * COMMIT_AT_MOST <= seconds:  # so few share no commit, however long they wait
        return COMMIT_EVERY
    until_full = room * seconds / noted
    return min(COMMIT_AT_MOST, max(COMMIT_EVERY, in_flight * WAIT_EACH, until_full))


class Recording:
    """The journal of one run while it runs. Use it as a context; it needs a running loop.

    Everything but `durable`, `finish` and `aclose` returns at once. A token stands for all that was
    told up to then. `sync_letters` brings what is new of the dead letters to the disk, marks in old
    ones too; it is called in the thread before each commit. `clock` is monotonic, in seconds,
    `spent` what earlier processes of the run took. `credential` is the hash of another credential
    than before: it is written down with the first records that are delivered with it, and that of
    one that is refused is not.
    """

    def __init__(
        self,
        path: Path,
        run: int,
        settling: Settling,
        *,
        reserve: Reserve,
        sync_letters: Callable[[], None] = lambda: None,
        spent: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        power_safe: bool = True,
        credential: str | None = None,
    ) -> None:
        self.settling = settling
        self._credential = credential
        self.commits = 0
        self._path = path
        self._run = run
        self._reserve = reserve
        self._sync_letters = sync_letters
        self._clock = clock
        self._began = clock() - spent
        self._failure: BaseException | None = None
        self._ailing: LocalFailure | None = None
        self._open = 1  # number of the group that is being filled
        self._committed = 0
        self._told = False  # whether anything was told since the last cut
        self._hurried = False  # whether it will be waited for
        self._writing = False
        self._cut_at = -COMMIT_AT_MOST
        self._pause = COMMIT_EVERY
        self._noted = 0  # batches since the last cut
        self._room = 0  # requests that might have been in flight besides, at the least since then
        self._all_wait = False  # whether all that may be in flight waits for the next commit
        self._timer: asyncio.Handle | None = None  # of what somebody waits for
        self._lazy_timer: asyncio.Handle | None = None
        self._waiters: dict[int, list[asyncio.Future[None]]] = {}
        self._loop = asyncio.get_running_loop()
        self._db = store.connect(path, power_safe=power_safe)
        self._thread = Hands(self._loop, "journal")

    async def __aenter__(self) -> Recording:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    # What is told

    def note(
        self, batch_id: int, positions: Iterable[Sequence[int]], room: int | None = None
    ) -> int:
        """Note a batch that is about to be sent; no request may carry it before `durable`.

        `room` is how many requests more might be in flight besides, None if that is not known.
        Raises `LocalFailure` once the disk is full or the journal failed: nothing more may be sent.
        """
        return self.note_all({batch_id: positions}, room)

    def note_all(
        self, notes: Mapping[int, Iterable[Sequence[int]]], room: int | None = None
    ) -> int:
        """Note batches by their numbers as `note` does each; `room` is that beside all of them."""
        if error := self._failure or self._ailing:
            raise error
        self.settling.note_all(notes)
        self._room = min(self._room, room or 0) if self._noted else room or 0
        self._noted += len(notes)
        self._told = True
        self._all_wait = room == 0 and self.settling.none_is_written
        if self._all_wait and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self.hurry()
        return self._open

    def conclude(self, batch_id: int, settled: Iterable[int] | None = None) -> int:
        """Note what a request settled (None: its whole batch), after letters and counts."""
        self.settling.conclude(batch_id, settled)
        return self._tell()

    def conclude_all(self, batch_ids: Iterable[int]) -> int:
        """Note that requests settled their whole batches, after letters and counts."""
        self.settling.conclude_all(batch_ids)
        return self._tell()

    def settle(self, positions: Iterable[int]) -> int:
        """Note the end of records that were in no request of this process."""
        self.settling.settle(positions)
        return self._tell()

    def take_in(self, part: int, stop: int, invalid: Iterable[int] = ()) -> int:
        """Note what was counted as read: all before the ordinal `stop`; see `Settling`."""
        self.settling.take_in(part, stop, invalid)
        return self._tell()

    def begins(self, part: int, place: Place) -> int:
        """Note where the next block of a part begins."""
        self.settling.begins(part, place)
        return self._tell()

    def mind(self, at: int) -> int:
        """Note that a doubtful record was counted as perhaps doubled, and goes again."""
        self.settling.mind(at)
        return self._tell()

    def forget(self, part: int) -> int:
        """Note that a part, all of whose records have their end, was deleted, durably."""
        self.settling.forget(part)
        return self._tell()

    def relieve(self) -> bool:
        """Give the reserve back for want of room elsewhere; nothing new may be sent then.

        Returns whether there was a reserve.
        """
        self._ailing = self._ailing or LocalFailure(
            f"the disk with {self._path.parent} is full. What was sent is written down: make room, "
            "and start again: it goes on from there"
        )
        return self._reserve.release()

    @property
    def seconds(self) -> float:
        """How long the run was at work, earlier processes included."""
        return self._clock() - self._began

    # What is waited for

    def hurry(self) -> None:
        """Begin to commit what was told: somebody will wait for it, and does something else yet."""
        self._hurried = True
        self._hurry()

    def is_durable(self, token: int) -> bool:
        """Whether all that was told up to a token is on the disk."""
        return self._committed >= token

    async def durable(self, token: int | None = None) -> None:
        """Return when all that was told, up to a token if there is one, is on the disk.

        Raises `LocalFailure` if it could not be brought there. Cancelling it changes nothing.
        """
        if token is None:
            token = self._open if self._told else self._open - 1
        while self._committed < token:
            if self._failure is not None:
                raise self._failure
            waiter = self._loop.create_future()  # its own: to cancel one wait is to cancel no other
            self._waiters.setdefault(token, []).append(waiter)
            self._hurry()
            await waiter

    async def finish(self, state: str, report: bytes, now: float) -> None:
        """Write down how the run ended: its state, its report (JSON), the time of day.

        Of a finished run the report is all that stays. Raises `LocalFailure`.
        """
        await self.durable()

        def ending(db: sqlite3.Connection) -> None:
            with store.told(self._path), store.transaction(db):
                db.execute(
                    "UPDATE runs SET state=?, report=?, ended=?, seconds=? WHERE id=?",
                    (state, report, now, self.seconds, self._run),
                )
                if state == "finished":
                    store.forget(db, self._run, row=False)

        await self._thread.done(functools.partial(self._with_reserve, ending))

    async def aclose(self) -> None:
        """Commit what is left, and close. Raises `LocalFailure` if that fails for the first time.

        What already failed was raised where it was waited for.
        """
        failed_before = self._failure is not None
        try:
            if not failed_before:
                await self.durable()
        finally:
            for timer in (self._timer, self._lazy_timer):
                if timer is not None:
                    timer.cancel()
            try:
                await self._thread.done(self._close)
            finally:
                self._thread.stop()

    # The loop's side

    def _tell(self) -> int:
        self._told = True
        if self._lazy_timer is None:
            self._lazy_timer = self._loop.call_later(COMMIT_LAZILY, self._cut_lazily)
        return self._open

    def _cut_lazily(self) -> None:
        """Begin to commit what nobody waits for, if nobody did meanwhile."""
        self._lazy_timer = None
        if self._told:
            self._hurried = True
            self._hurry()

    def _hurry(self) -> None:
        """Cut a group as soon as may be; after a commit under way that happens by itself."""
        if self._timer is not None or self._writing or self._failure is not None:
            return
        delay = self._cut_at + self._pause - self._loop.time()
        if delay > 0 and not self._all_wait:
            self._timer = self._loop.call_later(delay, self._cut)
        else:
            self._timer = self._loop.call_soon(self._cut)

    def _cut(self) -> None:
        """Hand everything that was told since the last group to the thread."""
        now = self._loop.time()
        self._pause = pause(self.settling.in_flight, self._room, self._noted, now - self._cut_at)
        self._timer, self._cut_at, self._noted, self._all_wait = None, now, 0, False
        number, group = self._open, self.settling.cut()
        self._open, self._told, self._hurried, self._writing = number + 1, False, False, True
        self._thread.do(
            functools.partial(self._write, group, self.seconds),
            functools.partial(self._written, number),
        )

    def _written(self, number: int, error: BaseException | None) -> None:
        self._writing = False
        self._failure = error
        if error is None:
            self._committed = number
        for token in [at for at in self._waiters if at <= number or error is not None]:
            for waiter in self._waiters.pop(token):
                if not waiter.done():
                    waiter.set_result(None)
        if error is not None:
            return
        if self._waiters or self._hurried:
            self._hurry()

    # The thread's side

    def _write(self, group: Group, seconds: float) -> None:
        self._sync_letters()

        credential = self._credential
        if credential is not None and not _delivers(group):
            credential = None

        def commit(db: sqlite3.Connection) -> None:
            with store.told(self._path), store.transaction(db):
                store.write(db, self._run, group, seconds, credential)

        self._with_reserve(commit)
        self.commits += 1
        if credential is not None:
            self._credential = None

    def _with_reserve(self, work: Finish) -> None:
        """Try again with the reserve if there is no room, and let nothing new be sent then."""
        try:
            work(self._db)
        except Unwritten as error:
            self._ailing = error
            if not self._reserve.release():
                raise
            work(self._db)

    def _close(self) -> None:
        with store.told(self._path):
            self._db.close()


def _delivers(group: Group) -> bool:
    return any(what == "kind" and of == "delivered" for what, _, of in group.counts)
