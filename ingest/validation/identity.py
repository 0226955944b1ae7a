"""Whose record it is: the one user that an object names, as a key that compares decoded values.

Decides which identifier counts and whether it can be one. It does not know whether the user exists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ingest.records import ATTRIBUTES, KINDS, UserKey
from ingest.validation.problems import Problem, problem

MAX_EXTERNAL_ID: Final = 987
"""Bytes of UTF-8 in an external id: fewer than 988."""

MAX_ALIAS: Final = 236
"""Bytes of UTF-8 in the name of an alias, and in its label."""

EMAIL_PATTERN: Final = r"[^@\s]@[^@\s]"
"""Deliberately lax: something on both sides of an at sign. What it finds bad is bad for certain."""

_PRIMARIES: Final = ("external_id", "user_alias", "braze_id")
_ANY_EMAIL: Final = re.compile(EMAIL_PATTERN)


def utf8_len(text: str) -> int:
    """Return the bytes of `text` in UTF-8 (a lone surrogate, which JSON cannot say, counts 3)."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def is_email(value: object) -> bool:
    """Tell whether `value` could be an e-mail address."""
    return isinstance(value, str) and _ANY_EMAIL.search(value) is not None


def push_tokens(record: Mapping[str, Any]) -> list[str]:
    """Return the tokens of an attributes object, those that are non-empty strings."""
    entries = record.get("push_tokens")
    if not isinstance(entries, list):
        return []
    tokens = (entry.get("token") for entry in entries if isinstance(entry, dict))
    return [token for token in tokens if isinstance(token, str) and token]


def _imported(record: Mapping[str, Any]) -> UserKey | Problem:
    """Resolve an anonymous import: the tokens are the identity, and an id is refused."""
    tokens = push_tokens(record)
    if not tokens or record.get("external_id") is not None or record.get("braze_id") is not None:
        return problem("bad-push-token-import", "push_token_import")
    return ("push_token", *tokens)


def _external_id(value: object) -> UserKey | Problem:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        return problem("bad-external-id", "external_id")
    if utf8_len(value) > MAX_EXTERNAL_ID:
        return problem("long-external-id", "external_id")
    return value


def _alias(value: object) -> UserKey | Problem:
    if not isinstance(value, dict):
        return problem("bad-alias", "user_alias")
    parts: list[str] = []
    for step in ("alias_label", "alias_name"):
        part = value.get(step)
        if not isinstance(part, str) or not part:
            return problem("bad-alias", "user_alias")
        if utf8_len(part) > MAX_ALIAS:
            return problem("long-alias", "user_alias", step)
        parts.append(part)
    return ("alias", *parts)


def _braze_id(value: object) -> UserKey | Problem:
    if not isinstance(value, str) or not value:
        return problem("bad-braze-id", "braze_id")
    return ("braze_id", value)


_RESOLVE: Final = {"external_id": _external_id, "user_alias": _alias, "braze_id": _braze_id}


def identity(record: Mapping[str, Any], kind: str = KINDS[ATTRIBUTES]) -> UserKey | Problem:
    """Return the key of the user that an object belongs to, or what is wrong with its identity.

    An external id is itself (an integer its decimal text), any other a tuple that begins with its
    sort. `kind` matters for imports of push tokens alone: only attributes objects may be those.
    """
    if record.get("push_token_import") is True and kind == KINDS[ATTRIBUTES]:
        return _imported(record)
    given = [name for name in _PRIMARIES if record.get(name) is not None]
    if len(given) > 1:
        return problem("two-identities", given[1])
    if given:
        return _RESOLVE[given[0]](record[given[0]])
    email, phone = record.get("email"), record.get("phone")
    if email is not None:
        if not is_email(email):
            return problem("bad-email", "email", mendable=False)
        return ("email", email)
    if phone is None:
        return problem("missing-identity")
    if not isinstance(phone, str) or not phone:
        return problem("bad-phone", "phone")
    return ("phone", phone)


def identity_only(record: object) -> UserKey | Problem:
    """Return the key of a record that is taken on trust: an object with any identifier at all.

    The first usable one counts; its size and form, and a second one, are the destination's matter.
    """
    if not isinstance(record, dict):
        return problem("not-an-object")
    external_id, alias = record.get("external_id"), record.get("user_alias")
    if isinstance(external_id, (str, int)) and not (
        external_id == "" or isinstance(external_id, bool)
    ):
        return str(external_id)
    if isinstance(alias, dict):
        label, name = alias.get("alias_label"), alias.get("alias_name")
        if isinstance(label, str) and isinstance(name, str) and label and name:
            return ("alias", label, name)
    for sort in ("braze_id", "email", "phone"):
        value = record.get(sort)
        if isinstance(value, str) and value:
            return (sort, value)
    if record.get("push_token_import") is True and (tokens := push_tokens(record)):
        return ("push_token", *tokens)
    return problem("missing-identity")
