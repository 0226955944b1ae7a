"""Message 1 of a topic, a queue or a post is a record: no schema of a worker has headings."""

from __future__ import annotations

import pytest

from ingest.codec import dumps
from ingest.intake import Intake, IntakeRules
from ingest.schemas import Schema
from ingest.sinks.base import Choice
from ingest.sinks.registry import DESTINATIONS

ENDPOINTS = [(name, one) for name, row in DESTINATIONS.items() for one in row.endpoints]

GOOD = dumps({"attributes": {"external_id": "u1", "plan": "pro"}})


def schema_of(name: str, endpoint: str) -> Schema:
    """Return the schema of an endpoint."""
    row = DESTINATIONS[name]
    environ = row.sandboxed("http://127.0.0.1:1", "k")
    return row.open(environ, Choice(endpoint=endpoint)).schema


@pytest.mark.parametrize(("name", "endpoint"), ENDPOINTS)
@pytest.mark.parametrize(
    "line", [GOOD, b"external_id", b"id,name", b'"user_id"', b"{}", b"[1]", b"0", b"null"]
)
def test_no_message_is_a_heading(name: str, endpoint: str, line: bytes) -> None:
    """Line 1 comes to the same as line 2: read, and good or bad by what it holds."""
    schema = schema_of(name, endpoint)
    assert schema.heading(line) is False
    ends = []
    for number in (1, 2):
        intake = Intake(IntakeRules(), schema_of(name, endpoint))
        (taken,) = intake.take(0, [line], number)
        ends.append((taken.read, [one.code for one in taken.refusals], len(taken.chunks)))
    assert ends[0] == ends[1]
    assert sum(ends[0][0].values()) == 1
