"""Servers that speak SQS on loopback, for as long as a test needs them.

moto's is exact in what it answers, and slow: a receive takes it some 100 ms. ElasticMQ does some
1,500 messages a second; its jars come from Maven Central by `tests/sqs/pom.xml` into
`.elasticmq/jars`, once. Each runs in a process of its own, on a free port.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.integration.servers import Jars, Server, free_port

JARS: Final = Jars.of("sqs", ".elasticmq", "INGEST_ELASTICMQ_HOME")

MOTO: Final = os.environ.get("INGEST_MOTO_SERVER", "")
"""A `moto_server` that is installed elsewhere."""

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
    return JARS.why_not("ElasticMQ", "JDK or JRE 11")


@contextmanager
def moto(where: Path) -> Iterator[Server]:
    """Serve moto until the block is left."""
    port = free_port()
    program = [MOTO] if MOTO else [sys.executable, "-m", "moto.server"]
    with _served([*program, "-H", "127.0.0.1", "-p", str(port)], where, port) as server:
        yield server


@contextmanager
def elasticmq(where: Path) -> Iterator[Server]:
    """Serve ElasticMQ until the block is left."""
    port = free_port()
    config = where / "elasticmq.conf"
    config.write_text(CONFIG.format(port=port))
    command = JARS.java(MEMORY, f"-Dconfig.file={config}", "org.elasticmq.server.Main")
    with _served(command, where, port) as server:
        yield server


@contextmanager
def _served(command: list[str], where: Path, port: int) -> Iterator[Server]:
    server = Server(command, where, port, STOP_SECONDS)
    try:
        server.start()
        yield server
    finally:
        server.stop()
