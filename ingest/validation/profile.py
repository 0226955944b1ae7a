"""Rules of the profile fields of an attributes object, a table from field to check.

Decides the form of each. It does not know what is on the profile already, nor time zones (the
destination takes IANA names and a second, older set).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ingest.validation.identity import is_email, utf8_len
from ingest.validation.isocodes import COUNTRIES, LANGUAGES
from ingest.validation.problems import MAX_TEXT, Findings
from ingest.validation.times import is_day, is_time

SUBSCRIPTIONS: Final = frozenset({"opted_in", "subscribed", "unsubscribed"})
GENDERS: Final = frozenset("MFONP")
DEVICE_ID_BYTES: Final = range(8, 256)
COORDINATES: Final = {"longitude": 180, "latitude": 90}
"""The coordinates of a location, and the most degrees of each either way."""

_GROUP_STATES: Final = ("subscribed", "unsubscribed")

Check = Callable[[Findings, str, Any], None]


def _identifier(found: Findings, name: str, value: Any) -> None:
    """Leave it: the identity is checked by itself."""


def check_flag(found: Findings, name: str, value: Any) -> None:
    """Note a switch that is neither true nor false."""
    if not isinstance(value, bool):
        found.add("bad-flag", name)


def check_text(found: Findings, name: str, value: Any) -> None:
    """Note a text that is none, or that is over 255 characters."""
    if not isinstance(value, str):
        found.add("wrong-type", name)
    elif len(value) > MAX_TEXT:
        found.add("long-string", name)


def _email(found: Findings, name: str, value: Any) -> None:
    if not is_email(value):
        found.add("odd-email" if value == "" else "bad-email", name)
    elif len(value) > MAX_TEXT:
        found.add("long-string", name)


def _country(found: Findings, name: str, value: Any) -> None:
    if not isinstance(value, str) or value.upper() not in COUNTRIES:
        found.add("unknown-country", name)


def _language(found: Findings, name: str, value: Any) -> None:
    if not isinstance(value, str) or value.lower() not in LANGUAGES:
        found.add("unknown-language", name)


def _gender(found: Findings, name: str, value: Any) -> None:
    if not isinstance(value, str) or value.upper() not in GENDERS:
        found.add("unknown-gender", name)


def _day(found: Findings, name: str, value: Any) -> None:
    if not isinstance(value, str) or not is_day(value):
        found.add("odd-date", name)


def _time(found: Findings, name: str, value: Any) -> None:
    if not isinstance(value, str) or not is_time(value):
        found.add("odd-date", name)


def _subscription(found: Findings, name: str, value: Any) -> None:
    if not isinstance(value, str) or value not in SUBSCRIPTIONS:
        found.add("bad-subscription-state", name)


def _groups(found: Findings, name: str, value: Any) -> None:
    good = isinstance(value, list) and all(
        isinstance(group, dict)
        and isinstance(group.get("subscription_group_id"), str)
        and group.get("subscription_state") in _GROUP_STATES
        for group in value
    )
    if not good:
        found.add("bad-subscription-groups", name)


def _location(found: Findings, name: str, value: Any) -> None:
    if not isinstance(value, dict) or any(value.get(side) is None for side in COORDINATES):
        found.add("bad-location", name)
        return
    for side, most in COORDINATES.items():
        degrees = value[side]
        number = isinstance(degrees, (int, float)) and not isinstance(degrees, bool)
        if not number or not -most <= degrees <= most:
            found.add("odd-coordinate", name)
            return


def _push_tokens(found: Findings, name: str, value: Any) -> None:
    if not isinstance(value, list):
        found.add("bad-push-tokens", name)
        return
    for i, entry in enumerate(value):
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(key), str) and entry[key] for key in ("app_id", "token")
        ):
            found.add("bad-push-tokens", name, i)
            continue
        device = entry.get("device_id")
        if device is None:
            continue
        if not isinstance(device, str) or utf8_len(device) not in DEVICE_ID_BYTES:
            found.add("bad-device-id", name, i, "device_id")


def _social(found: Findings, name: str, value: Any) -> None:
    if not isinstance(value, dict):
        found.add("wrong-type", name)


PROFILE: Final[dict[str, Check]] = {
    "external_id": _identifier,
    "user_alias": _identifier,
    "braze_id": _identifier,
    "_update_existing_only": check_flag,
    "_merge_objects": check_flag,
    "push_token_import": check_flag,
    "app_id": check_text,
    "first_name": check_text,
    "last_name": check_text,
    "home_city": check_text,
    "image_url": check_text,
    "time_zone": check_text,
    "phone": check_text,
    "email": _email,
    "country": _country,
    "language": _language,
    "gender": _gender,
    "dob": _day,
    "date_of_first_session": _time,
    "date_of_last_session": _time,
    "marked_email_as_spam_at": _time,
    "email_subscribe": _subscription,
    "push_subscribe": _subscription,
    "email_open_tracking_disabled": check_flag,
    "email_click_tracking_disabled": check_flag,
    "subscription_groups": _groups,
    "current_location": _location,
    "push_tokens": _push_tokens,
    "facebook": _social,
    "twitter": _social,
}
"""Field -> its check, which is given any value but null (null unsets a field)."""
