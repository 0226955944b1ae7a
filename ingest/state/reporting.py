"""The report of a run out of the journal, also of one that nobody ended or that goes on still.

Decides that a report which was written at the end of a run is the report; else it is put together
from what was written down. Reads only, and needs no lock.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ingest.balance import Balance
from ingest.state import store
from ingest.state.journal import CRASHED, RUNNING, Run
from ingest.state.recovery import logged_in, news_in
from ingest.state.settling import Settling

NOT_KEPT: Final = "unknown"
"""Stands for what the journal does not keep while a run goes on."""


def report_of(directory: Path, run: Run) -> dict[str, Any]:
    """Return the report of a run in a state directory; `state` may be "running" or "crashed".

    Raises `LocalFailure` for a journal that cannot be read.
    """
    if run.report is not None and run.state not in (RUNNING, CRASHED):
        return run.report
    balance, logged = Balance(), logged_in(directory)
    with store.reading(store.path_in(directory)) as db:
        if db is not None:
            kept, news = store.read(db, run.id), news_in(db, logged).get(run.id)
            if news is not None:
                kept.counts |= news.counts
                kept.reasons |= news.reasons
            Settling(balance, kept)
    return balance.report(
        run=run.name,
        state=run.state,
        halted_because=None,
        source=run.identity.paths,
        sink=run.identity.sink,
        endpoint=str(run.identity.shape.get("endpoint", NOT_KEPT)),
        limits=NOT_KEPT,
        seconds=run.seconds,
    )
