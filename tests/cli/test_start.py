"""The command from its first moment: what is begun before its command line is, and its end."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ingest import __main__ as start
from ingest.cli.loop import THRESHOLDS
from ingest.cli.main import cli
from ingest.sources import early

LINE = b'{"attributes":{"external_id":"u","n":1}}\n'

INTERRUPTED = """
import builtins, sys
from ingest import __main__ as start
from ingest.sources import early
early.PAYS_FROM, early.cores = 1, lambda: 2
real = builtins.__import__
def interrupted(name, *rest):
    if name == "ingest.cli.main":
        print(len(early._waiting), flush=True)
        raise KeyboardInterrupt
    return real(name, *rest)
builtins.__import__ = interrupted
start.main()
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Some records in a file."""
    made = tmp_path / "a.ndjson"
    made.write_bytes(LINE * 200)
    return str(made)


@pytest.fixture(autouse=True)
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that are begun; a byte is enough for one, as are the cores that there are."""
    found: list[subprocess.Popen[bytes]] = []
    really: Any = early._begun

    def noted() -> subprocess.Popen[bytes]:
        found.append(really())
        return found[-1]

    monkeypatch.setattr(early, "_begun", noted)
    monkeypatch.setattr(early, "PAYS_FROM", 1)
    monkeypatch.setattr(early, "cores", lambda: 2)
    yield found
    early.let_go()


def run(path: str, tmp_path: Path) -> bytes:
    """Import a file into another one, and return what that holds."""
    bodies = tmp_path / "bodies"
    options = ["--to", f"file:{bodies}", "--state", str(tmp_path / "state")]
    said = CliRunner().invoke(cli, ["import", path, *options])
    assert said.exit_code == 0, said.output
    return bodies.read_bytes()


def ended(words: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """Run the command as it is installed; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["ingest", *words])
    with pytest.raises(SystemExit) as end:
        start.main()
    return end.value.code


def test_an_import_is_read_by_the_process_that_was_begun_first(
    path: str, tmp_path: Path, begun: list[subprocess.Popen[bytes]]
) -> None:
    """One is enough, and the records are all there."""
    early.begin(["import", path])
    assert len(begun) == 1
    assert run(path, tmp_path).count(b'"external_id"') == 200
    assert [process.returncode is None for process in begun] == [False]


def test_what_is_no_large_file_after_all_is_read_here(
    path: str,
    tmp_path: Path,
    begun: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the words of the command looked like it: nobody waits while the run goes on."""
    waited: list[int] = []

    def looked(*_: object, **__: object) -> None:
        waited.append(len(early._waiting))

    monkeypatch.setattr("ingest.cli.sending.pays", lambda _: False)
    monkeypatch.setattr("ingest.cli.sending.decide_columns", looked)
    early.begin(["import", path])
    assert run(path, tmp_path).count(b'"external_id"') == 200
    assert waited == [0]
    assert [process.returncode is None for process in begun] == [False]


@pytest.mark.parametrize(
    "words",
    [("--to", "nowhere"), ("--no-such-option",), (), ("no-such-file", "--to", "file:/dev/null")],
)
def test_a_command_that_reads_nothing_says_what_it_always_said(
    path: str,
    words: tuple[str, ...],
    begun: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The process that was begun for it is over when it is, without a word."""
    assert ended(["import", path, *words], monkeypatch) == 2
    said = capfd.readouterr()
    assert [process.returncode is None for process in begun] == [False]
    monkeypatch.setattr(early, "PAYS_FROM", 1_000_000)
    assert ended(["import", path, *words], monkeypatch) == 2
    assert capfd.readouterr() == said
    assert len(begun) == 1


@pytest.mark.parametrize("words", [["--help"], ["-h"]])
def test_help_begins_nothing(
    path: str,
    words: list[str],
    begun: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is there at once, whatever else was typed."""
    assert ended(["import", path, *words], monkeypatch) == 0
    assert "Usage: " in capsys.readouterr().out
    assert begun == []


def test_an_interrupt_while_starting_leaves_nobody(path: str) -> None:
    """Ctrl-C while modules are imported ends the process that was begun, too."""
    command = (sys.executable, "-c", INTERRUPTED, "import", path)
    end = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (end.returncode, end.stdout, end.stderr) == (130, b"1\n", b"")


def test_the_collector_works_again_when_a_verb_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It rests while modules are imported; what they made is not looked at any more."""
    assert ended(["import", "--to", "nowhere"], monkeypatch) == 2
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == THRESHOLDS
