"""`ingest status`: what was run, and what to type."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ingest.balance import Balance
from ingest.cli.main import cli
from ingest.codec import dumps, loads
from ingest.state.dead_letters import DeadLetterFile
from ingest.state.identity import InputFile, RunIdentity
from ingest.state.journal import Journal


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a run of five files that nobody ended."""
    inputs = tuple(InputFile(f"/data/file-{n}.csv", 1, 1, "", "") for n in range(5))
    identity = RunIdentity(inputs, {}, "braze", "rest.example.com")
    with Journal(tmp_path, power_safe=False) as journal:
        letters = DeadLetterFile(tmp_path / "letters", run="r-1")
        journal.begin(
            identity, name="r-1", hash_of=lambda _: "", letters=letters, now=1_790_000_000
        )
    return tmp_path


def told(*arguments: str) -> tuple[int, str]:
    """Run the verb on a wide terminal; return its status and all it said."""
    done = CliRunner(env={"COLUMNS": "200"}).invoke(cli, ["status", *arguments])
    return done.exit_code, done.output


def test_the_runs_are_listed(state: Path) -> None:
    """With their state, inputs and counts; the inputs beyond three are counted."""
    status, said = told("--state", str(state))
    assert status == 0
    for part in ("r-1", "crashed", "file-0.csv, file-1.csv, file-2.csv and 2 more", "2026-09-21"):
        assert part in said


def ended(folder: Path, state: str, *, command: str = "", cwd: str = "", **changes: Any) -> Path:
    """Write down a run that ended in a state, with 3 delivered, 1 invalid and 2 pending."""
    balance = Balance()
    balance.read("attributes", 6)
    balance.settle("attributes", "delivered", 3)
    balance.settle("attributes", "invalid")
    balance.explain("no-id", "", "invalid", "it has no id", "in.csv:7")
    identity = RunIdentity(
        (InputFile("in.csv", 1, 1, "", ""),), {"endpoint": "track"}, "braze", "h"
    )

    async def main() -> None:
        with Journal(folder, power_safe=False) as journal:
            letters = DeadLetterFile(folder / "letters", run="r-9")
            run = journal.begin(
                identity,
                name="r-9",
                hash_of=lambda _: "",
                letters=letters,
                frozen={"cwd": cwd},
                command=command,
                now=1_790_000_000,
            )
            async with journal.record(run, Balance(), letters) as recording:
                # What the pipeline does by and by.
                recording.settling.balance = balance
                recording.take_in(0, 6)
                await recording.durable()
                if state:
                    report = balance.report(
                        run="r-9",
                        state=state,
                        halted_because=changes.get("because"),
                        source=["in.csv"],
                        sink="braze",
                        endpoint="track",
                        limits="auto",
                        seconds=1.0,
                    )
                    await recording.finish(state, dumps(report), 1_790_000_100)

    asyncio.run(main())
    return folder


def test_a_run_says_how_to_go_on(tmp_path: Path) -> None:
    """By the very command, and from the directory that it was typed in, if that is another."""
    command = "ingest import in.csv --to braze"
    state = ended(tmp_path / "a", "interrupted", command=command, cwd="/else where")
    said = told("last", "--state", str(state))[1]
    assert f"cd '/else where' && {command}\n" in said
    assert "what is settled is not sent again" in said
    state = ended(tmp_path / "b", "interrupted", command=command, cwd=str(Path.cwd()))
    assert f"\n  {command}\n" in told("r-9", "--state", str(state))[1]


def test_a_run_that_died_has_a_balance_too(tmp_path: Path) -> None:
    """Out of what was committed: kinds, reasons with their place, and what is pending."""
    status, said = told("last", "--state", str(ended(tmp_path, "")))
    assert status == 0
    for part in ("is crashed", "attributes", "no-id", "in.csv:7", "some may arrive twice"):
        assert part in said


def test_a_halted_run_says_why(tmp_path: Path) -> None:
    """And that this is to be mended first."""
    state = ended(tmp_path, "halted", because="h refuses the key", command="ingest import in.csv")
    said = told("last", "--state", str(state))[1]
    assert "Halted: h refuses the key" in said
    assert "Once that is mended, go on with" in said


def test_a_finished_run_can_be_verified_and_its_letters_replayed(tmp_path: Path) -> None:
    """With the state directory in the command where it is not the usual one; bad rows are named."""
    state = ended(tmp_path, "finished")
    (state / "letters").write_bytes(b"{}")
    (state / "rejects-r-9.csv").write_bytes(b"")
    said = told("last", "--state", str(state))[1]
    assert f"ingest verify r-9 --sample 100 --state {state}" in said
    assert f"ingest replay {state / 'letters'} --to braze" in said
    assert "rejects-r-9.csv: mend them" in said


def test_the_report_is_written_as_json(tmp_path: Path) -> None:
    """Of a run that died as well; on stdout nothing else is."""
    state = ended(tmp_path, "")
    done = CliRunner().invoke(cli, ["status", "last", "--state", str(state), "--report", "-"])
    report = loads(done.stdout.encode())
    assert report["state"] == "crashed"
    assert report["records"]["pending"] == 2
    assert report["kinds"]["attributes"]["delivered"] == 3
    assert told("--state", str(state), "--report", "x.json")[0] == 2


def test_what_is_not_there_is_told(state: Path, tmp_path: Path) -> None:
    """A directory without runs has none, and an unknown name is an error."""
    assert "No run is in" in told("--state", str(tmp_path / "elsewhere"))[1]
    assert told("r-2", "--state", str(state))[0] == 2
