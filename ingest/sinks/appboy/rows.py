"""The batchable endpoints of legacy Appboy, as a table: what differs from Braze's of the same name.

Decides what each endpoint takes and costs, as data: every request of any of them draws on the one
hourly budget of the account. It does not know how a row is sent or answered (`ingest.sinks.rows`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from ingest.profiles import Caps
from ingest.rates import parse_rate
from ingest.records import KINDS
from ingest.sinks.base import Endpoint
from ingest.sinks.rows import MOST_ITEMS, TRACK_BYTES
from ingest.sinks.rows import ROWS as BRAZE_ROWS
from ingest.sinks.rows.data import (
    EXTERNAL_ID,
    TEXT,
    TRIGGER_PROPERTIES,
    Field,
    Item,
    Row,
    by,
    by_id,
)
from ingest.sinks.rows.table import OF_A_SEND

PER_SLOT: Final = 50
"""Objects in each array of a `users/track` request, counted apart."""

POOL: Final = "appboy"

LIMITS: Final = parse_rate("50000/1h")
"""Budget of a paid plan over all endpoints; a free one has 100 an hour, which its headers say."""

_TRACK_SLOTS: Final = ("attributes", "events", "purchases")
_DELETE_SLOTS: Final = ("external_ids", "appboy_ids")


def _like(name: str, **changed: object) -> Endpoint:
    """Return the endpoint that Braze has under this name, on the budget of Appboy."""
    return replace(BRAZE_ROWS[name].endpoint, limits=LIMITS, pool=POOL, **changed)


def _row(name: str) -> Row:
    """Return the row that Braze has under this name, on the budget of Appboy."""
    return replace(BRAZE_ROWS[name], endpoint=_like(name))


_TABLE: Final = (
    replace(
        BRAZE_ROWS["track"],
        endpoint=_like(
            "track",
            slots=_TRACK_SLOTS,
            kinds=KINDS,
            caps=(Caps((PER_SLOT,) * 3, total=3 * PER_SLOT, body_bytes=TRACK_BYTES),),
        ),
    ),
    replace(
        BRAZE_ROWS["delete"],
        endpoint=_like(
            "delete",
            slots=_DELETE_SLOTS,
            kinds=("delete",) * len(_DELETE_SLOTS),
            caps=(Caps((MOST_ITEMS,) * len(_DELETE_SLOTS), MOST_ITEMS, TRACK_BYTES),),
            summary="delete users, by external id or Appboy id",
        ),
        items=(
            Item(
                (Field("external_id", EXTERNAL_ID),),
                (by_id("external_id"),),
                ("external_id",),
                "external_id",
            ),
            Item((Field("appboy_id", TEXT),), (by("appboy_id"),), ("appboy_id",), "appboy_id"),
        ),
    ),
    _row("push-remove"),
    _row("email-status"),
    _row("bounce-remove"),
    _row("spam-remove"),
    replace(
        BRAZE_ROWS["trigger-send"],
        endpoint=_like("trigger-send"),
        items=(
            Item(
                (
                    Field("external_user_id", EXTERNAL_ID),
                    Field("trigger_properties", TRIGGER_PROPERTIES, required=False),
                ),
                (by_id("external_user_id"),),
            ),
        ),
        shared=(Field("campaign_id", TEXT),),
        of_body=(*OF_A_SEND, "send_id"),  # which came later
    ),
)

ROWS: Final[Mapping[str, Row]] = {row.name: row for row in _TABLE}
"""Every batchable endpoint of Appboy, by name."""

ENDPOINTS: Final[Mapping[str, Endpoint]] = {"track": ROWS["track"].endpoint}
"""The endpoints of an import, by the name that `--endpoint` takes."""

SENDS: Final[Mapping[str, Endpoint]] = {
    name: row.endpoint for name, row in ROWS.items() if name not in ENDPOINTS
}
"""The endpoints of a send, by the name of their row."""
