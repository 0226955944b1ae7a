"""Processes of a run that end in the middle, on a machine that may go down with them.

A kill leaves what the operating system has: here, a copy of the directory. A power cut leaves what
was brought to the disk: a copy made when the last commit was.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.balance import Balance
from ingest.ranges import Ranges
from ingest.records import position
from ingest.state import journal as journal_module
from ingest.state import recording as recording_module
from ingest.state import redo
from ingest.state.journal import Journal
from ingest.state.recording import Recording
from tests.state.journals import NOW, begun, identity, letter, letters_in

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
