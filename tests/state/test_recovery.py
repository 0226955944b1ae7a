"""What comes back of a run: all that was written after a kill, and a true doubt after a power cut.

A kill leaves what the operating system has: here, a copy of the directory. A power cut leaves what
was brought to the disk: a copy made when the last commit was.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import threading
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.balance import Balance
from ingest.errors import LocalFailure
from ingest.intake import Intake, IntakeRules
from ingest.ranges import Ranges
from ingest.records import KINDS, position
from ingest.state import journal as journal_module
from ingest.state import recording as recording_module
from ingest.state import redo, store
from ingest.state.dead_letters import DeadLetterFile
from ingest.state.journal import Journal, runs_in
from ingest.state.recording import Recording
from ingest.state.recovery import logged_in, news_in
from ingest.state.reporting import report_of
from ingest.state.resuming import sift
from tests.examples import examples
from tests.state.journals import NOW, begun, hash_with, identity, letter, letters_in

PARTS = (0, 1)
SIZE = 120
"""Records of each part."""

LEAST, MOST = 12, 30
"""Records that may be read beyond a commit here."""


def positions(ranges: Ranges) -> set[int]:
    """Each of them."""
    return {at for span in ranges for at in range(*span)}


@contextmanager
def little() -> Iterator[Path]:
    """A directory, and a machine: small steps between commits, which come when they are told to."""
    with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        directory = Path(made)
        (directory / "boot").write_text("first\n")
        patch.setattr(redo, "_LINUX", directory / "boot")
        for module in (recording_module, journal_module):
            patch.setattr(module, "LEAST_AHEAD", LEAST)
        patch.setattr(recording_module, "MOST_AHEAD", MOST)
        for name in ("WRITE_WITHIN", "COMMIT_EVERY"):
            patch.setattr(recording_module, name, 3_600.0)
        yield directory


class Process:
    """A process that reads the parts in order and sends, beside the truth about it."""

    def __init__(self, state: Path, disk: Path) -> None:
        self.state, self.disk = state, disk
        self.sent: Counter[int] = Counter()
        self.settled: set[int] = set()
        self.out: deque[tuple[int, list[int]]] = deque()
        self.written: tuple[set[int], set[int]] = set(), set()  # what is settled, and in flight
        self.batches = 0
        self.dead = False

    async def start(self, journal: Journal) -> None:
        """Go on with the run, or begin."""
        run = journal.find(identity()) or begun(journal, self.state)
        self.balance = Balance()
        self.letters = letters_in(self.state)
        self.recording = recording = journal.record(run, self.balance, self.letters)
        self.settled = positions(recording.settling.settled)
        self.written = set(self.settled), set()
        self.doubted = positions(recording.settling.doubtful)
        taken = recording.settling.taken
        left = [position(part, at) for part in PARTS for at in range(taken.get(part, 0), SIZE)]
        self.unread = deque(left)
        old = [position(part, at) for part, stop in taken.items() for at in range(stop)]
        self.unsent = [at for at in old if at not in self.settled]
        for at in self.unsent:
            if at in recording.settling.doubtful:
                self.balance.maybe_duplicated += 1
                recording.mind(at)
        self._watch(recording)
        copied(self.state, self.disk)

    def _watch(self, recording: Recording) -> None:
        """Note the truth with each entry, and what is on the disk with each commit."""
        append, written = recording._append, recording._written

        def noting() -> None:
            append()
            flying = {at for _, batch in self.out for at in batch}
            if not self.dead:
                self.written = set(self.settled), flying

        def copying(*told: Any) -> None:
            if not self.dead:
                copied(self.state, self.disk)
            written(*told)

        recording._append, recording._written = noting, copying  # type: ignore[method-assign,assignment]  # watched

    async def read(self, dice: int) -> None:
        """Read some records on, when the journal lets us."""
        count = min(1 + dice % 20, len(self.unread))
        if count:
            await self.recording.keep_up(count)
            self._take_in(count)

    async def rush(self, dice: int) -> None:
        """Read all that the journal allows by now, and send it."""
        while self.unread and not self.recording.holds_back(1):
            self._take_in(1)
        await self.send(1 << 16)

    def _take_in(self, count: int) -> None:
        """Read; every seventh record is invalid."""
        for _ in range(count):
            at = self.unread.popleft()
            part, ordinal = at >> 48, at & ((1 << 48) - 1)
            self.balance.read("event", 1)
            bad = [at] if ordinal % 7 == 3 else []
            if bad:
                self.letters.write([letter()], NOW)
                self.balance.settle("event", "invalid")
                self.settled.add(at)
            else:
                self.unsent.append(at)
                self.balance.maybe_duplicated += self.recording.settling.unsure > 0
            self.recording.take_in(part, ordinal + 1, bad)

    async def send(self, dice: int) -> None:
        """Send some of what was read, or all of it."""
        count = len(self.unsent) if dice == 1 << 16 else 1 + dice % 6
        batch, self.unsent = self.unsent[:count], self.unsent[count:]
        if batch:
            if self.recording.owes:
                await self.recording.durable()
            self.batches += 1
            self.out.append((self.batches, batch))
            self.recording.note(self.batches, [batch])
            self.recording.write()
            self.sent.update(batch)

    async def answer(self, dice: int) -> None:
        """One of what is in flight was taken, or is to go again."""
        if not self.out:
            return
        self.out.rotate(dice % len(self.out))
        number, batch = self.out.popleft()
        if dice % 5:
            self.balance.settle("event", "delivered", len(batch))
            self.settled |= set(batch)
            self.recording.conclude(number)
        else:
            self.recording.conclude(number, ())
            self.sent.subtract(batch)  # refused as a whole: it is nowhere
            self.unsent = batch + self.unsent

    async def end(self) -> None:
        """Read, send and deliver all that is left."""
        while self.unread or self.unsent or self.out:
            await self.read(19)
            await self.send(1 << 16)
            await self.answer(1)

    async def write(self, dice: int) -> None:
        """What was told is written, though nothing is sent."""
        self.recording.write()

    async def commit(self, dice: int) -> None:
        """Somebody waits for the disk."""
        await self.recording.durable()

    async def begin(self, dice: int) -> None:
        """A commit begins, and nobody waits for it."""
        self.recording._hurry()
        await asyncio.sleep(0)

    async def rest(self, dice: int) -> None:
        """Others get their turn: a commit may come to its end."""
        await asyncio.sleep(0.002 * (dice % 2))


def letters_kept(state: Path, length: int) -> int:
    """How many letters are in so many bytes of the file."""
    path = state / "letters.ndjson"
    return path.read_bytes()[:length].count(b"\n") if path.exists() else 0


def copied(state: Path, to: Path) -> None:
    """Copy a directory as it is."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(state, to)


