"""What can be wrong with a record: the codes, their grades, and how findings are gathered.

Decides how a finding reads and what may mend it. It does not know how one is found. No sentence
ever holds a value: values are personal data, so a reason names the field and the rule alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

import msgspec

Step = str | int
"""A key of an object or an index of an array on the way to a field."""

Mend = Literal["drop", "truncate"]


class Grade(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """The destination refuses the whole object, whatever the account."""
    WARNING = "warning"
    """The destination takes the object, and drops or alters a part of it in silence."""


class Rule(msgspec.Struct, frozen=True):
    """One code: `sentence` has a place for the field, `meaning` is a line for documents."""

    grade: Grade
    sentence: str
    meaning: str
    mend: Mend | None = None


class Problem(msgspec.Struct, frozen=True):
    """One finding in one record.

    `field` is for people and reports ("properties.genre", "hotels[].name", "" for the whole), and
    the same for all elements of an array; `path` leads to the very value. `mend` is what may mend
    it where a field alone is bad, `most` the length that a text or array is shortened to.
    """

    grade: Grade
    code: str
    field: str
    reason: str
    mend: Mend | None = None
    path: tuple[Step, ...] = ()
    most: int | None = None


MOST_OF_A_GRADE: Final = 1_000
"""Findings of one grade kept per record: a hostile record of 4 MB could hold a million."""

LONGEST_NAME_SHOWN: Final = 64
"""Characters of one key shown in a field; names are data of the sender too."""

MAX_TEXT: Final = 255
"""Characters of a string value, a property name and a key of a nested attribute."""

MAX_ELEMENTS: Final = 500
"""Elements of an array of scalars."""

_E, _W = Grade.ERROR, Grade.WARNING

RULES: Final[dict[str, Rule]] = {
    # whose record it is
    "not-an-object": Rule(_E, "the record must be a JSON object", "a record is not an object"),
    "missing-identity": Rule(
        _E,
        "one of 'external_id', 'user_alias', 'braze_id', 'email' or 'phone' is required",
        "nothing says which user the record belongs to",
    ),
    "two-identities": Rule(
        _E,
        "only one of 'external_id', 'user_alias' and 'braze_id' may be given",
        "two primary identifiers in one object",
    ),
    "bad-external-id": Rule(
        _E, "'{}' must be a non-empty string", "an external id is empty or no string"
    ),
    "long-external-id": Rule(
        _E, "'{}' must be fewer than 988 bytes of UTF-8", "an external id is too long"
    ),
    "bad-alias": Rule(
        _E,
        "'user_alias' must be an object with 'alias_name' and 'alias_label', non-empty strings",
        "an alias lacks its name or its label",
    ),
    "long-alias": Rule(
        _E, "'{}' must be at most 236 bytes of UTF-8", "the name or label of an alias is too long"
    ),
    "bad-braze-id": Rule(_E, "'{}' must be a non-empty string", "a braze_id is empty or no string"),
    "bad-email": Rule(
        _E, "'{}' must be an e-mail address", "an e-mail address is malformed", "drop"
    ),
    "bad-phone": Rule(
        _E, "'{}' must be a non-empty string", "a phone number, the only identifier, is no string"
    ),
    "bad-push-token-import": Rule(
        _E,
        "with 'push_token_import' an object must carry 'push_tokens', and neither 'external_id' "
        "nor 'braze_id'",
        "an import of anonymous push tokens without a token, or with an identifier",
    ),
    # events and purchases
    "missing-name": Rule(_E, "'{}' is required", "an event without a name"),
    "bad-name": Rule(_E, "'{}' must be a non-empty string", "an event name is empty or no string"),
    "missing-time": Rule(_E, "'{}' is required", "an event or purchase without a time"),
    "bad-time": Rule(
        _E,
        "'{}' must be a date or time as text, such as 2026-01-31T12:00:00Z",
        "a time is in none of the documented formats, or not in the calendar",
    ),
    "missing-product-id": Rule(_E, "'{}' is required", "a purchase without a product id"),
    "bad-product-id": Rule(_E, "'{}' must be a string", "a product id is no string"),
    "long-product-id": Rule(_E, "'{}' must be at most 255 characters", "a product id is too long"),
    "missing-currency": Rule(_E, "'{}' is required", "a purchase without a currency"),
    "bad-currency": Rule(
        _E, "'{}' must be an ISO 4217 code, three letters", "a currency is not three letters"
    ),
    "missing-price": Rule(_E, "'{}' is required", "a purchase without a price"),
    "bad-price": Rule(_E, "'{}' must be a number", "a price is no number"),
    "bad-quantity": Rule(
        _E, "'{}' must be a whole number from 1 to 100", "a quantity is not 1 to 100"
    ),
    "bad-properties": Rule(_E, "'{}' must be an object", "properties are no object", "drop"),
    "reserved-key": Rule(
        _E,
        "'{}' is a reserved name: the destination refuses the object",
        "a property has a name that belongs to the event or purchase itself",
        "drop",
    ),
    "bad-property-name": Rule(
        _E,
        "'{}' must have a name that is not empty and does not begin with a dollar sign",
        "a property name is empty or begins with a dollar sign",
        "drop",
    ),
    "long-property-name": Rule(
        _E, "'{}' must have a name of at most 255 characters", "a property name is too long", "drop"
    ),
    # profile fields
    "bad-subscription-state": Rule(
        _E,
        "'{}' must be 'opted_in', 'subscribed' or 'unsubscribed'",
        "an e-mail or push subscription state is unknown",
        "drop",
    ),
    "bad-subscription-groups": Rule(
        _E,
        "'{}' must be a list of objects with 'subscription_group_id', a string, and "
        "'subscription_state', 'subscribed' or 'unsubscribed'",
        "subscription groups have another form",
        "drop",
    ),
    "bad-location": Rule(
        _E,
        "'{}' must be an object with 'longitude' and 'latitude'",
        "a location lacks a coordinate",
        "drop",
    ),
    "bad-push-tokens": Rule(
        _E,
        "'{}' must be a list of objects with 'app_id' and 'token', non-empty strings",
        "push tokens have another form",
        "drop",
    ),
    "bad-device-id": Rule(
        _E, "'{}' must be a string of 8 to 255 bytes", "the device id of a push token", "drop"
    ),
    "too-many-errors": Rule(
        _E, "the object has more than 1,000 errors", "a record is bad beyond listing"
    ),
    # taken, and in part dropped or altered
    "odd-email": Rule(
        _W, "'{}' is not an e-mail address: it may be ignored", "an address is not one", "drop"
    ),
    "odd-coordinate": Rule(
        _W,
        "'{}' must have a longitude of -180 to 180 and a latitude of -90 to 90, as numbers",
        "a coordinate is no number or not on the globe",
        "drop",
    ),
    "unknown-country": Rule(
        _W, "'{}' must be an ISO 3166-1 alpha-2 code: others are unset", "a country", "drop"
    ),
    "unknown-language": Rule(
        _W, "'{}' must be an ISO 639-1 code: others are ignored", "a language", "drop"
    ),
    "unknown-gender": Rule(_W, "'{}' must be M, F, O, N or P", "a gender", "drop"),
    "odd-date": Rule(
        _W, "'{}' must be a date such as 1980-12-21", "a date of birth or of a session", "drop"
    ),
    "wrong-type": Rule(
        _W, "'{}' has a type that its field does not take", "a known field of another type", "drop"
    ),
    "bad-flag": Rule(_W, "'{}' must be true or false", "a switch is neither true nor false"),
    "alias-updates-only": Rule(
        _W,
        "with 'user_alias' only existing users are updated: say '_update_existing_only': false to "
        "create one",
        "an alias, and creation is not asked for: unknown users are dropped",
    ),
    "odd-product-id": Rule(
        _W, "'{}' should be a non-empty string", "a product id is a number or empty"
    ),
    "null-quantity": Rule(_W, "'{}' is null: it counts as 1", "a quantity is null", "drop"),
    "null-properties": Rule(_W, "'{}' is null: it is no object", "properties are null", "drop"),
    "big-properties": Rule(
        _W,
        "'{}' must be at most 102,400 bytes (purchases: 51,200)",
        "properties are too big",
        "drop",
    ),
    "long-string": Rule(
        _W, "'{}' must be at most 255 characters", "a text is too long", "truncate"
    ),
    "long-name": Rule(
        _W, "'{}' must have a name of at most 255 characters", "a name is too long", "drop"
    ),
    "long-array": Rule(
        _W, "'{}' must be at most 500 elements", "an array of scalars is too long", "truncate"
    ),
    "big-attribute": Rule(
        _W,
        "'{}' must be at most 102,400 bytes: the update is dropped",
        "a nested attribute or an array is too big",
        "drop",
    ),
    "nested-null": Rule(
        _W,
        "'{}' is null inside an attribute: all updates of that attribute are dropped",
        "a null inside a nested attribute or an array",
        "drop",
    ),
    "nested-key": Rule(
        _W,
        "'{}' has a dot, a dollar sign or a space in its name, which nested attributes do not take",
        "a key of a nested attribute has a forbidden character",
        "drop",
    ),
    "nested-time": Rule(
        _W,
        "'{}' must be a date or time as text: all updates of that attribute are dropped",
        "the $time of a nested attribute",
        "drop",
    ),
    "odd-operator": Rule(
        _W,
        "'{}' uses an operator in a form that is not documented",
        "inc, add, remove, $add, $remove or $update with other operands",
        "drop",
    ),
    "late-year": Rule(
        _W,
        "'{}' has a year after 3000: it is not kept as a date",
        "a year that the destination does not store as a date",
        "drop",
    ),
}
"""Every code, for documents and reports; nothing else is ever found."""

CODES: Final[dict[str, str]] = {code: rule.meaning for code, rule in RULES.items()}
"""Code -> a short explanation."""


def shown(path: tuple[Step, ...]) -> str:
    """Render a path for people: "properties.genre"; any index is "[]", long names are clipped."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += "[]"
            continue
        if len(step) > LONGEST_NAME_SHOWN:
            step = step[: LONGEST_NAME_SHOWN - 1] + "…"
        if not step.isprintable():
            step = "".join(c if c.isprintable() else "?" for c in step)
        name = step or '""'
        text += f".{name}" if text else name
    return text


def problem(code: str, *path: Step, mendable: bool = True) -> Problem:
    """Return the finding `code` at `path`; not `mendable` where the object needs the field."""
    rule = RULES[code]
    field = shown(path)
    mend = rule.mend if mendable else None
    return Problem(rule.grade, code, field, rule.sentence.format(field), mend, path)


class Findings:
    """Gathers the problems of one record, a bounded number of each grade."""

    __slots__ = ("errors", "warnings")

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []

    def add(self, code: str, *path: Step, mendable: bool = True) -> None:
        """Note a finding; past the bound, errors end in one that nothing mends."""
        self.put(problem(code, *path, mendable=mendable))

    def put(self, found: Problem) -> None:
        """Note a finding made elsewhere."""
        if found.grade is Grade.WARNING:
            if len(self.warnings) < MOST_OF_A_GRADE:
                self.warnings.append(found)
        elif len(self.errors) < MOST_OF_A_GRADE:
            self.errors.append(found)
        elif len(self.errors) == MOST_OF_A_GRADE:
            self.errors.append(problem("too-many-errors"))

    def all(self) -> list[Problem]:
        """Return the errors, then the warnings, each in the order they were found."""
        return self.errors + self.warnings
