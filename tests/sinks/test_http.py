"""What is unsent, what is lost and what is answered, against real sockets that misbehave."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingest.errors import ConfigError
from ingest.outcomes import Lost, Reply, Response, Unsent, lowered
from ingest.sinks.base import Request
from ingest.sinks.http import HttpSettings, HttpTransport, check_url
from ingest.sinks.http_settings import user_agent
from tests.sinks.raw_server import RawServer, Talk, answering, http, read_request, reset, serving

BODY = b'{"attributes":[{"external_id":"u1"}]}'
REQUEST = Request(
    "POST",
    "/users/track",
    (("Content-Type", "application/json"), ("Authorization", "Bearer the-key")),
    BODY,
)
LARGE = Request("POST", "/users/track", REQUEST.headers, b"x" * 8_000_000)
"""Larger than all socket buffers together: some of it is left over if nobody reads."""

BRIEF = HttpSettings(connect=0.05)
SILENT = HttpSettings(read=0.3, total=0.9)
"""Not so brief that a machine that stands still for a moment makes no connection in it."""

CHOSEN: dict[str, Any] = {"client": "fastest"}


@pytest.fixture(params=["fastest", "aiohttp"])
def either_client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own client and aiohttp's do and say the same: a test that asks for this is for both."""
    monkeypatch.setitem(CHOSEN, "client", request.param)


@asynccontextmanager
async def opened(
    url: str, settings: HttpSettings | None = None, allow_http: bool = False
) -> AsyncIterator[HttpTransport]:
    """Open a transport for a block."""
    settings = msgspec.structs.replace(settings or HttpSettings(), **CHOSEN)
    transport = HttpTransport(url, settings, allow_http=allow_http)
    try:
        yield transport
    finally:
        await transport.aclose()


async def reply_of(
    talk: Callable[[RawServer], Talk],
    request: Request = REQUEST,
    settings: HttpSettings | None = None,
) -> Reply:
    """Send one request to a server that talks like this."""
    async with serving(talk) as server, opened(server.url, settings) as transport:
        return await transport.send(request)


def free_port() -> int:
    """Return a port of this machine where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def each(talk: Talk) -> Callable[[RawServer], Talk]:
    """Talk the same way on every connection."""
    return lambda server: talk


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_an_answer_comes_back_as_it_is() -> None:
    """Status, headers in any case, and body are passed on."""
    reply = await reply_of(answering(http(201, b'{"message":"success"}', "x-RateLimit-LIMIT: 7")))
    assert isinstance(reply, Response)
    assert (reply.status, reply.body, reply.truncated) == (201, b'{"message":"success"}', False)
    assert lowered(reply.headers)["x-ratelimit-limit"] == "7"
    assert reply.at > 1_700_000_000


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_what_is_sent() -> None:
    """The request has the wire's headers, our name, no cookie, and the body as it is."""
    async with serving(answering(http(201, b"{}", "Set-Cookie: a=b"), http(201))) as server:
        async with opened(server.url + "/prefix/") as transport:
            assert transport.host == f"127.0.0.1:{server.port}"
            await transport.send(REQUEST)
            await transport.send(REQUEST)
        head, body = server.requests[1]
        lines = head.decode().lower().split("\r\n")
        assert server.connections == 1
    assert lines[0] == "post /prefix/users/track http/1.1"
    assert body == BODY
    assert "authorization: bearer the-key" in lines
    assert "content-type: application/json" in lines
    assert f"content-length: {len(BODY)}" in lines
    assert any(line.startswith("user-agent: ingestline") for line in lines)
    assert not any(line.startswith(("cookie", "transfer-encoding", "expect")) for line in lines)


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
@pytest.mark.parametrize("status", [204, 301, 400, 401, 429, 500, 504])
async def test_every_status_is_an_answer(status: int) -> None:
    """Nothing raises for a status, and a redirect is not followed."""
    async with serving(answering(http(status, b"", "Location: /users/track"))) as server:
        async with opened(server.url) as transport:
            reply = await transport.send(REQUEST)
        assert len(server.requests) == 1
    assert isinstance(reply, Response)
    assert (reply.status, reply.body) == (status, b"")


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_a_compressed_answer_is_decompressed() -> None:
    """The edge may compress what it likes."""
    reply = await reply_of(
        answering(http(200, gzip.compress(b'{"message":"success"}'), "Content-Encoding: gzip"))
    )
    assert isinstance(reply, Response)
    assert reply.body == b'{"message":"success"}'


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
@pytest.mark.parametrize("packed", [False, True])
async def test_a_huge_answer_is_cut(packed: bool) -> None:
    """Memory is bounded, whatever the answer unpacks to, and the cut is told."""
    body = b"<html>" * 300_000
    answer = http(502, gzip.compress(body), "Content-Encoding: gzip") if packed else http(502, body)
    reply = await reply_of(answering(answer))
    assert isinstance(reply, Response)
    assert reply.truncated
    assert reply.body == body[: 1 << 20]


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_an_answer_of_exactly_the_cap_is_whole() -> None:
    """Only more than the cap is cut."""
    settings = HttpSettings(answer_bytes=100_000)
    for size, truncated in ((100_000, False), (100_001, True)):
        reply = await reply_of(answering(http(200, b"a" * size)), settings=settings)
        assert isinstance(reply, Response)
        assert (len(reply.body), reply.truncated) == (100_000, truncated)


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_an_answer_in_pieces() -> None:
    """An answer may come in many pieces, chunked, and without its length."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n")
        for byte in b'{"message":"success"}':
            writer.write(b"1\r\n%c\r\n" % byte)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    reply = await reply_of(each(talk))
    assert isinstance(reply, Response)
    assert (reply.body, reply.truncated) == (b'{"message":"success"}', False)


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
@pytest.mark.parametrize("how", ["close", "reset", "silence", "garbled"])
async def test_an_answer_that_breaks_off_has_its_status(how: str) -> None:
    """The status came: what it says counts, and the body is known to be cut."""
    release = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        if how == "garbled":
            writer.write(http(201, b"not gzip", "Content-Encoding: gzip"))
        else:
            writer.write(http(201, b"{" + b" " * 100)[:-50])
        await writer.drain()
        if how == "reset":
            reset(writer)
        if how == "silence":
            await release.wait()

    settings = SILENT if how == "silence" else None
    reply = await reply_of(each(talk), settings=settings)
    release.set()
    assert isinstance(reply, Response)
    assert reply.status == 201
    assert reply.truncated


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_an_answer_before_the_whole_body_was_read() -> None:
    """A server may refuse a large body by its head alone: that is an answer, and no wait."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(413, b"too large"))
        await writer.drain()
        await asyncio.Event().wait()  # reads nothing more, and closes nothing

    async with serving(each(talk)) as server, opened(server.url) as transport:
        for _ in range(2):  # the connection of the first is not used again
            reply = await asyncio.wait_for(transport.send(LARGE), 5)
            assert isinstance(reply, Response)
            assert (reply.status, reply.body) == (413, b"too large")
        assert server.connections == 2


