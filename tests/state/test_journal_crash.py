"""The journal outlives its process: killed, out of room, or beside another one."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from ingest.codec import loads
from ingest.errors import LocalFailure
from ingest.state.journal import Journal, runs_in
from tests.state.journal_worker import BATCH, IN_FLIGHT

ROOT: Final = Path(__file__).parents[2]
WORKER: Final = (sys.executable, "-m", "tests.state.journal_worker")

PATIENCE: Final = 60.0
"""Seconds until something that should have happened is called missing."""

SOUND: Final = dict.fromkeys(
    ("lost", "invented", "unnoted", "miscounted", "letters", "letters_missing", "read"), 0
)


def command(what: str, state: Path, *options: str) -> list[str]:
    """A worker on a state directory; its log lies beside."""
    return [*WORKER, what, str(state), str(state.parent / "log"), *options]


def environment() -> dict[str, str]:
    """Where the worker finds this tree."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def start(state: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start a run."""
    line = command("run", state, *options)
    return subprocess.Popen(line, cwd=ROOT, env=environment(), stderr=subprocess.PIPE)


def ended(worker: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """Wait for the end of a run; return its status and what it said."""
    try:
        _, said = worker.communicate(timeout=PATIENCE)
    finally:
        worker.kill()
        worker.communicate()
    return worker.returncode, said


def checked(state: Path) -> dict[str, Any]:
    """What the journal holds, against what was sent."""
    line = command("check", state)
    done = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = loads(done.stdout)
    return found


def eventually(condition: Callable[[], bool]) -> None:
    """Return once a condition is true."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.002)


def lines_of(log: Path) -> int:
    """What the worker has told so far."""
    return log.read_bytes().count(b"\n") if log.exists() else 0


def told_as_many(log: Path, lines: int) -> bool:
    """Whether the worker has told so much."""
    return lines_of(log) >= lines


def test_kills_lose_nothing_and_invent_nothing(tmp_path: Path) -> None:
    """Six kills in the middle of writing; at most what was in flight is in doubt at each."""
    state, log, dice, settled = tmp_path / "state", tmp_path / "log", random.Random(7), 0
    for _ in range(6):
        worker, until = start(state), lines_of(log) + dice.randrange(20, 150)
        eventually(partial(told_as_many, log, until))
        worker.kill()
        worker.communicate()
        found = checked(state)
        assert found | SOUND == found
        # Those of earlier kills that were not read again yet are in doubt as well.
        assert found["settled"] > settled
        assert found["state"] == "crashed"
        settled = found["settled"]


def test_what_is_in_doubt_is_what_was_in_flight(tmp_path: Path) -> None:
    """After one kill, no more than the requests that were out."""
    state = tmp_path / "state"
    worker = start(state)
    eventually(lambda: lines_of(tmp_path / "log") >= 40)
    worker.kill()
    worker.communicate()
    assert 0 < checked(state)["doubtful"] <= IN_FLIGHT * BATCH


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """The second one is told the first one's id; a reader sees the run; a kill frees it."""
    state = tmp_path / "state"
    worker = start(state)
    eventually(lambda: lines_of(tmp_path / "log") >= 20)
    with pytest.raises(LocalFailure, match=rf"another ingest \(process {worker.pid}\) is using"):
        Journal(state)
    assert [run.state for run in runs_in(state)] == ["running"]
    worker.kill()
    worker.communicate()
    assert [run.state for run in runs_in(state)] == ["crashed"]
    Journal(state).close()


def test_a_file_that_may_not_grow_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    """Status 4; what was committed before is whole, and the run goes on with more room."""
    state = tmp_path / "state"
    worker = start(state, "fsize=400000")
    status, said = ended(worker)
    assert status == 4, said.decode()
    assert b"make room on the disk, and start again" in said
    assert b"Traceback" not in said
    found = checked(state)
    assert found | SOUND == found
    assert ended(start(state, "batches=20")) == (0, b"")
    assert checked(state)["settled"] > found["settled"]


def test_a_full_disk_makes_no_extra_copies(tmp_path: Path) -> None:
    """What was in flight when the disk filled up is settled in the reserve: nothing is in doubt."""
    state = tmp_path / "small" / "state"
    state.parent.mkdir()
    unshare = shutil.which("unshare")
    mount = f"mount -t tmpfs -o size=12m none {state.parent}"
    if unshare is None or subprocess.run([unshare, "-rm", "sh", "-c", mount]).returncode:
        pytest.skip("no small disk can be had here")
    steps = (
        f"{mount} && ln -s {tmp_path}/log {state.parent}/log; "
        f"{' '.join(command('run', state, 'fill=40'))}; echo $? >&2; "
        f"rm {state}/filler; {' '.join(command('check', state))}"
    )
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", steps],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE,
    )
    assert b"make room" in done.stderr
    assert done.stderr.endswith(b"\n4\n"), done.stderr.decode()
    found = loads(done.stdout)
    assert found | SOUND == found
    assert found["doubtful"] == 0
    assert found["settled"] > 0


def test_a_read_only_disk_is_said(tmp_path: Path) -> None:
    """Before anything is sent; what is there can be read all the same."""
    state = tmp_path / "state"
    assert ended(start(state, "batches=5")) == (0, b"")
    unshare = shutil.which("unshare")
    mount = f"mount --bind {state} {state} && mount -o remount,ro,bind {state}"
    if unshare is None or subprocess.run([unshare, "-rm", "sh", "-c", mount]).returncode:
        pytest.skip("no disk can be made read-only here")
    steps = f"{mount}; {' '.join(command('list', state))}; {' '.join(command('run', state))}"
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", steps],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 4
    assert b"Read-only file system. Choose another one" in done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stdout == b"crashed\n"
