"""The quick starts of the README, run as they are written.

What a reader has beforehand (an account, a table, a topic, the tools of Kafka) is put there first;
the rest is the text of the page, in one shell that ends at the first command that fails. They take
fixed ports, so nothing may run beside them.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.integration.brokers import brokered, why_not
from tests.integration.processes import COMMAND, KEY, Served, eventually, served

pytestmark = [pytest.mark.integration, pytest.mark.alone]

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text()

SECONDS: Final = 120.0
"""Until a quick start counts as stuck; the slowest takes some 10 s."""

PRODUCER: Final = '''\
"""Stands in for the program of the same name: lines of stdin become messages."""

import asyncio
import sys

from aiokafka import AIOKafkaProducer


async def main(address, topic):
    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        for line in sys.stdin.buffer:
            await producer.send(topic, line.rstrip(b"\\n"))
    finally:
        await producer.stop()


words = sys.argv[1:]
options = dict(zip(words[::2], words[1::2], strict=True))
asyncio.run(main(ADDRESS or options["--bootstrap-server"], options["--topic"]))
'''


def section(title: str) -> str:
    """Return what stands below a heading."""
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def blocks(title: str, language: str = "sh") -> list[str]:
    """Return the blocks of a section in a language, in their order."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.M | re.S)
    assert found, f"{title} has no block in {language}"
    return found


def is_free(port: int) -> bool:
    """Whether nobody listens on a port."""
    with closing(socket.socket()) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def alone_on(*ports: int) -> Iterator[None]:
    """Skip the test where a port of the page is somebody else's; see that it is given back."""
    if taken := [port for port in ports if not is_free(port)]:
        pytest.skip(f"ports are in use: {taken}")
    yield
    eventually(lambda: all(map(is_free, ports)), "the end of all that listens", 10)


class Shell:
    """A directory, a PATH with the command, and an environment without anybody's account."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.bin = where / "bin"
        self.bin.mkdir()
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BRAZE_", "APPBOY_", "BATCH_", "INGEST_"))
        }
        self.environ["PATH"] = f"{self.bin}:{os.environ['PATH']}"
        self.environ["PYTHONPATH"] = str(ROOT)
        self.put("ingest", f'exec {shlex.join(COMMAND)} "$@"')

    def put(self, name: str, text: str) -> None:
        """Put a program on PATH."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(self, script: str, **environ: str) -> tuple[str, str]:
        """Run a script to its end, in which nothing may fail; return its stdout and its stderr.

        What it left running is killed.
        """
        out, err = self.where / "stdout", self.where / "stderr"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                ["bash", "-e", "-o", "pipefail", "-c", script],
                cwd=self.where,
                env={**self.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            status: int | None = None
            try:
                with suppress(subprocess.TimeoutExpired):
                    status = process.wait(SECONDS)
            finally:
                with suppress(ProcessLookupError):  # nobody is left
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said = err.read_text()
        assert status == 0, f"{'stuck' if status is None else status}: {said}"
        return out.read_text(), said


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell in a directory of its own."""
    return Shell(tmp_path)


def account_of(sandbox: Served) -> dict[str, str]:
    """Return the environment of somebody whose account is a sandbox."""
    return {"BRAZE_REST_URL": sandbox.url, "BRAZE_API_KEY": KEY}


def test_it_can_be_tried_without_an_account(shell: Shell) -> None:
    """Every record of the sample is delivered to the sandbox in the process."""
    (line,) = (one for one in "".join(blocks("Try it")).splitlines() if "ingest sample" in one)
    _, said = shell.run(line)
    assert re.search(r"│ all +│ 100,000 │ +100,000 │", said), said


def test_before_and_after(shell: Shell) -> None:
    """Planned, sent by a canary and then the rest, and compared: nobody is sent twice."""
    rows = (f"u{number},{'pro' if number % 3 else 'free'},{number}" for number in range(3_000))
    (shell.where / "users.csv").write_text("\n".join(["external_id,plan,visits", *rows]) + "\n")
    (block,) = blocks("Before, and after")
    with served() as sandbox:
        _, said = shell.run(block, **account_of(sandbox))
        assert sandbox.stats()["objects"]["attributes"] == 3_000
        assert sandbox.stats()["distinct_objects"] == 3_000
    assert "Stopped at --limit 1,000" in said
    assert "100 % is there: 1,000 of 1,000 fields of 500 of" in said


def test_as_a_worker(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is put into the topic arrives, is counted, and the worker drains."""
    pytest.importorskip("aiokafka", reason="the extra 'kafka' is not installed")
    if (lack := why_not()) is not None:
        pytest.skip(lack)
    from tests.integration.topics import topic_made

    with alone_on(8081, 9100), brokered(tmp_path_factory.mktemp("kafka")) as broker:
        asyncio.run(topic_made(broker, "user-events", 2))
        program = shell.where / "producer.py"
        program.write_text(PRODUCER.replace("ADDRESS", repr(broker.address)))
        shell.put("kafka-console-producer.sh", f'exec {sys.executable} {program} "$@"')
        out, said = shell.run(
            "\n".join(blocks("As a worker")), INGEST_SOURCE__BOOTSTRAP=broker.address
        )
    assert 'ingest_records_total{column="delivered",kind="event"}' in out
    assert "1,000 delivered" in said


def test_as_a_sidecar(shell: Shell) -> None:
    """What is posted is answered, delivered and can be looked up, and the intake drains."""
    with alone_on(8080, 8082, 9100):
        out, said = shell.run("\n".join(blocks("As a sidecar")))
    assert '{"accepted":1}' in out
    assert '{"accepted":500,"delivered":500,' in out
    assert '"name":"ordered"' in out
    assert "501 delivered" in said


def test_in_your_service(shell: Shell) -> None:
    """The event is with the destination when the block is left."""
    (block,) = blocks("In your service", "python")
    imports, rest = block.split("\n\n", 1)
    program = shell.where / "service.py"
    program.write_text(
        f"import asyncio\n{imports}\n\n\nasync def main():\n{textwrap.indent(rest, '    ')}\n\n"
        "asyncio.run(main())\n"
    )
    with served() as sandbox:
        shell.run(shlex.join([sys.executable, str(program)]), **account_of(sandbox))
        assert sandbox.stats()["objects"]["event"] == 1
