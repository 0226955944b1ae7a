"""The wire of a row: which requests it makes."""

from __future__ import annotations

import pytest

from ingest.codec import loads
from ingest.sinks.base import Choice
from ingest.sinks.registry import DESTINATIONS
from ingest.sinks.rows.wire import RowWire


@pytest.mark.parametrize("name", ["braze", "appboy"])
def test_it_asks_another_path_with_the_same_credential(name: str) -> None:
    """Reading back needs no other key: it goes in the header, or into the body, as ever."""
    row = DESTINATIONS[name]
    wire = row.open(
        row.sandboxed("http://127.0.0.1:1", "a-key"), Choice(endpoint=next(iter(row.sends)))
    ).wire
    assert isinstance(wire, RowWire)
    request = wire.asking("/users/export/ids", b'"external_ids":["u1"]')
    assert (request.method, request.path) == ("POST", "/users/export/ids")
    assert loads(request.body)["external_ids"] == ["u1"]
    in_body = b"a-key" in request.body
    assert in_body or any("a-key" in value for _, value in request.headers)
