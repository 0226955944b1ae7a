"""The profiles of the sandbox, in memory: who exists, what they have, what arrived and how often.

This module decides which profile an object belongs to, applies accepted objects, and counts them,
exactly and with copies told apart. It knows no HTTP, no clock and no verdicts: what it is given was
accepted. What is done to whole profiles (delete, rename, merge) is in `changes`.

Memory: a profile keeps its attributes and tallies, and the last `keep` objects that arrived, while
`keep_bytes` lasts for all of them together; beyond it objects are counted, not kept. Copies are
found by 8-byte digests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from ingest.codec import loads
from ingest.records import ATTRIBUTES, EVENT, KINDS, PURCHASE, UserKey
from ingest.sandbox.attributes import ARRAYS, STRING_CHARS, ArrayCap, apply_attributes
from ingest.sandbox.objects import Object
from ingest.sandbox.rules import Item

NO_CREATION: Final = "profile_not_created"
"""Reason of a drop: the object may only update, and there is no profile."""

KEPT_OVERHEAD_BYTES: Final = 120
"""What Python adds to a kept object: a bytes header of 33, a tuple of 64, its place in a list."""

KEY_FIELDS: Final = ("email", "phone")
"""Attributes by which a profile can be found."""


class Tally(msgspec.Struct, gc=False):
    """How often an event or product was booked on a profile; `first` and `last` are its times."""

    count: int
    first: str
    last: str


class Profile(msgspec.Struct, eq=False):
    """One user. `number` counts profiles from 0 and makes its braze_id; `touched` its last update.

    `arrivals` are (request, slot, encoded object), oldest first; `counts` are exact, by slot.
    `aliases` are (label, name); `former_ids` are external ids of before a renaming, which still
    lead here. `sends` are the messages triggered, the last ones, and `sent` how many there were.
    """

    number: int
    external_id: str | None = None
    aliases: tuple[tuple[str, str], ...] = ()
    former_ids: tuple[str, ...] = ()
    attributes: Object = {}
    tallies: dict[tuple[int, str], Tally] | None = None
    revenue: float = 0.0
    arrivals: list[tuple[int, int, bytes]] = []
    counts: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0])
    touched: int = 0
    sends: list[Object] | None = None
    sent: int = 0

    @property
    def braze_id(self) -> str:
        """The identifier that the destination gives."""
        return f"{self.number:024x}"


class Store:
    """All profiles, and counts of everything that was applied.

    Args:
        keep: objects kept per profile for a look at what arrived; older ones fall out.
        keep_bytes: memory for kept objects over all profiles; when it is used up, none are added.
    """

    def __init__(self, *, keep: int, keep_bytes: int) -> None:
        self._keep = keep
        self._keep_bytes = keep_bytes
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._profiles: dict[UserKey, Profile] = {}
        self._numbered: list[Profile | None] = []
        self._alive = 0
        self._by_field: dict[tuple[str, str], list[Profile]] = {}
        self._digests: set[int] = set()
        self._kept_bytes = 0
        self._clock = 0
        self.objects = [0, 0, 0]
        self.dropped: Counter[str] = Counter()
        self.sends = 0
        self.email_states: dict[str, str] = {}
        self.bounces_removed: set[str] = set()
        self.spam_removed: set[str] = set()

    def __len__(self) -> int:
        """Return the number of profiles."""
        return self._alive

    def __iter__(self) -> Iterator[Profile]:
        """Go through the profiles, oldest first."""
        return (profile for profile in self._numbered if profile is not None)

    @property
    def distinct(self) -> int:
        """Objects applied, copies counted once: a copy has the same kind and equal JSON."""
        return len(self._digests)

    def apply(
        self, request: int, items: Iterable[Iterable[Item]], arrays: ArrayCap = ARRAYS
    ) -> None:
        """Apply the accepted objects of a request: attributes, then events, then purchases.

        `items` are in slot order; `request` numbers the request in what is kept; `arrays` is how
        many elements an array may have.
        """
        for slot, slot_items in enumerate(items):
            for item in slot_items:
                create = _may_create(item)
                profile = self.arrive(request, slot, item.key, item.encoded, create=create)
                if profile is not None:
                    self._take_effect(profile, slot, item.body, arrays)

    def arrive(
        self, request: int, slot: int, key: UserKey, encoded: bytes, *, create: bool = True
    ) -> Profile | None:
        """Count an accepted object and keep it; return its profile, which may be a new one.

        Without one, and without leave to create it, the object is a drop and None is returned. Two
        objects of a kind with the same bytes are copies.
        """
        self.objects[slot] += 1
        self._digests.add(hash((slot, encoded)))
        profile = self.find(key)
        if profile is None:
            if not create:
                self.dropped[NO_CREATION] += 1
                return None
            profile = self.create(key)
        self.touch(profile)
        profile.counts[slot] += 1
        self._retain(profile, request, slot, encoded)
        return profile

    def touch(self, profile: Profile) -> None:
        """Note that this profile is the one updated last."""
        self._clock += 1
        profile.touched = self._clock

    def _take_effect(self, profile: Profile, slot: int, body: Object, arrays: ArrayCap) -> None:
        if slot == ATTRIBUTES:
            self.change(profile, lambda state: apply_attributes(state, body, arrays))
        elif slot == EVENT:
            tally(profile, EVENT, body["name"], body["time"])
        else:
            quantity = body.get("quantity", 1)
            tally(profile, PURCHASE, body["product_id"], body["time"], quantity)
            profile.revenue += body["price"] * quantity

    def find(self, key: UserKey) -> Profile | None:
        """Return the profile of a resolved identity.

        Among several with the same e-mail or phone, one with an external id goes first, then the
        one updated last.
        """
        if type(key) is str or key[0] not in KEY_FIELDS:
            if key[0] == "braze_id" and type(key) is tuple:
                return self._by_braze_id(key[1])
            return self._profiles.get(key)
        candidates = self._by_field.get((key[0], key[1]))
        if not candidates:
            return None
        return max(candidates, key=lambda found: (found.external_id is not None, found.touched))

    def _by_braze_id(self, braze_id: str) -> Profile | None:
        try:
            number = int(braze_id, 16)
        except ValueError:
            return None
        found = self._numbered[number] if 0 <= number < len(self._numbered) else None
        return found if found is not None and found.braze_id == braze_id else None

    def all_with(self, field: str, value: str) -> tuple[Profile, ...]:
        """Return every profile whose e-mail or phone (`KEY_FIELDS`) has this value."""
        return tuple(self._by_field.get((field, value), ()))

    def create(self, key: UserKey) -> Profile:
        """Make a profile of this identity, which nobody has yet."""
        profile = Profile(len(self._numbered))
        self._numbered.append(profile)
        self._alive += 1
        if isinstance(key, str):
            profile.external_id = key
        elif key[0] == "alias":
            profile.aliases = ((key[1], key[2]),)
        elif key[0] in KEY_FIELDS:
            self._set_field(profile, key[0], key[1])
            return profile
        self.bind(key, profile)
        return profile

    def bind(self, key: UserKey, profile: Profile) -> None:
        """Let this identity (external id, alias, push token) lead to this profile from now on."""
        self._profiles[key] = profile

    def unbind(self, key: UserKey) -> None:
        """Let this identity lead nowhere."""
        self._profiles.pop(key, None)

    def forget(self, profile: Profile) -> None:
        """Remove a profile with all that leads to it; what was counted stays counted."""
        ids: list[UserKey] = [*profile.former_ids]
        ids += (("alias", *alias) for alias in profile.aliases)
        if profile.external_id is not None:
            ids.append(profile.external_id)
        tokens = profile.attributes.get("push_tokens")
        ids += (("push_token", token["token"]) for token in tokens or ())
        for key in ids:
            if self._profiles.get(key) is profile:
                self.unbind(key)
        for field in KEY_FIELDS:
            value = profile.attributes.get(field)
            if isinstance(value, str):
                self._by_field[field, value].remove(profile)
        for _, _, encoded in profile.arrivals:
            self._kept_bytes -= len(encoded) + KEPT_OVERHEAD_BYTES
        self._numbered[profile.number] = None
        self._alive -= 1

    def _set_field(self, profile: Profile, field: str, value: str) -> None:
        profile.attributes[field] = value
        self._by_field.setdefault((field, value), []).append(profile)
        if field == "email" and value in self.email_states:
            # The state of an address is kept from before anyone had it.
            profile.attributes.setdefault("email_subscribe", self.email_states[value])

    def change(self, profile: Profile, how: Callable[[Object], Iterable[str]]) -> None:
        """Let `how` change the attributes in place and return the reasons of what it dropped."""
        before = [(field, profile.attributes.get(field)) for field in KEY_FIELDS]
        reasons = how(profile.attributes)
        if reasons:
            self.dropped.update(reasons)
        for field, old in before:
            new = profile.attributes.get(field)
            if new == old:
                continue
            if isinstance(old, str):
                self._by_field[field, old].remove(profile)
            if isinstance(new, str):
                self._set_field(profile, field, new)

    def _retain(self, profile: Profile, request: int, slot: int, encoded: bytes) -> None:
        if not self._keep:
            return
        arrivals = profile.arrivals
        if len(arrivals) >= self._keep:
            self._kept_bytes -= len(arrivals.pop(0)[2]) + KEPT_OVERHEAD_BYTES
        size = len(encoded) + KEPT_OVERHEAD_BYTES
        if self._kept_bytes + size <= self._keep_bytes:
            self._kept_bytes += size
            # orjson's bytes sit in a block of a kilobyte that was shrunk; kept as they are, the
            # gaps between them cost three times the objects.
            arrivals.append((request, slot, bytes(memoryview(encoded))))

    def view(self, key: UserKey) -> dict[str, Any] | None:
        """Return a profile as JSON, with what arrived for it in order; None when there is none.

        `counts` are exact, by kind; `omitted` is how many objects were counted and are not shown.
        `arrivals` shows objects as they came; `events` and `purchases` leave out properties that
        the destination drops.
        """
        profile = self.find(key)
        if profile is None:
            return None
        arrivals = [
            {"request": request, "kind": KINDS[slot], "object": loads(encoded)}
            for request, slot, encoded in profile.arrivals
        ]
        return {
            "external_id": profile.external_id,
            "braze_id": profile.braze_id,
            "former_external_ids": list(profile.former_ids),
            "user_aliases": aliases_of(profile),
            "attributes": profile.attributes,
            "events": [
                _cleaned(arrival["object"])
                for arrival in arrivals
                if arrival["kind"] == KINDS[EVENT]
            ],
            "purchases": [
                _cleaned(arrival["object"])
                for arrival in arrivals
                if arrival["kind"] == KINDS[PURCHASE]
            ],
            "arrivals": arrivals,
            "counts": dict(zip(KINDS, profile.counts, strict=True)),
            "omitted": sum(profile.counts) - len(arrivals),
            "total_revenue": round(profile.revenue, 2),
            "sends": profile.sends or [],
            "sent": profile.sent,
        }

    def stats(self) -> dict[str, Any]:
        """Return the counts of what was applied."""
        return {
            "objects": dict(zip(KINDS, self.objects, strict=True)),
            "distinct_objects": self.distinct,
            "copies": sum(self.objects) - self.distinct,
            "users": len(self),
            "dropped": dict(self.dropped),
            "sends": self.sends,
            "emails": {
                "states": len(self.email_states),
                "bounces_removed": len(self.bounces_removed),
                "spam_removed": len(self.spam_removed),
            },
        }


def _may_create(item: Item) -> bool:
    """Whether an object may create its profile: an alias must ask for it, others by default may."""
    key = item.key
    only_existing = item.body.get("_update_existing_only")
    if type(key) is str:
        return only_existing is not True
    if key[0] == "braze_id":
        return False  # the destination gives these out, nobody else
    return only_existing is False if key[0] == "alias" else only_existing is not True


def aliases_of(profile: Profile) -> list[Object]:
    """Return the aliases as they are written in JSON."""
    return [{"alias_name": name, "alias_label": label} for label, name in profile.aliases]


def tally(profile: Profile, slot: int, name: str, time: str, count: int = 1) -> None:
    """Book an event or product on a profile."""
    if profile.tallies is None:
        profile.tallies = {}
    booked = profile.tallies.get((slot, name))
    if booked is None:
        profile.tallies[slot, name] = Tally(count, time, time)
        return
    booked.count += count
    # Compared as text, which is right for times of one form and zone, as one sender has.
    booked.first = min(booked.first, time)
    booked.last = max(booked.last, time)


def _cleaned(obj: Object) -> Object:
    """Return an event or purchase without the properties whose strings are too long."""
    properties = obj.get("properties")
    if type(properties) is not dict:
        return obj
    kept = {
        name: value
        for name, value in properties.items()
        if not (type(value) is str and len(value) > STRING_CHARS)
    }
    return {**obj, "properties": kept}
