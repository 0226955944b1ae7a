"""The configuration of a worker: what it may say, and the sentence for what it may not."""

from __future__ import annotations

from contextlib import suppress
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.configuration import Caps, Configuration, DeadLetters, Kafka, Ops, Sqs, Stdin, parsed
from ingest.errors import ConfigError

WHOLE = """
    state = "/var/lib/ingest"
    memory = "64MB"
    drain_timeout = 20

    [source]
    type = "kafka"
    topics = ["user-events", "orders"]
    group = "to-braze"
    bootstrap = "127.0.0.1:9092"
    kind = "event"
    [source.client]
    security_protocol = "SASL_SSL"

    [map.columns."user.id"]
    to = "external_id"

    [transform]
    python = "mypkg.mapping:to_records"

    [sink]
    type = "braze"
    endpoint = "track"
    rate = "3000/3s"
    in_flight = 8
    [sink.limits]
    per_slot = 75
    total = 75
    bytes = 4000000
    [sink.if_unanswered]
    event = "hold"

    [dead_letters]
    type = "kafka"
    topic = "letters"

    [ops]
    port = 9200
"""
LEAST = '[source]\ntype = "stdin"\n[sink]\ntype = "sandbox"\n'


def read(text: str, **environ: str) -> Configuration:
    """Read a text as the file worker.toml."""
    return parsed(dedent(text), environ, name="worker.toml")


def complaint(text: str, **environ: str) -> str:
    """Return the sentence for a text that is refused."""
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    return str(caught.value)


def test_everything_that_is_documented_is_read() -> None:
    """A file with all tables becomes values of the types that they have."""
    found = read(WHOLE)
    assert isinstance(found.source, Kafka)
    assert found.source.topics == ("user-events", "orders")
    assert found.source.client == {"security_protocol": "SASL_SSL"}
    assert found.sink.limits == Caps(per_slot=75, total=75, bytes=4_000_000)
    assert found.sink.if_unanswered == {"event": "hold"}
    assert found.sink.in_flight == 8
    assert found.map == {"columns": {"user.id": {"to": "external_id"}}}
    assert (found.dead_letters.type, found.dead_letters.topic) == ("kafka", "letters")
    assert found.ops.port == 9200


def test_what_is_not_said_has_its_documented_default() -> None:
    """The least that a worker needs is where from and where to."""
    found = read(LEAST)
    assert isinstance(found.source, Stdin)
    assert (found.state, found.memory, found.drain_timeout) == (".ingest", "96MB", "25s")
    assert (found.sink.limits, found.sink.share, found.sink.linger) == ("auto", "80%", "1s")
    assert (found.dead_letters, found.ops) == (DeadLetters(), Ops())


def test_the_environment_goes_before_the_file() -> None:
    """INGEST_TABLE__KEY overrides a key, with text that is read as the type of the key."""
    found = read(
        WHOLE,
        INGEST_SINK__RATE="10/1s",
        INGEST_SINK__STRICT="true",
        INGEST_SOURCE__TOPICS="a, b",
        INGEST_OPS__PORT="0",
        INGEST_STATE="/state",
        INGEST_HTTP_TOKEN="not a key of the file",
        PATH="/bin",
    )
    assert isinstance(found.source, Kafka)
    assert (found.sink.rate, found.sink.strict, found.source.topics) == ("10/1s", True, ("a", "b"))
    assert (found.ops.port, found.state) == (0, "/state")


