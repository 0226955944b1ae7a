"""A real broker of Kafka on loopback, for as long as a test needs it.

Its jars come from Maven Central by `tests/kafka/pom.xml` into `.kafka/jars`, once. Run as a program
(`make kafka`) it serves in the foreground until it is interrupted.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.integration.servers import START_SECONDS, Jars, Server, free_port

JARS: Final = Jars.of("kafka", ".kafka", "INGEST_KAFKA_HOME")

PORT: Final = 9092
"""Where `make kafka` serves."""

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
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
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

USER: Final = "ingest"
PASSWORD: Final = "a-password-for-this-test-only"
MECHANISM: Final = "SCRAM-SHA-512"

SECURED: Final = """\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},\
SASL_SSL://127.0.0.1:{secured}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secured}
sasl.enabled.mechanisms={mechanism}
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.ssl.keystore.type=PKCS12
listener.name.sasl_ssl.ssl.keystore.location={store}
listener.name.sasl_ssl.ssl.keystore.password={password}
"""
"""Beside those: a second listener, with TLS, for the one user there is. The last word counts."""


def why_not() -> str | None:
    """Return a sentence that says what a broker lacks on this machine, None if nothing."""
    return JARS.why_not("a broker of Kafka", "JDK or JRE 17")


class Broker(Server):
    """One broker in a process of its own; a restart keeps its port and its data.

    A `secured` one listens at a second port too, where `USER` has to say his password over TLS.
    """

    def __init__(self, where: Path, port: int = 0, *, secured: bool = False) -> None:
        self._properties = where / "server.properties"
        command = JARS.java(MEMORY, "kafka.Kafka", str(self._properties))
        super().__init__(command, where, port or free_port(), STOP_SECONDS)
        self.secured_port = free_port() if secured else None
        self._where = where

    @property
    def address(self) -> str:
        """What clients bootstrap from."""
        return f"127.0.0.1:{self.port}"

    @property
    def secured_address(self) -> str:
        """The same, where a password is asked for."""
        assert self.secured_port is not None, "it is not a secured one"
        return f"127.0.0.1:{self.secured_port}"

    @property
    def certificate(self) -> Path:
        """The file with what the broker's certificate is checked by."""
        return self._where / "broker.pem"

    def start(self) -> None:
        """Start, and return when it listens."""
        if not self._properties.exists():
            self._prepare()
        super().start()

    def _prepare(self) -> None:
        told = {"port": self.port, "controller": free_port(), "data": self._where / "data"}
        text, users = PROPERTIES.format(**told), []
        if self.secured_port is not None:
            store = self._certify()
            more = {"secured": self.secured_port, "store": store, "mechanism": MECHANISM}
            lines = SECURED.format(**told, **more, password=PASSWORD)
            names = {line.partition("=")[0] for line in lines.splitlines()}
            kept = [line for line in text.splitlines() if line.partition("=")[0] not in names]
            text = "\n".join([*kept, lines])
            users = ["--add-scram", f"{MECHANISM}=[name={USER},password={PASSWORD}]"]
        self._properties.write_text(text)
        storage = ("kafka.tools.StorageTool", "format", "-t", CLUSTER, *users)
        _run(JARS.java(MEMORY, *storage, "-c", str(self._properties)))

    def _certify(self) -> Path:
        """Make a certificate that is its own authority; return the store of its key."""
        store = self._where / "broker.p12"
        tool = ["keytool", "-keystore", str(store), "-storepass", PASSWORD, "-alias", "broker"]
        key = ["-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12", "-dname", "CN=127.0.0.1"]
        _run([*tool, *key, "-ext", "san=ip:127.0.0.1", "-validity", "30"])
        _run([*tool, "-exportcert", "-rfc", "-file", str(self.certificate)])
        return store


def _run(command: list[str]) -> None:
    subprocess.run(
        command,
        check=True,
        timeout=START_SECONDS,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@contextmanager
def brokered(where: Path, port: int = 0, *, secured: bool = False) -> Iterator[Broker]:
    """Serve a broker until the block is left."""
    broker = Broker(where, port, secured=secured)
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
    JARS.home.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=JARS.home) as where, brokered(Path(where), PORT) as broker:
        signal.signal(signal.SIGTERM, lambda *_: broker.stop())
        print(f"Kafka serves at {broker.address}; Ctrl-C stops it.", file=sys.stderr)
        try:
            return broker.wait()
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
