"""Requests to Batch CEP, and how its sink is opened."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.batcher import Batcher
from ingest.errors import ConfigError
from ingest.intake import Intake, IntakeRules
from ingest.outcomes import Delivered, Reply, Response
from ingest.rates import BucketLimit, PaceLimit
from ingest.records import Batch
from ingest.sinks.base import Choice, Request
from ingest.sinks.batchcep.settings import MEANINGS, BatchCepSettings
from ingest.sinks.batchcep.sink import (
    DESTINATION,
    ENDPOINTS,
    MASS_UPDATE_RATE,
    RECORDS_PER_USER,
    UPDATE_BURST,
    BatchCepSink,
    BatchCepWire,
    endpoint_of,
)

KEY, PROJECT, URL = "secret-key", "project_1", "http://127.0.0.1:9"
NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
TIME = "2026-01-02T03:00:00Z"
ENVIRON = {"BATCH_REST_URL": URL, "BATCH_API_KEY": KEY, "BATCH_PROJECT_KEY": PROJECT}


def wire_of(endpoint: str = "update", **chosen: Any) -> BatchCepWire:
    settings = BatchCepSettings(**chosen)
    return BatchCepWire(endpoint_of(endpoint, settings), KEY, PROJECT, settings)


def line(n: int, kind: int, user: str) -> bytes:
    """Make a record that is marked by its number."""
    record: dict[str, Any] = {"external_id": user}
    if kind == 0:
        record |= {f"mark_{n}": n}
    elif kind == 1:
        record |= {"name": "seen", "time": TIME, "properties": {"mark": n}}
    else:
        record |= {"product_id": "p", "currency": "EUR", "price": 1, "time": TIME}
        record |= {"properties": {"mark": n}}
    return json.dumps({("attributes", "event", "purchase")[kind]: record}).encode()


def batches_of(wire: BatchCepWire, lines: list[bytes]) -> list[Batch]:
    """Pack lines as a pipeline does, each batch settled before the next is made."""
    batcher = Batcher(slots=3, overhead=wire.overhead, folding=wire.folding)
    for taken in Intake(IntakeRules(), wire.schema).take(0, lines, 1, NOW):
        assert not taken.refusals
        for chunk in taken.chunks:
            batcher.add(chunk)
    batches = []
    while (batch := batcher.take(wire.endpoint.caps[0], partial=True)) is not None:
        batches.append(batch)
        batcher.release(batch.family, batch.users())
    assert len(batcher) == 0
    return batches


def marks_of(edit: dict[str, Any]) -> tuple[list[int], list[int]]:
    attributes = [value for key, value in edit.get("attributes", {}).items() if "mark_" in key]
    return attributes, [event["attributes"]["mark"] for event in edit.get("events", ())]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=60),
    st.integers(1, 6),
)
def test_every_record_is_sent_once_in_the_edit_of_its_user(
    rows: list[tuple[int, int]], edits: int
) -> None:
    """One edit for each user and request, in order, within every cap."""
    wire = wire_of(edits=edits, events_per_edit=3, attributes_per_edit=10)
    lines = [line(n, kind, f"u{user}") for n, (kind, user) in enumerate(rows)]
    sent: dict[str, tuple[list[int], list[int]]] = {}
    for batch in batches_of(wire, lines):
        request = wire.request(batch)
        assert len(request.body) <= batch.nbytes + wire.overhead
        body = json.loads(request.body)
        users = [edit["identifiers"]["custom_id"] for edit in body]
        assert len(users) == len(set(users)) == wire.endpoint.cost(batch) <= edits
        for user, edit in zip(users, body, strict=True):
            attributes, events = marks_of(edit)
            assert len(attributes) <= 10
            assert len(events) <= 3
            seen = sent.setdefault(user, ([], []))
            seen[0].extend(attributes)
            seen[1].extend(events)
    for user, (attributes, events) in sent.items():
        of_user = [(n, kind) for n, (kind, of) in enumerate(rows) if f"u{of}" == user]
        assert attributes == [n for n, kind in of_user if kind == 0]
        assert Counter(events) == Counter(n for n, kind in of_user if kind)
        for kind in (1, 2):
            in_order = [n for n in events if rows[n][0] == kind]
            assert in_order == sorted(in_order)
    assert sum(len(a) + len(e) for a, e in sent.values()) == len(rows)


def test_a_request_says_who_sends_it_and_where() -> None:
    """A bare array, the key and the project in headers, the version in the path."""
    wire = wire_of(version="2.13")
    (batch,) = batches_of(wire, [line(0, 0, "u1")])
    request = wire.request(batch)
    assert (request.method, request.path) == ("POST", "/2.13/profiles/update")
    assert dict(request.headers) == {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {KEY}",
        "X-Batch-Project": PROJECT,
    }
    assert json.loads(request.body) == [
        {"identifiers": {"custom_id": "u1"}, "attributes": {"mark_0": 0}}
    ]
    assert KEY not in repr(wire)


def test_a_dead_letter_shows_the_record_as_it_came() -> None:
    """Not what it was translated to."""
    wire = wire_of()
    (batch,) = batches_of(wire, [line(0, 1, "u1")])
    (fragment,) = batch.columns[1].fragments()
    record = wire.record_of(batch, 1, fragment)
    assert json.loads(record) == json.loads(line(0, 1, "u1"))["event"]


def test_only_attributes_may_be_repeated() -> None:
    """They are set, added to a list of texts or removed from it: twice is once."""
    wire = wire_of()
    assert [wire.repeatable(slot, b'[{"a":{"$add":["x"]}},{}]') for slot in range(3)] == [
        True,
        False,
        False,
    ]


def test_endpoints_count_users() -> None:
    """Their caps and budgets are in users, whatever each of them carries."""
    update, mass = ENDPOINTS["update"], ENDPOINTS["mass-update"]
    assert (update.caps[0].users, mass.caps[0].users) == (200, 2_500)
    assert update.limits == (BucketLimit(300, UPDATE_BURST),)
    assert mass.limits == (PaceLimit(MASS_UPDATE_RATE),)
    assert mass.path == "/2.11/profiles/mass-update"
    assert {row.counts for row in ENDPOINTS.values()} == {"users"}
    example = json.loads(update.example)
    assert wire_of().schema.examine("attributes", example["attributes"], NOW, validate=True) == (
        "u1",
        [],
    )


def test_users_per_request_are_a_setting() -> None:
    """Up to what the budget grants at once."""
    row = endpoint_of("update", BatchCepSettings(edits=1_000))
    assert row.caps[0].users == 1_000
    assert row.caps[0].total == 1_000 * RECORDS_PER_USER
    with pytest.raises(ConfigError, match=r"'edits' .* at most 1,000 for the endpoint update"):
        endpoint_of("update", BatchCepSettings(edits=1_001))
    mass = endpoint_of("mass-update", BatchCepSettings(edits=10_000))
    assert (mass.caps[0].users, mass.caps[0].body_bytes) == (10_000, 8_000_000)


@pytest.mark.parametrize(("name", "usual"), [("update", 4_000_000), ("mass-update", 8_000_000)])
def test_the_bytes_of_a_request_are_a_setting(name: str, usual: int) -> None:
    """No figure is documented; the least still has room for every user's edit and a record."""
    assert ENDPOINTS[name].caps[0].body_bytes == usual
    settings = BatchCepSettings(body_bytes=1_000_000, edits=1_000)
    (caps,) = endpoint_of(name, settings).caps
    assert (caps.body_bytes, caps.users) == (1_000_000, 1_000)
    wire = wire_of("mass-update", body_bytes=1_000_000, edits=10_000)
    assert wire.overhead + 100_000 < wire.endpoint.caps[0].body_bytes


