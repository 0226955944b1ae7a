"""`ingest send`: its table, its rows, and the question before what cannot be undone."""

from __future__ import annotations

import errno
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ingest.cli.main import cli
from ingest.codec import dumps, loads
from ingest.sinks.registry import DESTINATIONS
from ingest.testing import Sandbox, running_sandbox

SENDS = DESTINATIONS["braze"].sends
IDS = b"external_id\nu1\nu2\nu3\n"
KNOWN = ("u1", "u2")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a list of three ids."""
    monkeypatch.chdir(tmp_path)
    Path("ids.txt").write_bytes(IDS)
    return tmp_path


def invoke(*arguments: str, **how: Any) -> Result:
    """Run `ingest send` with these arguments."""
    return CliRunner().invoke(cli, ["send", *arguments], **how)


def report() -> dict[str, Any]:
    """Return what `--report report.json` wrote."""
    found: dict[str, Any] = loads(Path("report.json").read_bytes())
    return found


def environ_of(sandbox: Sandbox) -> dict[str, str]:
    """Return the environment that leads to a sandbox."""
    return dict(DESTINATIONS["braze"].sandboxed(sandbox.url, sandbox.key))


def fill(sandbox: Sandbox) -> None:
    """Make a sandbox know some users."""
    lines = (dumps({"attributes": {"external_id": user, "plan": "pro"}}) for user in KNOWN)
    Path("known.ndjson").write_bytes(b"\n".join(lines))
    said = CliRunner().invoke(
        cli, ["import", "known.ndjson", "--to", "braze"], env=environ_of(sandbox)
    )
    assert said.exit_code == 0, said.stderr


def test_the_table_is_data_on_stdout_and_needs_nothing() -> None:
    """Every row with its path and a line for it, aligned, with no `--to` and no environment."""
    said = invoke("--list")
    assert said.exit_code == 0
    header, *lines = said.stdout.splitlines()
    assert len(lines) == len(SENDS)
    for line, endpoint in zip(lines, SENDS.values(), strict=True):
        assert line.split()[:2] == [endpoint.name, endpoint.path]
        at = header.index("a line")
        assert line[at:].startswith(endpoint.example)
        assert str(endpoint.limits[0]) in line
        assert ("cannot be undone" in line) is endpoint.irreversible
        assert ("never sent twice" in line) is not endpoint.resendable


def test_a_destination_without_rows_says_so() -> None:
    """Its table would be empty, and that looks like a failure."""
    said = invoke("--list", "--to", "batch-cep")
    assert (said.exit_code, said.stdout) == (2, "")
    assert "batch-cep has no rows for `ingest send`" in said.stderr


@pytest.mark.parametrize("name", SENDS)
def test_the_line_that_the_table_shows_is_one_that_is_sent(folder: Path, name: str) -> None:
    """What `--list` prints for a row can be pasted into a file and sent, by name or by path."""
    Path("one.ndjson").write_text(SENDS[name].example)
    for row in (name, SENDS[name].path):
        said = invoke(row, "one.ndjson", "--to", "file:bodies", "--report", "report.json")
        assert said.exit_code == 0, said.stderr
        assert report()["endpoint"] == name
        assert report()["kinds"][name]["delivered"] == 1
    bodies = Path("bodies").read_bytes().splitlines()
    assert bodies[0] == bodies[1]
    assert any(isinstance(loads(bodies[0]).get(slot), list) for slot in SENDS[name].slots)


def test_a_list_is_sent_and_each_id_has_its_own_end(folder: Path) -> None:
    """A known user is deleted, an unknown one is rejected by its line, in report and letters."""
    with running_sandbox() as sandbox:
        fill(sandbox)
        said = invoke(
            *("delete", "ids.txt", "--to", "braze", "--yes", "--report", "report.json"),
            *("--dead-letters", "letters.ndjson"),
            env=environ_of(sandbox),
        )
        assert said.exit_code == 1, said.stderr
        assert [sandbox.user(user) for user in KNOWN] == [None, None]
    records = report()["records"]
    assert (report()["sink"], report()["endpoint"]) == ("braze", "delete")
    assert (records["read"], records["delivered"], records["rejected"]) == (3, 2, 1)
    letter = loads(Path("letters.ndjson").read_bytes())
    assert (letter["kind"], letter["record"]) == ("delete", {"external_id": "u3"})
    assert letter["source"] == {"name": "ids.txt", "line": 4}
    assert "│ delete" in said.stderr


def test_dead_letters_are_an_input_of_the_row_they_came_from(folder: Path) -> None:
    """What was rejected once is sent again as it was, and nothing else of the letter."""
    with running_sandbox() as sandbox:
        again = ("--to", "braze", "--yes", "--dead-letters")
        invoke("delete", "ids.txt", *again, "letters.ndjson", env=environ_of(sandbox))
        fill(sandbox)
        said = invoke("delete", "letters.ndjson", *again, "left.ndjson", env=environ_of(sandbox))
    assert said.exit_code == 1
    assert loads(Path("left.ndjson").read_bytes())["record"] == {"external_id": "u3"}


def test_a_number_of_records_per_request_is_kept(folder: Path) -> None:
    """`--limits 2` cuts three ids into two bodies."""
    said = invoke("delete", "ids.txt", "--to", "file:bodies", "--limits", "2")
    assert said.exit_code == 0, said.stderr
    bodies = [loads(line) for line in Path("bodies").read_bytes().splitlines()]
    assert bodies == [{"external_ids": ["u1", "u2"]}, {"external_ids": ["u3"]}]


def test_what_must_never_be_sent_twice_is_held_and_says_so(folder: Path) -> None:
    """A send without an answer is held though resending is the default, and one sentence tells."""
    Path("sends.ndjson").write_text(SENDS["trigger-send"].example)
    said = invoke(
        *("trigger-send", "sends.ndjson", "--to", "sandbox", "--faults", "reset-after:100%"),
        *("--report", "report.json"),
    )
    assert said.exit_code == 1, said.stderr
    assert report()["records"]["held"] == 1
    assert report()["of_which"]["maybe_duplicated"] == 0
    assert said.stderr.count("a second copy of a trigger-send must never go out") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "no row is named"),
        (("delete",), "delete: no input is named"),
        (("delete", "ids.txt"), "nothing says where to send"),
        (("mars", "ids.txt", "--to", "sandbox"), "'mars' is no row of braze"),
        (("delete", "ids.txt", "--to", "sandbox:batch-cep"), "batch-cep has no rows"),
        (("track", "ids.txt", "--to", "sandbox"), "ingest import PATH... --to sandbox --endpoint"),
        (("delete", "ids.txt", "--to", "sandbox", "--limits", "per-array"), "has one array"),
        (("delete", "ids.txt", "--to", "sandbox", "--limits", "0"), "it is auto, or a number"),
        (("delete", "nothing.txt", "--to", "sandbox"), "does not exist"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(
    folder: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    """It says what is wrong and what to type, with exit status 2, and nothing is written."""
    said = invoke(*arguments)
    assert said.exit_code == 2
    assert sentence in said.stderr
    assert not (folder / ".ingest").exists()


@pytest.mark.parametrize("option", ["--kind", "--endpoint", "--update-existing-only"])
def test_options_of_users_and_events_are_not_there(option: str) -> None:
    """What would have no meaning for a row cannot be said."""
    assert option not in invoke("--help").stdout


# --- the question ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in SENDS if SENDS[name].irreversible])
def test_without_a_terminal_nothing_irreversible_goes_out(folder: Path, name: str) -> None:
    """In a script only `--yes` sends it: without, status 2, and no request was made."""
    with running_sandbox() as sandbox:
        said = invoke(name, "ids.txt", "--to", "braze", env=environ_of(sandbox))
        assert sandbox.stats()["requests"] == 0
    assert said.exit_code == 2
    assert f"{name} cannot be undone" in said.stderr
    assert "--yes" in said.stderr


def test_what_can_be_undone_needs_no_yes(folder: Path) -> None:
    """An alias is sent by a script as it is."""
    Path("aliases.ndjson").write_text(SENDS["alias-new"].example)
    said = invoke("alias-new", "aliases.ndjson", "--to", "sandbox", "--report", "report.json")
    assert report()["requests"]["sent"] == 1, said.stderr


def on_a_terminal(folder: Path, answer: bytes, *arguments: str) -> tuple[int, str]:
    """Run `ingest send` with stdin and stderr a terminal; return its status and what it said."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ingest", "send", *arguments]
    with subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs) as ran:
        os.close(theirs)
        os.write(ours, answer)
        said = b""
        while chunk := _read(ours):
            said += chunk
    os.close(ours)
    return ran.returncode, said.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError as error:
        if error.errno != errno.EIO:  # what Linux says when the other end is closed
            raise
        return b""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"\x04"])
