"""What a user should be at the destination: the records of one user, added up in their order.

Decides which value each attribute has in the end, how often each event and product was booked, and
of what no value can be told from the records alone. Knows the documented rules of `users/track` and
of the export, and no profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ingest.codec import dumps
from ingest.proof.moments import moment
from ingest.records import ATTRIBUTES, EVENT, UserKey

STRING_CHARS: Final = 255
"""A longer string is cut or ignored: the documents do not say which."""

VALUE_BYTES: Final = 100_000
"""An array or object beyond 100 KB is dropped though the answer is a success."""

EXPORT_DAYS: Final = 90
"""Events and purchases of that many days are in an export; older ones need not be."""

DAY: Final = 86_400.0

STANDARD: Final = frozenset(
    {
        *("country", "current_location", "dob", "email", "email_subscribe", "first_name"),
        *("gender", "home_city", "language", "last_name", "phone", "push_subscribe", "time_zone"),
    }
)
"""Standard attributes that an export has; `current_location` is `last_coordinates` there."""

UNEXPORTED: Final = frozenset(
    {
        *("date_of_first_session", "date_of_last_session", "facebook", "image_url"),
        *("marked_email_as_spam_at", "push_tokens", "subscription_groups", "twitter"),
    }
)
"""Standard attributes that are in no export, or not in the form in which they are sent."""

STEERING: Final = frozenset(
    {
        *("external_id", "user_alias", "braze_id"),
        *("_update_existing_only", "_merge_objects", "push_token_import"),
    }
)
"""Keys that say whose record it is and how it is applied."""

_OPERATORS: Final = frozenset({"inc", "add", "remove", "$add", "$remove", "$update"})

# Why nothing can be said of a field.
DOUBTFUL: Final = "it is not known whether a record arrived"
OPERATOR: Final = "an operator, whose result depends on what was there"
NOT_EXPORTED: Final = "not in an export"
ALTERED: Final = "a value that the destination cuts, drops or writes anew"


class Window(msgspec.Struct, frozen=True):
    """What shapes an expectation: the time it is compared at, and that the run began at.

    Both are in epoch seconds; `elements` is how many scalars an array holds.
    """

    now: float
    began: float
    elements: int = 500

    @property
    def since(self) -> float:
        """The moment since when events are surely in an export: a day's margin."""
        return self.now - (EXPORT_DAYS - 1) * DAY


class Attribute(msgspec.Struct, frozen=True):
    """What an attribute should be: `value` (None: unset), unless `untold` says why nobody knows.

    `position` is that of the record that said so, `line` its line.
    """

    value: Any
    untold: str
    position: int
    line: int


class Tally(msgspec.Struct):
    """How often an event or product should be there, at least, and when last (epoch seconds).

    `recent` counts those that an export must have; `last` is None where no time is understood, or
    the destination changes it. `position` and `line` are those of the last record.
    """

    total: int = 0
    recent: int = 0
    last: float | None = None
    position: int = 0
    line: int = 0


class Expected:
    """One user, and what the records of a run made of it.

    `certain` tells that one of the records creates the user if nobody did; without one, there may
    be no profile, and none is missing.
    """

    def __init__(self, key: UserKey) -> None:
        self.key = key
        self.attributes: dict[str, Attribute] = {}
        self.events: dict[str, Tally] = {}
        self.purchases: dict[str, Tally] = {}
        self.certain = False

    def add(
        self,
        slot: int,
        record: Mapping[str, Any],
        window: Window,
        *,
        position: int = 0,
        line: int = 0,
        doubtful: bool = False,
    ) -> None:
        """Add the next record of the user.

        A `doubtful` one may have arrived or not, and so may one for a user that perhaps was not
        there yet, when others create it later.
        """
        creates = may_create(self.key, record)
        if creates and not self.certain and not doubtful:
            # What came before took effect only if the user was there already: nobody knows.
            for name, known in self.attributes.items():
                self.attributes[name] = msgspec.structs.replace(known, untold=DOUBTFUL)
            self.events.clear()
            self.purchases.clear()
            self.certain = True
        if slot == ATTRIBUTES:
            merges = record.get("_merge_objects") is True
            for key, value in record.items():
                name = key.strip()
                if key not in STEERING and name:
                    why = DOUBTFUL if doubtful else untold(name, value, window, merges=merges)
                    # What nobody can compare is not kept: it may be large.
                    value = None if why else value
                    self.attributes[name] = Attribute(value, why, position, line)
        elif not doubtful:
            named = record.get("name") if slot == EVENT else record.get("product_id")
            book = self.events if slot == EVENT else self.purchases
            if isinstance(named, str):
                count = 1 if slot == EVENT else record.get("quantity", 1)
                tally = book.setdefault(named, Tally())
                _booked(tally, count if isinstance(count, int) else 1, record.get("time"), window)
                tally.position, tally.line = position, line

    def __len__(self) -> int:
        """Return how many fields there are to look at."""
        return len(self.attributes) + len(self.events) + len(self.purchases)


def may_create(key: UserKey, record: Mapping[str, Any]) -> bool:
    """Whether a record creates the user if there is none: one with an alias has to ask for it."""
    only_existing = record.get("_update_existing_only")
    if isinstance(key, str):
        return only_existing is not True
    if key[0] == "alias":
        return only_existing is False
    return key[0] != "braze_id" and only_existing is not True


def untold(name: str, value: Any, window: Window, *, merges: bool) -> str:
    """Say why nothing can be known of an attribute that is set to `value`; empty if it can."""
    if name in UNEXPORTED:
        return NOT_EXPORTED
    if name == "current_location":
        return "" if value is None or _is_place(value) else ALTERED
    if isinstance(value, str):
        return ALTERED if len(value) > STRING_CHARS else ""
    if isinstance(value, list):
        scalars = not any(isinstance(each, dict) for each in value)
        long = scalars and len(value) > window.elements
        return ALTERED if long or not (_is_plain(value) and _fits(value)) else ""
    if isinstance(value, dict):
        if merges or value.keys() & _OPERATORS:
            return OPERATOR
        return "" if _is_plain(value) and _fits(value) else ALTERED
    return ""


def _booked(tally: Tally, count: int, time: Any, window: Window) -> None:
    tally.total += count
    at = moment(time)
    if at is None or at > window.began:
        return  # not understood here, or set to the time of arrival
    if at >= window.since:
        tally.recent += count
    tally.last = at if tally.last is None else max(tally.last, at)


def _is_place(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(axis), int | float) for axis in ("latitude", "longitude")
    )


def _is_plain(value: Any) -> bool:
    """Whether nothing inside is dropped or written in another way: no null, no date, no operator.

    In an array of scalars and objects neither is sure.
    """
    if isinstance(value, str):
        return len(value) <= STRING_CHARS
    if isinstance(value, list):
        objects = sum(isinstance(each, dict) for each in value)
        nested = any(isinstance(each, list) for each in value)
        return objects in (0, len(value)) and not nested and all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_key, value)) and all(map(_is_plain, value.values()))
    return value is not None


def _is_key(key: str) -> bool:
    return 0 < len(key) <= STRING_CHARS and not set(key) & set(".$ ")


def _fits(value: Any) -> bool:
    return len(dumps(value)) <= VALUE_BYTES
