"""What the answer to a request of any row means for its batch: the one reader of them all.

Decides which records of a batch an answer refuses, as far as the data of the row says how it names
them, and which slug a refusal has. Pure and total: any answer gives an outcome. What HTTP alone
says is left to `ingest.outcomes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from ingest import codec
from ingest.outcomes import (
    HINTS,
    Delivered,
    Invalid,
    ItemError,
    Outcome,
    Refused,
    Response,
    TooMany,
    Words,
    classify,
    remarks_of,
)
from ingest.quoting import Body, quote, read_body
from ingest.records import Batch, UserKey
from ingest.sinks.rows.data import Row, Said

GENERIC_CODE: Final = "rejected-by-destination"
"""Code of a refusal whose text is not known here."""

ANY_ARRAY: Final = "user_identifiers"
"""What some answers call the array of the request, whichever it was."""

_TOO_MANY: Final = re.compile(
    rb"(?i)max input length exceeded|per request was exceeded"
    rb"|max(?:imum)? number of [^\"]{0,100}exceeded"
)

_CODE: Final = re.compile(r"[A-Z][A-Z0-9]{1,30}(?:_[A-Z0-9]{1,30}){0,9}")
"""A code of Braze, such as EMAIL_BAD_FORMAT: short, upper case, no spaces."""

_FIELD: Final = re.compile(
    r"^'(name|time|product_id|currency|price|quantity|app_id|properties|user_alias|email|phone)'"
    r" (?:is|must|was|should)\b"
)
"""A sentence about one documented field; any other quoted word might be a value."""

_SENTENCES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), code)
    for pattern, code in (
        (r"^'external_id'.* is required", "identifier-required"),
        (r"^'external_id' must be fewer than \d+ bytes", "external-user-id-too-large"),
        (r"blacklisted and disallowed", "blacklisted-external-user-id"),
        (r"not a valid email", "email-bad-format"),
        (r"must be an ISO 4217 currency", "invalid-currency"),
        (r"^invalid 'properties' field", "invalid-properties"),
        (r"did not contain a required property", "schema-missing-property"),
        (r"did not match the following type", "schema-wrong-type"),
        (r"contains additional properties", "schema-additional-properties"),
    )
)
"""Sentences that live traffic carries instead of codes, and a stable slug for each."""

_TOLD_INDEX: Final = re.compile(r"(?i)\bindex\D{0,3}([0-9]{1,9})\b")
"""An index that a sentence names, such as "index 3"."""


def error_code(text: str) -> str:
    """Return the slug of a refusal's text, which must be free of secrets already."""
    if _CODE.fullmatch(text):
        return text.lower().replace("_", "-")
    for pattern, code in _SENTENCES:
        if pattern.search(text):
            return code
    field = _FIELD.match(text)
    return f"invalid-{field[1].replace('_', '-')}" if field else GENERIC_CODE


class _Plain(msgspec.Struct):
    """Just enough of an answer to know that all went well."""

    message: str = ""
    errors: Any = None


_decode: Final = codec.typed(_Plain).decode


def interpret_row(
    row: Row,
    batch: Batch,
    response: Response,
    *,
    secrets: Sequence[str] = (),
    hints: Mapping[int, str] = HINTS,
) -> Outcome:
    """Say what an answer to a request of a row means for its batch. Never raises."""
    status = response.status
    success = 200 <= status < 300
    if success and not row.says:
        # The answer of nearly every request costs one microsecond.
        try:
            said = _decode(response.body)
        except (codec.DecodeError, ValueError, RecursionError):
            pass  # no JSON, not UTF-8, or thousands of open brackets: each raises its own
        else:
            if said.message == "success" and not said.errors and not response.truncated:
                return Delivered(status)
    if not success and status != 400:
        return classify(response, secrets=secrets, hints=hints)
    if status == 400 and _TOO_MANY.search(response.body):
        return TooMany(status)
    body = read_body(response, secrets)
    reader = _Reader(row, batch, secrets)
    reader.read(body.fields)
    rejected = tuple(reader.rejected)
    if success:
        message = body.fields.get("message")
        done = body.fields.get(row.counts) if row.counts else None
        told = message is None and isinstance(done, int) and not response.truncated
        doubts = () if told else _doubts(response, body, message)
        short = _short(row, batch, done, rejected)
        remarks = remarks_of((*doubts, *short, *reader.unusable), secrets=secrets)
        return Delivered(status, rejected, message == "queued", remarks)
    outcome = classify(response, secrets=secrets, hints=hints, body=body)
    if isinstance(outcome, Refused) and rejected:
        return Invalid(status, rejected)
    return outcome


