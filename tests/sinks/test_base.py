"""How a wire and a transport make a sink: replies become answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from ingest.errors import ConfigError
from ingest.outcomes import (
    Delivered,
    Lost,
    Outcome,
    Reply,
    Response,
    Unanswered,
    Unavailable,
    Unsent,
)
from ingest.quoting import quote
from ingest.records import EMPTY_COLUMN, Batch
from ingest.serverwords import ServerWord
from ingest.sinks.base import (
    REQUEST_ID_CHARS,
    Answer,
    BodyShape,
    Choice,
    Destination,
    HttpSink,
    Request,
    Sink,
    _request_id,
    credential,
)
from ingest.sinks.braze import ENDPOINTS, BrazeWire
from ingest.sinks.file import FileSink
from ingest.sinks.memory import MemorySink
from ingest.sinks.rows import SENDS

KEY = "5e7c1f9a-0000-4b1d-8a3e-abcdefabcdef"
NOTHING = Batch(1, 1, (EMPTY_COLUMN,) * 3)


class Replying:
    """A transport that replies what it is told."""

    host = "rest.example"

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.requests: list[Request] = []
        self.closed = False

    def begin(self, request: Request) -> None:
        """Send nothing without waiting."""

    async def send(self, request: Request) -> Reply:
        """Note the request and reply."""
        self.requests.append(request)
        return self.reply

    async def aclose(self) -> None:
        """Note the end."""
        self.closed = True


async def answer_to(reply: Reply) -> Answer:
    """Deliver nothing, and get this reply."""
    return await HttpSink(BrazeWire(ENDPOINTS["track"], KEY), Replying(reply)).deliver(NOTHING)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("headers", "request_id"),
    [({"X-Request-Id": "a"}, "a"), ({"x-request-ID": "b"}, "b"), ({}, "")],
)
async def test_a_response_is_interpreted(headers: dict[str, str], request_id: str) -> None:
    """The wire reads the body; pace and request id come from the headers."""
    headers = {**headers, "X-RateLimit-Remaining": "3"}
    answer = await answer_to(Response(201, headers, b'{"message":"success"}', 0.0))
    said = ServerWord(False, None, None, 3, None)
    assert answer == Answer(Delivered(201), said, request_id, 201)


@pytest.mark.asyncio
async def test_a_request_id_is_text_of_a_destination() -> None:
    """It may be anything, and is shown as little as any other."""
    answer = await answer_to(Response(500, {"X-Request-Id": f"{KEY}\x1b" + "a" * 999}, b"", 0.0))
    assert KEY not in repr(answer)
    assert len(answer.request_id) == REQUEST_ID_CHARS


ID_TEXT = st.text(
    st.sampled_from("aAbB019-._/+:= \n\"'}\x1b\u017f\u212aé\u0131٣"), max_size=REQUEST_ID_CHARS + 3
)
"""Letters of ids, and of what is none; some of them have another case, or another length in it."""


@given(
    st.lists(
        ID_TEXT | st.sampled_from([KEY, KEY.upper(), "api-key", "app_group_id", "Bearer", " x"]),
        max_size=4,
    ).map("".join),
    st.lists(st.sampled_from([KEY, "ab", "K", "s", "", "0-1"]) | ID_TEXT, max_size=2),
)
@example(KEY, [KEY])
@example(f"a-{KEY.upper()}", [KEY])
@example("api-key", [])
@example("a\n", [])
@example("a" * REQUEST_ID_CHARS, [])
@example("a" * (REQUEST_ID_CHARS + 1), [])
def test_a_plain_request_id_is_quoted_as_any_other(text: str, secrets: list[str]) -> None:
    """The look that nearly all of them get comes to what the whole reading comes to."""
    assert _request_id(text, secrets) == quote(text, secrets, REQUEST_ID_CHARS)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Unsent("no route"), Unavailable(None, "no route")),
        (Lost("reset"), Unanswered(None, "reset")),
    ],
)
async def test_no_response(reply: Reply, outcome: Outcome) -> None:
    """What did not leave may be sent again; what left may have arrived."""
    assert await answer_to(reply) == Answer(outcome)


@pytest.mark.asyncio
async def test_a_sink_closes_its_transport() -> None:
    """Connections end with the sink, and what was sent is the wire's request."""
    transport = Replying(Lost("x"))
    wire = BrazeWire(ENDPOINTS["track"], KEY)
    sink = HttpSink(wire, transport)
    await sink.deliver(NOTHING)
    await sink.aclose()
    assert transport.requests == [wire.request(NOTHING)]
    assert transport.closed


