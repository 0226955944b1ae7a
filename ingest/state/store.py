"""The journal's database: its tables, what is read from them and written to them, and its failures.

Decides how things lie on the disk. One commit writes one `Group`; what is in it is there together
or not at all. Every failure of SQLite becomes a `LocalFailure` whose sentence says what to do.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from ingest.appending import PRIVATE
from ingest.errors import LocalFailure
from ingest.ranges import Ranges
from ingest.records import ordinal_of, part_of, position
from ingest.state.directory import unusable
from ingest.state.groups import LETTERS, CountKey, Group, Kept, Place

FILE: Final = "journal.sqlite3"

VERSION: Final = 2
"""Of the tables below. The first one had no redo log beside it: what it committed was all."""

APPLICATION: Final = 0x696E6765
"""Marks the file as ours ("inge")."""

PAGE_BYTES: Final = 1_024
"""Of a journal that is made: a commit changes a little in each of its tables, and writes a page of
each."""

WAL_BYTES: Final = 1_100_000
"""Bytes of the write-ahead log that stay on the disk after a checkpoint: what 1,000 pages take,
after which SQLite makes one."""

PATIENCE: Final = 10.0
"""Seconds that a lock of SQLite is waited for: only `ingest status` reads beside a run."""

SETTLED: Final = 0
DOUBTFUL: Final = 1

_TABLES: Final = (
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, name TEXT NOT NULL, state TEXT NOT
        NULL, identity BLOB NOT NULL, frozen BLOB NOT NULL, command TEXT NOT NULL, salt BLOB NOT
        NULL, credential TEXT NOT NULL, letters_path TEXT NOT NULL, letters_length INTEGER NOT NULL
        DEFAULT 0, started REAL NOT NULL, ended REAL, seconds REAL NOT NULL DEFAULT 0, report BLOB,
        boot TEXT NOT NULL DEFAULT '', ahead INTEGER NOT NULL DEFAULT 0, told INTEGER NOT NULL
        DEFAULT 0, unsure INTEGER NOT NULL DEFAULT 0
    )""",
    """CREATE TABLE ranges (
        run INTEGER, what INTEGER, part INTEGER, start INTEGER, stop INTEGER NOT NULL,
        PRIMARY KEY (run, what, part, start)
    ) WITHOUT ROWID""",
    """CREATE TABLE notes (
        run INTEGER, batch INTEGER, positions BLOB NOT NULL, PRIMARY KEY (run, batch)
    ) WITHOUT ROWID""",
    """CREATE TABLE taken (
        run INTEGER, part INTEGER, stop INTEGER NOT NULL, PRIMARY KEY (run, part)
    ) WITHOUT ROWID""",
    """CREATE TABLE places (
        run INTEGER, part INTEGER, ordinal INTEGER NOT NULL, line INTEGER NOT NULL, offset INTEGER
        NOT NULL, PRIMARY KEY (run, part)
    ) WITHOUT ROWID""",
    """CREATE TABLE counts (
        run INTEGER, what TEXT, name TEXT, detail TEXT, n INTEGER NOT NULL,
        PRIMARY KEY (run, what, name, detail)
    ) WITHOUT ROWID""",
    """CREATE TABLE reasons (
        run INTEGER, code TEXT, field TEXT, "column" TEXT, reason TEXT NOT NULL, n INTEGER NOT NULL,
        example TEXT NOT NULL, PRIMARY KEY (run, code, field, "column")
    ) WITHOUT ROWID""",
)

_NEW_IN_2: Final = (
    "ALTER TABLE runs ADD COLUMN boot TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE runs ADD COLUMN ahead INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE runs ADD COLUMN told INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE runs ADD COLUMN unsure INTEGER NOT NULL DEFAULT 0",
)

RUN_TABLES: Final = ("ranges", "notes", "taken", "places", "counts", "reasons")
"""What is kept of a run beside its row, until it is finished."""

PART_TABLES: Final = ("ranges", "taken", "places")
"""What of it is kept by part."""

_CORRUPT: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ROOM: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_NO_ACCESS: Final = {
    *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM),
    sqlite3.SQLITE_AUTH,
}
_PRIMARY: Final = 0xFF
"""The low byte of an error code of SQLite says what failed, the others in which way."""


class Unwritten(LocalFailure):
    """Something was not written for want of room, or because the disk failed; room may help."""


class Recorded(msgspec.Struct, frozen=True):
    """How far what is written of a run can be trusted: see `Journal.record`.

    `boot` names the boot by which it was recorded last, and `told` the last group that is written.
    Up to `ahead` records more may have been read than is written; 0: the recording came to its end.
    """

    boot: str
    ahead: int
    told: int


