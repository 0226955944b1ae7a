"""What was waited for is on the disk, several settlements share a commit, and failures are told."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.balance import Balance
from ingest.errors import LocalFailure
from ingest.state import recording as recording_module
from ingest.state.groups import Kept, Place
from ingest.state.journal import Journal
from ingest.state.recording import LEAST_AHEAD, MOST_AHEAD, Recording, ahead
from tests.state.journals import NOW, begun, identity, letter, letters_in

PATIENCE = 20.0
"""Seconds after which something that should have happened is called missing."""


def starve(recording: Recording, *, pages: int | None = None) -> None:
    """Let the database take no page more than it has, or `pages` more than that."""
    (have,) = recording._db.execute("PRAGMA page_count").fetchone()
    recording._db.execute(f"PRAGMA max_page_count={have + (pages or 0)}")


def scatter(recording: Recording) -> int:
    """Settle so many records apart from each other that the database has to grow."""
    return recording.settle(range(0, 40_000, 2))


@given(st.integers(0, 1 << 30), st.integers(0, 1 << 20))
def test_more_is_announced_where_more_is_read(read: int, wanted: int) -> None:
    """Within bounds, but for one chunk that is larger than those."""
    announced = ahead(read, wanted)
    assert LEAST_AHEAD <= announced <= max(MOST_AHEAD, wanted)
    assert announced >= wanted
    assert ahead(read + 1, wanted) >= announced


def in_flight(kept: Kept) -> list[int]:
    """Return the positions that were in flight, as far as is written down."""
    noted = {at for ranges in kept.notes.values() for span in ranges for at in range(*span)}
    return sorted(at for at in noted if at not in kept.settled)


@pytest.mark.asyncio
async def test_what_was_waited_for_is_there_for_another_process(tmp_path: Path) -> None:
    """Read by another connection, a settlement is there as soon as its wait is over."""
    with Journal(tmp_path) as journal:
        run, balance = begun(journal, tmp_path), Balance()
        async with journal.record(run, balance, letters_in(tmp_path)) as recording:
            balance.read("event", 3)
            recording.begins(0, Place(0, 1, 0))
            recording.take_in(0, 3)
            await recording.durable(recording.note(7, [[0, 1], [2]]))
            noted = journal.kept(run)
            assert (in_flight(noted), list(noted.settled)) == ([0, 1, 2], [])
            balance.settle("event", "delivered", 2)
            await recording.durable(recording.conclude(7, [0, 1]))
            settled = journal.kept(run)
            assert (settled.notes, list(settled.settled)) == ({}, [(0, 2)])
            assert settled.counts["kind", "event", "delivered"] == 2
            assert settled.places == {0: Place(0, 1, 0)}


@pytest.mark.asyncio
async def test_many_that_wait_share_a_commit(tmp_path: Path) -> None:
    """A hundred settlements at one moment cost one or two commits, not a hundred."""
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
            tokens = [recording.note(number, [[number]]) for number in range(100)]
            await asyncio.gather(*map(recording.durable, tokens))
            assert recording.commits == 1
            await recording.durable()
            assert recording.commits == 1
            assert in_flight(journal.kept(run)) == list(range(100))


@pytest.mark.asyncio
async def test_batches_may_be_noted_and_ended_together(tmp_path: Path) -> None:
    """One token stands for all of them, and none is noted once the journal takes nothing new."""
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
            await recording.durable(recording.note_all({1: [[1]], 2: [[2], [5]]}))
            assert recording.commits == 1
            assert in_flight(journal.kept(run)) == [1, 2, 5]
            await recording.durable(recording.conclude_all([2, 1]))
            kept = journal.kept(run)
            assert (kept.notes, list(kept.settled)) == ({}, [(1, 3), (5, 6)])
            recording.relieve()
            with pytest.raises(LocalFailure, match="is full"):
                recording.note_all({3: [[3]]})
            assert recording.settling.in_flight == 0


@pytest.mark.asyncio
async def test_what_is_told_during_a_commit_goes_into_the_next(tmp_path: Path) -> None:
    """A wait that begins while the thread writes ends with the commit after that."""
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
            first = asyncio.create_task(recording.durable(recording.note(1, [[1]])))
            for _ in range(3):  # until the task waits, and the group is cut
                await asyncio.sleep(0)
            assert recording._writing
            second = recording.note(2, [[2]])
            await first
            assert recording.commits == 1
            await recording.durable(second)
            assert recording.commits == 2
            assert in_flight(journal.kept(run)) == [1, 2]


@pytest.mark.asyncio
async def test_what_nobody_waits_for_is_written_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, so that `ingest status` can tell of it."""
    monkeypatch.setattr(recording_module, "WRITE_WITHIN", 0.0)
    monkeypatch.setattr(recording_module, "COMMIT_EVERY", 0.0)
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
            loop, begun_by_itself = asyncio.get_running_loop(), asyncio.Event()

            def tell() -> None:
                loop.call_soon_threadsafe(begun_by_itself.set)

            recording._sync_letters = tell
            recording.take_in(0, 5)
            async with asyncio.timeout(PATIENCE):
                await begun_by_itself.wait()
            assert not recording._told


