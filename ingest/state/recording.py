"""Writing a run down while it runs: at once for a kill, now and then for a power cut.

What is told is cut into a group, and appended to the redo log before anything is sent that it
notes; that takes some microseconds, and outlives this process. Four times a second, or when
somebody waits for it, all that was appended goes into the database, in a thread and through to the
disk. Between two commits no more records are read than the last one announced, so that whoever goes
on after a power cut knows which may have been sent. Does not know what a record is.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ingest.errors import LocalFailure
from ingest.state import store
from ingest.state.directory import FULL, Reserve
from ingest.state.groups import Gathered, Group, Place
from ingest.state.hands import Hands
from ingest.state.redo import Entry, RedoLog
from ingest.state.settling import Settling
from ingest.state.store import Unwritten

WRITE_WITHIN: Final = 0.01
"""Seconds until what was told is in the log, if nothing is sent meanwhile."""

COMMIT_EVERY: Final = 0.25
"""Seconds until what is in the log is committed: what a power cut leaves is as old as that."""

LEAST_AHEAD: Final = 2_000
"""Records that may be read beyond a commit at the least: a commit costs some milliseconds."""

MOST_AHEAD: Final = 100_000
"""The same at the most: so many are resent, and counted as perhaps doubled, after a power cut."""


def ahead(read: int, wanted: int = 0) -> int:
    """Return how many records may be read beyond a commit; `read` were since the one before.

    Commits come when half of that was read. `wanted` are those that somebody waits to take in.
    """
    return max(wanted, min(MOST_AHEAD, max(LEAST_AHEAD, 3 * read)))


Finish = Callable[[sqlite3.Connection], None]


class Recording:
    """The journal of one run while it runs. Use it as a context; it needs a running loop.

    Everything but `durable`, `keep_up`, `finish` and `aclose` returns at once. A token stands for
    all that was told up to then. `sync_letters` brings what is new of the dead letters to the disk,
    marks in old ones too; it is called in the thread before each commit. `letters_safe` says
    whether a kill would leave all that were written. `clock` is monotonic, in seconds, `spent` what
    earlier processes of the run took, `told` the number of the last group that is in the database.
    `credential` is the hash of another credential than before: it is written down with the first
    records that are delivered with it, and that of one that is refused is not.
    """

    def __init__(
        self,
        path: Path,
        run: int,
        settling: Settling,
        log: RedoLog,
        *,
        reserve: Reserve,
        sync_letters: Callable[[], None] = lambda: None,
        letters_safe: Callable[[], bool] = lambda: True,
        spent: float = 0.0,
        told: int = 0,
        clock: Callable[[], float] = time.monotonic,
        power_safe: bool = True,
        credential: str | None = None,
    ) -> None:
        self.settling = settling
        self._credential = credential
        self.commits = 0
        self._path = path
        self._run = run
        self._log = log
        self._reserve = reserve
        self._sync_letters = sync_letters
        self._letters_safe = letters_safe
        self._clock = clock
        self._began = clock() - spent
        self._failure: BaseException | None = None
        self._ailing: LocalFailure | None = None
        self._open = told + 1  # number of the group that is being filled
        self._committed = self._reached = told  # on the loop's side, and on the thread's
        self._closed = False
        self._told = False  # whether anything was told since the last cut
        self._gathered = Gathered()  # what is in the log, and in no commit that was begun
        self._writing = False
        self._hurried = False  # whether the next commit is to follow the one under way
        self._read_before = 0  # records that were read before the last commit was begun
        self._ahead = LEAST_AHEAD  # how many more that one announced
        self._most_read = LEAST_AHEAD  # what may be read by what is committed
        self._wanted = 0  # records that wait to be taken in
        self._doubled = settling.balance.maybe_duplicated  # as far as that is committed
        self._late: asyncio.Handle | None = None  # of what was told, and is not in the log
        self._due: asyncio.Handle | None = None  # of what is in the log
        self._soon: asyncio.Handle | None = None  # of what somebody waits for
        self._waiters: dict[int, list[asyncio.Future[None]]] = {}
        self._loop = asyncio.get_running_loop()
        self._db = store.connect(path, power_safe=power_safe)
        self._thread = Hands(self._loop, "journal")

    async def __aenter__(self) -> Recording:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    # What is told

    def note(self, batch_id: int, positions: Iterable[Sequence[int]]) -> int:
        """Note a batch that is about to be sent; no request may carry it before `write`.

        Raises `LocalFailure` once the disk is full or the journal failed: nothing more may be sent.
        """
        return self.note_all({batch_id: positions})

    def note_all(self, notes: Mapping[int, Iterable[Sequence[int]]]) -> int:
        """Note batches by their numbers as `note` does each."""
        if error := self._failure or self._ailing:
            raise error
        self.settling.note_all(notes)
        return self._tell()

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
        if 2 * (self.settling.read - self._read_before) >= self._ahead and not self._writing:
            self._hurry()
        return self._tell()

    def begins(self, part: int, place: Place) -> int:
        """Note where the next block of a part begins."""
        self.settling.begins(part, place)
        return self._tell()

    def mind(self, at: int) -> int:
        """Note that a doubtful record was counted as perhaps doubled, and goes again."""
        self.settling.mind(at)
        return self._tell()

    def trust_what_comes(self) -> None:
        """Note that no earlier process can have sent records that are new from here on."""
        if self.settling.unsure:
            self.settling.unsure = 0
            self._tell()

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

    # What is asked before something is done

    def write(self) -> None:
        """Hand all that was told to the operating system: what is noted may be sent then.

        Raises `LocalFailure` if it must not be; then nothing more may be.
        """
        if self._told and self._failure is None:
            self._append()
        if error := self._failure or self._ailing:
            raise error

    def holds_back(self, records: int) -> bool:
        """Whether so many records may not be taken in yet: see `keep_up`."""
        return self.settling.read + records > self._most_read

    async def keep_up(self, records: int) -> None:
        """Return when so many more records may be taken in. Raises `LocalFailure`."""
        while self.holds_back(records):
            self._wanted = max(self._wanted, records)
            await self.durable(self._tell())

    @property
    def owes(self) -> bool:
        """Whether copies were counted that are not durable: none of them may be sent before.

        A power cut would take the count with it, and not the copy.
        """
        return self.settling.balance.maybe_duplicated > self._doubled

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
        try:
            if self._failure is None:
                await self.durable()
        finally:
            if self._told and self._failure is None:
                self._append()  # nobody waited for it after all: whoever goes on finds it there
            self._closed = True
            for timer in (self._late, self._due, self._soon):
                if timer is not None:
                    timer.cancel()
            try:
                await self._thread.done(functools.partial(self._close, self._open - 1))
            finally:
                self._thread.stop()

    # The loop's side

    def _tell(self) -> int:
        if not self._told:
            self._told = True
            if self._late is None and not self._closed:
                self._late = self._loop.call_later(WRITE_WITHIN, self._append_late)
        return self._open

    def _append_late(self) -> None:
        """Append what nothing was sent after."""
        self._late = None
        if self._told and self._failure is None:
            self._append()

    def _append(self) -> None:
        """Cut a group of all that was told since the last one, and append it to the log."""
        number, group = self._open, self.settling.cut()
        self._open, self._told = number + 1, False
        self._gathered.add(group)
        entry = Entry(number, self.seconds, group, safe := self._letters_safe())
        try:
            self._log.append(entry)
        except OSError as error:
            self._ailing = self._ailing or store.unwritten(self._path, error.strerror)
            try:
                if error.errno not in FULL or not self._reserve.release():
                    raise
                self._log.append(entry)
            except OSError:
                self._fail(self._ailing)
                return
        if not safe:
            self._hurry()  # a commit waits for the letters, and a kill until then costs certainty
        elif self._due is None:
            self._due = self._loop.call_later(COMMIT_EVERY, self._hurry)

    def _hurry(self) -> None:
        """Commit as soon as may be: all that is told in this turn of the loop, and before."""
        if self._writing:
            self._hurried = True
        elif self._soon is None and self._failure is None and not self._closed:
            self._soon = self._loop.call_soon(self._commit)

    def _commit(self) -> None:
        """Hand everything that is in no commit to the thread."""
        self._soon, self._hurried = None, False
        if self._told and self._failure is None:
            self._append()
        number, read = self._open - 1, self.settling.read
        if self._failure is not None or number == self._committed:
            return
        if self._due is not None:
            self._due.cancel()
            self._due = None
        group, self._gathered = self._gathered.group(), Gathered()
        self._ahead = ahead(read - self._read_before, self._wanted)
        self._read_before, self._wanted, self._writing = read, 0, True
        # Whichever of the two commits a power cut leaves: no more was read than it announced.
        self._most_read = min(self._most_read, read + self._ahead)
        with suppress(OSError):  # without room it grows where it is
            self._log.turn()
        self._thread.do(
            functools.partial(self._write, group, self.seconds, number, self._ahead),
            functools.partial(
                self._written, number, read + self._ahead, self.settling.balance.maybe_duplicated
            ),
        )

    def _written(
        self, number: int, most_read: int, doubled: int, error: BaseException | None
    ) -> None:
        self._writing = False
        if error is not None:
            self._fail(error)
            return
        self._committed, self._most_read, self._doubled = number, most_read, doubled
        self._wake(number)
        if self._waiters or self._hurried:
            self._hurry()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._wake(self._open)

    def _wake(self, number: int) -> None:
        for token in [at for at in self._waiters if at <= number]:
            for waiter in self._waiters.pop(token):
                if not waiter.done():
                    waiter.set_result(None)

    # The thread's side

    def _write(self, group: Group, seconds: float, number: int, further: int) -> None:
        try:
            self._sync_letters()
        except BaseException:
            self._log.distrust()  # letters of what is in it may be gone
            raise
        credential = self._credential if group.delivers else None

        def commit(db: sqlite3.Connection) -> None:
            with store.told(self._path), store.transaction(db):
                store.write(
                    *(db, self._run, group, seconds),
                    told=number,
                    ahead=further,
                    credential=credential,
                )

        self._with_reserve(commit)
        self.commits += 1
        self._reached = number
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

    def _close(self, last: int) -> None:
        """Say that what is committed is all, if it is, and close the database and the log."""

        def ending(db: sqlite3.Connection) -> None:
            with store.told(self._path):
                db.execute("UPDATE runs SET ahead=0 WHERE id=?", (self._run,))

        try:
            if self._reached == last:
                self._with_reserve(ending)
                self._log.remove()
        finally:
            self._log.close()
            with store.told(self._path):
                self._db.close()