def path_in(directory: Path) -> Path:
    """Return the path of the database in a state directory."""
    return directory / FILE


def connect(path: Path, *, power_safe: bool = True) -> sqlite3.Connection:
    """Open the database of this process, made if it is not there, checked if it is.

    With `power_safe` a commit waits for the disk, else only for the operating system, which is
    enough for a `kill -9`. Raises `LocalFailure`.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE))
        path.chmod(PRIVATE)
    except OSError as error:
        raise unusable(path, error) from error
    with told(path):
        db = _opened(str(path))
    try:
        with told(path):
            _prepare(db, path)
            db.execute(f"PRAGMA synchronous={'FULL' if power_safe else 'NORMAL'}")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Open the database to read it, also while a run writes; None if there is none.

    All that is read is of one moment. Raises `LocalFailure`.
    """
    if not path.exists():
        yield None
        return
    with told(path):
        try:
            db = _opened(f"file:{_quoted(path)}?mode=ro", uri=True)
            _check_version(db, path, 1)
        except sqlite3.OperationalError:
            # Nobody has it open, and this directory must not be written to: the file is all.
            db = _opened(f"file:{_quoted(path)}?mode=ro&immutable=1", uri=True)
            _check_version(db, path, 1)
        with closing(db):
            db.execute("BEGIN")
            yield db


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn failures of SQLite into sentences."""
    try:
        yield
    except sqlite3.Error as error:
        raise failure(path, error) from error


def failure(path: Path, error: sqlite3.Error) -> LocalFailure:
    """Return the failure of the journal that an error of SQLite means."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
    if code in _CORRUPT:
        return LocalFailure(
            f"the journal {path} is damaged or no journal ({error}). Restore it from a backup to "
            "go on with its runs; without it, move it away: then every run begins anew and sends "
            "again what was sent"
        )
    if code in _NO_ROOM:
        return unwritten(path, error)
    if code in _NO_ACCESS:
        return LocalFailure(
            f"cannot write the journal {path}: {error}. Mend the permissions of the state "
            "directory, or choose another one"
        )
    return LocalFailure(f"the journal {path} failed: {error}. Start again: it goes on from there")


def unwritten(path: Path, why: object) -> Unwritten:
    """Return the failure that is a lack of room, or of a disk."""
    return Unwritten(
        f"cannot write the journal {path}: {why}. Nothing was sent that is not noted there: "
        "make room on the disk, and start again: it goes on from there"
    )


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit all that is written inside, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite itself ends it after some failures
            db.execute("ROLLBACK")
        raise


def write(
    db: sqlite3.Connection,
    run: int,
    group: Group,
    seconds: float,
    *,
    told: int = 0,
    ahead: int = 0,
    credential: str | None = None,
) -> None:
    """Write a group down, inside of a transaction.

    `seconds` is how long the run took so far, `credential` the hash of another one than before;
    `told` and `ahead` are those of `Recorded`.
    """
    for table in PART_TABLES if group.forgotten else ():
        _each(
            db,
            f"DELETE FROM {table} WHERE run=? AND part=?",
            [(run, part) for part in group.forgotten],
        )
    for what, changes in ((SETTLED, group.settled), (DOUBTFUL, group.doubtful)):
        rows = [(run, what, part_of(at), ordinal_of(at), stop) for at, stop in changes]
        _each(
            db,
            "DELETE FROM ranges WHERE run=? AND what=? AND part=? AND start=?",
            [row[:-1] for row in rows if row[-1] is None],
        )
        _each(
            db,
            "INSERT OR REPLACE INTO ranges VALUES (?,?,?,?,?)",
            [(*row, ordinal_of(stop)) for *row, stop in rows if stop is not None],
        )
    _each(db, "DELETE FROM notes WHERE run=? AND batch=?", [(run, n) for n in group.gone])
    _each(db, "INSERT OR REPLACE INTO notes VALUES (?,?,?)", [(run, *note) for note in group.notes])
    _each(
        db,
        "INSERT OR REPLACE INTO taken VALUES (?,?,?)",
        [(run, part, stop) for part, stop in group.taken.items()],
    )
    _each(
        db,
        "INSERT OR REPLACE INTO places VALUES (?,?,?,?,?)",
        [(run, part, p.ordinal, p.line, p.offset) for part, p in group.places.items()],
    )
    _each(
        db,
        "INSERT OR REPLACE INTO counts VALUES (?,?,?,?,?)",
        [(run, *key, n) for key, n in group.counts.items()],
    )
    _each(
        db,
        "INSERT OR REPLACE INTO reasons VALUES (?,?,?,?,?,?,?)",
        [(run, *key, *row) for key, row in group.reasons.items()],
    )
    db.execute(
        "UPDATE runs SET letters_length=?, seconds=?, unsure=?, told=?, ahead=? WHERE id=?",
        (group.letters_length, seconds, group.unsure, told, ahead, run),
    )
    if credential is not None:
        db.execute("UPDATE runs SET credential=? WHERE id=?", (credential, run))