@pytest.mark.asyncio
async def test_whoever_stops_waiting_stops_nothing(tmp_path: Path) -> None:
    """A wait that is cancelled leaves the commit to the others that wait for it."""
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
            token = recording.note(1, [[1]])
            waits = [asyncio.create_task(recording.durable(token)) for _ in range(2)]
            await asyncio.sleep(0)
            waits[0].cancel()
            await waits[1]
            assert in_flight(journal.kept(run)) == [1]


@pytest.mark.asyncio
async def test_what_is_left_is_written_at_the_end(tmp_path: Path) -> None:
    """Closing commits what nobody waited for."""
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
            recording.mind(3)
            recording.settle([4])
        assert list(journal.kept(run).settled) == [(4, 5)]


@pytest.mark.asyncio
async def test_a_full_disk_takes_what_is_in_flight_and_nothing_new(tmp_path: Path) -> None:
    """The reserve makes room for settlements; no other batch may be noted, so none is sent."""
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
            await recording.durable(recording.note(1, [range(0, 10)]))
            starve(recording)
            release = recording._reserve.release

            def give_room() -> bool:
                recording._reserve.release = release  # type: ignore[method-assign]  # put back
                starve(recording, pages=1_000)
                return release()

            recording._reserve.release = give_room  # type: ignore[method-assign]  # a real one frees blocks
            recording.conclude(1)
            await recording.durable(scatter(recording))
            with pytest.raises(LocalFailure, match="make room on the disk"):
                recording.note(2, [[50_001]])
            await recording.finish("halted", b"{}", NOW)
        kept = journal.kept(run)
        assert (kept.notes, len(kept.settled)) == ({}, 20_005)
        assert not (tmp_path / "reserve").exists()


@pytest.mark.asyncio
async def test_a_disk_without_any_room_ends_the_run(tmp_path: Path) -> None:
    """Nothing of the commit is there, whoever waits hears why, and closing says nothing new."""
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path)
        async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
            await recording.durable(recording.note(1, [range(0, 10)]))
            starve(recording)
            token = scatter(recording)
            waits = [recording.durable(token) for _ in range(3)]
            failures = await asyncio.gather(*waits, return_exceptions=True)
            assert [type(error).__mro__[1] for error in failures] == [LocalFailure] * 3
            assert "Nothing was sent that is not noted there" in str(failures[0])
            with pytest.raises(LocalFailure):
                recording.note(2, [[1]])
            recording.conclude(1)
            with pytest.raises(LocalFailure):
                await recording.durable()
        kept = journal.kept(run)
        assert (in_flight(kept), len(kept.settled)) == (list(range(10)), 0)


@pytest.mark.asyncio
async def test_letters_are_on_the_disk_before_their_length_is(tmp_path: Path) -> None:
    """Where letters cannot be brought to the disk, nothing is settled."""
    with Journal(tmp_path) as journal:
        run, letters = begun(journal, tmp_path), letters_in(tmp_path)
        async with journal.record(run, Balance(), letters) as recording:

            def fail() -> None:
                raise LocalFailure("cannot write the dead letters")

            letters.write([letter()], NOW)
            recording._sync_letters = fail
            with pytest.raises(LocalFailure, match="dead letters"):
                await recording.durable(recording.settle([1]))
        assert list(journal.kept(run).settled) == []


@pytest.mark.asyncio
async def test_letters_that_find_no_room_take_the_reserve(tmp_path: Path) -> None:
    """They are written then, and nothing new may be sent."""
    with Journal(tmp_path) as journal:
        letters = letters_in(tmp_path)
        run = begun(journal, tmp_path)
        async with journal.record(run, Balance(), letters) as recording:
            assert letters.relief()
            assert not (tmp_path / "reserve").exists()
            assert not letters.relief()
            with pytest.raises(LocalFailure, match="is full"):
                recording.note(1, [[1]])
            await recording.durable(recording.settle([1]))


@pytest.mark.asyncio
async def test_a_database_that_breaks_meanwhile_is_told(tmp_path: Path) -> None:
    """Any other failure of SQLite is a sentence too."""
    with Journal(tmp_path) as journal:
        run = begun(journal, tmp_path, identity())
        async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
            recording._db.execute("DROP TABLE notes")
            with pytest.raises(LocalFailure, match=r"the journal .* failed: no such table") as told:
                await recording.durable(recording.note(1, [[1]]))
            assert isinstance(told.value.__cause__, sqlite3.OperationalError)
