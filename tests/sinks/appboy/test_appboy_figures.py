"""The documented figures of legacy Appboy's endpoints, as literals."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.sinks.appboy.rows import ROWS
from ingest.sinks.appboy.schema import AppboySchema
from ingest.sinks.rows.schema import schema_of

FIGURES: dict[str, tuple[Any, ...]] = {
    # path, items of each array, of all arrays, of one user; exclusive, irreversible, resendable
    "track": ("/users/track", (50, 50, 50), 150, None, False, False, True),
    "delete": ("/users/delete", (50, 50), 50, None, True, True, True),
    "push-remove": ("/push_notification/remove", (50,), 50, None, False, True, True),
    "email-status": ("/email/status", (50,), 50, None, False, False, True),
    "bounce-remove": ("/email/bounce/remove", (50,), 50, None, False, True, True),
    "spam-remove": ("/email/spam/remove", (50,), 50, None, False, True, True),
    "trigger-send": ("/campaigns/trigger/send", (50,), 50, 1, False, False, False),
}


def test_every_row_has_its_figures() -> None:
    """A new row is a new line here."""
    assert FIGURES.keys() == ROWS.keys()


@pytest.mark.parametrize("name", FIGURES)
def test_a_row_has_the_documented_figures(name: str) -> None:
    """50 of each, 4 MB less a margin, and one budget of 50,000 requests an hour for all of them."""
    row = ROWS[name]
    endpoint = row.endpoint
    (caps,) = endpoint.caps
    assert FIGURES[name] == (
        endpoint.path,
        caps.per_slot,
        caps.total,
        caps.per_user,
        row.exclusive,
        endpoint.irreversible,
        endpoint.resendable,
    )
    assert (caps.body_bytes, ",".join(map(str, endpoint.limits))) == (3_800_000, "50000/1h")
    assert (endpoint.pool, endpoint.counts) == ("appboy", "requests")


@pytest.mark.parametrize(
    ("schema", "elements", "found"),
    [
        (AppboySchema(), 25, []),
        (AppboySchema(), 26, ["long-array"]),
        (AppboySchema(100), 100, []),
        (AppboySchema(100), 101, ["long-array"]),
    ],
)
def test_arrays_hold_25_elements_or_up_to_100(
    schema: AppboySchema, elements: int, found: list[str]
) -> None:
    """25 unless the account has more, which is a setting of at most 100."""
    record = {"external_id": "u", "tags": [1] * elements}
    _, problems = schema.examine("attributes", record, 0.0, validate=True)
    assert [problem.code for problem in problems] == found


@pytest.mark.parametrize("field", ["broadcast", "audience", "recipients", "schedule", "send_id"])
def test_a_field_of_a_whole_send_is_in_no_recipient(field: str) -> None:
    """What came later than Appboy, and what is about all recipients, is refused."""
    schema = schema_of(ROWS["trigger-send"])
    record = {"campaign_id": "c", "external_user_id": "u", field: "x"}
    _, problems = schema.examine("trigger-send", record, 0.0, validate=True)
    assert [(found.code, found.field) for found in problems] == [("request-field", field)]
