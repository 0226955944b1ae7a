"""Runs that stop on purpose, and go on: canaries, too many bad records, and what was decided."""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ingest.codec import dumps
from ingest.samples import samples
from ingest.state.journal import Run, runs_in
from tests.integration.processes import COMMAND, KEY, Ended, Served, sent, served, written

pytestmark = pytest.mark.integration

NO_LIMIT = ("--rate", "1000000/1s")
ROWS = 20_000


def imported(where: Path, sandbox: Served, *arguments: str | Path, key: str = KEY) -> Ended:
    """Import to the end, or to where it stops; the state is the same for all of a test."""
    state = ("--state", where / "state", "--limits", "combined", *NO_LIMIT)
    return sent(where, sandbox.url, "import", *arguments, *state, key=key)


def only_run(where: Path) -> Run:
    """The one run in the journal."""
    (run,) = runs_in(where / "state")
    return run


def test_a_canary_and_then_the_rest_are_exactly_all(tmp_path: Path) -> None:
    """Over several files, bad lines and lines of several records: none twice, none left out."""
    lines = list(samples(3_000, users=500))
    lines[70] = dumps({"event": {"external_id": "u", "name": "e"}})
    lines[90] = dumps(
        {"attributes": [{"external_id": f"many-{n}", "n": n} for n in range(60)], "events": []}
    )
    paths = [
        written(tmp_path / "one.ndjson", lines[:1_000]),
        written(tmp_path / "two.ndjson", lines[1_000:]),
    ]
    whole = 3_059
    with served(*NO_LIMIT) as sandbox:
        for limit, requests in ((100, True), (100, False), (110, True), (1_500, True)):
            before = sandbox.requests
            canary = imported(tmp_path, sandbox, *paths, "--limit", str(limit))
            assert canary.records == {"read": limit, "delivered": limit - 1, "invalid": 1}
            assert (canary.status, canary.report["state"]) == (1, "interrupted")
            assert "without --limit goes on" in canary.stderr
            assert (sandbox.requests > before) == requests
        assert only_run(tmp_path).state == "interrupted"
        ended = imported(tmp_path, sandbox, *paths)
        stats = sandbox.stats()
    assert ended.records == {"read": whole, "delivered": whole - 1, "invalid": 1}
    assert (ended.report["state"], ended.status) == ("finished", 1)
    assert (stats["distinct_objects"], stats["copies"]) == (whole - 1, 0)
    assert ended.report["requests"]["sent"] == stats["requests"]
    assert ended.report["requests"]["by_status"] == stats["by_status"]


def test_a_limit_that_is_the_whole_input_finishes_it(tmp_path: Path) -> None:
    """There is nothing more: the run is at its end."""
    path = written(tmp_path / "in.ndjson", list(samples(200)))
    with served(*NO_LIMIT) as sandbox:
        ended = imported(tmp_path, sandbox, path, "--limit", "200")
    assert (ended.status, ended.report["state"]) == (0, "finished")
    assert "goes on" not in ended.stderr


def test_too_many_bad_records_halt_a_run_that_can_be_gone_on_with(tmp_path: Path) -> None:
    """What is in flight is answered, and with a higher share everything arrives, once."""
    lines = list(samples(6_000))
    bad = dumps({"event": {"external_id": "u", "name": "e"}})
    for at in range(0, 6_000, 20):
        lines.insert(at, bad)
    path = written(tmp_path / "in.ndjson", lines)
    with served("--latency", "20ms", *NO_LIMIT) as sandbox:
        halted = imported(tmp_path, sandbox, path, "--max-bad", "2%")
        assert (halted.status, halted.report["state"]) == (3, "halted")
        assert halted.balanced()
        assert "--max-bad is 2%" in halted.report["halted_because"]
        assert "'missing-time'" in halted.report["halted_because"]
        assert str(halted.letters_path) in halted.report["halted_because"]
        again = imported(tmp_path, sandbox, path, "--max-bad", "50")
        assert again.status == 3
        ended = imported(tmp_path, sandbox, path, "--max-bad", "10%")
        stats = sandbox.stats()
    assert ended.status == 1, ended.stderr
    assert ended.records == {"read": 6_300, "delivered": 6_000, "invalid": 300}
    assert stats["copies"] == 0
    assert len(halted.letters) + len(again.letters) + len(ended.letters) == 300
    assert "300 dead letters in " in ended.stderr


def table(path: Path) -> Path:
    """Write a table whose middle is in neither end that is hashed."""
    with path.open("w") as file:
        file.write("external_id,score,filling\n")
        for n in range(ROWS):
            file.write(f"u{n},{100_000 + n},{'x' * 20}\n")
    return path


