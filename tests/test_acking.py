"""Messages and the records in them: told once, when the last record has its end, never before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.acking import DELIVERED, Acks, End
from ingest.codec import dumps
from ingest.dispositions import Verdict
from ingest.intake import Intake, IntakeRules
from ingest.reading import judged
from ingest.records import EMPTY_COLUMN, Batch, Column
from ingest.sources.base import Block
from ingest.taken import Taken

GOOD, BAD = "good", "bad"

messages = st.lists(st.lists(st.sampled_from((GOOD, BAD)), max_size=4), min_size=1, max_size=12)
"""Messages by what their records are; one without any is blank."""


def block_of(found: Sequence[Sequence[str]], first: int = 1) -> Block:
    """A block with a request-shaped line for each message."""
    lines = []
    for number, records in enumerate(found):
        events = [
            {"external_id": f"u{number}", "name": "x", "time": "2026-01-01T00:00:00Z"}
            if one == GOOD
            else {"name": "nobody"}
            for one in records
        ]
        lines.append(dumps({"events": events}) if records else b"")
    numbers = range(first, first + len(lines))
    return Block(0, b"".join(line + b"\n" for line in lines), 1, 0, line_numbers=numbers)


def batches_of(taken: Sequence[Taken], size: int) -> list[Batch]:
    """Every record that goes on, in batches of some, in the slot of events."""
    rows = [
        (bytes(fragment), key, at, line)
        for one in taken
        for chunk in one.chunks
        for fragment, key, at, line in zip(
            chunk.fragments, chunk.keys, chunk.positions, chunk.lines, strict=True
        )
    ]
    return [
        Batch(
            start + 1,
            start + 1,
            (EMPTY_COLUMN, Column.of(*zip(*rows[start : start + size], strict=True)), EMPTY_COLUMN),
        )
        for start in range(0, len(rows), size)
    ]


@given(messages, st.integers(1, 5), st.randoms(use_true_random=False), st.data())
def test_a_message_is_told_once_when_its_last_record_has_its_end(
    found: list[list[str]], size: int, dice: object, data: st.DataObject
) -> None:
    """Whatever is refused, in whatever order batches end, and whatever goes again first."""
    told: Counter[int] = Counter()
    open_records = {n: records.count(GOOD) for n, records in enumerate(found, 1)}

    def tell(part: int, lines: Sequence[int], bad: Collection[int]) -> None:
        assert part == 0
        for line in lines:
            assert (line in bad) == (BAD in found[line - 1] and GOOD not in found[line - 1])
        assert all(open_records[line] == 0 for line in lines)
        told.update(lines)

    acks = Acks(tell)
    block = block_of(found)
    taken = list(judged(Intake(IntakeRules()), block, 0.0))
    for one in taken:
        acks.took(0, one)
    acks.read(block)
    assert acks.messages == sum(map(bool, open_records.values()))
    waiting = batches_of(taken, size)
    while waiting:
        batch = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
        rows = list(batch.rows())
        staying = set(data.draw(st.lists(st.sampled_from(rows), max_size=len(rows) - 1)))
        lines = batch.columns[1].lines
        for slot, index in rows:
            if (slot, index) not in staying:
                open_records[lines[index]] -= 1
        acks.settle(batch, (), staying)
        if staying:
            waiting.append(batch.take(sorted(staying), id=1_000))
    assert told == Counter(range(1, len(found) + 1))
    assert acks.messages == 0
    assert acks.oldest(0) is None


def test_messages_of_other_parts_are_others() -> None:
    """The same number in two partitions is two messages."""
    told: list[tuple[int, list[int]]] = []
    acks = Acks(lambda part, lines, bad: told.append((part, list(lines))))
    intake = Intake(IntakeRules())
    batches = []
    for part in (0, 1):
        line = dumps({"event": {"external_id": "u", "name": "x", "time": "2026-01-01"}})
        block = Block(part, line, 1, 0, line_numbers=(7,))
        taken = list(judged(intake, block, 0.0))
        acks.took(part, taken[0])
        batches += batches_of(taken, 1)
    assert acks.oldest(1) == 7
    acks.settle(batches[1], ())
    assert told == [(1, [7])]
    assert (acks.oldest(0), acks.oldest(1)) == (7, None)


def test_the_oldest_message_is_the_first_whatever_its_records_are() -> None:
    """Also where records are sorted by kind, for all of them are of different users."""
    lines = [
        dumps({"event": {"external_id": f"e{n}", "name": "x", "time": "2026-01-01T00:00:00Z"}})
        if n % 2
        else dumps({"attributes": {"external_id": f"a{n}", "n": n}})
        for n in range(1, 7)
    ]
    acks = Acks(lambda part, lines, bad: None)
    for taken in judged(Intake(IntakeRules()), Block(0, b"\n".join(lines), 1, 0), 0.0):
        assert len(taken.chunks) == 2
        acks.took(0, taken)
    assert acks.oldest(0) == 1


def test_a_message_is_bad_if_nothing_of_it_was_delivered() -> None:
    """Rejected or failed counts as bad, a warning or a doubt does not; one good one is enough."""
    verdicts: dict[int, list[str | None]] = {
        1: ["rejected"],
        2: ["delivered"],
        3: ["failed", None],
        4: [None, "held"],
        5: ["held"],
    }
    told: dict[int, bool] = {}

    def tell(part: int, lines: Sequence[int], bad: Collection[int]) -> None:
        told.update({line: line in bad for line in lines})

    acks = Acks(tell)
    block = block_of([[GOOD] * len(ends) for ends in verdicts.values()])
    for taken in judged(Intake(IntakeRules()), block, 0.0):
        acks.took(0, taken)
        ends = iter([end for some in verdicts.values() for end in some])
        for batch in batches_of([taken], 1):
            column = next(ends)
            acks.settle(batch, [Verdict(1, 0, column, "x", "x")] if column else [])
    assert told == {1: True, 2: False, 3: False, 4: False, 5: False}


@pytest.mark.asyncio
async def test_who_waits_for_a_message_gets_the_end_of_each_record() -> None:
    """Delivered or not, and why; what was refused at once is among them."""
    acks = Acks()
    watched = acks.watch(0, 1)
    block = block_of([[GOOD, BAD, GOOD]])
    taken = list(judged(Intake(IntakeRules()), block, 0.0))
    acks.took(0, taken[0])
    acks.read(block)
    (batch,) = batches_of(taken, 5)
    assert not watched.done()
    acks.settle(batch, [Verdict(1, 1, "rejected", "bad-name", "no such event", field="name")])
    refused, delivered, rejected = await watched
    assert (refused.column, refused.code) == ("invalid", "missing-identity")
    assert delivered is DELIVERED
    assert rejected == End("rejected", "bad-name", "name", "no such event")


@pytest.mark.asyncio
async def test_who_waits_no_longer_is_not_told() -> None:
    """A wait that was cancelled or forgotten holds nothing, and the message ends all the same."""
    told: list[int] = []
    acks = Acks(lambda part, lines, bad: told.extend(lines))
    watched, forgotten = acks.watch(0, 1), acks.watch(0, 2)
    acks.forget(0, 2)
    watched.cancel()
    block = block_of([[GOOD], [GOOD]])
    taken = list(judged(Intake(IntakeRules()), block, 0.0))
    acks.took(0, taken[0])
    acks.read(block)
    for batch in batches_of(taken, 1):
        acks.settle(batch, ())
    assert told == [1, 2]
    assert not forgotten.done()
