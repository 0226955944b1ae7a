"""Our own client and aiohttp's say the same of the same server."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from ingest.outcomes import Lost, Reply, Response, Unsent, lowered
from ingest.sinks.base import Request
from ingest.sinks.http_settings import HttpSettings
from ingest.sinks.session import Session
from tests.sinks.raw_server import answering, http, read_request, reset, serving

pytest.importorskip("httptools")
from ingest.sinks.direct import Direct

REQUEST = Request("POST", "/users/track", (("Content-Type", "application/json"),), b"{}")
TURNS = 50
"""Of the loop, in which both clients have read all that was said: each takes a few."""

SETTINGS = HttpSettings(answer_bytes=1000)
BRIEF = HttpSettings(read=0.6, total=2.0, answer_bytes=1000)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

SAID = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 20",
    "half a head": OK + b"Content-Length: 2\r\n",
    "a head": OK + b"Content-Length: 2\r\n\r\n",
    "half a body": OK + b"Content-Length: 2\r\n\r\na",
    "a body": http(200, b"ab"),
    "no length": OK + b"\r\nab",
    "no length, no body": OK + b"\r\n",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nab",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab",
    "HTTP/1.0, no length": b"HTTP/1.0 200 OK\r\n\r\nab",
    "close": http(200, b"ab", "Connection: close"),
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + http(201, b"ab"),
    "hints": b"HTTP/1.1 103 Early\r\nX-A: 1\r\n\r\n" + http(201, b"ab"),
    "continue and nothing": b"HTTP/1.1 100 Continue\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "redirect": http(302, b"", "Location: /elsewhere"),
    "chunks": CHUNKED + b"1\r\na\r\n1;x=y\r\nb\r\n0\r\n\r\n",
    "half a chunk": CHUNKED + b"5\r\nab",
    "no last chunk": CHUNKED + b"2\r\nab\r\n",
    "a bad chunk": CHUNKED + b"2\r\nab\r\nzz\r\n",
    "a trailer": CHUNKED + b"2\r\nab\r\n0\r\nX-Late: 1\r\n\r\n",
    "gzip": http(200, gzip.compress(b"ab"), "Content-Encoding: gzip"),
    "deflate": http(200, zlib.compress(b"ab"), "Content-Encoding: deflate"),
    "gzip of nothing": http(200, b"", "Content-Encoding: gzip"),
    "identity": http(200, b"ab", "Content-Encoding: identity"),
    "no gzip": http(200, b"not gzip", "Content-Encoding: gzip"),
    "a bomb": http(200, gzip.compress(b"a" * 100_000), "Content-Encoding: gzip"),
    "the cap": http(200, b"a" * 1000),
    "more than the cap": http(200, b"a" * 1001),
    "twice a header": http(200, b"ab", "X-A: 1", "x-a: 2", "X-B:", "X-C:   3  "),
    "not ASCII": http(200, b"ab", "X-A: \u00e9"),
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "no status": b"HTTP/1.1 abc OK\r\n\r\n",
    "HTTP/3.7": b"HTTP/3.7 200 OK\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "HTML": b"<html><body>502</body></html>",
    "two answers": http(200, b"ab") + http(500, b"cd"),
    "rubbish after it": http(200, b"ab") + b"rubbish",
}

OTHERWISE = {"a bad chunk", "rubbish after it"}
"""aiohttp drops an answer with the nonsense behind it if both come at once, not if one after the
other. To us its status counts in either case."""

OTHERWISE_AT_A_RESET = {"no length", "no length, no body", "HTTP/1.0, no length"}
"""To aiohttp a reset is as good an end as any; to us what it ends may be a part."""


def told(reply: Reply) -> object:
    """Return what matters of a reply."""
    match reply:
        case Response():
            body = "" if reply.truncated else reply.body
            return reply.status, lowered(reply.headers), body, reply.truncated
        case Lost() | Unsent():
            return type(reply), reply.reason.partition(" ")[2].lstrip("0123456789.: ")
    raise AssertionError(reply)


async def reply_of(client: Direct | Session) -> object:
    """Return what a client says, and close it."""
    try:
        return told(await client.send(REQUEST))
    finally:
        await client.aclose()


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["close", "reset", "silence"])
async def test_the_clients_agree(end: str) -> None:
    """Whatever a server says, and however it ends then, it means the same to both."""

    async def both(said: bytes) -> tuple[object, object]:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(said)
            await writer.drain()
            if end == "silence":
                await asyncio.Event().wait()
            if end == "reset":
                # It overtakes what was not read yet; the clients read in turns of this loop.
                for _ in range(TURNS):
                    await asyncio.sleep(0)
                reset(writer)

        async with serving(lambda server: talk) as server:
            settings = BRIEF if end == "silence" else SETTINGS
            clients = (Direct(server.url, settings), Session(server.url, settings))
            ours, theirs = await asyncio.gather(*(reply_of(client) for client in clients))
        return ours, theirs

    replies = await asyncio.gather(*map(both, SAID.values()))
    differ = {name: pair for name, pair in zip(SAID, replies, strict=True) if pair[0] != pair[1]}
    for name in OTHERWISE | (OTHERWISE_AT_A_RESET if end == "reset" else set()):
        ours, _ = differ.pop(name)
        assert isinstance(ours, tuple)
        assert ours[0] == 200
    assert differ == {}


@pytest.mark.asyncio
async def test_the_clients_send_the_same() -> None:
    """One method, path and body, and the same headers but for what is accepted in an answer."""
    heads = []
    async with serving(answering(http(200), http(200))) as server:
        for client in (Direct(server.url, SETTINGS), Session(server.url, SETTINGS)):
            await reply_of(client)
        for head, body in server.requests:
            lines = head.decode().lower().split("\r\n")
            heads.append((body, sorted(line for line in lines if "accept-encoding" not in line)))
    assert heads[0] == heads[1]
