"""What is wrong with one attributes, event or purchase object, and whose it is.

This module decides which documented errors an object earns (sentences and codes as the destination
words them) and resolves its identity. It knows nothing of requests, counts or profiles.

It is an opinion of its own on purpose: it shares no code with the pipeline's validation, so that a
mistake in one is seen by the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from ingest.codec import dumps
from ingest.records import ATTRIBUTES, UserKey

Object = dict[str, Any]

EXTERNAL_ID_BYTES: Final = 987
ALIAS_BYTES: Final = 236
NAME_CHARS: Final = 255
QUANTITY_MAX: Final = 100
EVENT_PROPERTIES_BYTES: Final = 102_400
PURCHASE_PROPERTIES_BYTES: Final = 51_200
DEVICE_ID_BYTES: Final = (8, 255)

MISSING_IDENTIFIER: Final = (
    "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"
)
TWO_IDENTIFIERS: Final = "only one of 'external_id', 'braze_id' or 'user_alias' may be given"
NOT_A_STRING: Final = "'{}' must be a string"
EXTERNAL_ID_TOO_LONG: Final = "'external_id' must be fewer than 988 bytes"
BAD_ALIAS: Final = (
    "'user_alias' must have an 'alias_name' and an 'alias_label' of 1 to 236 bytes each"
)
BAD_EMAIL: Final = "The value provided for the 'email' field is not a valid email."
REQUIRED: Final = "'{}' is required"
NOT_VALID: Final = "'{}' is not valid"
BAD_PROPERTIES: Final = "Invalid 'properties' field"
BAD_CURRENCY: Final = "'currency' must be an ISO 4217 currency"
NOT_AN_OBJECT: Final = "must be an object"
TOO_DEEP: Final = "the object is nested too deeply"
SANDBOX_REJECT: Final = "refused because of its '_sandbox_reject'"

REJECT_KEY: Final = "_sandbox_reject"
"""Test aid: an object that carries this key earns an error, worded by its value if a string."""
POISON_KEY: Final = "_sandbox_poison"
"""Test aid: an object that carries this key fails its whole request, `"400"` or `"500"`."""

_EVENT_RESERVED: Final = frozenset({"time", "event_name"})
_PURCHASE_RESERVED: Final = frozenset(
    {"time", "event_name", "product_id", "quantity", "price", "currency"}
)
_SUBSCRIPTIONS: Final = frozenset({"opted_in", "subscribed", "unsubscribed"})
_GROUP_STATES: Final = frozenset({"subscribed", "unsubscribed"})

_COLON_MILLIS: Final = re.compile(r"(?<=\d\d:\d\d:\d\d):(?=\d{3})")
_SPACED_OFFSET: Final = re.compile(r" (?=[+-]\d\d:?\d\d$)")
_SLASHED: Final = re.compile(r"(\d\d)/(\d\d)/(\d{4})")
_UNIX_STYLE: Final = re.compile(r"[A-Z][a-z]{2} \w{2,3} \d\d \d\d:\d\d:\d\d[. ]\S+ \d{4}")


def canonical(value: Any) -> bytes:
    """Encode a decoded JSON value compactly: the same object sent again gives the same bytes.

    Blanks, escapes and forms of numbers make no difference; the order of keys does, because sorting
    would cost more than all else that is done with an object, and a copy has the order it had.
    Raises `TypeError` for a value nested some 250 levels deep.
    """
    return dumps(value)


def key_of(obj: Mapping[str, Any]) -> UserKey | None:
    """Return the resolved identity of an object, or None when it has none that can be used."""
    external_id = obj.get("external_id")
    if external_id is not None:
        return external_id if type(external_id) is str and external_id else None
    alias = obj.get("user_alias")
    if alias is not None:
        return _alias_key(alias)
    for field in ("braze_id", "email", "phone"):
        value = obj.get(field)
        if value is not None:
            return (field, value) if type(value) is str and value else None
    tokens = obj.get("push_tokens")
    if obj.get("push_token_import") is True and type(tokens) is list and tokens:
        token = tokens[0].get("token") if type(tokens[0]) is dict else None
        return ("push_token", token) if type(token) is str and token else None
    return None


def check(slot: int, obj: Any, key: UserKey | None) -> list[str]:
    """Return the errors of an object of this slot, in the destination's words; empty if none.

    `key` is what `key_of` said of it. Sizes of properties are left to `oversized`.
    """
    if type(obj) is not dict:
        return [NOT_AN_OBJECT]
    errors: list[str] = []
    # The usual object names one external id that is short in any encoding: nothing to look into.
    if not (
        type(key) is str
        and len(key) <= EXTERNAL_ID_BYTES // 4
        and "user_alias" not in obj
        and "braze_id" not in obj
        and "push_token_import" not in obj
    ):
        _check_identity(slot, obj, key, errors)
    _CHECKS[slot](obj, errors)
    return errors


def oversized(slot: int, obj: Object, nbytes: int) -> bool:
    """True when the properties of an object of `nbytes` encoded bytes exceed their limit."""
    limit = PROPERTIES_BYTES[slot]
    if nbytes <= limit:
        return False
    return len(dumps(obj.get("properties"))) > limit


PROPERTIES_BYTES: Final = (1 << 62, EVENT_PROPERTIES_BYTES, PURCHASE_PROPERTIES_BYTES)
"""Limit of `properties` by slot; attributes have none, their sizes are the store's affair."""


