"""What must hold of a run that is killed, or whose disk fills up: counted where the records arrive.

The records are numbered for each user, so that the destination can tell what is missing, what came
twice, and in which order it came.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pytest

from ingest.codec import dumps, loads
from ingest.sinks.registry import DESTINATIONS
from tests.integration.processes import (
    COMMAND,
    KEY,
    PATIENCE,
    Ended,
    Sending,
    Served,
    eventually,
    served,
    written,
)

pytestmark = pytest.mark.integration

IN_FLIGHT: Final = 8
EACH: Final = 75
"""Records in a request at most."""

LATENCY: Final = 0.04
KILLS: Final = 6
USERS: Final = 3_000
NO_LIMIT: Final = ("--rate", "1000000/1s")
SERVED: Final = ("--latency", f"{LATENCY * 1000:.0f}ms", *NO_LIMIT)

ROOT: Final = Path(__file__).parents[2]

Step = tuple[str, int]
"""A user, and the how-manieth record of that user it is."""


def steps(count: int) -> Iterator[Step]:
    """Yield whose record is next, at random, so that many in flight are of one user."""
    dice, seen = random.Random(count), [0] * USERS
    for _ in range(count):
        user = dice.randrange(USERS)
        yield f"user-{user}", seen[user]
        seen[user] += 1


def line_of(step: Step) -> bytes:
    """Return a record that carries its number: an event for every third one."""
    user, number = step
    if number % 3:
        return dumps({"attributes": {"external_id": user, "step": number, "plan": "pro"}})
    happened = {"time": "2026-11-01T00:00:00Z", "properties": {"step": number}}
    return dumps({"event": {"external_id": user, "name": "stepped", **happened}})


def lines_of(path: Path, count: int) -> Path:
    """Write records as NDJSON."""
    return written(path, [line_of(step) for step in steps(count)])


def table_of(path: Path, count: int) -> Path:
    """Write records as a spreadsheet has them."""
    rows = [f'{user},{number},"a ""note"", of {number}"'.encode() for user, number in steps(count)]
    return written(path, [b"external_id,step,note", *rows])


FORMS: Final = {"ndjson": (lines_of, ()), "csv": (table_of, ("--kind", "attributes"))}
"""Form of a file -> how it is written, and how it is read."""


def options(where: Path, path: Path, *more: str) -> list[str]:
    """Return the command of an import; the state is the same for all of a test."""
    ours = ("--in-flight", str(IN_FLIGHT), "--limits", "combined", *NO_LIMIT)
    return ["import", str(path), *ours, "--state", str(where / "state"), *more]


def number_of(record: dict[str, Any]) -> int:
    """Return the number that a record carries."""
    return int(record.get("properties", record)["step"])


def killed(run: Sending, sandbox: Served, dice: random.Random) -> None:
    """Kill -9 at a random moment: after so many requests, anywhere between two answers."""
    since, more = sandbox.requests, dice.randrange(220)
    eventually(lambda: sandbox.requests >= since + more, f"{more} more requests")
    threading.Event().wait(dice.random() * LATENCY)
    assert run.process.poll() is None, "it ended before it was killed"
    run.process.kill()
    run.process.wait()


def check_order(sandbox: Served, count: int) -> None:
    """Check each user: nothing is missing, and what came twice came where its first copy did.

    Inside of one request the destination takes attributes first: the order is that of a kind.
    """
    expected: dict[str, int] = defaultdict(int)
    for user, _ in steps(count):
        expected[user] += 1
    for user, total in expected.items():
        profile = sandbox.get(f"/sandbox/users/{user}")
        firsts: dict[str, list[int]] = defaultdict(list)
        requests: dict[str, list[int]] = defaultdict(list)
        for arrival in profile["arrivals"]:
            number, kind = number_of(arrival["object"]), arrival["kind"]
            requests[kind].append(number)
            if number not in firsts[kind]:
                firsts[kind].append(number)
        assert all(numbers == sorted(numbers) for numbers in firsts.values()), user
        # The last copies are in order too: what is left over there is what the source said last.
        for numbers in requests.values():
            lasts = list(dict.fromkeys(reversed(numbers)))
            assert lasts == sorted(lasts, reverse=True), user
        assert sorted(chain.from_iterable(firsts.values())) == list(range(total)), user


@pytest.mark.parametrize(
    ("count", "form"), [(120_000, "ndjson"), (60_000, "csv")], ids=["ndjson", "csv"]
)
def test_six_kills_lose_nothing_and_double_only_what_was_in_flight(
    tmp_path: Path, count: int, form: str
) -> None:
    """Killed six times at random, an import of numbered records ends complete, in order, told."""
    dice = random.Random(f"{count} {form}")
    write, more = FORMS[form]
    path = write(tmp_path / f"in.{form}", count)
    with served(*SERVED) as sandbox:

        def going() -> Sending:
            return Sending(tmp_path, sandbox.url, *options(tmp_path, path, *more))

        for _ in range(KILLS):
            killed(going(), sandbox, dice)
        ended = going().end()
        stats = sandbox.stats()
        again = going().end()
        assert sandbox.requests == stats["requests"]
        assert ended.status == 0, ended.stderr
        assert ended.records == {"read": count, "delivered": count}
        assert stats["distinct_objects"] == count
        doubled = ended.report["of_which"]["maybe_duplicated"]
        assert stats["copies"] <= doubled <= KILLS * IN_FLIGHT * EACH
        assert stats["same_user_overlaps"] == 0
        assert "Going on with run" in ended.stderr
        assert (again.status, again.report) == (0, ended.report)
        assert "nothing is sent again" in again.stderr
        check_order(sandbox, count)


# --- a disk that fills up -------------------------------------------------------------------------

GOOD: Final = 20_000
BAD_EVERY: Final = 10
LETTER_TEXT: Final = 4_000
"""Characters of a bad record: its letters fill a disk of some MB before half of the run is over."""

DISK_MB: Final = 10
"""The reserve takes 4 MB of it."""

ROOMY_MB: Final = 64
MOST_FILE: Final = 2_000_000
"""Bytes of a file at most, where no small disk can be had."""

LIMITED: Final = f"""
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({MOST_FILE}, {MOST_FILE}))
os.execv(sys.argv[1], sys.argv[1:])
"""


def records_with_bad_ones(path: Path) -> int:
    """Write records, every tenth a long one without an identity; return how many those are."""
    bad = dumps({"attributes": {"note": "x" * LETTER_TEXT}})
    lines = []
    for i, step in enumerate(steps(GOOD)):
        lines.append(line_of(step))
        if i % BAD_EVERY == 0:
            lines.append(bad)
    written(path, lines)
    return len(lines) - GOOD


def environment(sandbox: Served) -> dict[str, str]:
    """Return the environment that leads to a sandbox."""
    return {**os.environ, **DESTINATIONS["braze"].sandboxed(sandbox.url, KEY), "COLUMNS": "200"}


def check_complete(ended: Ended, sandbox: Served, letters: Path, bad: int) -> None:
    """Check that all arrived, once, and that each bad record has one letter."""
    assert ended.status == 1, ended.stderr  # finished; some are invalid
    assert ended.records == {"read": GOOD + bad, "delivered": GOOD, "invalid": bad}
    assert ended.report["of_which"]["maybe_duplicated"] == 0
    stats = sandbox.stats()
    assert (stats["distinct_objects"], stats["copies"]) == (GOOD, 0)
    assert len(letters.read_bytes().splitlines()) == bad
    check_order(sandbox, GOOD)


def check_full(status: int, stderr: str, delivered: int) -> None:
    """Check that a run ended in the middle, with a sentence."""
    assert status == 4, stderr
    assert "Traceback" not in stderr
    assert "same command again" in stderr
    assert 0 < delivered < GOOD


def test_a_file_that_cannot_grow_makes_no_extra_copies(tmp_path: Path) -> None:
    """Dead letters may not grow: status 4 and a sentence; with room the same command ends it."""
    path, letters = tmp_path / "in.ndjson", tmp_path / "letters.ndjson"
    bad = records_with_bad_ones(path)
    with served(*SERVED) as sandbox:
        arguments = options(tmp_path, path, "--dead-letters", str(letters))
        full = subprocess.run(
            [sys.executable, "-c", LIMITED, *COMMAND, *arguments, "--to", "braze"],
            cwd=tmp_path,
            env=environment(sandbox),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        check_full(full.returncode, full.stderr, sandbox.stats()["distinct_objects"])
        ended = Sending(tmp_path, sandbox.url, *arguments).end()
        check_complete(ended, sandbox, letters, bad)


def test_a_full_disk_makes_no_extra_copies(tmp_path: Path) -> None:
    """Journal and letters fill a small disk: status 4 and a sentence; with room all ends well."""
    path, disk = tmp_path / "in.ndjson", tmp_path / "disk"
    disk.mkdir()
    bad = records_with_bad_ones(path)
    unshare = shutil.which("unshare")
    mount = f"mount -t tmpfs -o size={DISK_MB}m none {disk}"
    if unshare is None or subprocess.run([unshare, "-rm", "sh", "-c", mount]).returncode:
        pytest.skip("no small disk can be had here")
    # The disk is there for one shell alone, which therefore does all of it.
    letters = disk / "letters.ndjson"
    command = [*COMMAND, *options(disk, path, "--dead-letters", str(letters)), "--to", "braze"]
    run = " ".join([*command, "--report", f"{tmp_path}/report-$n.json"])
    script = (
        f"{mount}; n=1; {run} 2> {tmp_path}/said-1; echo $?; "
        f"mount -o remount,size={ROOMY_MB}m {disk}; n=2; {run} 2> {tmp_path}/said-2; echo $?; "
        f"cp {letters} {tmp_path}/letters.ndjson"
    )
    with served(*SERVED) as sandbox:
        done = subprocess.run(
            [unshare, "-rm", "sh", "-c", script],
            cwd=tmp_path,
            env=environment(sandbox),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        statuses = [int(status) for status in done.stdout.split()]
        full, whole = ((tmp_path / f"said-{n}").read_text() for n in (1, 2))
        reports = [loads((tmp_path / f"report-{n}.json").read_bytes()) for n in (1, 2)]
        check_full(statuses[0], full, reports[0]["records"]["delivered"])
        ended = Ended(statuses[1], "", whole, reports[1], [], letters)
        check_complete(ended, sandbox, tmp_path / "letters.ndjson", bad)
