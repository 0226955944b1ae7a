"""What `/users/export/ids` says: the profiles asked for, and the ids that are unknown.

This module decides the answer to a decoded body. It reads the store and changes nothing. What a
profile has nothing of is left out, as documented; all events and purchases are there, and not only
those of the last 90 days, for the sandbox has no calendar.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from ingest.records import EVENT, PURCHASE, UserKey
from ingest.sandbox.objects import Object, key_of
from ingest.sandbox.rules import Verdict, refusal
from ingest.sandbox.store import Profile, Store, aliases_of

IDS_MAX: Final = 50

TOO_MANY: Final = "The max number of external_ids and aliases per request was exceeded"
NOTHING_ASKED: Final = (
    "'external_ids', 'user_aliases', 'braze_id', 'email_address' or 'phone' is required"
)
NOT_AN_ARRAY: Final = "'{}' must be an array"

STANDARD: Final = frozenset(
    {
        "first_name", "last_name", "email", "phone", "country", "home_city", "language", "gender",
        "dob", "time_zone", "email_subscribe", "push_subscribe", "push_tokens",
        "subscription_groups", "current_location", "date_of_first_session",
        "date_of_last_session", "image_url", "marked_email_as_spam_at",
    }
)  # fmt: skip
"""Attributes that stand beside the identifiers in an export; all others are custom."""

NOT_EXPORTED: Final = frozenset(
    {
        "push_tokens", "subscription_groups", "date_of_first_session", "date_of_last_session",
        "image_url", "marked_email_as_spam_at",
    }
)  # fmt: skip
"""Standard attributes that no export has, or not as they were sent."""

LOCATION: Final = "current_location"
"""Comes back as `last_coordinates`, [longitude, latitude]."""

_SINGLE: Final = (("braze_id", "braze_id"), ("email_address", "email"), ("phone", "phone"))
"""Fields of a request that name one user, and the kind of identity they give."""


_NOTHING: Final[tuple[Any, ...]] = (None, [], {})


def judge_export(body: Any, store: Store) -> Verdict:
    """Answer a decoded request body. Never raises, whatever was decoded.

    The ids asked for come back in the order asked; the unknown ones in `invalid_user_ids`.
    """
    if type(body) is not dict:
        return refusal(400, NOTHING_ASKED)
    ids, aliases = body.get("external_ids", []), body.get("user_aliases", [])
    fields = body.get("fields_to_export", [])
    for name, value in (
        ("external_ids", ids),
        ("user_aliases", aliases),
        ("fields_to_export", fields),
    ):
        if type(value) is not list:
            return refusal(400, NOT_AN_ARRAY.format(name))
    if len(ids) + len(aliases) > IDS_MAX:
        return refusal(400, TOO_MANY)
    asked: list[tuple[Any, UserKey | None]] = [
        *((name, name if type(name) is str and name else None) for name in ids),
        *((alias, key_of({"user_alias": alias})) for alias in aliases),
    ]
    for field, kind in _SINGLE:
        if body.get(field) is not None:
            asked.append((body[field], (kind, str(body[field]))))
    if not asked:
        return refusal(400, NOTHING_ASKED)

    users, unknown, seen = [], [], set()
    for name, key in asked:
        profile = None if key is None else store.find(key)
        if profile is None:
            unknown.append(name)
        elif profile.number not in seen:
            seen.add(profile.number)
            users.append(exported(profile, fields))
    answer: dict[str, Any] = {"message": "success", "users": users}
    if unknown:
        answer["invalid_user_ids"] = unknown
    return Verdict(201, answer)


def exported(profile: Profile, fields: list[Any]) -> Object:
    """Return a profile as the destination exports it; only `fields`, unless that is empty."""
    whole: Object = {
        "external_id": profile.external_id,
        "braze_id": profile.braze_id,
        "user_aliases": aliases_of(profile),
        "custom_attributes": {
            name: value for name, value in profile.attributes.items() if name not in STANDARD
        },
        "custom_events": _tallies(profile, EVENT),
        "purchases": _tallies(profile, PURCHASE),
        "total_revenue": round(profile.revenue, 2),
    }
    whole |= {
        name: value
        for name, value in profile.attributes.items()
        if name in STANDARD and name not in NOT_EXPORTED and name != LOCATION
    }
    if type(place := profile.attributes.get(LOCATION)) is dict:
        whole["last_coordinates"] = [place.get("longitude"), place.get("latitude")]
    whole = {name: value for name, value in whole.items() if value not in _NOTHING}
    wanted = [name for name in fields if type(name) is str]
    return {name: whole[name] for name in wanted if name in whole} if fields else whole


def _written(time: str) -> str:
    """Return a time as it is exported: UTC, to the millisecond; one of a rare form as it came."""
    try:
        at = datetime.fromisoformat(time)
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return time
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _tallies(profile: Profile, slot: int) -> list[Object]:
    return [
        {
            "name": name,
            "first": _written(tally.first),
            "last": _written(tally.last),
            "count": tally.count,
        }
        for (of, name), tally in (profile.tallies or {}).items()
        if of == slot
    ]
