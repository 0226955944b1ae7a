"""A run is found again with all that was written of it, and told from those like it."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingest.balance import Balance
from ingest.codec import dumps
from ingest.errors import LocalFailure
from ingest.state import store
from ingest.state.groups import Place
from ingest.state.journal import Journal, runs_in
from tests.state.journals import NAME, NOW, begun, hash_with, identity, letter, letters_in


async def some(journal: Journal, directory: Path, *, delivered: int = 3, state: str = "") -> None:
    """Let a run begin, or go on, deliver some of ten records, and end in a state."""
    run, balance = journal.find(identity()) or begun(journal, directory), Balance()
    letters = letters_in(directory)
    async with journal.record(run, balance, letters) as recording:
        done = len(recording.settling.settled)
        if not done:
            balance.read("event", 10)
            recording.take_in(0, 10)
        balance.settle("event", "delivered", delivered)
        recording.settle(range(done, done + delivered))
        if state:
            report = {"state": state, "records": balance.columns(), "of_which": {}}
            await recording.finish(state, dumps(report), NOW + 60)


@pytest.mark.asyncio
async def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """After a crash the balance and the positions are those of the last commit."""
    with Journal(tmp_path) as journal:
        assert journal.find(identity()) is None
        assert not begun(journal, tmp_path).resumable
        await some(journal, tmp_path)
    with Journal(tmp_path) as journal:
        run = journal.find(identity())
        assert run is not None
        assert (run.name, run.state, run.resumable) == (NAME, "crashed", True)
        assert (run.frozen, run.identity) == ({"types": ["text"]}, identity())
        assert (run.delivered, run.records["pending"], run.records["read"]) == (3, 7, 10)
        journal.reopen(run)
        await some(journal, tmp_path, delivered=7, state="finished")
        ended = journal.find(identity())
        assert ended is not None
        assert (ended.state, ended.delivered, ended.resumable) == ("finished", 10, False)
        assert ended.report is not None
        assert ended.report["records"]["read"] == 10
        assert ended.ended == NOW + 60


@pytest.mark.asyncio
async def test_of_a_finished_run_only_its_report_stays(tmp_path: Path) -> None:
    """Positions and notes are of no use any more."""
    with Journal(tmp_path) as journal:
        await some(journal, tmp_path, state="finished")
        for table in store.RUN_TABLES:
            assert journal._db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


@pytest.mark.asyncio
async def test_a_run_that_was_stopped_keeps_its_positions(tmp_path: Path) -> None:
    """It has a report, and goes on all the same."""
    with Journal(tmp_path) as journal:
        await some(journal, tmp_path, state="interrupted")
        run = journal.find(identity())
        assert run is not None
        assert (run.state, run.resumable, run.report and run.report["state"]) == (
            "interrupted",
            True,
            "interrupted",
        )
        assert list(journal.kept(run).settled) == [(0, 3)]


@pytest.mark.asyncio
async def test_letters_of_records_that_were_not_settled_are_cut_away(tmp_path: Path) -> None:
    """Those that were committed stay, those of others too, and half a letter of a crash goes."""
    letters = letters_in(tmp_path)
    letters_in(tmp_path, "earlier").write([letter()], NOW)
    before = letters.length
    assert before
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        async with journal.record(run, Balance(), letters) as recording:
            letters.write([letter()], NOW)
            await recording.durable(recording.settle([1]))
        letters.write([letter()] * 2, NOW)
        letters_in(tmp_path, "later").write([letter()], NOW)
        with letters.path.open("ab") as file:
            file.write(b'{"v":1,"run":"half')
        again = letters_in(tmp_path)
        async with journal.record(run, Balance(), again):
            names = [line.split(b'"')[5] for line in letters.path.read_bytes().splitlines()]
            assert names == [b"earlier", NAME.encode(), b"later"]
            assert again.length == letters.path.stat().st_size


@pytest.mark.asyncio
async def test_letters_may_go_elsewhere_on_a_resume(tmp_path: Path) -> None:
    """The old file is cut to what was settled, and the new one is the run's from then on."""
    old, new = letters_in(tmp_path), letters_in(tmp_path / "other")
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        async with journal.record(run, Balance(), old) as recording:
            old.write([letter()], NOW)
            await recording.durable(recording.settle([1]))
        length = old.length
        old.write([letter()], NOW)
        async with journal.record(run, Balance(), new) as recording:
            assert old.path.stat().st_size == length
            new.write([letter()], NOW)
            await recording.durable(recording.settle([2]))
        found = journal.find(identity())
        assert found is not None
        assert found.letters_path == str(new.path)
        assert journal.kept(found).letters_length == new.length


