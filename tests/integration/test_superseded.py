"""Old values do not come back: what a killed run, its resume and a replay make of dead letters."""

from __future__ import annotations

import random
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ingest.codec import dumps, loads
from tests.integration.processes import Sending, Served, eventually, sent, served, written

pytestmark = pytest.mark.integration

RECORDS = 12_000
USERS = 400
FAST = ("--rate", "1000000/1s")


def lines(seed: int) -> list[bytes]:
    """Attributes of few users, some of which this side refuses, and some the destination."""
    dice = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for n in range(RECORDS):
        user = f"u{dice.randrange(USERS)}"
        # A user's last record is often a bad one: not every letter is superseded.
        bad = dice.random() < 0.05 or n > RECORDS * 0.95
        rows.append({"external_id": user, "n": n, **({"email": 5} if bad else {})})
    return [dumps({"attributes": row}) for row in rows]


def letters_in(path: Path) -> list[dict[str, Any]]:
    """The dead letters in a file."""
    return [loads(line) for line in path.read_bytes().splitlines()]


def arrived(sandbox: Served, requests: int) -> bool:
    """Whether so many requests have arrived."""
    return sandbox.requests >= requests


def killed_and_gone_on_with(where: Path, sandbox: Served, path: Path, *more: str) -> Path:
    """Import a file in several processes, all but the last of which are killed."""
    letters = where / "letters.ndjson"
    options = ("--dead-letters", str(letters), "--state", str(where / "state"), *FAST, *more)
    for last in (False, False, False, True):
        run = Sending(where, sandbox.url, "import", str(path), *options)
        if last:
            ended = run.end()
            assert ended.status == 1, ended.stderr
            assert ended.balanced()
        else:
            wanted = sandbox.requests + 12
            eventually(partial(arrived, sandbox, wanted), "some requests")
            run.signal(signal.SIGKILL)
            run.end()
    return letters


@pytest.mark.parametrize("options", [(), ("--no-validate",)], ids=["refused here", "there"])
def test_letters_of_killed_processes_are_marked_too(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A letter says that it is superseded if, and only if, later attributes arrived."""
    rows = lines(1)
    with served("--latency", "40ms", *FAST) as sandbox:
        path = written(tmp_path / "in.ndjson", rows)
        letters = killed_and_gone_on_with(tmp_path, sandbox, path, "--in-flight", "4", *options)
    records = [loads(row)["attributes"] for row in rows]
    last = {row["external_id"]: n for n, row in enumerate(records, 1) if "email" not in row}
    found = {letter["source"]["line"]: letter["superseded"] for letter in letters_in(letters)}
    expected = {
        n: last.get(row["external_id"], 0) > n for n, row in enumerate(records, 1) if "email" in row
    }
    assert len(letters_in(letters)) == len(expected)
    assert found == expected
    assert set(expected.values()) == {True, False}


def test_a_replay_leaves_out_what_is_superseded(tmp_path: Path) -> None:
    """The values of the later record stay; told otherwise, the older ones come back."""
    rows = [
        {"external_id": "a", "plan": "old", "email": 5},
        {"external_id": "b", "plan": "old", "email": 5},
        {"external_id": "a", "plan": "new"},
    ]
    state = ("--state", tmp_path / "state", *FAST)
    with served() as sandbox:
        path = written(tmp_path / "in.ndjson", [dumps({"attributes": row}) for row in rows])
        first = sent(tmp_path, sandbox.url, "import", path, *state)
        assert [letter["superseded"] for letter in first.letters] == [True, False]
        mended = tmp_path / "mended.ndjson"
        text = first.letters_path.read_bytes()
        assert b'"superseded":true ,' in text  # a line is as long as it was
        mended.write_bytes(text.replace(b',"email":5', b""))

        second = sent(tmp_path, sandbox.url, "replay", mended, *state)
        assert (second.status, second.records) == (1, {"read": 2, "delivered": 1, "invalid": 1})
        assert [(one["code"], one["superseded"]) for one in second.letters] == [
            ("superseded", True)
        ]
        assert "ingest replay --even-if-older" in second.stderr
        assert plan_of(sandbox, "a") == "new"
        assert plan_of(sandbox, "b") == "old"
        # An import of the letters obeys as well, and a kind for bare lines changes nothing.
        again = sent(
            tmp_path, sandbox.url, "import", second.letters_path, "--kind", "attributes", *state
        )
        assert again.records == {"read": 1, "invalid": 1}

        third = sent(
            tmp_path, sandbox.url, "replay", second.letters_path, "--even-if-older", *state
        )
        assert (third.status, third.records) == (0, {"read": 1, "delivered": 1})
        assert plan_of(sandbox, "a") == "old"


def plan_of(sandbox: Served, user: str) -> str:
    """What the destination has of a user."""
    plan: str = sandbox.get(f"/sandbox/users/{user}")["attributes"]["plan"]
    return plan
