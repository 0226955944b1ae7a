"""The journal: what every run in a state directory sent, so that it can go on after a crash.

Decides which earlier run is gone on with, and in what state a run is that nobody ended. Other
modules of this package hold the parts: `identity` what makes two runs the same, `directory` who may
use it, `settling` what a run settled, `recording` when that is written down, `store` how.
"""

from __future__ import annotations

import hmac
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from ingest.balance import COLUMNS, Balance
from ingest.codec import dumps, loads, typed
from ingest.state import store
from ingest.state.dead_letters import DeadLetterFile, Letters
from ingest.state.directory import StateDirectory, is_locked
from ingest.state.groups import LETTERS, CountKey, Kept
from ingest.state.identity import Conflict, RunIdentity, conflict
from ingest.state.recording import LEAST_AHEAD, Recording
from ingest.state.recovery import News, bring_in, logged_in, news_in
from ingest.state.redo import VERSION, Heading, RedoLog, boot_id
from ingest.state.settling import OF_WHICH, Settling

RUNNING: Final = "running"
CRASHED: Final = "crashed"
FINISHED: Final = "finished"

_IDENTITY: Final = typed(RunIdentity)
_FIELDS: Final = (
    "id, name, state, identity, frozen, command, salt, credential, letters_path, started, ended, "
    "seconds, report"
)
_SALT_BYTES: Final = 16


class Run(msgspec.Struct, frozen=True):
    """A run as the journal has it.

    `state` is "running", "crashed" (nobody ended it), "interrupted", "halted" or "finished";
    `frozen` is what was decided when it began and has to be kept (the plan); `command` what to
    type to go on. `started` and `ended` are in epoch seconds, `seconds` is how long it was at work.
    `delivered` counts records; `records` and `of_which` are as in the report, as far as committed.
    `letters` are the files with its dead letters, and how many are in each.
    """

    id: int
    name: str
    state: str
    identity: RunIdentity
    frozen: dict[str, Any]
    command: str
    salt: bytes
    credential: str
    letters_path: str
    started: float
    ended: float | None
    seconds: float
    report: dict[str, Any] | None
    records: dict[str, int]
    of_which: dict[str, int]
    letters: dict[str, int] = {}

    @property
    def delivered(self) -> int:
        """Records that the destination took."""
        return self.records["delivered"]

    @property
    def resumable(self) -> bool:
        """Whether the same command goes on with it."""
        return self.state not in (FINISHED, RUNNING)

    def credential_changed(self, hash_of: Callable[[bytes], str]) -> bool:
        """Whether another credential is used than before; `hash_of` hashes it with a salt."""
        return not hmac.compare_digest(hash_of(self.salt), self.credential)


