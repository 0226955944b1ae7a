"""A run in a process of its own, to be killed: `run|check|list STATE LOG [OPTION...]`.

It "sends" by appending a batch to LOG after its note is written, and appends what is settled once
that is written, or durable. Options: `fsize=BYTES` limits the size of files, `fill=BATCHES` fills
the disk after so many batches, `batches=N` ends the run after so many. `check` says as JSON what
the journal holds against the log. Exit status 4 and a sentence on stderr when the journal fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import sys
from itertools import count
from pathlib import Path
from typing import Any, Final

from ingest.balance import Balance
from ingest.codec import dumps, loads
from ingest.errors import LocalFailure
from ingest.ranges import Ranges
from ingest.state.identity import InputFile, RunIdentity
from ingest.state.journal import Journal, runs_in
from ingest.state.recording import Recording
from tests.state.journals import NAME, NOW, hash_with, letter, letters_in

BATCH: Final = 75
IN_FLIGHT: Final = 8
WHO: Final = RunIdentity((InputFile("x", 1, 1, "h", "t"),), {}, "braze", "a.example")


class Worker:
    """The run: reads ever more records, and keeps some batches in flight."""

    def __init__(
        self, recording: Recording, letters: Any, log: Path, given: dict[str, int]
    ) -> None:
        self.recording = recording
        self.letters = letters
        self.given = given
        self.balance = recording.settling.balance
        self.numbers = count()
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.dice = random.Random(os.getpid())
        kept = recording.settling
        self.next = kept.taken.get(0, 0)
        # What was read and not settled goes first, as a resume reads it again.
        self.again = list(Ranges([(0, self.next)]).difference(kept.settled))

    def batch(self) -> list[int]:
        """The next records: out of order, since a batch skips every fourth of them for a while."""
        if self.again:
            start, stop = self.again.pop()
            if stop - start > BATCH:
                self.again.append((start + BATCH, stop))
            picked = list(range(start, min(stop, start + BATCH)))
        else:
            start, self.next = self.next, self.next + BATCH + BATCH // 3
            self.balance.read("event", self.next - start)
            self.recording.take_in(0, self.next)
            picked = [at for at in range(start, self.next) if at % 4 != 3]
            self.again += [(at, at + 1) for at in range(start, self.next) if at % 4 == 3]
        for at in picked:
            if at in self.recording.settling.doubtful:
                self.balance.maybe_duplicated += 1
                self.recording.mind(at)
        return picked

    async def send(self) -> None:
        """Send batch after batch."""
        for number in self.numbers:
            if number >= self.given.get("batches", number + 1):
                return
            if number == self.given.get("fill"):
                fill(Path(sys.argv[2]) / "filler")
            positions = self.batch()
            self.recording.note(number, [positions])
            self.recording.write()
            self.write("sent", positions)
            await asyncio.sleep(self.dice.random() * 0.02)  # the answer's way
            bad = self.dice.random() < 0.1
            if bad:
                self.letters.write([letter()], NOW)
            self.balance.settle("event", "rejected", bad)
            self.balance.settle("event", "delivered", len(positions) - bad)
            token = self.recording.conclude(number)
            if self.dice.random() < 0.1:
                await self.recording.durable(token)
            else:
                self.recording.write()
            self.write("settled", positions)

    def write(self, what: str, positions: list[int]) -> None:
        """Tell the test, in one write that a kill does not tear."""
        os.write(self.log, dumps([what, positions]) + b"\n")


async def run(state: Path, log: Path, given: dict[str, int]) -> None:
    """Run until killed."""
    with Journal(state) as journal:
        letters, found = letters_in(state), journal.find(WHO)
        hash_of = hash_with("key")
        if found is None:
            found = journal.begin(WHO, name=NAME, hash_of=hash_of, letters=letters, now=NOW)
        async with journal.record(found, Balance(), letters) as recording:
            if "fsize" in given:
                resource.setrlimit(resource.RLIMIT_FSIZE, (given["fsize"],) * 2)
            worker = Worker(recording, letters, log, given)
            sending = [asyncio.create_task(worker.send()) for _ in range(IN_FLIGHT)]
            done = await asyncio.gather(*sending, return_exceptions=True)
            failed = [error for error in done if isinstance(error, BaseException)]
            if failed:
                raise failed[0]


def check(state: Path, log: Path) -> dict[str, Any]:
    """Compare the journal with the log of what was sent and what was durable."""
    sent: set[int] = set()
    settled: set[int] = set()
    for line in log.read_bytes().splitlines():
        what, positions = loads(line)
        (sent if what == "sent" else settled).update(positions)
    with Journal(state) as journal:
        found = journal.find(WHO)
        assert found is not None
        kept = journal.kept(found)
        written = b""
        with contextlib.suppress(FileNotFoundError):
            written = (state / "letters.ndjson").read_bytes()
    held = {at for span in kept.settled for at in range(*span)}
    spans = [span for ranges in (kept.doubtful, *kept.notes.values()) for span in ranges]
    noted = {at for span in spans for at in range(*span)} - held
    letters = written[: kept.letters_length]
    return {
        "lost": len(settled - held),  # durable, and not there
        "invented": len(held - sent),  # there, and never sent
        "unnoted": len(sent - held - noted),  # sent, and not known to be in flight
        "doubtful": len(noted),
        "settled": len(held),
        "miscounted": len(held)
        - kept.counts.get(("kind", "event", "delivered"), 0)
        - kept.counts.get(("kind", "event", "rejected"), 0),
        "letters": letters.count(b"\n") - kept.counts.get(("kind", "event", "rejected"), 0),
        "letters_missing": kept.letters_length - len(letters),
        "read": kept.counts.get(("kind", "event", "read"), 0) - kept.taken.get(0, 0),
        "state": found.state,
    }


def fill(path: Path) -> None:
    """Take all the room that the disk has."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def main() -> int:
    """Do as the arguments say."""
    what, state, log = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    given = {name: int(value) for name, _, value in (arg.partition("=") for arg in sys.argv[4:])}
    try:
        if what == "list":
            print(*(each.state for each in runs_in(state)), sep="\n")
        elif what == "check":
            print(dumps(check(state, log)).decode())
        else:
            asyncio.run(run(state, log, given))
    except LocalFailure as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
