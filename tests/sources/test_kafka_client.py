"""Options of the client, its secrets and its words: what is told to people, and what is not."""

from __future__ import annotations

import builtins
import logging
from typing import Any

import pytest

from ingest.errors import ConfigError, InputError, MissingExtra
from ingest.sources.kafka import KafkaSource
from ingest.sources.kafka_client import Client, options_of
from ingest.sources.kafka_letters import KafkaDeadLetters
from ingest.sources.kafka_settings import KafkaSettings, with_secrets
from ingest.sources.kafka_talk import Heard

aiokafka = pytest.importorskip("aiokafka", reason="the extra 'kafka' is not installed")


async def durable() -> None:
    """Nothing is to be brought to safety."""


def settings(**client: Any) -> KafkaSettings:
    """Settings with these client options; nobody listens there."""
    return KafkaSettings(topics=("t",), group="g", bootstrap="127.0.0.1:1", client=client)


def test_options_go_to_the_clients_that_take_them() -> None:
    """The consumer's alone are not given to the producer, and what all take is given to each."""
    options = {"session_timeout_ms": 9_000, "linger_ms": 5, "request_timeout_ms": 7}
    consumer = options_of(aiokafka.AIOKafkaConsumer, options)
    assert consumer == {"session_timeout_ms": 9_000, "request_timeout_ms": 7}
    producer = options_of(aiokafka.AIOKafkaProducer, options)
    assert producer == {"linger_ms": 5, "request_timeout_ms": 7}


def test_tls_files_become_a_context() -> None:
    """TLS needs no more than a protocol; files that are none are told without their content."""
    options = options_of(aiokafka.AIOKafkaConsumer, {"security_protocol": "SSL"})
    assert options["ssl_context"].check_hostname
    for name in ("ssl_cafile", "ssl_certfile"):
        with pytest.raises(ConfigError, match="TLS files"):
            options_of(aiokafka.AIOKafkaConsumer, {name: "/no/such/file"})


@pytest.mark.parametrize(
    ("client", "said"),
    [
        ({"sesion_timeout_ms": 1}, r"'sesion_timeout_ms' .* no option of aiokafka; .* client_id"),
        ({"enable_auto_commit": True}, "'enable_auto_commit' .* committed once"),
        ({"bootstrap_servers": "x"}, "'bootstrap_servers' .* beside"),
        ({"ssl_context": 1}, "'ssl_context' .* ssl_cafile"),
        ({"partition_assignment_strategy": "fair"}, "range, roundrobin, sticky"),
        ({"partition_assignment_strategy": 7}, "range, roundrobin, sticky"),
        ({"security_protocol": "SASL_PLAINTEXT"}, "PLAIN over SASL_PLAINTEXT .* needs a username"),
        (
            {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": "me",
            },
            r"SCRAM-SHA-512 .* needs a password, .* set INGEST_KAFKA_PASSWORD, .*_FILE",
        ),
    ],
)
def test_options_that_cannot_be_are_told(client: dict[str, Any], said: str) -> None:
    """A name that is none, and one that is not the user's, are refused with what is allowed."""
    with pytest.raises(ConfigError, match=said):
        options_of(aiokafka.AIOKafkaConsumer, client)


def test_assignors_are_named() -> None:
    """A way to share partitions is a word in a configuration."""
    for names in ("sticky", ["range", "sticky"]):
        found = options_of(aiokafka.AIOKafkaConsumer, {"partition_assignment_strategy": names})[
            "partition_assignment_strategy"
        ]
        assert found[-1].name == "sticky"


@pytest.mark.asyncio
async def test_options_in_contradiction_are_told() -> None:
    """What aiokafka itself refuses is a sentence too, and not a traceback."""
    with pytest.raises(ConfigError, match=r"\[source.client\] do not go together"):
        await KafkaSource(settings(security_protocol="TLS"), durable).open()


@pytest.mark.asyncio
async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without aiokafka the source, and the letters, say what to install."""
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("aiokafka"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"ingestline\[kafka\]"):
        await KafkaSource(settings(), durable).open()
    with pytest.raises(MissingExtra, match=r"ingestline\[kafka\]"):
        await KafkaDeadLetters("127.0.0.1:1", "t", {}).open()


@pytest.mark.asyncio
async def test_a_broker_that_is_away_is_told_with_its_reason() -> None:
    """The sentence says which one, why, and where to look; nothing is left open."""
    source = KafkaSource(settings(), durable)
    with pytest.raises(InputError, match=r"127\.0\.0\.1:1 cannot be used: .*(refused|1).*\."):
        await source.open()
    assert not source.ready
    assert source.lag is None
    assert source.name == "t"
    assert source.tombstones == 0
    source.stop()
    assert [session async for session in source.sessions()] == []
    await source.aclose()


@pytest.mark.asyncio
async def test_a_client_that_is_not_open_can_be_closed() -> None:
    """Closing raises nothing, whatever became of the connection."""

    async def revoked() -> None:
        raise AssertionError

    client = Client("127.0.0.1:1", "g", {}, revoked, lambda keys: None)
    assert client.assignment == []
    assert await client.position(("t", 0)) is None
    await client.aclose()
    await client.aclose()


def test_secrets_come_from_the_environment() -> None:
    """In the options they are refused; nor are they in what a settings object shows."""
    environ = {"INGEST_KAFKA_PASSWORD": "hush"}
    found = with_secrets({"sasl_plain_username": "me"}, environ)
    assert found == {"sasl_plain_username": "me", "sasl_plain_password": "hush"}
    assert with_secrets({}, {}) == {}
    assert "hush" not in repr(settings(**found))
    with pytest.raises(ConfigError, match="INGEST_KAFKA_PASSWORD") as refused:
        with_secrets({"sasl_plain_password": "hush"}, {})
    assert "hush" not in str(refused.value)


def test_what_the_client_logs_is_kept_from_the_terminal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its errors go where they are told to, its warnings nowhere, and the cause is remembered."""
    said: list[str] = []
    log = logging.getLogger("aiokafka.client")
    with Heard(said.append) as heard:
        log.warning("The group is rebalancing")
        assert heard.why(ValueError("this")) == "ValueError: this"
        log.error("No way to %s: %s", "there", ConnectionRefusedError(111, "Connect failed."))
        assert heard.why(ValueError("this")) == "ConnectionRefusedError: Connect failed"
    assert said == ["The client of Kafka says: No way to there: [Errno 111] Connect failed."]
    assert caplog.records == []
    first, second = Heard(), Heard()
    first.__enter__()
    second.__enter__()
    first.__exit__()
    log.error("nobody is told")
    second.__exit__()
    assert caplog.records == []
    log.error("seen")
    assert [record.message for record in caplog.records] == ["seen"]


def test_times_follow_from_the_options_of_the_client() -> None:
    """The group waits no longer than it was told to, and polls come often enough to stay in it."""
    usual = settings()
    assert (usual.patience, usual.keep_seconds) == (52, 100)
    quick = settings(
        rebalance_timeout_ms=10_000, heartbeat_interval_ms=500, max_poll_interval_ms=9_000
    )
    assert (quick.patience, quick.keep_seconds) == (5, 3)
