"""Reading users back: which ids share a request, what is asked, and whose profiles came.

Decides the bodies of `/users/export/ids` and what an answer to one says. Pure: credentials, HTTP
and time are others' matters. Which destination has such a path is data, in its row of the registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from ingest.codec import dumps, loads
from ingest.rates import RateLimit
from ingest.records import UserKey

IDENTIFIERS: Final = ("external_id", "user_aliases", "braze_id", "email", "phone")
"""Fields that tell whose profile it is: always asked for."""

SINGLE: Final[Mapping[str, str]] = {
    "braze_id": "braze_id",
    "email": "email_address",
    "phone": "phone",
}
"""Identities of which a request names one, and nothing else; by the member that does."""

Profile = Mapping[str, Any]


class ReadBack(msgspec.Struct, frozen=True):
    """How a destination lets users be read.

    `most` ids or aliases share a request; `kinds` are the identities, beside an external id, that
    it knows users by. `limits` is the documented budget. `hints` say what to look at, by status.
    `elements` is how many scalars an array attribute holds there, if no setting says it.
    """

    path: str
    most: int
    kinds: frozenset[str]
    limits: tuple[RateLimit, ...]
    hints: Mapping[int, str]
    elements: int = 500

    def readable(self, key: UserKey) -> bool:
        """Whether a user of this key can be asked for."""
        return isinstance(key, str) or key[0] in self.kinds

    def groups(self, keys: Iterable[UserKey]) -> Iterator[tuple[UserKey, ...]]:
        """Yield the keys as they share requests: external ids and aliases together."""
        shared: list[UserKey] = []
        for key in keys:
            if isinstance(key, tuple) and key[0] in SINGLE:
                yield (key,)
                continue
            shared.append(key)
            if len(shared) == self.most:
                yield tuple(shared)
                shared = []
        if shared:
            yield tuple(shared)


def asking(keys: Sequence[UserKey], fields: Sequence[str]) -> bytes:
    """Return the members of a body that asks for a group of users, without its braces."""
    body: dict[str, Any] = {}
    if ids := [key for key in keys if isinstance(key, str)]:
        body["external_ids"] = ids
    for key in keys:
        if isinstance(key, str):
            continue
        if key[0] in SINGLE:
            body[SINGLE[key[0]]] = key[1]
        else:
            alias = {"alias_name": key[2], "alias_label": key[1]}
            body.setdefault("user_aliases", []).append(alias)
    body["fields_to_export"] = list(dict.fromkeys((*IDENTIFIERS, *fields)))
    return dumps(body)[1:-1]


def profiles_of(keys: Sequence[UserKey], body: bytes) -> dict[UserKey, list[Profile]] | None:
    """Return the profiles in an answer, by the keys of the group that was asked for.

    None for an answer that is none. A key that has no profile is not there.
    """
    try:
        answer = loads(body)
    except ValueError:
        return None
    users = answer.get("users") if isinstance(answer, dict) else None
    if not isinstance(users, list):
        return None
    profiles: list[Profile] = [user for user in users if isinstance(user, dict)]
    if len(keys) == 1 and isinstance(keys[0], tuple) and keys[0][0] in SINGLE:
        return {keys[0]: profiles} if profiles else {}
    wanted = set(keys)
    found: dict[UserKey, list[Profile]] = {}
    for profile in profiles:
        for key in _keys_of(profile):
            if key in wanted:
                found.setdefault(key, []).append(profile)
    return found


def _keys_of(profile: Profile) -> Iterator[UserKey]:
    external_id, aliases = profile.get("external_id"), profile.get("user_aliases")
    if isinstance(external_id, str):
        yield external_id
    for alias in aliases if isinstance(aliases, list) else ():
        match alias:
            case {"alias_name": str(name), "alias_label": str(label)}:
                yield ("alias", label, name)
