"""Data points: what records would be billed as, on contracts that bill data points.

Decides by Braze's pages on data points and nested attributes. A set attribute, a custom event and a
purchase are one point each, changed or not. A list is one; of an object, and of objects in a list,
each innermost key is one (the documented example with an object in an object has seven keys with a
value, and counts seven). A null costs what a value does. Free are identifiers, the states of
subscriptions, push tokens, and events of the `ecommerce.` schema. `country` and `language` are free
only where an SDK collects them. Properties count where they are enabled for segmentation, which is
not known here, so they are told apart; nor is known whether a contract bills data points at all.

Where the pages are silent: an e-mail address or a phone number is free where it alone says who the
user is, and an entry of `$remove`, which has nothing but what identifies it, is one point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

FREE: Final = frozenset(
    (
        *("external_id", "user_alias", "braze_id"),
        *("_update_existing_only", "_merge_objects", "push_token_import", "app_id"),
        *("email_subscribe", "push_subscribe", "subscription_groups", "push_tokens"),
    )
)
"""Keys of an attributes object that set no attribute, or set one that is free."""

ONE: Final = frozenset(("current_location", "facebook", "twitter"))
"""Fields of a profile that hold an object, and are one attribute all the same."""

PRIMARY: Final = ("external_id", "user_alias", "braze_id")
SECONDARY: Final = ("email", "phone")
"""What says who a user is, in the order in which it is looked at."""

FREE_EVENTS: Final = "ecommerce."

_MATCHED_BY: Final = ("$identifier_key", "$identifier_value")


class DataPoints(msgspec.Struct):
    """Points by kind. Properties are those of events and purchases, and only count if enabled.

    `units` are the purchases if each unit of a `quantity` is booked as one of its own.
    """

    attributes: int = 0
    event: int = 0
    purchase: int = 0
    event_properties: int = 0
    purchase_properties: int = 0
    units: int = 0

    @property
    def total(self) -> int:
        """The points without properties."""
        return self.attributes + self.event + self.purchase

    def add_attributes(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Count attributes objects."""
        self.attributes += sum(map(points_of, records))

    def add_events(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Count events; an `ecommerce.` one is free, and so are its properties."""
        for record in records:
            name = record.get("name")
            if not (isinstance(name, str) and name.startswith(FREE_EVENTS)):
                self.event += 1
                self.event_properties += _properties(record)

    def add_purchases(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Count purchases."""
        for record in records:
            self.purchase += 1
            self.purchase_properties += _properties(record)
            quantity = record.get("quantity", 1)
            self.units += quantity if isinstance(quantity, int) and quantity > 0 else 1


def points_of(record: Mapping[str, Any]) -> int:
    """Return the points of an attributes object."""
    points = len(record) - len(FREE.intersection(record))
    if not any(name in record for name in PRIMARY):
        points -= any(name in record for name in SECONDARY)
    for name, value in record.items():
        if isinstance(value, dict | list) and name not in FREE and name not in ONE:
            points += leaves(value) - 1
    return points


def leaves(value: Any) -> int:
    """Return the points of the value of one attribute: at least 1, however deep it is nested."""
    count, left = 0, [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            inner = [held for name, held in value.items() if name not in _MATCHED_BY]
        elif isinstance(value, list):
            inner = [held for held in value if isinstance(held, dict | list)]
        else:
            inner = []
        left += inner
        count += not inner
    return count


def _properties(record: Mapping[str, Any]) -> int:
    properties = record.get("properties")
    if not isinstance(properties, dict):
        return 0
    return sum(map(leaves, properties.values()))
