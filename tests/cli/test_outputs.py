"""Outputs onto inputs and onto each other, and outputs that cannot be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingest.cli.main import cli

LINE = b'{"attributes": {"external_id": "u1", "plan": "pro"}}\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one input, a symlink and a hard link to it."""
    monkeypatch.chdir(tmp_path)
    Path("in.ndjson").write_bytes(LINE)
    Path("soft").symlink_to("in.ndjson")
    os.link("in.ndjson", "hard")
    return tmp_path


def invoke(*options: str) -> Result:
    """Import the input of `folder` with these options."""
    if "--to" not in options:
        options = ("--to", "file:bodies", *options)
    return CliRunner().invoke(cli, ["import", "in.ndjson", *options])


@pytest.mark.parametrize("same", ["in.ndjson", "./in.ndjson", "soft", "hard"])
@pytest.mark.parametrize("option", ["--to", "--report", "--dead-letters"])
def test_no_output_is_an_input(folder: Path, option: str, same: str) -> None:
    """However the input is named again, nothing of it is lost, and nothing is opened."""
    said = invoke(option, f"file:{same}" if option == "--to" else same)
    assert said.exit_code == 2
    assert "is also an input: name another file" in said.stderr
    assert (folder / "in.ndjson").read_bytes() == LINE
    assert not (folder / "bodies").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--report", "x", "--dead-letters", "./x"),
        ("--to", "file:x", "--report", "./x"),
        ("--to", "file:dangling", "--dead-letters", "x"),
    ],
)
def test_no_two_outputs_are_one_file(folder: Path, options: tuple[str, ...]) -> None:
    """Files that are not there yet are told apart by where they would be."""
    (folder / "dangling").symlink_to("x")
    said = invoke(*options)
    assert said.exit_code == 2
    assert "is also what --" in said.stderr
    assert not (folder / "x").exists()


def test_what_keeps_nothing_may_be_named_twice(folder: Path) -> None:
    """`/dev/null` takes bodies, letters and the report at once."""
    null = os.devnull
    said = invoke("--to", f"file:{null}", "--report", null, "--dead-letters", null)
    assert said.exit_code == 0, said.stderr


@pytest.mark.parametrize("options", [("--to", "file:-"), ("--dead-letters", "-")])
def test_a_dash_is_no_file(folder: Path, options: tuple[str, ...]) -> None:
    """Stdout is for the report alone, and no file called `-` is made."""
    said = invoke(*options)
    assert said.exit_code == 2
    assert "name a file" in said.stderr
    assert not (folder / "-").exists()


@pytest.mark.parametrize("report", [".", "missing/report.json"])
def test_a_report_that_cannot_be_written_is_refused_first(folder: Path, report: str) -> None:
    """A folder, or a file in none, is refused before anything is sent."""
    said = invoke("--report", report)
    assert said.exit_code == 2
    assert f"--report {report} cannot be written" in said.stderr
    assert not (folder / "bodies").exists()
