"""What people say of columns: a mapping file, already parsed, and lists such as `zip=string`.

Decides which keys there are and what they may hold; every complaint names the key, and what is
allowed. It knows no header: whether a column is there, `ingest.columns.layout` sees.

    kind = "event"                       # attributes, event, purchase
    timezone = "Europe/Paris"            # of times that name no zone
    null_text = "null"                   # the text that unsets; "" for none

    [columns.user_id]                    # by the name in the header
    to = "external_id"                   # another name, or a path: "properties.genre"
    type = "string"                      # string, number, integer, boolean, json, date
    on_bad_field = "drop"                # or "reject": a cell that is not of the type
    [columns.internal]
    drop = true

    [constants]                          # the same value in every object
    "properties.source" = "import"
    [templates]                          # text made of other columns of the row
    name = "{event}"
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any, Final

import msgspec

from ingest.columns.cells import ALSO, INT64, TYPES, VALUE
from ingest.columns.names import PAYLOAD, called, fault_of, is_note, is_text
from ingest.errors import ConfigError
from ingest.records import KINDS

NULL_TEXT: Final = "null"
ON_BAD_FIELD: Final = ("reject", "drop")
VERSION: Final = 1
"""Of the form of a saved plan."""

_KEYS: Final = ("kind", "timezone", "null_text", "columns", "constants", "templates")
_SAVED: Final = ("v", "typed")
_COLUMN_KEYS: Final = ("to", "type", "drop", "on_bad_field")
_PLURALS: Final = {"events": "event", "purchases": "purchase"}
_PART: Final = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|([^{}]+)|([{}])")


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said of one column; None and "reject" where nothing is."""

    to: str | None = None
    type: str | None = None
    drop: bool = False
    on_bad_field: str = "reject"


class Rules(msgspec.Struct, frozen=True):
    """A mapping: `constants` by their dotted names, `templates` as they were written.

    `saved` tells that it is a saved plan. `by_types` are the columns that --types alone speaks of;
    with `elsewhere` a column that is not in the table is meant for another one.
    """

    saved: bool = False
    by_types: frozenset[str] = frozenset()
    elsewhere: bool = False
    kind: str | None = None
    timezone: str | None = None
    null_text: str | None = None
    typed: bool = False
    columns: dict[str, Told] = {}
    constants: dict[str, Any] = {}
    templates: dict[str, str] = {}


class Piece(msgspec.Struct, frozen=True):
    """A piece of a template: a text as it is, or the name of the column whose cell stands there."""

    text: str = ""
    column: str | None = None


def kind_of(value: object, where: str) -> str:
    """Return a kind, also from its plural. Raises `ConfigError`."""
    kind = _PLURALS.get(value, value) if isinstance(value, str) else None
    if kind not in KINDS:
        raise ConfigError(f"{where} must be one of {', '.join(KINDS)}")
    return kind


def type_of(value: object, where: str) -> str:
    """Return the name of a type, also from another name people write. Raises `ConfigError`."""
    name = value.strip().lower() if isinstance(value, str) else ""
    name = ALSO.get(name, name)
    if name not in (*TYPES, VALUE):
        raise ConfigError(f"{where} must be one of {', '.join(TYPES)}")
    return name


def parsed_types(text: str) -> dict[str, str]:
    """Read `zip=string,joined=date` as column -> type. Raises `ConfigError`."""
    found: dict[str, str] = {}
    for piece in filter(None, map(str.strip, text.split(","))):
        name, equals, given = (part.strip() for part in piece.rpartition("="))
        if not equals or not name:
            raise ConfigError("--types is a list of COLUMN=TYPE, such as zip=string,joined=date")
        if name in found:
            raise ConfigError(f"--types names the column {called(name)} twice")
        found[name] = type_of(given, f"the type of {called(name)} in --types")
    return found


def parsed_rules(raw: Mapping[str, Any]) -> Rules:
    """Check a mapping, or a saved plan. Raises `ConfigError` with the key and what is allowed."""
    _only(raw, (*_KEYS, *_SAVED), "the mapping", _KEYS)
    if raw.get("v", VERSION) != VERSION:
        raise ConfigError(f"the mapping is of another version: this program reads v = {VERSION}")
    kind = kind_of(raw["kind"], "'kind' of the mapping") if "kind" in raw else None
    columns = {name: _column(name, told, kind) for name, told in _table(raw, "columns").items()}
    return Rules(
        saved="v" in raw,
        kind=kind,
        timezone=_text(raw, "timezone"),
        null_text=_text(raw, "null_text"),
        typed=_flag(raw, "typed", "the mapping"),
        columns=columns,
        constants=dict(_constants(_table(raw, "constants"), kind)),
        templates=_templates(_table(raw, "templates"), kind),
    )


