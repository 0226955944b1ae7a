"""The seam between a pipeline and a destination: endpoints as data, wires, transports, sinks.

Decides how a batch becomes the bytes of a body, and how a reply becomes an answer. Knows no
destination and no HTTP library: a new HTTP destination is a new `Wire`, nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, assert_never

import msgspec

from ingest.batcher import Folding
from ingest.errors import ConfigError
from ingest.outcomes import Lost, Outcome, Reply, Response, Unanswered, Unavailable, Unsent, lowered
from ingest.profiles import Caps
from ingest.quoting import quote
from ingest.rates import RateLimit
from ingest.records import Batch
from ingest.schemas import Schema
from ingest.serverwords import ServerWord, server_word
from ingest.sinks.export import ReadBack

REQUEST_ID_CHARS: Final = 100
"""Longest request id that is kept, in characters: a UUID has 36, a chain of proxies some more."""

_PLAIN_ID: Final = re.compile(rf"[0-9A-Za-z._/+-]{{0,{REQUEST_ID_CHARS}}}")
"""What a request id looks like: no spaces, and no sign that stands between a name and a value."""

_CREDENTIAL: Final = re.compile(r"[!-~]+")


def credential(text: str, what: str) -> str:
    """Return a credential that every header and every body can carry.

    Raises `ConfigError` that names `what` it is, and never shows it.
    """
    if not _CREDENTIAL.fullmatch(text):
        raise ConfigError(
            f"the {what} is empty or holds spaces, line breaks or other characters that none has: "
            "copy it again"
        )
    return text


class Request(msgspec.Struct, frozen=True):
    """What a transport sends. `path` starts with a slash; headers and body may hold a credential.

    Neither is therefore part of any representation of it.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path}, {len(self.body)} bytes)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("method", self.method), ("path", self.path), ("bytes", len(self.body))]


class Endpoint(msgspec.Struct, frozen=True):
    """A batchable endpoint, as a row of a table.

    `slots` are the arrays of its body, and `kinds` the kind of record that goes into each of them
    (both of one length). `caps` runs from the most an account may have to the least (a
    `CapsLadder`). `limits` is its documented budget, counted in requests or in users (`counts`),
    and shared by all endpoints that name the same `pool`.

    `resendable` is false where a second copy must never happen: a request without an answer is
    held then. `irreversible` asks for a confirmation. `example` is a line of input, whose user is
    `u1` wherever it is named. `reported_as` is what its answers call each of the slots, where that
    is another name.
    """

    name: str
    path: str
    slots: tuple[str, ...]
    kinds: tuple[str, ...]
    caps: tuple[Caps, ...]
    limits: tuple[RateLimit, ...]
    example: str
    counts: Literal["requests", "users"] = "requests"
    pool: str = ""
    resendable: bool = True
    irreversible: bool = False
    summary: str = ""
    reported_as: tuple[str, ...] = ()

    def cost(self, batch: Batch) -> int:
        """Return what a request with this batch costs of the budget."""
        return 1 if self.counts == "requests" else len(batch.users())

    def slot_reported_as(self, name: Any) -> int | None:
        """Return the slot that an answer calls `name`, or None."""
        try:
            return (self.reported_as or self.slots).index(name)
        except ValueError:
            return None


class Answer(msgspec.Struct, frozen=True):
    """What a sink says of one request.

    `word` is what the headers said about pace, `status` the HTTP status; both are None if no
    answer came. `request_id` is the destination's own name of the request, for its support.
    """

    outcome: Outcome
    word: ServerWord | None = None
    request_id: str = ""
    status: int | None = None


class Wire(Protocol):
    """What only one destination knows. Pure: no I/O, no clock.

    `overhead` is an upper bound of the bytes that a body has beyond `Batch.nbytes`, and `secrets`
    are what must never be shown. `folding` is there where the records of a user become one item.
    """

    @property
    def name(self) -> str: ...

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def overhead(self) -> int: ...

    @property
    def secrets(self) -> Sequence[str]: ...

    @property
    def schema(self) -> Schema: ...

    @property
    def folding(self) -> Folding | None: ...

    def request(self, batch: Batch) -> Request:
        """Encode a batch."""
        ...

    def interpret(self, batch: Batch, response: Response) -> Outcome:
        """Say what the response means for the batch. Total: never raises."""
        ...

    def repeatable(self, slot: int, fragment: bytes) -> bool:
        """Whether a second copy of a record changes nothing at the destination."""
        ...

    def record_of(self, batch: Batch, slot: int, fragment: bytes) -> bytes:
        """Return the record as it came, encoded, of a fragment of the batch: for dead letters."""
        ...


