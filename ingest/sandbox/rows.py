"""The other endpoints that take a batch: what each says to a body, and does to the profiles.

This module decides status, answer and effect of each row, a path of the table that `rows` returns:
which array it takes, how many items, what is wrong with an item. What it answers depends on the
profiles as they are when the request is judged. It knows no key, no rate and no HTTP.

Rows about users are here; those about addresses, tokens and messages are in `contacts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ingest.records import UserKey
from ingest.sandbox import changes
from ingest.sandbox.objects import (
    ALIAS_BYTES,
    BAD_ALIAS,
    EXTERNAL_ID_BYTES,
    EXTERNAL_ID_TOO_LONG,
    MISSING_IDENTIFIER,
    NOT_A_STRING,
    NOT_AN_OBJECT,
    Object,
    key_of,
    poison_of,
    reject_errors,
)
from ingest.sandbox.rules import BAD_SYNTAX, SERVER_ERROR, Judge, Verdict, refusal
from ingest.sandbox.store import Store

ITEMS_MAX: Final = 50
"""Most items of a request, on every row."""

DELETE: Final = "/users/delete"
ALIAS_NEW: Final = "/users/alias/new"
IDENTIFY: Final = "/users/identify"
RENAME: Final = "/users/external_ids/rename"
REMOVE: Final = "/users/external_ids/remove"

TOO_MANY: Final = "The max number of {} per request was exceeded"
NO_ITEMS: Final = "Valid data must be provided in the {} field."
ONLY_ONE_OF: Final = "only one of {} may be given"
NOT_AN_ARRAY: Final = "'{}' must be an array"
BAD_IDS: Final = "'{}' has an entry that is no such id"
UNKNOWN_USER: Final = "no user has this {}"
ID_IN_USE: Final = "the new external_id is in use"
NOT_FORMER: Final = "the external_id is not a deprecated one"
BAD_MERGE: Final = "'merge_behavior' must be 'none' or 'merge'"

_IDENTIFIED: Final = {
    "aliases_to_identify": ("user_alias", "aliases_processed"),
    "emails_to_identify": ("email", "emails_processed"),
    "phone_numbers_to_identify": ("phone", "phone_numbers_processed"),
}
"""Arrays of `/users/identify`: the member that leads to the profile, and the count answered."""


def user_rows(store: Store, delete_by: Mapping[str, str]) -> dict[str, Judge]:
    """Return the rows about users. `delete_by` has the arrays of ids and the kind of each."""
    return {
        DELETE: lambda body, *, aids: judge_delete(body, store, delete_by),
        ALIAS_NEW: lambda body, *, aids: judge_alias_new(body, store, aids=aids),
        IDENTIFY: lambda body, *, aids: judge_identify(body, store, aids=aids),
        RENAME: lambda body, *, aids: judge_rename(body, store, aids=aids),
        REMOVE: lambda body, *, aids: judge_remove(body, store),
    }


DELETE_BY: Final = {
    "external_ids": "external_id",
    "braze_ids": "braze_id",
    "user_aliases": "user_alias",
}
"""Arrays of `/users/delete`, of which one is given."""


def items_of(body: Any, name: str, plural: str) -> list[Any] | Verdict:
    """Return the array of a row, 1 to 50 items; or the refusal of the request.

    `plural` is what the refusal of too many calls them.
    """
    if type(body) is not dict or body.get(name) is None:
        return refusal(400, NO_ITEMS.format(f"'{name}'"))
    items = body[name]
    if type(items) is not list:
        return refusal(400, NOT_AN_ARRAY.format(name))
    if not items:
        return refusal(400, NO_ITEMS.format(f"'{name}'"))
    if len(items) > ITEMS_MAX:
        return refusal(400, TOO_MANY.format(plural))
    return items


def poisoned(items: list[Any]) -> Verdict | None:
    """Return the refusal that an item asks for by `_sandbox_poison`, if one does."""
    poisons = {poison_of(item) for item in items}
    if "500" in poisons:
        return refusal(500, SERVER_ERROR)
    return refusal(400, BAD_SYNTAX) if "400" in poisons else None


def id_errors(obj: Any, name: str) -> list[str]:
    """Return what is wrong with an external id under this name, if anything is."""
    if type(obj) is not dict:
        return [NOT_AN_OBJECT]
    value = obj.get(name)
    if value is None or value == "":
        return [MISSING_IDENTIFIER if name == "external_id" else f"'{name}' is required"]
    if type(value) is not str:
        return [NOT_A_STRING.format(name)]
    return [EXTERNAL_ID_TOO_LONG] if len(value.encode()) > EXTERNAL_ID_BYTES else []


def alias_errors(alias: UserKey | None) -> list[str]:
    """Return what is wrong with an alias; `alias` is what `key_of` made of it."""
    if alias is None or any(len(part.encode()) > ALIAS_BYTES for part in alias[1:]):
        return [BAD_ALIAS]
    return []


def worded(
    answer: Object, errors: list[Object], good: int, effect: Callable[[int], None], **more: Any
) -> Verdict:
    """Return the verdict on a row with errors by index: 201 if any item is good, else 400."""
    listed = {"errors": errors} if errors else {}
    rejected = len({(error["input_array"], error["index"]) for error in errors})
    if not good:
        arrays = {str(error["input_array"]) for error in errors}
        names = ", ".join(f"'{name}'" for name in sorted(arrays))
        message = {"message": NO_ITEMS.format(names)}
        return Verdict(400, message | listed, rejected=rejected, **more)
    return Verdict(201, answer | listed, rejected=rejected, effect=effect, **more)


def indexed(name: str, index: int, texts: list[str]) -> list[Object]:
    """Return errors as the answer lists them."""
    return [{"type": text, "input_array": name, "index": index} for text in texts]


def judge_delete(body: Any, store: Store, delete_by: Mapping[str, str]) -> Verdict:
    """Delete users by ids of one kind. Ids that are unknown are listed, and no error."""
    given = [name for name in delete_by if type(body) is dict and body.get(name) is not None]
    if len(given) > 1:
        return refusal(400, ONLY_ONE_OF.format(", ".join(f"'{name}'" for name in delete_by)))
    name = given[0] if given else next(iter(delete_by))
    items = items_of(body, name, "ids")
    if isinstance(items, Verdict):
        return items
    keys = [key_of({delete_by[name]: item}) for item in items]
    if None in keys:
        return refusal(400, BAD_IDS.format(name))
    found = [None if key is None else store.find(key) for key in keys]
    unknown = [item for item, profile in zip(items, found, strict=True) if profile is None]
    gone = {profile.number: profile for profile in found if profile is not None}
    answer: Object = {"deleted": len(gone), "message": "success"}
    if unknown:
        answer["invalid_user_ids"] = unknown

    def effect(_: int) -> None:
        for profile in gone.values():
            store.forget(profile)

    users = frozenset(key for key in keys if key is not None)
    return Verdict(201, answer, users=users, rejected=len(unknown), effect=effect)


def judge_alias_new(body: Any, store: Store, *, aids: bool = True) -> Verdict:
    """Add aliases to users, or make profiles that have an alias only."""
    items = items_of(body, "user_aliases", "external_ids and aliases")
    if isinstance(items, Verdict):
        return items
    if aids and (poison := poisoned(items)):
        return poison
    errors, good, users = [], [], []
    for index, item in enumerate(items):
        alias = key_of({"user_alias": item})
        texts = alias_errors(alias) if type(item) is dict else [NOT_AN_OBJECT]
        external_id = item.get("external_id") if type(item) is dict else None
        if external_id is not None:
            texts += id_errors(item, "external_id")
        texts += reject_errors(item) if aids else []
        if texts or alias is None:
            errors += indexed("user_aliases", index, texts)
        else:
            good.append((external_id, alias))
            users.append(alias if external_id is None else external_id)

    def effect(_: int) -> None:
        for external_id, alias in good:
            changes.add_alias(store, external_id, alias)

    answer = {"aliases_processed": len(good), "message": "success"}
    return worded(answer, errors, len(good), effect, users=frozenset(users))


def judge_identify(body: Any, store: Store, *, aids: bool = True) -> Verdict:
    """Give external ids to profiles that have none; at most 50 in all arrays together."""
    if type(body) is not dict or not any(body.get(name) for name in _IDENTIFIED):
        return refusal(400, NO_ITEMS.format(", ".join(f"'{name}'" for name in _IDENTIFIED)))
    behavior = body.get("merge_behavior", "merge")
    if behavior not in ("none", "merge"):
        return refusal(400, BAD_MERGE)
    every = []
    answer: Object = {}
    for name, (member, counted) in _IDENTIFIED.items():
        items = body.get(name)
        if items is None:
            continue
        if type(items) is not list:
            return refusal(400, NOT_AN_ARRAY.format(name))
        answer[counted] = 0
        every += [(name, member, index, item) for index, item in enumerate(items)]
    if len(every) > ITEMS_MAX:
        return refusal(400, TOO_MANY.format("external_ids and aliases"))
    if aids and (poison := poisoned([item for *_, item in every])):
        return poison

    errors: list[Object] = []
    good: list[tuple[UserKey, str]] = []
    for name, member, index, item in every:
        texts = id_errors(item, "external_id")
        key = key_of({member: item.get(member)}) if type(item) is dict else None
        if not texts:
            texts = alias_errors(key) if member == "user_alias" else []
            if key is None:
                texts = texts or [f"'{member}' is required"]
            elif not texts and changes.unidentified(store, key) is None:
                texts = [UNKNOWN_USER.format(member)]
        texts += reject_errors(item) if aids else []
        if texts or key is None:
            errors += indexed(name, index, texts)
        else:
            answer[_IDENTIFIED[name][1]] += 1
            good.append((key, item["external_id"]))

    def effect(_: int) -> None:
        for key, external_id in good:
            changes.identify(store, key, external_id, merge=behavior == "merge")

    users = frozenset(user for pair in good for user in pair)
    return worded(answer | {"message": "success"}, errors, len(good), effect, users=users)


def judge_rename(body: Any, store: Store, *, aids: bool = True) -> Verdict:
    """Change external ids. Errors are pairs of index and sentence, and the answer is a 201."""
    items = items_of(body, "external_id_renames", "ids")
    if isinstance(items, Verdict):
        return items
    if aids and (poison := poisoned(items)):
        return poison
    errors: list[list[Any]] = []
    good: dict[str, str] = {}
    for index, item in enumerate(items):
        texts = id_errors(item, "current_external_id")
        texts = texts or id_errors(item, "new_external_id")
        if not texts:
            current, new = item["current_external_id"], item["new_external_id"]
            if current in good or store.find(current) is None:
                texts = [UNKNOWN_USER.format("current_external_id")]
            elif new in good.values() or store.find(new) is not None:
                texts = [ID_IN_USE]
        texts += reject_errors(item) if aids else []
        if texts:
            errors.append([index, texts[0]])
        else:
            good[current] = new

    def effect(_: int) -> None:
        for current, new in good.items():
            changes.rename(store, current, new)

    answer: Object = {"message": "success", "external_ids": list(good.values())}
    if errors:
        answer["rename_errors"] = errors
    users = frozenset[UserKey]([*good, *good.values()])
    return Verdict(201, answer, users=users, rejected=len(errors), effect=effect)


def judge_remove(body: Any, store: Store) -> Verdict:
    """Remove external ids that a renaming left behind. Errors are pairs, as of a renaming."""
    items = items_of(body, "external_ids", "ids")
    if isinstance(items, Verdict):
        return items
    errors: list[list[Any]] = []
    good: list[str] = []
    for index, item in enumerate(items):
        texts = id_errors({"external_id": item}, "external_id")
        if not texts:
            profile = store.find(item)
            if profile is None:
                texts = [UNKNOWN_USER.format("external_id")]
            elif item not in profile.former_ids:
                texts = [NOT_FORMER]
        if texts:
            errors.append([index, texts[0]])
        else:
            good.append(item)

    def effect(_: int) -> None:
        for external_id in good:
            changes.remove_former_id(store, external_id)

    answer: Object = {"message": "success", "removed_ids": good}
    if errors:
        answer["removal_errors"] = errors
    return Verdict(201, answer, users=frozenset(good), rejected=len(errors), effect=effect)
