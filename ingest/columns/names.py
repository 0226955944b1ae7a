"""What the name of a column makes of it: whose record it is, a field, or nothing.

Decides the path of a name inside the object of a kind, the types that a documented field has, and
which names are of ids, phones and postal codes. It knows no cell.
"""

from __future__ import annotations

import re
from typing import Final

from ingest.validation.problems import shown

Path = tuple[str, ...]
"""The keys that lead to a value in an object; () for a column of which nothing is sent."""

IDENTITY: Final = ("external_id", "user_alias", "braze_id", "email", "phone")
"""What names a user, in the order in which an object begins with it."""

PRIMARIES: Final = frozenset(IDENTITY[:3])
ALIAS: Final = "user_alias"
PAYLOAD: Final = "payload"

_ALIASES: Final = {
    name: (ALIAS, name.removeprefix("user_"))
    for name in ("alias_name", "alias_label", "user_alias_name", "user_alias_label")
}
ALIAS_PARTS: Final = ((ALIAS, "alias_name"), (ALIAS, "alias_label"))

_UPDATE: Final = "_update_existing_only"
FLAGS: Final = {
    "attributes": frozenset({_UPDATE, "_merge_objects"}),
    "event": frozenset({_UPDATE}),
    "purchase": frozenset({_UPDATE}),
}
"""Names that begin with an underscore and are the destination's own. All the others are notes of
people and tools (`_reason`, `_line`), of which nothing is sent."""

_COMMON: Final = {"time": "date", "app_id": "string", "properties": "json"}
_TEXTS: Final = (
    *("first_name", "last_name", "country", "language", "gender", "home_city", "time_zone"),
    *("image_url", "email_subscribe", "push_subscribe", "app_id"),
)
FIELDS: Final[dict[str, dict[str, str]]] = {
    "attributes": dict.fromkeys(_TEXTS, "string"),
    "event": {"name": "string", **_COMMON},
    "purchase": {
        "product_id": "string",
        "currency": "string",
        "price": "number",
        "quantity": "integer",
        **_COMMON,
    },
}
"""Kind -> its documented fields whose type is known without a look at a cell."""

MOST_STEPS: Final = 32
"""Names between dots in one header: nobody nests deeper, and decoders end at some depth."""

_KEPT: Final = {"updated_at"}
"""Columns that every CDI table has, in any case, and of which nothing is sent."""

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_TEXT_WORDS: Final = frozenset(
    (
        *("id", "ids", "uid", "uids", "uuid", "guid", "gaid", "idfa", "idfv", "imei", "msisdn"),
        *("isbn", "ean", "upc", "gtin", "sku", "barcode", "iban", "bic", "vat", "ssn"),
        *("phone", "phones", "telephone", "tel", "mobile", "cellphone", "fax"),
        *("zip", "zipcode", "postal", "postcode", "postalcode", "plz"),
    )
)
_RUN_ON: Final = re.compile(
    r"(?:user|customer|client|member|account|contact|order|product|item|session|device|external"
    r"|transaction|store|shop)ids?|(?:phone|mobile)(?:no|num|number)|zip(?:code)?\d?",
    re.IGNORECASE,
)


def called(name: str) -> str:
    """Return a name of a column as it may stand in a sentence: clipped, printable, in quotes."""
    return f"'{shown((name,))}'"


def field_of(path: Path) -> str:
    """Return a path as reports show it: "properties.genre"."""
    return shown(path)


def stays_text(path: Path) -> bool:
    """Tell whether a name is of an id, a phone number or a postal code: digits, and no number."""
    words = [word.lower() for word in _WORD.findall(path[-1])]
    return not _TEXT_WORDS.isdisjoint(words) or any(map(_RUN_ON.fullmatch, words))


def is_note(name: str, kind: str) -> bool:
    """Tell whether a column is a note of people or tools, of which nothing is sent."""
    return name.startswith("_") and name not in FLAGS[kind]


def is_kept_by_cdi(name: str) -> bool:
    """Tell whether a column beside a payload is one that CDI itself reads and does not send."""
    return name.lower() in _KEPT


def path_of(name: str, kind: str) -> Path:
    """Return where a column, a constant or a template of that name goes in an object of `kind`.

    A dot nests. In an event or a purchase, what is neither documented nor an identifier is a
    property: the destination would drop it elsewhere, in silence. The path of a path is itself.
    """
    if name in _ALIASES:
        return _ALIASES[name]
    steps = tuple(name.split("."))
    top = steps[0]
    if kind == "attributes" or top in IDENTITY or top in FLAGS[kind] or name == PAYLOAD:
        return steps
    return steps if top in FIELDS[kind] else ("properties", *steps)


def is_text(name: str) -> bool:
    """Tell whether a text can be written at all: it has no half of a character."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def fault_of(name: str, kind: str) -> str | None:
    """Return why nothing can be called `name`, as the end of a sentence, or None."""
    steps = name.split(".")
    if not all(steps):
        return "has an empty name, or one between its dots"
    if not is_text(name):
        return "has a name that is no valid text"
    if len(steps) > MOST_STEPS:
        return f"nests deeper than {MOST_STEPS} names"
    if steps[0] in IDENTITY and len(steps) > 1 and path_of(name, kind) not in ALIAS_PARTS:
        return f"nests inside of '{steps[0]}', which holds no such thing"
    return None


def fixed_type(path: Path, kind: str, *, typed: bool) -> tuple[str, str] | None:
    """Return the type that a path has whatever its cells hold, and why; or None.

    In a table with types of its own (`typed`), what an id or a postal code is need not be guessed.
    """
    if path == (ALIAS,):
        return "json", "an alias, its name and its label together"
    if path[0] in IDENTITY:
        return "string", "says whose record it is"
    if path == (PAYLOAD,):
        return "string", "the object, as cloud data ingestion has it"
    if len(path) == 1 and path[0] in FLAGS[kind]:
        return "boolean", "a switch of the destination"
    if len(path) == 1 and (given := FIELDS[kind].get(path[0])) is not None:
        return given, "a documented field"
    if not typed and stays_text(path):
        return "string", "ids, phones and postal codes stay text"
    return None
