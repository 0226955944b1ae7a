"""The documented figures of Braze's endpoints, as literals: a slip in the table shows here."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.sinks.rows import ROWS
from ingest.sinks.rows.schema import schema_of

FIFTY = [(50, None)]

FIGURES: dict[str, tuple[Any, ...]] = {
    # path; (items over all arrays, of one user) from the most to the least; bytes; budget and pool;
    # whether arrays exclude each other; irreversible; resendable
    "track": (
        *("/users/track", [(225, None), (75, None), (50, None)], 3_800_000),
        *("3000/3s", "", False, False, True),
    ),
    "track-bulk": (
        *("/users/track/bulk", [(1000, 100)], 1_800_000),
        *("50/1s", "", False, False, True),
    ),
    "delete": ("/users/delete", FIFTY, 3_800_000, "20000/1m", "users", True, True, True),
    "alias-new": ("/users/alias/new", FIFTY, 3_800_000, "20000/1m", "users", False, False, True),
    "identify": ("/users/identify", FIFTY, 3_800_000, "20000/1m", "users", False, False, True),
    "rename": (
        *("/users/external_ids/rename", FIFTY, 3_800_000),
        *("1000/1m", "rename", False, False, True),
    ),
    "remove": (
        *("/users/external_ids/remove", FIFTY, 3_800_000),
        *("1000/1m", "remove", False, True, True),
    ),
    "push-remove": (
        *("/push_notification/remove", FIFTY, 3_800_000),
        *("250000/1h", "shared", False, True, True),
    ),
    "email-status": ("/email/status", FIFTY, 3_800_000, "250000/1h", "shared", False, False, True),
    "bounce-remove": (
        *("/email/bounce/remove", FIFTY, 3_800_000),
        *("250000/1h", "shared", False, True, True),
    ),
    "spam-remove": (
        *("/email/spam/remove", FIFTY, 3_800_000),
        *("250000/1h", "shared", False, True, True),
    ),
    "trigger-send": (
        *("/campaigns/trigger/send", [(50, 1)], 3_800_000),
        *("250000/1h", "shared", False, False, False),
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_row_has_the_documented_figures(name: str) -> None:
    """What a request may hold, what it costs, and what must never be done twice or by mistake."""
    row = ROWS[name]
    endpoint = row.endpoint
    (size,) = {caps.body_bytes for caps in endpoint.caps}
    assert FIGURES[name] == (
        endpoint.path,
        [(caps.total, caps.per_user) for caps in endpoint.caps],
        size,
        ",".join(map(str, endpoint.limits)),
        endpoint.pool,
        row.exclusive,
        endpoint.irreversible,
        endpoint.resendable,
    )
    assert endpoint.counts == "requests"


def test_every_row_has_its_figures() -> None:
    """A new row is a new line here; each array of a row has the row's own cap."""
    assert FIGURES.keys() == ROWS.keys()
    per_slot = {
        name: [set(caps.per_slot) for caps in row.endpoint.caps] for name, row in ROWS.items()
    }
    assert per_slot.pop("track") == [{75}, {75}, {75}]
    assert per_slot.pop("track-bulk") == [{1000}]
    assert all(caps == [{50}] for caps in per_slot.values())


ALIAS = {"alias_name": "n", "alias_label": "l"}


@pytest.mark.parametrize(
    ("name", "record", "field"),
    [
        ("delete", {"external_id": "x" * 987}, ""),
        ("delete", {"external_id": "é" * 493 + "x"}, ""),
        ("delete", {"external_id": "x" * 988}, "external_id"),
        ("delete", {"external_id": "é" * 494}, "external_id"),
        ("rename", {"current_external_id": "a", "new_external_id": "x" * 987}, ""),
        (
            "rename",
            {"current_external_id": "a", "new_external_id": "x" * 988},
            "new_external_id",
        ),
        ("delete", {"user_alias": ALIAS | {"alias_name": "x" * 236}}, ""),
        ("delete", {"user_alias": ALIAS | {"alias_label": "x" * 237}}, "user_alias"),
        ("alias-new", ALIAS | {"alias_label": "é" * 118}, ""),
        ("alias-new", ALIAS | {"alias_label": "é" * 118 + "x"}, "alias_label"),
    ],
)
def test_lengths_of_names_of_users(name: str, record: dict[str, Any], field: str) -> None:
    """987 bytes of an external id and 236 of each part of an alias, in UTF-8, and no byte more."""
    _, problems = schema_of(ROWS[name]).examine(name, record, 0.0, validate=True)
    assert [problem.field for problem in problems] == ([field] if field else [])
