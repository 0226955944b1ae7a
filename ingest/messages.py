"""From a message of a topic, a queue or a port to one line that the intake reads.

Decides what is unwrapped, mapped and transformed, in this order; a message becomes one line,
whatever number of records it holds, so that it can be acknowledged as a whole. What a destination
thinks of the records is the intake's. Calls a function of the user's, and knows no source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from ingest.codec import JSONDecodeError, dumps, loads
from ingest.columns import Encoder, Options, Survey, Unfit
from ingest.columns.mapping import parsed_rules, pieces_of
from ingest.columns.names import called
from ingest.errors import ConfigError, IngestError, InvalidRecord
from ingest.objects import Attributes, Event, Purchase, line_of
from ingest.records import KINDS

Transform = Callable[[Any], Any]
"""One decoded message in; a record, several of them, or None out."""

UNWRAPS: Final = ("sns",)

MOST_SHAPES: Final = 1_000
"""Plans that are kept: topics have a few shapes of messages, and one that has a new shape in each
costs a plan each time, and no memory."""

FRAMED: Final = b"\x00"
"""First byte of what a serialiser of a schema registry writes; no JSON begins so."""
FRAME_BYTES: Final = 5

_NOT_MAPPED: Final = "the message does not fit the mapping, by the names of its members"

_ARRAYS: Final = dict(zip(KINDS, ("attributes", "events", "purchases"), strict=True))


class Unreadable(IngestError):
    """A message that becomes no record: a dead letter, and no reason to stop.

    `summary` is what its sentence says of any such message, where that tells of this one alone: it
    is for reports and logs, and holds nothing of a message, not even the name of a member.
    """

    def __init__(self, code: str, field: str, reason: str, summary: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.field = field
        self.summary = summary


class Messages:
    """Turns messages into lines; the same for every message of a source.

    `kind` is that of bare objects, `mapping` as for files, over the paths of the message
    (`user.id`), `unwrap` "sns" or "". Raises `ConfigError` for a mapping that cannot be.
    """

    def __init__(
        self,
        *,
        kind: str | None = None,
        mapping: Mapping[str, Any] | None = None,
        transform: Transform | None = None,
    ) -> None:
        told = dict(mapping or {})
        unwrap = told.pop("unwrap", None)
        if unwrap is not None and unwrap not in UNWRAPS:
            raise ConfigError(f"'unwrap' of the mapping must be one of {', '.join(UNWRAPS)}")
        if told and transform is not None:
            raise ConfigError(
                "a mapping and a transform contradict each other: let the transform do it all, "
                "and leave nothing but 'unwrap' in [map]"
            )
        self._unwraps: Final = unwrap is not None
        self._kind: Final = kind
        self._transform: Final = transform
        self._mapped: Final = _Mapped(kind, told) if told else None

    def line(self, message: bytes, kind: str | None = None) -> bytes:
        """Return a message as one line, without its end; empty if it holds nothing.

        `kind` is what the message itself says of its kind, by a header. Raises `Unreadable`.
        """
        if message.startswith(FRAMED) and len(message) >= FRAME_BYTES:
            raise Unreadable(
                "schema-registry",
                "",
                "the message is framed by a schema registry (Avro, Protobuf or its JSON), which is "
                "not read here: let the producer write plain JSON, or convert the topic",
            )
        if kind is not None and kind not in KINDS:
            raise Unreadable("no-kind", "", f"the message's kind must be one of {', '.join(KINDS)}")
        if not (self._unwraps or self._mapped or self._transform or kind):
            return _on_one_line(message)
        value = _decoded(message)
        if self._unwraps:
            message, value = _unwrapped(message, value)
        if self._transform is not None:
            return _transformed(self._transform, value, kind or self._kind)
        if self._mapped is not None:
            return self._mapped.line(value)
        return _on_one_line(message) if kind is None else _of_kind(kind, message, value)


def _on_one_line(message: bytes) -> bytes:
    """JSON has line breaks between its tokens only, where a space does as well."""
    return message.replace(b"\n", b" ").replace(b"\r", b" ")


def _decoded(message: bytes) -> Any:
    try:
        return loads(message)
    except JSONDecodeError:
        raise Unreadable("not-json", "", "the message is not JSON") from None


def _unwrapped(message: bytes, value: Any) -> tuple[bytes, Any]:
    """Return what a notification of SNS carries; what is none, as it is (raw delivery)."""
    if not isinstance(value, dict) or value.get("Type") != "Notification":
        return message, value
    inner = value.get("Message")
    if not isinstance(inner, str):
        raise Unreadable("not-json", "Message", "the notification's 'Message' is no text")
    content = inner.encode()
    return content, _decoded(content)


def _of_kind(kind: str, message: bytes, value: Any) -> bytes:
    """Envelop a bare object; one that says its kind itself stays as it is."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in KINDS:
        return _on_one_line(message)
    return b'{"%b":%b}' % (kind.encode(), _on_one_line(message))


