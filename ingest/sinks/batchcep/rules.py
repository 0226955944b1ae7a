"""What can keep a record from Batch CEP: the codes, their sentences, and what may mend them.

Decides how a finding reads. All are errors: what has no counterpart is never bent in silence.
No sentence ever holds a value.
"""

from __future__ import annotations

from typing import Final

from ingest.sinks.batchcep.names import SLUG_CHARS
from ingest.validation.problems import Grade, Problem, Rule, Step, shown

MAX_TEXT: Final = 300
"""Characters of a text on a profile or an event; an empty one is refused there."""

MAX_URL: Final = 2_048
"""Characters of a URL."""

MAX_ID: Final = 512
"""Characters of a custom id."""

MAX_NUMBER: Final = 2**63
"""Numbers from here on are no integers of 64 bits: a decoder makes others of them in silence."""

MAX_DEPTH: Final = 3
"""Objects within one another inside of the attributes of an event."""

EVENT_AGE: Final = 86_400.0
"""Seconds: an older event is dropped there, the rest of its edit taken."""

CLOCK_SKEW: Final = 1.0
"""Seconds that an event may be ahead of our clock. Documented is none at all: this is the part of a
second by which clocks that agree may differ."""

_E: Final = Grade.ERROR

RULES: Final[dict[str, Rule]] = {
    # whose record it is
    "missing-identity": Rule(
        _E,
        "'external_id' is required: the destination knows users by nothing else",
        "nothing says which user the record belongs to",
    ),
    "unsupported-identity": Rule(
        _E,
        "'{}' is no identity at the destination: it knows users by 'external_id' alone",
        "an alias, a braze_id, an e-mail or a phone is all that says whose record it is",
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
        _E, f"'{{}}' must be at most {MAX_ID} characters", "an external id is too long"
    ),
    "push-token-import": Rule(
        _E,
        "'{}' has no counterpart: the destination takes no tokens",
        "an import of anonymous push tokens",
    ),
    "update-only": Rule(
        _E,
        "'{}' is true, and the destination always creates a user that it does not know",
        "a record for existing users only",
    ),
    "bad-flag": Rule(_E, "'{}' must be true or false", "a switch is neither", "drop"),
    # names
    "name-collision": Rule(
        _E,
        "'{}' becomes '{short}', as '{other}' before it in the same record does: rename one of "
        "them",
        "two names of one record become one at the destination",
        "drop",
    ),
    "name-taken": Rule(
        _E,
        "'{}' becomes '{short}', which an earlier record of this run took for '{other}': rename "
        "one of them",
        "two names of the source, in different records of a run, become one at the destination",
        "drop",
    ),
    "too-many-names": Rule(
        _E,
        "'{}' would have to be renamed, and there are more names already than can be told apart",
        "the names of the source are so many that collisions would go unseen",
        "drop",
    ),
    "long-name": Rule(
        _E,
        f"'{{}}' must have a name of 1 to {SLUG_CHARS} characters",
        "a name is empty or too long",
        "drop",
    ),
    "bad-property-name": Rule(
        _E,
        "'{}' must have a name that does not begin with a dollar sign",
        "a property name begins with a dollar sign",
        "drop",
    ),
    "long-event-name": Rule(
        _E,
        f"'{{}}' must be at most {SLUG_CHARS} characters",
        "the name of an event is too long",
    ),
    "event-name-collision": Rule(
        _E,
        "'{}' becomes a name that an earlier record of this run took for another event: rename one "
        "of them",
        "two events of the source, in different records of a run, become one at the destination",
    ),
    "purchase-event-name": Rule(
        _E,
        "'{}' becomes the name of the event that purchases become: rename it, or give purchases "
        "another one by the setting 'purchase_event'",
        "an event has the name that purchases have there",
    ),
    "too-many-event-names": Rule(
        _E,
        "'{}' would have to be renamed, and there are more names already than can be told apart",
        "the names of the source are so many that collisions would go unseen",
    ),
    # values
    "no-counterpart": Rule(
        _E, "'{}' has no counterpart at the destination", "a field that only Braze knows", "drop"
    ),
    "nested-object": Rule(
        _E,
        "'{}' is an object, and a profile takes none: flatten it",
        "a nested attribute on a profile",
        "drop",
    ),
    "no-increment": Rule(
        _E, "'{}' is an increment, which the destination does not know", "an increment", "drop"
    ),
    "two-operators": Rule(
        _E,
        "'{}' adds and removes at once: write a record for each",
        "add and remove in one object",
        "drop",
    ),
    "odd-operator": Rule(
        _E, "'{}' must add or remove a list of texts", "add or remove of something else", "drop"
    ),
    "bad-array": Rule(
        _E,
        "'{}' must be a list of texts (in an event: of texts, or of objects)",
        "an array of anything but texts",
        "drop",
    ),
    "empty-string": Rule(
        _E, "'{}' is empty, which the destination does not take", "an empty text", "drop"
    ),
    "long-string": Rule(
        _E, f"'{{}}' must be at most {MAX_TEXT} characters", "a text is too long", "truncate"
    ),
    "bad-number": Rule(
        _E, "'{}' must be a number within 64 bits", "a number is too large to be kept", "drop"
    ),
    "bad-url": Rule(
        _E,
        f"'{{}}' must be a URL with a scheme, of at most {MAX_URL:,} characters",
        "a field that is sent as a URL holds something else",
        "drop",
    ),
    "bad-date": Rule(_E, "'{}' must be a date such as 1980-12-21", "no date", "drop"),
    "wrong-type": Rule(_E, "'{}' must be a text", "a field of another type", "drop"),
    "too-many-attributes": Rule(
        _E,
        "'{}' is one attribute too many for one request of the user",
        "a profile takes native attributes first, then the others in their order, up to a number",
        "drop",
    ),
    # native attributes
    "bad-email": Rule(_E, "'{}' must be an e-mail address", "an address is none", "drop"),
    "bad-phone": Rule(
        _E,
        "'{}' must be an international number: + and digits alone",
        "a phone number without a country, or with other characters",
        "drop",
    ),
    "bad-subscription-state": Rule(
        _E,
        "'{}' must be 'opted_in', 'subscribed' or 'unsubscribed'",
        "an e-mail subscription state is unknown",
        "drop",
    ),
    "subscribed-state": Rule(
        _E,
        "'{}' is 'subscribed', neither in nor out, which the destination cannot say: set "
        "subscribed=reset to reset it",
        "a subscription state without a counterpart",
        "drop",
    ),
    "unknown-country": Rule(_E, "'{}' must be an ISO 3166-1 alpha-2 code", "a country", "drop"),
    "unknown-language": Rule(_E, "'{}' must be an ISO 639-1 code", "a language", "drop"),
    "bad-time-zone": Rule(_E, "'{}' must be an IANA name: Area/City", "a time zone", "drop"),
    # events and purchases
    "missing-name": Rule(_E, "'{}' is required", "an event without a name"),
    "bad-name": Rule(_E, "'{}' must be a non-empty string", "an event name is empty or no string"),
    "missing-time": Rule(_E, "'{}' is required", "an event or purchase without a time"),
    "bad-time": Rule(
        _E,
        "'{}' must be a date or time as text, such as 2026-01-31T12:00:00Z",
        "a time that cannot be told in UTC",
    ),
    "event-too-old": Rule(
        _E,
        "'{}' is more than 24 hours ago, and the destination keeps no such event",
        "an event of the past: history cannot be imported there",
    ),
    "event-in-future": Rule(
        _E, "'{}' is in the future, which the destination does not take", "an event to come"
    ),
    "missing-field": Rule(_E, "'{}' is required", "a purchase without a required field"),
    "bad-product-id": Rule(
        _E, f"'{{}}' must be a text of 1 to {MAX_TEXT} characters", "a product id"
    ),
    "bad-currency": Rule(_E, "'{}' must be an ISO 4217 code, three letters", "a currency"),
    "bad-price": Rule(_E, "'{}' must be a number", "a price is no number"),
    "bad-quantity": Rule(_E, "'{}' must be a whole number from 1 to 100", "a quantity"),
    "bad-properties": Rule(_E, "'{}' must be an object", "properties are no object", "drop"),
    "null-property": Rule(
        _E,
        "'{}' is null, and nobody says what that means in an event: leave it out",
        "a null in the properties",
        "drop",
    ),
    "deep-object": Rule(
        _E,
        f"'{{}}' is an object within {MAX_DEPTH} others: flatten it",
        "properties are nested too deeply",
        "drop",
    ),
}
"""Every code that the translation finds; nothing else is."""

UNTRANSLATABLE: Final = frozenset(
    {
        *("missing-identity", "unsupported-identity", "bad-external-id", "push-token-import"),
        *(
            "two-identities",
            "update-only",
            "bad-flag",
            "name-collision",
            "name-taken",
            "too-many-names",
            "event-name-collision",
            "purchase-event-name",
        ),
        *("too-many-event-names", "no-counterpart", "subscribed-state", "missing-name", "bad-name"),
        "bad-properties",
    }
)
"""What is found even on trust: there is nothing that could be sent, or something would be lost. Of
the rest the destination may be the judge."""


def problem(code: str, *path: Step, short: str = "", other: str = "", cut: bool = True) -> Problem:
    """Return the finding `code` at `path`.

    `other` is the name that this one collides with and `short` what both become; not `cut` where a
    text is no use if shortened.
    """
    rule = RULES[code]
    field = shown(path)
    mend = rule.mend
    most = MAX_TEXT if mend == "truncate" else None
    if mend == "truncate" and not cut:
        mend = "drop"
    reason = rule.sentence.format(field, short=shown((short,)), other=shown((other,)))
    return Problem(rule.grade, code, field, reason, mend, path, most)