def _short(row: Row, batch: Batch, done: object, rejected: tuple[ItemError, ...]) -> list[Words]:
    """Say for how many users more a success would have been expected than were done."""
    if not isinstance(done, int):
        return []
    refused = {batch.columns[error.slot].keys[error.index] for error in rejected}
    missing = len(batch.users() - refused) - done
    ours = f"'{row.counts}' of the answer counts fewer than were sent and not refused"
    return [Words(ours, sort="fewer-than-sent")] * missing


def _doubts(response: Response, body: Body, message: object) -> Iterable[Words]:
    """Say what is odd about the answer of a success: it counts all the same."""
    answer = f"the answer {response.status}"
    if response.truncated:
        cut = f"{answer} was cut short: refusals of single records may be missing"
        yield Words(cut, sort="answer-cut-short")
    elif not body.is_json and not body.says:
        yield Words(f"{answer} has an empty body, and no JSON", sort="answer-empty")
    elif not body.is_json:
        yield Words(f"{answer} is no JSON", body.says, "answer-not-json")
    elif not body.says:
        yield Words(f"{answer} has no message, not even 'success'", sort="answer-without-message")
    elif message not in ("success", "queued"):
        yield Words(f"{answer} has another message than 'success'", body.says, "odd-message")


class _Entry(NamedTuple):
    """What an entry of a list of refusals holds, in whatever form it came."""

    indices: list[int]
    texts: list[str]
    aliases: list[Mapping[str, Any]]


_Users = dict[UserKey, list[tuple[int, int]]]
"""The (slot, index) of every record of a user."""


class _Reader:
    """Gathers what one answer says of single records: by index, or by identifier."""

    def __init__(self, row: Row, batch: Batch, secrets: Sequence[str]) -> None:
        self._row = row
        self._batch = batch
        self._secrets = secrets
        self._again = re.compile(row.again or r"(?!)", re.IGNORECASE)
        self._judged: dict[str, tuple[str, str, bool]] = {}
        filled = [slot for slot, column in enumerate(batch.columns) if len(column)]
        self._only = filled[0] if len(filled) == 1 else None
        self.rejected: dict[ItemError, None] = {}  # an ordered set
        self.unusable: list[Words] = []

    def read(self, fields: Mapping[str, Any]) -> None:
        """Read every list of refusals that the row may have."""
        for error in _entries(fields.get("errors")):
            self._indexed(error)
        for said in self._row.says:
            entries = _entries(fields.get(said.member))
            if said.ids_only and not isinstance(fields.get(said.member), list | None):
                self.unusable.append(Words(f"'{said.member}' of the answer is no list"))
                continue
            users = _users(self._batch) if entries else {}
            for entry in entries:
                self._named(said, entry, users)

    def _indexed(self, error: Any) -> None:
        """Read an entry of `errors`: which array, which index, and why."""
        fields = error if isinstance(error, dict) else {}
        text = error if isinstance(error, str) else _first_text(fields)
        code, reason, again = self._judge(text)
        slot, index = self._slot(fields.get("input_array")), _index(fields.get("index"))
        if slot is None or index is None or index >= len(self._batch.columns[slot]):
            self._nobodys("errors", reason)
        else:
            self.rejected[ItemError(slot, index, code, reason, already=again)] = None

    def _named(self, said: Said, value: Any, users: _Users) -> None:
        """Read an entry of another list: an identifier, an index, or both among other things."""
        entry = _Entry([], [], [])
        _gather(value, entry)
        if said.ids_only:
            entry.texts.extend(map(str, entry.indices))
            entry.indices.clear()
        rows, rest = _of_users(entry, users)
        if not said.ids_only:
            told, rest = _told(entry, rest, guess=not rows)
            if self._only is not None and told and told[0] < len(self._batch.columns[self._only]):
                rows = [(self._only, told[0])]  # surer than an id, which others may have too
        code, reason, again = said.code, said.reason, said.again
        # The longest text is the sentence: of the others one may be a value of a record.
        sentence = "" if said.ids_only else max(rest, key=len, default="")
        if sentence:
            code, reason, again = self._judge(sentence)
            code = said.code if code == GENERIC_CODE else code
        if not rows:
            self._nobodys(said.member, reason)
        for at in rows:
            self.rejected[ItemError(*at, code, reason, already=again or said.again)] = None

    def _nobodys(self, member: str, reason: str) -> None:
        ours = f"an entry of '{member}' names no record of the request"
        self.unusable.append(Words(ours, reason, f"unplaced-{member.replace('_', '-')}"))

    def _judge(self, text: str) -> tuple[str, str, bool]:
        """Return the code and the reason of a text, and whether a second copy earns it too."""
        if text not in self._judged:
            shown = quote(text, self._secrets)
            again = self._again.search(shown) is not None
            self._judged[text] = error_code(shown), shown or "no reason given", again
        return self._judged[text]

    def _slot(self, name: object) -> int | None:
        """Find the array meant; one that is not named is clear if only one was sent."""
        if name is None or name == ANY_ARRAY:
            return self._only
        return self._row.endpoint.slot_reported_as(name)


