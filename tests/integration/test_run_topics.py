"""What a worker makes of topics as people have them: behind a password, and of their own shapes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from ingest.codec import dumps, loads
from tests.integration import topics
from tests.integration.brokers import MECHANISM, PASSWORD, USER, Broker
from tests.integration.processes import PATIENCE, eventually, served
from tests.integration.workers import GENEROUS, working

pytestmark = pytest.mark.integration

WRONG: Final = "another-password-for-this-test"
ORDERS: Final = 40


def secured(broker: Broker, config: dict[str, Any], **client: Any) -> dict[str, Any]:
    """Return a configuration that reaches the broker where it asks for a password."""
    told = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": MECHANISM,
        "sasl_plain_username": USER,
        "ssl_cafile": str(broker.certificate),
    }
    source = {**config["source"], "bootstrap": broker.secured_address}
    told = {name: value for name, value in {**told, **client}.items() if value is not None}
    return {**config, "source": {**source, "client": {**topics.QUICK, **told}}}


def test_topics_behind_a_password_and_tls_are_read_and_written(
    tmp_path: Path, broker: Broker
) -> None:
    """The options of the client are passed on, for letters too; the password comes by a file."""
    asyncio.run(topics.topic_made(broker, "secured"))
    asyncio.run(topics.topic_made(broker, "secured-letters", 1))
    asyncio.run(topics.filled(broker, "secured", 300))
    asyncio.run(topics.sent(broker, "secured", [b"no json"]))
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    with served(*GENEROUS) as sandbox:
        config = secured(broker, topics.reading(broker, "secured", sandbox))
        config["dead_letters"] = {"type": "kafka", "topic": "secured-letters"}
        told = {"INGEST_KAFKA_PASSWORD_FILE": str(tmp_path / "password")}
        with working(tmp_path / "worker", config, **told) as worker:
            eventually(lambda: sandbox.delivered == 300, "all records")
            asyncio.run(topics.all_committed(broker, "secured"))
            assert worker.terminate()[0] == 0, worker.said
            assert PASSWORD.encode() not in worker.output
    (letter,) = asyncio.run(topics.values(broker, "secured-letters", 1))
    assert loads(letter)["code"] == "not-json"


@pytest.mark.parametrize(
    ("client", "said"),
    [
        ({}, "invalid credentials with SASL mechanism SCRAM-SHA-512"),
        ({"ssl_cafile": None}, "certificate verify failed"),
        ({"security_protocol": "SASL_PLAINTEXT", "ssl_cafile": None}, "KafkaConnectionError"),
    ],
    ids=["password", "certificate", "plaintext"],
)
def test_a_worker_that_is_not_let_in_says_why(
    tmp_path: Path, broker: Broker, client: dict[str, Any], said: str
) -> None:
    """A wrong password, an authority that is not known, no TLS: a sentence, and no secret in it."""
    with served(*GENEROUS) as sandbox:
        config = secured(broker, topics.reading(broker, "secured", sandbox), **client)
        with working(tmp_path, config, INGEST_KAFKA_PASSWORD=WRONG) as worker:
            assert worker.process.wait(PATIENCE) == 2, worker.said
            told = " ".join(worker.said)
            assert f"Kafka at {broker.secured_address} cannot be used" in told
            assert said in told
            assert "[source.client]" in told
            assert "INGEST_KAFKA_PASSWORD" in told
            assert WRONG.encode() not in worker.output
            assert b"Traceback" not in worker.output


def order(number: int, **more: Any) -> bytes:
    """An order, as a shop tells of it."""
    customer = {"id": f"u{number}", "segment": "b2c"}
    told = {"type": "order placed", "customer": customer, "at": "2026-01-31T12:00:00Z"}
    return dumps({**told, "total": {"amount": number + 0.5, "currency": "EUR"}, **more})


def test_domain_events_become_events_by_a_mapping(tmp_path: Path, broker: Broker) -> None:
    """Members are renamed, dropped and made up; one without a user becomes a dead letter."""
    asyncio.run(topics.topic_made(broker, "orders-mapped"))
    messages = [order(number, trace="t") for number in range(ORDERS)]
    messages[7] = order(7, customer={"segment": "b2c"})
    asyncio.run(topics.sent(broker, "orders-mapped", messages))
    columns = {
        "customer.id": {"to": "external_id", "type": "string"},
        "at": {"to": "time"},
        "total.amount": {"to": "properties.amount"},
        "trace": {"drop": True},
    }
    with served(*GENEROUS) as sandbox:
        config = topics.reading(broker, "orders-mapped", sandbox)
        config["map"] = {
            "kind": "event",
            "columns": columns,
            "templates": {"name": "shop: {type}"},
            "constants": {"properties.from": "shop"},
        }
        with working(tmp_path, config) as worker:
            eventually(lambda: sandbox.delivered == ORDERS - 1, "all events but one")
            asyncio.run(topics.all_committed(broker, "orders-mapped"))
            assert worker.terminate()[0] == 0, worker.said
        (event,) = sandbox.get("/sandbox/users/u3")["events"]
    assert event["name"] == "shop: order placed"
    assert event["properties"]["amount"] == 3.5
    assert event["properties"]["from"] == "shop"
    assert "trace" not in dumps(event).decode()
    (letter,) = letters(tmp_path)
    assert letter["code"] == "missing-identity"
    assert letter["record"]["properties"]["amount"] == 7.5


TRANSFORM: Final = '''\
"""Of a shop."""

from ingest import Attributes, Event, inc


def to_records(message):
    if message["type"] != "order placed":
        return
    user = message["customer"]["id"]
    yield Event(external_id=user, name="ordered", time=message["at"])
    yield Attributes(external_id=user, values={"orders": inc(1)})
'''


def test_one_message_of_which_a_transform_raises_stops_no_other(
    tmp_path: Path, broker: Broker
) -> None:
    """It is a dead letter with its place, and what became of the others is delivered."""
    asyncio.run(topics.topic_made(broker, "orders-made"))
    messages = [order(number) for number in range(ORDERS)]
    messages[11] = order(11, customer="nobody-to-be-shown")
    messages[12] = dumps({"type": "cart seen"})
    asyncio.run(topics.sent(broker, "orders-made", messages))
    (tmp_path / "shop.py").write_text(TRANSFORM)
    with served(*GENEROUS) as sandbox:
        config = topics.reading(broker, "orders-made", sandbox)
        config["transform"] = {"python": "shop:to_records"}
        with working(tmp_path, config) as worker:
            eventually(lambda: sandbox.delivered == 2 * (ORDERS - 2), "all records but of two")
            asyncio.run(topics.all_committed(broker, "orders-made"))
            assert worker.metric("ingest_dead_letters_total") == 1
            assert worker.terminate()[0] == 0, worker.said
            assert b"nobody-to-be-shown" not in worker.output
        profile = sandbox.get("/sandbox/users/u5")
    assert [event["name"] for event in profile["events"]] == ["ordered"]
    assert profile["attributes"]["orders"] == 1
    (letter,) = letters(tmp_path)
    assert letter["code"] == "transform-failed"
    assert letter["raw"].encode() == messages[11]
    assert letter["source"]["name"] == "orders-made"
    assert letter["reason"].endswith("raised TypeError")


def letters(where: Path) -> list[dict[str, Any]]:
    """The dead letters that a worker wrote to its file."""
    found = (where / "state" / "dead-letters-worker.ndjson").read_bytes()
    return [loads(line) for line in found.splitlines()]
