"""Records of Braze as pieces of edits of Batch CEP: what each field becomes, and what cannot be.

Decides which records are taken and what is sent of them. A fragment is the pair of the piece and
the record as it came, since a dead letter has to show the latter. Pure: `now` is an argument; what
is remembered from one record to the next is which names were used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ingest import codec
from ingest.forms import Found, Misformed, records_of
from ingest.records import KINDS, UserKey
from ingest.schemas import Encoded, Judged
from ingest.sinks.batchcep.names import SLUG_CHARS, Names, slug
from ingest.sinks.batchcep.rules import (
    CLOCK_SKEW,
    EVENT_AGE,
    MAX_ID,
    MAX_NUMBER,
    MAX_TEXT,
    UNTRANSLATABLE,
    problem,
)
from ingest.sinks.batchcep.settings import BatchCepSettings
from ingest.sinks.batchcep.times import as_date, epoch, moment, rfc3339
from ingest.sinks.batchcep.values import Work
from ingest.validation.identity import is_email
from ingest.validation.isocodes import COUNTRIES, LANGUAGES
from ingest.validation.problems import Problem

MAX_QUANTITY: Final = 100
"""Of a purchase. It stays one event: nothing there counts it more than once."""

DEPTH_TO_SPARE: Final = 200
"""Levels of nesting that a record must have to spare when it is read back, deeper in the stack."""

_PHONE: Final = re.compile(r"\+[1-9][0-9]{5,14}")
_TIME_ZONE: Final = re.compile(
    r"(?:Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Brazil|Canada|Chile|Etc|Europe"
    r"|Indian|Mexico|Pacific|US)(?:/[A-Z][A-Za-z0-9_+-]*){1,2}"
    r"|CET|CST6CDT|Cuba|EET|EST|EST5EDT|Egypt|Eire|GB|GB-Eire|GMT|GMT\+0|GMT-0|GMT0|Greenwich|HST"
    r"|Hongkong|Iceland|Iran|Israel|Jamaica|Japan|Kwajalein|Libya|MET|MST|MST7MDT|NZ|NZ-CHAT|Navajo"
    r"|PRC|PST8PDT|Poland|Portugal|ROC|ROK|Singapore|Turkey|UCT|UTC|Universal|W-SU|WET|Zulu",
    re.ASCII,
)
"""A name of the IANA database by its form: an area and a city, or one of the names without area."""
_CURRENCY: Final = re.compile(r"[A-Za-z]{3}")
_ANY_DEPTH: Final = codec.typed(msgspec.Raw)

# --- attributes ---------------------------------------------------------------------------------

_STATES: Final = {"opted_in": "subscribed", "unsubscribed": "unsubscribed"}


def _email(work: Work, name: str, value: Any) -> Any:
    if not is_email(value):
        work.add("bad-email", name)
    else:
        work.text((name,), value)
    return value


def _phone(work: Work, name: str, value: Any) -> Any:
    if not isinstance(value, str):
        work.add("bad-phone", name)
    elif work.settings.phones == "any":
        work.text((name,), value)
    elif not _PHONE.fullmatch(value):
        work.add("bad-phone", name)
    return value


def _email_subscribe(work: Work, name: str, value: Any) -> Any:
    if value == "subscribed":
        if work.settings.subscribed == "reject":
            work.add("subscribed-state", name)
        return None
    if not isinstance(value, str) or value not in _STATES:
        work.add("bad-subscription-state", name)
        return value
    return _STATES[value]


def _language(work: Work, name: str, value: Any) -> Any:
    code = value.lower() if isinstance(value, str) else ""
    if len(code) != 2 or code not in LANGUAGES:  # some codes of three letters are known to Braze
        work.add("unknown-language", name)
        return value
    return code


def _country(work: Work, name: str, value: Any) -> Any:
    code = value.upper() if isinstance(value, str) else ""
    if code not in COUNTRIES:
        work.add("unknown-country", name)
        return value
    return code


def _time_zone(work: Work, name: str, value: Any) -> Any:
    if not isinstance(value, str) or not _TIME_ZONE.fullmatch(value):
        work.add("bad-time-zone", name)
    return value


_Native = Callable[[Work, str, Any], Any]

NATIVE: Final[Mapping[str, tuple[str, _Native]]] = {
    "email": ("$email_address", _email),
    "phone": ("$phone_number", _phone),
    "email_subscribe": ("$email_marketing", _email_subscribe),
    "language": ("$language", _language),
    "country": ("$region", _country),
    "time_zone": ("$timezone", _time_zone),
}
"""Field -> its native attribute and what makes its value; a null goes as it is."""

FIELD_OF: Final = {key: name for name, (key, _) in NATIVE.items()}
"""Native attribute -> the field that it was made of."""

_DATES: Final = frozenset({"dob", "date_of_first_session", "date_of_last_session"})
"""Fields that are dates: another text would be an attribute of another type."""

_WITHOUT_COUNTERPART: Final = frozenset(
    {
        *("push_tokens", "push_subscribe", "subscription_groups", "current_location"),
        *("facebook", "twitter", "marked_email_as_spam_at"),
        *("email_open_tracking_disabled", "email_click_tracking_disabled"),
    }
)
"""A null of one of these says nothing: there is nothing to unset."""

_IDENTIFIERS: Final = frozenset({"external_id", "user_alias", "braze_id"})
_FLAGS: Final = ("_update_existing_only", "_merge_objects", "push_token_import")
"""What says how to write, and is no attribute. `_merge_objects` is about objects, which a profile
there has none of."""


def _attributes(work: Work, record: dict[str, Any], now: float | None) -> dict[str, Any]:
    piece: dict[str, Any] = {}
    used: dict[str, str] = {}
    errors, natives, customs = work.found.errors, 0, []
    for name, value in record.items():
        if name in NATIVE:
            key, translated = NATIVE[name]
            piece[key] = None if value is None else translated(work, name, value)
            natives += 1
        elif name in _WITHOUT_COUNTERPART:
            if value is not None:
                work.add("no-counterpart", name)
        elif name not in _IDENTIFIERS and name not in _FLAGS:
            before = len(errors)
            if name in _DATES and not (
                value is None or (isinstance(value, str) and as_date(value))
            ):
                work.add("bad-date", name)
            key, value = work.attribute(name, value, used)
            piece[key] = value
            if len(errors) == before:
                customs.append(name)
    for name in customs[max(0, work.settings.attributes_per_edit - natives) :]:
        work.add("too-many-attributes", name)
    return piece


# --- events and purchases -----------------------------------------------------------------------

_COMMON: Final = _IDENTIFIERS.union(_FLAGS, ("app_id", "time", "properties"))
_EVENT: Final = _COMMON | {"name"}
_PURCHASE: Final = _COMMON | {"product_id", "currency", "price", "quantity"}


def _event(work: Work, record: dict[str, Any], now: float | None) -> dict[str, Any]:
    name = record.get("name")
    if name is None:
        work.add("missing-name", "name")
    elif not isinstance(name, str) or not name:
        work.add("bad-name", "name")
    else:
        source, name = name, slug(name)
        if len(name) > SLUG_CHARS:
            work.add("long-event-name", "name")
        elif name == work.settings.purchase_event:
            work.add("purchase-event-name", "name")
        else:
            work.event_name(name, source)
    return _occurrence(work, record, now, name, {}, _EVENT)


def _purchase(work: Work, record: dict[str, Any], now: float | None) -> dict[str, Any]:
    for name in ("product_id", "currency", "price"):
        if record.get(name) is None:
            work.add("missing-field", name)
    product, currency, price = record.get("product_id"), record.get("currency"), record.get("price")
    quantity = record.get("quantity")
    if isinstance(product, int) and not isinstance(product, bool):
        product = str(product)  # one type for one attribute
    if product is not None and not (isinstance(product, str) and 0 < len(product) <= MAX_TEXT):
        work.add("bad-product-id", "product_id")
    if currency is not None and not (isinstance(currency, str) and _CURRENCY.fullmatch(currency)):
        work.add("bad-currency", "currency")
    if price is not None and not _is_price(price):
        work.add("bad-price", "price")
    if quantity is None:
        quantity = 1
    elif not _is_quantity(quantity):
        work.add("bad-quantity", "quantity")
    of_purchase = {
        "product_id": product,
        "currency": currency,
        "price": price,
        "quantity": quantity,
    }
    attributes = {name: value for name, value in of_purchase.items() if value is not None}
    return _occurrence(work, record, now, work.settings.purchase_event, attributes, _PURCHASE)


def _is_price(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and -MAX_NUMBER < value < MAX_NUMBER


def _is_quantity(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_QUANTITY


def _occurrence(
    work: Work,
    record: dict[str, Any],
    now: float | None,
    name: Any,
    attributes: dict[str, Any],
    fields: frozenset[str],
) -> dict[str, Any]:
    """Translate what events and purchases have in common. `attributes` are put in before others."""
    for other, value in record.items():
        if other not in fields and value is not None:
            work.add("no-counterpart", other)
    app_id = record.get("app_id")
    if app_id is not None:
        if isinstance(app_id, str):
            work.text(("app_id",), app_id)
        else:
            work.add("wrong-type", "app_id")
        attributes["app_id"] = app_id
    properties = record.get("properties")
    if isinstance(properties, dict):
        used = {key: key for key in attributes}
        work.properties(("properties",), properties, attributes, used)
    elif properties is not None:
        work.add("bad-properties", "properties")
    piece: dict[str, Any] = {"name": name}
    time = _time(work, record.get("time"), now)
    if time is not None:
        piece["time"] = time
    if attributes:
        piece["attributes"] = attributes
    return piece


def _time(work: Work, time: Any, now: float | None) -> Any:
    """Return a time in UTC; one that is none as it came. Without `now` no age is judged."""
    if time is None:
        work.add("missing-time", "time")
        return None
    at = moment(time) if isinstance(time, str) else None
    if at is None:
        work.add("bad-time", "time")
        return time
    if now is not None:
        age = now - epoch(at)
        if age > EVENT_AGE:
            work.add("event-too-old", "time")
        elif age < -CLOCK_SKEW:
            work.add("event-in-future", "time")
    return rfc3339(at)


# --- the schema ---------------------------------------------------------------------------------

_TRANSLATED: Final = dict(zip(KINDS, (_attributes, _event, _purchase), strict=True))


def identify(record: Mapping[str, Any]) -> UserKey | Problem:
    """Return the custom id of a record, or what is wrong with its identity."""
    if record.get("push_token_import") is True:
        return problem("push-token-import", "push_token_import")
    external_id = record.get("external_id")
    others = [name for name in ("user_alias", "braze_id") if record.get(name) is not None]
    if external_id is None:
        others += (name for name in ("email", "phone") if record.get(name) is not None)
        return problem("unsupported-identity", others[0]) if others else problem("missing-identity")
    if isinstance(external_id, int) and not isinstance(external_id, bool):
        return str(external_id)
    if not isinstance(external_id, str) or not external_id:
        return problem("bad-external-id", "external_id")
    return external_id


def _identity_doubts(work: Work, record: Mapping[str, Any], key: UserKey) -> None:
    """Note what is wrong with a record that has an identity."""
    for name in ("user_alias", "braze_id"):
        if record.get(name) is not None:
            work.add("two-identities", name)
    if len(key) > MAX_ID:
        work.add("long-external-id", "external_id")
    if record.get("_update_existing_only") is True:
        work.add("update-only", "_update_existing_only")
    for name in _FLAGS:
        if record.get(name) is not None and not isinstance(record[name], bool):
            work.add("bad-flag", name)


class _Translated(NamedTuple):
    """A record, by identity, what it became, and what was found and claimed on the way."""

    record: dict[str, Any]
    piece: dict[str, Any]
    work: Work


class BatchCepSchema:
    """Records of Braze's objects, translated. Remembers the names of one run."""

    provable = False
    remembers = True  # names: the first that becomes a name has it for the run

    def __init__(self, settings: BatchCepSettings, names: Names | None = None) -> None:
        self._settings = settings
        self._urls = frozenset(map(slug, settings.urls))
        self._names = names or Names()
        # To judge is to translate, and a good record is encoded right after it was judged: without
        # this each would be translated twice. It is known by identity (it is held here, so that no
        # other object can be it); for any other record `encode` translates again.
        self._judged: _Translated | None = None
        self._encoded: tuple[Encoded, list[tuple[str, str]]] | None = None

    def read(self, line: bytes, kind: str | None) -> Iterable[Found | Misformed]:
        """Yield what a line holds."""
        return records_of(line, kind)

    def heading(self, line: bytes) -> bool:
        """Return False: every line is meant as a record."""
        return False

    def examine(self, kind: str, record: dict[str, Any], now: float, *, validate: bool) -> Judged:
        """Judge a record by whether it can be translated, and by what the destination takes."""
        key = identify(record)
        if isinstance(key, Problem):
            return key, [key]
        self._judged = translated = self._translated(kind, record, now)
        _identity_doubts(translated.work, record, key)
        found = translated.work.found.all()
        if not validate and found:
            found = [problem for problem in found if problem.code in UNTRANSLATABLE]
        return key, found

    def encode(self, found: Found, record: dict[str, Any]) -> Encoded:
        """Return the pair of the piece that is sent, and the record as it came.

        From here on its names are taken, unless `withdraw` gives them back. Raises `TypeError` or
        `RecursionError` for what is nested too deeply.
        """
        translated, self._judged = self._judged, None
        if translated is None or translated.record is not record:
            translated = self._translated(found.kind, record, None)
        pair = b"[%b,%b]" % (codec.dumps(translated.piece), found.fragment)
        if record is not found.record:
            # What made it too deep may be mended, and the record as it came has to be read again.
            _ANY_DEPTH.decode(b"[" * DEPTH_TO_SPARE + pair + b"]" * DEPTH_TO_SPARE)
        encoded = Encoded(KINDS.index(found.kind), pair)
        claims = translated.work.claims.items()
        taken = [
            (space, short)
            for (space, short), name in claims
            if self._names.claim(space, short, name)
        ]
        self._encoded = (encoded, taken)
        return encoded

    def withdraw(self, encoded: Encoded) -> None:
        """Give back the names that a record took: it is not sent after all.

        Only the record that was encoded last can be withdrawn; for any other nothing happens.
        """
        if self._encoded is not None and self._encoded[0] is encoded:
            for space, short in self._encoded[1]:
                self._names.release(space, short)
            self._encoded = None

    def _translated(self, kind: str, record: dict[str, Any], now: float | None) -> _Translated:
        work = Work(self._settings, self._urls, self._names)
        return _Translated(record, _TRANSLATED[kind](work, record, now), work)
