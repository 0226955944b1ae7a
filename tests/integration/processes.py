"""The command as its users run it: processes, sockets, environment, exit status.

A `Served` is `ingest sandbox` in a process of its own on a free port of this machine; `Sending` is
an `ingest` verb that sends to it. Waiting is always for a condition, with a deadline.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

import msgspec

from ingest.codec import dumps, loads
from ingest.sinks.registry import DESTINATIONS

KEY: Final = "a-key-for-this-test-only"
COMMAND: Final = (sys.executable, "-m", "ingest")

PATIENCE: Final = 120.0
"""Seconds until something that should have happened is called missing: slow machines are slow."""

LOOK_EVERY: Final = 0.02
"""Seconds between two looks at a condition."""


def eventually(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Return the first true value of a condition, or fail."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if value := condition():
            return value
        threading.Event().wait(LOOK_EVERY)
    raise AssertionError(f"{what} did not happen within {patience:.0f} s")


def most_memory(process: subprocess.Popen[bytes]) -> int:
    """Return the most memory a process had so far, in bytes; 0 if it has ended. Linux only."""
    # Not `ru_maxrss`, which begins with the memory of the process that forked this one.
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


class Served:
    """A sandbox in its own process. `port` 0 takes a free one, which a restart keeps."""

    def __init__(self, *options: str, port: int = 0) -> None:
        self._options = options
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return when it listens."""
        with tempfile.NamedTemporaryFile(suffix=".log") as log:
            self._process = subprocess.Popen(
                [*COMMAND, "sandbox", "--port", str(self.port), *self._options],
                env={**os.environ, "INGEST_SANDBOX_KEY": KEY},
                stderr=log,
            )
            said = re.compile(rb"http://127\.0\.0\.1:(\d+) ")
            found = eventually(lambda: said.search(Path(log.name).read_bytes()), "the sandbox")
        self.port = int(found[1])

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stats(self) -> dict[str, Any]:
        """Return `GET /sandbox/stats`; empty if it does not answer."""
        return self.get("/sandbox/stats") or {}

    def get(self, path: str) -> Any:
        """Return the JSON at a path; None if it does not answer or there is none."""
        try:
            with urlopen(self.url + path, timeout=30) as answer:
                return loads(answer.read())
        except URLError:
            return None

    def post(self, path: str, value: Any) -> None:
        """Post JSON."""
        with urlopen(Request(self.url + path, dumps(value)), timeout=30):
            pass

    @property
    def requests(self) -> int:
        """Requests that arrived so far."""
        return int(self.stats().get("requests", 0))

    @property
    def delivered(self) -> int:
        """Different records that arrived so far."""
        return int(self.stats().get("distinct_objects", 0))

    @property
    def arrivals(self) -> int:
        """Records that arrived so far, copies too."""
        return int(sum(self.stats()["objects"].values()))

    def check_order(self, users: int) -> None:
        """Check that the events of each user came in the order of their `n`, copies left out."""
        for user in range(users):
            events = self.get(f"/sandbox/users/u{user}")["events"]
            first = list(dict.fromkeys(one["properties"]["n"] for one in events))
            assert first == sorted(first)


@contextmanager
def served(*options: str) -> Iterator[Served]:
    """Serve a sandbox until the block is left."""
    sandbox = Served(*options)
    sandbox.start()
    try:
        yield sandbox
    finally:
        sandbox.kill()


class Ended(msgspec.Struct):
    """How a command ended: its exit status, what it said, its report and its dead letters."""

    status: int
    stdout: str
    stderr: str
    report: dict[str, Any]
    letters: list[dict[str, Any]]
    letters_path: Path

    @property
    def records(self) -> dict[str, int]:
        """The columns of the balance that are not 0."""
        return {name: count for name, count in self.report["records"].items() if count}

    def balanced(self) -> bool:
        """Whether every record that was read is in exactly one column."""
        records = self.report["records"]
        return bool(records["read"] == sum(records.values()) - records["read"])


class Sending:
    """A verb that sends, running in its own process, in a directory of its own."""

    def __init__(self, where: Path, url: str, *arguments: str, key: str = KEY) -> None:
        self._where = Path(tempfile.mkdtemp(dir=where))
        self.letters_path = self._where / "letters.ndjson"
        self._out, self._err = self._where / "stdout", self._where / "stderr"
        verb, *rest = arguments
        ours = ("--to", "braze") if "--to" not in rest else ()
        self._command = [*COMMAND, verb, *ours, "--report", "report.json"]
        self._command += ["--dead-letters", str(self.letters_path), *rest]
        leads = [one.sandboxed(url, key) for one in DESTINATIONS.values()]
        env = {**os.environ, **ChainMap(*map(dict, leads)), "COLUMNS": "200"}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                self._command, cwd=self._where, env=env, stdout=out, stderr=err
            )

    def most_memory(self) -> int:
        """Watch it to its end, and return the most memory it had, in bytes. Linux only."""
        most = 0
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < until:
            most = max(most, most_memory(self.process))
            threading.Event().wait(LOOK_EVERY)
        return most

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it."""
        self.process.send_signal(number)

    @property
    def said(self) -> str:
        """What it wrote to stderr so far."""
        return self._err.read_text()

    def end(self) -> Ended:
        """Wait for its end."""
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        self.process.wait()
        timer.cancel()
        report = self._where / "report.json"
        letters = self.letters_path.read_bytes() if self.letters_path.exists() else b""
        return Ended(
            self.process.returncode,
            self._out.read_text(),
            self._err.read_text(),
            loads(report.read_bytes()) if report.exists() else {},
            [loads(line) for line in letters.splitlines()],
            self.letters_path,
        )


def sent(where: Path, url: str, *arguments: str | Path, key: str = KEY) -> Ended:
    """Run `ingest ARGUMENTS` to its end."""
    return Sending(where, url, *map(str, arguments), key=key).end()


def written(path: Path, lines: Sequence[bytes]) -> Path:
    """Write lines to a file."""
    path.write_bytes(b"\n".join(line.rstrip(b"\n") for line in lines) + b"\n")
    return path
