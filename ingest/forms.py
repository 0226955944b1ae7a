"""The forms in which a line may hold records: from bytes to objects of a kind.

Decides what a line is (enveloped, request-shaped, a CDI row, a dead letter, bare) and cuts the
objects out of it as they came. Does not judge whether a destination would take them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ingest.codec import JSONDecodeError, dumps, loads, typed, verbatim
from ingest.records import ATTRIBUTES, KIND_UNKNOWN, KINDS

ARRAYS: Final = {"attributes": "attributes", "events": "event", "purchases": "purchase"}
"""Arrays of a request body, and the kind of what they hold."""

CREDENTIALS: Final = frozenset(("api_key", "app_group_id", "company_secret"))
BODY_KEYS: Final = frozenset((*ARRAYS, *CREDENTIALS, "partner"))
"""Keys a ready request body may have; everything but the arrays is dropped, credentials too."""

IDENTITY_KEYS: Final = frozenset(("external_id", "user_alias", "braze_id", "email", "phone"))
ALIAS_COLUMNS: Final = (("alias_name", "alias_label"), ("user_alias_name", "user_alias_label"))
ROW_KEYS: Final = IDENTITY_KEYS | {name for pair in ALIAS_COLUMNS for name in pair} | {"payload"}

JSON_SPACE: Final = b" \t\r\n"
"""White space of JSON, which may stand around a value and is no part of it."""

_MEMBERS: Final = typed(dict[str, msgspec.Raw])
_ITEMS: Final = typed(list[msgspec.Raw])

_BARE: Final = (
    'the object says nothing of its kind: wrap it as {"attributes": ...}, {"event": ...} '
    'or {"purchase": ...}, or name the kind with --kind'
)


LINE_TOO_LONG: Final = "line-too-long"
TOO_LONG_LINE: Final = "the line has more bytes than any request may have"

REDACTED: Final = "[redacted]"
LONGEST_NAME_SHOWN: Final = 64
"""Characters of a key shown in a reason; names are data of the sender too."""

_ROW: Final = re.compile(r"[a-z]{1,20}(?:-[a-z]{1,20}){0,2}")
"""A name that a row may have; any other word might be a value."""

_RUN: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}")
"""The name of a run; any other text might be a value."""

_CREDENTIAL_NAMES: Final = tuple(name.encode() for name in sorted(CREDENTIALS))
_NAMES: Final = b"|".join(_CREDENTIAL_NAMES)
_CREDENTIAL: Final = re.compile(
    rb'("(?:%b)"\s*:[\s\[]*)(?:"(?:[^"\\]|\\.)*(?:"|\Z|(?=\\\Z))|[^\s"\[\]{},]+)' % _NAMES,
    re.DOTALL,
)
"""A credential that is a member of an object, and its value, even of a text that was cut off."""
_CREDENTIAL_IN_TEXT: Final = re.compile(
    rb'((?:%b)\\*["\']?\s*[:=]\s*\\*["\']?)[^\s"\'\\\[\]{},]+' % _NAMES
)
"""The same, of a text that is not JSON, or of one in a string: in any quotes, or in none."""


class Found(msgspec.Struct, frozen=True):
    """An object of a kind: decoded, and encoded as it came.

    `superseded` is what a dead letter of attributes says of itself: whether a later record of the
    user was delivered, None if that is not known.
    """

    kind: str
    record: dict[str, Any]
    fragment: bytes
    superseded: bool | None = False


class Misformed(msgspec.Struct, frozen=True):
    """A line, or an item of one, that holds no record. `raw` is its text as it came.

    `summary` is what `reason` says of any such line, where the reason tells of this one alone.
    """

    code: str
    reason: str
    raw: bytes
    kind: str = KIND_UNKNOWN
    field: str = ""
    summary: str = ""


def without_credentials(text: bytes, *, in_text: bool) -> bytes:
    """Return a record or a line in which members named like a credential of Braze are redacted.

    JSON stays JSON. With `in_text`, what stands inside of strings or of no JSON is redacted too.
    """
    if not any(name in text for name in _CREDENTIAL_NAMES):
        return text
    text = _CREDENTIAL.sub(rb'\1"%b"' % REDACTED.encode(), text)
    return _CREDENTIAL_IN_TEXT.sub(rb"\1%b" % REDACTED.encode(), text) if in_text else text


def records_of(line: bytes, default_kind: str | None) -> Iterator[Found | Misformed]:
    """Yield what a line holds, in order; at least one item, so that no line is uncounted."""
    line = line.strip(JSON_SPACE)
    try:
        value = loads(line)
    except JSONDecodeError as error:
        yield _unreadable(line, error)
        return
    if not isinstance(value, dict):
        yield Misformed("not-an-object", "the line is JSON, but not an object", line)
        return
    try:
        yield from _forms_of(line, value, default_kind)
    except RecursionError:
        # Met before the first object is cut out: the line as a whole is the deepest.
        yield Misformed("too-deep", "the line is nested too deeply", line)


def content_of(
    kind: str, content: bytes, line: bytes, bare: str | None = None
) -> Iterator[Found | Misformed]:
    """Yield what a line holds that is nothing but the envelope of `kind` around `content`.

    `bare` is the kind of lines that are no envelope, as this one turns out to be.
    """
    try:
        record = loads(content)
    except JSONDecodeError:
        record = None
    if isinstance(record, dict):
        yield Found(kind, record, content)
    else:
        yield from records_of(line, bare)


def respelled(found: Found, record: dict[str, Any]) -> bytes:
    """Encode `record`, made from that of `found`; what is the same in both stays as it came.

    Raises `TypeError` or `RecursionError` where something is nested too deeply.
    """
    before, slices = found.record, _slices(found.fragment)
    return dumps(
        {
            key: slices[key] if key in before and value is before[key] else value
            for key, value in record.items()
        }
    )


def flagged(fragment: bytes) -> bytes:
    """Return an encoded object, not an empty one, with the flag that it may not create a user."""
    return b'{"_update_existing_only":true,' + fragment[1:]


def _slices(fragment: bytes) -> dict[str, Any]:
    """Return the members of an encoded object, encoded as they came, for `dumps` to put in."""
    return {key: verbatim(bytes(raw)) for key, raw in _MEMBERS.decode(fragment).items()}


def _forms_of(
    line: bytes, value: dict[str, Any], default_kind: str | None
) -> Iterator[Found | Misformed]:
    if len(value) == 1 and (kind := next(iter(value))) in KINDS:
        inner = value[kind]
        if isinstance(inner, dict):
            yield Found(kind, inner, bytes(_MEMBERS.decode(line)[kind]))
            return
    names = value.keys()
    if names <= BODY_KEYS and (
        any(isinstance(value.get(name), list) for name in ARRAYS)
        or not CREDENTIALS.isdisjoint(names)
    ):
        yield from _request_shaped(line, value)
    elif "column" in names and "record" in names and IDENTITY_KEYS.isdisjoint(names):
        yield _dead_letter(line, value)
    elif "column" in names and "raw" in names and IDENTITY_KEYS.isdisjoint(names):
        yield from _raw_dead_letter(line, value, default_kind)
    elif "payload" in names and names <= ROW_KEYS:
        yield _cdi_row(line, value, default_kind)
    elif IDENTITY_KEYS.isdisjoint(names) and any(
        isinstance(value.get(name), list) for name in ARRAYS
    ):
        yield _unknown_key(line, value)
    elif default_kind is None:
        yield _kindless(line, value)
    else:
        yield Found(default_kind, value, line)


def _unknown_key(line: bytes, value: dict[str, Any]) -> Misformed:
    """Say which key keeps a line from being a ready request body."""
    name = next(name for name in value if name not in BODY_KEYS)[:LONGEST_NAME_SHOWN]
    name = "".join(c if c.isprintable() else "?" for c in name)
    array = next(name for name in ARRAYS if isinstance(value.get(name), list))
    reason = (
        f"the line is a request body by its array '{array}', but no body has a member '{name}': "
        "take that out, or give each record a line"
    )
    summary = "the line is a request body, but for a member that no body has"
    return Misformed("unknown-key", reason, line, field=name, summary=summary)


def _kindless(line: bytes, value: dict[str, Any]) -> Misformed:
    """Say why an object without a kind has none."""
    names = list(value)
    if len(names) > 1 and all(name in KINDS for name in names):
        shown = " and ".join(f"'{name}'" for name in names)
        reason = f"the line has several kinds, {shown}: give each record a line of its own"
        return Misformed("two-kinds", reason, line)
    if len(names) == 1 and (name := names[0]) in (*KINDS, *ARRAYS):
        what = "an object" if name in KINDS else "an array"
        return Misformed("not-an-object", f"'{name}' must hold {what}", line, field=name)
    return Misformed("no-kind", _BARE, line)


def _unreadable(line: bytes, error: ValueError) -> Misformed:
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        reason = f"the line is not UTF-8: byte {wrong.start + 1} of it starts no character"
        return Misformed("not-utf8", reason, line, summary="the line is not UTF-8")
    said = str(error).partition(": line")[0]
    where = f" (character {error.pos + 1})" if isinstance(error, JSONDecodeError) else ""
    reason = f"the line is not JSON: {said}{where}"
    return Misformed("not-json", reason, line, summary="the line is not JSON")


def _request_shaped(line: bytes, value: dict[str, Any]) -> Iterator[Found | Misformed]:
    """Yield the objects of a ready body. What is refused is kept without any credentials."""
    members = _MEMBERS.decode(line)
    empty = True
    for name, kind in ARRAYS.items():
        items = value.get(name)
        if items is None:
            continue
        if not isinstance(items, list):
            empty = False
            raw = dumps({name: verbatim(bytes(members[name]))})
            yield Misformed("not-an-array", f"'{name}' must be an array", raw, kind, name)
            continue
        for item, raw in zip(items, _ITEMS.decode(members[name]), strict=True):
            empty = False
            if isinstance(item, dict):
                yield Found(kind, item, bytes(raw))
            else:
                reason = f"'{name}' must hold objects only"
                yield Misformed("not-an-object", reason, bytes(raw), kind, name)
    if empty:
        kept = dumps({name: value[name] for name in value if name in ARRAYS})
        yield Misformed("nothing-to-send", "the request body holds no record", kept)


def _dead_letter(line: bytes, value: dict[str, Any]) -> Found | Misformed:
    kind, record = value.get("kind"), value["record"]
    if kind not in KINDS:
        row = kind if isinstance(kind, str) and _ROW.fullmatch(kind) else "ROW"
        reason = (
            "the dead letter's 'kind' must be attributes, event or purchase; one of a row is sent "
            f"again by  ingest send {row} FILE"
        )
        return Misformed("no-kind", reason, line, field="kind")
    if not isinstance(record, dict):
        return Misformed("not-an-object", "the dead letter's 'record' is no object", line, kind)
    if value.get("warned") is True and kind != KINDS[ATTRIBUTES]:
        reason = (
            "the record was delivered, but for a piece: sent again it would count twice. To do so "
            "all the same, take 'warned' out of the line"
        )
        return Misformed("delivered-before", reason, line, kind, "warned")
    fragment = bytes(_MEMBERS.decode(line)["record"])
    return Found(kind, record, fragment, _superseded(value, kind))


def _superseded(letter: dict[str, Any], kind: str) -> bool | None:
    """Read whether a letter is superseded: of attributes alone, for only they set values back."""
    told = letter.get("superseded", False)
    if kind != KINDS[ATTRIBUTES] or told is False:
        return False
    return True if told is True else None


def _raw_dead_letter(
    line: bytes, value: dict[str, Any], default_kind: str | None
) -> Iterator[Found | Misformed]:
    """Yield what a dead letter that was no record holds: its text may have been mended since."""
    raw, kind = value["raw"], value.get("kind")
    if raw == "" and value.get("code") == LINE_TOO_LONG:
        # Its text was never kept: it is no more than where it stood, and still too long.
        reason = value.get("reason")
        told = reason if isinstance(reason, str) else TOO_LONG_LINE
        yield Misformed(LINE_TOO_LONG, told, b"", summary=TOO_LONG_LINE)
    elif isinstance(raw, str):
        kept = kind if kind in KINDS else default_kind
        for item in records_of(_one_line(raw), kept):
            if isinstance(item, Found):
                # Its text was mended to be a record; whether it is the user's last is as it was.
                yield msgspec.structs.replace(item, superseded=_superseded(value, item.kind))
            else:
                yield _of_a_row(line, value, kept) if _is_row(value) else item
    else:
        yield Misformed("not-json", "the dead letter's 'raw' is no text", line, field="raw")


def _is_row(letter: dict[str, Any]) -> bool:
    """Whether what a raw letter holds was the row of a table, which no line can be."""
    source = letter.get("source")
    return isinstance(source, dict) and source.get("table") is True


def _of_a_row(line: bytes, letter: dict[str, Any], kind: str | None) -> Misformed:
    """Say where the row of a table is mended. The letter is kept, for it names its run."""
    run = letter.get("run")
    name = run if isinstance(run, str) and _RUN.fullmatch(run) else "RUN"
    reason = (
        "the text is a row of a table, whose columns only its header names: mend it in "
        f"rejects-{name}.csv, beside the journal of that run, or in the table, and import that"
    )
    summary = "the text is a row of a table: mend it in the rejects-RUN.csv of its run, import that"
    return Misformed("table-row", reason, line, kind or KIND_UNKNOWN, summary=summary)


def _cdi_row(line: bytes, value: dict[str, Any], default_kind: str | None) -> Found | Misformed:
    if default_kind is None:
        reason = "the row has a 'payload', but nothing says of which kind: name it with --kind"
        return Misformed("no-kind", reason, line)
    payload, members = value["payload"], _slices(line)
    content = bytes(_MEMBERS.decode(line)["payload"])
    if isinstance(payload, str):
        content = _one_line(payload)
        try:
            payload = loads(content)
        except JSONDecodeError:
            reason = "'payload' is a text that is not JSON"
            return Misformed("not-json", reason, line, default_kind, "payload")
    if not isinstance(payload, dict):
        reason = "'payload' must be an object, or the JSON text of one"
        return Misformed("not-an-object", reason, line, default_kind, "payload")
    # A row has all the columns of its table: those that are null say nothing.
    record = {key: value[key] for key in value if key in IDENTITY_KEYS and value[key] is not None}
    encoded = {key: members[key] for key in record}
    for columns in ALIAS_COLUMNS:
        if any(value.get(column) is not None for column in columns):
            parts = dict(zip(("alias_name", "alias_label"), columns, strict=True))
            record["user_alias"] = {part: value.get(column) for part, column in parts.items()}
            encoded["user_alias"] = {part: members.get(column) for part, column in parts.items()}
    encoded |= {key: raw for key, raw in _slices(content).items() if key not in record}
    record |= {key: item for key, item in payload.items() if key not in record}
    return Found(default_kind, record, dumps(encoded))


def _one_line(text: str) -> bytes:
    """Encode JSON text without line breaks: it has them between its tokens only."""
    return text.encode().replace(b"\n", b" ").replace(b"\r", b" ")
