"""What a batchable endpoint is, as data: its items, what its records share, how it names bad ones.

Decides only the words of that data and the checks that it may name. The table itself is
`ingest.sinks.rows.table`; how records and answers are read by it is in `schema` and `answers`.
Knows no destination's table, no value of a credential and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from ingest import codec
from ingest.records import UserKey
from ingest.sinks.base import Endpoint
from ingest.validation.identity import MAX_ALIAS, MAX_EXTERNAL_ID, is_email, utf8_len

MAX_TRIGGER_PROPERTIES: Final = 51_200
"""Bytes of the encoded `trigger_properties` of one recipient."""

CREDENTIALS: Final = ("api_key", "app_group_id")
"""Members that a body may have, and of which an item would show the value to everybody."""

_ALIAS_PARTS: Final = ("alias_label", "alias_name")


# --- checks -------------------------------------------------------------------------------------


class Check(msgspec.Struct, frozen=True):
    """A test of one value: what fails it is a problem of this code, and `must` says the rule."""

    code: str
    must: str
    holds: Callable[[Any], bool]


Checks = tuple[Check, ...]
"""Checks in order; the first that does not hold is the problem."""


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_id(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, int) and not isinstance(value, bool))


def _parts(alias: Any) -> list[Any]:
    return [alias.get(part) for part in _ALIAS_PARTS] if isinstance(alias, dict) else [None]


def _fits(value: Any) -> bool:
    try:
        return len(codec.dumps(value)) <= MAX_TRIGGER_PROPERTIES
    except (TypeError, RecursionError):  # nested too deeply to be encoded, or to be taken
        return False


def one_of(*names: str, code: str) -> Checks:
    """Return the check that a value is one of these texts."""
    return (Check(code, f"one of {', '.join(names)}", names.__contains__),)


_SHORT_ID: Final = f"fewer than {MAX_EXTERNAL_ID + 1} bytes of UTF-8"
_SHORT_ALIAS: Final = f"at most {MAX_ALIAS} bytes of UTF-8"

TEXT: Final[Checks] = (Check("bad-text", "a non-empty string", _is_text),)
EXTERNAL_ID: Final[Checks] = (
    Check("bad-external-id", "a non-empty string", _is_id),
    Check("long-external-id", _SHORT_ID, lambda value: utf8_len(str(value)) <= MAX_EXTERNAL_ID),
)
BRAZE_ID: Final[Checks] = (Check("bad-braze-id", "a non-empty string", _is_text),)
EMAIL: Final[Checks] = (Check("bad-email", "an e-mail address", is_email),)
PHONE: Final[Checks] = (Check("bad-phone", "a non-empty string", _is_text),)
ALIAS: Final[Checks] = (
    Check(
        "bad-alias",
        "an object with 'alias_name' and 'alias_label', non-empty strings",
        lambda value: all(map(_is_text, _parts(value))),
    ),
    Check(
        "long-alias",
        f"an alias whose name and label are {_SHORT_ALIAS} each",
        lambda value: all(utf8_len(part) <= MAX_ALIAS for part in _parts(value)),
    ),
)
ALIAS_PART: Final[Checks] = (
    Check("bad-alias", "a non-empty string", _is_text),
    Check("long-alias", _SHORT_ALIAS, lambda value: utf8_len(value) <= MAX_ALIAS),
)
TEXTS: Final[Checks] = (
    Check(
        "bad-list",
        "a list of non-empty strings",
        lambda value: isinstance(value, list) and all(map(_is_text, value)),
    ),
)
TRIGGER_PROPERTIES: Final[Checks] = (
    Check("bad-properties", "an object", lambda value: isinstance(value, dict)),
    Check("big-trigger-properties", f"at most {MAX_TRIGGER_PROPERTIES:,} bytes", _fits),
)


# --- the shape of a row -------------------------------------------------------------------------


class Field(msgspec.Struct, frozen=True):
    """A known field of a record. A field that is null is not there."""

    name: str
    checks: Checks
    required: bool = True

    @property
    def is_id(self) -> bool:
        """Whether it holds an external id: one that is a number becomes text."""
        return self.checks is EXTERNAL_ID


class Named(msgspec.Struct, frozen=True):
    """A way in which a record names its user: the texts at `paths`, all of them.

    `sort` begins the user's key; without one the key is the one text itself, an external id.
    """

    sort: str
    paths: tuple[tuple[str, ...], ...]

    def user(self, record: Mapping[str, Any]) -> UserKey | None:
        """Return the key of the user that a record names in this way, or None."""
        texts = [_text_at(record, path, number=not self.sort) for path in self.paths]
        if not all(texts):
            return None
        if self.sort == "email":  # one mailbox, however its letters are written
            texts = [text.lower() for text in texts]
        return (self.sort, *texts) if self.sort else texts[0]


def _text_at(record: Any, path: tuple[str, ...], *, number: bool) -> str:
    for step in path:
        record = record.get(step) if isinstance(record, dict) else None
    if isinstance(record, str):
        return record
    return str(record) if number and _is_id(record) else ""


def by_id(field: str) -> Named:
    """Name a user by an external id in this field."""
    return Named("", ((field,),))


def by(sort: str, field: str = "") -> Named:
    """Name a user by the text of a field, called like the sort if not said."""
    return Named(sort, ((field or sort,),))


def by_alias(*within: str) -> Named:
    """Name a user by an alias, whose label and name stand `within` a field or in the record."""
    return Named("alias", tuple((*within, part) for part in _ALIAS_PARTS))


class Item(msgspec.Struct, frozen=True):
    """How the items of one slot are made of records.

    Without `marks` every record is such an item; with them those that have exactly one of these
    fields. `users` are the ways in which it names its user, the first that is there counts. With
    `bare` the item is the value of that field alone, else the whole record but for what is shared.
    The two fields in `differ` must not be equal.
    """

    fields: tuple[Field, ...]
    users: tuple[Named, ...]
    marks: tuple[str, ...] = ()
    bare: str = ""
    differ: tuple[str, str] | None = None


class Said(msgspec.Struct, frozen=True):
    """A member of an answer, beside `errors`, that names bad items.

    Each entry is a list, text or object that holds an index, the identifier of a user as it was
    sent, or both, with a sentence; with `ids_only` it is an identifier and nothing else. `code` and
    `reason` are for entries that give no reason of their own. With `again` every entry is also
    earned by a second copy.
    """

    member: str
    code: str
    reason: str
    again: bool = False
    ids_only: bool = False


Repeats = Literal["always", "never", "plain-attributes"]


class Row(msgspec.Struct, frozen=True):
    """A batchable endpoint as data. `items` describe its slots in their order.

    Without items its records are those of `users/track`. With `exclusive` its arrays exclude each
    other. `shared` are fields of a record that become members of the body: only records that agree
    in them share a request. `of_body` are members of the body that no record can set. `says` is how
    its answers name bad items; texts that match the pattern `again` are also earned by a second
    copy of a request that has done its work. `counts` is the member of an answer that tells for how
    many users it was done. `repeats` tells which records change nothing when they are sent twice.
    """

    endpoint: Endpoint
    items: tuple[Item, ...] = ()
    shared: tuple[Field, ...] = ()
    of_body: tuple[str, ...] = ()
    exclusive: bool = False
    says: tuple[Said, ...] = ()
    again: str = ""
    counts: str = ""
    repeats: Repeats = "always"

    @property
    def name(self) -> str:
        """Name of the row, and of the kind of its records."""
        return self.endpoint.name

    @property
    def plain(self) -> str:
        """The field that a line of plain text holds, or "" where a text alone is no record."""
        if not self.items or not self.items[0].bare or any(field.required for field in self.shared):
            return ""
        bare = self.items[0].bare
        return bare if bare in ("external_id", "email") else ""

    @property
    def names(self) -> frozenset[str]:
        """Every field name that some item of it knows."""
        fields = (field.name for item in self.items for field in item.fields)
        marks = (mark for item in self.items for mark in item.marks)
        return frozenset((*fields, *marks, *(field.name for field in self.shared)))

    @property
    def misplaced(self) -> frozenset[str]:
        """Every name that belongs to the whole request, and must not slide into an item of it."""
        return frozenset((*CREDENTIALS, *self.of_body, *self.endpoint.slots)) - self.names