def reject_errors(obj: Any) -> list[str]:
    """Return the error that an object asks for by `_sandbox_reject`, if it does."""
    value = _aid(obj, REJECT_KEY)
    if value is None:
        return []
    return [value if type(value) is str and value else SANDBOX_REJECT]


def poison_of(obj: Any) -> str | None:
    """Return the status that an object asks for by `_sandbox_poison`, as a string."""
    value = _aid(obj, POISON_KEY)
    return None if value is None else str(value)


def _aid(obj: Any, name: str) -> Any:
    if type(obj) is not dict:
        return None
    if name in obj:
        return obj[name]
    properties = obj.get("properties")
    return properties.get(name) if type(properties) is dict else None


def valid_time(value: Any) -> bool:
    """True for a time in one of the documented forms. A time without zone is UTC."""
    if type(value) is not str:
        return False
    if _is_iso(value):
        return True
    if slashed := _SLASHED.fullmatch(value):
        month, day, year = slashed.groups()
        return _is_iso(f"{year}-{month}-{day}")
    if _UNIX_STYLE.fullmatch(value):
        return True
    return _is_iso(_SPACED_OFFSET.sub("", _COLON_MILLIS.sub(".", value)))


def _is_iso(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def valid_email(value: Any) -> bool:
    """True for something@domain.tld without blanks; the destination's own rule is not public."""
    if type(value) is not str:
        return False
    local, at, domain = value.rpartition("@")
    return (
        bool(local and at)
        and "@" not in local
        and "." in domain
        and domain[0] not in ".-"
        and domain[-1] not in ".-"
        and ".." not in value
        and not any(map(str.isspace, value))
    )


def _alias_key(alias: Any) -> UserKey | None:
    if type(alias) is not dict:
        return None
    name, label = alias.get("alias_name"), alias.get("alias_label")
    for part in (name, label):
        if type(part) is not str or not part:
            return None
    return ("alias", str(label), str(name))


def _check_identity(slot: int, obj: Object, key: UserKey | None, errors: list[str]) -> None:
    primaries = [
        name for name in ("external_id", "user_alias", "braze_id") if obj.get(name) is not None
    ]
    if len(primaries) > 1:
        errors.append(TWO_IDENTIFIERS)
        return
    importing = slot == ATTRIBUTES and obj.get("push_token_import") is True
    if importing and "user_alias" not in primaries:
        # A malformed token list earns its own error, with the other fields.
        if primaries or not obj.get("push_tokens"):
            errors.append("BAD_PUSH_TOKEN_IMPORT")
        return
    match primaries:
        case ["user_alias"]:
            if key is None or any(len(part.encode()) > ALIAS_BYTES for part in key[1:]):
                errors.append(BAD_ALIAS)
        case [name]:
            value = obj[name]
            if type(value) is not str:
                errors.append(NOT_A_STRING.format(name))
            elif not value:
                errors.append(MISSING_IDENTIFIER)
            elif name == "external_id" and len(value.encode()) > EXTERNAL_ID_BYTES:
                errors.append(EXTERNAL_ID_TOO_LONG)
        case _:
            if key is None:
                errors.append(MISSING_IDENTIFIER)
            elif key[0] == "email" and not valid_email(key[1]):
                errors.append(BAD_EMAIL)


def _check_attributes(obj: Object, errors: list[str]) -> None:
    if _ATTRIBUTE_FIELDS.isdisjoint(obj):
        return
    for field, field_check in _ATTRIBUTE_CHECKS.items():
        value = obj.get(field)
        if value is None:
            continue
        error = field_check(value)
        if error is not None and error not in errors:
            errors.append(error)


def _check_event(obj: Object, errors: list[str]) -> None:
    name = obj.get("name")
    if name is None or name == "":
        errors.append(REQUIRED.format("name"))
    elif type(name) is not str:
        errors.append(NOT_A_STRING.format("name"))
    _check_time(obj, errors)
    _check_properties(obj, _EVENT_RESERVED, errors)


def _check_purchase(obj: Object, errors: list[str]) -> None:
    product = obj.get("product_id")
    if product is None or product == "":
        errors.append(REQUIRED.format("product_id"))
    elif type(product) is not str or len(product) > NAME_CHARS:
        errors.append(NOT_VALID.format("product_id"))
    currency = obj.get("currency")
    if not (
        type(currency) is str and len(currency) == 3 and currency.isascii() and currency.isalpha()
    ):
        errors.append(BAD_CURRENCY if currency is not None else REQUIRED.format("currency"))
    price = obj.get("price")
    if type(price) is not float and type(price) is not int:
        errors.append((REQUIRED if price is None else NOT_VALID).format("price"))
    if "quantity" in obj:
        quantity = obj["quantity"]
        if type(quantity) is not int or not 1 <= quantity <= QUANTITY_MAX:
            errors.append(NOT_VALID.format("quantity"))
    _check_time(obj, errors)
    _check_properties(obj, _PURCHASE_RESERVED, errors)


def _check_time(obj: Object, errors: list[str]) -> None:
    time = obj.get("time")
    if not valid_time(time):
        errors.append((REQUIRED if time is None or time == "" else NOT_VALID).format("time"))


def _check_properties(obj: Object, reserved: frozenset[str], errors: list[str]) -> None:
    properties = obj.get("properties")
    if properties is None:
        return
    if type(properties) is not dict or not reserved.isdisjoint(properties):
        errors.append(BAD_PROPERTIES)
        return
    for name in properties:
        if not name or name[0] == "$" or len(name) > NAME_CHARS:
            errors.append(BAD_PROPERTIES)
            return


def _email_error(value: Any) -> str | None:
    return None if valid_email(value) else BAD_EMAIL


def _location_error(value: Any) -> str | None:
    if type(value) is dict:
        latitude: Any = value.get("latitude")
        longitude: Any = value.get("longitude")
        numbers = all(type(degrees) in (int, float) for degrees in (latitude, longitude))
        if numbers and -90 <= latitude <= 90 and -180 <= longitude <= 180:
            return None
    return "BAD_LOCATION_UPDATE"


def _groups_error(value: Any) -> str | None:
    if type(value) is not list:
        return "BAD_SUBSCRIPTION_GROUP_ARRAY"
    for group in value:
        if type(group) is not dict:
            return "BAD_SUBSCRIPTION_GROUP_HASH"
        name = group.get("subscription_group_id")
        if type(name) is not str or not name:
            return "BAD_SUBSCRIPTION_GROUP_ID"
        if not _one_of(group.get("subscription_state"), _GROUP_STATES):
            return "BAD_SUBSCRIPTION_GROUP_STATE"
    return None


def _tokens_error(value: Any) -> str | None:
    if type(value) is not list:
        return "BAD_PUSH_TOKEN_VALUE"
    for token in value:
        if type(token) is not dict:
            return "BAD_PUSH_TOKEN_VALUE"
        if type(token.get("app_id")) is not str:
            return "BAD_PUSH_TOKEN_APP_ID"
        if type(token.get("token")) is not str or not token["token"]:
            return "BAD_PUSH_TOKEN_STRING"
        device = token.get("device_id")
        low, high = DEVICE_ID_BYTES
        if device is not None and not (type(device) is str and low <= len(device.encode()) <= high):
            return "BAD_DEVICE_ID"
    return None


def _one_of(value: Any, allowed: frozenset[str]) -> bool:
    return type(value) is str and value in allowed


_ATTRIBUTE_CHECKS: Final[dict[str, Callable[[Any], str | None]]] = {
    "email": _email_error,
    "email_subscribe": lambda value: (
        None if _one_of(value, _SUBSCRIPTIONS) else "BAD_EMAIL_SUBSCRIPTION_STATE"
    ),
    "push_subscribe": lambda value: (
        None if _one_of(value, _SUBSCRIPTIONS) else "BAD_PUSH_SUBSCRIPTION_STATE"
    ),
    "current_location": _location_error,
    "subscription_groups": _groups_error,
    "push_tokens": _tokens_error,
}
_ATTRIBUTE_FIELDS: Final = frozenset(_ATTRIBUTE_CHECKS)
_CHECKS: Final = (_check_attributes, _check_event, _check_purchase)