# --- unsent -------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_a_refused_connection_is_unsent() -> None:
    """Nobody listens: no byte left."""
    async with opened(f"http://127.0.0.1:{free_port()}") as transport:
        reply = await transport.send(REQUEST)
    assert reply == Unsent(f"{transport.host} cannot be reached: Connection refused")


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_an_unknown_name_is_unsent() -> None:
    """The name is reserved never to exist."""
    async with opened("https://nowhere.invalid") as transport:
        reply = await transport.send(REQUEST)
    assert isinstance(reply, Unsent)
    assert "nowhere.invalid" in reply.reason


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_a_connection_that_is_never_made_is_unsent() -> None:
    """A full backlog drops the packets, like a black hole does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        async with opened(f"http://127.0.0.1:{port}", BRIEF) as transport:
            reply = await transport.send(REQUEST)
        for filler in fillers:
            filler.close()
    assert reply == Unsent(f"no connection to 127.0.0.1:{port} within 0.05 s")


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_failed_tls_is_unsent() -> None:
    """A server that speaks no TLS sees no byte of the body."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert BODY not in await reader.read(4096)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with serving(each(talk)) as server, opened(server.tls_url) as transport:
        reply = await transport.send(REQUEST)
    assert isinstance(reply, Unsent)
    assert reply.reason.startswith(f"TLS with {transport.host} failed")


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_a_silent_tls_handshake_is_unsent() -> None:
    """The time for a connection covers TLS."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serving(each(talk)) as server, opened(server.tls_url, BRIEF) as transport:
        reply = await transport.send(REQUEST)
    assert isinstance(reply, Unsent)


# --- lost ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("after", ["accept", "head", "body"])
async def test_a_connection_that_ends_without_an_answer_is_lost(after: str, ending: str) -> None:
    """Once a byte was handed to the network nobody knows, however soon the far end hung up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if after == "head":
            await reader.readuntil(b"\r\n\r\n")
        elif after == "body":
            await read_request(reader)
        if ending == "reset":
            reset(writer)

    for request in (REQUEST, LARGE):
        reply = await reply_of(each(talk), request)
        # At "accept" the end may be known before a byte is written: then nothing did leave.
        assert isinstance(reply, Lost | Unsent if after == "accept" else Lost)
        assert "127.0.0.1" in reply.reason


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_silence_is_lost() -> None:
    """The request was read, no answer came in time."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.Event().wait()

    reply = await reply_of(each(talk), settings=SILENT)
    assert isinstance(reply, Lost)
    assert reply.reason.endswith("did not answer in time")


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_a_body_that_nobody_reads_is_lost() -> None:
    """A part of the body is in the buffers of the network: the total time ends the wait."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    assert isinstance(await reply_of(each(talk), LARGE, SILENT), Lost)


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_an_answer_that_is_not_http_is_lost() -> None:
    """Whoever answered may have processed the request."""
    reply = await reply_of(answering(b"SSH-2.0-OpenSSH\r\n\r\n"))
    assert isinstance(reply, Lost)
    assert reply.reason.endswith("is not HTTP")


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
@pytest.mark.parametrize("noticed", [True, False])
async def test_a_kept_alive_connection_that_died_is_never_resent(noticed: bool) -> None:
    """Death in time gives a new connection, and else a loss; never a silent second sending."""
    closed = asyncio.Event()

    def of(server: RawServer) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.requests.append(await read_request(reader))
            writer.write(http(201))
            await writer.drain()
            if server.connections == 1 and noticed:
                writer.close()
                closed.set()
            elif server.connections == 1:
                # Half dead: the second request is read, and the connection dies on it.
                server.requests.append(await read_request(reader))
                reset(writer)

        return talk

    async with serving(of) as server, opened(server.url) as transport:
        assert isinstance(await transport.send(REQUEST), Response)
        if noticed:
            await closed.wait()
            # Our own end hears of it when the loop next looks at its sockets.
            while transport.idle:  # noqa: ASYNC110  # no event tells when it knows
                await asyncio.sleep(0)
        reply = await transport.send(REQUEST)
        assert isinstance(reply, Response if noticed else Lost)
        assert len(server.requests) == 2
        assert server.connections == (2 if noticed else 1)


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_a_cancelled_request_is_cancelled() -> None:
    """Cancelling is the caller's word, and leaves no connection behind."""
    arrived = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http(200, b"abc")[:-1])
        arrived.set()
        await asyncio.Event().wait()

    async with serving(each(talk)) as server, opened(server.url) as transport:
        sending = asyncio.ensure_future(transport.send(REQUEST))
        await arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert transport.idle == 0


