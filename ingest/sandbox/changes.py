"""What is done to whole profiles: aliases, identities, messages, the state of addresses.

This module decides how each of these changes the store, and counts what changes nothing. It knows
no requests: who asks has found out that the change is a valid one, though an earlier one of the
same request may have made it void by then.
"""

from __future__ import annotations

from typing import Any, Final

from ingest.records import UserKey
from ingest.sandbox.objects import Object
from ingest.sandbox.store import KEY_FIELDS, Profile, Store

NO_USER_FOR_ALIAS: Final = "alias_without_user"
ALIAS_TAKEN: Final = "alias_taken"
UNKNOWN_TOKEN: Final = "unknown_push_token"
UNKNOWN_RECIPIENT: Final = "unknown_recipient"
"""Reasons of changes that came to nothing though the answer says success."""

SENDS_KEPT: Final = 1_000
"""Messages of a profile that are shown; older ones are only counted."""


def delete(store: Store, key: UserKey) -> None:
    """Remove the profile of this identity, if it is still there."""
    profile = store.find(key)
    if profile is not None:
        store.forget(profile)


def add_alias(store: Store, external_id: str | None, alias: UserKey) -> None:
    """Give an alias to the user of an external id, or without one to a new profile.

    An alias leads to one profile, and a profile has one name under each label; who has it keeps it.
    """
    label, name = alias[1], alias[2]
    if store.find(alias) is not None:
        store.dropped[ALIAS_TAKEN] += 1
    elif external_id is None:
        store.touch(store.create(alias))
    elif (profile := store.find(external_id)) is None:
        store.dropped[NO_USER_FOR_ALIAS] += 1
    elif any(label == taken for taken, _ in profile.aliases):
        store.dropped[ALIAS_TAKEN] += 1
    else:
        _move_alias(store, profile, (label, name))


def _move_alias(store: Store, to: Profile, alias: tuple[str, str]) -> None:
    to.aliases = (*to.aliases, alias)
    store.bind(("alias", *alias), to)
    store.touch(to)


def unidentified(store: Store, key: UserKey) -> Profile | None:
    """Return the profile without an external id that this alias, e-mail or phone leads to.

    Among several with the same e-mail or phone it is the one updated last.
    """
    if key[0] in KEY_FIELDS:
        found = [each for each in store.all_with(key[0], key[1]) if each.external_id is None]
        return max(found, key=lambda each: each.touched, default=None)
    profile = store.find(key)
    return profile if profile is not None and profile.external_id is None else None


def identify(store: Store, key: UserKey, external_id: str, *, merge: bool) -> None:
    """Give an external id to an unidentified profile, or end it in the one that has the id.

    There its aliases go along; with `merge` so do attributes which the other does not have, its
    events, purchases and messages.
    """
    orphan = unidentified(store, key)
    if orphan is None:
        return
    profile = store.find(external_id)
    if profile is None:
        orphan.external_id = external_id
        store.bind(external_id, orphan)
        store.touch(orphan)
        return
    store.forget(orphan)
    for alias in orphan.aliases:
        if all(alias[0] != label for label, _ in profile.aliases):
            _move_alias(store, profile, alias)
    if merge:
        _merge(store, orphan, profile)
    store.touch(profile)


def _merge(store: Store, orphan: Profile, profile: Profile) -> None:
    def fill(state: Object) -> tuple[str, ...]:
        for name, value in orphan.attributes.items():
            state.setdefault(name, value)
        return ()

    store.change(profile, fill)
    profile.counts = [a + b for a, b in zip(profile.counts, orphan.counts, strict=True)]
    profile.revenue += orphan.revenue
    profile.sent += orphan.sent
    profile.sends = [*(profile.sends or ()), *(orphan.sends or ())][-SENDS_KEPT:] or None
    for booked, tally in (orphan.tallies or {}).items():
        if profile.tallies is None:
            profile.tallies = {}
        known = profile.tallies.setdefault(booked, tally)
        if known is not tally:
            known.count += tally.count
            known.first = min(known.first, tally.first)
            known.last = max(known.last, tally.last)


def rename(store: Store, current: str, new: str) -> None:
    """Give a user another external id; the former one still leads to the profile."""
    profile = store.find(current)
    if profile is None or store.find(new) is not None:
        return
    if profile.external_id is not None:
        profile.former_ids = (*profile.former_ids, profile.external_id)
    profile.external_id = new
    store.bind(new, profile)
    store.touch(profile)


def remove_former_id(store: Store, external_id: str) -> None:
    """Let a former external id lead nowhere."""
    profile = store.find(external_id)
    if profile is not None and external_id in profile.former_ids:
        profile.former_ids = tuple(each for each in profile.former_ids if each != external_id)
        store.unbind(external_id)


def remove_tokens(store: Store, gone: set[tuple[str, str]]) -> None:
    """Remove push tokens, given as (app_id, token), from every profile that has them."""
    found = set()
    for profile in store:
        tokens = profile.attributes.get("push_tokens")
        if not tokens:
            continue
        names = [(token["app_id"], token["token"]) for token in tokens]
        if not gone.isdisjoint(names):
            found |= gone.intersection(names)
            profile.attributes["push_tokens"] = [
                token for token, name in zip(tokens, names, strict=True) if name not in gone
            ]
    if gone - found:
        store.dropped[UNKNOWN_TOKEN] += len(gone - found)


def set_email_state(store: Store, email: str, state: str) -> None:
    """Set the subscription of everyone with this address, and of whoever will have it."""
    store.email_states[email] = state
    for profile in store.all_with("email", email):
        profile.attributes["email_subscribe"] = state


def clear_bounce(store: Store, email: str) -> None:
    """Take an address off the list of those that bounced."""
    store.bounces_removed.add(email)


def clear_spam(store: Store, email: str) -> None:
    """Take an address off the list of those that complained."""
    store.spam_removed.add(email)
    for profile in store.all_with("email", email):
        profile.attributes.pop("marked_email_as_spam_at", None)


def send(
    store: Store, request: int, key: UserKey, campaign: str, properties: Any, *, create: bool
) -> None:
    """Send a message of a campaign to one recipient; an unknown one gets none, unless `create`."""
    store.sends += 1
    profile = store.find(key)
    if profile is None:
        if not create or isinstance(key, tuple):
            store.dropped[UNKNOWN_RECIPIENT] += 1
            return
        profile = store.create(key)
    profile.sent += 1
    sends = profile.sends = profile.sends if profile.sends is not None else []
    sends.append({"request": request, "campaign_id": campaign, "trigger_properties": properties})
    del sends[:-SENDS_KEPT]
