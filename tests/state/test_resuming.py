"""What was read before is counted once, and goes on only as far as it is not settled."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ingest.balance import Balance
from ingest.intake import Intake, IntakeRules
from ingest.ranges import Ranges, runs
from ingest.records import KINDS, Chunk
from ingest.state.groups import Kept
from ingest.state.resuming import sift
from ingest.state.settling import Settling
from ingest.taken import Taken

LINES = {
    "good": b'{"event":{"external_id":"u","name":"n","time":"2026-01-01T00:00:00Z"}}',
    "user": b'{"attributes":{"external_id":"u","plan":"pro"}}',
    "warned": b'{"attributes":{"external_id":"u","plan":"%s"}}' % (b"x" * 300),
    "bad": b'{"event":{"external_id":"u"}}',
    "blank": b"",
}
KINDS_OF_LINES = st.lists(st.sampled_from(sorted(LINES)), max_size=20)


def taken_of(lines: list[bytes]) -> Taken:
    """What the intake makes of the lines of part 0."""
    found = list(Intake(IntakeRules()).take(0, lines, 1))
    return found[0] if found else Taken((), {})


def positions_of(taken: Taken) -> list[int]:
    """Positions of the valid records."""
    return [at for chunk in taken.chunks for at in chunk.positions]


@given(KINDS_OF_LINES, st.integers(0, 20), st.sets(st.integers(0, 19)), st.sets(st.integers(0, 19)))
def test_what_is_read_twice_is_counted_once(
    names: list[str], mark: int, done: set[int], doubtful: set[int]
) -> None:
    """Up to the mark by the first process, from there on by this one; only what is open goes on."""
    lines = [LINES[name] for name in names]
    whole = taken_of(lines)
    rows = sorted([*positions_of(whole), *(refusal.position for refusal in whole.refusals)])
    mark = min(mark, len(rows))
    refused = {refusal.position for refusal in whole.refusals}
    settled = {at for at in done if at < mark} | {at for at in refused if at < mark}
    in_doubt = {at for at in doubtful if at < mark} - settled
    settling = Settling(
        Balance(),
        Kept(Ranges(runs(settled)), Ranges(runs(in_doubt)), taken={0: mark} if mark else {}),
    )
    asked = []

    def again(chunk: Chunk, row: int) -> bool:
        at = chunk.positions[row]
        asked.append(at)
        settling.mind(at)
        return at % 2 == 0

    found = sift(whole, settling, KINDS, again)
    kept = positions_of(found)
    assert asked == sorted(in_doubt)
    assert kept == [
        at
        for at in positions_of(whole)
        if at not in settled and (at not in in_doubt or at % 2 == 0)
    ]
    assert [each.position for each in found.refusals] == sorted(at for at in refused if at >= mark)
    assert sum(found.read.values()) == len(rows) - mark
    # The lines before the mark hold what the first process counted.
    held = [row for row, name in enumerate(names) if name != "blank"]
    first = taken_of(lines[: held[mark - 1] + 1] if mark else [])
    assert Counter(first.read) + Counter(found.read) == Counter(whole.read)
    assert first.warned + found.warned == whole.warned
    for chunk in found.chunks:
        columns = (chunk.fragments, chunk.slots, chunk.keys, chunk.positions, chunk.lines)
        assert {len(column) for column in columns} == {len(chunk)}
        for fragment, line in zip(chunk.fragments, chunk.lines, strict=True):
            assert bytes(fragment) in lines[line - 1]


def test_what_is_new_is_not_looked_at_row_by_row() -> None:
    """Beyond the mark lines come back as they are, and blank ones at any place."""
    whole = taken_of([LINES["good"]])
    settling = Settling(Balance())
    assert sift(whole, settling, KINDS, lambda chunk, row: False) is whole
    blank = taken_of([b""])
    assert sift(blank, settling, KINDS, lambda chunk, row: False) is blank


def test_what_is_refused_only_on_the_second_reading_has_its_end() -> None:
    """Read before and not settled, it is invalid now: not read again, and not lost either."""
    whole = taken_of([LINES["bad"], LINES["good"]])
    settling = Settling(Balance(), Kept(taken={0: 2}))
    found = sift(whole, settling, KINDS, lambda chunk, row: True)
    assert found.read == {}
    assert [refusal.position for refusal in found.refusals] == [0]
    assert positions_of(found) == [1]
    settling.settle([0])
    assert sift(whole, settling, KINDS, lambda chunk, row: True).refusals == []
