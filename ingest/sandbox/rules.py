"""What `/users/track` says to a decoded body: caps of the request, a verdict on every object.

This module decides status and body of the answer and which objects are accepted. It knows no
profile, no clock and no HTTP; bytes of the body are counted by the caller and judged here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from ingest.errors import ConfigError
from ingest.records import UserKey
from ingest.sandbox.objects import (
    BAD_PROPERTIES,
    TOO_DEEP,
    Object,
    canonical,
    check,
    key_of,
    oversized,
    poison_of,
    reject_errors,
)

SLOTS: Final = ("attributes", "events", "purchases")

MAX_INPUT_LENGTH: Final = "Max Input Length Exceeded"
NO_VALID_DATA: Final = (
    "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."
)
NOT_AN_ARRAY: Final = "'{}' must be an array of objects"
BAD_SYNTAX: Final = "Bad syntax: the request body could not be parsed"
TOO_LARGE: Final = "Request Entity Too Large"
TOO_MANY_OF_A_USER: Final = "The max number of objects per user profile was exceeded"
SERVER_ERROR: Final = "Internal Server Error"

TRACK_BODY_BYTES: Final = 4_000_000
BULK_BODY_BYTES: Final = 2_000_000
DEFAULT_OBJECTS: Final = 75
BULK_OBJECTS: Final = 1_000
BULK_OBJECTS_PER_USER: Final = 100

AID_MARK: Final = b"_sandbox_"
"""A body without these bytes carries no test aid, so its objects need not be searched for one."""


class Caps(msgspec.Struct, frozen=True):
    """Ceilings of one endpoint; 0 means none.

    `body_status` is what an oversize body is answered with: endpoints differ.
    """

    per_slot: int = 0
    total: int = 0
    per_user: int = 0
    body_bytes: int = TRACK_BODY_BYTES
    body_status: int = 413


BULK_CAPS: Final = Caps(
    total=BULK_OBJECTS,
    per_user=BULK_OBJECTS_PER_USER,
    body_bytes=BULK_BODY_BYTES,
    body_status=400,
)


class Item(msgspec.Struct, frozen=True, gc=False):
    """An accepted object: whose it is, its decoded body, and its canonical encoding."""

    key: UserKey
    body: Object
    encoded: bytes


class Verdict(msgspec.Struct, frozen=True):
    """What is said to a request, and what is to be stored of it.

    `items` has a list of accepted objects per slot; `sizes` the objects sent per slot; `users` are
    the identities of everything sent, refused objects included. `effect` is what else is to be done
    when the request is applied (it takes the number of the request); `updates` is what it counts in
    budgets of updates.
    """

    status: int
    body: dict[str, Any]
    items: tuple[list[Item], list[Item], list[Item]] = ([], [], [])
    sizes: tuple[int, int, int] = (0, 0, 0)
    rejected: int = 0
    users: frozenset[UserKey] = frozenset()
    effect: Callable[[int], None] | None = None
    updates: int = 0


Checker = Callable[[int, Any, UserKey | None], list[str]]
"""Takes the slot, an object and its identity; returns its errors."""


class Judge(Protocol):
    """What a path says to a decoded body; `aids` is whether the bytes of it contain a test aid."""

    def __call__(self, body: Any, /, *, aids: bool) -> Verdict:
        """Never raises, whatever was decoded."""
        ...


def parse_limits(limits: str | int) -> Caps:
    """Return the caps of `/users/track`: `per-array`, `combined`, or a number in total.

    Raises `ConfigError` for anything else.
    """
    text = str(limits)
    if text == "per-array":
        return Caps(per_slot=DEFAULT_OBJECTS)
    if text == "combined":
        return Caps(total=DEFAULT_OBJECTS)
    if text.isdecimal() and int(text) > 0:
        return Caps(total=int(text))
    raise ConfigError(
        f"the sandbox's limits {text!r} are unknown: use per-array, combined, or a number above 0"
    )


def refusal(status: int, message: str) -> Verdict:
    """Return a verdict on the whole request: nothing of it is stored."""
    return Verdict(status, {"message": message})


def judge_size(nbytes: int, caps: Caps) -> Verdict | None:
    """Return the refusal of a body of this many bytes, or None when it may be read."""
    if caps.body_bytes and nbytes > caps.body_bytes:
        return refusal(caps.body_status, TOO_LARGE)
    return None


def judge(body: Any, caps: Caps, *, aids: bool = True, checks: Checker = check) -> Verdict:
    """Judge a decoded body. Never raises, whatever was decoded.

    `checks` finds the errors of an object; its default is what the destination says today. `aids`
    says whether to look for the test aids `_sandbox_poison` and `_sandbox_reject`; callers that
    have the bytes pass whether `AID_MARK` is in them.
    """
    if type(body) is not dict:
        return refusal(400, NO_VALID_DATA)
    arrays: list[list[Any]] = []
    for name in SLOTS:
        array = body.get(name, [])
        if type(array) is not list:
            return refusal(400, NOT_AN_ARRAY.format(name))
        arrays.append(array)
    sizes = (len(arrays[0]), len(arrays[1]), len(arrays[2]))
    # Identities come first: users count as carried by the request whatever becomes of it.
    keys = [[key_of(obj) if type(obj) is dict else None for obj in array] for array in arrays]
    users = frozenset(key for slot_keys in keys for key in slot_keys if key is not None)

    whole = _judge_whole(arrays, sizes, keys, caps, aids=aids)
    if whole is not None:
        return msgspec.structs.replace(whole, sizes=sizes, users=users)

    items: tuple[list[Item], list[Item], list[Item]] = ([], [], [])
    errors: list[dict[str, Any]] = []
    rejected = 0
    for slot, array in enumerate(arrays):
        accept = items[slot].append
        for index, obj in enumerate(array):
            key = keys[slot][index]
            found = checks(slot, obj, key)
            if aids:
                found += reject_errors(obj)
            if not found:
                assert key is not None  # an object without identity has an error
                item = _item(slot, key, obj)
                if isinstance(item, Item):
                    accept(item)
                    continue
                found = [item]
            rejected += 1
            errors += ({"type": text, "input_array": SLOTS[slot], "index": index} for text in found)
    status, answer = _word(items, sizes, errors)
    return Verdict(status, answer, items, sizes, rejected, users)


def _item(slot: int, key: UserKey, obj: Object) -> Item | str:
    """Encode an object; return it, or the error that only its encoding shows."""
    try:
        encoded = canonical(obj)
    except TypeError:
        return TOO_DEEP
    return BAD_PROPERTIES if oversized(slot, obj, len(encoded)) else Item(key, obj, encoded)


def _judge_whole(
    arrays: list[list[Any]],
    sizes: tuple[int, int, int],
    keys: list[list[UserKey | None]],
    caps: Caps,
    *,
    aids: bool,
) -> Verdict | None:
    """Return the refusal of the request as a whole, or None."""
    total = sum(sizes)
    if (caps.per_slot and max(sizes) > caps.per_slot) or (caps.total and total > caps.total):
        return refusal(400, MAX_INPUT_LENGTH)
    if caps.per_user and total > caps.per_user:
        counts = Counter(key for slot_keys in keys for key in slot_keys if key is not None)
        if counts and max(counts.values()) > caps.per_user:
            return refusal(400, TOO_MANY_OF_A_USER)
    if aids:
        poisons = {poison_of(obj) for array in arrays for obj in array}
        if "500" in poisons:
            return refusal(500, SERVER_ERROR)
        if "400" in poisons:
            return refusal(400, BAD_SYNTAX)
    return None


def _word(
    items: tuple[list[Item], list[Item], list[Item]],
    sizes: tuple[int, int, int],
    errors: list[dict[str, Any]],
) -> tuple[int, dict[str, Any]]:
    """Return status and body: good objects make a 201, none at all a 400 with the same errors."""
    if any(items):
        answer: dict[str, Any] = {"message": "success"}
        status = 201
        for name, accepted, size in zip(SLOTS, items, sizes, strict=True):
            if size:
                answer[f"{name}_processed"] = len(accepted)
    else:
        answer = {"message": NO_VALID_DATA}
        status = 400
    if errors:
        answer["errors"] = errors
    return status, answer
