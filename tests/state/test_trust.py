"""How much of a log is gone on with, and what is doubted where it is not all."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import zlib
from pathlib import Path

import pytest

from ingest.balance import Balance
from ingest.errors import LocalFailure
from ingest.state import redo, store
from ingest.state.dead_letters import DeadLetterFile
from ingest.state.journal import Journal, runs_in
from ingest.state.recovery import logged_in, news_in
from tests.state.journals import NOW, begun, identity, letters_in
from tests.state.recovering import (
    LEAST,
    copied,
    little,
    positions,
)


@pytest.mark.asyncio
async def test_where_an_entry_is_missing_those_after_it_are_not_trusted(tmp_path: Path) -> None:
    """Somebody took a file away: what comes before is true, and the rest is in doubt."""
    with little():
        state = tmp_path / "state"
        with Journal(state) as journal:
            run = begun(journal, tmp_path)
            async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
                for at in range(4):
                    recording.take_in(0, at + 1)
                    recording.settle([at])
                    recording.write()
                copied(state, tmp_path / "left")
        path = tmp_path / "left" / redo.FILES[0]
        heading, *entries = map(bytes, redo._frames(path.read_bytes()))
        assert len(entries) == 4
        del entries[2]
        path.write_bytes(b"".join(map(framed, (heading, *entries))))
        for _ in range(2):
            assert runs_in(tmp_path / "left")[0].state == "crashed"
            with Journal(tmp_path / "left") as journal:
                (run,) = journal.runs()
                assert list(journal.kept(run).settled) == [(0, 2)]
        with Journal(tmp_path / "left") as journal:
            async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
                assert recording.settling.unsure == LEAST


def framed(data: bytes) -> bytes:
    """What was a frame, as one."""
    return redo._FRAME.pack(len(data), zlib.crc32(data)) + data


@pytest.mark.asyncio
async def test_what_is_read_beside_a_run_is_of_one_moment(tmp_path: Path) -> None:
    """A commit between the look at the log and that at the database hides and repeats nothing."""
    with little():
        balance = Balance()
        with Journal(tmp_path) as journal:
            run = begun(journal, tmp_path)
            async with journal.record(run, balance, letters_in(tmp_path)) as recording:
                balance.read("event", 3)
                recording.take_in(0, 3)
                recording.write()
                logged = logged_in(tmp_path)
                balance.read("event", 4)
                await recording.durable(recording.take_in(0, 7))
                with store.reading(store.path_in(tmp_path)) as db:
                    assert db is not None
                    (news,) = news_in(db, logged).values()
                    assert (news.entries, news.whole) == ([], True)
                    balance.read("event", 1)
                    await recording.durable(recording.take_in(0, 8))
                    assert store.counts(db, run.id)["kind", "event", "read"] == 7
                assert runs_in(tmp_path)[0].records["read"] == 8


@pytest.mark.asyncio
async def test_the_log_of_a_run_that_is_over_tells_nothing(tmp_path: Path) -> None:
    """Killed between its end and that of its log, the run has a report, and no positions."""
    with little():
        state, balance = tmp_path / "state", Balance()
        with Journal(state) as journal:
            run = begun(journal, tmp_path)
            async with journal.record(run, balance, letters_in(tmp_path)) as recording:
                balance.read("event", 1)
                balance.settle("event", "delivered")
                recording.take_in(0, 1)
                recording.settle([0])
                await recording.finish("finished", b'{"records": {"read": 1}}', NOW)
                copied(state, tmp_path / "left")
        for _ in range(2):
            (found,) = runs_in(tmp_path / "left")
            assert (found.state, found.records["read"]) == ("finished", 1)
            with Journal(tmp_path / "left") as journal:
                for table in store.RUN_TABLES:
                    count = journal._db.execute(f"SELECT count(*) FROM {table}").fetchone()
                    assert count == (0,)


@pytest.mark.asyncio
async def test_the_log_of_a_run_that_was_forgotten_is_nobodys(tmp_path: Path) -> None:
    """Another run may have its number, and nothing of the old one."""
    with little():
        state = tmp_path / "state"
        with Journal(state) as journal:
            run = begun(journal, tmp_path)
            async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
                recording.settle([1])
                recording.write()
                copied(state, tmp_path / "left")
        with Journal(tmp_path / "left") as journal:
            (run,) = journal.runs()
            journal.forget(run)
            assert begun(journal, tmp_path).id == run.id
        with Journal(tmp_path / "left") as journal:
            (run,) = journal.runs()
            assert len(journal.kept(run).settled) == 0


def test_a_journal_of_the_first_version_is_gone_on_with(tmp_path: Path) -> None:
    """It gets what is new, and an older ingest leaves it alone; to be read it needs nothing."""
    with Journal(tmp_path) as journal:
        begun(journal, tmp_path)
    with sqlite3.connect(store.path_in(tmp_path), isolation_level=None) as db:
        for column in ("boot", "ahead", "told", "unsure"):
            db.execute(f"ALTER TABLE runs DROP COLUMN {column}")
        db.execute("PRAGMA user_version=1")
    db.close()
    assert [run.state for run in runs_in(tmp_path)] == ["crashed"]
    with Journal(tmp_path) as journal:
        (run,) = journal.runs()
        assert store.recorded(journal._db, run.id) == store.Recorded("", 0, 0)
        assert journal._db.execute("PRAGMA user_version").fetchone() == (store.VERSION,)


@pytest.mark.asyncio
async def test_a_log_that_finds_no_room_ends_the_run(tmp_path: Path) -> None:
    """Once the reserve is used up too: whoever waits hears it, and what is in the log stays."""
    with little():
        state = tmp_path / "state"
        with Journal(state) as journal:
            run = begun(journal, tmp_path)
            async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
                recording.note(1, [[1]])
                recording.write()

                def full(entry: object) -> None:
                    raise OSError(28, "No space left on device")

                recording._log.append = full  # type: ignore[method-assign]  # as a full disk does
                waits = asyncio.create_task(recording.durable(recording.settle([2])))
                await asyncio.sleep(0)
                with pytest.raises(LocalFailure, match="No space left on device"):
                    recording.write()
                with pytest.raises(LocalFailure, match="No space left on device"):
                    await waits
                with pytest.raises(LocalFailure, match="No space left on device"):
                    recording.note(2, [[3]])
                recording.settle([4])
        with Journal(state) as journal:
            (run,) = journal.runs()
            kept = journal.kept(run)
            assert {at for ranges in kept.notes.values() for at in positions(ranges)} == {1}
            assert len(kept.settled) == 0


@pytest.mark.asyncio
async def test_a_log_stays_where_closing_was_broken_off(tmp_path: Path) -> None:
    """What was told while the last commit was under way is found by whoever goes on."""
    with little():
        goes_on = threading.Event()
        with Journal(tmp_path) as journal:
            run = begun(journal, tmp_path)
            recording = journal.record(run, Balance(), letters_in(tmp_path))
            recording._sync_letters = lambda: waited(goes_on)
            recording.take_in(0, 9)
            recording.note(1, [[1]])
            closing = asyncio.create_task(recording.aclose())
            while not recording._writing:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0)
            recording.note(2, [[2]])
            recording.write()
            recording.note(3, [[3]])
            closing.cancel()
            await asyncio.sleep(0)
            goes_on.set()
            with pytest.raises(asyncio.CancelledError):
                await closing
            recording.settle([4])  # nobody takes that down any more
            await asyncio.sleep(0)
        with Journal(tmp_path) as journal:
            async with journal.record(run, Balance(), letters_in(tmp_path)) as again:
                assert positions(again.settling.doubtful) == {1, 2, 3}
                assert again.settling.unsure == 0


def waited(event: threading.Event) -> None:
    """Wait as a slow disk does."""
    assert event.wait(60)


@pytest.mark.asyncio
async def test_what_settles_before_its_letter_is_safe_is_not_trusted(tmp_path: Path) -> None:
    """Of letters to a broker that has them not: a kill takes them, and so the end of the record."""
    with little():
        state, safe = tmp_path / "state", [True, False, False, True, True]
        with Journal(state) as journal:
            run = begun(journal, tmp_path)
            async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
                recording._letters_safe = lambda: safe.pop(0)
                for at in range(4):
                    recording.take_in(0, at + 1)
                    recording.settle([at])
                    recording.write()
                copied(state, tmp_path / "left")
                await asyncio.sleep(0)
                assert recording._writing  # at once, for it waits until they are safe
        with Journal(tmp_path / "left") as journal:
            (run,) = journal.runs()
            async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
                assert positions(recording.settling.settled) == {0}
                assert recording.settling.unsure == LEAST


@pytest.mark.asyncio
async def test_a_log_is_not_trusted_once_letters_may_be_lost(tmp_path: Path) -> None:
    """A disk that fails tells of it once: the next process would find nothing amiss."""
    with little():
        with Journal(tmp_path) as journal:
            run = begun(journal, tmp_path)
            async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:

                def fails() -> None:
                    raise LocalFailure("cannot write the dead letters")

                recording.take_in(0, 2)
                recording._sync_letters = fails
                with pytest.raises(LocalFailure, match="dead letters"):
                    await recording.durable(recording.settle([1]))
                recording.settle([0])
        with Journal(tmp_path) as journal:
            for _ in range(2):  # nor by another recording of the same journal
                async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
                    assert len(recording.settling.settled) == 0
                    assert recording.settling.unsure == LEAST


@pytest.mark.asyncio
async def test_another_run_in_between_makes_a_kill_no_power_cut(tmp_path: Path) -> None:
    """Where nothing was told since the last commit, as where something was."""
    for name, late in (("a", False), ("b", True)):
        with little():
            state, left = tmp_path / name, tmp_path / f"{name} left"
            with Journal(state) as journal:
                run = begun(journal, tmp_path)
                async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
                    recording.take_in(0, 3)
                    await recording.durable(recording.note(1, [[1]]))
                    if late:
                        recording.settle([0])
                        recording.write()
                    copied(state, left)
            with Journal(left) as journal:
                other = begun(journal, tmp_path, identity("other.ndjson"))
                async with journal.record(other, Balance(), letters_in(tmp_path)):
                    pass
            with Journal(left) as journal:
                found = journal.find(identity())
                assert found is not None
                async with journal.record(found, Balance(), letters_in(tmp_path)) as recording:
                    assert recording.settling.unsure == 0
                    assert positions(recording.settling.doubtful) == {1}


@pytest.mark.asyncio
async def test_a_log_that_was_just_begun_proves_nothing(tmp_path: Path) -> None:
    """Killed before the database says that the run goes on: the doubts of before remain."""
    with little() as directory:
        with Journal(tmp_path) as journal:
            run = begun(journal, tmp_path)
            async with journal.record(run, Balance(), letters_in(tmp_path)):
                copied(tmp_path, tmp_path / "left")
        (directory / "boot").write_text("second")
        heading = redo.Heading(redo.VERSION, "second", run.salt, None)
        redo.RedoLog(tmp_path / "left", heading).close()
        with Journal(tmp_path / "left") as journal:
            async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
                assert recording.settling.unsure == LEAST


def test_letters_that_are_no_file_keep_nobody_from_going_on(tmp_path: Path) -> None:
    """A pipe that nobody writes to would be waited for; what is gone was somebody's to take."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for name in ("pipe", "file", "file/gone", "gone"):
        DeadLetterFile(tmp_path / name, run="r").bring_to_disk()
