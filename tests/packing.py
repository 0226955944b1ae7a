"""What is packed in the tests of the batcher: chunks, partitions, and a toy that folds."""

from __future__ import annotations

from ingest.batcher import Batcher
from ingest.profiles import Caps
from ingest.records import ATTRIBUTES, EVENT, WHOLE, Batch, Chunk, Fragment, Partition, UserKey

OVERHEAD = 50

PARTITIONS = (
    WHOLE,
    Partition("other ids"),
    Partition("", b'"state":"in"'),
    Partition("", b'"state":"no"'),
)


class Item:
    """One user's item of the toy destination."""

    def __init__(self) -> None:
        self.events = 0
        self.tags: set[int] = set()


class Toy:
    """Folds up to two events, and attributes of different tags: the tag is the position modulo 3.

    Purchases fold always.
    """

    def begin(self, slot: int, fragment: Fragment) -> Item:
        """Make an item of one record."""
        item = Item()
        assert self.join(item, slot, fragment)
        return item

    def join(self, item: Item, slot: int, fragment: Fragment) -> bool:
        """Fold a record in."""
        tag = int(bytes(fragment).rstrip(b"x")) % 3
        if slot == EVENT:
            item.events += item.events < 3
            return item.events < 3
        if slot == ATTRIBUTES:
            if tag in item.tags:
                return False
            item.tags.add(tag)
        return True


def chunk_of(
    rows: list[tuple[int, str, int]], first: int = 0, partition: Partition = WHOLE
) -> Chunk:
    """Build a chunk of (slot, user, size) rows; each fragment is its position, padded."""
    fragments = [
        b"%d" % (first + i) + b"x" * max(0, size - len(b"%d" % (first + i)))
        for i, (_, _, size) in enumerate(rows)
    ]
    return Chunk(
        fragments,
        bytes(slot for slot, _, _ in rows),
        [user for _, user, _ in rows],
        range(first, first + len(rows)),
        range(first + 1, first + len(rows) + 1),
        sum(map(len, fragments)),
        partition,
    )


def mixed(count: int, users: int, size: int = 20) -> list[tuple[int, str, int]]:
    """Rows of all three slots in turn, users in turn."""
    return [(i % 3, f"u{i % users}", size) for i in range(count)]


def drain(batcher: Batcher, caps: Caps, *, partial: bool = True) -> list[Batch]:
    """Take batch after batch, each settled before the next."""
    batches = []
    while batch := batcher.take(caps, partial=partial):
        batches.append(batch)
        batcher.release(batch.family, batch.users())
    return batches


def check_items(batch: Batch, folding: Toy) -> None:
    """Fold the records of each user anew, in source order: each of them has to join."""
    items: dict[UserKey, Item] = {}
    rows = [
        (position, slot, key, fragment)
        for slot, column in enumerate(batch.columns)
        for position, key, fragment in zip(
            column.positions, column.keys, column.fragments(), strict=True
        )
    ]
    for _, slot, key, fragment in sorted(rows):
        if key in items:
            assert folding.join(items[key], slot, fragment)
        else:
            items[key] = folding.begin(slot, fragment)
