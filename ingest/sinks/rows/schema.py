"""Which records a row takes, and how one becomes an item: the one schema of all rows.

Decides what a line holds (an object, a plain id or address, a dead letter of the row), whose record
it is, what is wrong with it, and into which array it goes. Everything it knows of an endpoint is in
the `Row`. Pure.

Records of the same user key go out in their order. The key of `identify` is the external id that is
given; that of `rename` is the current id: two renames that form a chain are two users here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from ingest.codec import JSONDecodeError, dumps, loads, typed
from ingest.errors import InputError
from ingest.forms import (
    ARRAYS,
    JSON_SPACE,
    LINE_TOO_LONG,
    TOO_LONG_LINE,
    Found,
    Misformed,
    respelled,
)
from ingest.records import KINDS, Batch, Partition, UserKey
from ingest.schemas import Encoded, Judged, Schema, TrackSchema
from ingest.sinks.rows.data import Field, Item, Row
from ingest.validation import Grade, Problem, problem
from ingest.validation.problems import shown

_ID, _MAIL = "external_id", "email"

HEADINGS: Final[Mapping[str, str]] = {
    **dict.fromkeys((_ID, "external_ids", "externalid"), _ID),
    **dict.fromkeys((_MAIL, "emails", "e-mail", "email_address"), _MAIL),
    **{
        name: name
        for name in (
            *("braze_id", "appboy_id", "user_alias", "alias_name", "alias_label", "phone", "token"),
            *("user_id", "userid", "id", "uuid", "customer_id", "profile_id", "name"),
        )
    },
}
"""What the first line of a list may be that is no value, in lower case: the field that is meant. An
`id` may be anybody's: who sends it has to say."""

_MEMBERS: Final = typed(dict[str, msgspec.Raw])
_KIND: Final = re.compile(r"[a-z][a-z-]{0,30}")
"""A name of a kind that may be shown: anything else in its place might be a value."""


def schema_of(row: Row) -> Schema:
    """Return the schema of a row."""
    return RowSchema(row) if row.items else TrackSchema()


def record_of(row: Row, batch: Batch, slot: int, fragment: bytes) -> bytes:
    """Return the record as it came, encoded, of a fragment: with its field, and what it shared."""
    if not row.items:
        return fragment
    bare = row.items[slot].bare
    if bare:
        fragment = b"{%b:%b}" % (dumps(bare), fragment)
    members = batch.partition.members
    return b"{%b,%b" % (members, fragment[1:]) if members else fragment


