"""Which messages of a queue may be deleted, and which are given back.

Decides that a message is deleted only after it was settled and what was written of it is safe; that
one that comes again while it is here is the same one, with a newer receipt; and that one whose
delete came too late is deleted when it comes again, and not read twice. Knows no queue and no time.

Of an ordered queue (FIFO), a message may be deleted once all before it in its group are: what is
given back of a group is then always its end, and who reads it next goes on in order. A queue gives
out nothing more of a group while some of it is held, so that nothing overtakes. The price is that
messages settled out of their turn come again, if the reader stops before their turn. A bad message
of an ordered queue is deleted too, not given back: its successors are on their way already, and it
would come after them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from enum import Enum
from itertools import takewhile
from typing import Final

import msgspec

FIRST: Final = 2
"""Number of the first message: a line 1 could be taken for the heading of a table."""

OWED_KEPT: Final = 20_000
"""Messages remembered whose delete came too late: some 3 MB. A queue has no more in flight if it is
ordered, and six times as many if not."""


class State(Enum):
    """Where a message is on its way."""

    OPEN = 0
    ENDED = 1  # settled; what was written of it may not be safe yet
    SAFE = 2  # may be deleted, or given back if it is bad
    ASKED = 3  # the queue was asked to


class Receipt(msgspec.Struct):
    """A message that is held. `handle` is the queue's name for having received it, the newest."""

    number: int
    message_id: str
    handle: str
    group: str
    state: State = State.OPEN
    bad: bool = False


class Ask(msgspec.Struct, frozen=True, gc=False):
    """One message in a request to the queue."""

    number: int
    handle: str


class Receipts:
    """The messages that are held, by number.

    `ordered` is of a FIFO queue. With `give_back` bad messages of one that is not are given back,
    else they are deleted.
    """

    def __init__(self, *, ordered: bool = False, give_back: bool = True) -> None:
        self._ordered: Final = ordered
        self._give_back: Final = give_back and not ordered
        self._next = FIRST
        self._held: dict[int, Receipt] = {}
        self._numbers: dict[str, int] = {}
        self._ended: list[int] = []
        self._safe: dict[int, None] = {}
        self._owed: dict[str, None] = {}
        self._groups: dict[str, deque[int]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, number: int) -> bool:
        return number in self._held

    # Coming

    def take(self, message_id: str, handle: str, group: str = "") -> tuple[int, bool]:
        """Note a message that was received; return its number, and whether it is to be read."""
        held = self._numbers.get(message_id)
        if held is not None:
            self._held[held].handle = handle
            return held, False
        number, self._next = self._next, self._next + 1
        self._held[number] = Receipt(number, message_id, handle, group)
        self._numbers[message_id] = number
        if self._ordered:
            self._groups.setdefault(group, deque()).append(number)
        if message_id not in self._owed:
            return number, True
        del self._owed[message_id]
        self._mark_safe(self._held[number])
        return number, False

    def message_id(self, number: int) -> str:
        """Return the queue's name of a message; an empty text once it is held no more."""
        held = self._held.get(number)
        return "" if held is None else held.message_id

    def ask(self, number: int) -> Ask:
        """Return what the queue is asked about a message by; it is held."""
        return Ask(number, self._held[number].handle)

    def held_by(self, ask: Ask) -> bool:
        """Return whether a message is held, by no newer receipt, and the queue is asked nothing."""
        held = self._held.get(ask.number)
        return held is not None and held.handle == ask.handle and held.state is not State.ASKED

    # Settling

    def settle(self, numbers: Iterable[int], bad: Collection[int] = ()) -> None:
        """Note messages that have their end. Raises `ValueError` for one that is not open."""
        for number in numbers:
            held = self._held.get(number)
            if held is None or held.state is not State.OPEN:
                raise ValueError("a message was settled that is not open")
            held.state = State.ENDED
            held.bad = number in bad
            self._ended.append(number)

    def ended(self) -> list[int]:
        """Return, once each, the messages settled so far; ask before safety is asked for."""
        ended, self._ended = self._ended, []
        return ended

    def safe(self, numbers: Iterable[int]) -> None:
        """Note that all that was written of messages is safe."""
        for number in numbers:
            self._mark_safe(self._held[number])

    # Telling the queue

    def due(self) -> tuple[list[Ask], list[Ask]]:
        """Return messages to delete now and messages to give back; each is asked for once."""
        delete: list[Ask] = []
        back: list[Ask] = []
        for number in self._in_order() if self._ordered else list(self._safe):
            held = self._held[number]
            held.state = State.ASKED
            del self._safe[number]
            into = back if held.bad and self._give_back else delete
            into.append(Ask(number, held.handle))
        return delete, back

    def done(self, ask: Ask) -> None:
        """Note that the queue did what it was asked to."""
        held = self._held[ask.number]
        if held.handle != ask.handle:
            # It was received again meanwhile: a queue goes by the newest receipt.
            self._mark_safe(held)
        else:
            self._forget(held)

    def failed(self, ask: Ask) -> None:
        """Note that it did not, and may if asked again."""
        self._mark_safe(self._held[ask.number])

    def expired(self, ask: Ask) -> bool:
        """Note that it did not, as the message is ours no more; return whether that is so.

        It is not so if the message was received again meanwhile.
        """
        held = self._held[ask.number]
        if held.handle != ask.handle:
            self._mark_safe(held)
            return False
        if not (held.bad and self._give_back):
            if len(self._owed) >= OWED_KEPT:
                del self._owed[next(iter(self._owed))]
            self._owed[held.message_id] = None
        self._forget(held)
        return True

    def give_up(self, numbers: Sequence[int]) -> list[Ask]:
        """Forget messages that were not settled, and return how to give them back."""
        asks = [Ask(number, self._held[number].handle) for number in numbers]
        for number in numbers:
            self._forget(self._held[number])
        return asks

    def rest(self) -> list[int]:
        """Return the messages that are held."""
        return list(self._held)

    def _mark_safe(self, held: Receipt) -> None:
        held.state = State.SAFE
        self._safe[held.number] = None

    def _forget(self, held: Receipt) -> None:
        del self._held[held.number], self._numbers[held.message_id]
        self._safe.pop(held.number, None)
        if self._ordered:
            group = self._groups[held.group]
            group.remove(held.number)  # the first, nearly always
            if not group:
                del self._groups[held.group]

    def _in_order(self) -> list[int]:
        """Return the beginnings of groups that may be deleted, each group's in order.

        There is none of a group while the queue is asked to delete what lies before.
        """
        found: list[int] = []
        for name in dict.fromkeys(self._held[number].group for number in self._safe):
            found += takewhile(self._safe.__contains__, self._groups[name])
        return found
