"""From a worker's configuration and the environment to the parts that need no source.

Decides which sink is meant, how records are sent to it, and what messages become; a complaint names
the key of the configuration. Opens nothing but what it is asked for.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from ingest.assembly import COMBINED, PER_ARRAY, Choices
from ingest.cli.sandbox import sandbox_key
from ingest.cli.targets import DEFAULT, FILE, SANDBOX, Target
from ingest.configuration import Caps as ToldCaps
from ingest.configuration import Configuration
from ingest.errors import ConfigError
from ingest.messages import Messages, Transform
from ingest.profiles import Caps
from ingest.sandbox.server import Sandbox, SandboxSettings
from ingest.sinks.base import Choice, Destination, Endpoint, HttpSink, Sink
from ingest.sinks.file import FileSink
from ingest.sinks.registry import DESTINATIONS

NOWHERE: Final = "http://127.0.0.1:1"
"""URL of a wire that writes bodies to a file, and sends none."""

_TOP: Final = ("memory", "drain_timeout")
"""Choices that are keys at the top; the others are in [sink], but for the kind."""


def target_of(config: Configuration) -> Target:
    """Return where [sink] sends. Raises `ConfigError` that names what there is."""
    sink = config.sink
    known = (*DESTINATIONS, FILE, SANDBOX)
    if sink.type not in known:
        raise ConfigError(f"sink.type {sink.type!r} is none: it is one of {', '.join(known)}")
    destination = DESTINATIONS.get(sink.type, DESTINATIONS[DEFAULT])
    name = sink.endpoint or next(iter(destination.endpoints))
    if name not in destination.endpoints:
        raise ConfigError(
            f"sink.endpoint {name!r} is none of {destination.name}: it is one of "
            f"{', '.join(destination.endpoints)}"
        )
    endpoint = destination.endpoints[name]
    if sink.type == FILE:
        return Target("file", destination, endpoint, sink.path or "")
    return Target("sandbox" if sink.type == SANDBOX else "account", destination, endpoint)


def choices_of(config: Configuration) -> Choices:
    """Return how records are sent. Raises `ConfigError`, also for what is not for this sink."""
    sink, target = config.sink, target_of(config)
    limits = sink.limits
    if sink.update_existing_only and not target.destination.updates_only:
        raise ConfigError(
            f"sink.update_existing_only is not for {target.destination.name}: it always creates "
            "the users that it does not know; leave it out"
        )
    if limits in (PER_ARRAY, COMBINED) and target.endpoint.counts == "users":
        raise ConfigError(
            f"sink.limits {limits!r} is not for {target.destination.name}, which counts the users "
            "in a request and not its records: it is auto, or a number of users"
        )
    return Choices(
        kind=config.source.kind,
        limits=_caps(limits, target.endpoint) if isinstance(limits, ToldCaps) else limits,
        rate=sink.rate,
        unlimited=target.where == "file",
        share=sink.share,
        in_flight=sink.in_flight,
        memory=config.memory,
        linger=sink.linger,
        if_unanswered=sink.if_unanswered,
        on_bad_field=sink.on_bad_field,
        strict=sink.strict,
        validate=sink.validate,
        update_existing_only=sink.update_existing_only,
        patient=True,
        learned_in=Path(config.state) if target.where == "account" else None,
        spelled=lambda name: name if name in _TOP else f"sink.{name}",
    )


def shape_of(config: Configuration) -> dict[str, Any]:
    """Return whatever shapes the records that are made of a message, as plain data."""
    sink = config.sink
    return {
        "endpoint": target_of(config).endpoint.name,
        "kind": config.source.kind,
        "map": config.map,
        "transform": None if config.transform is None else _code_of(config.transform.python),
        "update_existing_only": sink.update_existing_only,
        "on_bad_field": sink.on_bad_field,
        "strict": sink.strict,
        "validate": sink.validate,
        "settings": dict(sink.settings),
    }


def _code_of(name: str) -> str:
    """Return the name of a transform with a hash of its module: other code makes other records."""
    path = getattr(importlib.import_module(name.partition(":")[0]), "__file__", None)
    code = Path(path).read_bytes() if path and Path(path).is_file() else b""
    return f"{name} {hashlib.sha256(code).hexdigest()[:16]}"


def messages_of(config: Configuration) -> Messages:
    """Return what turns messages into lines. Raises `ConfigError`."""
    told = config.transform
    return Messages(
        kind=config.source.kind,
        mapping=config.map,
        transform=None if told is None else transform_of(told.python),
    )


def transform_of(name: str) -> Transform:
    """Return the function that `package.module:name` says, from here or from what is installed.

    Raises `ConfigError`.
    """
    module, _, function = name.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module)
    except Exception as error:  # anything: it is not our code
        raise ConfigError(
            f"transform.python: {module} cannot be imported ({type(error).__name__}: {error}). It "
            "is looked for in this directory, and among what is installed"
        ) from error
    made = getattr(found, function, None)
    if not callable(made):
        raise ConfigError(f"transform.python: {module} has no function {function!r}")
    transform: Transform = made
    return transform


@asynccontextmanager
async def opened_sink(config: Configuration, environ: Mapping[str, str]) -> AsyncIterator[Sink]:
    """Open the sink, and close it afterwards. Raises `ConfigError`, `LocalFailure`."""
    target, sandbox = target_of(config), None
    if target.where == "sandbox":
        sandbox = Sandbox(SandboxSettings(key=sandbox_key()))
        await sandbox.start()
    try:
        sink = _sink(config, environ, target, sandbox)
        try:
            yield sink
        finally:
            await sink.aclose()
    finally:
        if sandbox is not None:
            await sandbox.aclose()


def _sink(
    config: Configuration, environ: Mapping[str, str], target: Target, sandbox: Sandbox | None
) -> Sink:
    destination = target.destination
    if sandbox is not None:
        environ = destination.sandboxed(sandbox.url, sandbox.key)
        return destination.open(environ, _choice(config, target))
    if target.where == "file":
        return FileSink(target.path, rehearsed(config, target).wire)
    return account_of(config, environ, target)


def account_of(config: Configuration, environ: Mapping[str, str], target: Target) -> HttpSink:
    """Return the sink of an account, which connects to nobody yet. Raises `ConfigError`."""
    url = config.sink.url
    if url is not None:
        variable = url_of(target.destination)
        others = {name: value for name, value in environ.items() if name != f"{variable}_FILE"}
        environ = {**others, variable: url}
    return target.destination.open(environ, _choice(config, target))


def rehearsed(config: Configuration, target: Target) -> HttpSink:
    """Return the sink as it would be with any credential. Raises `ConfigError`."""
    url = config.sink.url if target.where == "account" else None
    environ = target.destination.sandboxed(url or NOWHERE, "none")
    return target.destination.open(environ, _choice(config, target))


def _choice(config: Configuration, target: Target) -> Choice:
    told = config.sink
    return Choice(
        endpoint=target.endpoint.name,
        auth=told.auth,
        allow_http=told.allow_http,
        settings=told.settings,
    )


def url_of(destination: Destination) -> str:
    """Return the variable that holds the URL of a destination."""
    names = destination.sandboxed("U", "K").items()
    return next(name for name, value in names if value == "U")


def _caps(told: ToldCaps, endpoint: Endpoint) -> Caps:
    """Return the caps of a table; what it leaves out is as documented."""
    caps = endpoint.caps[0]
    if told.per_slot is not None:
        caps = msgspec.structs.replace(caps, per_slot=(told.per_slot,) * len(endpoint.slots))
    if told.total is not None:
        caps = msgspec.structs.replace(caps, total=told.total)
    if told.bytes is not None:
        caps = msgspec.structs.replace(caps, body_bytes=told.bytes)
    return caps
