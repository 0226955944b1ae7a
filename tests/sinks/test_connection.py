"""Which bytes are the answer to which request: one connection over a transport that is played."""

from __future__ import annotations

import gzip
import itertools
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.outcomes import Lost, Reply, Response
from ingest.sinks.http_settings import KEEP_ALIVE_SECONDS, HttpSettings
from tests.sinks.raw_server import http

pytest.importorskip("httptools")
from ingest.sinks.connection import BYTES_PER_BYTE, HEAD_BYTES, Connection

SETTINGS = HttpSettings(read=10.0, total=30.0, answer_bytes=40)


class Promise:
    """What stands for a future: it may be kept once."""

    def __init__(self) -> None:
        self.reply: Any = None
        self.kept = 0
        self.broken = False

    def done(self) -> bool:
        return self.kept > 0 or self.broken

    def cancelled(self) -> bool:
        return self.broken

    def set_result(self, reply: Any) -> None:
        self.reply = reply
        self.kept += 1


class Stage:
    """A connection with the loop, the transport and the client that it has."""

    def __init__(self, settings: HttpSettings = SETTINGS) -> None:
        self.now = 1000.0
        self.rests: list[Connection] = []
        self.lost: list[Connection] = []
        self.closing = False
        self.farewell = False
        self.unwritten = 0
        self.sent: list[bytes] = []
        loop: Any = self
        self.connection = Connection(loop, "h", settings, self.rests.append, self.lost.append)
        transport: Any = self
        self.connection.connection_made(transport)

    # the loop

    def time(self) -> float:
        return self.now

    def create_future(self) -> Any:
        return Promise()

    # the transport

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    def close(self) -> None:
        self.closing = self.farewell = True

    def get_write_buffer_size(self) -> int:
        return self.unwritten

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        assert not self.closing
        self.sent.append(b"".join(parts))

    # the test

    def ask(self, body: bytes = b"{}") -> Promise:
        """Send a request."""
        head = b"POST / HTTP/1.1\r\nContent-Length: "
        waiter: Any = self.connection.exchange(head, body, self.now)
        assert isinstance(waiter, Promise)
        return waiter

    def hear(self, *pieces: bytes) -> None:
        """Receive bytes."""
        for piece in pieces:
            self.connection.data_received(piece)

    def end(self, error: Exception | None = None) -> None:
        """Lose the connection, by its end or by an error."""
        if self.lost:
            return
        if error is None:
            self.connection.eof_received()
        self.closing = True
        self.connection.connection_lost(error)


def heard(*pieces: bytes, error: Exception | None = None, size: int = 40) -> tuple[Reply, bool]:
    """Return the reply to a request to which this comes, and whether another one may follow it."""
    stage = Stage(msgspec.structs.replace(SETTINGS, answer_bytes=size))
    waiter = stage.ask()
    stage.hear(*pieces)
    ready = stage.connection.ready
    stage.end(error)
    assert waiter.kept == 1
    assert not stage.connection.ready
    return waiter.reply, ready


def told(reply: Reply) -> object:
    """Return what a reply says, but for when it came."""
    if isinstance(reply, Response):
        return reply.status, dict(reply.headers), reply.body, reply.truncated
    return reply


# --- answers ------------------------------------------------------------------------------------


