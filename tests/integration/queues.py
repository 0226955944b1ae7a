"""Servers that speak SQS on loopback, for as long as a test needs them.

moto's is exact in what it answers, and slow: a receive takes it some 100 ms. ElasticMQ does some
1,500 messages a second; its jars come from Maven Central by `tests/sqs/pom.xml` into
`.elasticmq/jars`, once. Each runs in a process of its own, on a free port.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from tests.integration.brokers import free_port

TREE: Final = Path(__file__).parents[2]
HOME: Final = Path(os.environ.get("INGEST_ELASTICMQ_HOME", TREE / ".elasticmq"))
POM: Final = TREE / "tests" / "sqs" / "pom.xml"
COMPLETE: Final = ".complete"
"""File beside the jars that says that all of them are there, and for which pom."""

MOTO: Final = os.environ.get("INGEST_MOTO_SERVER", "")
"""A `moto_server` that is installed elsewhere."""

FETCH_SECONDS: Final = 600.0
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 2.0
"""Nothing in its queues is kept, so that it may be killed after that."""

MEMORY: Final = "256m"
CONFIG: Final = """\
include classpath("application.conf")
node-address {{ protocol = http, host = "127.0.0.1", port = {port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = "127.0.0.1", sqs-limits = strict }}
rest-stats {{ enabled = false }}
"""


def no_moto() -> str | None:
    """Return a sentence that says why moto's server cannot be started, None if it can."""
    if MOTO or all(importlib.util.find_spec(name) for name in ("moto", "flask", "flask_cors")):
        return None
    return "moto's server is not installed here: pip install 'moto[server,sqs]'"


def no_elasticmq() -> str | None:
    """The same for ElasticMQ."""
    if shutil.which("java") is None:
        return "ElasticMQ needs Java (JDK or JRE 11): there is no 'java' here"
    if not _has_jars() and shutil.which("mvn") is None:
        return "the jars of ElasticMQ are fetched by Maven: there is no 'mvn' here, and no jars"
    return None


class Server:
    """A server in a process of its own. `command` has its port in it already."""

    def __init__(self, command: list[str], where: Path, port: int) -> None:
        self.port = port
        self._command = command
        self._log = where / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return when it listens; what was in its queues is forgotten."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with closing(socket.socket()) as one:
                one.settimeout(1)
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            threading.Event().wait(0.1)
        self.stop()
        said = self._log.read_text(errors="replace")[-2000:]
        raise AssertionError(f"the server did not start: {said}")

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


@contextmanager
def moto(where: Path) -> Iterator[Server]:
    """Serve moto until the block is left."""
    port = free_port()
    program = [MOTO] if MOTO else [sys.executable, "-m", "moto.server"]
    with _served(Server([*program, "-H", "127.0.0.1", "-p", str(port)], where, port)) as server:
        yield server


@contextmanager
def elasticmq(where: Path) -> Iterator[Server]:
    """Serve ElasticMQ until the block is left."""
    port = free_port()
    config = where / "elasticmq.conf"
    config.write_text(CONFIG.format(port=port))
    java = ["java", f"-Xmx{MEMORY}", "-XX:+UseSerialGC", f"-Dconfig.file={config}"]
    command = [*java, "-cp", f"{_fetched()}/*", "org.elasticmq.server.Main"]
    with _served(Server(command, where, port)) as server:
        yield server


@contextmanager
def _served(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _fetched() -> Path:
    """Return the directory of the jars, and fetch them if they are not there."""
    jars = HOME / "jars"
    if _has_jars():
        return jars
    shutil.rmtree(jars, ignore_errors=True)
    jars.mkdir(parents=True)
    command = ["mvn", "--batch-mode", "--quiet", "--file", str(POM)]
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
    subprocess.run([*command, *goal], check=True, timeout=FETCH_SECONDS)
    (jars / COMPLETE).write_bytes(POM.read_bytes())
    return jars


def _has_jars() -> bool:
    mark = HOME / "jars" / COMPLETE
    return mark.exists() and mark.read_bytes() == POM.read_bytes()
