"""Servers of others that tests start: fetched by Maven once, each in a process of its own.

Decides when one counts as started, and how it is ended. Knows nothing of what is served.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

TREE: Final = Path(__file__).parents[2]

COMPLETE: Final = ".complete"
"""File beside the jars that says that all of them are there, and for which pom."""

FETCH_SECONDS: Final = 600.0
START_SECONDS: Final = 60.0
LOOK_EVERY: Final = 0.1
SAID: Final = 2000
"""Characters of its log that are shown of a server that did not start."""


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Jars(msgspec.Struct, frozen=True):
    """The jars of a server: where they are kept, and the pom that names them."""

    home: Path
    pom: Path

    @classmethod
    def of(cls, what: str, home: str, variable: str) -> Jars:
        """Those of `tests/WHAT/pom.xml`, in a directory of the tree or where a variable says."""
        return cls(Path(os.environ.get(variable, TREE / home)), TREE / "tests" / what / "pom.xml")

    @property
    def there(self) -> bool:
        """Whether all of them are there."""
        mark = self.home / "jars" / COMPLETE
        return mark.exists() and mark.read_bytes() == self.pom.read_bytes()

    def why_not(self, name: str, java: str) -> str | None:
        """Return a sentence that says what is lacking on this machine, None if nothing."""
        if shutil.which("java") is None:
            return f"{name} needs Java ({java}): there is no 'java' here"
        if not self.there and shutil.which("mvn") is None:
            jars = f"no {self.home.name}/jars"
            return f"the jars of {name} are fetched by Maven: there is no 'mvn' here, and {jars}"
        return None

    def fetched(self) -> Path:
        """Return the directory of the jars, and fetch them if they are not there."""
        jars = self.home / "jars"
        if self.there:
            return jars
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("w") as lock:
            # Several processes run the tests, and each would clear away what another fetches.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.there:
                shutil.rmtree(jars, ignore_errors=True)
                jars.mkdir()
                command = ["mvn", "--batch-mode", "--quiet", "--file", str(self.pom)]
                goal = ["dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
                subprocess.run([*command, *goal], check=True, timeout=FETCH_SECONDS)
                (jars / COMPLETE).write_bytes(self.pom.read_bytes())
        return jars

    def java(self, memory: str, *command: str) -> list[str]:
        """Return the command that runs something of them."""
        jars = self.fetched()
        return ["java", f"-Xmx{memory}", "-XX:+UseSerialGC", "-cp", f"{jars}/*", *command]


class Server:
    """A server in a process of its own. `command` has its port in it already."""

    def __init__(self, command: list[str], where: Path, port: int, stop_seconds: float) -> None:
        self.port = port
        self._command = command
        self._log = where / "server.log"
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where clients of HTTP reach it."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return when it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with closing(socket.socket()) as one:
                one.settimeout(1)
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            threading.Event().wait(LOOK_EVERY)
        self.kill()
        said = self._log.read_text(errors="replace")[-SAID:]
        raise AssertionError(f"the server did not start: {said}")

    def stop(self) -> None:
        """Stop it as an operator would, for as long as he has patience."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(self._stop_seconds)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait(self) -> int:
        """Wait for its end."""
        assert self._process is not None
        return self._process.wait()
