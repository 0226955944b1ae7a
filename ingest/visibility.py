"""How long messages of a queue are ours: a queue gives a message to others when its time is up.

Decides which messages are held on to now and for how long, when to look again, whether there is
time to take more, and when a message has to be let go. Knows no queue, and no message but by its
number. Times are in seconds, of one clock.

The longer a message is held already, the longer it is held on to, so that each costs a share of a
request a few times an hour, however short its first time is. After a crash it waits for its next
reader for its first time and twice as long as it had waited before, at most, and never longer than
`LONGEST`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

import msgspec

MOST: Final = 12 * 3600.0
"""A queue keeps a message from others for so long in all, from when it gave it to us."""

LONGEST: Final = 900.0
"""One extension at most: so long may a message lie there after a crash that nobody gave it back."""

MARGIN: Final = 1 / 2
"""Of the time that a message is ours is left when it is extended: for a request that is slow, and
to try again."""

AHEAD: Final = 1 / 20
"""Of the least time, by which an extension may be early: so that ten go together."""

AGAIN: Final = 1 / 4
"""Of the least time, after which an extension of which nothing was heard is asked for again."""


class Hold(msgspec.Struct, gc=False):
    """A message that is ours from `since` to `deadline`; `at` is when it is looked at next."""

    since: float
    deadline: float
    at: float


class Due(msgspec.Struct, frozen=True):
    """What is to be done now: extend messages, by (number, whole seconds); let others go."""

    extend: list[tuple[int, int]]
    let_go: list[int]


class Visibility:
    """Follows messages from when they were received; `seconds` is how long each is ours at first.

    `seconds` is 1 at least. `longest` and `most` are for tests.
    """

    def __init__(self, seconds: int, *, longest: float = LONGEST, most: float = MOST) -> None:
        self._seconds: Final = seconds
        self._longest: Final = max(longest, seconds)
        self._most: Final = most
        self._ahead: Final = seconds * AHEAD
        self._held: dict[int, Hold] = {}
        self._heap: list[tuple[float, int]] = []  # an entry counts if its hold says the same time

    def __len__(self) -> int:
        return len(self._held)

    def take(self, number: int, now: float) -> None:
        """Note a message that was received; once more, if it was received again."""
        deadline = now + self._seconds
        self._held[number] = hold = Hold(now, deadline, 0.0)
        self._set(number, hold, now)

    def drop(self, numbers: Iterable[int]) -> None:
        """Hold on to messages no longer; to any that is not held, nothing happens."""
        for number in numbers:
            self._held.pop(number, None)
        if len(self._heap) > 2 * len(self._held) + 1000:
            self._heap = [(hold.at, number) for number, hold in self._held.items()]
            heapq.heapify(self._heap)

    def due(self, now: float, limit: int) -> Due:
        """Return what is to be done now, the most urgent first, at most `limit` extensions.

        What is extended and not heard of by `extended` is due again a little later.
        """
        found = Due([], [])
        while len(found.extend) < limit:
            at = self.next()
            if at is None or at > now + self._ahead:
                break
            _, number = heapq.heappop(self._heap)
            hold = self._held[number]
            left = int(hold.since + self._most - now)
            wanted = int(min(self._longest, self._seconds + 2 * (now - hold.since)))
            seconds = min(wanted, left)
            if seconds < 1 or now + seconds <= hold.deadline:
                # All the time there is has been asked for: nothing more can be had.
                del self._held[number]
                found.let_go.append(number)
                continue
            found.extend.append((number, seconds))
            hold.at = now + self._seconds * AGAIN  # unless it is extended
            heapq.heappush(self._heap, (hold.at, number))
        return found

    def extended(self, number: int, asked: float, seconds: int) -> None:
        """Note that a message is ours for so long from when that was asked for."""
        hold = self._held.get(number)
        if hold is not None:
            hold.deadline = max(hold.deadline, asked + seconds)
            self._set(number, hold, asked)

    def next(self) -> float | None:
        """Return when something is due; None if nothing is held."""
        while self._heap:
            at, number = self._heap[0]
            hold = self._held.get(number)
            if hold is not None and hold.at == at:
                return at
            heapq.heappop(self._heap)
        return None

    def late(self, now: float) -> bool:
        """Return whether something is due already: what is here comes before what may come.

        Extensions and polls share a connection to one server; one that is slow is slow for both.
        """
        at = self.next()
        return at is not None and at < now

    def _set(self, number: int, hold: Hold, now: float) -> None:
        whole = hold.deadline - now
        hold.at = hold.deadline - whole * MARGIN
        heapq.heappush(self._heap, (hold.at, number))
