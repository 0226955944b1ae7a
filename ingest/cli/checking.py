"""What is looked at before a worker is started, as far as this machine alone can tell.

Decides what is checked of a configuration, in which order, and how bad each fault is. Reads and
imports what the worker would; makes, locks and sends nothing. Whether anybody answers, `reaching`
finds out.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, assert_never

import msgspec

from ingest.assembly import held, paced
from ingest.cli.letterbox import makeable, writable
from ingest.cli.parts import (
    account_of,
    choices_of,
    messages_of,
    rehearsed,
    target_of,
    url_of,
)
from ingest.configuration import Configuration, Http, Kafka, Sqs, Stdin
from ingest.errors import ConfigError, IngestError, LocalFailure
from ingest.metrics import Metrics, Vitals
from ingest.segments import SpoolRules
from ingest.settings import format_bytes, optional, parse_bytes, parse_duration, secret
from ingest.sinks.base import HttpSink
from ingest.sources import kafka_client, sqs_client
from ingest.sources.bodies import COPIES
from ingest.sources.http_settings import MEMORY, HttpIntakeSettings, token_from
from ingest.sources.http_settings import check as check_intake
from ingest.sources.kafka_settings import with_secrets
from ingest.state.directory import is_locked
from ingest.visibility import MOST as MOST_VISIBILITY

FINE: Final = 0

KAFKA: Final = "[source.client]"
LETTERS: Final = "[dead_letters.client]"


class Check(msgspec.Struct, frozen=True):
    """Something that was looked at: what, what there is to say, and the exit status it asks for.

    `known` is false where nobody could tell.
    """

    what: str
    said: str
    status: int = FINE
    known: bool = True


def tried(what: str, look: Callable[[], str]) -> Check:
    """Return what a look says, or the sentence it fails with."""
    try:
        return Check(what, look())
    except IngestError as error:
        return Check(what, str(error), error.exit_status)


def offline(config: Configuration, environ: Mapping[str, str]) -> Iterator[Check]:
    """Yield every check that needs nobody else."""
    sink = tried("sink", lambda: _sink(config))
    yield sink
    if sink.status == FINE and (secrets := _secrets(config, environ)) is not None:
        yield secrets
    yield tried("source", lambda: _source(config, environ))
    yield tried("messages", lambda: _messages(config))
    yield tried("packages", lambda: _packages(config))
    yield tried("dead letters", lambda: _letters(config, environ))
    yield tried("state", lambda: _state(Path(config.state)))
    yield tried("ports", lambda: _ports(config))


# --- where records go -----------------------------------------------------------------------------


def _sink(config: Configuration) -> str:
    target = target_of(config)
    choices, sink = choices_of(config), rehearsed(config, target)
    pace = paced(choices, sink)
    held(choices, sink.endpoint)
    caps = pace.ladder.current
    size = f"{caps.fill:,} {'users' if sink.endpoint.counts == 'users' else 'records'} a request"
    if target.where == "file":
        writable(Path(target.path), "sink.path")
        return f"request bodies to {target.path}, {size}"
    where = target.destination.name if target.where == "account" else "a sandbox in the process"
    return f"{where}, {sink.endpoint.name}, {size} to begin with"


def sink_of(config: Configuration, environ: Mapping[str, str]) -> HttpSink | None:
    """Return the sink of an account, which opens nothing yet; None for any other.

    Raises `ConfigError`.
    """
    target = target_of(config)
    return account_of(config, environ, target) if target.where == "account" else None


# --- secrets: their names, never what they are ----------------------------------------------------


def _secrets(config: Configuration, environ: Mapping[str, str]) -> Check | None:
    """Return what of the secrets is there; None where none is needed or told."""
    found: list[str] = []
    faults: list[str] = []
    for name, required in _wanted(config):
        try:
            there = secret(environ, name) if required else optional(environ, name)
        except ConfigError as error:
            faults.append(str(error).removesuffix("."))
            continue
        if there is not None:
            found.append(f"{name}_FILE" if f"{name}_FILE" in environ else name)
    if not faults:
        try:
            sink_of(config, environ)
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        return Check("secrets", "; ".join(faults), ConfigError.exit_status)
    return Check("secrets", f"set: {', '.join(found)}") if found else None


def _wanted(config: Configuration) -> Iterator[tuple[str, bool]]:
    """Yield the names of secrets, and whether there is no way without."""
    source, letters = config.source, config.dead_letters
    target = target_of(config)
    if target.where == "account":
        url = url_of(target.destination)
        for name in target.destination.sandboxed("U", "K"):
            if name != url or config.sink.url is None:
                yield name, True
    if isinstance(source, Http):
        yield "INGEST_HTTP_TOKEN", False
    clients = [source.client] if isinstance(source, Kafka) else []
    clients += [letters.client] if letters.type == "kafka" else []
    for option, name in kafka_client.PASSWORDS.items():
        user = "sasl_plain_username" if option.startswith("sasl_") else None
        if any(client.get("security_protocol") for client in clients):
            yield name, user is not None and any(user in client for client in clients)


# --- where records come from ----------------------------------------------------------------------


def _source(config: Configuration, environ: Mapping[str, str]) -> str:
    source = config.source
    match source:
        case Kafka():
            _kafka_options(with_secrets(source.client, environ), KAFKA)
            topics = ", ".join(source.topics)
            return f"{topics} of Kafka at {source.bootstrap}, as the group {source.group}"
        case Sqs():
            at = sqs_client.where(
                source.queue_url, source.region, source.endpoint_url, table="[source]"
            )
            seconds = round(parse_duration(source.visibility, what="source.visibility"))
            if not 1 <= seconds <= MOST_VISIBILITY:
                raise ConfigError("'visibility' in [source] must be from 1s to 12h")
            return f"the queue {at.name}" + (f" in {at.region}" if at.region else "")
        case Http():
            body = parse_bytes(source.body_bytes, what="source.body_bytes")
            spool = parse_bytes(source.spool_bytes, what="source.spool_bytes")
            check_intake(
                HttpIntakeSettings(
                    host=source.host,
                    port=source.port,
                    token=token_from(environ),
                    body_bytes=body,
                    memory=max(MEMORY, COPIES * body),
                ),
                SpoolRules(spool),
            )
            return f"posts to {source.host}:{source.port}, with a spool of {format_bytes(spool)}"
        case Stdin():
            return "stdin, which cannot be read again"
        case _:
            assert_never(source)


def _kafka_options(client: Mapping[str, object], where: str) -> None:
    kafka = kafka_client.package()
    makers = (kafka.AIOKafkaConsumer, kafka.admin.AIOKafkaAdminClient, kafka.AIOKafkaProducer)
    for make in makers:
        kafka_client.options_of(make, client, where=where)


def _messages(config: Configuration) -> str:
    messages_of(config)
    unwraps = ", unwrapped of SNS" if config.map.get("unwrap") else ""
    if config.transform is not None:
        return f"made by {config.transform.python}{unwraps}"
    if set(config.map) - {"unwrap"}:
        return f"made by [map]{unwraps}"
    kind = config.source.kind
    bare = f"bare objects are of kind {kind}" if kind else "bare objects need a kind"
    return f"as they come{unwraps}; {bare}"


def _packages(config: Configuration) -> str:
    Metrics(Vitals)
    needed = ["metrics"]
    kinds = (str(config.source.__struct_config__.tag), config.dead_letters.type)
    if "kafka" in kinds:
        kafka_client.package()
        needed.append("kafka")
    if "sqs" in kinds:
        sqs_client.package()
        needed.append("sqs")
    return f"installed: {', '.join(needed)}"


def _letters(config: Configuration, environ: Mapping[str, str]) -> str:
    told, source = config.dead_letters, config.source
    match told.type:
        case "file":
            if told.path is None:
                return "to a file in the state directory"
            writable(Path(told.path), "dead_letters.path")
            return f"to the file {told.path}"
        case "stdout":
            return "to stdout"
        case "kafka":
            _kafka_options(with_secrets(told.client, environ), LETTERS)
            near = source.bootstrap if isinstance(source, Kafka) else ""
            return f"to the topic {told.topic} of Kafka at {told.bootstrap or near}"
        case "sqs":
            near_url = source.endpoint_url if isinstance(source, Sqs) else None
            at = sqs_client.where(
                told.queue_url or "",
                told.region,
                told.endpoint_url or near_url,
                table="[dead_letters]",
            )
            return f"to the queue {at.name}"
        case _:
            assert_never(told.type)


# --- this machine ---------------------------------------------------------------------------------


def _state(path: Path) -> str:
    if is_locked(path):
        raise LocalFailure(
            f"another ingest is using the state directory {path}: stop it, or name another one by "
            "'state'"
        )
    if path.exists():
        try:
            with tempfile.TemporaryFile(dir=path):
                return f"{path.absolute()} can be written to"
        except OSError as error:
            raise LocalFailure(
                f"the state directory {path} cannot be written to: {error.strerror}. Mend its "
                "permissions, or name another one by 'state'"
            ) from None
    makeable(path.absolute().parent, f"the state directory {path}")
    return f"{path.absolute()} will be made"


def _ports(config: Configuration) -> str:
    source, ops = config.source, config.ops
    wanted = [("[ops]", ops.host, ops.port)] if ops.port else []
    if isinstance(source, Http):
        if ops.port and ops.port == source.port and _same_host(ops.host, source.host):
            raise ConfigError(
                f"[source] and [ops] both listen on port {ops.port}: choose another one, or port = "
                "0 in [ops], for the intake has the same pages"
            )
        wanted.append(("[source]", source.host, source.port))
    for table, host, port in wanted:
        _bindable(table, host, port)
    listed = ", ".join(f"{host}:{port}" for _, host, port in wanted)
    return f"free: {listed}" if listed else "none is needed"


_ANY: Final = ("0.0.0.0", "::")


def _same_host(one: str, other: str) -> bool:
    return one == other or one in _ANY or other in _ANY


def _bindable(table: str, host: str, port: int) -> None:
    """Raise `ConfigError` for an address that cannot be had; it is had for a moment only."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with closing(socket.socket(family, kind, protocol)) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.bind(address)
                one.listen()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "no such port"
        raise ConfigError(
            f"{table} cannot listen on {host}:{port} ({why}): choose another host or port"
        ) from None
