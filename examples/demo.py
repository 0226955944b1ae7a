"""The main job, seen in a minute: sample data into the embedded sandbox, with a few faults.

Run it with `make demo`, or `python examples/demo.py` where the package is installed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

RECORDS = 20_000
FAULTS = "500:6%,503:4%,502html:4%,429:1%,reset-before:4%,202:3%"

BAD_LINES = b"""\
{"event": {"external_id": "user-1", "name": "no_time"}}
{"purchase": {"external_id": "user-2", "product_id": "p", "currency": "euro", "price": 1, \
"time": "2026-11-01T10:00:00Z"}}
this line is not JSON
"""


def main() -> int:
    """Make a file of records, some of them bad, import it, and show where the bad ones went."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "users.ndjson")
        print(f"$ ingest sample {RECORDS} > users.ndjson   (and three bad lines)", flush=True)
        with path.open("wb") as file:
            subprocess.run(ingest("sample", str(RECORDS)), stdout=file, check=True)
            file.write(BAD_LINES)
        print(f"$ ingest import users.ndjson --to sandbox --faults {FAULTS}\n", flush=True)
        options = ("--to", "sandbox", "--faults", FAULTS, "--dead-letters", "bad.ndjson")
        status = subprocess.run(ingest("import", path.name, *options), cwd=folder).returncode
        print(f"\nThe exit status is {status}: finished, and some records are bad. They say why:\n")
        print("$ cat bad.ndjson", flush=True)
        print(Path(folder, "bad.ndjson").read_text())
    return 0 if status == 1 else 1


def ingest(*arguments: str) -> list[str]:
    """Return the command line of `ingest`, in this very environment."""
    return [sys.executable, "-m", "ingest", *arguments]


if __name__ == "__main__":
    sys.exit(main())