def test_every_sink_keeps_the_protocol() -> None:
    """All sinks can be asked the same things."""
    http = HttpSink(BrazeWire(ENDPOINTS["track"], KEY), Replying(Lost("x")))
    sinks: list[Sink] = [http, MemorySink(), FileSink("/dev/null")]
    assert [(sink.name, sink.host) for sink in sinks] == [
        ("braze", "rest.example"),
        ("memory", "memory"),
        ("file", "/dev/null"),
    ]
    for sink in sinks:
        assert sink.endpoint is ENDPOINTS["track"]
        assert sink.repeatable(0, b"{}")
        assert not sink.repeatable(1, b"{}")
        assert sink.overhead == BodyShape(sink.endpoint.slots).overhead
        assert sink.record_of(NOTHING, 0, b'{"a":1}') == b'{"a":1}'


def test_a_row_knows_only_its_own_names() -> None:
    """Whatever an answer calls an array, only a known name is a slot."""
    row = ENDPOINTS["track"]
    assert row.slot_reported_as("events") == 1
    strangers: list[Any] = ["event", "", None, 1, []]
    assert not any(map(row.slot_reported_as, strangers))
    other = replace(row, reported_as=("a", "b", "c"))
    assert [other.slot_reported_as(name) for name in ("b", "events")] == [1, None]


# --- credentials and choices --------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " ", "a b", "a\n", "schlüssel", "a\0"])
def test_what_no_header_can_carry_is_no_credential(text: str) -> None:
    """The sentence says what it is, and never shows it."""
    with pytest.raises(
        ConfigError, match=r"^the Some key is empty or .*: copy it again$"
    ) as caught:
        credential(text, "Some key")
    assert "schl" not in str(caught.value)
    assert credential("a-Key!~", "Some key") == "a-Key!~"


def destination(opened: list[Choice], **more: Any) -> Destination:
    """Return a destination that notes what it is opened with."""

    def open_noting(environ: Mapping[str, str], choice: Choice) -> HttpSink:
        opened.append(choice)
        return HttpSink(BrazeWire(ENDPOINTS["track"], KEY), Replying(Lost("x")))

    return Destination(
        name="postbox",
        endpoints=ENDPOINTS,
        opened=open_noting,
        sandboxed=lambda url, key: {},
        **more,
    )


def test_a_destination_is_opened_with_names_that_it_has() -> None:
    """Without an endpoint it is the first one; what is sent rather than imported is there too."""
    opened: list[Choice] = []
    row = destination(opened, sends=SENDS, settings={"size": "…"}, auths=("bearer", "body"))
    row.open({}, Choice())
    asked = Choice("delete", "body", settings={"size": "1"})
    row.open({}, asked)
    assert opened == [Choice("track"), asked]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice("tracks"), "unknown endpoint 'tracks' of postbox: it is one of track, track-bulk"),
        (Choice(auth="basic"), "unknown auth 'basic' of postbox: it is one of bearer"),
        (Choice(settings={"a": "1"}), "unknown setting 'a' of postbox: there is none"),
    ],
)
def test_a_name_that_a_destination_has_not_opens_nothing(choice: Choice, said: str) -> None:
    """The error names what there is."""
    opened: list[Choice] = []
    with pytest.raises(ConfigError) as caught:
        destination(opened).open({}, choice)
    assert str(caught.value) == said
    assert opened == []
