"""What was learned of an account is kept for a while, privately, and never stops a run."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ingest.state.learned import FORGET_AFTER, Learned, LearnedCaps

KNOWN = Learned(confirmed=75, refused=76, at=1_000.0)


def test_what_was_learned_is_recalled_in_the_next_run(tmp_path: Path) -> None:
    """Account by account, with the salt that the accounts' names were made with."""
    caps = LearnedCaps(tmp_path / "new" / "state")
    assert caps.recall("a", 1_001.0) is None
    caps.remember("a", KNOWN)
    caps.remember("b", Learned(50, None, 1_000.0))
    later = LearnedCaps(tmp_path / "new" / "state")
    assert later.salt == caps.salt
    assert later.recall("a", 1_001.0) == KNOWN
    assert later.recall("b", 1_001.0) == Learned(50, None, 1_000.0)
    assert later.recall("c", 1_001.0) is None


def test_an_account_is_asked_anew_after_a_week(tmp_path: Path) -> None:
    """Contracts change."""
    caps = LearnedCaps(tmp_path)
    caps.remember("a", KNOWN)
    assert caps.recall("a", KNOWN.at + FORGET_AFTER - 1) == KNOWN
    assert caps.recall("a", KNOWN.at + FORGET_AFTER) is None


def test_the_file_is_private_and_whole(tmp_path: Path) -> None:
    """It is put in place at once, for the user alone, and nothing is left beside it."""
    LearnedCaps(tmp_path / "state").remember("a", KNOWN)
    (path,) = (tmp_path / "state").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_salts_differ(tmp_path: Path) -> None:
    """The same account has another name in another state directory."""
    assert LearnedCaps(tmp_path / "a").salt != LearnedCaps(tmp_path / "b").salt


@pytest.mark.parametrize("data", [b"", b"nope", b"{}", b'{"salt":1,"accounts":{}}', b"\xff"])
def test_a_spoiled_file_is_forgotten(tmp_path: Path, data: bytes) -> None:
    """Losing it costs a few refused requests; the next thing learned mends it."""
    (tmp_path / "limits.json").write_bytes(data)
    caps = LearnedCaps(tmp_path)
    assert caps.recall("a", 0.0) is None
    caps.remember("a", KNOWN)
    assert LearnedCaps(tmp_path).recall("a", KNOWN.at) == KNOWN


def test_a_state_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    """It is known for this run."""
    (tmp_path / "state").write_bytes(b"a file")
    caps = LearnedCaps(tmp_path / "state")
    caps.remember("a", KNOWN)
    assert caps.recall("a", KNOWN.at) == KNOWN
