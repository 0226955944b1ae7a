"""The batchable endpoints of Braze, as a table: a new one is a new row, and nothing else.

Decides what each endpoint takes, costs and answers, as data. It does not know how a row is read
(`ingest.sinks.rows.schema`), how its answers are (`ingest.sinks.rows.answers`), nor how one is
sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from ingest.errors import ConfigError
from ingest.profiles import Caps
from ingest.rates import RateLimit, parse_rate
from ingest.records import KINDS
from ingest.sinks.base import Endpoint
from ingest.sinks.rows.data import (
    ALIAS,
    ALIAS_PART,
    BRAZE_ID,
    EMAIL,
    EXTERNAL_ID,
    PHONE,
    TEXT,
    TEXTS,
    TRIGGER_PROPERTIES,
    Field,
    Item,
    Row,
    Said,
    by,
    by_alias,
    by_id,
    one_of,
)

TRACK_BYTES: Final = 3_800_000
"""Documented as 4 MB without saying which; this is below both, and leaves room for a proxy."""

BULK_BYTES: Final = 1_800_000
"""Documented as 2 MB; the same margin."""

OF_A_SEND: Final = ("broadcast", "audience", "attachments", "schedule")
"""What else the body of a send of messages may have, for all of its recipients."""

MOST_ITEMS: Final = 50
"""Items of one request, over all its arrays, of every endpoint but users/track."""

POOLS: Final[Mapping[str, tuple[RateLimit, ...]]] = {
    "users": parse_rate("20000/1m"),
    "rename": parse_rate("1000/1m"),
    "remove": parse_rate("1000/1m"),
    "shared": parse_rate("250000/1h"),
}
"""Budgets in requests, by name: endpoints of one pool share one."""


def _track(name: str, path: str, rate: str, summary: str, caps: tuple[Caps, ...]) -> Row:
    slots = ("attributes", "events", "purchases")
    return Row(
        Endpoint(
            name=name,
            path=path,
            slots=slots,
            kinds=KINDS,
            caps=caps,
            limits=parse_rate(rate),
            example='{"attributes": {"external_id": "u1", "plan": "pro"}}',
            summary=summary,
        ),
        repeats="plain-attributes",
    )


def _track_caps(total: int) -> Caps:
    return Caps(per_slot=(75, 75, 75), total=total, body_bytes=TRACK_BYTES)


def _endpoint(
    name: str,
    path: str,
    *slots: str,
    pool: str,
    example: str,
    summary: str,
    per_user: int | None = None,
    resendable: bool = True,
    irreversible: bool = False,
) -> Endpoint:
    caps = Caps((MOST_ITEMS,) * len(slots), MOST_ITEMS, TRACK_BYTES, per_user=per_user)
    return Endpoint(
        name=name,
        path=path,
        slots=slots,
        kinds=(name,) * len(slots),
        caps=(caps,),
        limits=POOLS[pool],
        example=example,
        pool=pool,
        resendable=resendable,
        irreversible=irreversible,
        summary=summary,
    )


_ID: Final = Field("external_id", EXTERNAL_ID)
_ALIAS: Final = Field("user_alias", ALIAS)
_EMAIL: Final = Field("email", EMAIL)
_PRIORITIZATION: Final = Field("prioritization", TEXTS, required=False)
_TO_BE_IDENTIFIED: Final = by_id("external_id")

_EMAILS: Final = (Item((_EMAIL,), (by("email"),), bare="email"),)
_IDS: Final = (Item((_ID,), (by_id("external_id"),), bare="external_id"),)

_DONE_BEFORE: Final = (
    r"not found|not exist|doesn't exist|no such|no user|unknown|already|in use|been taken"
)
"""What a removal or a new alias is answered whose first copy has done its work."""

_RENAMED_BEFORE: Final = rf"{_DONE_BEFORE}|deprecated"
"""The same of a rename, whose first copy deprecated the current id. (A removal wants that.)"""

_TABLE: Final = (
    _track(
        "track",
        "/users/track",
        "3000/3s",
        "attributes, events and purchases",
        # 75 in each array (legacy contracts), 75 in total (2026), 50 in total (some MAU texts).
        (_track_caps(225), _track_caps(75), _track_caps(50)),
    ),
    _track(
        "track-bulk",
        "/users/track/bulk",
        "50/1s",
        "the same in bulk: a closed beta, its caps are unverified",
        (Caps((1000, 1000, 1000), total=1000, body_bytes=BULK_BYTES, per_user=100),),
    ),
    Row(
        _endpoint(
            "delete",
            "/users/delete",
            "external_ids",
            "braze_ids",
            "user_aliases",
            pool="users",
            example='{"external_id": "u1"}',
            summary="delete users, by external id, braze id or alias",
            irreversible=True,
        ),
        items=(
            Item((_ID,), (by_id("external_id"),), ("external_id",), "external_id"),
            Item((Field("braze_id", BRAZE_ID),), (by("braze_id"),), ("braze_id",), "braze_id"),
            Item((_ALIAS,), (by_alias("user_alias"),), ("user_alias",), "user_alias"),
        ),
        counts="deleted",
        exclusive=True,
        says=(
            Said(
                "invalid_user_ids",
                "unknown-user",
                "the destination knows no such user",
                again=True,
                ids_only=True,
            ),
        ),
        again=_DONE_BEFORE,
    ),
    Row(
        _endpoint(
            "alias-new",
            "/users/alias/new",
            "user_aliases",
            pool="users",
            example='{"external_id": "u1", "alias_name": "a1", "alias_label": "crm"}',
            summary="give users an alias, or make users that have nothing else",
        ),
        items=(
            Item(
                (
                    Field("alias_name", ALIAS_PART),
                    Field("alias_label", ALIAS_PART),
                    Field("external_id", EXTERNAL_ID, required=False),
                ),
                (by_id("external_id"), by_alias()),
            ),
        ),
        again=_DONE_BEFORE,
    ),
    Row(
        _endpoint(
            "identify",
            "/users/identify",
            "aliases_to_identify",
            "emails_to_identify",
            "phone_numbers_to_identify",
            pool="users",
            example='{"external_id": "u1", "user_alias": {"alias_name": "a1", '
            '"alias_label": "crm"}, "merge_behavior": "merge"}',
            summary="give an external id to users known by alias, e-mail address or phone number",
        ),
        items=(
            Item((_ALIAS, _ID), (_TO_BE_IDENTIFIED,), ("user_alias",)),
            Item((_EMAIL, _ID, _PRIORITIZATION), (_TO_BE_IDENTIFIED,), ("email",)),
            Item(
                (Field("phone", PHONE), _ID, _PRIORITIZATION),
                (_TO_BE_IDENTIFIED,),
                ("phone",),
            ),
        ),
        shared=(
            Field("merge_behavior", one_of("none", "merge", code="bad-choice"), required=False),
        ),
        again=_DONE_BEFORE,
    ),
    Row(
        _endpoint(
            "rename",
            "/users/external_ids/rename",
            "external_id_renames",
            pool="rename",
            example='{"current_external_id": "u1", "new_external_id": "n1"}',
            summary="rename external ids; the old ones stay known as deprecated ones",
        ),
        # Records of the same current id keep their order. A chain (a to b, then b to c) does not:
        # they are two ids here, and one request does not promise an order either. What comes too
        # early is refused as unknown, is a dead letter, and can be replayed.
        items=(
            Item(
                (
                    Field("current_external_id", EXTERNAL_ID),
                    Field("new_external_id", EXTERNAL_ID),
                ),
                (by_id("current_external_id"),),
                differ=("current_external_id", "new_external_id"),
            ),
        ),
        says=(Said("rename_errors", "rename-refused", "the destination did not rename the id"),),
        again=_RENAMED_BEFORE,
    ),
    Row(
        _endpoint(
            "remove",
            "/users/external_ids/remove",
            "external_ids",
            pool="remove",
            example='{"external_id": "u1"}',
            summary="remove deprecated external ids, those that were renamed",
            irreversible=True,
        ),
        items=_IDS,
        says=(Said("removal_errors", "removal-refused", "the destination did not remove the id"),),
        again=_DONE_BEFORE,
    ),
    Row(
        _endpoint(
            "push-remove",
            "/push_notification/remove",
            "push_tokens",
            pool="shared",
            example='{"app_id": "app1", "token": "token-of-u1"}',
            summary="remove push tokens",
            irreversible=True,
        ),
        items=(
            Item(
                (Field("app_id", TEXT), Field("token", TEXT)),
                (by("push_token", "token"),),
            ),
        ),
        again=_DONE_BEFORE,
    ),
    Row(
        _endpoint(
            "email-status",
            "/email/status",
            "email",
            pool="shared",
            example='{"email": "u1@example.com", "subscription_state": "unsubscribed"}',
            summary="set the subscription state of e-mail addresses",
        ),
        items=_EMAILS,
        shared=(
            Field(
                "subscription_state",
                one_of("subscribed", "unsubscribed", "opted_in", code="bad-choice"),
            ),
        ),
    ),
    Row(
        _endpoint(
            "bounce-remove",
            "/email/bounce/remove",
            "email",
            pool="shared",
            example='{"email": "u1@example.com"}',
            summary="take e-mail addresses off the hard-bounce list",
            irreversible=True,
        ),
        items=_EMAILS,
        again=_DONE_BEFORE,
    ),
    Row(
        _endpoint(
            "spam-remove",
            "/email/spam/remove",
            "email",
            pool="shared",
            example='{"email": "u1@example.com"}',
            summary="take e-mail addresses off the spam list",
            irreversible=True,
        ),
        items=_EMAILS,
        again=_DONE_BEFORE,
    ),
    Row(
        _endpoint(
            "trigger-send",
            "/campaigns/trigger/send",
            "recipients",
            pool="shared",
            example='{"campaign_id": "c1", "external_user_id": "u1", '
            '"trigger_properties": {"code": "x"}}',
            summary="send an API-triggered campaign; never sent twice",
            # A recipient that is named twice in one request is taken once, the last time.
            per_user=1,
            resendable=False,
        ),
        items=(
            Item(
                (
                    Field("external_user_id", EXTERNAL_ID, required=False),
                    Field("user_alias", ALIAS, required=False),
                    Field("email", EMAIL, required=False),
                    Field("trigger_properties", TRIGGER_PROPERTIES, required=False),
                    _PRIORITIZATION,
                ),
                (by_id("external_user_id"), by_alias("user_alias"), by("email")),
                ("external_user_id", "user_alias", "email"),
            ),
        ),
        shared=(Field("campaign_id", TEXT), Field("send_id", TEXT, required=False)),
        of_body=OF_A_SEND,
        repeats="never",
    ),
)

ROWS: Final[Mapping[str, Row]] = {row.name: row for row in _TABLE}
"""Every batchable endpoint, by name."""

_TRACKS: Final = ("track", "track-bulk")

ENDPOINTS: Final[Mapping[str, Endpoint]] = {name: ROWS[name].endpoint for name in _TRACKS}
"""The endpoints of an import, by the name that `--endpoint` takes."""

SENDS: Final[Mapping[str, Endpoint]] = {
    name: row.endpoint for name, row in ROWS.items() if name not in _TRACKS
}
"""The endpoints of a send, by the name of their row."""


def row_named(text: str, rows: Mapping[str, Row] = ROWS) -> Row:
    """Return the row of a name or a path, such as `delete`, `/users/delete` or `users/delete`.

    Raises `ConfigError` that lists the names, those that are like the text first.
    """
    paths = {row.endpoint.path.strip("/"): row for row in rows.values()}
    found = rows.get(text) or paths.get(text.strip("/"))
    if found is not None:
        return found
    close = get_close_matches(text, [*rows, *paths])
    like = [rows[name].name if name in rows else paths[name].name for name in close]
    names = dict.fromkeys((*like, *rows))
    raise ConfigError(f"unknown endpoint '{text}': it is one of {', '.join(names)}")
