"""The parts of a run, as they are put together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ingest.samples import samples
from ingest.testing import SandboxSettings, running_sandbox


def test_caps_learned_by_one_run_are_known_to_the_next(tmp_path: Path) -> None:
    """The first run of an account meets its refusals; the second one meets none."""
    path = tmp_path / "users.ndjson"
    path.write_bytes(b"".join(samples(600)))
    refused = []
    with running_sandbox(SandboxSettings(limits=50)) as sandbox:
        environ = os.environ | {"BRAZE_REST_URL": sandbox.url, "BRAZE_API_KEY": sandbox.key}
        for _ in range(2):
            before = sandbox.stats()["by_status"].get("400", 0)
            command = [sys.executable, "-m", "ingest", "import", str(path), "--to", "braze"]
            subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True)
            refused.append(sandbox.stats()["by_status"].get("400", 0) - before)
    assert 1 <= refused[0] <= 3
    assert refused[1] == 0