def chunked(body: bytes, size: int, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    """Encode a body in chunks of a size."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    lines = [b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts]
    return b"".join(lines) + b"0\r\n" + trailer + b"\r\n"


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Answers of every framing, coding and length, of which the cap keeps 40 bytes."""
    interim = b"".join(
        draw(st.lists(st.sampled_from([http(100, b"")[:25] + b"\r\n\r\n", INTERIM]), max_size=2))
    )
    body = draw(st.binary(max_size=60) | st.just(b"a" * 39) | st.just(b"a" * 40))
    lines = [b"HTTP/1.%d %d X" % (draw(st.integers(0, 1)), draw(st.sampled_from(STATUSES)))]
    packing = draw(st.sampled_from([None, b"gzip", b"deflate", b"Identity", b"br"]))
    if packing is not None:
        lines.append(b"Content-Encoding: " + packing)
        if packing in (b"gzip", b"deflate"):
            body = gzip.compress(body, mtime=0) if packing == b"gzip" else zlib.compress(body)
            body += draw(st.sampled_from([b"", b"", b"\0", gzip.compress(b"more", mtime=0)]))
    lines += draw(st.lists(st.sampled_from(FIELDS), max_size=3))
    framing = draw(st.sampled_from(["length", "chunked", "end"]))
    if framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
    elif framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        trailer = draw(st.sampled_from([b"", b"X-Late: 1\r\n", b"Content-Encoding: gzip\r\n"]))
        body = chunked(
            body, draw(st.integers(1, 20)), draw(st.sampled_from([b"", b";a=b"])), trailer
        )
    return interim + b"\r\n".join((*lines, b"", b"")) + body


INTERIM = b"HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n"
STATUSES = (101, 200, 201, 204, 304, 400, 413, 429, 503)
FIELDS = (b"Connection: close", b"Connection: keep-alive", b"X-A:", b"x-a: 2", b"X-B: \xc3\xa9\xff")


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Bytes that are nearly an answer, more than one, or none at all."""
    said = bytearray(draw(answers()))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(said) - 1)))
        match draw(st.integers(0, 2)):
            case 0:
                said[at : at + 1] = draw(st.binary(max_size=2))
            case 1:
                del said[at : at + draw(st.integers(1, 30))]
            case _:
                said[at:at] = draw(
                    st.sampled_from([b"\r\n", b"HTTP/1.1 200 X\r\n\r\n", b"0\r\n\r\n"])
                )
    return bytes(said) + draw(st.sampled_from([b"", b"", b"\r\n", b"junk", http(200, b"{}")]))


def cut(said: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes at some places."""
    at = sorted({0, len(said), *(place % (len(said) + 1) for place in places)})
    return [said[a:b] for a, b in itertools.pairwise(at)]


@given(answers() | mutations(), st.lists(st.integers(0, 400), max_size=12), st.booleans())
def test_where_an_answer_is_cut_changes_nothing(said: bytes, at: list[int], reset: bool) -> None:
    """In one piece, in many or in single bytes: it is the same reply."""
    error = ConnectionResetError(104, "x") if reset else None
    whole, ready = heard(said, error=error) if said else heard(error=error)
    for pieces in (cut(said, at), [said[n : n + 1] for n in range(len(said))]):
        reply, ready_too = heard(*pieces, error=error)
        assert told(reply) == told(whole)
        # Line ends after an answer mean nothing with it, and are unasked for when they come alone.
        assert ready_too <= ready


# --- any sequence of events ---------------------------------------------------------------------

EVENTS = st.one_of(
    st.tuples(st.just("ask"), st.just(b"")),
    st.tuples(st.just("answer"), st.sampled_from([b"", b"chunked", b"close", b"twice", b"half"])),
    st.tuples(st.just("bytes"), mutations() | st.binary(min_size=1, max_size=30)),
    st.tuples(st.just("eof"), st.just(b"")),
    st.tuples(st.just("reset"), st.just(b"")),
    st.tuples(st.just("look"), st.sampled_from([b"soon", b"late"])),
    st.tuples(st.just("give up"), st.sampled_from([b"this", b"last"])),
    st.tuples(st.just("close"), st.just(b"")),
    st.tuples(st.just("unwritten"), st.just(b"")),
)


def numbered(number: int, how: bytes) -> bytes:
    """An answer that says to which request it is."""
    body = b"%d" % number
    if how == b"chunked":
        head = b"HTTP/1.1 200 X\r\nX-Number: %d\r\nTransfer-Encoding: chunked\r\n\r\n"
        return head % number + chunked(body, 1)
    said = http(
        200, body, f"X-Number: {number}", *(["Connection: close"] if how == b"close" else [])
    )
    return said * 2 if how == b"twice" else said[:-1] if how == b"half" else said


@given(st.lists(EVENTS, max_size=25))
@example([("ask", b""), ("answer", b"twice"), ("ask", b""), ("answer", b"")])
@example([("ask", b""), ("answer", b"half"), ("give up", b"this"), ("ask", b""), ("answer", b"")])
def test_every_request_has_its_own_answer(events: list[tuple[str, bytes]]) -> None:
    """Each ends once, by an answer to it or by none, and what was odd is not used again."""
    stage = Stage()
    waiters: list[Promise] = []
    for what, how in events:
        waiting = bool(waiters) and not waiters[-1].done()
        odd = False
        match what:
            case "ask" if not waiting:
                if not stage.connection.ready:
                    stage.end()
                    assert stage.lost == [stage.connection]
                    stage = Stage()
                waiters.append(stage.ask())
            case "answer":
                stage.hear(numbered(len(waiters) - 1, how))
                odd = not waiting or how in (b"close", b"twice") or stage.unwritten > 0
            case "bytes":
                if not stage.closing:
                    stage.hear(how)
                odd = not waiting
            case "eof":
                stage.connection.eof_received()
                stage.closing = odd = True
            case "reset":
                stage.end(ConnectionResetError(104, "x"))
                odd = True
            case "look":
                stage.now += 1.0 if how == b"soon" else 31.0
                stage.connection.look(stage.now)
                odd = how == b"late"
            case "give up" if waiters:
                waiter: Any = waiters[-1 if how == b"this" else 0]
                odd = waiting and waiter is waiters[-1]
                stage.connection.give_up(waiter)
            case "close":
                stage.connection.close()
                odd = True
            case "unwritten":
                stage.unwritten = 5 - stage.unwritten
        if odd:
            assert not stage.connection.ready
            # An answer may be taken for a piece of what came before it, which is still going on.
            assert not waiters or waiters[-1].done() or what == "answer"
        assert sum(not waiter.done() for waiter in waiters) <= 1
    stage.end()
    for number, waiter in enumerate(waiters):
        assert waiter.kept == 1
        reply = waiter.reply
        if isinstance(reply, Response) and "x-number" in reply.headers:
            assert reply.headers["x-number"] == str(number)


# --- one by one ---------------------------------------------------------------------------------


def test_what_follows_the_body_is_no_header() -> None:
    """A trailer does not replace what the head has said."""
    head = b"HTTP/1.1 200 X\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    reply, ready = heard(head + chunked(b"ab", 2, trailer=b"X-A: 2\r\nX-B: 3\r\n"))
    assert told(reply) == (200, {"x-a": "1", "transfer-encoding": "chunked"}, b"ab", False)
    assert ready


@pytest.mark.parametrize("endless", ["header", "interim", "trailer", "extension", "chunks"])
def test_an_answer_without_end_is_given_up(endless: str) -> None:
    """What is kept, and what is read for it, is bounded without any clock."""
    stage = Stage()
    waiter = stage.ask()
    head = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"
    begin, more = {
        "header": (b"HTTP/1.1 200 X\r\nX-A: ", b"a" * 1000),
        "interim": (b"", INTERIM * 20),
        "trailer": (head + b"0\r\nX-A: ", b"a" * 1000),
        "extension": (head + b"1;a=", b"a" * 1000),
        "chunks": (head, b"1;" + b"a" * 1000 + b"\r\n"),
    }[endless]
    stage.hear(begin)
    read = 0
    while not waiter.done():
        stage.hear(more + (b"a\r\n" if endless == "chunks" and read == 0 else b""))
        read += len(more)
        assert read < HEAD_BYTES + BYTES_PER_BYTE * SETTINGS.answer_bytes + 2000
    assert isinstance(waiter.reply, Lost if endless in ("header", "interim") else Response)
    assert not isinstance(waiter.reply, Response) or waiter.reply.truncated
    assert stage.closing


def test_a_bomb_unpacks_to_the_cap() -> None:
    """What is unpacked is bounded, in one piece and byte by byte, and so is what follows it."""
    said = http(200, gzip.compress(b"a" * 1_000_000), "Content-Encoding: gzip")
    for pieces in ([said], [said[n : n + 1] for n in range(len(said))]):
        reply, ready = heard(*pieces)
        assert isinstance(reply, Response)
        assert (reply.body, reply.truncated, ready) == (b"a" * 40, True, False)


@pytest.mark.parametrize("after", [b"\0", gzip.compress(b"more", mtime=0)])
def test_what_follows_a_packed_body_makes_it_unreadable(after: bytes) -> None:
    """Half of a body is not taken for all of it, and the status counts."""
    reply, ready = heard(http(201, gzip.compress(b"{}") + after, "Content-Encoding: gzip"))
    assert isinstance(reply, Response)
    assert (reply.status, reply.body, reply.truncated, ready) == (201, b"", True, True)


def test_an_answer_while_the_request_is_written() -> None:
    """It counts, and the rest of the request meets nobody else."""
    stage = Stage()
    waiter = stage.ask()
    stage.unwritten = 10
    stage.hear(http(413))
    assert waiter.reply.status == 413
    assert not stage.connection.ready
    assert stage.rests == []


def test_what_tls_has_handed_on_is_still_being_written() -> None:
    """TLS counts what it holds itself: the rest is asked of the transport beneath."""
    stage, beneath = Stage(), Stage()
    transport: Any = beneath
    stage.connection.over(transport)
    waiter = stage.ask()
    stage.unwritten = 10
    stage.hear(http(413))
    assert waiter.reply.status == 413
    assert not stage.connection.ready
    assert stage.closing
    assert beneath.closing


def test_tls_that_was_never_made_ends_the_connection() -> None:
    """An event loop may come back from a handshake with nothing."""
    stage = Stage()
    stage.connection.over(None)
    assert not stage.connection.ready


def test_what_is_being_sent_is_no_silence() -> None:
    """The patience for silence begins anew with every byte that leaves; all of it has an end."""
    stage = Stage()
    waiter = stage.ask()
    for left in range(50, 0, -10):
        stage.now += 5
        stage.unwritten = left
        stage.connection.look(stage.now)
        assert not waiter.done()
    stage.now += 5
    stage.unwritten = 1
    stage.connection.look(stage.now)
    assert waiter.reply == Lost("h did not answer in time")


def test_an_idle_connection_is_closed_once_in_good_manners() -> None:
    """A farewell that takes its time is not begun anew with every look."""
    stage = Stage()
    stage.connection.look(stage.now + KEEP_ALIVE_SECONDS - 0.1)
    assert not stage.closing
    stage.connection.look(stage.now + KEEP_ALIVE_SECONDS)
    assert stage.farewell
    stage.farewell = False
    stage.connection.look(stage.now + KEEP_ALIVE_SECONDS + 1)
    stage.hear(b"late")  # said during the farewell
    assert not stage.farewell
    stage.connection.cut()


def test_an_answer_that_nobody_waits_for_ends_the_connection() -> None:
    """At the next look, and nobody is told of it; one that came before that leaves it as it is."""
    stage = Stage()
    waiter = stage.ask()
    waiter.broken = True
    stage.connection.look(stage.now)
    assert (stage.closing, waiter.kept, stage.rests) == (True, 0, [])
    early = Stage()
    waiter = early.ask()
    waiter.broken = True
    early.hear(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
    early.connection.look(early.now)
    assert (early.closing, waiter.kept, early.rests) == (False, 0, [early.connection])
