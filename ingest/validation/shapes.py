"""Shapes: a proof, made while decoding, that records which look alike have no problem at all.

Decides what the records of one kind look like, by those that were seen: which members they have,
and no others. A decoder of just these members checks every value, so that hardly a byte is left to
be looked at again; and knowing where to look for each, it is faster than one of a head, which has
members that nobody sends.

A shape takes for granted what `Shapes.proven` says of the lines. What it does not take is not bad:
it is for the long way, a head and the screen, which knows more forms. A shape may be stricter than
the rules, never laxer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, UnsetType, defstruct, field

from ingest.codec import DecodeError, Decoder, JSONDecodeError, is_utf8, loads, typed
from ingest.records import ATTRIBUTES, KINDS
from ingest.validation.heads import HEADS, EventProperties, PurchaseProperties, Text, Words
from ingest.validation.identity import MAX_EXTERNAL_ID
from ingest.validation.problems import MAX_ELEMENTS, MAX_TEXT
from ingest.validation.screen import LONGEST_WITH_PROPERTIES, emails_clean, may_be_late

MOST_MEMBERS: Final = 64
"""Members of a record, or of its properties, beyond which looking them up costs more than it
spares."""

LONGEST_NAME: Final = 64
"""Characters of a member's name; longer ones are not worth a thought."""

LONGEST_REST: Final = 64
"""Chunks at most that are left to the long way after one that was no use trying: what fails all
the time costs a hundredth more."""

_Scalar: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT)] | float | bool
# An integer is read as a double: one that is too big for that is refused, as `loads` does.
_Any: TypeAlias = _Scalar | Annotated[list[_Scalar], Meta(max_length=MAX_ELEMENTS)] | None
"""What an attribute or a property may be without a rule that minds it, but for late dates."""

