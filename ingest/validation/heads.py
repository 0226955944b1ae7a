"""The shapes that a typed decoder reads off encoded objects: what the screen may take for granted.

A head holds the fields whose values a rule looks at, with constraints that are checked while
decoding. A record that a head refuses is not bad: it is one for `check`, which has the last word.
So a head may be stricter than the rules (a rare form of a field costs time only), never laxer.

What a head does not establish: that an address is one (many are looked at together, see `screen`),
and that the bytes of fields it skips are UTF-8 (the decoder passes over them). Records nested
deeper than the decoder goes end in a `RecursionError`.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from ingest.records import UserKey
from ingest.validation.identity import MAX_EXTERNAL_ID
from ingest.validation.isocodes import COUNTRIES, CURRENCIES, LANGUAGES
from ingest.validation.problems import MAX_TEXT
from ingest.validation.profile import GENDERS, SUBSCRIPTIONS
from ingest.validation.rules import MAX_PRODUCT_ID, MAX_QUANTITY

if TYPE_CHECKING:
    Country: TypeAlias = str
    Language: TypeAlias = str
    Gender: TypeAlias = str
    Subscription: TypeAlias = str
    Currency: TypeAlias = str
    Flag: TypeAlias = bool | None
    Quantity: TypeAlias = int | None
else:  # A closed list is looked up in C; a pattern would call Python for every value.
    Country = Literal[tuple(sorted(COUNTRIES))]
    Language = Literal[tuple(sorted(LANGUAGES))]
    Gender = Literal[tuple(sorted(GENDERS))]
    Subscription = Literal[tuple(sorted(SUBSCRIPTIONS))]
    Currency = Literal[tuple(sorted(CURRENCIES))]
    # None where it is not given; one that is null is no matter for the fast way.
    Flag = bool
    Quantity = Annotated[int, Meta(ge=1, le=MAX_QUANTITY)]

Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
Words = Annotated[str, Meta(max_length=MAX_TEXT)]


class EventProperties(Struct, gc=False):
    """An object without a member of these names; nothing of it is kept."""

    time: UnsetType = UNSET
    event_name: UnsetType = UNSET
    nameless: UnsetType = field(name="", default=UNSET)


class PurchaseProperties(EventProperties, gc=False):
    """The same for a purchase, whose own fields are reserved too."""

    product_id: UnsetType = UNSET
    quantity: UnsetType = UNSET
    price: UnsetType = UNSET
    currency: UnsetType = UNSET


class AliasHead(Struct, gc=False):
    """A user alias. Sizes in bytes follow from the screen, which bounds every string."""

    alias_name: Text
    alias_label: Text


class Head(Struct, gc=False, kw_only=True):
    """What all kinds have in common."""

    external_id: Annotated[str, Meta(min_length=1, max_length=MAX_EXTERNAL_ID)] | None = None
    user_alias: AliasHead | None = None
    braze_id: Text | None = None
    email: Text | None = None
    phone: Text | None = None
    app_id: Words | None = None
    update_existing_only: Flag = field(name="_update_existing_only", default=None)

    def key(self) -> UserKey | None:
        """Return the user key, as `identity` would; `None` is for `check` to explain."""
        if self.external_id is not None:
            lone = self.user_alias is None and self.braze_id is None
            return self.external_id if lone else None
        if self.user_alias is not None:
            alias = self.user_alias
            lone = self.braze_id is None
            return ("alias", alias.alias_label, alias.alias_name) if lone else None
        if self.braze_id is not None:
            return ("braze_id", self.braze_id)
        if self.email is not None:
            return ("email", self.email)
        return None if self.phone is None else ("phone", self.phone)


class AttributesHead(Head, gc=False, kw_only=True):
    """An attributes object: its profile fields in the usual forms.

    A field typed `None` has a form that the fast way does not follow.
    """

    first_name: Words | None = None
    last_name: Words | None = None
    country: Country | None = None
    language: Language | None = None
    gender: Gender | None = None
    dob: date | None = None
    home_city: Words | None = None
    time_zone: Words | None = None
    image_url: Words | None = None
    email_subscribe: Subscription | None = None
    push_subscribe: Subscription | None = None
    date_of_first_session: datetime | None = None
    date_of_last_session: datetime | None = None
    marked_email_as_spam_at: datetime | None = None
    email_open_tracking_disabled: bool | None = None
    email_click_tracking_disabled: bool | None = None
    merge_objects: bool | None = field(name="_merge_objects", default=None)
    push_token_import: None = None
    push_tokens: None = None
    subscription_groups: None = None
    current_location: None = None
    facebook: None = None
    twitter: None = None


class EventHead(Head, gc=False, kw_only=True):
    """An event object."""

    name: Text
    time: datetime
    properties: EventProperties | UnsetType = UNSET


class PurchaseHead(Head, gc=False, kw_only=True):
    """A purchase object. `quantity` is `None` where it is not given."""

    product_id: Annotated[str, Meta(min_length=1, max_length=MAX_PRODUCT_ID)]
    currency: Currency
    price: float
    time: datetime
    quantity: Quantity = None
    properties: PurchaseProperties | UnsetType = UNSET


HEADS: Final[dict[str, type[Head]]] = {
    "attributes": AttributesHead,
    "event": EventHead,
    "purchase": PurchaseHead,
}
"""Kind -> the shape of its head."""