def test_an_unknown_endpoint_is_refused() -> None:
    """The error names those there are."""
    with pytest.raises(ConfigError, match=r"unknown endpoint 'track' .*update, mass-update"):
        BatchCepSink(URL, KEY, PROJECT, "track")


@pytest.mark.parametrize(("key", "project"), [("", "p"), ("a b", "p"), ("k", ""), ("k", "ü")])
def test_a_credential_that_no_header_carries_is_refused(key: str, project: str) -> None:
    """And is not shown."""
    with pytest.raises(ConfigError, match="copy it again"):
        BatchCepSink(URL, key, project)


@pytest.mark.asyncio
async def test_a_sink_delivers_by_its_transport() -> None:
    """One request, and what its answer means."""

    class Fake:
        host = "fake"

        def begin(self, request: Request) -> None:
            """Send nothing without waiting."""

        async def send(self, request: Request) -> Reply:
            return Response(202, {}, b'{"code":"SUCCESS"}', 0.0)

        async def aclose(self) -> None:
            pass

    sink = BatchCepSink(URL, KEY, PROJECT, transport=Fake())
    (batch,) = batches_of(wire_of(), [line(0, 0, "u1")])
    assert (await sink.deliver(batch)).outcome == Delivered(202)
    await sink.aclose()


@pytest.mark.asyncio
async def test_the_destination_is_opened_by_the_environment() -> None:
    """With an endpoint and settings out of those that it documents."""
    assert DESTINATION.settings is MEANINGS
    assert tuple(DESTINATION.endpoints) == ("update", "mass-update")
    sink = DESTINATION.open(ENVIRON, Choice())
    assert (sink.name, sink.endpoint.name, sink.host) == ("batch-cep", "update", "127.0.0.1:9")
    assert sink.wire.secrets == (KEY, PROJECT)
    assert sink.overhead > 200 * 60
    await sink.aclose()
    choice = Choice(endpoint="mass-update", settings={"edits": "5", "version": "2.13"})
    sink = DESTINATION.open(DESTINATION.sandboxed(URL, "k"), choice)
    assert sink.endpoint.path == "/2.13/profiles/mass-update"
    assert sink.endpoint.caps[0].users == 5
    await sink.aclose()


@pytest.mark.parametrize("missing", list(ENVIRON))
def test_what_is_missing_is_named(missing: str) -> None:
    """A sink is not opened by halves."""
    environ = {name: value for name, value in ENVIRON.items() if name != missing}
    with pytest.raises(ConfigError, match=missing):
        BatchCepSink.from_env(environ)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(auth="body"), "unknown auth 'body' of batch-cep: it is one of bearer"),
        (Choice("track"), "unknown endpoint 'track' of batch-cep: it is one of update, mass-"),
        (Choice(settings={"speed": "9"}), "unknown setting 'speed' .* version, purchase_event"),
    ],
)
def test_what_is_not_there_is_refused(choice: Choice, said: str) -> None:
    """The error names what there is."""
    with pytest.raises(ConfigError, match=said):
        DESTINATION.open(ENVIRON, choice)


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with every destination."""
    for name in ENVIRON:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="BATCH_REST_URL is not set"):
        BatchCepSink.from_env()
