"""Runs for the tests of the journal: an identity, a run that begins, an account's hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ingest.state.dead_letters import DeadLetter, DeadLetterFile
from ingest.state.identity import InputFile, RunIdentity
from ingest.state.journal import Journal, Run

NOW: Final = 1_790_000_000.0
"""A moment, in epoch seconds."""

NAME: Final = "20260101T000000Z-abcd"


def identity(name: str = "users.ndjson", *, size: int = 10) -> RunIdentity:
    """A run over one file."""
    return RunIdentity((InputFile(name, size, 1, "h", "t"),), {"kind": None}, "braze", "a.example")


def hash_with(key: str) -> Callable[[bytes], str]:
    """What a sink does with its credential."""
    return lambda salt: hashlib.sha256(salt + key.encode()).hexdigest()


def letters_in(directory: Path, name: str = NAME) -> DeadLetterFile:
    """The dead letters of a run."""
    return DeadLetterFile(directory / "letters.ndjson", run=name)


def letter() -> DeadLetter:
    """A letter like many."""
    return DeadLetter("event", "rejected", "c", "", "why", {"name": "x", "line": 1}, b"{}")


def begun(journal: Journal, directory: Path, who: RunIdentity | None = None) -> Run:
    """A run that begins."""
    return journal.begin(
        who or identity(),
        name=NAME,
        hash_of=hash_with("key"),
        letters=letters_in(directory),
        frozen={"types": ["text"]},
        command="ingest import users.ndjson",
        now=NOW,
    )