def test_letters_that_were_taken_away_are_no_failure(tmp_path: Path) -> None:
    """How many bytes are missing is said; what comes next begins where the file ends."""
    letters = letters_in(tmp_path)
    assert letters.cut(100) == 100
    letters.write([letter()], NOW)
    assert letters.length == letters.path.stat().st_size
    letters.sync()
    letters.close()
    letters.sync()
    assert letters_in(tmp_path).cut(letters.length) == 0


def test_another_credential_is_noticed(tmp_path: Path) -> None:
    """By a hash that is salted for each run."""
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        assert not run.credential_changed(hash_with("key"))
        assert run.credential_changed(hash_with("other"))
        journal.reopen(run)
        again = journal.find(identity())
        assert again is not None
        assert again.credential_changed(hash_with("other"))
        second = begun(journal, tmp_path, identity("second.ndjson"))
        assert second.salt != run.salt
    assert b"key" not in (tmp_path / store.FILE).read_bytes()


@pytest.mark.asyncio
async def test_an_input_that_changed_is_a_conflict_until_the_run_is_over(tmp_path: Path) -> None:
    """It names the run and the file; a finished or forgotten run minds nothing."""
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        assert journal.conflicts(identity()) == []
        (found,) = journal.conflicts(identity(size=11))
        assert (found.name, found.changed, found.shared) == (NAME, ("users.ndjson",), ())
        await some(journal, tmp_path, state="finished")
        assert journal.conflicts(identity(size=11)) == []
        journal.forget(run)
        assert journal.find(identity()) is None
        assert journal.runs() == []
        begun(journal, tmp_path)


@pytest.mark.asyncio
async def test_the_runs_can_be_listed_while_one_goes_on(tmp_path: Path) -> None:
    """Another process reads them, with the balance as far as it is committed."""
    assert runs_in(tmp_path / "nowhere") == []
    with Journal(tmp_path) as journal:
        first = begun(journal, tmp_path, identity("first.ndjson"))
        await some(journal, tmp_path)
        listed = runs_in(tmp_path)
        assert [run.identity.paths for run in listed] == [["users.ndjson"], ["first.ndjson"]]
        assert [run.state for run in listed] == ["running", "running"]
        assert listed[0].records["delivered"] == 3
        assert listed[0].of_which == {"queued": 0, "warned": 0, "maybe_duplicated": 0}
        assert listed[0].command == "ingest import users.ndjson"
        assert [run.state for run in journal.runs()] == ["crashed", "crashed"]
        assert first.records == dict.fromkeys(listed[0].records, 0)
    assert [run.state for run in runs_in(tmp_path)] == ["crashed", "crashed"]


@pytest.mark.asyncio
async def test_what_was_in_flight_is_in_doubt_until_it_is_minded(tmp_path: Path) -> None:
    """Through any number of crashes, each of its records once."""
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
            recording.begins(0, Place(0, 1, 0))
            recording.take_in(0, 4)
            recording.note(0, [[0, 1, 2]])
            recording.settle([1])
        for _ in range(2):
            async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
                assert list(recording.settling.doubtful) == [(0, 1), (2, 3)]
                assert recording.settling.in_flight == 0
        async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
            recording.mind(0)
            recording.note(0, [[0]])
            await recording.durable()
            recording.conclude(0)
        async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
            assert list(recording.settling.doubtful) == [(2, 3)]
            assert list(recording.settling.settled) == [(0, 2)]


def test_files_are_private(tmp_path: Path) -> None:
    """Also one that somebody made readable."""
    state = tmp_path / "state"
    with Journal(state):
        pass
    (state / store.FILE).chmod(0o644)
    with Journal(state) as journal:
        begun(journal, state)
        assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o600}
        assert stat.S_IMODE(state.stat().st_mode) == 0o700


def scribble(path: Path) -> None:
    """Write over the middle of the tables."""
    data = bytearray(path.read_bytes())
    data[4_096 : len(data)] = os.urandom(len(data) - 4_096)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_bytes(b"no database at all" * 100), "damaged or no journal"),
        (scribble, "damaged or no journal"),
        (lambda path: path.write_bytes(path.read_bytes()[:8_192]), "damaged or no journal"),
    ],
)
def test_a_damaged_file_is_never_gone_on_with(tmp_path: Path, spoil: Any, says: str) -> None:
    """The sentence says what it would cost to move it away; the directory is free again."""
    with Journal(tmp_path) as journal:
        begun(journal, tmp_path)
    spoil(tmp_path / store.FILE)
    for _ in range(2):
        with pytest.raises(LocalFailure, match=says) as caught:
            Journal(tmp_path)
        assert "move it away" in str(caught.value)