TURNS = ("commit", "begin", "rest")
RUSH, COMMIT, BEGIN, REST = (("rush", 0), ("commit", 0), ("begin", 0), ("rest", 1))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            (*["read", "send", "answer"] * 4, *["rush"] * 2, "write", "commit", "rest")
        ),
        st.integers(0, 1 << 10),
    ),
    max_size=50,
)


async def lived(
    state: Path, disk: Path, steps: list[tuple[str, int]] | None, left: Path
) -> Process:
    """Let a process do some steps, or all there is to do, and copy what a kill then leaves."""
    process = Process(state, disk)
    with Journal(state) as journal:
        await process.start(journal)
        for what, dice in steps or ():
            await getattr(process, what)(dice)
        if steps is None:
            await process.end()
        copied(state, left)
        process.dead = True
        await process.recording.aclose()
    return process


@settings(deadline=None, max_examples=examples(50))
@given(STEPS, STEPS)
def test_a_kill_leaves_all_that_was_written(
    steps: list[tuple[str, int]], further: list[tuple[str, int]]
) -> None:
    """What was settled by the last entry is, and what was in flight then is noted, no more."""
    with little() as directory:
        state, disk, left = (directory / name for name in ("state", "disk", "left"))
        for taken in (steps, further):
            process = asyncio.run(lived(state, disk, taken, left))
            copied(left, state)  # as a kill leaves it, and closing did not
            settled, flying = process.written
            (seen,) = runs_in(state)
            with Journal(state) as journal:
                (run,) = journal.runs()
                kept = journal.kept(run)
                assert seen.records == run.records
            assert positions(kept.settled) == settled
            assert run.records["read"] - run.records["pending"] == len(settled)
            noted = set().union(*map(positions, kept.notes.values()))
            assert noted - settled == flying
            assert positions(kept.doubtful) <= process.doubted
            assert letters_kept(state, kept.letters_length) == run.records["invalid"]


@settings(deadline=None, max_examples=examples(80))
@example([([RUSH], False), ([RUSH], True)])  # the count of the second copy goes with the machine
@example([([RUSH, COMMIT, RUSH], True), ([], True)])  # what was doubted stays so
@example([([RUSH, COMMIT, RUSH], True), ([], False)])
@example([([RUSH, BEGIN, RUSH], True)])  # cut before the commit is done
@example([([RUSH, COMMIT, ("read", 0), BEGIN, RUSH, REST, REST], True)])  # or after that
@given(st.lists(st.tuples(STEPS, st.booleans()), min_size=1, max_size=3))
def test_every_extra_copy_after_a_power_cut_is_counted(
    lives: list[tuple[list[tuple[str, int]], bool]],
) -> None:
    """However kills and cuts follow each other, nothing is lost, and no copy goes uncounted."""
    with little() as directory:
        state, disk, left = (directory / name for name in ("state", "disk", "left"))
        sent: Counter[int] = Counter()
        for number, (steps, cut) in enumerate(lives):
            process = asyncio.run(lived(state, disk, steps, left))
            sent += process.sent
            if cut:
                (directory / "boot").write_text(f"boot {number}\n")
            copied(disk if cut else left, state)
            with Journal(state) as journal:
                (run,) = journal.runs()
                kept = journal.kept(run)
            assert positions(kept.settled) <= process.settled
            assert letters_kept(state, kept.letters_length) == run.records["invalid"]
            assert kept.unsure <= max(MOST, 20)
        last = asyncio.run(lived(state, disk, None, left))
        sent += last.sent
        (run,) = runs_in(state)
        records = run.records
        assert records["read"] == len(PARTS) * SIZE == records["delivered"] + records["invalid"]
        assert len(sent) == records["delivered"]
        assert sent.total() - len(sent) <= run.of_which["maybe_duplicated"]