def test_on_a_terminal_it_asks_and_no_is_no(folder: Path, answer: bytes) -> None:
    """The question tells what, how much, from where and to where; only a yes sends."""
    to = ("--to", "sandbox", "--report", "report.json")
    status, said = on_a_terminal(folder, answer, "delete", "ids.txt", *to)
    assert status == 2
    assert "cannot be undone" in said
    assert "4 lines (21 B) in ids.txt" in said
    assert "a sandbox in this process, as braze" in said
    assert "nothing was sent" in said
    assert not (folder / "report.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_a_yes_sends(folder: Path) -> None:
    """After the answer it is a run like any other."""
    to = ("--to", "sandbox", "--report", "report.json")
    status, said = on_a_terminal(folder, b"y\n", "delete", "ids.txt", *to)
    assert status == 1, said
    assert report()["records"]["read"] == 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_stdin_as_the_input_cannot_be_asked(folder: Path) -> None:
    """What is typed would be the records: `-` needs `--yes` even on a terminal."""
    status, said = on_a_terminal(folder, b"", "delete", "-", "--to", "sandbox")
    assert status == 2
    assert "add --yes" in said


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_narrow_terminal_the_table_is_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a path or a line is cut off: it folds, and can be read."""
    monkeypatch.setenv("COLUMNS", "80")
    status, said = on_a_terminal(folder, b"", "--list")
    assert status == 0
    assert "…" not in said
    assert all(name in said for name in SENDS)
