"""Lots: the records that may go, sorted by what they must share, and which of them goes next.

A request holds records of one partition. Decides which one it is: a partition that was passed over
for long, else one that can fill a request, the oldest first. Knows neither users nor destination;
a partition is remembered while it has records that may go, so that any number of them may occur.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from ingest.queues import Lane, Queue, Rows
from ingest.records import Partition


class Lot:
    """Records of one partition that may go, per slot: a queue, and lanes of users without a place.

    `queued` is how many records the queues hold; `since` is how many records had gone, of any
    partition, when a record of this lot last went, or first could.
    """

    def __init__(self, slots: int, since: int) -> None:
        self.queues = [Queue() for _ in range(slots)]
        self.queued = 0
        self.runnable: list[deque[Lane]] = [deque() for _ in range(slots)]
        self.since = since

    @property
    def users(self) -> int:
        """Users with a record here."""
        return self.queued + sum(map(len, self.runnable))

    @property
    def oldest(self) -> int:
        """Position of the first record; there must be one."""
        queued = [queue.oldest() for queue in self.queues if queue.count]
        return min(queued + [lane[0].waiting[0].position for lane in self.runnable if lane])

    def add(self, slot: int, rows: Rows) -> None:
        """Append rows to the queue of a slot."""
        self.queues[slot].add(rows)
        self.queued += len(rows.positions)

    def first(self, counts: Sequence[int]) -> list[list[Rows]]:
        """Return the first rows of each queue, in pieces, without taking them."""
        queues = zip(self.queues, counts, strict=True)
        return [queue.first(count) if count else [] for queue, count in queues]

    def drop(self, counts: Sequence[int]) -> None:
        """Forget the first rows of each queue."""
        for queue, count in zip(self.queues, counts, strict=True):
            if count:
                queue.drop(count)
        self.queued -= sum(counts)


class Lots:
    """The lots of all partitions that have records that may go, and of the batch being filled."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._lots: dict[Partition, Lot] = {}
        self._gone = 0

    def __len__(self) -> int:
        return len(self._lots)

    def queues(self) -> Iterator[Queue]:
        """Yield the queues of all partitions."""
        for lot in self._lots.values():
            yield from lot.queues

    @property
    def only(self) -> tuple[Partition, Lot] | None:
        """The lot, with its partition, where there is but one."""
        return next(iter(self._lots.items())) if len(self._lots) == 1 else None

    def of(self, partition: Partition) -> Lot:
        """Return the lot of a partition; it is there until a batch of it went and left it empty."""
        lot = self._lots.get(partition)
        if lot is None:
            lot = self._lots[partition] = Lot(self._slots, self._gone)
        return lot

    def went(self, partition: Partition, records: int) -> None:
        """Note a batch on its way, which was begun for that partition."""
        self._gone += records
        lot = self._lots[partition]
        lot.since = self._gone
        if not lot.queued and not any(lot.runnable):
            del self._lots[partition]

    def next(self, fill: int, patience: int) -> tuple[Partition, int]:
        """Return the partition that goes next, and how many records of others went before it.

        There must be one. `fill` is how many users fill a request, `patience` how many records of
        others may go before a lot goes that cannot fill one. Costs a look at each lot where there
        are several.
        """
        partition, lot = self._next(fill, patience)
        return partition, self._gone - lot.since

    def _next(self, fill: int, patience: int) -> tuple[Partition, Lot]:
        lots = self._lots.items()
        if len(lots) == 1:
            return next(iter(lots))
        longest = min(lots, key=lambda of: of[1].since)
        if self._gone - longest[1].since >= patience:
            return longest
        full = [of for of in lots if of[1].users >= fill]
        return min(full or lots, key=lambda of: of[1].oldest)
