"""Running what is measured as processes of their own, and what each of them took.

Times are those of the clock, CPU is user and system time of the process and of all that it began
and waited for, as the kernel counts it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.corpora import written
from benchmarks.sampling import Sample
from ingest.codec import loads

UNLIMITED = ("--rate", "1000000/1s")
"""More requests a second than anything here makes: the destination alone is the limit."""

STARTS = 3
"""Imports of one record, to find the least that a start-up takes."""

_STARTED: dict[str, Sample] = {}

LAST_WORDS = 2_000
"""Bytes of what a command that failed had said."""


class Ran(NamedTuple):
    """A process that ended well: seconds of the clock, seconds of CPU, and what it printed."""

    seconds: float
    cpu: float
    out: bytes


def ran(command: list[str], environ: Mapping[str, str] | None = None) -> Ran:
    """Run a command to its end. Raises `SystemExit` with its last words if it fails."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as out:
        since = time.monotonic()
        process = subprocess.Popen(
            command, env=os.environ | (environ or {}), stdout=out, stderr=said
        )
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        seconds = time.monotonic() - since
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(max(0, said.seek(0, os.SEEK_END) - LAST_WORDS))
            text = said.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{text}")
        out.seek(0)
        return Ran(seconds, used.ru_utime + used.ru_stime, out.read())


def null_account(url: str) -> dict[str, str]:
    """Return the environment that leads to a null destination."""
    return {"BRAZE_REST_URL": url, "BRAZE_API_KEY": "bench"}


def import_command(path: Path | str, state: str, *options: str) -> list[str]:
    """Return the command of an import that keeps its state in a directory of its own.

    A second import of the same input with the same state would send nothing.
    """
    command = [sys.executable, "-m", "ingest", "import", str(path), "--state", state]
    return [*command, "--progress", "none", *options]


def imported(path: Path, records: int, url: str | None, *options: str) -> Sample:
    """Import a file into a null destination, or into a null file, start-up included.

    `options` come after `--limits combined` and a rate that limits nothing, and win over them.
    Raises `SystemExit` if it fails, or does not deliver every record.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        to = ("--to", "braze", *UNLIMITED) if url else ("--to", "file:/dev/null")
        report = Path(folder) / "report.json"
        kind = ("--kind", "attributes") if path.suffix == ".csv" else ()
        given = (*to, *kind, "--limits", "combined", *options, "--report", str(report))
        took = ran(
            import_command(path, str(Path(folder) / "state"), *given), null_account(url or "")
        )
        told: dict[str, Any] = loads(report.read_bytes())
    delivered = told["records"]["delivered"]
    if delivered != records:
        raise SystemExit(f"{path.name}: {delivered:,} of {records:,} records were delivered")
    return Sample(records, took.seconds, took.cpu)


def start_up(folder: Path, url: str, form: str = "ndjson") -> Sample:
    """Return the least that an import of one record took, once for all that ask in this process.

    The least of a few, so that never more than the start-up is taken off what others took.
    """
    return _least_of(written("typical", 1, folder, form), url)


def first_of(path: Path, url: str) -> Sample:
    """Return the same of an import that ends after the first record of a file.

    It is the same command as that of the whole file, and begins as many processes.
    """
    return _least_of(path, url, "--limit", "1")


def _least_of(path: Path, url: str, *options: str) -> Sample:
    if path.name not in _STARTED:
        some = [imported(path, 1, url, *options) for _ in range(STARTS)]
        least = (min(sample.seconds for sample in some), min(sample.cpu for sample in some))
        _STARTED[path.name] = Sample(1, *least)
    return _STARTED[path.name]


def module(name: str, *arguments: str) -> Sample:
    """Run one of our own programs, which prints a sample of itself with its start-up apart."""
    took = ran([sys.executable, "-m", f"benchmarks.{name}", *arguments])
    told: dict[str, Any] = loads(took.out)
    return Sample(told["records"], told["seconds"], told["cpu"], told.get("more", {}))