# --- the session --------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_in_flight_is_not_limited_here() -> None:
    """As many connections as requests: the pipeline decides how many those are."""
    together = asyncio.Barrier(120)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await together.wait()
        writer.write(http(201))
        await writer.drain()

    async with serving(each(talk)) as server, opened(server.url) as transport:
        replies = await asyncio.gather(*(transport.send(REQUEST) for _ in range(120)))
    assert all(isinstance(reply, Response) for reply in replies)


@pytest.mark.asyncio
@pytest.mark.usefixtures("either_client")
async def test_a_closed_transport_opens_again() -> None:
    """Closing drops the connections, no more; closing twice does nothing."""
    async with serving(answering(http(201), http(202))) as server, opened(server.url) as transport:
        await transport.send(REQUEST)
        await transport.aclose()
        await transport.aclose()
        assert transport.idle == 0
        reply = await transport.send(REQUEST)
    assert isinstance(reply, Response)
    assert reply.status == 202


def test_the_name_we_go_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version is told if it is known; a checkout that is not installed has none."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.2.3")
    assert user_agent() == "ingestline/1.2.3"

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert user_agent() == "ingestline"


# --- proxies ------------------------------------------------------------------------------------


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Start from an environment without proxies."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.asyncio
async def test_a_proxy_of_the_environment_is_used(no_proxy: pytest.MonkeyPatch) -> None:
    """The proxy gets the whole URL, its own credentials, and ours in the request's header."""
    async with serving(answering(http(201))) as server:
        no_proxy.setenv("HTTP_PROXY", f"http://user:pass@127.0.0.1:{server.port}")
        async with opened("http://rest.invalid", allow_http=True) as transport:
            reply = await transport.send(REQUEST)
        head = server.requests[0][0]
    assert isinstance(reply, Response)
    assert head.startswith(b"POST http://rest.invalid/users/track HTTP/1.1")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in head
    assert b"Authorization: Bearer the-key" in head


