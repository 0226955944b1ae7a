"""The documented rules of a whole object: attributes, event, purchase.

Decides what the destination is certain to refuse (errors) and what it takes and then drops or
alters in silence (warnings). Where the documents leave it open, it is no error. It knows neither
the clock nor the account.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ingest.records import KINDS, UserKey
from ingest.validation.identity import identity, is_email
from ingest.validation.nested import check_array, check_object, check_texts, encoded_size
from ingest.validation.problems import MAX_TEXT, Findings, Problem
from ingest.validation.profile import PROFILE, check_flag, check_text
from ingest.validation.times import is_late, is_time

MAX_EVENT_PROPERTIES: Final = 102_400
"""Bytes of JSON in the properties of an event (100 KB)."""

MAX_PURCHASE_PROPERTIES: Final = 51_200
"""Bytes of JSON in the properties of a purchase (50 KB)."""

MAX_PRODUCT_ID: Final = 255
"""Characters of a product id."""

MAX_QUANTITY: Final = 100

EVENT_RESERVED: Final = frozenset({"time", "event_name"})
PURCHASE_RESERVED: Final = EVENT_RESERVED | {"product_id", "quantity", "price", "currency"}

_CURRENCY: Final = re.compile(r"[A-Za-z]{3}")


def check_attributes(found: Findings, record: dict[str, Any]) -> None:
    """Note what is wrong with an attributes object, identity aside."""
    for name, value in record.items():
        if value is None:
            continue
        if (check := PROFILE.get(name)) is not None:
            check(found, name, value)
            continue
        if len(name) > MAX_TEXT:
            found.add("long-name", name)
        if isinstance(value, str):
            if len(value) > MAX_TEXT:
                found.add("long-string", name)
            elif is_late(value):
                found.add("late-year", name)
        elif isinstance(value, list):
            check_array(found, (name,), value)
        elif isinstance(value, dict):
            check_object(found, (name,), value)
    if record.get("user_alias") is not None and record.get("_update_existing_only") is not False:
        found.add("alias-updates-only", "user_alias")


def check_event(found: Findings, record: dict[str, Any]) -> None:
    """Note what is wrong with an event object, identity aside."""
    name = record.get("name")
    if name is None:
        found.add("missing-name", "name")
    elif not isinstance(name, str) or not name:
        found.add("bad-name", "name")
    elif len(name) > MAX_TEXT:
        found.add("long-string", "name", mendable=False)
    _check_time(found, record)
    _check_properties(found, record, EVENT_RESERVED, MAX_EVENT_PROPERTIES)
    _check_common(found, record)


def check_purchase(found: Findings, record: dict[str, Any]) -> None:
    """Note what is wrong with a purchase object, identity aside."""
    _check_product_id(found, record.get("product_id"))
    currency, price = record.get("currency"), record.get("price")
    if currency is None:
        found.add("missing-currency", "currency")
    elif not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        found.add("bad-currency", "currency")
    if price is None:
        found.add("missing-price", "price")
    elif not isinstance(price, (int, float)) or isinstance(price, bool):
        found.add("bad-price", "price")
    quantity = record.get("quantity", 1)
    if quantity is None:
        found.add("null-quantity", "quantity")
    elif not _is_quantity(quantity):
        found.add("bad-quantity", "quantity")
    _check_time(found, record)
    _check_properties(found, record, PURCHASE_RESERVED, MAX_PURCHASE_PROPERTIES)
    _check_common(found, record)


def _is_quantity(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_QUANTITY


def _check_product_id(found: Findings, value: Any) -> None:
    if value is None:
        found.add("missing-product-id", "product_id")
    elif isinstance(value, str):
        if not value:
            found.add("odd-product-id", "product_id")
        elif len(value) > MAX_PRODUCT_ID:
            found.add("long-product-id", "product_id")
    elif isinstance(value, int) and not isinstance(value, bool):
        # Seen in recorded traffic, and taken.
        found.add("odd-product-id", "product_id")
    else:
        found.add("bad-product-id", "product_id")


def _check_time(found: Findings, record: dict[str, Any]) -> None:
    time = record.get("time")
    if time is None:
        found.add("missing-time", "time")
    elif not isinstance(time, str) or not is_time(time):
        found.add("bad-time", "time")


def _check_common(found: Findings, record: dict[str, Any]) -> None:
    """Note what is wrong with the optional fields of events and purchases."""
    for name, check in (("app_id", check_text), ("_update_existing_only", check_flag)):
        if (value := record.get(name)) is not None:
            check(found, name, value)
    email = record.get("email")
    if email is not None and not is_email(email) and _has_primary(record):
        # Without a primary it is the identity, and an error of that.
        found.add("odd-email", "email")


def _has_primary(record: dict[str, Any]) -> bool:
    return any(record.get(name) is not None for name in ("external_id", "user_alias", "braze_id"))


def _check_properties(
    found: Findings, record: dict[str, Any], reserved: frozenset[str], most: int
) -> None:
    """Note what is wrong with the properties object; `most` is in bytes of JSON."""
    if "properties" not in record:
        return
    properties = record["properties"]
    if properties is None:
        found.add("null-properties", "properties")
        return
    if not isinstance(properties, dict):
        found.add("bad-properties", "properties")
        return
    for name in properties:
        if name in reserved:
            found.add("reserved-key", "properties", name)
        elif not name or name[0] == "$":
            found.add("bad-property-name", "properties", name)
        elif len(name) > MAX_TEXT:
            found.add("long-property-name", "properties", name)
    check_texts(found, ("properties",), properties)
    if encoded_size(properties) > most:
        found.add("big-properties", "properties")


_CHECKS: Final = dict(zip(KINDS, (check_attributes, check_event, check_purchase), strict=True))


def examine(kind: str, record: dict[str, Any]) -> tuple[UserKey | Problem, list[Problem]]:
    """Return whose record a decoded object is, as `identity` does, and what `check` finds."""
    found = Findings()
    key = identity(record, kind)
    if isinstance(key, Problem):
        found.put(key)
    _CHECKS[kind](found, record)
    return key, found.all()


def check(kind: str, record: dict[str, Any]) -> list[Problem]:
    """Return everything wrong with a decoded object, errors first; an empty list is a clean one.

    `kind` is one of `records.KINDS`. At most 1,000 warnings and 1,001 errors are listed.
    """
    return examine(kind, record)[1]
