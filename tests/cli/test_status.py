"""`ingest status`: what was run, and what to type."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ingest.cli.main import cli
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


def test_one_run_says_how_to_go_on(state: Path) -> None:
    """And where its dead letters are."""
    status, said = told("r-1", "--state", str(state))
    assert status == 0
    assert "Run the same command again" in said
    assert "letters" in said


def test_what_is_not_there_is_told(state: Path, tmp_path: Path) -> None:
    """A directory without runs has none, and an unknown name is an error."""
    assert "No run is in" in told("--state", str(tmp_path / "elsewhere"))[1]
    assert told("r-2", "--state", str(state))[0] == 2
