"""Messages become blocks of one partition, in order; and keys that are no users are noticed."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from ingest.sources.base import BLOCK_BYTES, Block, Unfit
from ingest.sources.kafka_messages import (
    LOOKED_AT,
    MESSAGE_BYTES,
    USERS_KEPT,
    Keys,
    Shelf,
    kind_of,
)

STEPS = st.lists(
    st.tuples(st.sampled_from(("line", "unfit", "oversize", "take")), st.integers(0, 2)),
    max_size=60,
)
LINE = b"x" * (BLOCK_BYTES // 3)


def offsets_of(block: Block) -> list[int]:
    """The numbers of all messages of a block, in order."""
    found = [*block.numbers(), *(row.line for row in block.unfit)]
    return sorted([*found, *(at for at, _ in block.oversize)])


@given(STEPS)
def test_every_message_comes_once_and_in_the_order_of_its_partition(
    steps: list[tuple[str, int]],
) -> None:
    """Whatever waits, of how many partitions: blocks hold it all, and sizes add up to nothing."""
    shelf, put, came = Shelf(), defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)

    def take() -> bool:
        block = shelf.take()
        if block is None:
            return False
        assert block.lines() == [LINE] * len(block.numbers())
        assert not (block.data and block.oversize)
        assert len(block.data) <= 2 * BLOCK_BYTES
        came[block.part] += offsets_of(block)
        return True

    for offset, (what, part) in enumerate(steps):
        match what:
            case "line":
                shelf.put(part, offset, LINE)
            case "unfit":
                shelf.put_unfit(part, Unfit(offset, "code", "", "reason", b"raw"))
            case "oversize":
                shelf.put_oversize(part, offset, 5_000_000)
            case _:
                take()
                continue
        put[part].append(offset)
    assert shelf.messages == sum(map(len, put.values())) - sum(map(len, came.values()))
    while take():
        pass
    assert came == put
    assert (shelf.bytes, shelf.messages) == (0, 0)


def test_messages_are_gathered_while_nobody_asks() -> None:
    """One message that is asked for at once is a block; many that waited are one block too."""
    shelf = Shelf()
    shelf.put(0, 5, b"a")
    assert shelf.bytes == 1 + MESSAGE_BYTES
    first = shelf.take()
    assert first is not None
    assert (first.data, first.first_line, first.end_offset, first.resumable) == (b"a", 5, 1, False)
    for offset in range(6, 106):
        shelf.put(0, offset, b"b")
    block = shelf.take()
    assert block is not None
    assert list(block.numbers()) == list(range(6, 106))
    assert block.end_offset == 101
    shelf.put(0, 106, b"c")
    shelf.clear()
    assert shelf.take() is None
    assert (shelf.bytes, shelf.messages) == (0, 0)


def test_the_kind_is_said_by_a_header() -> None:
    """Only by that header, and only a kind there is; all others are somebody else's."""
    assert kind_of([("a", b"event"), ("kind", b"purchase")]) == "purchase"
    assert kind_of([("kind", b"events of mine"), ("kind", b"event")]) == "event"
    assert kind_of([("kind", b"\xff"), ("Kind", b"event")]) is None
    assert kind_of([]) is None


def test_a_user_in_two_partitions_is_told_once_and_not_named() -> None:
    """The sentence tells the topic and whether there are keys, never the user."""
    line = b'{"event": {"external_id" : "secret-user"}}'
    for keyed, why in ((False, "no key"), (True, "not the user")):
        keys = Keys()
        assert keys.look("t", 0, b"{}", keyed=keyed) is None
        assert keys.look("t", 0, line, keyed=keyed) is None
        assert keys.look("t", 0, line, keyed=keyed) is None
        assert keys.look("other", 1, line, keyed=keyed) is None  # order is one topic's
        said = keys.look("t", 1, line, keyed=keyed)
        assert said is not None
        assert why in said
        assert "secret" not in said
        assert not keys.watching


def test_keys_are_watched_for_a_while_only() -> None:
    """It costs little, and its memory is bounded."""
    keys = Keys()
    for number in range(LOOKED_AT):
        assert keys.watching
        line = b'{"external_id":"u%d"}' % number
        assert keys.look("t", number % 3, line, keyed=True) is None
    assert not keys.watching
    assert len(keys._seen) == USERS_KEPT
