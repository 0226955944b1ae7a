"""Cells of tables that have types of their own: from Python values to what JSON can hold.

Decides how a value of such a table is written, by the type that the plan gives its column. Text in
a column that is told to be something else is read as the text of a CSV cell is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time, tzinfo
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from ingest.codec import dumps, verbatim
from ingest.columns.cells import INT64, VALUE
from ingest.columns.fragments import Field, Unfit, encoded_texts
from ingest.errors import IngestError

LONGEST_PLAIN: Final = 80
"""Digits before or after the point that are written out: tables have decimals of 76."""

_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
"""Types that are written by the column, as long as none is infinite."""
_TEXTS: Final = frozenset({str, type(None)})


class NotJson(IngestError):
    """A value of a table has no form in JSON."""


def plain(value: Any, zone: tzinfo | None = None) -> Any:
    """Return a value as `dumps` takes it. Raises `NotJson`.

    Times get the offset of `zone` where they have none. None and NaN, which tables have for what
    is missing, are None; infinity, bytes that are no text, and what nobody knows are refused.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if math.isinf(value):
                raise NotJson
            return None if math.isnan(value) else value
        case datetime():
            if value.tzinfo is None and zone is not None:
                value = value.replace(tzinfo=zone)
            return value.isoformat()
        case date() | time():
            return value.isoformat()
        case Decimal():
            if value.is_nan():
                return None
            if math.isinf(float(value)):
                raise NotJson
            return verbatim(_decimal(value).encode())
        case UUID():
            return str(value)
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise NotJson from None
        case Mapping():
            # A struct has all of its fields in every row: those without a value are not there.
            found = ((_key(key), plain(item, zone)) for key, item in value.items())
            return {key: item for key, item in found if item is not None}
        case list() | tuple():
            return [plain(item, zone) for item in value]
    raise NotJson


def _decimal(value: Decimal) -> str:
    """Return a finite number as JSON has it, without an exponent unless it is a huge one."""
    return format(value, "f") if abs(value.adjusted()) <= LONGEST_PLAIN else str(value)


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise NotJson
    return key


def texts_of(values: Sequence[Any]) -> list[str]:
    """Return values as cells of text, "" for those that are missing or that are no scalar."""
    return [v if type(v) is str else _text_of(v) or "" for v in values]


def _is_missing(value: Any) -> bool:
    match value:
        case None:
            return True
        case float():
            return math.isnan(value)
        case Decimal():
            return value.is_nan()
    return False


def _text_of(value: Any) -> str | None:
    """Return a scalar as the text a person would write; None for what is none or is missing."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < INT64.stop:
            return str(int(value))
        case Decimal() if value.is_finite():
            return _decimal(value)
        case int() | float() | date() | time() | UUID() | bytes():
            try:
                return str(plain(value))
            except NotJson:
                return None
    return None


def value_fragments(
    field: Field, values: Sequence[Any], zone: tzinfo | None, unfit: dict[int, Unfit]
) -> list[bytes]:
    """Return what each value of a column becomes; b"" for None, and for what `unfit` notes."""
    types = set(map(type, values))
    if (field.kind == VALUE and types <= _PLAIN) or (field.kind == "string" and types <= _TEXTS):
        infinite = any(math.isinf(value) for value in values if type(value) is float)
        with suppress(TypeError):
            if not infinite:
                # None and NaN alike are null now: no value.
                missing = {field.prefix + b"null"}
                if field.kind == "string":
                    missing.add(field.prefix + b'""')
                pieces = encoded_texts(field.prefix, values)
                return [b"" if piece in missing else piece for piece in pieces]
    found: list[bytes] = []
    for i, value in enumerate(values):
        written = b"" if _is_missing(value) else _written(field, value, zone)
        if written is None:
            field.refuse(i, value, unfit)
        found.append(field.prefix + written if written else b"")
    return found


def _written(field: Field, value: Any, zone: tzinfo | None) -> bytes | None:
    """Return a value, not a missing one, encoded; b"" to leave it out, None where it is unfit."""
    composite = isinstance(value, (Mapping, list, tuple))
    try:
        if field.kind == VALUE or (field.kind == "json" and composite):
            return dumps(plain(value, zone))
        if field.takes_objects and composite:
            return dumps(dumps(plain(value, zone)).decode())
    except (NotJson, TypeError, RecursionError):
        return None
    text = _text_of(value)
    if text is None:
        return None
    return field.written(text) if text else b""
