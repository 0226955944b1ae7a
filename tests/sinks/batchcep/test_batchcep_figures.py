"""The figures of Batch CEP, as literals, and both sides of each boundary."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.sinks.batchcep import ENDPOINTS, BatchCepSettings, BatchCepWire
from ingest.sinks.batchcep.settings import MEANINGS
from ingest.sinks.batchcep.translation import BatchCepSchema

NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
EVENT = {"external_id": "u", "name": "paid", "time": "2026-01-02T03:00:00Z"}

FIGURES: dict[str, tuple[Any, ...]] = {
    # path, users of a request, bytes of it, budget in users
    "update": ("/2.11/profiles/update", 200, 4_000_000, "300/s with bursts of 1000"),
    "mass-update": (
        *("/2.11/profiles/mass-update", 2_500),
        *(8_000_000, "10000/s without bursts"),
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_an_endpoint_has_the_documented_figures(name: str) -> None:
    """What a request may hold and what it costs, in users."""
    endpoint = ENDPOINTS[name]
    (caps,), (limit,) = endpoint.caps, endpoint.limits
    assert FIGURES[name] == (endpoint.path, caps.users, caps.body_bytes, str(limit))
    assert (endpoint.counts, endpoint.irreversible, endpoint.resendable) == ("users", False, True)
    assert FIGURES.keys() == ENDPOINTS.keys()


def codes(kind: str, record: dict[str, Any]) -> list[str]:
    """Judge a record by the settings that nobody changed."""
    schema = BatchCepSchema(BatchCepSettings())
    return [found.code for found in schema.examine(kind, record, NOW, validate=True)[1]]


@pytest.mark.parametrize(
    ("kind", "record", "found"),
    [
        ("attributes", {"external_id": "é" * 512}, []),
        ("attributes", {"external_id": "x" * 513}, ["long-external-id"]),
        ("attributes", {"external_id": "u", "note": "é" * 300}, []),
        ("attributes", {"external_id": "u", "note": "x" * 301}, ["long-string"]),
        ("attributes", {"external_id": "u", "x" * 30: 1}, []),
        ("attributes", {"external_id": "u", "x" * 31: 1}, ["long-name"]),
        ("attributes", {"external_id": "u"} | {f"a{n}": n for n in range(50)}, []),
        (
            "attributes",
            {"external_id": "u"} | {f"a{n}": n for n in range(51)},
            ["too-many-attributes"],
        ),
        (
            "attributes",
            {"external_id": "u", "email": "a@b.co"} | {f"a{n}": n for n in range(50)},
            ["too-many-attributes"],
        ),
        ("event", EVENT | {"name": "x" * 30}, []),
        ("event", EVENT | {"name": "x" * 31}, ["long-event-name"]),
        ("event", EVENT | {"time": "2026-01-01T03:04:05Z"}, []),
        ("event", EVENT | {"time": "2026-01-01T03:04:04Z"}, ["event-too-old"]),
        ("event", EVENT | {"time": "2026-01-02T03:04:06Z"}, []),
        ("event", EVENT | {"time": "2026-01-02T03:04:07Z"}, ["event-in-future"]),
        ("event", EVENT | {"properties": {"a": {"b": {"c": {}}}}}, []),
        ("event", EVENT | {"properties": {"a": {"b": {"c": {"d": {}}}}}}, ["deep-object"]),
    ],
)
def test_both_sides_of_a_boundary(kind: str, record: dict[str, Any], found: list[str]) -> None:
    """512 characters of an id, 300 of a text, 30 of a name; 50 attributes; 24 hours and no later.

    The second beyond now is the one by which clocks that agree may differ.
    """
    assert codes(kind, record) == found


def test_fifteen_events_share_an_edit() -> None:
    """The sixteenth of a user begins the next one."""
    wire = BatchCepWire(ENDPOINTS["update"], "k", "p", BatchCepSettings())
    fragment = json.dumps([{"name": "paid"}, EVENT]).encode()
    item = wire.folding.begin(1, fragment)
    assert [wire.folding.join(item, 1, fragment) for _ in range(15)] == [True] * 14 + [False]


@pytest.mark.parametrize(
    ("setting", "figure"),
    [
        ("version", "2.11"),
        ("purchase_event", "(purchase)"),
        ("events_per_edit", "(15)"),
        ("attributes_per_edit", "(50)"),
        ("edits", "(200; 2500 for mass-update, at most 10000)"),
        ("body_bytes", "(4MB; 8MB for mass-update)"),
    ],
)
def test_a_setting_says_its_default(setting: str, figure: str) -> None:
    """As it is, not as it once was."""
    assert figure in MEANINGS[setting]