@pytest.mark.parametrize(
    ("pragma", "says"),
    [
        ("user_version=9", "has version 9, and this ingest knows"),
        ("application_id=7", "no journal"),
    ],
)
def test_a_file_of_another_version_or_program_is_left_alone(
    tmp_path: Path, pragma: str, says: str
) -> None:
    """To read it as ours would be to guess."""
    with Journal(tmp_path) as journal:
        journal._db.execute(f"PRAGMA {pragma}")
    with pytest.raises(LocalFailure, match=says):
        Journal(tmp_path)
    with pytest.raises(LocalFailure, match=says):
        runs_in(tmp_path)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (sqlite3.SQLITE_READONLY, "Mend the permissions of the state directory"),
        (sqlite3.SQLITE_CANTOPEN, "Mend the permissions of the state directory"),
        (sqlite3.SQLITE_FULL, "make room on the disk"),
        (sqlite3.SQLITE_IOERR_WRITE, "make room on the disk"),
        (sqlite3.SQLITE_CORRUPT_INDEX, "Restore it from a backup"),
        (sqlite3.SQLITE_BUSY, "Start again"),
    ],
)
def test_each_failure_says_what_to_do(tmp_path: Path, code: int, says: str) -> None:
    """By what failed, in whichever way."""
    error = sqlite3.OperationalError("so it is")
    error.sqlite_errorcode = code
    failed = store.failure(tmp_path / store.FILE, error)
    assert says in str(failed)
    assert "so it is" in str(failed)
    assert failed.exit_status == 4


def test_a_journal_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Its place is taken by something else; the directory is free again."""
    (tmp_path / store.FILE).mkdir()
    for _ in range(2):
        with pytest.raises(LocalFailure, match=r"cannot use the state directory: .*journal"):
            Journal(tmp_path)


def test_a_journal_that_must_not_be_written_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLite may not even make its shared memory, the file alone is read."""
    with Journal(tmp_path) as journal:
        begun(journal, tmp_path)
    opened = store._opened

    def refuse(path: str, *, uri: bool = False) -> sqlite3.Connection:
        if "immutable" not in path:
            raise sqlite3.OperationalError("unable to open database file")
        return opened(path, uri=uri)

    monkeypatch.setattr(store, "_opened", refuse)
    assert [run.name for run in runs_in(tmp_path)] == [NAME]


@pytest.mark.asyncio
async def test_another_credential_is_kept_once_something_was_delivered_with_it(
    tmp_path: Path,
) -> None:
    """One that is refused leaves the run to the old one."""
    letters, balance = letters_in(tmp_path), Balance()
    other = hash_with("other")
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        async with journal.record(run, balance, letters, hash_of=other) as recording:
            balance.read("event", 2)
            balance.settle("event", "rejected")
            await recording.durable(recording.settle([0]))
            found = journal.find(identity())
            assert found is not None
            assert not found.credential_changed(hash_with("key"))
            balance.settle("event", "delivered")
            await recording.durable(recording.settle([1]))
            found = journal.find(identity())
            assert found is not None
            assert not found.credential_changed(other)
            await recording.durable(recording.settle([2]))


@pytest.mark.asyncio
async def test_the_files_of_dead_letters_are_kept_and_counted(tmp_path: Path) -> None:
    """Of all processes of a run, and beyond its end; letters that were not settled do not count."""
    old, new = letters_in(tmp_path), letters_in(tmp_path / "other")
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        async with journal.record(run, Balance(), old) as recording:
            old.write([letter()] * 3, NOW)
            await recording.durable(recording.settle([1]))
        old.write([letter()], NOW)
        async with journal.record(run, Balance(), new) as recording:
            new.write([letter()], NOW)
            await recording.durable(recording.settle([2]))
        again = letters_in(tmp_path)
        async with journal.record(run, Balance(), again) as recording:
            assert again.written == 3
            again.write([letter()], NOW)
            await recording.durable(recording.settle([3]))
            assert recording.seconds >= 0
            await recording.finish("finished", b"{}", NOW)
    (found,) = runs_in(tmp_path)
    assert found.letters == {str(old.path): 4, str(new.path): 1}


def test_what_goes_on_is_written_down(tmp_path: Path) -> None:
    """What was typed last, and what is frozen; what is not said stays."""
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        journal.reopen(run, command="ingest import users.ndjson --rate 1/1s")
        journal.reopen(msgspec.structs.replace(run, command="c"), frozen={"cwd": "/x"})
        (found,) = journal.runs()
    assert (found.command, found.frozen) == ("c", {"cwd": "/x"})