class Transport(Protocol):
    """Sends any request to one host."""

    @property
    def host(self) -> str: ...

    def begin(self, request: Request) -> asyncio.Future[Reply] | None:
        """Send a request at once, and return what its reply will be in; None: it takes `send`."""
        ...

    async def send(self, request: Request) -> Reply:
        """Return what came back. Never raises for a dead destination."""
        ...

    async def aclose(self) -> None: ...


class Sink(Protocol):
    """What a pipeline delivers to. `host` tells two destinations of one kind apart."""

    @property
    def name(self) -> str: ...

    @property
    def host(self) -> str: ...

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def overhead(self) -> int: ...

    @property
    def schema(self) -> Schema: ...

    @property
    def folding(self) -> Folding | None: ...

    async def deliver(self, batch: Batch) -> Answer:
        """Send one request. Raises `LocalFailure` if this machine failed, nothing else."""
        ...

    def repeatable(self, slot: int, fragment: bytes) -> bool:
        """Whether a second copy of a record changes nothing at the destination."""
        ...

    def record_of(self, batch: Batch, slot: int, fragment: bytes) -> bytes:
        """Return the record as it came, encoded, of a fragment of the batch: for dead letters."""
        ...

    async def aclose(self) -> None: ...


class Choice(msgspec.Struct, frozen=True):
    """What a user chose about a destination: `settings` are those that only it knows, by name."""

    endpoint: str = ""
    auth: str = "bearer"
    allow_http: bool = False
    settings: Mapping[str, str] = {}


class Destination(msgspec.Struct, frozen=True):
    """A kind of destination, as a row of the registry (`ingest.sinks.registry`).

    `endpoints` are its endpoints by name, the default one first; `sends` are those of them that
    `ingest send` lists and not `ingest import`. `opened` makes a sink of an environment and a
    choice of names that there are (`open` sees to that), and raises `ConfigError` for what else is
    wrong; `sandboxed` is the environment that leads it to a sandbox of this URL and key instead.
    `settings` says what each of its own settings means, `auths` the ways in which its credential
    may travel, the default one first. `updates_only` tells whether a record may ask, by
    `_update_existing_only`, that no user be created for it. `data_points` tells of contracts
    that bill those. `reads` says how users are read back,
    None where they are not; its wire is then a `RowWire`.
    """

    name: str
    endpoints: Mapping[str, Endpoint]
    opened: Callable[[Mapping[str, str], Choice], HttpSink]
    sandboxed: Callable[[str, str], Mapping[str, str]]
    sends: Mapping[str, Endpoint] = {}
    settings: Mapping[str, str] = {}
    auths: tuple[str, ...] = ("bearer",)
    updates_only: bool = True
    data_points: bool = False
    reads: ReadBack | None = None

    def open(self, environ: Mapping[str, str], choice: Choice) -> HttpSink:
        """Make a sink of an environment and a choice; without an endpoint, of the default one.

        Raises `ConfigError` for a name of an endpoint, an auth or a setting that is not there, and
        for whatever else does not make a sink.
        """
        endpoint = choice.endpoint or next(iter(self.endpoints))
        self._check("endpoint", endpoint, (*self.endpoints, *self.sends))
        self._check("auth", choice.auth, self.auths)
        for name in choice.settings:
            self._check("setting", name, self.settings)
        return self.opened(environ, msgspec.structs.replace(choice, endpoint=endpoint))

    def _check(self, what: str, name: str, known: Collection[str]) -> None:
        if name not in known:
            having = f"it is one of {', '.join(known)}" if known else "there is none"
            raise ConfigError(f"unknown {what} '{name}' of {self.name}: {having}")


def _request_id(text: str, secrets: Sequence[str]) -> str:
    """Return a destination's name of a request, quoted; one that looks like any is fit as it is."""
    if not text:
        return text  # as most of them
    if _PLAIN_ID.fullmatch(text):
        lower = text.lower()
        if not any(secret.lower() in lower for secret in secrets):
            return text
    return quote(text, secrets, REQUEST_ID_CHARS)


