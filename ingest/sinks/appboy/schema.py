"""Which records legacy Appboy takes: the documented rules, and what it cannot carry.

Decides what is wrong with a record for `users/track` of the years before Braze: only external ids
(or imported push tokens) name a user, and no value holds another object. What would be dropped or
bent there without a word is found here, so that `--on-bad-field` decides. It knows neither the
account, but for the length of its arrays, nor what is on a profile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from ingest.errors import ConfigError
from ingest.records import ATTRIBUTES, KINDS, UserKey
from ingest.schemas import Judged, TrackSchema
from ingest.validation import Grade, Problem, examine, identity_only
from ingest.validation.problems import Findings, Rule, Step, shown
from ingest.validation.profile import PROFILE
from ingest.validation.times import is_time

ARRAY_ELEMENTS: Final = 25
"""Elements that a custom array attribute holds, where the dashboard does not say otherwise."""

MOST_ARRAY_ELEMENTS: Final = 100
"""Elements that the dashboard allows such an array to hold at most."""

_E, _W = Grade.ERROR, Grade.WARNING

RULES: Final[dict[str, Rule]] = {
    # whose record it is
    "external-id-required": Rule(
        _E,
        "'external_id' is required: this destination knows users by nothing else",
        "no external id, and no import of push tokens",
    ),
    "alias-unsupported": Rule(
        _E, "'{}' names a user in a way that this destination does not know", "a user alias"
    ),
    "braze-id-unsupported": Rule(
        _E, "'{}' names a user in a way that this destination does not know", "a braze_id"
    ),
    # values that hold values
    "nested-property": Rule(
        _E,
        "'{}' must be a number, a text, true or false: no property holds an object or an array "
        "there",
        "an object or an array in the properties of an event or purchase",
        "drop",
    ),
    "nested-attribute": Rule(
        _E,
        "'{}' holds an object, or an array of such: attributes are numbers, texts, true or false "
        "there, arrays of these, and the operations 'inc', 'add' and 'remove'",
        "an object, or an array of objects or arrays, as a custom attribute",
        "drop",
    ),
    "operator-unsupported": Rule(
        _E,
        "'{}' uses '$add', '$update' or '$remove', which this destination does not know",
        "an operator on an array of objects",
        "drop",
    ),
    "merge-objects-unsupported": Rule(
        _E,
        "'{}' is about nested attributes, which this destination does not know",
        "the switch that merges nested attributes",
        "drop",
    ),
    "groups-unsupported": Rule(
        _E,
        "'{}' is an array of objects, and this destination knows no subscription groups",
        "subscription groups",
        "drop",
    ),
    # taken, and dropped or altered
    "long-array": Rule(
        _W,
        "'{}' has more elements than the arrays of this account: what is beyond is cut off",
        "an array attribute is too long",
        "truncate",
    ),
    "null-property": Rule(
        _W, "'{}' is null, which is no value of a property there", "a property is null", "drop"
    ),
    "unknown-gender": Rule(_W, "'{}' must be M or F", "a gender", "drop"),
    "odd-phone": Rule(_W, "'{}' must be digits", "a phone number without digits", "drop"),
    "time-not-iso": Rule(
        _W,
        "'{}' should be written as ISO 8601, such as 2026-01-31T12:00:00Z: other forms are not "
        "documented there",
        "a time in a form of later years",
    ),
    "date-not-iso": Rule(
        _W,
        "'{}' should be written as ISO 8601, such as 2026-01-31T12:00:00Z: other forms are not "
        "documented there",
        "a session date in a form of later years",
        "drop",
    ),
    "later-field": Rule(
        _W,
        "'{}' is no profile field there: it becomes a custom attribute",
        "a profile field of later years",
        "drop",
    ),
    "reserved-field": Rule(_W, "'{}' is reserved there: do not use it", "a reserved name", "drop"),
}
"""Every code that is found beside those of `ingest.validation`, or with another meaning."""

_REPLACED: Final = frozenset(
    {
        "alias-updates-only",
        "long-array",
        "unknown-gender",
        "bad-subscription-groups",
        "reserved-key",  # not documented there
    }
)
"""Codes of today's rules that are not those of this destination."""

