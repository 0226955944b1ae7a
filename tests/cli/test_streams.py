"""Streams that nobody reads, and disks that are full, behind a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from ingest.codec import loads

COMMAND = (sys.executable, "-m", "ingest")
LINES = b"{}\n" + b'{"attributes": {"external_id": "u1", "plan": "pro"}}\n'
BAD_RECORDS = 1
FULL = "/dev/full"

with_full = pytest.mark.skipif(not Path(FULL).exists(), reason="a device of Linux")


def closed_pipe() -> int:
    """Return the writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def ended(
    folder: Path,
    *arguments: str,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    (folder / "in.ndjson").write_bytes(LINES)
    return subprocess.run(
        (*COMMAND, *arguments), cwd=folder, stdout=stdout, stderr=stderr, timeout=60, check=False
    )


SEND = ("import", "in.ndjson", "--to", "file:bodies")


@pytest.mark.parametrize("progress", ["plain", "bar"])
def test_a_run_outlives_whoever_read_what_it_said(tmp_path: Path, progress: str) -> None:
    """With stderr closed, everything is sent, the report is written, and the status is true."""
    nobody = closed_pipe()
    try:
        options = ("--report", "report.json", "--progress", progress)
        process = ended(tmp_path, *SEND, *options, stdout=nobody, stderr=nobody)
    finally:
        os.close(nobody)
    assert process.returncode == BAD_RECORDS
    assert loads((tmp_path / "report.json").read_bytes())["records"]["delivered"] == 1


@with_full
def test_a_run_outlives_the_disk_of_its_log(tmp_path: Path) -> None:
    """A log that cannot grow any more is no reason to stop sending."""
    with open(FULL, "wb") as full:
        process = ended(tmp_path, *SEND, "--report", "report.json", stderr=full)
    assert process.returncode == BAD_RECORDS
    assert loads((tmp_path / "report.json").read_bytes())["records"]["delivered"] == 1


def test_an_error_has_its_status_where_nobody_reads_its_sentence(tmp_path: Path) -> None:
    """The exit status of a wrong usage does not depend on stderr."""
    nobody = closed_pipe()
    try:
        assert ended(tmp_path, "import", "in.ndjson", stderr=nobody).returncode == 2
    finally:
        os.close(nobody)


@with_full
@pytest.mark.parametrize("arguments", [(*SEND, "--report", "-"), ("sample", "3")])
def test_a_full_stdout_ends_with_a_sentence(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Data that stdout does not take is a failure of this machine, said once."""
    with open(FULL, "wb") as full:
        process = ended(tmp_path, *arguments, stdout=full)
    said = process.stderr.decode()
    assert process.returncode == 4, said
    assert said.count("cannot be written to stdout: No space left on device") == 1
    assert "Traceback" not in said
    assert "Exception ignored" not in said


@pytest.mark.parametrize(
    ("arguments", "status"), [((*SEND, "--report", "-"), BAD_RECORDS), (("sample", "5000"), 0)]
)
def test_a_closed_stdout_is_no_failure(
    tmp_path: Path, arguments: tuple[str, ...], status: int
) -> None:
    """Whoever closed the pipe has seen enough, and the status is that of what was done."""
    nobody = closed_pipe()
    try:
        process = ended(tmp_path, *arguments, stdout=nobody)
    finally:
        os.close(nobody)
    said = process.stderr.decode()
    assert process.returncode == status, said
    assert "stdout" not in said
    assert "Traceback" not in said
    assert "Exception ignored" not in said
