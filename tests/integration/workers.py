"""`ingest run` as its users run it: a configuration, a process, signals, probes and metrics."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from ingest.codec import dumps, loads
from tests.integration.processes import COMMAND, KEY, PATIENCE, Served, eventually, most_memory
from tests.integration.servers import free_port

ROOT: Final = Path(__file__).parents[2]

GENEROUS: Final = ("--rate", "1000000/1s", "--limits", "per-array")
"""Options of a sandbox that stands for an account that grants much."""

TABLES: Final = ("source", "sink", "dead_letters", "ops", "map", "transform")


class Working:
    """A worker in a process of its own, in the directory `where`."""

    def __init__(self, where: Path, config: Mapping[str, Any], **environ: str) -> None:
        where.mkdir(exist_ok=True)
        self.where = where
        self.ops = free_port()
        told = {**config, "ops": {"port": self.ops}}
        (where / "worker.toml").write_text(toml(told))
        self._err = where / f"stderr-{self.ops}"
        env = {**os.environ, "PYTHONPATH": str(ROOT), "BRAZE_API_KEY": KEY, **environ}
        with self._err.open("wb") as err, (where / "stdout").open("ab") as out:
            self.process = subprocess.Popen(
                [*COMMAND, "run", "worker.toml"],
                cwd=where,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def output(self) -> bytes:
        """All that it said anywhere: what no secret may be in."""
        return self._err.read_bytes() + (self.where / "stdout").read_bytes()

    @property
    def said(self) -> list[str]:
        """The messages of its log."""
        lines = self._err.read_bytes().splitlines()
        return [
            loads(line)["message"] if line.startswith(b"{") else line.decode() for line in lines
        ]

    def page(self, path: str) -> tuple[int, str]:
        """Return the status and text of a page; 0 if nobody answers."""
        try:
            with urlopen(f"http://127.0.0.1:{self.ops}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, ""
        except (URLError, OSError):
            return 0, ""

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels; 0 if it is not there."""
        found = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", self.page("/metrics")[1], re.M)
        return sum(map(float, found))

    def column(self, column: str) -> int:
        """Return how many records are in a column of the balance."""
        lines = self.page("/metrics")[1].splitlines()
        wanted = f'ingest_records_total{{column="{column}"'
        return int(sum(float(line.split()[-1]) for line in lines if line.startswith(wanted)))

    def await_ready(self) -> None:
        """Return once it is ready."""
        self._eventually(lambda: self.page("/readyz")[0] == 200, "a worker that is ready")

    def await_metric(self, name: str, least: float) -> None:
        """Return once a metric is so large."""
        self._eventually(lambda: self.metric(name) >= least, f"{name} of {least:,}")

    def _eventually(self, condition: Any, what: str) -> None:
        def looked() -> bool:
            assert self.process.poll() is None, self.said
            return bool(condition())

        eventually(looked, what)

    def terminate(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit status, and how long it took in seconds."""
        since = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE), time.monotonic() - since

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def most_memory(self) -> int:
        """The most memory it had, in bytes. Linux only."""
        return most_memory(self.process)


@contextmanager
def working(where: Path, config: Mapping[str, Any], **environ: str) -> Iterator[Working]:
    """Run a worker until the block is left; then it is killed, if it is there still."""
    one = Working(where, config, **environ)
    try:
        yield one
    finally:
        one.kill()


def sink_of(served: Served, **more: Any) -> dict[str, Any]:
    """The sink of a sandbox, as an account that grants much."""
    return {"type": "braze", "url": served.url, "rate": "2000/1s", "linger": "100ms", **more}


def post(url: str, lines: list[bytes]) -> int:
    """Post lines; return the status."""
    request = Request(
        f"{url}/v1/records", b"\n".join(lines), {"Content-Type": "application/x-ndjson"}
    )
    try:
        with urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def toml(config: Mapping[str, Any]) -> str:
    """Write a configuration down."""
    top = {key: value for key, value in config.items() if key not in TABLES}
    tables = {key: value for key, value in config.items() if key in TABLES}
    return "\n".join(
        [*_pairs(top), *(line for name in tables for line in _table(name, tables[name]))]
    )


def _table(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    yield f"[{name}]"
    yield from _pairs({key: value for key, value in table.items() if not isinstance(value, dict)})
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _table(f'{name}."{key}"', value)


def _pairs(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{key} = {dumps(value).decode()}"