def pieces_of(template: str, where: str) -> tuple[Piece, ...]:
    """Cut a template at its columns: "{first} {last}"; a brace itself is written twice.

    Raises `ConfigError` for a brace alone, and for a template without a column.
    """
    found: list[Piece] = []
    for part in _PART.finditer(template):
        column, text, stray = part.groups()
        if stray:
            raise ConfigError(f"{where} has a brace alone: write {{{{ or }}}} for the brace itself")
        found.append(Piece(column=column) if column else Piece(text=text or part[0][0]))
    if all(piece.column is None for piece in found):
        raise ConfigError(
            f"{where} names no column, such as {{event}}: what is fixed is a constant"
        )
    return tuple(found)


def _only(raw: Mapping[str, Any], known: tuple[str, ...], of: str, shown: tuple[str, ...]) -> None:
    for key in raw:
        if key not in known:
            raise ConfigError(f"{of} has a key {called(key)}: it may have {', '.join(shown)}")


def _table(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = raw.get(key, {})
    if not isinstance(table, dict):
        raise ConfigError(f"'{key}' of the mapping must be a table")
    return table


def _text(raw: Mapping[str, Any], key: str) -> str | None:
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"'{key}' of the mapping must be a text")
    return value


def _flag(raw: Mapping[str, Any], key: str, of: str) -> bool:
    value = raw.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(f"'{key}' of {of} must be true or false")
    return value


def _column(name: str, raw: Any, kind: str | None) -> Told:
    of = f"[columns] {called(name)} of the mapping"
    if not isinstance(raw, dict):
        raise ConfigError(f"{of} must be a table with {', '.join(_COLUMN_KEYS)}")
    _only(raw, _COLUMN_KEYS, of, _COLUMN_KEYS)
    drop, to = _flag(raw, "drop", of), raw.get("to")
    if drop and len(raw) > 1:
        raise ConfigError(f"{of} is dropped: 'drop' goes with no other key")
    if to is not None:
        _check_target(to, f"'to' of {of}", kind)
    bad = raw.get("on_bad_field", "reject")
    if bad not in ON_BAD_FIELD:
        raise ConfigError(f"'on_bad_field' of {of} must be one of {', '.join(ON_BAD_FIELD)}")
    given = type_of(raw["type"], f"'type' of {of}") if "type" in raw else None
    return Told(to, given, drop, bad)


def _check_target(name: object, where: str, kind: str | None) -> None:
    if not isinstance(name, str):
        raise ConfigError(f"{where} must be a text")
    kind = kind or "attributes"
    if (fault := fault_of(name, kind)) is not None:
        raise ConfigError(f"{where} {fault}")
    if is_note(name, kind):
        raise ConfigError(f"{where} begins with an underscore: nothing is sent under such a name")


def _templates(raw: Mapping[str, Any], kind: str | None) -> dict[str, str]:
    for name, template in raw.items():
        where = f"[templates] {called(name)} of the mapping"
        _check_target(name, where, kind)
        if not isinstance(template, str):
            raise ConfigError(f"{where} must be a text such as {{event}}")
        pieces_of(template, where)
    return dict(raw)


def _constants(raw: Mapping[str, Any], kind: str | None, above: str = "") -> dict[str, Any]:
    """Flatten tables to dotted names: so both `a.b = 1` and `"a.b" = 1` are the same constant."""
    found: dict[str, Any] = {}
    for key, value in raw.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            inner = _constants(value, kind, f"{name}.")
        else:
            where = f"[constants] {called(name)} of the mapping"
            _check_target(name, where, kind)
            if name == PAYLOAD:
                raise ConfigError(f"{where}: a payload differs from row to row")
            inner = {name: _plain(value, where)}
        for twice in inner.keys() & found.keys():
            raise ConfigError(f"[constants] of the mapping has {called(twice)} twice")
        found |= inner
    return found


def _plain(value: Any, where: str) -> Any:
    """Return a value as JSON has it: TOML's dates become text."""
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case str() if is_text(value):
            return value
        case bool():
            return value
        case int() if value in INT64:
            return value
        case float() if math.isfinite(value):
            return value
        case list():
            return [_plain(item, where) for item in value]
        case dict() if all(isinstance(key, str) and is_text(key) for key in value):
            return {key: _plain(item, where) for key, item in value.items()}
    raise ConfigError(f"{where} must be a text, a number, true or false, or an array of those")
