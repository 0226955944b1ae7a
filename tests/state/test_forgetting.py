"""A part that is deleted leaves nothing in the journal but its counts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ingest.balance import Balance
from ingest.records import position
from ingest.state import store
from ingest.state.groups import Kept, Place
from ingest.state.journal import Journal
from ingest.state.settling import Settling
from tests.state.journals import begun, letters_in


@pytest.mark.asyncio
async def test_a_part_that_is_gone_has_no_rows(tmp_path: Path) -> None:
    """Its ranges, its place and what was taken of it go; other parts and the counts stay."""
    with Journal(tmp_path) as journal:
        run, balance = begun(journal, tmp_path), Balance()
        async with journal.record(run, balance, letters_in(tmp_path)) as recording:
            for part in (1, 2):
                balance.read("event", 3)
                recording.begins(part, Place(0, 1, 0))
                recording.take_in(part, 3)
                recording.begins(part, Place(3, 4, 30))
                recording.settle([position(part, 0), position(part, 1)])
            await recording.durable()
            recording.settle([position(1, 2)])
            await recording.durable()
            assert recording.settling.places[1] == Place(3, 4, 30)
            await recording.durable(recording.forget(1))
            kept = journal.kept(run)
            assert list(kept.settled) == [(position(2, 0), position(2, 2))]
            assert (kept.taken, kept.places) == ({2: 3}, {2: Place(0, 1, 0)})
            assert kept.counts["kind", "event", "read"] == 6
        with sqlite3.connect(store.path_in(tmp_path)) as db:
            for table in store.PART_TABLES:
                assert db.execute(f"SELECT DISTINCT part FROM {table}").fetchall() == [(2,)]
        db.close()


def test_what_is_in_doubt_in_a_part_goes_with_it() -> None:
    """A note of a dead process about records that have their end since is of no use."""
    kept = Kept(notes={})
    kept.doubtful.add(position(1, 0), position(1, 5))
    kept.doubtful.add(position(2, 0), position(2, 5))
    settling = Settling(Balance(), kept)
    settling.take_in(1, 5)
    settling.begins(1, Place(5, 6, 50))
    settling.forget(1)
    group = settling.cut()
    assert list(settling.doubtful) == [(position(2, 0), position(2, 5))]
    assert (group.forgotten, group.taken, group.places) == ([1], {}, {})
    assert group
    assert not settling.cut()
