"""Folding for Batch CEP: the records of one user become one edit, and the edits one request.

Decides which records fold, what the edit of a user says, and which record a piece of it came from.
Folding is by pairs: two attributes records do not fold if both touch the same attribute and one of
them adds to it or removes from it. The type in a key is no part of its name, so a later value
replaces an earlier one of another type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from ingest import codec
from ingest.records import ATTRIBUTES, Batch, Column, Fragment, UserKey
from ingest.sinks.batchcep.names import base_of

Place = tuple[int, int]
"""Slot and row of a record of the batch."""

EDIT_OVERHEAD: Final = 64
"""Bytes that an edit has beyond its pieces, and beyond its id as the record has it: 57 for the
names of its members, their brackets and the comma after it, and 2 for the quotes of an id that was
a number; the rest is a margin."""

_read_pair: Final = codec.typed(list[Raw]).decode
_read_pairs: Final = codec.typed(list[tuple[Raw, Raw]]).decode
_read_keys: Final = codec.typed(tuple[dict[str, Raw], Raw]).decode
_read_members: Final = codec.typed(dict[str, Raw]).decode


class _Occurrence(msgspec.Struct, gc=False):
    """The name of an event and the names of its attributes, as a piece has them."""

    name: str = ""
    attributes: dict[str, Raw] = {}


_read_event: Final = codec.typed(_Occurrence).decode


def record_in(fragment: Fragment) -> bytes:
    """Return the record as it came out of a fragment."""
    return bytes(_read_pair(fragment)[1])


class _Item(msgspec.Struct, gc=False):
    """An edit in the making: the attributes it touches, with whether by an operator."""

    touched: dict[str, bool]
    events: int = 0


class EditFolding:
    """Which records of a user share an edit; `events` and `attributes` are the most that it has."""

    def __init__(self, events: int, attributes: int) -> None:
        self._events = events
        self._attributes = attributes

    def begin(self, slot: int, fragment: Fragment) -> _Item:
        """Return the state of an edit that holds one record, whatever its size."""
        return _Item({}, 1) if slot != ATTRIBUTES else _Item(_touched(fragment))

    def join(self, item: _Item, slot: int, fragment: Fragment) -> bool:
        """Fold a later record into an edit, unless it does not fold; return whether it did."""
        if slot != ATTRIBUTES:
            if item.events >= self._events:
                return False
            item.events += 1
            return True
        touched, before = _touched(fragment), item.touched
        shared = touched.keys() & before.keys()
        if len(touched) + len(before) - len(shared) > self._attributes:
            return False
        if any(touched[name] or before[name] for name in shared):
            return False
        before.update(touched)
        return True


def _touched(fragment: Fragment) -> dict[str, bool]:
    members = _read_keys(fragment)[0]
    return {base_of(key): bytes(value)[:1] == b"{" for key, value in members.items()}


class Edit(msgspec.Struct, gc=False):
    """The records of one user in a batch: rows of attributes, and (slot, row) of occurrences.

    Both in source order.
    """

    user: UserKey
    attributes: list[int]
    occurrences: list[Place]


class Happened(NamedTuple):
    """An event of an edit: the record that it came from, its name, and those of its attributes."""

    place: Place
    name: str
    attributes: frozenset[str]


class Edits:
    """A batch as the edits that its request carries, users in the order of their first record."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.edits: Final = _edits_of(batch)
        self._pairs = [_read_pairs(b"[%b]" % column.data) for column in batch.columns]
        self._winners: dict[int, dict[str, int]] = {}
        self._happened: dict[int, list[Happened]] = {}

    def body(self) -> bytes:
        """Return the body of the request: a bare array. No value is serialised again."""
        pairs = self._pairs
        of_attributes = pairs[ATTRIBUTES]
        parts: list[bytes] = []
        for edit in self.edits:
            text = b'{"identifiers":{"custom_id":%b}' % codec.dumps(edit.user)
            rows = edit.attributes
            if len(rows) == 1:
                piece = bytes(of_attributes[rows[0]][0])
            else:
                piece = _folded([of_attributes[row][0] for row in rows])
            if piece != b"{}":
                text += b',"attributes":' + piece
            if edit.occurrences:
                events = b",".join([bytes(pairs[slot][row][0]) for slot, row in edit.occurrences])
                text += b',"events":[' + events + b"]"
            parts.append(text + b"}")
        return b"[" + b",".join(parts) + b"]"

    def __len__(self) -> int:
        return len(self.edits)

    def winners(self, index: int) -> Mapping[str, int]:
        """Return the attributes that edit `index` carries, with the row whose value each has."""
        if (winners := self._winners.get(index)) is None:
            winners = self._winners[index] = {
                base_of(key): row
                for row in self.edits[index].attributes
                for key in _read_members(self._pairs[ATTRIBUTES][row][0])
            }
        return winners

    def occurrences(self, index: int) -> Sequence[Happened]:
        """Return the events of edit `index`, in its order."""
        if (happened := self._happened.get(index)) is None:
            happened = self._happened[index] = []
            for slot, row in self.edits[index].occurrences:
                event = _read_event(self._pairs[slot][row][0])
                bases = frozenset(map(base_of, event.attributes))
                happened.append(Happened((slot, row), event.name, bases))
        return happened

    def first(self, index: int) -> Place:
        """Return (slot, row) of the first record of edit `index`."""
        edit = self.edits[index]
        places = [(ATTRIBUTES, row) for row in edit.attributes[:1]] + edit.occurrences[:1]
        return min(places, key=lambda place: self._batch.columns[place[0]].positions[place[1]])

    def record(self, place: Place) -> Raw:
        """Return a record as it came."""
        slot, row = place
        return self._pairs[slot][row][1]


def _edits_of(batch: Batch) -> list[Edit]:
    firsts: dict[UserKey, int] = {}
    edits: dict[UserKey, Edit] = {}
    both: set[UserKey] = set()  # users whose occurrences come from several slots
    for slot, column in enumerate(batch.columns):
        for row, (user, at) in enumerate(zip(column.keys, column.positions, strict=True)):
            edit = edits.get(user)
            if edit is None:
                edit = edits[user] = Edit(user, [], [])
                firsts[user] = at
            elif at < firsts[user]:
                firsts[user] = at
            if slot == ATTRIBUTES:
                edit.attributes.append(row)
            else:
                if edit.occurrences and edit.occurrences[-1][0] != slot:
                    both.add(user)
                edit.occurrences.append((slot, row))
    for user in both:
        edits[user].occurrences.sort(key=lambda place: _position(batch.columns, place))
    return [edits[user] for user in sorted(firsts, key=firsts.__getitem__)]


def _position(columns: Sequence[Column], place: Place) -> int:
    return columns[place[0]].positions[place[1]]


def _folded(pieces: Sequence[Raw]) -> bytes:
    """Return attributes one after another as one object: the last value of each counts."""
    members: dict[str, bytes] = {}
    for piece in pieces:
        for key, value in _read_members(piece).items():
            # A key is made of ASCII letters, digits and signs that JSON does not escape.
            members[base_of(key)] = b'"%b":%b' % (key.encode(), bytes(value))
    return b"{%b}" % b",".join(members.values())
