"""One connection to an HTTP server: a request at a time, and the answer to it. It knows httptools.

Decides which bytes are the answer to which request, when the connection can take another one, and
when to stop waiting. What comes unasked, is no HTTP, or may leave something behind ends the
connection, so that an answer never meets a request that it is not for.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable
from typing import Any, Final

import httptools

from ingest.outcomes import Lost, Reply, Response
from ingest.sinks.http_settings import KEEP_ALIVE_SECONDS, HttpSettings, os_text

HEAD_BYTES: Final = 65_536
"""Longest head of an answer that is read: eight times what servers allow."""

BYTES_PER_BYTE: Final = 8
"""What is read for a byte of a body at most: one that comes in chunks of one byte takes six."""

_PLAIN: Final = frozenset({"", "identity"})
_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_EITHER_FORMAT: Final = 32 + zlib.MAX_WBITS
"""What makes zlib tell gzip from deflate by the first bytes."""


class Connection(asyncio.Protocol):
    """One connection. It is `ready` for a request at first, and after each answer that allows it.

    `rests` is called with it in the latter case, `lost` when it is gone; `gone` is done then.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: str,
        settings: HttpSettings,
        rests: Callable[[Connection], None],
        lost: Callable[[Connection], None],
    ) -> None:
        self._loop, self._host, self._settings = loop, host, settings
        self._most = settings.answer_bytes
        self._rests, self._lost = rests, lost
        self.gone: asyncio.Future[None] = loop.create_future()
        self.rested = loop.time()
        self._transport: Any = None
        self._raw: Any = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Reply] | None = None
        self._begun = self._heard = 0.0
        self._unwritten = self._received = 0
        self._forget()

    def _forget(self) -> None:
        """Begin with an answer of which nothing is known."""
        self._headers: dict[str, str] = {}
        self._status = 0
        self._answered = False  # whether the head is whole
        self._body = bytearray()
        self._unpack: Any = None
        self._unreadable = False

    @property
    def ready(self) -> bool:
        """Whether a request may go out on it."""
        if self._waiter is not None or self._transport.is_closing():
            return False
        return self._raw is self._transport or not self._raw.is_closing()

    @property
    def made(self) -> bool:
        """Whether the event loop has taken it."""
        return self._transport is not None

    # What the client asks of it

    def over(self, transport: asyncio.BaseTransport | None) -> None:
        """Speak over this transport from now on, which is TLS; None ends the connection."""
        if transport is None:
            self._raw.abort()
        else:
            self._transport = transport
        self.rested = self._loop.time()

    def exchange(self, head: bytes, body: bytes, begun: float) -> asyncio.Future[Reply]:
        """Send a request, and return what its answer will be in. It is `ready`; `begun` is when
        the request began to wait, by the loop's clock."""
        self._forget()  # what the last answer said must not be taken for this one's
        self._begun, self._heard = begun, self._loop.time()
        self._received = 0
        self._waiter = waiter = self._loop.create_future()
        self._transport.writelines((head, b"%d\r\n\r\n" % len(body), body))
        return waiter

    def look(self, now: float) -> None:
        """Give up what takes too long."""
        if self._waiter is None:
            if now - self.rested >= KEEP_ALIVE_SECONDS:
                self.close()
            return
        if self._waiter.cancelled():
            self.fail("the request was given up")
            return
        unwritten = self._left_to_write()
        if unwritten != self._unwritten:
            self._unwritten, self._heard = unwritten, now  # what is being sent is no silence
        settings = self._settings
        if now - self._heard >= settings.read or now - self._begun >= settings.total:
            self.fail(f"{self._host} did not answer in time")

    def give_up(self, waiter: asyncio.Future[Reply]) -> None:
        """End the connection if this request is still on it: another one may be by now."""
        if self._waiter is waiter:
            self.fail("the request was given up")

    def close(self) -> None:
        """End the connection, in good manners if nothing is on it."""
        if self._waiter is not None:
            self.fail("the connection was closed here before an answer")
        elif self.ready:  # asyncio's TLS cannot be cut any more once it was closed twice
            self._transport.close()

    def fail(self, reason: str) -> None:
        """End the connection, and its request if there is one: what was heard of it counts."""
        if self._waiter is not None:
            self._end(self._response(truncated=True) if self._answered else Lost(reason))
        self.cut()

    def cut(self) -> None:
        """End the connection at once."""
        if self.made:
            self._transport.abort()
            self._raw.abort()

    # What the event loop says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._raw = transport

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            if self.ready:
                self.cut()  # it speaks without being asked: whatever that is, it is not for us
            return
        self._heard = self._loop.time()
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail(f"what {self._host} answered is not HTTP")
        if self._waiter is not None and self._received > HEAD_BYTES and self._too_much:
            self.fail(f"what {self._host} answered is not HTTP")

    def eof_received(self) -> None:
        if self._waiter is not None:
            self._break_off(None)
            self.cut()  # a request that is still being written gets no other answer

    def connection_lost(self, error: Exception | None) -> None:
        self._break_off(error)
        self._lost(self)
        if not self.gone.done():
            self.gone.set_result(None)

    def _break_off(self, error: Exception | None) -> None:
        """End the request, if there is one: nothing more is heard. An answer may end like that."""
        if self._waiter is None:
            return
        if self._answered:
            self._end(self._response(truncated=error is not None or self._has_length))
        elif error is None:
            self._end(Lost(f"{self._host} closed the connection before it answered"))
        else:
            self._end(Lost(f"the connection to {self._host} broke: {os_text(error)}"))

    # What the parser says

    def on_message_begin(self) -> None:
        if self._waiter is None:
            raise ValueError("more answers than requests")  # the parser goes no further

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._answered:  # what comes after the body is read, and means nothing
            self._headers[name.decode("latin-1").lower()] = value.decode("utf-8", "surrogateescape")

    def on_headers_complete(self) -> None:
        self._status = status = self._parser.get_status_code()
        self._answered = status >= 200 or status == 101

    def on_body(self, data: bytes) -> None:
        if self._waiter is None:
            return  # what there is of it is answer enough
        room = self._most + 1 - len(self._body)
        if "content-encoding" in self._headers:
            data = self._unpacked(data, room)
        self._body += data[:room]
        if len(self._body) > self._most:
            self.fail("the answer is longer than what is kept of one")

    def on_message_complete(self) -> None:
        if not self._answered:
            self._forget()  # 100 Continue and its like: the answer comes after it
        elif self._waiter is not None:
            keep = self._parser.should_keep_alive() and self._status != 101
            # What is still being written is the body of a request that is answered already.
            keep = keep and not self._left_to_write()
            self._end(self._response())
            if keep:
                self.rested = self._heard
                self._rests(self)
            else:
                self.cut()

    # What the answer is

    @property
    def _too_much(self) -> bool:
        """Whether more was read than makes an answer of the longest head and body there may be."""
        most = BYTES_PER_BYTE * self._most if self._answered else 0
        return self._received > HEAD_BYTES + most

    @property
    def _has_length(self) -> bool:
        """Whether the answer says by itself where it ends; otherwise the connection's end does."""
        return "content-length" in self._headers or "transfer-encoding" in self._headers

    def _left_to_write(self) -> int:
        """Return the bytes that wait here; TLS does not count what it has handed on."""
        left: int = self._transport.get_write_buffer_size()
        if self._raw is not self._transport:
            left += self._raw.get_write_buffer_size()
        return left

    def _unpacked(self, data: bytes, most: int) -> bytes:
        """Unpack the next part of a body, up to `most` bytes. It has to be one piece, and whole."""
        if self._unreadable:
            return b""
        if self._unpack is None:
            packing = self._headers["content-encoding"].strip().lower()
            if packing in _PLAIN:
                return data
            if packing not in _PACKED:  # it was told that we read none
                return self._give_up_reading()
            self._unpack = zlib.decompressobj(_EITHER_FORMAT)
        if self._unpack.eof:
            return self._give_up_reading()  # zlib would only keep it
        try:
            unpacked: bytes = self._unpack.decompress(data, most)
        except zlib.error:
            return self._give_up_reading()
        return self._give_up_reading() if self._unpack.unused_data else unpacked

    def _give_up_reading(self) -> bytes:
        self._unreadable = True
        self._body.clear()
        return b""

    def _response(self, *, truncated: bool = False) -> Response:
        most = self._most
        partly = self._unpack is not None and not self._unpack.eof
        truncated = truncated or partly or self._unreadable or len(self._body) > most
        body = bytes(self._body[:most])
        return Response(self._status, self._headers, body, time.time(), truncated)

    def _end(self, reply: Reply) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(reply)
