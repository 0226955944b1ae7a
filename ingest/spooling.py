"""A spool with its journal, opened for one sink: what a library and an intake have in common.

Decides when lines that an earlier process left may be sent on: to the same sink, under the same
rules. Everything about how a spool keeps lines is in `ingest.state`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from ingest.errors import ConfigError
from ingest.pipeline import Driver
from ingest.segments import SpoolRules
from ingest.sinks.base import HttpSink, Sink
from ingest.sources.base import Start
from ingest.sources.spooled import SpoolSource
from ingest.state.identity import InputFile, RunIdentity
from ingest.state.journal import Journal, Run
from ingest.state.recording import Recording
from ingest.state.spool import Spool

FOLDER: Final = "spool"
"""Name of the spool inside of a state directory."""


class Kept(msgspec.Struct, frozen=True):
    """A spool and the journal of the run that delivers what is in it."""

    spool: Spool
    journal: Journal
    run: Run | None
    identity: RunIdentity


@asynccontextmanager
async def kept(
    directory: Path, rules: SpoolRules, sink: Sink, shape: Mapping[str, Any], *, host: str = ""
) -> AsyncIterator[Kept]:
    """Open the spool of a directory, which this process alone uses until it is closed.

    `shape` is what shapes the records that are sent; `host` is to be the same at the next start
    where that of the sink will not be. Raises `LocalFailure`, and `ConfigError` if
    lines were left there for another sink or shape.
    """
    with Journal(directory) as journal:
        spool = Spool(directory / FOLDER, rules)
        try:
            mark = _mark(directory, spool)
            identity = RunIdentity((mark,), dict(shape), sink.name, host or sink.host)
            run = journal.find(identity)
            if run is None and spool.used:
                _mind_what_was_left(journal, mark, directory)
            yield Kept(spool, journal, run, identity)
        finally:
            await spool.aclose()


def _mark(directory: Path, spool: Spool) -> InputFile:
    """Return what tells a spool from any other, also from one that was made in its place."""
    return InputFile(str(directory.resolve()), 0, 0, spool.id, "")


def _mind_what_was_left(journal: Journal, mark: InputFile, directory: Path) -> None:
    for other in journal.runs():
        if mark in other.identity.inputs and other.identity.sink:
            raise ConfigError(
                f"the spool in {directory} holds records for {other.identity.sink} at "
                f"{other.identity.host}, or under other rules: start once as before, so that they "
                "are sent, or use another directory"
            )


def recorded(found: Kept, pipeline: Driver, sink: Sink, source: SpoolSource) -> Recording:
    """Let a pipeline go on where the journal ends; the recording is to be closed by the caller."""
    letters, journal, run = pipeline.ledger.dead_letters, found.journal, found.run
    hash_of = sink.credential_hash if isinstance(sink, HttpSink) else lambda salt: ""
    if run is None:
        run = journal.begin(
            found.identity, name=found.spool.id, hash_of=hash_of, letters=letters, now=time.time()
        )
    else:
        journal.reopen(run)
    recording = journal.record(run, pipeline.balance, letters, hash_of=hash_of)
    source.keep(recording)
    pipeline.keep(recording)
    starts = {
        part: Start(place.offset, place.line, place.ordinal)
        for part, place in recording.settling.places.items()
    }
    source.start_at(starts)
    pipeline.begin_at({part: start.ordinal for part, start in starts.items()})
    return recording
