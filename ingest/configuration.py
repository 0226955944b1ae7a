"""The configuration of a worker: one TOML text and the environment, read once into frozen values.

Decides which keys there are, what each may hold, and what contradicts what; a complaint names the
key and what is allowed. Opens no file and no connection. A secret is never among the keys: those
come from the environment, by whoever needs one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, get_args, get_type_hints

import msgspec

from ingest.errors import ConfigError
from ingest.records import KINDS
from ingest.settings import parse_bytes, parse_duration, parse_in_flight, parse_share

PREFIX: Final = "INGEST_"
SEPARATOR: Final = "__"
"""`INGEST_SINK__RATE` overrides `rate` of `[sink]`."""

SECRET_NAMES: Final = re.compile(r"(api_?key|password|secret|token|app_group_id)", re.IGNORECASE)
"""Keys that look like a credential: they have no place in a file that is kept with the code."""


class Kafka(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="kafka",
):
    """Topics, read in a consumer group. `client` holds options of the client as they are."""

    topics: tuple[str, ...]
    group: str
    bootstrap: str
    kind: str | None = None
    client: dict[str, Any] = {}


class Sqs(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="sqs",
):
    """A queue. `bad` says what becomes of messages that will not be delivered: they are left to the
    queue's own redrive policy, or become dead letters here and are deleted."""

    queue_url: str
    region: str | None = None
    endpoint_url: str | None = None
    pollers: int = 4
    visibility: str = "60s"
    kind: str | None = None
    bad: Literal["redrive", "dead-letters"] = "redrive"


class Http(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="http",
):
    """A port that takes records, and keeps them on the disk until they are settled."""

    host: str = "127.0.0.1"
    port: int = 8080
    spool_bytes: str = "1GB"
    body_bytes: str = "8MB"
    kind: str | None = None


class Stdin(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="stdin",
):
    """NDJSON, as it comes. What was read and is not settled is lost with the process."""

    kind: str | None = None


Source = Kafka | Sqs | Http | Stdin


