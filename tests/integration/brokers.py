"""A real broker of Kafka on loopback, for as long as a test needs it.

Its jars come from Maven Central by `tests/kafka/pom.xml` into `.kafka/jars`, once. Run as a program
(`make kafka`) it serves in the foreground until it is interrupted.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

TREE: Final = Path(__file__).parents[2]
HOME: Final = Path(os.environ.get("INGEST_KAFKA_HOME", TREE / ".kafka"))
POM: Final = TREE / "tests" / "kafka" / "pom.xml"
COMPLETE: Final = ".complete"
"""File beside the jars that says that all of them are there, and for which pom."""

PORT: Final = 9092
"""Where `make kafka` serves."""

FETCH_SECONDS: Final = 600.0
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0

MEMORY: Final = "512m"
CLUSTER: Final = "aW5nZXN0LXRlc3RzLWtyYQ"
"""Any 16 bytes in base64."""

PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
log.cleaner.enable=false
"""


def why_not() -> str | None:
    """Return a sentence that says what a broker lacks on this machine, None if nothing."""
    if shutil.which("java") is None:
        return "a broker of Kafka needs Java (JDK or JRE 17): there is no 'java' here"
    if not _has_jars() and shutil.which("mvn") is None:
        return "the jars of Kafka are fetched by Maven: there is no 'mvn' here, and no .kafka/jars"
    return None


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def fetched() -> Path:
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


class Broker:
    """One broker in a process of its own; a restart keeps its port and its data."""

    def __init__(self, where: Path, port: int = 0) -> None:
        self.port = port or free_port()
        self._where = where
        self._properties = where / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What clients bootstrap from."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return when it listens."""
        if not self._properties.exists():
            data = self._where / "data"
            text = PROPERTIES.format(port=self.port, controller=free_port(), data=data)
            self._properties.write_text(text)
            storage = ("kafka.tools.StorageTool", "format", "-t", CLUSTER)
            subprocess.run(
                self._java(*storage, "-c", str(self._properties)),
                check=True,
                timeout=START_SECONDS,
                stdout=subprocess.DEVNULL,
            )
        with (self._where / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._properties)), stdout=log, stderr=log
            )
        self._await_listening()

    def stop(self) -> None:
        """Stop it as an operator would."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
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

    def _await_listening(self) -> None:
        assert self._process is not None
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with closing(socket.socket()) as one:
                one.settimeout(1)
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            threading.Event().wait(0.1)
        self.kill()
        said = (self._where / "broker.log").read_text(errors="replace")[-2000:]
        raise AssertionError(f"the broker did not start: {said}")

    def _java(self, *command: str) -> list[str]:
        jars = HOME / "jars"
        return ["java", f"-Xmx{MEMORY}", "-XX:+UseSerialGC", "-cp", f"{jars}/*", *command]


@contextmanager
def brokered(where: Path, port: int = 0) -> Iterator[Broker]:
    """Serve a broker until the block is left."""
    fetched()
    broker = Broker(where, port)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def main() -> int:
    """Serve in the foreground; data is forgotten at the end."""
    if (lack := why_not()) is not None:
        print(f"No broker: {lack}.", file=sys.stderr)
        return 1
    print("Fetching the jars, if they are not there yet ...", file=sys.stderr)
    HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as where, brokered(Path(where), PORT) as broker:
        signal.signal(signal.SIGTERM, lambda *_: broker.stop())
        print(f"Kafka serves at {broker.address}; Ctrl-C stops it.", file=sys.stderr)
        try:
            return broker.wait()
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
