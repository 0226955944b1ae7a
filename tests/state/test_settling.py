"""What is written down is consistent, whatever happens in between and wherever the process dies."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.balance import MOST_REASONS, Balance
from ingest.ranges import Ranges
from ingest.records import position
from ingest.state import store
from ingest.state.groups import Place
from ingest.state.settling import MOST_PLACES, Settling
from tests.examples import examples

RUN = 1
BIG = 40_000
"""A part whose positions do not fit into the signed integers of SQLite."""

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            (*["read"] * 3, *["note"] * 3, *["answer"] * 3, "retry", "mind", *["commit"] * 2, "die")
        ),
        st.integers(0, 1 << 16),
    ),
    max_size=60,
)


class Death(Exception):
    """The process ends here."""


class Dying:
    """A connection on which the process dies: before or after its statement number `at`."""

    def __init__(self, db: sqlite3.Connection, at: int) -> None:
        self._db = db
        self._at = at
        self.committed = False

    @property
    def in_transaction(self) -> bool:
        """As the connection says; nothing is rolled back by a process that is dead."""
        return False

    def execute(self, statement: str, *given: Any) -> Any:
        """Run a statement, or die."""
        return self._run(statement, lambda: self._db.execute(statement, *given))

    def executemany(self, statement: str, rows: list[Any]) -> Any:
        """Run a statement for each row, or die."""
        return self._run(statement, lambda: self._db.executemany(statement, rows))

    def _run(self, statement: str, work: Any) -> Any:
        self._at -= 1
        if self._at == 0:
            raise Death
        done = work()
        self.committed |= statement == "COMMIT"
        self._at -= 1
        if self._at == 0:
            raise Death
        return done


class Truth(msgspec.Struct):
    """What a commit has to hold, as plain sets and counts."""

    taken: dict[int, int] = msgspec.field(default_factory=dict)
    settled: set[int] = msgspec.field(default_factory=set)
    noted: dict[int, set[int]] = msgspec.field(default_factory=dict)
    doubtful: set[int] = msgspec.field(default_factory=set)
    columns: Counter[str] = msgspec.field(default_factory=Counter)
    doubled: int = 0
    letters: int = 0

    def copy(self) -> Truth:
        """A truth of its own."""
        noted = {batch: set(noted) for batch, noted in self.noted.items()}
        return Truth(
            dict(self.taken),
            set(self.settled),
            noted,
            set(self.doubtful),
            Counter(self.columns),
            self.doubled,
            self.letters,
        )

    def after_death(self) -> Truth:
        """What a new process finds: everything that was in flight is in doubt."""
        found = self.copy()
        found.doubtful |= set().union(*found.noted.values())
        found.doubtful -= found.settled
        found.noted = {}
        return found


class World:
    """A run that reads, sends and settles at random, beside the truth about it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.truth = Truth()
        self.written = Truth()
        self.batches = 0
        self.boot()

    def boot(self) -> None:
        """Begin as a new process does."""
        self.db = store.connect(self.path, power_safe=False)
        self.db.execute(
            "INSERT OR IGNORE INTO runs (id, digest, name, state, identity, frozen, command, salt,"
            " credential, letters_path, started) VALUES (1,'','','','','','','','','',0)"
        )
        self.written = self.written.after_death()
        self.truth = self.written.copy()
        self.balance = Balance()
        self.settling = Settling(
            self.balance,
            store.read(self.db, RUN),
            letters_length=lambda: self.truth.letters,
        )
        self.batches = 0  # a new process numbers its batches from 0 again
        self.check(self.settling)

    def check(self, seen: Settling) -> None:
        """What was read back is the truth as it was written, and adds up."""
        truth = self.truth
        assert {at for span in seen.settled for at in range(*span)} == truth.settled
        assert {at for span in seen.doubtful for at in range(*span)} == truth.doubtful
        assert seen.taken == truth.taken
        assert self.balance.count("read") == sum(truth.taken.values())
        columns = self.balance.columns()
        assert {name: columns[name] for name in truth.columns} == truth.columns
        settled = columns["read"] - columns["pending"]
        assert settled == len(truth.settled)
        assert self.balance.maybe_duplicated == truth.doubled
        reasons = {reason.column: reason.count for reason in self.balance.reasons()}
        assert reasons.get("invalid", 0) == truth.columns["invalid"]
        assert truth.letters == columns["invalid"] + columns["rejected"]
        for part, place in seen.places.items():
            assert set(range(position(part, 0), position(part, place.ordinal))) <= truth.settled

    def open_positions(self) -> list[int]:
        """Records that were read, and are neither settled nor in flight nor in doubt."""
        truth = self.truth
        busy = truth.settled.union(truth.doubtful, *truth.noted.values())
        return [
            at
            for part, stop in truth.taken.items()
            for at in range(position(part, 0), position(part, stop))
            if at not in busy
        ]

    def read(self, dice: int) -> None:
        """Read some records of a part; every fifth of them is invalid."""
        truth, part = self.truth, (0, 3, BIG)[dice % 3]
        start = truth.taken.get(part, 0)
        stop = start + 1 + dice // 3 % 12
        self.settling.begins(part, Place(start, start + 1, 10 * start))
        bad = [position(part, at) for at in range(start, stop) if at % 5 == 4]
        self.balance.read("event", stop - start)
        self.balance.settle("event", "invalid", len(bad))
        for at in bad:
            self.balance.explain("bad", "", "invalid", "it is bad", f"x:{at}")
        truth.letters += len(bad)
        truth.columns["invalid"] += len(bad)
        truth.settled |= set(bad)
        truth.taken[part] = stop
        self.settling.take_in(part, stop, bad)

    def note(self, dice: int) -> None:
        """Note a batch of records from here and there."""
        free = self.open_positions()
        picked = free[dice % 3 :: 1 + dice // 3 % 3][: 1 + dice % 8]
        if picked:
            number = self.batches = self.batches + 1
            self.settling.note(number, [picked[::2], picked[1::2]])
            self.truth.noted[number] = set(picked)

    def answer(self, dice: int) -> None:
        """A batch is answered: all of it is delivered, or a part of it is rejected."""
        noted = sorted(self.truth.noted)
        if not noted:
            return
        number = noted[dice % len(noted)]
        records = sorted(self.truth.noted.pop(number))
        bad = records[:: 3 + dice % 4] if dice % 2 else []
        self.balance.sent(len(records), again=False)
        self.balance.answered(201, throttled=False)
        for column, count in (("rejected", len(bad)), ("delivered", len(records) - len(bad))):
            self.balance.settle("event", column, count)
            self.truth.columns[column] += count
        self.truth.letters += len(bad)
        self.truth.settled |= set(records)
        self.settling.conclude(number, records if bad else None)

    def retry(self, dice: int) -> None:
        """A batch is answered in a way that settles nothing, or only some of it."""
        noted = sorted(self.truth.noted)
        if noted:
            number = noted[dice % len(noted)]
            done = sorted(self.truth.noted.pop(number))[: dice % 3]
            self.balance.settle("event", "delivered", len(done))
            self.truth.columns["delivered"] += len(done)
            self.truth.settled |= set(done)
            self.settling.conclude(number, done)

    def mind(self, dice: int) -> None:
        """A record in doubt is read again: counted as perhaps doubled, or held."""
        doubtful = sorted(self.truth.doubtful)
        if not doubtful:
            return
        at = doubtful[dice % len(doubtful)]
        self.truth.doubtful.remove(at)
        if dice % 2:
            self.balance.maybe_duplicated += 1
            self.truth.doubled += 1
            self.settling.mind(at)
        else:
            self.balance.settle("event", "held")
            self.truth.columns["held"] += 1
            self.truth.settled.add(at)
            self.settling.settle([at])

    def commit(self, dice: int) -> None:
        """Write down what is new."""
        group = self.settling.cut()
        with store.transaction(self.db):
            store.write(self.db, RUN, group, 1.0)
        self.written = self.truth.copy()

    def die(self, dice: int) -> None:
        """Die in a commit, at any of its statements, and begin again."""
        group, dying = self.settling.cut(), Dying(self.db, 1 + dice % 32)
        try:
            with store.transaction(dying):  # type: ignore[arg-type]  # as far as it is used
                store.write(dying, RUN, group, 1.0)  # type: ignore[arg-type]  # the same
        except Death:
            pass
        if dying.committed:
            self.written = self.truth.copy()
        self.db.close()
        self.boot()


@contextmanager
def world() -> Iterator[World]:
    """A world on a disk of its own."""
    with tempfile.TemporaryDirectory() as directory:
        made = World(Path(directory) / "journal")
        try:
            yield made
        finally:
            made.db.close()


@settings(deadline=None, max_examples=examples(60))
@given(STEPS)
def test_whatever_is_read_back_was_true_at_once(steps: list[tuple[str, int]]) -> None:
    """Positions, counts and letters of the last commit come back together, and nothing else."""
    with world() as at:
        for what, dice in steps:
            getattr(at, what)(dice)
        at.die(0)


def test_a_note_that_was_not_written_is_never_written() -> None:
    """A batch that was noted and answered between two commits leaves no row to be doubted."""
    settling = Settling(Balance())
    settling.note(1, [[1, 2], [3]])
    assert settling.in_flight == 1
    settling.conclude(1)
    group = settling.cut()
    assert (group.notes, group.gone, group.settled) == ([], [], [(1, 4)])


def notes_of(rows: list[tuple[int, bytes]]) -> dict[int, list[tuple[int, int]]]:
    """Return rows of notes as ranges."""
    return {row: list(Ranges.from_bytes(data)) for row, data in rows}


def test_batches_of_a_group_share_a_row() -> None:
    """It goes with the last of them, and is written again where one goes that has no end."""
    settling = Settling(Balance())
    for batch in range(1, 5):
        settling.note(batch, [[10 * batch, 10 * batch + 1]])
    assert notes_of(settling.cut().notes) == {1: [(10, 12), (20, 22), (30, 32), (40, 42)]}
    settling.conclude(1)
    assert settling.cut().notes == []  # that it is settled says enough
    settling.conclude(2, [20])
    settling.note(5, [[50]])
    group = settling.cut()
    assert (notes_of(group.notes), group.gone) == ({1: [(30, 32), (40, 42)], 2: [(50, 51)]}, [])
    settling.conclude(3, ())
    settling.conclude(4)
    group = settling.cut()
    assert (notes_of(group.notes), group.gone) == ({}, [1])


def test_what_is_forgotten_is_in_no_row() -> None:
    """That a record of a part that is gone was settled is not told any more."""
    settling = Settling(Balance())
    settling.note(1, [[1]])
    settling.note(2, [[position(3, 1)]])
    settling.cut()
    settling.conclude(1)
    settling.forget(0)
    group = settling.cut()
    assert notes_of(group.notes) == {1: [(position(3, 1), position(3, 2))]}


def test_a_cut_without_news_is_empty() -> None:
    """What was written once is not written again, and a run that stands still writes nothing."""
    balance = Balance()
    settling = Settling(balance)
    balance.read("event", 3)
    settling.take_in(0, 3, [1])
    assert settling.cut()
    assert not settling.cut()


def test_a_cut_holds_the_counts_and_reasons_that_changed() -> None:
    """One that fell to nothing is written as well: what is given back was not read."""
    balance = Balance()
    settling = Settling(balance)
    balance.read("event", 3)
    balance.read("purchase", 2)
    balance.settle("event", "delivered", 3)
    balance.answered(201, throttled=False)
    balance.explain("a", "", "warned", "why", "x:1")
    group = settling.cut()
    assert group.counts == {
        ("kind", "event", "read"): 3,
        ("kind", "event", "delivered"): 3,
        ("kind", "purchase", "read"): 2,
        ("status", "201", ""): 1,
    }
    assert group.reasons == {("a", "", "warned"): ("why", 1, "x:1")}
    balance.give_back()
    balance.queued += 1
    balance.explain("b", "", "warned", "why", "x:2")
    group = settling.cut()
    assert group.counts == {("kind", "purchase", "read"): 0, ("of_which", "queued", ""): 1}
    assert list(group.reasons) == [("b", "", "warned")]


def test_what_was_written_before_is_not_written_again() -> None:
    """A run that goes on has the counts and reasons of the one before, and writes what is new."""
    with world() as at:
        at.balance.read("event", 3)
        at.balance.explain("a", "", "warned", "why", "x:1")
        at.balance.explain("b", "", "warned", "why", "x:2")
        at.commit(0)
        balance = Balance()
        settling = Settling(balance, store.read(at.db, RUN))
        balance.explain("b", "", "warned", "why", "x:3")
        group = settling.cut()
        assert (group.counts, list(group.reasons.values())) == ({}, [("why", 2, "x:2")])


def test_the_place_to_read_on_follows_the_mark() -> None:
    """It is the last beginning of a block before which every record is settled, part by part."""
    settling = Settling(Balance())
    places = [Place(0, 1, 0), Place(10, 12, 500), Place(20, 23, 900)]
    for place in places:
        settling.begins(0, place)
    settling.settle(range(0, 15))
    settling.settle(range(16, 30))
    assert settling.cut().places == {0: places[1]}
    settling.settle([15])
    assert settling.cut().places == {0: places[2]}
    assert settling.places == {0: places[2]}
    assert not settling._ahead  # a part that is not read costs a cut nothing


def test_places_ahead_take_bounded_memory() -> None:
    """Behind a record that takes hours, places thin out; the last that holds is still found."""
    settling = Settling(Balance())
    for number in range(4 * MOST_PLACES):
        settling.begins(0, Place(number, number + 1, number))
    assert len(settling._ahead[0]) <= MOST_PLACES
    settling.settle(range(2 * MOST_PLACES))
    place = settling.cut().places[0]
    assert 2 * MOST_PLACES - 16 <= place.ordinal <= 2 * MOST_PLACES


def test_what_was_counted_as_read_is_not_new() -> None:
    """A record that is read again is told from one that never was."""
    settling = Settling(Balance())
    settling.take_in(2, 5)
    settling.take_in(2, 3)
    assert [settling.is_new(position(2, at)) for at in (0, 4, 5)] == [False, False, True]
    assert settling.is_new(position(3, 0))


def test_the_whole_balance_goes_on() -> None:
    """Every count and reason comes back, also those beyond the thousand kept."""
    with world() as at:
        before = at.balance
        before.read("event", 9)
        before.settle("event", "delivered", 4)
        before.queued, before.warned = 3, 2
        before.sent(4, again=True)
        before.answered(429, throttled=True)
        before.answered(None, throttled=False)
        for number in range(MOST_REASONS + 5):
            before.explain(f"code-{number}", "f", "invalid", "why", "x:1")
        at.settling.settle(range(4))
        at.commit(0)
        after = Balance()
        Settling(after, store.read(at.db, RUN))
        about: dict[str, Any] = {
            "run": "r",
            "state": "halted",
            "halted_because": None,
            "source": [],
            "sink": "s",
            "endpoint": "e",
            "limits": "l",
            "seconds": 0.0,
        }
        mine, theirs = before.report(**about), after.report(**about)
        key = "reasons"
        assert sorted(map(str, mine.pop(key))) == sorted(map(str, theirs.pop(key)))
        assert mine == theirs


@pytest.mark.parametrize("ordinals", [[0], [7, 3, 5]])
def test_notes_keep_their_positions(ordinals: list[int]) -> None:
    """In any order, and of parts beyond the signed integers of a database."""
    settling = Settling(Balance())
    settling.note(1, [[position(BIG, at) for at in ordinals]])
    ((number, data),) = settling.cut().notes
    assert number == 1
    assert Ranges.from_bytes(data) == Ranges(
        (position(BIG, at), position(BIG, at) + 1) for at in ordinals
    )