class RowSchema:
    """Records of one row."""

    provable = False
    remembers = False

    def __init__(self, row: Row) -> None:
        self._row = row
        self._names = row.names
        self._misplaced = row.misplaced
        self._apart = row.misplaced.union(field.name for field in row.shared)

    # Reading a line

    def heading(self, line: bytes) -> bool:
        """Whether a line is the heading of a one-column list of this row.

        Raises `InputError` for that of another column: its values would be taken for ids.
        """
        plain = self._row.plain
        text = line.strip(JSON_SPACE + b'"').decode("utf-8", "replace").lower()
        if not plain or text not in HEADINGS:
            return False
        if HEADINGS[text] == plain:
            return True
        raise InputError(
            f"the first line is the heading '{text}', and a plain list for {self._row.name} holds "
            f"values of '{plain}': if these are such, call the column '{plain}'; else write "
            f"objects, such as {self._row.endpoint.example}"
        )

    def read(self, line: bytes, kind: str | None) -> Iterable[Found | Misformed]:
        """Yield what a line holds.

        `kind` does not matter: every record of a row is of the row's own kind.
        """
        line = line.strip(JSON_SPACE)
        try:
            value = loads(line)
        except JSONDecodeError:
            return self._unreadable(line)
        if isinstance(value, dict):
            try:
                return self._object(line, value)
            except RecursionError:
                return [self._bad("too-deep", "the line is nested too deeply", line)]
        if isinstance(value, str):
            return self._plain(line, value)
        if value is None or isinstance(value, list):
            what = "an array" if isinstance(value, list) else "null"
            reason = f"the line is {what}: give each record an object on a line of its own"
            return [self._bad("not-an-object", reason, line)]
        return self._plain(line, line.decode())  # a number, as it is written

    def _bad(
        self, code: str, reason: str, line: bytes, field: str = "", summary: str = ""
    ) -> Misformed:
        return Misformed(code, reason, line, self._row.name, field, summary)

    def _unreadable(self, line: bytes) -> list[Found | Misformed]:
        """Take a line that is no JSON for plain text, unless it was meant as JSON."""
        try:
            text = line.decode()
        except UnicodeDecodeError as wrong:
            reason = f"the line is not UTF-8: byte {wrong.start + 1} of it starts no character"
            return [self._bad("not-utf8", reason, line, summary="the line is not UTF-8")]
        if text.startswith(("{", "[")):
            reason = "the line is not JSON: it starts like an object, and does not end as one"
            return [self._bad("not-json", reason, line)]
        if len(text) > 1 and text.startswith('"') and text.endswith('"'):
            text = text[1:-1].replace('""', '"')
        return self._plain(line, text)

    def _plain(self, line: bytes, text: str) -> list[Found | Misformed]:
        """Take a text for the one field that is a record, if the row has such a field."""
        row = self._row
        example = row.endpoint.example
        if not row.plain:
            reason = f"a text alone is no record of {row.name}: write an object, such as {example}"
            return [self._bad("not-an-object", reason, line)]
        record = {row.plain: text}
        return [Found(row.name, record, dumps(record))]

    def _object(self, line: bytes, value: dict[str, Any]) -> Iterable[Found | Misformed]:
        names = value.keys()
        if "column" in names and self._names.isdisjoint(names):
            if "record" in names:
                return [self._dead_letter(line, value)]
            if "raw" in names:
                return self._raw_dead_letter(line, value)
        arrays = [name for name in self._row.endpoint.slots if name not in self._names]
        if any(isinstance(value.get(name), list) for name in arrays):
            reason = "the line is a whole request body: give each record a line of its own"
            return [self._bad("request-body", reason, line)]
        if self._names.isdisjoint(names) and (
            any(isinstance(value.get(name), dict) for name in KINDS)
            or any(isinstance(value.get(name), list) for name in ARRAYS)
        ):
            return [self._foreign(line, "the line is a record of users/track", "")]
        return [Found(self._row.name, value, line)]

    def _foreign(self, line: bytes, what: str, kind: str) -> Misformed:
        """Refuse what belongs to another endpoint, and say where it goes."""
        name = self._row.name
        command = f"ingest send {kind}" if kind and kind not in KINDS else "ingest import"
        reason = f"{what}, not of {name}: send it with '{command}'"
        return self._bad("wrong-kind", reason, line, "kind" if kind else "")

    def _another(self, line: bytes, kind: Any) -> Misformed | None:
        """Refuse a dead letter of another kind."""
        if kind == self._row.name:
            return None
        if isinstance(kind, str) and _KIND.fullmatch(kind) and kind != "unknown":
            return self._foreign(line, f"the dead letter is of the kind '{kind}'", kind)
        reason = (
            f"the dead letter does not say that it is of the kind '{self._row.name}': mend its "
            "'kind', or give the record alone"
        )
        return self._bad("wrong-kind", reason, line, "kind")

    def _dead_letter(self, line: bytes, value: dict[str, Any]) -> Found | Misformed:
        other = self._another(line, value.get("kind"))
        if other is not None:
            return other
        record = value["record"]
        if not isinstance(record, dict):
            return self._bad("not-an-object", "the dead letter's 'record' is no object", line)
        if value.get("column") == "held" and not self._row.endpoint.resendable:
            reason = (
                "the record was sent, and nobody knows whether it arrived: a second copy must not "
                "go out. Where it certainly did not, take 'column' out of the line, or give the "
                "record alone"
            )
            return self._bad("held-before", reason, line, "column")
        return Found(self._row.name, record, bytes(_MEMBERS.decode(line)["record"]))

    def _raw_dead_letter(self, line: bytes, value: dict[str, Any]) -> Iterable[Found | Misformed]:
        raw = value["raw"]
        if raw == "" and value.get("code") == LINE_TOO_LONG:
            # Its text was never kept: it is no more than where it stood, and still too long.
            reason = f"{TOO_LONG_LINE}; its text was not kept"
            return [self._bad(LINE_TOO_LONG, reason, b"", summary=TOO_LONG_LINE)]
        other = self._another(line, value.get("kind"))
        if other is not None:
            return [other]
        if not isinstance(raw, str) or not raw.strip():
            return [self._bad("not-json", "the dead letter's 'raw' is no text", line, "raw")]
        text = raw.encode().replace(b"\n", b" ").replace(b"\r", b" ")
        return self.read(text, None)

    # Judging a record

    def examine(self, kind: str, record: dict[str, Any], now: float, *, validate: bool) -> Judged:
        """Judge a record; `now` does not matter. An identity problem comes first of all."""
        item = self._item_of(record)
        if isinstance(item, Problem):
            return item, [item]
        needed = [*_problems(self._row.shared, record), *self._strays(item, record)]
        user = _user_of(item, record)
        if user is None:
            # Every way to name a user is a required field or a mark, so that one of them is bad.
            found = list(_problems(item.fields, record)) or [problem("missing-identity")]
            return found[0], [*found, *needed]
        if not validate:
            return user, needed
        return user, [*_problems(item.fields, record), *_equal(item, record), *needed]

    def _item_of(self, record: Mapping[str, Any]) -> Item | Problem:
        """Find the item that a record is meant as, by the fields that only one may have."""
        items = self._row.items
        if len(items) == 1 and not items[0].marks:
            return items[0]
        marks = [(item, mark) for item in items for mark in item.marks]
        given = [(item, mark) for item, mark in marks if record.get(mark) is not None]
        if len(given) == 1:
            return given[0][0]
        names = _listed([mark for _, mark in marks])
        if given:
            reason = f"only one of {names} may be given"
            return Problem(Grade.ERROR, "two-identities", given[1][1], reason)
        return Problem(Grade.ERROR, "missing-identity", "", f"one of {names} is required")

    def _strays(self, item: Item, record: Mapping[str, Any]) -> Iterator[Problem]:
        """Find fields that are not sent: those of the whole request, which no item may carry.

        An item that is one value has no place for any other field.
        """
        for name in record:
            if record[name] is None:
                continue
            if name in self._misplaced:
                code, why = "request-field", "it is a field of the whole request, not of one record"
            elif item.bare and name not in self._names:
                code, why = "unknown-field", f"{self._row.name} has no place for it"
            else:
                continue
            field = shown((name,))
            reason = f"'{field}' is not sent: {why}; take it out, or use --on-bad-field drop"
            yield Problem(Grade.ERROR, code, field, reason, "drop", (name,))

    # Encoding one

    def encode(self, found: Found, record: dict[str, Any]) -> Encoded:
        """Return the item of a good record, its slot, and what it shares with others.

        Raises `TypeError` or `RecursionError` where one is nested too deeply.
        """
        row = self._row
        item = self._item_of(record)
        assert isinstance(item, Item), "a record without a user is not encoded"
        slot = row.items.index(item)
        members = b",".join(
            b"%b:%b" % (dumps(field.name), dumps(record[field.name]))
            for field in row.shared
            if record.get(field.name) is not None
        )
        partition = Partition(row.endpoint.slots[slot] if row.exclusive else "", members)
        texts = {
            field.name: str(record[field.name])
            for field in item.fields
            if field.is_id and isinstance(record.get(field.name), int)
        }
        if item.bare:
            value = texts.get(item.bare, record[item.bare])
            return Encoded(slot, dumps(value), partition)
        if texts or not self._apart.isdisjoint(record) or record is not found.record:
            kept = {name: record[name] for name in record if name not in self._apart}
            return Encoded(slot, respelled(found, kept | texts), partition)
        return Encoded(slot, found.fragment, partition)

    def withdraw(self, encoded: Encoded) -> None:
        """Do nothing: a record leaves no trace here."""


def _user_of(item: Item, record: Mapping[str, Any]) -> UserKey | None:
    return next((user for way in item.users if (user := way.user(record)) is not None), None)


def _problems(fields: Iterable[Field], record: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what is wrong with fields: one problem at most of each."""
    for field in fields:
        name, value = field.name, record.get(field.name)
        if value is None:
            if field.required:
                reason = f"'{name}' is required"
                yield Problem(Grade.ERROR, "missing-field", name, reason, None, (name,))
            continue
        for check in field.checks:
            if not check.holds(value):
                reason = f"'{name}' must be {check.must}"
                yield Problem(Grade.ERROR, check.code, name, reason, None, (name,))
                break


def _equal(item: Item, record: Mapping[str, Any]) -> Iterator[Problem]:
    if item.differ is None:
        return
    one, other = item.differ
    if str(record.get(one)) == str(record.get(other)):
        reason = f"'{other}' must be another one than '{one}'"
        yield Problem(Grade.ERROR, "same-id", other, reason, None, (other,))


def _listed(names: list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"
