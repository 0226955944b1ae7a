"""A limit of records: what is read before it and after it is the whole, each record once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from ingest.balance import Balance
from ingest.intake import Intake, IntakeRules
from ingest.quota import Quota, cut
from ingest.reading import judged, rationed
from ingest.records import KINDS, position
from ingest.sources.base import Block, Unfit
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
    "three": b'{"attributes":[{"external_id":"a","n":1},{"n":2},{"external_id":"c","n":3}]}',
}

BLOCKS = st.one_of(
    st.lists(st.sampled_from(sorted(LINES)), max_size=9),
    st.just("oversize"),
    st.sampled_from([["good", "unfit", "user"], ["unfit", "unfit", "good"], ["unfit"]]),
)
"""The lines of a block by their names, or one line that is too long to be held."""


def block(part: int, names: list[str] | str) -> Block:
    """A block from line 1 on; `unfit` is a row between the lines."""
    if isinstance(names, str):
        return Block(part, b"", 1, 5, ((1, 5_000_000),))
    numbers = [at for at, name in enumerate(names, 1) if name != "unfit"]
    unfit = [
        Unfit(at, "too-few-cells", "", "why", b"raw")
        for at, name in enumerate(names, 1)
        if name == "unfit"
    ]
    data = b"\n".join(LINES[name] for name in names if name != "unfit")
    data = data + b"\n" if numbers else data
    return Block(part, data, 1, len(data), (), numbers, tuple(unfit))


def positions(all_taken: Iterable[Taken]) -> list[int]:
    """Positions of all records, refused ones too."""
    return sorted(
        at
        for taken in all_taken
        for at in (
            *(at for chunk in taken.chunks for at in chunk.positions),
            *(refusal.position for refusal in taken.refusals),
        )
    )


def reading(blocks: list[Block], quota: Quota, counted: dict[int, int]) -> list[Taken]:
    """Read blocks as a process does that begins anew; `counted` is what earlier ones counted."""
    intake = Intake(IntakeRules())
    found: list[Taken] = []
    settling = Settling(Balance(), Kept(taken=dict(counted)))
    for part, stop in counted.items():
        settling.settled.add(position(part, 0), position(part, stop))
    for each in blocks:
        before = counted.get(each.part, 0)
        for taken_in in rationed(intake, each, 0.0, quota, before, KINDS):
            found.append(sift(taken_in, settling, KINDS, lambda chunk, row: True))
            counted[each.part] = max(before, intake.next_ordinal(each.part))
        if quota.reached:
            break
    return found


@given(st.lists(BLOCKS, max_size=4), st.lists(st.integers(0, 12), max_size=3))
def test_what_is_read_before_a_limit_and_after_it_is_the_whole(
    parts: list[list[str] | str], limits: list[int]
) -> None:
    """Whatever the lines, the parts and the limits: each record once, where it always was."""
    blocks = [block(part, names) for part, names in enumerate(parts)]
    intake = Intake(IntakeRules())
    whole = [taken for each in blocks for taken in judged(intake, each, 0.0)]
    everything = positions(whole)
    counted: dict[int, int] = {}
    found: list[Taken] = []
    for limit in sorted(limits):
        read = len(positions(found))
        quota = Quota(limit - read)
        found += reading(blocks, quota, counted)
        assert positions(found) == everything[: max(limit, read)]
        assert quota.reached == (len(everything) > max(limit, read))
    found += reading(blocks, Quota(1_000_000), counted)
    assert positions(found) == everything

    def total(all_taken: list[Taken]) -> tuple[Counter[str], int, list[int]]:
        read: Counter[str] = Counter()
        for taken in all_taken:
            read.update(taken.read)
        warned = [one.position for taken in all_taken for one in taken.warnings]
        return read, sum(taken.warned for taken in all_taken), warned

    assert total(found) == total(whole)


def test_a_cut_leaves_the_columns_of_a_chunk_of_one_length() -> None:
    """What is cut off is cut off everywhere, and a chunk before it stays as it is."""
    (taken,) = Intake(IntakeRules()).take(0, [LINES["user"]] * 4, 1)
    (chunk,) = cut(taken, position(0, 3), KINDS).chunks
    assert {len(c) for c in (chunk.fragments, chunk.keys, chunk.positions, chunk.lines)} == {3}
    assert cut(taken, position(0, 4), KINDS).chunks == list(taken.chunks)
    assert cut(taken, position(0, 0), KINDS).chunks == []


def test_a_limit_that_was_passed_long_ago_lets_nothing_new_in() -> None:
    """An earlier process may have read more than this one is asked for."""
    quota = Quota(-5)
    assert quota.stop(0, 10, 10) is None
    assert not quota.reached
    assert quota.left == 0
    assert quota.stop(5, 12, 10) == 10
    assert quota.reached
