"""Groups put together come to what they come to one after the other."""

from __future__ import annotations

import sqlite3

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.codec import packed, unpacked
from ingest.ranges import Range, Ranges
from ingest.records import position
from ingest.state import store
from ingest.state.groups import Gathered, Group, Kept, Place
from tests.examples import examples

PARTS = st.integers(0, 3)
POSITIONS = st.builds(position, PARTS, st.integers(0, 20))


@st.composite
def changes(draw: st.DrawFn, parts: set[int]) -> list[tuple[int, int | None]]:
    """Ranges that came, grew or went, in parts that are there."""
    found = {}
    for start in draw(st.sets(POSITIONS, max_size=4)):
        if start >> 48 not in parts:
            size = draw(st.integers(0, 5))
            found[start] = start + size if size else None
    return sorted(found.items())


@st.composite
def groups(draw: st.DrawFn) -> list[Group]:
    """What a run may have told; a part that was forgotten is there no more."""
    found: list[Group] = []
    gone: set[int] = set()
    for number in range(draw(st.integers(1, 5))):
        forgotten = [part for part in draw(st.sets(PARTS, max_size=1)) if part not in gone]
        gone |= set(forgotten)
        rows = draw(st.sets(st.integers(0, 4), max_size=3))
        written = draw(st.sets(st.integers(0, 4), max_size=3)) - rows
        there = [part for part in range(4) if part not in gone]
        found.append(
            Group(
                settled=draw(changes(gone)),
                doubtful=draw(changes(gone)),
                notes=[(row, Ranges([(number, number + 2)]).to_bytes()) for row in sorted(written)],
                gone=sorted(rows),
                taken=dict.fromkeys(there[::2], number),
                places={part: Place(number, number, number) for part in there[1::2]},
                counts={("kind", "event", name): number for name in draw(st.sets(NAMES))},
                reasons={("c", name, "d"): ("why", number, "x") for name in draw(st.sets(NAMES))},
                letters_length=number,
                unsure=draw(st.integers(0, 9)),
                forgotten=forgotten,
            )
        )
    return found


NAMES = st.sampled_from(("read", "delivered", "held"))


def plain(kept: Kept) -> tuple[object, ...]:
    """What was kept, to be compared."""
    notes: dict[int, list[Range]] = {row: list(ranges) for row, ranges in kept.notes.items()}
    return (
        *(kept.settled, kept.doubtful, notes, kept.taken, kept.places),
        *(kept.counts, kept.reasons, kept.letters_length, kept.unsure),
    )


def written(found: list[Group]) -> tuple[object, ...]:
    """What a database holds that groups were written to."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    for table in store._TABLES:
        db.execute(table)
    db.execute(
        "INSERT INTO runs (id, digest, name, state, identity, frozen, command, salt, credential,"
        " letters_path, started) VALUES (1,'','','','','','','','','',0)"
    )
    for group in found:
        store.write(db, 1, group, 1.0)
    rows = db.execute("SELECT * FROM ranges ORDER BY 1, 2, 3, 4").fetchall()
    kept = plain(store.read(db, 1))
    db.close()
    return (rows, *kept)


@settings(deadline=None, max_examples=examples(150))
@given(groups())
def test_together_they_come_to_the_same_as_one_by_one(found: list[Group]) -> None:
    """In the database, row for row."""
    assert written([Gathered(found).group()]) == written(found)


@given(groups())
def test_a_group_comes_back_as_it_was(found: list[Group]) -> None:
    """Out of the bytes of the log."""
    for group in found:
        assert unpacked(packed(group), Group) == group


def test_what_delivers_is_known() -> None:
    """By its counts."""
    nothing = Gathered().group()
    assert not nothing
    assert not nothing.delivers
    told = Gathered([Group([], [], [], [], {}, {}, {("kind", "event", "delivered"): 1}, {}, 0)])
    assert told.group().delivers
    assert told.group()