class HttpSink:
    """A sink made of a wire and a transport."""

    def __init__(self, wire: Wire, transport: Transport) -> None:
        self.wire = wire
        self._transport = transport

    @property
    def name(self) -> str:
        """Name of the destination, such as `braze`."""
        return self.wire.name

    @property
    def host(self) -> str:
        """Host and port of the destination."""
        return self._transport.host

    @property
    def endpoint(self) -> Endpoint:
        """The row that describes where batches go."""
        return self.wire.endpoint

    @property
    def overhead(self) -> int:
        """Upper bound of the bytes that a body has beyond `Batch.nbytes`."""
        return self.wire.overhead

    @property
    def schema(self) -> Schema:
        """Which records it takes, and how they are encoded."""
        return self.wire.schema

    @property
    def folding(self) -> Folding | None:
        """How the records of one user become one item, where the destination wants that."""
        return self.wire.folding

    def record_of(self, batch: Batch, slot: int, fragment: bytes) -> bytes:
        """Return the record as it came, encoded, of a fragment of the batch: for dead letters."""
        return self.wire.record_of(batch, slot, fragment)

    async def send(self, request: Request) -> Reply:
        """Send a request that holds no batch, and return what came back."""
        return await self._transport.send(request)

    def credential_hash(self, salt: bytes) -> str:
        """Return a salted hash of the credentials, to notice that another account is meant."""
        told = hashlib.sha256(salt)
        for secret in self.wire.secrets:
            told.update(hashlib.sha256(secret.encode()).digest())
        return told.hexdigest()

    async def deliver(self, batch: Batch) -> Answer:
        """Send the batch as one request and return what the destination made of it."""
        return self.answer(batch, await self._transport.send(self.wire.request(batch)))

    def begin(self, batch: Batch) -> asyncio.Future[Reply] | None:
        """Send the batch at once, and return what its reply will be in, which is for `answer`.

        None where that takes waiting: then `deliver` it.
        """
        return self._transport.begin(self.wire.request(batch))

    def answer(self, batch: Batch, reply: Reply) -> Answer:
        """Return what the destination made of a batch, by its reply."""
        match reply:
            case Response():
                outcome = self.wire.interpret(batch, reply)
                headers = lowered(reply.headers)
                word = server_word(reply, headers)
                request_id = _request_id(headers.get("x-request-id", ""), self.wire.secrets)
                return Answer(outcome, word, request_id, reply.status)
            case Unsent():
                return Answer(Unavailable(None, reply.reason))
            case Lost():
                return Answer(Unanswered(None, reply.reason))
            case _ as unreachable:
                assert_never(unreachable)

    def repeatable(self, slot: int, fragment: bytes) -> bool:
        """Whether a second copy of a record changes nothing at the destination."""
        return self.wire.repeatable(slot, fragment)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


class BodyShape:
    """The JSON object around the arrays of a batch: `{"attributes":[...],"events":[...]}`.

    `extra` is one encoded member (such as `"api_key":"..."`) that every body starts with; then come
    the members that the records share. Arrays stand in the order of the slots, and only if they
    have records.
    """

    def __init__(self, slots: Sequence[str], extra: bytes = b"") -> None:
        self._leads = [b'"' + slot.encode() + b'":[' for slot in slots]
        self._extra = extra
        # Braces, the closing bracket of each array, and a comma for each member but the first.
        members = len(slots) + bool(extra)
        self.overhead = (
            2 + len(extra) + sum(len(lead) + 1 for lead in self._leads) + max(0, members - 1)
        )
        """Bytes of the wrapping when every array is there: an upper bound."""

    def join(self, batch: Batch) -> bytes:
        """Return the body of a batch. Nothing is serialised again."""
        parts = [b"{", self._extra] if self._extra else [b"{"]
        if members := batch.partition.members:
            parts += (b",", members) if self._extra else (members,)
        for lead, column in zip(self._leads, batch.columns, strict=True):
            if column.keys:
                if len(parts) > 1:
                    parts.append(b",")
                parts += (lead, column.joined.data, b"]")
        parts.append(b"}")
        return b"".join(parts)