def test_a_machine_without_a_name_for_its_boots_doubts_more(tmp_path: Path) -> None:
    """There every kill is taken for a power cut: nothing is lost, and more is counted."""
    with little() as directory:
        (directory / "boot").write_text("")
        steps = [("read", 9), ("send", 5), ("answer", 1), ("write", 0)]
        asyncio.run(lived(tmp_path / "a", tmp_path / "disk", steps, tmp_path / "b"))

        async def resumed() -> tuple[int, int]:
            with Journal(tmp_path / "b") as journal:
                (run,) = journal.runs()
                async with journal.record(run, Balance(), letters_in(tmp_path / "b")) as recording:
                    return recording.settling.unsure, len(recording.settling.settled)

        assert asyncio.run(resumed()) == (LEAST, 0)


@pytest.mark.asyncio
async def test_records_that_may_have_been_sent_are_read_as_such(tmp_path: Path) -> None:
    """As many of the next new ones as the run is unsure of; those that come after are new."""
    lines = [
        b'{"event":{"external_id":"u%d","name":"n","time":"2026-01-01T00:00:00Z"}}' % n
        for n in range(9)
    ]
    with little():
        state = tmp_path / "state"
        with Journal(state) as journal:
            run = begun(journal, tmp_path)
            async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
                recording.take_in(0, 2)
                await recording.durable(recording.settle([0]))
                copied(state, tmp_path / "left")
        store_in = tmp_path / "left"
        with sqlite3.connect(store.path_in(store_in)) as db:
            db.execute("UPDATE runs SET ahead=3, boot='an earlier one'")
        db.close()
        with Journal(store_in) as journal:
            (run,) = journal.runs()
            async with journal.record(run, Balance(), letters_in(tmp_path)) as recording:
                settling, asked = recording.settling, []
                assert settling.unsure == 3
                for first in (0, 4, 5):
                    (taken,) = Intake(IntakeRules()).take(0, lines[: first + 4][first:], first + 1)
                    for chunk in taken.chunks:
                        chunk.positions = [first + at for at in range(len(chunk.positions))]

                    def again(chunk: object, row: int, first: int = first) -> bool:
                        asked.append(first + row)
                        return True

                    sift(taken, settling, KINDS, again)
                    recording.take_in(0, first + 4)
                assert settling.unsure == 0
    assert asked == [1, 2, 3, *range(4, 8)]


@pytest.mark.asyncio
async def test_another_credential_is_kept_after_a_kill(tmp_path: Path) -> None:
    """Once something was delivered with it, though no commit came to tell of that."""
    other = hash_with("other")
    with little():
        state, balance = tmp_path / "state", Balance()
        with Journal(state) as journal:
            run = begun(journal, tmp_path)
            async with journal.record(
                run, balance, letters_in(tmp_path), hash_of=other
            ) as recording:
                recording.settle([0])
                recording.write()
                copied(state, tmp_path / "before")
                balance.settle("event", "delivered")
                recording.settle([1])
                recording.write()
                copied(state, tmp_path / "after")
        for name, kept in (("before", "key"), ("after", "other")):
            with Journal(tmp_path / name) as journal:
                (run,) = journal.runs()
                assert not run.credential_changed(hash_with(kept))


@pytest.mark.asyncio
async def test_a_run_that_was_killed_is_told_of_to_its_last_entry(tmp_path: Path) -> None:
    """Its counts and its report, without anybody who goes on with it."""
    with little():
        state, balance = tmp_path / "state", Balance()
        with Journal(state) as journal:
            run = begun(journal, tmp_path)
            async with journal.record(run, balance, letters_in(tmp_path)) as recording:
                balance.read("event", 3)
                balance.settle("event", "invalid")
                balance.explain("c", "f", "invalid", "why", "x:1")
                recording.take_in(0, 3, [1])
                recording.write()
                copied(state, tmp_path / "left")
        (found,) = runs_in(tmp_path / "left")
        assert (found.state, found.records["read"], found.records["pending"]) == ("crashed", 3, 2)
        report = report_of(tmp_path / "left", found)
    assert (report["records"]["invalid"], report["reasons"][0]["example"]) == (1, "x:1")


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