class Caps(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The limits of a request: records per array, in total, and bytes of the body."""

    per_slot: int | None = None
    total: int | None = None
    bytes: int | None = None


class Sink(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where records go. Without `url` the environment says it; the credential always does."""

    type: str
    url: str | None = None
    path: str | None = None
    endpoint: str | None = None
    limits: str | int | Caps = "auto"
    rate: str | None = None
    share: str | float = "80%"
    in_flight: str | int = "adaptive"
    linger: str | float = "1s"
    if_unanswered: str | dict[str, str] = "resend"
    auth: str = "bearer"
    update_existing_only: bool = False
    on_bad_field: Literal["reject", "drop", "truncate"] = "reject"
    strict: bool = False
    validate: bool = True
    allow_http: bool = False
    settings: dict[str, str] = {}


class Transform(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A function of the user's, `package.module:name`: one message in, records out."""

    python: str


class DeadLetters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where records go that will not be delivered: a file, a topic, a queue, or stdout."""

    type: Literal["file", "kafka", "sqs", "stdout"] = "file"
    path: str | None = None
    topic: str | None = None
    bootstrap: str | None = None
    client: dict[str, Any] = {}
    queue_url: str | None = None
    region: str | None = None
    endpoint_url: str | None = None


class Ops(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where probes and metrics are served; port 0: nowhere."""

    host: str = "127.0.0.1"
    port: int = 9100


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of it. Sizes and times are texts as people write them, checked here already."""

    source: Source
    sink: Sink
    state: str = ".ingest"
    memory: str = "96MB"
    drain_timeout: str | float = "25s"
    map: dict[str, Any] = {}
    transform: Transform | None = None
    dead_letters: DeadLetters = DeadLetters()
    ops: Ops = Ops()


def parsed(text: str, environ: Mapping[str, str], *, name: str) -> Configuration:
    """Read a configuration. `name` is the file's, for complaints.

    Raises `ConfigError` for what is not TOML, an unknown key, a wrong type, a contradiction, and
    for a secret.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not TOML: {error}") from None
    for path in _secrets(raw):
        raise ConfigError(
            f"{name}: {path} looks like a credential, which a configuration never holds: take it "
            "out, and hand it over in the environment, or in a file that the environment names"
        )
    raw = _overridden(raw, environ)
    try:
        found = msgspec.convert(raw, Configuration, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {_sentence(str(error), raw)}") from None
    for complaint in _contradictions(found):
        raise ConfigError(f"{name}: {complaint}")
    return found


# --- what is in the text --------------------------------------------------------------------------


def _secrets(table: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield the keys that look like a credential; what a mapping calls its columns does not."""
    for key, value in table.items():
        path = f"{above}{key}"
        if path == "map":
            continue
        if isinstance(value, Mapping):
            yield from _secrets(value, f"{path}.")
        elif SECRET_NAMES.search(key):
            yield path


def _overridden(raw: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the tables with what the environment says instead.

    Raises `ConfigError` for a variable that overrides nothing there is.
    """
    tables = {key: dict(value) if isinstance(value, dict) else value for key, value in raw.items()}
    top = {name for name in _names(Configuration) if name not in _TABLES}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        table, separator, key = variable.removeprefix(PREFIX).lower().partition(SEPARATOR)
        if not separator:
            if table in top:
                tables[table] = value
            continue
        if table not in _TABLES:
            raise ConfigError(
                f"{variable} overrides nothing: it is {PREFIX}TABLE{SEPARATOR}KEY with a TABLE of "
                f"{', '.join(name.upper() for name in _TABLES)}"
            )
        into = tables.setdefault(table, {})
        if isinstance(into, dict):
            into[key] = [part.strip() for part in value.split(",")] if key == "topics" else value
    return tables


_TABLES: Final = ("source", "sink", "transform", "dead_letters", "ops")

_SHAPES: Final[Mapping[str, type[msgspec.Struct]]] = {
    "": Configuration,
    "sink": Sink,
    "sink.limits": Caps,
    "transform": Transform,
    "dead_letters": DeadLetters,
    "ops": Ops,
}
_SOURCES: Final[Mapping[str, type[msgspec.Struct]]] = {
    str(shape.__struct_config__.tag): shape for shape in get_args(Source)
}

_ERROR: Final = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`")
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")
_TYPE: Final = re.compile(r"Expected `(.*)`, got `(.*)`")
_CHOICE: Final = "Invalid enum value"
_CALLED: Final = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


def _sentence(error: str, raw: Mapping[str, Any]) -> str:
    """Say what msgspec found, with the key and what is allowed."""
    match = _ERROR.fullmatch(error)
    what, path = (match["what"], match["path"] or "") if match else (error, "")
    if unknown := _UNKNOWN.fullmatch(what):
        allowed = ", ".join(_allowed(path, raw))
        return f"{_where(path)} has a key '{unknown[1]}': it may have {allowed}"
    if missing := _MISSING.fullmatch(what):
        if path == "source" and missing[1] == "type":
            return f"[source] does not say its type: it is one of {', '.join(_SOURCES)}"
        return f"{_where(path)} lacks '{missing[1]}'"
    if path == "source.type":
        return f"[source] has a type that there is not: it is one of {', '.join(_SOURCES)}"
    if wrong := _TYPE.fullmatch(what):
        wanted = " or ".join(_CALLED.get(name, name) for name in wrong[1].split(" | "))
        return f"{path} must be {wanted}"
    if what.startswith(_CHOICE):
        return f"{path} must be one of {', '.join(_choices(path, raw))}"
    return f"{path}: {what}"


def _where(path: str) -> str:
    return f"[{path}]" if path else "the configuration"


def _allowed(path: str, raw: Mapping[str, Any]) -> tuple[str, ...]:
    names = _names(_shape(path, raw))
    return ("type", *names) if path == "source" else names


def _choices(path: str, raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a key may say that has words to choose from."""
    table, _, key = path.rpartition(".")
    choices: tuple[str, ...] = get_args(get_type_hints(_shape(table, raw))[key])
    return choices


def _shape(path: str, raw: Mapping[str, Any]) -> type[msgspec.Struct]:
    return _SOURCES[str(raw["source"].get("type"))] if path == "source" else _SHAPES[path]


def _names(shape: type[msgspec.Struct]) -> tuple[str, ...]:
    return shape.__struct_fields__


# --- what goes together ---------------------------------------------------------------------------


def _contradictions(found: Configuration) -> Iterator[str]:
    """Yield what cannot be, each as a sentence. Raises `ConfigError` for what makes no sense."""
    parse_bytes(found.memory, what="memory")
    parse_duration(found.drain_timeout, what="drain_timeout")
    yield from _of_source(found.source)
    yield from _of_sink(found.sink)
    yield from _of_letters(found.dead_letters, found.source)
    yield from _of_port("ops.port", found.ops.port)
    if found.transform is not None and ":" not in found.transform.python:
        yield "transform.python is package.module:function, such as mypkg.mapping:to_records"


def _of_source(source: Source) -> Iterator[str]:
    if source.kind is not None and source.kind not in KINDS:
        yield f"source.kind must be one of {', '.join(KINDS)}"
    match source:
        case Kafka():
            if not source.topics or not all(source.topics):
                yield "source.topics must name one topic at least"
            if not source.group:
                yield "source.group must name a consumer group: offsets are kept under it"
        case Sqs():
            parse_duration(source.visibility, what="source.visibility")
            if not 1 <= source.pollers <= MOST_POLLERS:
                yield f"source.pollers must be from 1 to {MOST_POLLERS}"
        case Http():
            parse_bytes(source.spool_bytes, what="source.spool_bytes")
            parse_bytes(source.body_bytes, what="source.body_bytes")
            yield from _of_port("source.port", source.port)
        case _:
            pass


def _of_port(key: str, port: int) -> Iterator[str]:
    # The system takes a larger one for what is left of it by division, and listens there.
    if not 0 <= port <= MOST_PORT:
        yield f"{key} must be from 0 to {MOST_PORT}"


MOST_PORT: Final = 65_535
MOST_POLLERS: Final = 32
"""Long polls at once; one takes some 10 messages every 20 ms."""

ANSWERS: Final = ("resend", "hold")


def _of_sink(sink: Sink) -> Iterator[str]:
    parse_share(sink.share, what="sink.share")
    parse_duration(sink.linger, what="sink.linger")
    parse_in_flight(sink.in_flight, what="sink.in_flight")
    if sink.type == "file" and sink.path is None:
        yield "[sink] of type file lacks 'path', the file that request bodies go to"
    if sink.type != "file" and sink.path is not None:
        yield f"sink.path is for a sink of type file, and this one is of type {sink.type}"
    if sink.strict and not sink.validate:
        yield "sink.strict and sink.validate = false contradict each other: leave one of them out"
    told = sink.if_unanswered if isinstance(sink.if_unanswered, dict) else {"": sink.if_unanswered}
    for kind, answer in told.items():
        if kind and kind not in KINDS:
            yield f"sink.if_unanswered has a kind '{kind}': it may have {', '.join(KINDS)}"
        if answer not in ANSWERS:
            yield f"sink.if_unanswered must be {' or '.join(ANSWERS)}"


_NEEDED: Final = {"kafka": "topic", "sqs": "queue_url"}
_FOR: Final = {
    "path": ("file",),
    "topic": ("kafka",),
    "bootstrap": ("kafka",),
    "client": ("kafka",),
    "queue_url": ("sqs",),
    "region": ("sqs",),
    "endpoint_url": ("sqs",),
}


def _of_letters(letters: DeadLetters, source: Source) -> Iterator[str]:
    needed = _NEEDED.get(letters.type)
    if needed is not None and getattr(letters, needed) is None:
        yield f"[dead_letters] of type {letters.type} lacks '{needed}'"
    for key, types in _FOR.items():
        if getattr(letters, key) and letters.type not in types:
            yield f"dead_letters.{key} is not for dead letters of type {letters.type}"
    if letters.type == "kafka" and not letters.bootstrap and not isinstance(source, Kafka):
        yield "[dead_letters] of type kafka lacks 'bootstrap', for the source has none"