def changed(path: Path, old: bytes, new: bytes) -> None:
    """Change a file so that nobody notices: the journal is to be asked, and not the file."""
    about, data = path.stat(), path.read_bytes()
    assert (data.count(old), len(old)) == (1, len(new))
    path.write_bytes(data.replace(old, new))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_what_was_decided_of_columns_stays(tmp_path: Path) -> None:
    """A resume does not survey the file again: the types are those of the beginning."""
    path = table(tmp_path / "in.csv")
    kind = ("--kind", "attributes")
    with served(*NO_LIMIT) as sandbox:
        canary = imported(tmp_path, sandbox, path, *kind, "--limit", "100")
        assert canary.status == 0, canary.stderr
        assert "every cell is a number" in canary.stderr
        changed(path, b"110000", b"11000x")  # surveyed again, the column would be text
        ended = imported(tmp_path, sandbox, path, *kind)
        user: Any = sandbox.get("/sandbox/users/u15000")
        requests = sandbox.requests
        finished = imported(tmp_path, sandbox, path, *kind)
        assert sandbox.requests == requests
    assert "decided when the run began" in ended.stderr
    assert "every cell is a number" not in ended.stderr
    assert ended.records == {"read": ROWS, "delivered": ROWS - 1, "invalid": 1}
    assert user["attributes"]["score"] == 115_000
    assert (finished.status, finished.report) == (1, ended.report)
    assert "Columns" not in finished.stderr
    assert "1 dead letter in " in finished.stderr
    assert "Its bad rows are in " in finished.stderr


def test_after_a_resume_everything_is_told_of_the_whole_run(tmp_path: Path) -> None:
    """Time, letters and bad rows of all processes, whichever files their letters went to."""
    path = table(tmp_path / "in.csv")
    for n in (5, 15_000):
        changed(path, b"%d" % (100_000 + n), b"%dx" % (10_000 + n))
    options = ("--kind", "attributes", "--types", "score=number")
    with served("--latency", "50ms", *NO_LIMIT) as sandbox:
        first = imported(tmp_path, sandbox, path, *options, "--limit", "5000")
        seconds = only_run(tmp_path).seconds
        ended = imported(tmp_path, sandbox, path, *options)
    assert ended.records == {"read": ROWS, "delivered": ROWS - 2, "invalid": 2}
    assert ended.report["seconds"] > seconds >= first.report["seconds"] - 0.001 > 0
    assert (len(first.letters), len(ended.letters)) == (1, 1)
    assert "2 dead letters in " in ended.stderr
    assert str(first.letters_path) in ended.stderr
    (rejects,) = (tmp_path / "state").glob("rejects-*.csv")
    with rejects.open(newline="") as file:
        assert [row["external_id"] for row in csv.DictReader(file)] == ["u5", "u15000"]


def test_a_key_that_is_refused_does_not_take_a_run_over(tmp_path: Path) -> None:
    """Nothing was delivered with it: the old key goes on, as if nobody had tried."""
    path = written(tmp_path / "in.ndjson", list(samples(2_000)))
    with served(*NO_LIMIT) as sandbox:
        assert imported(tmp_path, sandbox, path, "--limit", "500").status == 0
        kept = only_run(tmp_path).credential
        wrong = imported(tmp_path, sandbox, path, "--same-account", key="wrong")
        assert wrong.status == 3
        assert only_run(tmp_path).credential == kept
        assert imported(tmp_path, sandbox, path, key="wrong").status == 2
        ended = imported(tmp_path, sandbox, path)
    assert ended.status == 0, ended.stderr
    assert ended.records == {"read": 2_000, "delivered": 2_000}


def test_what_was_typed_is_kept_but_for_what_would_not_go_on(tmp_path: Path) -> None:
    """`ingest status` can show what to type, and where."""
    path = written(tmp_path / "in.ndjson", list(samples(300)))
    with served(*NO_LIMIT) as sandbox:
        imported(tmp_path, sandbox, path, "--limit", "100", "--fresh", "--max-bad", "7%")
    run = only_run(tmp_path)
    assert run.command.startswith("ingest import --to braze ")
    assert "--max-bad 7%" in run.command
    assert "--limit 100" not in run.command
    assert "--fresh" not in run.command
    assert Path(run.frozen["cwd"]).parent == tmp_path


def test_an_input_that_cannot_be_known_again_is_said_at_the_start(tmp_path: Path) -> None:
    """Law 9: stdin is sent all the same, and nobody believes that it can be gone on with."""
    with served(*NO_LIMIT) as sandbox:
        ended = subprocess.run(
            [*COMMAND, "import", "-", "--to", "braze", "--state", str(tmp_path / "state")],
            input=b"\n".join(samples(10)),
            env={**os.environ, "BRAZE_REST_URL": sandbox.url, "BRAZE_API_KEY": KEY},
            capture_output=True,
            timeout=120,
            check=False,
        )
    assert ended.returncode == 0
    said = ended.stderr.decode()
    assert said.index("stdin cannot be known again") < said.index("Balance of run")
