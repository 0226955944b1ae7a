"""The rows about addresses, push tokens and messages: what each says, and does to the profiles.

This module decides status, answer and effect of each, as `rows` does for those about users. An
address that nobody has is as good as any: its state is remembered. It knows no key and no rate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ingest.codec import dumps
from ingest.records import UserKey
from ingest.sandbox import changes
from ingest.sandbox.objects import (
    BAD_EMAIL,
    NOT_AN_OBJECT,
    REQUIRED,
    TOO_DEEP,
    Object,
    key_of,
    reject_errors,
    valid_email,
)
from ingest.sandbox.rows import indexed, items_of, poisoned, worded
from ingest.sandbox.rules import Judge, Verdict, refusal
from ingest.sandbox.store import Store

PUSH_REMOVE: Final = "/push_notification/remove"
EMAIL_STATUS: Final = "/email/status"
BOUNCE_REMOVE: Final = "/email/bounce/remove"
SPAM_REMOVE: Final = "/email/spam/remove"
TRIGGER_SEND: Final = "/campaigns/trigger/send"

TRIGGER_PROPERTIES_BYTES: Final = 51_200
STATES: Final = frozenset({"opted_in", "subscribed", "unsubscribed"})

BAD_STATE: Final = "'subscription_state' must be 'opted_in', 'subscribed' or 'unsubscribed'"
NO_CAMPAIGN: Final = "'campaign_id' is required"
NO_RECIPIENT: Final = "'external_user_id' or 'user_alias' is required"
PROPERTIES_TOO_LARGE: Final = "'trigger_properties' must be an object of at most 50 KB"


def contact_rows(store: Store) -> dict[str, Judge]:
    """Return the rows about addresses, tokens and messages."""

    def clear(of: Callable[[Store, str], None]) -> Judge:
        return lambda body, *, aids: judge_emails(body, lambda email: of(store, email))

    return {
        PUSH_REMOVE: lambda body, *, aids: judge_push_remove(body, store, aids=aids),
        EMAIL_STATUS: lambda body, *, aids: judge_email_status(body, store),
        BOUNCE_REMOVE: clear(changes.clear_bounce),
        SPAM_REMOVE: clear(changes.clear_spam),
        TRIGGER_SEND: lambda body, *, aids: judge_trigger_send(body, store, aids=aids),
    }


def judge_push_remove(body: Any, store: Store, *, aids: bool = True) -> Verdict:
    """Remove push tokens wherever they are."""
    items = items_of(body, "push_tokens", "push_tokens")
    if isinstance(items, Verdict):
        return items
    if aids and (poison := poisoned(items)):
        return poison
    errors: list[Object] = []
    good: set[tuple[str, str]] = set()
    for index, item in enumerate(items):
        texts = _token_errors(item) + (reject_errors(item) if aids else [])
        if texts:
            errors += indexed("push_tokens", index, texts)
        else:
            good.add((item["app_id"], item["token"]))
    return worded(
        {"message": "success"},
        errors,
        len(good),
        lambda _: changes.remove_tokens(store, good),
        users=frozenset(("push_token", token) for _, token in good),
    )


def _token_errors(item: Any) -> list[str]:
    if type(item) is not dict:
        return [NOT_AN_OBJECT]
    return [
        REQUIRED.format(name)
        for name in ("app_id", "token")
        if type(item.get(name)) is not str or not item[name]
    ]


def judge_email_status(body: Any, store: Store) -> Verdict:
    """Set the subscription state of addresses, known or not."""
    state = body.get("subscription_state") if type(body) is dict else None
    if type(state) is not str or state not in STATES:
        return refusal(400, BAD_STATE)
    return judge_emails(body, lambda email: changes.set_email_state(store, email, state))


def judge_emails(body: Any, change: Callable[[str], None]) -> Verdict:
    """Do the same to every address of `email`, which is an address or an array of them."""
    if type(body) is dict and type(body.get("email")) is str:
        body = {"email": [body["email"]]}
    items = items_of(body, "email", "emails")
    if isinstance(items, Verdict):
        return items
    errors: list[Object] = []
    good: dict[str, None] = {}
    for index, email in enumerate(items):
        if valid_email(email):
            good[email] = None
        else:
            errors += indexed("email", index, [BAD_EMAIL])

    def effect(_: int) -> None:
        for email in good:
            change(email)

    users = frozenset(("email", email) for email in good)
    return worded({"message": "success"}, errors, len(good), effect, users=users)


def judge_trigger_send(body: Any, store: Store, *, aids: bool = True) -> Verdict:
    """Send a campaign to recipients. One who is named twice gets the last message only.

    An e-mail counts when there is neither id nor alias. Of several profiles that have it, the one
    gets the message that `Store.find` puts first.
    """
    campaign = body.get("campaign_id") if type(body) is dict else None
    if type(campaign) is not str or not campaign:
        return refusal(400, NO_CAMPAIGN)
    common = body.get("trigger_properties")
    items = items_of(body, "recipients", "ids")
    if isinstance(items, Verdict):
        return items
    if aids and (poison := poisoned(items)):
        return poison
    errors: list[Object] = []
    good: dict[UserKey, tuple[Any, bool]] = {}
    for index, item in enumerate(items):
        texts = [NOT_AN_OBJECT]
        key = None
        if type(item) is dict:
            key = key_of(
                {
                    "external_id": item.get("external_user_id"),
                    "user_alias": item.get("user_alias"),
                    "email": item.get("email"),
                }
            )
            texts = _properties_errors(item.get("trigger_properties"))
            if key is None:
                texts.append(NO_RECIPIENT)
            elif key[0] == "email" and type(key) is tuple and not valid_email(key[1]):
                texts.append(BAD_EMAIL)
            texts += reject_errors(item) if aids else []
        if texts or key is None:
            errors += indexed("recipients", index, texts)
        else:
            properties = item.get("trigger_properties", common)
            good[key] = (properties, item.get("send_to_existing_only") is False)

    def effect(request: int) -> None:
        for key, (properties, create) in good.items():
            changes.send(store, request, key, campaign, properties, create=create)

    return worded({"message": "success"}, errors, len(good), effect, users=frozenset(good))


def _properties_errors(properties: Any) -> list[str]:
    if properties is None:
        return []
    if type(properties) is not dict:
        return [PROPERTIES_TOO_LARGE]
    try:
        nbytes = len(dumps(properties))
    except TypeError:
        return [TOO_DEEP]
    return [PROPERTIES_TOO_LARGE] if nbytes > TRIGGER_PROPERTIES_BYTES else []
