"""The main job, seen in a minute: an import that is killed in the middle, and goes on.

A sandbox with a few faults serves as the destination, in a process of its own. Run it with
`make demo`, or `python examples/demo.py` where the package is installed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

RECORDS = 20_000
FAULTS = "500:6%,503:4%,502html:4%,429:1%,reset-before:4%,202:3%"
KILL_AFTER = 60
"""Requests that the sandbox has seen when the import is killed: about a fifth of all."""

BAD_LINES = b"""\
{"event": {"external_id": "user-1", "name": "no_time"}}
{"purchase": {"external_id": "user-2", "product_id": "p", "currency": "euro", "price": 1, \
"time": "2026-11-01T10:00:00Z"}}
this line is not JSON
"""


def main() -> int:
    """Import a file, kill the import with -9, run the same command again, and look at the end."""
    with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder)) as url:
        print(f"$ ingest sample {RECORDS} > users.ndjson   (and three bad lines)", flush=True)
        with Path(folder, "users.ndjson").open("wb") as file:
            subprocess.run(ingest("sample", str(RECORDS)), stdout=file, check=True)
            file.write(BAD_LINES)
        command = ("import", "users.ndjson", "--to", "braze", "--dead-letters", "bad.ndjson")
        env = {**os.environ, "BRAZE_REST_URL": url, "BRAZE_API_KEY": "sandbox-key"}
        print(f"\n$ ingest {' '.join(command)}", flush=True)
        killed = subprocess.Popen(ingest(*command), cwd=folder, env=env)
        while killed.poll() is None and stats(url)["requests"] < KILL_AFTER:
            time.sleep(0.02)
        killed.kill()
        killed.wait()
        print(f"\n$ kill -9 {killed.pid}   (in the middle of it; now the same command again)\n")
        status = subprocess.run(ingest(*command), cwd=folder, env=env).returncode
        print(f"\nThe exit status is {status}: finished, and some records are bad. They say why:\n")
        print("$ cat bad.ndjson")
        print(Path(folder, "bad.ndjson").read_text())
        end = stats(url)
        print(f"The sandbox has {end['distinct_objects']:,} of {RECORDS:,} records: none is lost.")
        print(f"It got {end['copies']} of them twice: those in flight when the import was killed.")
    return 0 if status == 1 and end["distinct_objects"] == RECORDS else 1


@contextmanager
def sandbox(folder: Path) -> Iterator[str]:
    """Serve a sandbox with faults until the block is left; yield its URL."""
    log = folder / "sandbox.log"
    command = ingest("sandbox", "--port", "0", "--latency", "40ms", "--faults", FAULTS)
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file)
    try:
        while not (said := re.search(rb"http://127\.0\.0\.1:\d+", log.read_bytes())):
            if process.poll() is not None:
                raise SystemExit(f"the sandbox did not start: {log.read_text()}")
            time.sleep(0.05)
        print(f"$ ingest sandbox --latency 40ms --faults {FAULTS}   (at {said[0].decode()})\n")
        yield said[0].decode()
    finally:
        process.terminate()
        process.wait()


def stats(url: str) -> dict[str, int]:
    """Return what the sandbox has counted."""
    with urlopen(f"{url}/sandbox/stats", timeout=10) as answer:
        counted: dict[str, int] = json.loads(answer.read())
    return counted


def ingest(*arguments: str) -> list[str]:
    """Return the command line of `ingest`, in this very environment."""
    return [sys.executable, "-m", "ingest", *arguments]


if __name__ == "__main__":
    sys.exit(main())