_EXTERNAL_ID: Final = Annotated[str, Meta(max_length=MAX_EXTERNAL_ID // 4)]
"""A character has four bytes at most. That none is empty is seen from all keys at once."""

_EMAIL: Final = Annotated[str, Meta(max_length=MAX_TEXT)] | None
"""None that is empty is an address."""

SHORT: Final = MAX_TEXT + len(b'{"external_id":"a","b":""}')
"""Bytes of a record in which nothing can be too long: neither a string in it, nor an array. Then
there is no need to compare their lengths."""

_ANY_SHORT: TypeAlias = str | float | bool | list[str | float | bool] | None
_SHORT: Final[dict[Any, Any]] = {
    _EXTERNAL_ID: str,
    _Any: _ANY_SHORT,
    Words | None: str | None,
    Text | None: Annotated[str, Meta(min_length=1)] | None,
    _EMAIL: str | None,
}
"""What the members of short records are read as, by what those of others are."""

_OTHER_IDENTITIES: Final = frozenset({"user_alias", "braze_id"})
_RESERVED: Final = {
    kind: frozenset(one.encode_name for one in msgspec.structs.fields(properties))
    for kind, properties in zip(KINDS[1:], (EventProperties, PurchaseProperties), strict=True)
}
_HIDDEN: Final = re.compile(rb"\\u00[23]")
"""An escaped character of those that a date may begin or end with."""


class _Names(msgspec.Struct):
    """The members that were seen, in their order, and those of the properties."""

    members: dict[str, None] = {}
    properties: dict[str, None] = {}

    def see(self, kind: str, records: Iterable[dict[str, Any]]) -> None:
        """Note the members of some more."""
        for record in records:
            self.members |= dict.fromkeys(record)
            if kind in _RESERVED and isinstance(inner := record.get("properties"), dict):
                self.properties |= dict.fromkeys(inner)

    def fit(self, kind: str) -> bool:
        """Whether there is a shape of records that have these members."""
        return (
            "external_id" in self.members
            and _OTHER_IDENTITIES.isdisjoint(self.members)
            and _are_plain(self.members)
            and _are_plain(self.properties)
            and not any(name[0] == "$" for name in self.properties)
            and _RESERVED.get(kind, frozenset()).isdisjoint(self.properties)
        )


def _are_plain(names: dict[str, None]) -> bool:
    return len(names) <= MOST_MEMBERS and all(
        0 < len(name) <= LONGEST_NAME
        and name.isprintable()
        and '"' not in name
        and "\\" not in name
        for name in names
    )


class Shaped(msgspec.Struct, frozen=True):
    """Records that look alike, and have no problem: their heads, and the user key of each."""

    heads: list[Any]
    keys: list[str]


class _Shape(msgspec.Struct, frozen=True):
    """What records of some members are decoded with, and short ones, and whether there are
    addresses among them."""

    decoder: Decoder[Any]
    short: Decoder[Any]
    emails: bool

    @classmethod
    def of(cls, kind: str, names: _Names) -> _Shape:
        decoder, short = (typed(_head(kind, names, short)) for short in (False, True))
        return cls(decoder, short, "email" in names.members)

    def heads(self, lines: bytes, count: int, longest: int) -> list[Any] | None:
        """Return the heads of records, None where they are not as many objects of these members."""
        decoder = self.short if longest <= SHORT else self.decoder
        try:
            heads = decoder.decode_lines(lines)
        except (DecodeError, UnicodeDecodeError):
            return None
        # A newline is in no string. After a brace that closes one thing, and before one that opens
        # another, it is in no object either: so none goes on from line to line, and as many objects
        # as there are lines are one in each.
        return heads if len(heads) == count else None


class Shapes:
    """Learns what records of one kind look like, and proves those that look so."""

    def __init__(self, kind: str) -> None:
        self._kind: Final = kind
        self._names = _Names()
        self._shape: _Shape | None = None
        self._left = 0  # chunks to leave to the long way
        self._rest = 1  # how many, the next time

    def knows(self, member: str) -> bool:
        """Whether records that look alike may have such a member."""
        return member in self._names.members

    def proven(self, lines: bytes, count: int, longest: int) -> Shaped | None:
        """Return records of which `check` finds nothing; None where that is open.

        Each of them is known by its external id, and by nothing else. There are `count` lines, at
        least one, each of which begins and ends with a brace and has at most `longest` bytes. That
        each is one object is proven too, and that it is in UTF-8, for every string is decoded.
        """
        if self._left:
            self._left -= 1
            return None
        shaped = self._proven(lines, count, longest)
        if shaped is None and not is_utf8(lines):
            return None  # the others of them may be tried at once
        if shaped is None and self._learn(lines, count):
            shaped = self._proven(lines, count, longest)
        if shaped is None:
            self._left = self._rest
            self._rest = min(2 * self._rest, LONGEST_REST)
        else:
            self._rest = 1
        return shaped

    def _proven(self, lines: bytes, count: int, longest: int) -> Shaped | None:
        shape = self._shape
        if shape is None or longest > LONGEST_WITH_PROPERTIES:
            return None
        heads = shape.heads(lines, count, longest)
        if heads is None:
            return None
        # An attribute that is always at the same place is found faster here than by `attrgetter`.
        keys = [head.external_id for head in heads]
        if not all(keys):
            return None
        if self._kind == KINDS[ATTRIBUTES] and _may_be_late(lines, keys):
            return None
        if shape.emails and not emails_clean([e for h in heads if (e := h.email) is not None]):
            return None
        return Shaped(heads, keys)

    def _learn(self, lines: bytes, count: int) -> bool:
        """Learn of records which members there are; return whether there is another shape now."""
        try:
            records = loads(b"[%b]" % lines.rstrip(b"\n").replace(b"\n", b","))
        except JSONDecodeError:
            return False
        if len(records) != count or not all(isinstance(record, dict) for record in records):
            return False
        names = _Names(self._names.members.copy(), self._names.properties.copy())
        names.see(self._kind, records)
        if not names.fit(self._kind):  # anew: what was seen long ago may be of no use any more
            names = _Names()
            names.see(self._kind, records)
        if names == self._names or not names.fit(self._kind):
            return False
        self._names, self._shape = names, _Shape.of(self._kind, names)
        return True


def _may_be_late(lines: bytes, ids: Sequence[str]) -> bool:
    if b"\\" in lines:
        return _HIDDEN.search(lines) is not None or may_be_late(lines)
    return may_be_late(lines, ids)


def _head(kind: str, names: _Names, short: bool) -> type[Any]:
    """Return the head of records with these members; what it lacks of a usual head is absent."""
    known = {one.encode_name: one for one in msgspec.structs.fields(HEADS[kind])}
    types: dict[str, Any] = {name: one.type for name, one in known.items()}
    types |= {"external_id": _EXTERNAL_ID, "email": _EMAIL}
    if "properties" in known:
        types["properties"] = _properties(names.properties, short) | UnsetType
    required = {"external_id"} | {name for name, one in known.items() if one.required}
    fields: list[Any] = []
    for at, name in enumerate(names.members | dict.fromkeys(sorted(required))):
        one = known.get(name)
        attribute = one.name if one is not None else f"member_{at}"
        if name in required:
            told = field(name=name)
        else:
            told = field(name=name, default=None if one is None else one.default)
        one_type = types.get(name, _Any)
        fields.append((attribute, _SHORT.get(one_type, one_type) if short else one_type, told))
    given = {attribute for attribute, _, _ in fields}
    absent = {one.name: one.default for one in known.values() if one.name not in given}
    return defstruct(
        "ShapedHead", fields, namespace=absent, gc=False, kw_only=True, forbid_unknown_fields=True
    )


def _properties(names: Iterable[str], short: bool) -> Any:
    value: Any = _ANY_SHORT if short else _Any
    fields = [
        (f"member_{at}", value, field(name=name, default=None)) for at, name in enumerate(names)
    ]
    return defstruct("Properties", fields, gc=False, forbid_unknown_fields=True)