@pytest.mark.asyncio
async def test_a_proxy_that_refuses_to_connect_is_unsent(no_proxy: pytest.MonkeyPatch) -> None:
    """A tunnel that is not made carries no byte, and no credential is shown."""
    async with serving(answering(http(407, b""))) as server:
        no_proxy.setenv("HTTPS_PROXY", f"user:pass@127.0.0.1:{server.port}")
        async with opened("https://rest.invalid") as transport:
            reply = await transport.send(REQUEST)
    assert reply == Unsent("the proxy refused the connection to rest.invalid with 407")


@pytest.mark.asyncio
async def test_a_proxy_that_is_not_there_is_unsent(no_proxy: pytest.MonkeyPatch) -> None:
    """The sentence tells the proxy from the destination."""
    no_proxy.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    async with opened("https://rest.invalid") as transport:
        reply = await transport.send(REQUEST)
    assert reply == Unsent("the proxy to rest.invalid cannot be reached: Connection refused")


@pytest.mark.asyncio
@pytest.mark.parametrize("bypass", ["this machine", "NO_PROXY"])
async def test_a_proxy_is_bypassed(no_proxy: pytest.MonkeyPatch, bypass: str) -> None:
    """What runs here, and what NO_PROXY names, is asked directly."""
    no_proxy.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    async with serving(answering(http(201))) as server:
        url = server.url
        if bypass == "NO_PROXY":
            no_proxy.setenv("NO_PROXY", "127.0.0.2")
            url = url.replace("127.0.0.1", "127.0.0.2")
        async with opened(url, allow_http=True) as transport:
            reply = await transport.send(REQUEST)
    # Where 127.0.0.2 exists nobody listens there: what matters is who was asked.
    assert isinstance(reply, Response if bypass == "this machine" else Unsent)
    assert not isinstance(reply, Unsent) or "proxy" not in reply.reason


@pytest.mark.asyncio
async def test_a_proxy_that_cannot_be_read(no_proxy: pytest.MonkeyPatch) -> None:
    """A broken variable is named, without its value."""
    no_proxy.setenv("HTTPS_PROXY", "http://user:secret@host:port")
    async with opened("https://rest.example") as transport:
        with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
            await transport.send(REQUEST)
    assert "secret" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_netrc_entry_changes_nothing(no_proxy: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials for the host that lie around do not replace, or clash with, the key."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login l password p\n")
    netrc.chmod(0o600)
    no_proxy.setenv("NETRC", str(netrc))
    reply = await reply_of(answering(http(201)))
    assert isinstance(reply, Response)


# --- URLs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://rest.iad-01.braze.com", "https://rest.iad-01.braze.com"),
        (" https://REST.iad-01.braze.com/ \n", "https://rest.iad-01.braze.com"),
        ("HTTPS://rest.example:443//", "https://rest.example"),
        ("https://rest.example:8443/eu/v1/", "https://rest.example:8443/eu/v1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost/", "http://localhost"),
        ("http://[::1]:80/x", "http://[::1]/x"),
    ],
)
def test_urls_are_brought_into_normal_form(url: str, normal: str) -> None:
    """One destination has one spelling."""
    assert check_url(url) == normal


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "has no scheme: it starts"),
        ("rest.iad-01.braze.com", "write https://rest.iad-01.braze.com"),
        ("5e7c1f9a-0000-4b1d", "has no scheme: it starts"),
        ("user:pw@rest.example", "has no scheme: it starts"),
        ("https://", "has no host"),
        ("https://:443", "has no host"),
        ("https://rest.example:99999", "cannot be read"),
        ("https://rest.example:port", "cannot be read"),
        ("https://[::1", "cannot be read"),
        ("https://rest.example:0", "port 0"),
        ("https://user:pw@rest.example", "user or password"),
        ("https://pw@rest.example", "user or password"),
        ("https://rest.example/?api_key=pw", "query or fragment"),
        ("https://rest.example?", "query or fragment"),
        ("https://rest.example/#pw", "query or fragment"),
        ("ftp://rest.example", "neither https nor http"),
        ("http://rest.example", "--allow-http"),
        ("http://localhost.example", "--allow-http"),
        ("http://127.0.0.1.example", "--allow-http"),
    ],
)
def test_a_bad_url_is_explained(url: str, says: str) -> None:
    """The sentence says what to do, and shows no credential."""
    with pytest.raises(ConfigError) as caught:
        check_url(url)
    assert says in str(caught.value)
    assert "pw" not in str(caught.value)
    assert "5e7c" not in str(caught.value)


def test_plain_http_may_be_allowed() -> None:
    """Whoever owns the network may say so."""
    assert check_url("http://rest.example/", allow_http=True) == "http://rest.example"