_LATER: Final = frozenset(
    {
        "app_id",
        "marked_email_as_spam_at",
        "email_open_tracking_disabled",
        "email_click_tracking_disabled",
    }
)
"""Plain profile fields that came later; there they are attributes of the customer's own."""

_HOLDERS: Final = frozenset(
    {
        *("external_id", "user_alias", "braze_id"),  # the identity is judged by itself
        *("current_location", "facebook", "twitter", "push_tokens"),
    }
)
"""Profile fields whose objects and arrays have rules of their own."""

_OPERATORS: Final = frozenset({"add", "remove"})
_LATER_OPERATORS: Final = frozenset({"$add", "$remove", "$update"})
_SESSION_DATES: Final = ("date_of_first_session", "date_of_last_session")

_GENDER: Final = re.compile("[MFmf]")
_PHONE: Final = re.compile(r"[+]?[0-9 ()./-]*[0-9][0-9 ()./-]*")
"""Deliberately lax: digits, and what people write between them."""

_ISO: Final = re.compile(
    r"\d{4}-?\d\d-?\d\d"
    r"(?:[Tt]\d\d(?::?\d\d){1,2}(?:[.,]\d+)?(?:[Zz]|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)


class AppboySchema(TrackSchema):
    """Records of `users/track` as Appboy took them.

    `array_elements` is the length of the account's array attributes, 1 to 100; others raise
    `ConfigError`.
    """

    provable = False

    def __init__(self, array_elements: int = ARRAY_ELEMENTS) -> None:
        if not 1 <= array_elements <= MOST_ARRAY_ELEMENTS:
            raise _no_number()
        self._elements: Final = array_elements

    def examine(self, kind: str, record: dict[str, Any], now: float, *, validate: bool) -> Judged:
        """Judge by the documented rules, and by what cannot be carried; on trust, by an identity.

        Never raises.
        """
        if not validate:
            key = _on_trust(kind, record)
            return key, [key] if isinstance(key, Problem) else []
        was, problems = examine(kind, record)
        key = _identity(kind, record, was)
        ours = list(self._not_carried(kind, record))
        # Inside of what has to go as a whole, nothing else matters.
        gone = {found.path for found in ours if found.grade is Grade.ERROR}
        found = Findings()
        if isinstance(key, Problem):
            found.put(key)
        for problem in problems:
            path = problem.path
            inside = any(path[:depth] in gone for depth in range(1, len(path) + 1))
            if problem is not was and problem.code not in _REPLACED and not inside:
                found.put(problem)
        for problem in ours:
            found.put(problem)
        return key, found.all()

    def _not_carried(self, kind: str, record: dict[str, Any]) -> Iterator[Problem]:
        if kind == KINDS[ATTRIBUTES]:
            for name, value in record.items():
                if value is not None:
                    yield from self._attribute(name, value)
            return
        time, properties = record.get("time"), record.get("properties")
        if _is_odd_time(time):
            yield _problem("time-not-iso", "time")
        if isinstance(properties, dict):
            for name, value in properties.items():
                if isinstance(value, (dict, list)):
                    yield _problem("nested-property", "properties", name)
                elif value is None:
                    yield _problem("null-property", "properties", name)

    def _attribute(self, name: str, value: Any) -> Iterator[Problem]:
        """Yield what is wrong with one member, not null, of an attributes object."""
        if name == "_merge_objects":
            yield _problem("merge-objects-unsupported", name)
        elif name == "subscription_groups":
            yield _problem("groups-unsupported", name)
        elif name in PROFILE and name not in _HOLDERS and isinstance(value, (dict, list)):
            yield _problem("nested-attribute", name)
        elif name == "gender":
            if not isinstance(value, str) or not _GENDER.fullmatch(value):
                yield _problem("unknown-gender", name)
        elif name == "phone":
            if isinstance(value, str) and not _PHONE.fullmatch(value):
                yield _problem("odd-phone", name)
        elif name in _SESSION_DATES:
            if _is_odd_time(value):
                yield _problem("date-not-iso", name)
        elif name in _LATER:
            yield _problem("later-field", name)
        elif name not in PROFILE:
            if name == "foursquare":
                yield _problem("reserved-field", name)
            yield from self._custom(name, value)

    def _custom(self, name: str, value: Any) -> Iterator[Problem]:
        if isinstance(value, list):
            if _is_nested(value):
                yield _problem("nested-attribute", name)
            elif len(value) > self._elements:
                yield self._too_long(name)
        elif isinstance(value, dict):
            if not _LATER_OPERATORS.isdisjoint(value):
                yield _problem("operator-unsupported", name)
            elif not _is_operation(value):
                yield _problem("nested-attribute", name)
            elif isinstance(added := value.get("add"), list) and len(added) > self._elements:
                yield self._too_long(name, "add")

    def _too_long(self, *path: Step) -> Problem:
        found = _problem("long-array", *path)
        reason = (
            f"'{found.field}' has more than {self._elements} elements: what is beyond is cut off"
        )
        return Problem(
            found.grade, found.code, found.field, reason, found.mend, path, self._elements
        )


def elements_of(text: str) -> int:
    """Read the length of the account's arrays. Raises `ConfigError` for no number from 1 to 100."""
    if not re.fullmatch("[0-9]{1,3}", text.strip()):
        raise _no_number()
    return int(text)


def _no_number() -> ConfigError:
    return ConfigError(
        f"the setting 'array_elements' of appboy must be a number from 1 to {MOST_ARRAY_ELEMENTS}"
    )


def _problem(code: str, *path: Step) -> Problem:
    """Return the finding `code` of this destination's rules at `path`."""
    rule, field = RULES[code], shown(path)
    return Problem(rule.grade, code, field, rule.sentence.format(field), rule.mend, path)


def _is_import(kind: str, record: dict[str, Any]) -> bool:
    return record.get("push_token_import") is True and kind == KINDS[ATTRIBUTES]


def _identity(kind: str, record: dict[str, Any], key: UserKey | Problem) -> UserKey | Problem:
    """Return the user of a record, given what it is by today's rules."""
    if record.get("user_alias") is not None:
        return _problem("alias-unsupported", "user_alias")
    if _is_import(kind, record):
        return key
    if record.get("braze_id") is not None:
        return _problem("braze-id-unsupported", "braze_id")
    if record.get("external_id") is None:
        return _problem("external-id-required", "external_id")
    return key


def _on_trust(kind: str, record: dict[str, Any]) -> UserKey | Problem:
    """Return the user of a record that nobody checks: an external id, or imported tokens."""
    if _is_import(kind, record):
        # The tokens alone: an address beside them is an attribute.
        tokens = ("push_token_import", "push_tokens")
        return identity_only({name: record.get(name) for name in tokens})
    key = identity_only(record)
    return key if isinstance(key, str) else _problem("external-id-required", "external_id")


def _is_nested(values: list[Any]) -> bool:
    return any(isinstance(value, (dict, list)) for value in values)


def _is_operation(value: dict[str, Any]) -> bool:
    """Tell whether an object is a documented operation on a number or an array of scalars."""
    if value.keys() == {"inc"}:
        return not isinstance(value["inc"], (dict, list))
    return (
        bool(value)
        and value.keys() <= _OPERATORS
        and all(isinstance(operand, list) and not _is_nested(operand) for operand in value.values())
    )


def _is_odd_time(value: Any) -> bool:
    """Tell whether a time is one of today's forms and not one of that time's."""
    return isinstance(value, str) and is_time(value) and not _ISO.fullmatch(value)