class Journal:
    """The journal of a state directory, which this process alone uses until it is closed.

    Use it as a context. Everything here blocks for some milliseconds, and raises `LocalFailure`.
    """

    def __init__(self, directory: Path, *, power_safe: bool = True) -> None:
        self._directory = StateDirectory(directory)
        self._path = store.path_in(directory)
        self._power_safe = power_safe
        with ExitStack() as undoing:
            undoing.callback(self._directory.close)
            self._db = store.connect(self._path, power_safe=power_safe)
            undoing.callback(self._db.close)
            bring_in(self._db, directory)
            undoing.pop_all()

    def close(self) -> None:
        """Write the log back into the database, and let others have the directory."""
        try:
            with store.told(self._path):
                self._db.close()
        finally:
            self._directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Which run

    def find(self, identity: RunIdentity) -> Run | None:
        """Return the same run, if it was begun before, whatever became of it."""
        with store.told(self._path):
            rows = _runs(self._db, "WHERE digest=?", identity.digest)
        return _seen(rows[0], alive=False) if rows else None

    def conflicts(self, identity: RunIdentity) -> list[Conflict]:
        """Return the unfinished runs, other than the same one, that share inputs with it.

        Where an input changed under such a run, going on would send other records than it says, and
        beginning anew would send again what it sent.
        """
        with store.told(self._path):
            rows = _runs(self._db, "WHERE digest!=? AND state!='finished'", identity.digest)
        found = (conflict(run.name, run.identity, identity) for run in rows)
        return [each for each in found if each is not None]

    def begin(
        self,
        identity: RunIdentity,
        *,
        name: str,
        hash_of: Callable[[bytes], str],
        letters: Letters,
        frozen: dict[str, Any] | None = None,
        command: str = "",
        now: float,
    ) -> Run:
        """Write down a run that begins; `forget` the same one before, if there is one.

        `hash_of(salt)` hashes the credential. `now` is the time of day in epoch seconds. `command`
        must hold no secret.
        """
        salt = secrets.token_bytes(_SALT_BYTES)
        row = {
            "digest": identity.digest,
            "name": name,
            "state": RUNNING,
            "identity": dumps(identity),
            "frozen": dumps(frozen or {}),
            "command": command,
            "salt": salt,
            "credential": hash_of(salt),
            "letters_path": str(letters.path.absolute()),
            "letters_length": letters.length,  # what others wrote there is not ours to cut
            "started": now,
        }
        names, marks = ", ".join(row), ", ".join(f":{key}" for key in row)
        with store.told(self._path), store.transaction(self._db):
            self._db.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", row)
            (found,) = _runs(self._db, "WHERE digest=?", identity.digest)
        return found

    def reopen(
        self, run: Run, *, frozen: dict[str, Any] | None = None, command: str | None = None
    ) -> None:
        """Write down that a run goes on; what is not said stays as it was."""
        frozen = run.frozen if frozen is None else frozen
        command = run.command if command is None else command
        with store.told(self._path), store.transaction(self._db):
            self._db.execute(
                "UPDATE runs SET state=?, ended=NULL, report=NULL, frozen=?, command=? WHERE id=?",
                (RUNNING, dumps(frozen), command, run.id),
            )

    def forget(self, run: Run) -> None:
        """Delete a run; its dead letters stay."""
        with store.told(self._path), store.transaction(self._db):
            store.forget(self._db, run.id, row=True)

    def runs(self) -> list[Run]:
        """Return all runs, the latest first."""
        with store.told(self._path):
            return [_seen(run, alive=False) for run in _runs(self._db)]

    # While it runs

    def kept(self, run: Run) -> Kept:
        """Return what was written down of a run: nothing, for one that just began."""
        with store.told(self._path):
            return store.read(self._db, run.id)

    def record(
        self,
        run: Run,
        balance: Balance,
        letters: Letters,
        *,
        hash_of: Callable[[bytes], str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Recording:
        """Go on with a run, or begin: `balance` is a new one, and goes on where it ended.

        Letters of records that were not settled are cut away, and those of earlier processes
        counted. `hash_of(salt)` hashes the credential, to be kept once something was delivered
        with it. Needs a running loop.
        """
        bring_in(self._db, self._path.parent)  # of another recording of this journal that failed
        kept = self.kept(run)
        path = str(letters.path.absolute())
        letters.written = kept.letters.get(path, 0)
        other = None if hash_of is None or not run.credential_changed(hash_of) else hash_of
        credential = None if other is None else other(run.salt)
        if path == run.letters_path:
            letters.cut(kept.letters_length)
        else:
            DeadLetterFile(Path(run.letters_path), run=run.name).cut(kept.letters_length)
        boot = boot_id()
        with store.told(self._path):
            before = store.recorded(self._db, run.id)
        settling = Settling(
            balance,
            kept,
            letters_length=lambda: letters.length,
            letters=lambda: (path, letters.written),
            doubt=before.ahead,
        )
        heading = Heading(VERSION, boot, run.salt, credential)
        with ExitStack() as undoing:
            log = RedoLog(self._path.parent, heading)
            undoing.callback(log.close)
            with store.told(self._path), store.transaction(self._db):
                self._db.execute(
                    "UPDATE runs SET letters_path=?, boot=? WHERE id=?", (path, boot, run.id)
                )
                store.write(
                    *(self._db, run.id, settling.cut(), run.seconds),
                    told=before.told,
                    ahead=LEAST_AHEAD,
                )
            recording = Recording(
                *(self._path, run.id, settling, log),
                reserve=self._directory.reserve,
                sync_letters=letters.sync,
                letters_safe=lambda: letters.safe,
                spent=run.seconds,
                told=before.told,
                clock=clock,
                power_safe=self._power_safe,
                credential=credential,
            )
            undoing.pop_all()
        letters.relief = recording.relieve
        return recording


def runs_in(directory: Path) -> list[Run]:
    """Return the runs in a state directory, the latest first, also while another process runs one.

    Raises `LocalFailure` for a journal that cannot be read; a directory without one has no runs.
    """
    alive, logged = is_locked(directory), logged_in(directory)
    with store.reading(store.path_in(directory)) as db:
        if db is None:
            return []
        return [_seen(run, alive=alive) for run in _runs(db, news=news_in(db, logged))]


def _runs(
    db: sqlite3.Connection, where: str = "", *values: object, news: Mapping[int, News] | None = None
) -> list[Run]:
    found = db.execute(f"SELECT {_FIELDS} FROM runs {where} ORDER BY started DESC, id DESC", values)
    return [_run(db, row, (news or {}).get(row[0])) for row in found.fetchall()]


def _run(db: sqlite3.Connection, row: tuple[Any, ...], news: News | None) -> Run:
    values = dict(zip(_FIELDS.replace(",", "").split(), row, strict=True))
    values["identity"] = _IDENTITY.decode(values["identity"])
    values["frozen"] = loads(values["frozen"])
    report = values["report"] = loads(values["report"]) if values["report"] else None
    counts = store.counts(db, values["id"]) | (news.counts if news else {})
    if values["state"] == FINISHED and report is not None:
        counted = {"records": report.get("records", {}), "of_which": report.get("of_which", {})}
    else:
        counted = _counted(counts)
    records = dict.fromkeys(("read", *COLUMNS), 0) | counted["records"]
    of_which = dict.fromkeys(OF_WHICH, 0) | counted["of_which"]
    letters = {name: n for (what, name, _), n in counts.items() if what == LETTERS}
    return Run(**values | {"records": records, "of_which": of_which, "letters": letters})


def _counted(counts: Mapping[CountKey, int]) -> dict[str, dict[str, int]]:
    records: Counter[str] = Counter()
    for (what, _, detail), n in counts.items():
        if what == "kind":
            records[detail] += n
    settled = records.total() - records["read"]
    records["pending"] = records["read"] - settled
    of_which = {name: n for (what, name, _), n in counts.items() if what == "of_which"}
    return {"records": records, "of_which": of_which}


def _seen(run: Run, *, alive: bool) -> Run:
    """Tell a run that goes on from one that nobody ended."""
    if run.state != RUNNING or alive:
        return run
    return msgspec.structs.replace(run, state=CRASHED)
