"""What comes back of a run: after a kill all that was written, after a power cut true doubts."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.balance import Balance
from ingest.intake import Intake, IntakeRules
from ingest.records import KINDS
from ingest.state import store
from ingest.state.journal import Journal, runs_in
from ingest.state.reporting import report_of
from ingest.state.resuming import sift
from tests.examples import examples
from tests.state.journals import begun, hash_with, letters_in
from tests.state.recovering import (
    LEAST,
    MOST,
    PARTS,
    SIZE,
    copied,
    letters_kept,
    little,
    lived,
    positions,
)

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
