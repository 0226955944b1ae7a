"""What Batch CEP says to a decoded array of edits: the request as a whole, then piece by piece.

This module decides what makes a request void (`refuse_whole`), and which attributes and events of
the others are refused, each alone, while the rest of their edit is taken (`judge_edits`). Event
times are held against `now`. It knows no profile, no rate and no HTTP.

Events are told by name: an error cannot say which of two events of one name it is about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ingest.sandbox.objects import Object, valid_email

CUSTOM_ID_CHARS: Final = 512
ATTRIBUTES_MAX: Final = 50
EVENTS_MAX: Final = 15
STRING_CHARS: Final = 300
URL_CHARS: Final = 2_048
LABEL_CHARS: Final = 200
TAGS_MAX: Final = 10
TAG_CHARS: Final = 64
OBJECT_DEPTH: Final = 3
"""How deep the objects of an event may lie in one another."""

EVENT_SECONDS: Final = 86_400.0
"""Events of the last 24 hours only."""
FUTURE_SECONDS: Final = 1.0
"""By how much a time may be ahead: it may have been rounded up to the next second."""

NOT_AN_ARRAY: Final = "the body must be an array of 1 to {} edits"
BAD_EDIT: Final = "the edit at {} must be an object with 'identifiers', 'attributes' and 'events'"
BAD_ID: Final = "the edit at {} must have a 'custom_id' of 1 to 512 characters, and no other id"
REPEATED: Final = "the edit at {} has a custom_id that an earlier edit has"
POISON: Final = "the edits could not be read"

BAD_KEY: Final = "the key is not a known one, nor 1 to 30 of a-z, 0-9 and _"
BAD_NAME: Final = "the name of an event must be 1 to 30 of a-z, 0-9 and _"
BAD_VALUE: Final = "the value is not one of the types allowed for its key"
BAD_DATE: Final = "the value must be a date of RFC 3339 in UTC"
BAD_URL: Final = "the value must be a URL with a scheme, of at most 2048 characters"
TOO_MANY_ATTRIBUTES: Final = "a profile takes at most 50 attributes"
TOO_MANY_EVENTS: Final = "an edit takes at most 15 events"
BAD_EVENT: Final = "the event is not an object of 'name', 'time' and 'attributes'"
TOO_OLD: Final = "the event is older than 24 hours"
IN_FUTURE: Final = "the event is in the future"
BAD_EVENT_ATTRIBUTE: Final = "the event has an attribute of a key or a value that is not allowed"
REJECT: Final = "refused because of its 'sandbox_reject'"

AID_MARK: Final = b"sandbox_"
"""A body without these bytes carries no test aid."""
_REJECT_KEYS: Final = ("sandbox_reject", "_sandbox_reject")
_POISON_KEYS: Final = ("sandbox_poison", "_sandbox_poison")
"""Test aids, as an attribute of a profile or an event; keys with `_` first are of other modes."""

_SLUG: Final = re.compile(r"[a-z0-9_]{1,30}")
_KINDS: Final = ("date", "url")
_TYPED: Final = re.compile(rf"({'|'.join(_KINDS)})\(([a-z0-9_]{{1,30}})\)")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]00:00)")
_MORE_DIGITS: Final = re.compile(r"(?<=\.\d{6})\d+")
_PHONE: Final = re.compile(r"\+[1-9]\d{4,14}")
_LANGUAGE: Final = re.compile(r"[a-z]{2}")
_REGION: Final = re.compile(r"[A-Z]{2}")
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_TOPIC: Final = re.compile(r"[a-z0-9_-]{1,300}")
_SUBSCRIPTIONS: Final = frozenset({"subscribed", "unsubscribed"})
_ARRAY_OPERATORS: Final = frozenset({"$add", "$remove"})


class Edit(msgspec.Struct, frozen=True):
    """What is taken of an edit. Events have `name`, `time` (RFC 3339) and `attributes`."""

    custom_id: str
    attributes: Object
    events: list[Object]


class Judged(msgspec.Struct, frozen=True):
    """What is taken of a request, and the errors of the rest, in the order of the edits."""

    edits: list[Edit]
    errors: list[Object]


def refuse_whole(body: Any, most: int) -> str | None:
    """Return why a request is refused as a whole; None when its pieces may be looked at."""
    if type(body) is not list or not 1 <= len(body) <= most:
        return NOT_AN_ARRAY.format(most)
    seen = set()
    for index, edit in enumerate(body):
        if (
            type(edit) is not dict
            or not edit.keys() <= {"identifiers", "attributes", "events"}
            or type(edit.get("attributes", {})) is not dict
            or type(edit.get("events", [])) is not list
        ):
            return BAD_EDIT.format(index)
        ids = edit.get("identifiers")
        custom_id = ids.get("custom_id") if type(ids) is dict and len(ids) == 1 else None
        if type(custom_id) is not str or not 1 <= len(custom_id) <= CUSTOM_ID_CHARS:
            return BAD_ID.format(index)
        if custom_id in seen:
            return REPEATED.format(index)
        seen.add(custom_id)
    return None


def poison_of(body: list[Object]) -> int | None:
    """Return the status (400, 500) that an attribute `sandbox_poison` asks for."""
    poisons = {
        str(holder[key])
        for edit in body
        for holder in (edit.get("attributes", {}), *map(_attributes_of, edit.get("events", [])))
        for key in _POISON_KEYS
        if key in holder
    }
    if "500" in poisons:
        return 500
    return 400 if "400" in poisons else None


def judge_edits(body: list[Object], now: float, *, aids: bool = True) -> Judged:
    """Judge the pieces of a body that is not refused as a whole. Never raises."""
    judged = Judged([], [])
    for index, edit in enumerate(body):
        attributes: Object = {}
        for place, (key, value) in enumerate(edit.get("attributes", {}).items()):
            reason = _reject(key, value) if aids else None
            if reason is None:
                reason = TOO_MANY_ATTRIBUTES if place >= ATTRIBUTES_MAX else _refuse(key, value)
            if reason is None:
                attributes[key] = value
            else:
                judged.errors.append(_error("attribute", index, reason, key))
        events: list[Object] = []
        for place, event in enumerate(edit.get("events", [])):
            reason = (
                TOO_MANY_EVENTS if place >= EVENTS_MAX else _refuse_event(event, now, aids=aids)
            )
            if reason is None:
                events.append(_whole(event, now))
            else:
                name = event.get("name") if type(event) is dict else None
                judged.errors.append(_error("event", index, reason, name))
        judged.edits.append(Edit(edit["identifiers"]["custom_id"], attributes, events))
    return judged


def _error(category: str, index: int, reason: str, named: Any) -> Object:
    error: Object = {"category": category, "bulk_index": index, "reason": reason}
    return error | {"attribute": named} if type(named) is str else error


def spellings_of(key: str) -> tuple[str, ...]:
    """Return every key of the attribute of this key, which is one of them.

    A type in a key is an annotation and no part of the name: `born`, `date(born)` and `url(born)`
    are one attribute.
    """
    if key in _NATIVE:
        return (key,)
    typed = _TYPED.fullmatch(key)
    name = key if typed is None else typed[2]
    return (name, *(f"{kind}({name})" for kind in _KINDS))


def _attributes_of(event: Any) -> Object:
    attributes = event.get("attributes") if type(event) is dict else None
    return attributes if type(attributes) is dict else {}


def _reject(key: str, value: Any) -> str | None:
    if key not in _REJECT_KEYS:
        return None
    return value if type(value) is str and value else REJECT


def _whole(event: Object, now: float) -> Object:
    """Return an event with its time, which is that of its arrival when none was sent."""
    if event.get("time") is not None:
        return event
    return event | {"time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")}


# --- attributes of a profile -------------------------------------------------------------------


def _refuse(key: str, value: Any) -> str | None:
    """Return why an attribute of a profile is refused, or None. Null deletes under any key."""
    if native := _NATIVE.get(key):
        return None if value is None or native(value) else BAD_VALUE
    typed = _TYPED.fullmatch(key)
    if typed is None and not _SLUG.fullmatch(key):
        return BAD_KEY
    if value is None:
        return None
    if typed is not None:
        return _refuse_typed(typed[1], value)
    return None if _scalar(value) or _string_array(value, _string) else BAD_VALUE


def _refuse_typed(kind: str, value: Any) -> str | None:
    if kind == "date":
        return None if _time_of(value) is not None else BAD_DATE
    good = type(value) is str and len(value) <= URL_CHARS and _URL.fullmatch(value)
    return None if good else BAD_URL


def _string(value: Any) -> bool:
    return type(value) is str and 1 <= len(value) <= STRING_CHARS


def _scalar(value: Any) -> bool:
    return type(value) in (bool, int, float) or _string(value)


def _string_array(value: Any, good: Callable[[Any], bool]) -> bool:
    """True for an array of good strings, and for an object that adds or removes such arrays."""
    if type(value) is dict:
        return (
            bool(value)
            and value.keys() <= _ARRAY_OPERATORS
            and all(type(each) is list and all(map(good, each)) for each in value.values())
        )
    return type(value) is list and all(map(good, value))


def _form(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: type(value) is str and pattern.fullmatch(value) is not None


def _subscription(value: Any) -> bool:
    return type(value) is str and value in _SUBSCRIPTIONS


_NATIVE: Final[Mapping[str, Callable[[Any], bool]]] = {
    "$email_address": valid_email,
    "$email_marketing": _subscription,
    "$phone_number": _form(_PHONE),
    "$sms_marketing": _subscription,
    "$language": _form(_LANGUAGE),
    "$region": _form(_REGION),
    "$timezone": _form(_ZONE),
    "$topic_preferences": lambda value: _string_array(value, _form(_TOPIC)),
}


# --- events ------------------------------------------------------------------------------------


def _refuse_event(event: Any, now: float, *, aids: bool) -> str | None:
    """Return why an event is refused, or None."""
    if type(event) is not dict or not event.keys() <= {"name", "time", "attributes"}:
        return BAD_EVENT
    if type(event.get("attributes", {})) is not dict:
        return BAD_EVENT
    attributes = _attributes_of(event)
    if aids:
        for key, value in attributes.items():
            if (reason := _reject(key, value)) is not None:
                return reason
    name = event.get("name")
    if type(name) is not str or not _SLUG.fullmatch(name):
        return BAD_NAME
    if "time" in event:
        time = _time_of(event["time"])
        if time is None:
            return BAD_DATE
        if time < now - EVENT_SECONDS:
            return TOO_OLD
        if time > now + FUTURE_SECONDS:
            return IN_FUTURE
    good = all(_event_attribute(key, value) for key, value in attributes.items())
    return None if good else BAD_EVENT_ATTRIBUTE


def _event_attribute(key: str, value: Any, depth: int = 0) -> bool:
    if key == "$label":
        return type(value) is str and 1 <= len(value) <= LABEL_CHARS
    if key == "$tags":
        return (
            type(value) is list
            and len(value) <= TAGS_MAX
            and all(type(tag) is str and 1 <= len(tag) <= TAG_CHARS for tag in value)
        )
    if typed := _TYPED.fullmatch(key):
        return _refuse_typed(typed[1], value) is None
    if not _SLUG.fullmatch(key):
        return False
    if type(value) is dict:
        return _event_object(value, depth + 1)
    if type(value) is list:
        return all(map(_string, value)) or all(
            type(each) is dict and _event_object(each, depth + 1) for each in value
        )
    return _scalar(value)


def _event_object(value: Object, depth: int) -> bool:
    return depth <= OBJECT_DEPTH and all(
        not key.startswith("$") and _event_attribute(key, inner, depth)
        for key, inner in value.items()
    )


def _time_of(value: Any) -> float | None:
    """Return a time of RFC 3339 in UTC as epoch seconds; None for anything else."""
    if type(value) is not str or not _DATE.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(_MORE_DIGITS.sub("", value.upper())).timestamp()
    except ValueError:
        return None