def test_the_environment_may_fill_a_table_that_the_file_lacks() -> None:
    """A table need not be in the file for one of its keys to be said."""
    assert read(LEAST, INGEST_DEAD_LETTERS__TYPE="stdout").dead_letters.type == "stdout"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[source", "is not TOML"),
        (LEAST + "[snk]\n", "the configuration has a key 'snk': it may have source, sink"),
        (LEAST + "rat = 1\n", "[sink] has a key 'rat': it may have type, url"),
        (
            '[source]\ntype = "sqs"\nqueue = "x"\n[sink]\ntype="braze"',
            "it may have type, queue_url",
        ),
        ('[source]\ntype = "sqs"\n[sink]\ntype="braze"', "[source] lacks 'queue_url'"),
        ('[source]\ntype = "amqp"\n[sink]\ntype="braze"', "one of kafka, sqs, http, stdin"),
        ('[source]\n[sink]\ntype="braze"', "[source] does not say its type"),
        ('[sink]\ntype="braze"', "the configuration lacks 'source'"),
        (LEAST + "rate = 7\n", "sink.rate must be a text"),
        (LEAST + "limits = 1.5\n", "sink.limits must be a whole number or a text or a table"),
        (
            LEAST + "[sink.limits]\ntotl = 1\n",
            "[sink.limits] has a key 'totl': it may have per_slot",
        ),
        (
            LEAST + 'on_bad_field = "x"\n',
            "sink.on_bad_field must be one of reject, drop, truncate",
        ),
        (
            '[source]\ntype = "sqs"\nqueue_url = "q"\nbad = "x"\n[sink]\ntype = "braze"\n',
            "source.bad must be one of redrive, dead-letters",
        ),
        (LEAST + "[ops]\nport = 70000\n", "ops.port must be from 0 to 65535"),
        ('[source]\ntype = "http"\nport = -1\n[sink]\ntype = "braze"\n', "source.port must be"),
        (LEAST + 'share = "120%"\n', "sink.share"),
        (LEAST + 'linger = "soon"\n', "sink.linger"),
        (LEAST + "in_flight = 0\n", "sink.in_flight"),
        (LEAST + 'if_unanswered = "drop"\n', "sink.if_unanswered must be resend or hold"),
        (LEAST + '[sink.if_unanswered]\nevnt = "hold"\n', "has a kind 'evnt'"),
        (LEAST + "strict = true\nvalidate = false\n", "contradict each other"),
        (LEAST + 'path = "x"\n', "sink.path is for a sink of type file"),
        ('[source]\ntype = "stdin"\n[sink]\ntype = "file"\n', "lacks 'path'"),
        (
            '[source]\ntype = "stdin"\nkind = "rows"\n[sink]\ntype = "braze"\n',
            "source.kind must be",
        ),
        (LEAST + '[transform]\npython = "mypkg"\n', "package.module:function"),
        (LEAST + '[dead_letters]\ntype = "sqs"\n', "lacks 'queue_url'"),
        (LEAST + '[dead_letters]\ntopic = "x"\n', "dead_letters.topic is not for dead letters"),
        (LEAST + '[dead_letters]\ntype = "kafka"\ntopic = "x"\n', "lacks 'bootstrap'"),
        ('memory = "lots"\n' + LEAST, "memory"),
        ('drain_timeout = "x"\n' + LEAST, "drain_timeout"),
        (
            '[source]\ntype = "kafka"\ntopics = []\ngroup = "g"\nbootstrap = "b"\n'
            '[sink]\ntype = "braze"\n',
            "source.topics must name one topic",
        ),
        (
            '[source]\ntype = "kafka"\ntopics = ["a"]\ngroup = ""\nbootstrap = "b"\n'
            '[sink]\ntype = "braze"\n',
            "source.group must name",
        ),
        (
            '[source]\ntype = "sqs"\nqueue_url = "q"\npollers = 0\n[sink]\ntype = "braze"\n',
            "source.pollers must be from 1",
        ),
        (
            '[source]\ntype = "sqs"\nqueue_url = "q"\nvisibility = "x"\n[sink]\ntype = "braze"\n',
            "source.visibility",
        ),
        (
            '[source]\ntype = "http"\nspool_bytes = "x"\n[sink]\ntype = "braze"\n',
            "source.spool_bytes",
        ),
    ],
)
def test_what_cannot_be_is_told_with_file_key_and_what_is_allowed(text: str, says: str) -> None:
    """A wrong configuration ends in one sentence, before anything is opened."""
    said = complaint(text)
    assert says in said
    assert said.startswith("worker.toml") or says.partition(" ")[0] in said


def test_a_number_that_no_machine_holds_is_told_by_its_key() -> None:
    """In the words of whoever reads it, where there are none of ours."""
    with pytest.raises(ConfigError, match=r"ops\.port: Integer value out of range"):
        parsed(LEAST, {"INGEST_OPS__PORT": "9" * 5_000}, name="worker.toml")


@pytest.mark.parametrize(
    "text",
    [
        LEAST + 'api_key = "s3cret"\n',
        '[source]\ntype = "kafka"\n[source.client]\nsasl_plain_password = "s3cret"\n' + LEAST[24:],
    ],
)
def test_a_secret_in_the_file_is_refused_and_never_shown(text: str) -> None:
    """Law 13: keys come from the environment or a file of their own."""
    said = complaint(text)
    assert "looks like a credential" in said
    assert "s3cret" not in said


def test_a_mapping_may_name_a_column_anything() -> None:
    """What a message calls its fields is not a credential of ours."""
    assert read(LEAST + "[map.columns.token]\ndrop = true\n").map["columns"]["token"]


def test_a_variable_that_overrides_nothing_is_told() -> None:
    """A misspelt override would otherwise be a silent default."""
    assert "INGEST_SNK__RATE overrides nothing" in complaint(LEAST, INGEST_SNK__RATE="1/1s")
    assert "has a key 'rat'" in complaint(LEAST, INGEST_SINK__RAT="1/1s")
    assert complaint("source = 3\n[sink]\ntype = 'braze'", INGEST_SOURCE__TYPE="sqs")


def test_an_http_source_has_its_defaults() -> None:
    """Bound to loopback, a gigabyte on the disk."""
    found = read('[source]\ntype = "http"\n[sink]\ntype = "file"\npath = "x"\n')
    assert found.source.spool_bytes == "1GB"  # type: ignore[union-attr]  # told by its tag
    assert isinstance(read('[source]\ntype="sqs"\nqueue_url="q"\n[sink]\ntype="braze"').source, Sqs)


@given(st.text())
def test_any_text_is_read_or_refused_in_a_sentence(text: str) -> None:
    """No text makes anything but a configuration or a `ConfigError`."""
    with suppress(ConfigError):
        read(text)
