"""What an import takes of the machine: memory at its peak, and the size of its journal.

`python -m benchmarks.footprint --size 5GB --form csv` writes a file of that size, imports it into
the null server, prints a line, and removes the file; `--to file` imports into a null file, which
needs no journal. Seeded records are repeated until the file is large enough.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks.commands import UNLIMITED, import_command, null_account
from benchmarks.destinations import null_server
from ingest.codec import dumps, loads
from ingest.settings import format_bytes, parse_bytes

BLOCK_RECORDS = 100_000
"""Records that are repeated: by as many users, if not told otherwise."""

LOOK_EVERY = 0.02
"""Seconds between two looks at the journal."""

TEXT_CHARS = 200
"""Characters of three of the nine columns: files of some GB then hold millions of records."""

COLUMNS = "external_id,plan,country,visits,score,vip,bio,motto,note"


class Took(NamedTuple):
    """What an import took: bytes of memory and of its journal at their largest, and seconds."""

    records: int
    memory: int
    journal: int
    seconds: float

    def __str__(self) -> str:
        """Tell it in a line."""
        return (
            f"{self.records:,} records in {self.seconds:.0f} s; memory at its peak "
            f"{format_bytes(self.memory)}, journal {format_bytes(self.journal)}"
        )


class Repeated(NamedTuple):
    """Seeded records: of few users in a seeded order, or of many in turn."""

    form: str
    users: int = BLOCK_RECORDS
    chars: int = TEXT_CHARS

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that are repeated."""
        order: Sequence[int] = range(BLOCK_RECORDS)
        if self.users < BLOCK_RECORDS:
            order = random.Random(self.users).choices(range(self.users), k=BLOCK_RECORDS)
        names, text = COLUMNS.split(","), "x" * self.chars
        for number, user in enumerate(order):
            values = (f"user-{user}", "pro", "DE", number, number / 8, True, text, text, text)
            if self.form == "csv":
                yield (",".join(map(str, values)) + "\n").encode()
            else:
                yield dumps({"attributes": dict(zip(names, values, strict=True))}) + b"\n"


def write(path: Path, size: int, repeated: Repeated) -> None:
    """Write a file of at least `size` bytes."""
    lines = b"".join(repeated.lines())
    with path.open("wb") as file:
        if repeated.form == "csv":
            file.write(COLUMNS.encode() + b"\n")
        while file.tell() < size:
            file.write(lines)


def took(path: Path, url: str | None, *options: str) -> Took:
    """Import a file into the null server at a URL, or into a null file, and watch."""
    where = ("--to", "file:/dev/null") if url is None else ("--to", "braze", *UNLIMITED)
    environ = os.environ | null_account(url or "")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        state, report = Path(folder) / "state", Path(folder) / "report.json"
        more = ("--limits", "combined", "--report", str(report), *options)
        command = import_command(path, str(state), *where, *more)
        since, memory, journal = time.monotonic(), 0, 0
        process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
        try:
            while process.poll() is None:
                memory, journal = max(memory, _memory(process.pid)), max(journal, _size(state))
                time.sleep(LOOK_EVERY)
        finally:
            process.kill()  # whoever interrupts this does not want to find it still running
        seconds = time.monotonic() - since
        if process.returncode:
            raise SystemExit(f"the import ended with {process.returncode}")
        records = loads(report.read_bytes())["records"]
        assert records["read"] == records["delivered"]
        return Took(records["read"], memory, journal, seconds)


def _memory(pid: int) -> int:
    """Return the most memory that a process and those it began had so far. Linux only.

    Nothing once it ended. Not `ru_maxrss`, which begins with the memory of the one that forked it.
    """
    try:
        told = Path(f"/proc/{pid}/status").read_text()
        begun = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:  # one that was begun ended just now
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", told)
    own = int(found[1]) * 1024 if found else 0
    return own + sum(_memory(int(other)) for other in begun)


def _size(state: Path) -> int:
    """Return the bytes of a journal with its log, now."""
    sizes = []
    for path in state.glob("journal*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # the log goes when the journal is closed
            continue
    return sum(sizes)


def measured(repeated: Repeated, size: int, folder: Path, *, http: bool) -> Took:
    """Write a file of a size, import it, and remove it."""
    path = folder / f"{size}.{repeated.form}"
    kind = ("--kind", "attributes") if repeated.form == "csv" else ()
    try:
        write(path, size, repeated)
        with ExitStack() as stack:
            url = stack.enter_context(null_server()).url if http else None
            return took(path, url, *kind)
    finally:
        path.unlink(missing_ok=True)


def main() -> None:
    """Measure one import."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint")
    parser.add_argument("--size", default="300MB", help="bytes of the file (300MB)")
    parser.add_argument("--form", choices=("ndjson", "csv"), default="ndjson")
    parser.add_argument("--to", choices=("null", "file"), default="null")
    parser.add_argument("--users", type=int, default=BLOCK_RECORDS)
    parser.add_argument("--chars", type=int, default=TEXT_CHARS, help="of each of the three texts")
    parser.add_argument("--folder", help="where the file is written (a temporary one)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        http, size = given.to == "null", parse_bytes(given.size)
        how = Repeated(given.form, given.users, given.chars)
        print(measured(how, size, Path(folder), http=http))


if __name__ == "__main__":
    main()
