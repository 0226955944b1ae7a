"""`ingest sandbox`: what it says when it serves."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ingest.cli.main import cli
from ingest.cli.sandbox import latency_of
from ingest.sinks.registry import DESTINATIONS


def said_by_a_sandbox(**environ: str) -> list[str]:
    """Start one in a process of its own on a free port, and return the lines it begins with."""
    command = [sys.executable, "-m", "ingest", "sandbox", "--port", "0"]
    environ = {name: text for name, text in os.environ.items() if "INGEST" not in name} | environ
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environ, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(1 + len(DESTINATIONS))]
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    return lines


def exported(line: str) -> dict[str, str]:
    """Return what a shell would export."""
    return dict(word.split("=", 1) for word in shlex.split(line.partition("export ")[2]))


def test_it_tells_how_to_reach_each_destination() -> None:
    """A line to paste for each, with the very address it serves at, and the key it accepts."""
    first, *ways = said_by_a_sandbox()
    url = first.partition(" at ")[2].split()[0]
    assert f"{url}/sandbox/stats" in first
    for (name, destination), line in zip(DESTINATIONS.items(), ways, strict=True):
        assert line.split()[:2] == ["--to", name]
        assert exported(line) == destination.sandboxed(url, "sandbox-key")


@pytest.mark.parametrize("variable", ["INGEST_SANDBOX_KEY", "INGEST_SANDBOX_KEY_FILE"])
def test_a_key_that_was_chosen_is_not_shown(tmp_path: Path, variable: str) -> None:
    """A shell with the same environment puts it in; a log does not get it."""
    key = "a-key-of-mine"
    (tmp_path / "key").write_text(key)
    value = str(tmp_path / "key") if variable.endswith("_FILE") else key
    lines = said_by_a_sandbox(**{variable: value})
    assert key not in "".join(lines)
    shown = subprocess.run(
        ["sh", "-c", f"{lines[1].partition('braze')[2].strip()} && echo $BRAZE_API_KEY"],
        env=os.environ | {variable: value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == key


def test_its_help_says_how_to_begin() -> None:
    """The example names the address and the key of a sandbox with nothing chosen."""
    said = CliRunner().invoke(cli, ["sandbox", "--help"]).stdout
    assert "BRAZE_REST_URL=http://127.0.0.1:8080 BRAZE_API_KEY=sandbox-key" in said


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0.0), ("40", 0.04), ("2.5", 0.0025), ("40ms", 0.04), ("1.5s", 1.5)]
)
def test_a_latency_without_a_unit_is_in_milliseconds(text: str, seconds: float) -> None:
    """As the help says; a time with a unit is what it says."""
    assert latency_of(text) == pytest.approx(seconds)
