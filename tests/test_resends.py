"""Laws of resending: a user's records never overtake one another, and users are freed once."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.dispositions import Tries
from ingest.records import Batch, UserKey
from ingest.resends import Case, Resends
from tests.batches import batch_of, positions_of, rows_strategy, users_of
from tests.examples import examples

PIECE = Tries(sends=1, suspect=True)


def cut(batch: Batch, sizes: Sequence[int], ids: Sequence[int]) -> list[Batch]:
    """Cut a batch into pieces in source order; a negative size leaves records out (settled)."""
    at = {
        column.positions[index]: (slot, index)
        for slot, column in enumerate(batch.columns)
        for index in range(len(column))
    }
    order, pieces = [at[position] for position in sorted(at)], []
    for size, id in zip(sizes, ids, strict=True):
        rows, order = order[: abs(size)], order[abs(size) :]
        if rows and size > 0:
            pieces.append(batch.take(rows, id=id))
    return pieces


class Holding:
    """Checks what resends tell: who is out together, in which order, and who is freed."""

    def __init__(self) -> None:
        self.resends = Resends()
        self.out: list[Case] = []
        self.held: set[UserKey] = set()
        self.last: dict[UserKey, int] = {}

    def start(self, batch: Batch) -> None:
        """Send a fresh batch whose users nobody holds."""
        assert not batch.users() & self.held
        self.held |= batch.users()
        for user in batch.users():
            self.last.pop(user, None)
        self.went(self.resends.start(batch))

    def went(self, case: Case) -> None:
        """Note a request: no user of it is out, or has an unsettled record before it."""
        batch = case.batch
        for other in self.out:
            assert not other.batch.users() & batch.users()
        assert case.out
        first: dict[UserKey, int] = {}
        for column in batch.columns:
            for user, at in zip(column.keys, column.positions, strict=True):
                first[user] = min(at, first.get(user, at))
        for other in self.resends.unsettled():
            for column in other.batch.columns if other is not case else ():
                for user, at in zip(column.keys, column.positions, strict=True):
                    if user in first and other.batch.family == batch.family:
                        assert at > first[user]
        self.out.append(case)

    def freed(self, case: Case, users: Sequence[UserKey]) -> None:
        """Note users that were let go: held until now, and by no unsettled batch any more."""
        assert len(set(users)) == len(users)
        assert set(users) <= self.held & case.batch.users()
        self.held -= set(users)
        still = {user for other in self.resends.unsettled() for user in other.batch.users()}
        assert self.held == still

    def check_counts(self) -> None:
        """Bytes, records, cases and waiting are those of the unsettled cases."""
        resends, cases = self.resends, list(self.resends.unsettled())
        assert resends.records == sum(len(case.batch) for case in cases)
        assert resends.nbytes == sum(case.batch.nbytes for case in cases)
        assert len(resends) == len(cases)
        assert resends.waiting == len(cases) - len(self.out)
        assert {id(case) for case in self.out} == {id(case) for case in cases if case.out}


steps = st.lists(
    st.tuples(
        st.sampled_from(["again", "split", "split", "settle", "take", "take"]),
        st.integers(0, 9),
        st.lists(st.integers(-3, 8), min_size=1, max_size=4),
        st.floats(0, 3),
    ),
    max_size=60,
)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(rows_strategy(max_size=14, users=3), min_size=1, max_size=4), steps)
def test_users_keep_their_order_and_are_freed_once(
    batches: list[list[tuple[int, UserKey]]],
    done: list[tuple[str, int, list[int], float]],
) -> None:
    """Whatever is answered in whatever order, law 4 holds and nothing is left over."""
    holding, now = Holding(), 0.0
    resends = holding.resends
    piece_ids = iter(range(1_000, 1_000_000))
    for family, rows in enumerate(batches):
        own = [(slot, f"{user} of {family}") for slot, user in rows]
        holding.start(batch_of(own, id=family, first=family * 100))
    for what, which, sizes, passed in [*done, *[("settle", 0, [1], 3.0)] * 200]:
        now += passed
        due = resends.next_due()
        case = resends.take(now) if what == "take" or not holding.out else None
        if case is not None:
            assert due is not None
            assert due <= now
            holding.went(case)
        elif what == "take" or not holding.out:
            assert due is None or due > now
        elif holding.out:
            case = holding.out.pop(which % len(holding.out))
            if what == "again":
                resends.again(case, PIECE, now + passed)
            elif what == "settle":
                holding.freed(case, list(resends.settle(case)))
            else:
                pieces = cut(case.batch, sizes, [next(piece_ids) for _ in sizes])
                made = [(piece, PIECE) for piece in pieces]
                holding.freed(case, list(resends.split(case, made, now)))
        holding.check_counts()
    assert len(resends) == resends.waiting == resends.records == resends.nbytes == 0
    assert not holding.held
    assert resends.next_due() is None


def test_pieces_that_share_no_user_go_side_by_side() -> None:
    """The elder holds its own users only; the longest due goes first."""
    resends = Resends()
    case = resends.start(batch_of(users_of("abac")))
    freed = resends.split(
        case, [(piece, PIECE) for piece in cut(case.batch, [1, 1, 1, 1], [2, 3, 4, 5])], 1.0
    )
    assert not freed
    assert resends.take(0.5) is None
    out = [resends.take(1.0) for _ in range(4)]
    assert [positions_of(one.batch) if one else None for one in out] == [[0], [1], [3], None]
    assert out[0] is not None
    assert list(resends.settle(out[0])) == []
    third = resends.take(1.0)
    assert third is not None
    assert positions_of(third.batch) == [2]


def test_the_longest_due_goes_first() -> None:
    """Between families it is time that decides."""
    resends = Resends()
    cases = [resends.start(batch_of(users_of([name]), id=i)) for i, name in enumerate("abc")]
    for case, due in zip(cases, (3.0, 1.0, 2.0), strict=True):
        resends.again(case, PIECE, due)
    assert resends.next_due() == 1.0
    assert [resends.take(5.0) for _ in range(4)] == [cases[1], cases[2], cases[0], None]


def test_bisecting_is_counted_per_family_until_it_is_settled() -> None:
    """Two requests a bisect, one for another try of a suspect that failed, none in an outage."""
    resends = Resends()
    case = resends.start(batch_of(users_of("ab")))
    other = resends.start(batch_of(users_of("c"), id=9, first=9))
    assert resends.bisecting_since(1) is None
    resends.again(case, Tries(3, 3, 3), 1.0)
    assert resends.bisected(1) == 0
    resends.note_bisecting(1, 5.0)
    resends.note_bisecting(1, 6.0)
    assert (resends.bisected(1), resends.bisecting_since(1)) == (4, 5.0)
    assert resends.take(6.0) is case
    resends.split(case, [(piece, PIECE) for piece in cut(case.batch, [1, 1], [2, 3])], 7.0)
    suspect = resends.take(7.0)
    assert suspect is not None
    resends.again(suspect, Tries(2, 1, 0, suspect=True), 7.0)  # it failed in an outage
    assert resends.take(7.0) is not None
    assert resends.take(7.0) is suspect
    resends.again(suspect, Tries(3, 2, 1, suspect=True), 7.0)
    assert (resends.bisected(1), resends.bisecting_since(1)) == (5, 5.0)
    assert resends.bisected(9) == 0
    for left in [one for one in resends.unsettled() if one is not other]:
        resends.settle(left)
    assert (resends.bisected(1), resends.bisecting_since(1)) == (0, None)


def test_a_split_into_nothing_ends_the_family() -> None:
    """All users are freed, and what its bisecting had cost is forgotten."""
    resends = Resends()
    case = resends.start(batch_of(users_of("ab")))
    resends.note_bisecting(1, 0.0)
    assert resends.split(case, (), 0.0) == {"a", "b"}
    assert (len(resends), resends.bisected(1)) == (0, 0)