# --- a function of the user's ---------------------------------------------------------------------


def _transformed(transform: Transform, value: Any, kind: str | None) -> bytes:
    try:
        made = transform(value)
        records = [] if made is None else _listed(made)
        arrays: dict[str, list[Any]] = {}
        for record in records:
            for name, items in _arrays_of(record, kind):
                arrays.setdefault(name, []).extend(items)
        return dumps(arrays) if arrays else b""
    except Unreadable:
        raise
    except InvalidRecord as error:
        raise Unreadable(error.code, error.field, f"the transform made {error}") from error
    except Exception as error:
        # Anything at all: it is not our code. Its words may hold a value, its type does not.
        raise Unreadable(
            "transform-failed", "", f"the transform raised {type(error).__name__}"
        ) from error


def _listed(made: Any) -> list[Any]:
    if isinstance(made, Attributes | Event | Purchase | Mapping):
        return [made]
    if isinstance(made, Iterable) and not isinstance(made, str | bytes):
        return list(made)
    raise Unreadable(
        "transform-failed", "", "the transform returned neither a record nor a list of records"
    )


def _arrays_of(record: Any, kind: str | None) -> Iterable[tuple[str, list[Any]]]:
    """Yield the arrays of a request that a record goes into, with what goes there."""
    if isinstance(record, Attributes | Event | Purchase):
        record = loads(line_of(record))
    if not isinstance(record, Mapping):
        raise Unreadable("transform-failed", "", "the transform returned what is no record")
    if (
        record
        and record.keys() <= set(_ARRAYS.values())
        and all(isinstance(items, list | tuple) for items in record.values())
    ):
        return [(name, list(items)) for name, items in record.items()]
    (name, inner), *others = record.items() or (("", None),)
    if not others and name in _ARRAYS and isinstance(inner, Mapping):
        return [(_ARRAYS[name], [inner])]
    if kind is None:
        raise Unreadable(
            "no-kind",
            "",
            "the transform returned a record without a kind: wrap it, or name the kind in [source]",
        )
    return [(_ARRAYS[kind], [dict(record)])]


# --- a mapping ------------------------------------------------------------------------------------


class _Mapped:
    """Objects by a mapping over their paths; a plan for each shape of message."""

    def __init__(self, kind: str | None, told: Mapping[str, Any]) -> None:
        rules = parsed_rules(told)
        if kind is None and rules.kind is None:
            raise ConfigError(
                "the mapping does not say what its messages are: add kind = "
                f"{', '.join(KINDS)} to [map], or to [source]"
            )
        self._options: Final = Options(kind=kind or rules.kind, mapping=told, typed=True)
        templates = (pieces_of(text, name) for name, text in rules.templates.items())
        in_templates = (piece.column for pieces in templates for piece in pieces if piece.column)
        self._named: Final = dict.fromkeys((*rules.columns, *in_templates))
        self._encoder: Final = lru_cache(MOST_SHAPES)(self._planned)

    def line(self, value: Any) -> bytes:
        if not isinstance(value, dict):
            raise Unreadable("not-an-object", "", "the message is no object, so it has no paths")
        found: dict[str, Any] = {}
        try:
            self._flatten(value, "", found)
        except RecursionError:
            reason = "the message is nested too deeply to be mapped"
            raise Unreadable("too-deep", "", reason) from None
        cells = dict.fromkeys(self._named) | found
        encoder = self._encoder(tuple(cells))
        (line,) = encoder.encode_values([list(cells.values())])
        if isinstance(line, Unfit):
            raise Unreadable(line.code, line.field, line.reason, line.summary)
        return line

    def _flatten(self, value: Mapping[str, Any], above: str, found: dict[str, Any]) -> None:
        """Collect the leaves by their paths; an object that the mapping names is a leaf."""
        for name, inner in value.items():
            path = f"{above}{name}"
            if isinstance(inner, dict) and inner and path not in self._named:
                self._flatten(inner, f"{path}.", found)
            elif path in found:
                raise _not_mapped(f"two of its members have the path {called(path)}")
            else:
                found[path] = inner

    def _planned(self, header: tuple[str, ...]) -> Encoder:
        try:
            return Encoder(Survey(header, self._options).plan())
        except IngestError as error:
            raise _not_mapped(str(error)) from None


def _not_mapped(why: str) -> Unreadable:
    """Return the refusal of a message whose members are not as the mapping has them.

    It names some of them, and what a producer has for names may be a person's: a map from addresses
    to numbers, for one.
    """
    return Unreadable("not-mapped", "", f"the message does not fit the mapping: {why}", _NOT_MAPPED)