def _each(db: sqlite3.Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    """Run a statement for each row; most groups hold rows of a few tables only."""
    if rows:
        db.executemany(statement, rows)


def read(db: sqlite3.Connection, run: int) -> Kept:
    """Return what was written down of a run."""
    kept = Kept()
    sets = {SETTLED: kept.settled, DOUBTFUL: kept.doubtful}
    for what, part, start, stop in _rows(
        db, "SELECT what, part, start, stop FROM ranges WHERE run=? ORDER BY part, start", run
    ):
        sets[what].add(position(part, start), position(part, stop))
    for row, data in _rows(db, "SELECT batch, positions FROM notes WHERE run=?", run):
        kept.notes[row] = Ranges.from_bytes(data)
    kept.taken = dict(_rows(db, "SELECT part, stop FROM taken WHERE run=?", run))
    for part, *place in _rows(
        db, "SELECT part, ordinal, line, offset FROM places WHERE run=?", run
    ):
        kept.places[part] = Place(*place)
    kept.counts = counts(db, run)
    for code, field, column, *row in _rows(
        db, 'SELECT code, field, "column", reason, n, example FROM reasons WHERE run=?', run
    ):
        kept.reasons[code, field, column] = (row[0], row[1], row[2])
    kept.letters_length, kept.unsure = db.execute(
        "SELECT letters_length, unsure FROM runs WHERE id=?", (run,)
    ).fetchone()
    return kept


def counts(db: sqlite3.Connection, run: int) -> dict[CountKey, int]:
    """Return the counts of a run."""
    rows = _rows(db, "SELECT what, name, detail, n FROM counts WHERE run=?", run)
    return {(what, name, detail): n for what, name, detail, n in rows}


def recorded(db: sqlite3.Connection, run: int) -> Recorded:
    """Return how far what is written of a run can be trusted."""
    return Recorded(*db.execute("SELECT boot, ahead, told FROM runs WHERE id=?", (run,)).fetchone())


def forget(db: sqlite3.Connection, run: int, *, row: bool) -> None:
    """Delete what was kept of a run, inside of a transaction; with `row`, the run as well.

    Without it, where its dead letters are stays: they are asked for after its end.
    """
    for table in RUN_TABLES:
        but = "" if row or table != "counts" else f" AND what != '{LETTERS}'"
        db.execute(f"DELETE FROM {table} WHERE run=?{but}", (run,))
    if row:
        db.execute("DELETE FROM runs WHERE id=?", (run,))


def _rows(db: sqlite3.Connection, query: str, run: int) -> Iterator[tuple[Any, ...]]:
    return iter(db.execute(query, (run,)))


def _opened(path: str, *, uri: bool = False) -> sqlite3.Connection:
    # Used by one thread at a time, though not always by the one that opened it.
    return sqlite3.connect(
        path, timeout=PATIENCE, isolation_level=None, check_same_thread=False, uri=uri
    )


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.execute(f"PRAGMA page_size={PAGE_BYTES}")  # of no effect where there is one already
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
    with transaction(db):
        (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not tables:
            for table in _TABLES:
                db.execute(table)
            db.execute(f"PRAGMA application_id={APPLICATION}")
            db.execute(f"PRAGMA user_version={VERSION}")
        elif _marks(db) == (APPLICATION, 1):
            for change in _NEW_IN_2:
                db.execute(change)
            db.execute(f"PRAGMA user_version={VERSION}")
    _check_version(db, path)
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _not_ours(path, f"SQLite says: {verdict}")


def _marks(db: sqlite3.Connection) -> tuple[int, int]:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return application, version


def _check_version(db: sqlite3.Connection, path: Path, *known: int) -> None:
    application, version = _marks(db)
    if application != APPLICATION:
        raise _not_ours(path, "another program's database")
    if version not in (VERSION, *known):
        raise LocalFailure(
            f"the journal {path} has version {version}, and this ingest knows version {VERSION}. "
            "Use the ingest that wrote it, or choose another directory for the state"
        )


def _not_ours(path: Path, why: str) -> LocalFailure:
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
    return failure(path, error)


def _quoted(path: Path) -> str:
    return path.resolve().as_uri().removeprefix("file://")