def _entries(value: Any) -> list[Any]:
    """Return a list of refusals; a single one may come without its list."""
    if not value:
        return []
    return value if isinstance(value, list) else [value]


def _gather(value: Any, entry: _Entry) -> None:
    """Sort what an entry holds: one list or object deep, for nobody sends more."""
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, dict):
            alias = part.get("user_alias")
            entry.aliases.append(alias if isinstance(alias, dict) else part)
            inner: Iterator[Any] = (
                part.get(name)
                for name in ("index", "type", "message", "reason", "error", "external_id", "id")
            )
        else:
            inner = iter((part,))
        for one in inner:
            if isinstance(one, str):
                entry.texts.append(one)
            elif (index := _index(one)) is not None:
                entry.indices.append(index)


def _of_users(entry: _Entry, users: _Users) -> tuple[list[tuple[int, int]], list[str]]:
    """Return the rows of the users that an entry names, and the texts that name none."""
    rows: list[tuple[int, int]] = []
    rest = []
    for text in entry.texts:
        if found := users.get(text) or users.get(("email", text.lower())):
            rows += found
        else:
            rest.append(text)
    for alias in entry.aliases:
        label, name = alias.get("alias_label"), alias.get("alias_name")
        if isinstance(label, str) and isinstance(name, str):
            rows += users.get(("alias", label, name), ())
    return rows, rest


def _told(entry: _Entry, texts: list[str], *, guess: bool) -> tuple[list[int], list[str]]:
    """Return the indices that an entry names, and the texts that are none.

    A text of digits is an index only at a `guess`, where nothing else names a record.
    """
    told = entry.indices or [int(m[1]) for text in texts if (m := _TOLD_INDEX.search(text))]
    if told or not guess:
        return told, texts
    numbers = {text: number for text in texts if (number := _index(text)) is not None}
    return list(numbers.values()), [text for text in texts if text not in numbers]


def _users(batch: Batch) -> _Users:
    """Return the rows of each user, by key and, where the key has one text of a sort, by that."""
    found: _Users = {}
    for slot, column in enumerate(batch.columns):
        for index, key in enumerate(column.keys):
            found.setdefault(key, []).append((slot, index))
            if isinstance(key, tuple) and len(key) == 2:
                found.setdefault(key[1], []).append((slot, index))
    return found


def _first_text(fields: Mapping[str, Any]) -> str:
    for name in ("type", "message", "reason", "error"):
        if isinstance(text := fields.get(name), str):
            return text
    return ""


def _index(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return None
