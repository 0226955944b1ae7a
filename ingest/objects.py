"""Typed records for code: attributes, events and purchases, checked where they are made.

Decides what can be told from one object alone, in the process that makes it: that it names a user,
and that its times have a zone. The rest is judged by the documented rules when it is put.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from ingest.codec import dumps, verbatim
from ingest.errors import InvalidRecord

unset: Final = None
"""The value that takes an attribute off a profile."""

_IDENTITY: Final = ("external_id", "user_alias", "braze_id", "email", "phone")


class Alias(msgspec.Struct, frozen=True):
    """The name that a user has before there is an id, and what kind of name it is."""

    alias_name: str
    alias_label: str


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """What all records have: whose they are, by exactly the names that the destination gives."""

    external_id: str | int | None = None
    user_alias: Alias | None = None
    braze_id: str | None = None
    email: str | None = None
    phone: str | None = None

    def __post_init__(self) -> None:
        if all(getattr(self, name) is None for name in _IDENTITY):
            raise InvalidRecord(
                "missing-identity",
                "",
                f"the record names no user: give it one of {', '.join(_IDENTITY)}",
            )
        if isinstance(self.external_id, bool):
            raise InvalidRecord("bad-type", "external_id", "'external_id' must be a text")

    def _identity(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in _IDENTITY}
        given = {name: value for name, value in found.items() if value is not None}
        if isinstance(self.external_id, int):
            given["external_id"] = str(self.external_id)
        return given


class Attributes(_Record, frozen=True, kw_only=True):
    """What is to be set on a profile: `values` by name, with `inc`, `add`, `remove` and `unset`.

    `update_existing_only` creates no user; None leaves that to the destination. Raises
    `InvalidRecord` without an identity, and for a datetime without a zone.
    """

    values: Mapping[str, Any]
    update_existing_only: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.values, ())

    def line(self, now: datetime) -> bytes:
        """Return the enveloped form, encoded. Raises `InvalidRecord` for what is no JSON."""
        record = {**self.values, **self._identity()}
        if self.update_existing_only is not None:
            record["_update_existing_only"] = self.update_existing_only
        return _enveloped("attributes", record)


class Event(_Record, frozen=True, kw_only=True):
    """Something a user did. Without a `time` it happens when it is put.

    `time` is a datetime with a zone, or a text as the destination documents them. Raises
    `InvalidRecord` without an identity, and for a datetime without a zone.
    """

    name: str
    time: datetime | str | None = None
    properties: Mapping[str, Any] | None = None
    app_id: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.time, ("time",))
        _check(self.properties, ("properties",))

    def line(self, now: datetime) -> bytes:
        """Return the enveloped form, encoded; it happens at `now` if it does not say when.

        Raises `InvalidRecord` for what is no JSON.
        """
        record = self._identity() | {"name": self.name, "time": self.time or now}
        record |= _given(properties=self.properties, app_id=self.app_id)
        return _enveloped("event", record)


class Purchase(_Record, frozen=True, kw_only=True):
    """Something a user bought. `currency` is that of ISO 4217; without a `time` it happens now.

    `price` is that of one piece, in the currency's unit. Raises `InvalidRecord` as an event does.
    """

    product_id: str
    currency: str
    price: float | Decimal
    quantity: int = 1
    time: datetime | str | None = None
    properties: Mapping[str, Any] | None = None
    app_id: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.price, ("price",))
        _check(self.time, ("time",))
        _check(self.properties, ("properties",))

    def line(self, now: datetime) -> bytes:
        """Return the enveloped form, encoded; it happens at `now` if it does not say when.

        Raises `InvalidRecord` for what is no JSON.
        """
        price = self.price
        record = self._identity() | {
            "product_id": self.product_id,
            "currency": self.currency,
            # As it is written: a float would round it.
            "price": _exact(price) if isinstance(price, Decimal) else price,
            "quantity": self.quantity,
            "time": self.time or now,
        }
        record |= _given(properties=self.properties, app_id=self.app_id)
        return _enveloped("purchase", record)


Typed = Attributes | Event | Purchase


def inc(by: int = 1) -> dict[str, int]:
    """Add to an integer attribute; less than zero takes away."""
    return {"inc": by}


def add(*values: Any) -> dict[str, list[Any]]:
    """Add values to an array of texts or numbers."""
    return {"add": list(values)}


def remove(*values: Any) -> dict[str, list[Any]]:
    """Take values out of an array of texts or numbers."""
    return {"remove": list(values)}


def line_of(record: Typed | Mapping[str, Any], now: datetime | None = None) -> bytes:
    """Return a record as one line of NDJSON: a typed one enveloped, a mapping as it is.

    `now` is when an event without a time happens (default: at this moment). Raises `InvalidRecord`
    for what is no JSON.
    """
    if isinstance(record, Attributes | Event | Purchase):
        return record.line(now or datetime.now(UTC))
    _check(record, ())
    return _encoded(dict(record))


def _exact(price: Decimal) -> Any:
    if not price.is_finite():
        raise InvalidRecord("bad-type", "price", "'price' must be a finite number")
    return verbatim(f"{price:f}".encode())


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _enveloped(kind: str, record: dict[str, Any]) -> bytes:
    return _encoded({kind: record})


def _encoded(record: dict[str, Any]) -> bytes:
    try:
        return dumps(record)
    except (TypeError, RecursionError) as error:
        raise InvalidRecord("not-json", "", f"the record is not JSON: {error}") from None


def _check(value: Any, path: tuple[str, ...]) -> None:
    """Refuse what means something else once it is JSON, wherever it stands: NaN, a naive time."""
    if isinstance(value, float):
        if not math.isfinite(value):
            # JSON has no such number: as null, it would take the attribute off the profile.
            field = ".".join(path)
            raise InvalidRecord("not-json", field, f"'{field}' is no finite number")
    elif isinstance(value, datetime):
        if value.tzinfo is None:
            field = ".".join(path)
            raise InvalidRecord(
                "naive-time",
                field,
                f"'{field}' is a datetime without a zone: make it with tzinfo, such as "
                "datetime.now(UTC)",
            )
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            _check(inner, (*path, str(name)))
    elif isinstance(value, list | tuple):
        for inner in value:
            _check(inner, path)
