"""Our own client over TLS, against a server with a certificate that is made here."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from ingest.outcomes import Lost, Response, Unsent
from ingest.sinks.base import Request
from ingest.sinks.http_settings import HttpSettings
from tests.sinks.certificates import self_signed
from tests.sinks.raw_server import RawServer, Talk, answering, http, read_request, reset, serving
from tests.sinks.test_direct import LARGE, REQUEST, Run, each, opened, run, until

__all__ = ["run"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate of this machine's address."""
    return self_signed(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")


@pytest.fixture
def tls(
    certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext:
    """Have that certificate trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    certificate[1].set_alpn_protocols(["h2", "http/1.1"])
    return certificate[1]


def test_answers_over_tls(run: Run, tls: ssl.SSLContext) -> None:
    """They are the same, a connection is kept, and no other protocol is agreed upon."""
    agreed: list[str | None] = []

    def of(server: RawServer) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            agreed.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
            while True:
                _, body = await read_request(reader)
                writer.write(http(201, body[::-1]))
                await writer.drain()

        return talk

    async def main() -> None:
        async with serving(of, tls) as server, opened(server.tls_url) as client:
            for body in (b"{}", b"abc", b"x" * 300_000 + b"y"):
                reply = await client.send(Request("POST", "/", (), body))
                assert isinstance(reply, Response)
                assert (reply.status, reply.body, reply.truncated) == (201, body[::-1], False)
            assert (server.connections, client.idle) == (1, 1)
            many = [Request("POST", "/", (), b"%d" % number) for number in range(30)]
            replies = await asyncio.gather(*map(client.send, many))
            for request, reply in zip(many, replies, strict=True):
                assert isinstance(reply, Response)
                assert reply.body == request.body[::-1]

    run(main())
    assert set(agreed) == {"http/1.1"}


@pytest.mark.parametrize("wrong", ["name", "issuer"])
def test_a_certificate_that_is_not_trusted_is_unsent(
    run: Run, wrong: str, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one for another name, nor one that nobody knows; no byte leaves."""
    if wrong == "issuer":
        monkeypatch.delenv("SSL_CERT_FILE")

    async def main() -> None:
        async with serving(answering(http(201)), tls) as server:
            host = "localhost" if wrong == "name" else "127.0.0.1"
            async with opened(f"https://{host}:{server.port}") as client:
                reply = await client.send(REQUEST)
            assert isinstance(reply, Unsent)
            assert reply.reason.startswith(
                f"the certificate of {host}:{server.port} is not trusted"
            )
            assert "mismatch" in reply.reason or "self" in reply.reason
            assert server.requests == []

    run(main())


@pytest.mark.parametrize("how", ["farewell", "cut", "reset"])
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n\r\nabc", http(200, b"abc")[:-1]])
def test_how_a_connection_over_tls_may_end(
    run: Run, how: str, said: bytes, tls: ssl.SSLContext
) -> None:
    """With and without a farewell, before, in and after an answer: the reply comes at once."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(said)
        await writer.drain()
        await asyncio.sleep(0.02)
        if how == "reset":
            reset(writer)
        elif how == "cut":
            writer.transport.abort()

    async def main() -> None:
        async with serving(each(talk), tls) as server, opened(server.tls_url) as client:
            reply = await client.send(REQUEST)
        if not said:
            assert isinstance(reply, Lost)
            return
        assert isinstance(reply, Response)
        assert reply.status == 200
        # An end is no error but for the network: an answer without a length ends with it.
        assert reply.truncated == (b"Length" in said or how == "reset")

    run(main())


def test_a_slow_upload_over_tls_is_no_silence(run: Run, tls: ssl.SSLContext) -> None:
    """What TLS has handed on, and the network has not taken yet, is seen to leave."""
    huge = Request("POST", "/", (), LARGE.body * 4)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        left = len(huge.body)
        while left:
            left -= len(await reader.read(400_000))
            await asyncio.sleep(0.004)
        writer.write(http(201))
        await writer.drain()

    async def main() -> None:
        settings = HttpSettings(read=1.0, total=30.0)
        async with serving(each(talk), tls) as server, opened(server.tls_url, settings) as client:
            assert isinstance(await client.send(huge), Response)

    run(main())


def test_an_answer_over_tls_before_the_whole_body_was_read(run: Run, tls: ssl.SSLContext) -> None:
    """The connection on which the rest of a body waits is not used again."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(413, b"too large"))
        await writer.drain()
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(each(talk), tls) as server, opened(server.tls_url) as client:
            for _ in range(2):
                reply = await client.send(LARGE)
                assert isinstance(reply, Response)
                assert (reply.status, reply.body, client.idle) == (413, b"too large", 0)
            assert server.connections == 2

    run(main())


def test_an_idle_connection_over_tls_is_closed(
    run: Run, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the far end never says farewell: asking twice must not keep it from being cut."""
    monkeypatch.setattr("ingest.sinks.connection.KEEP_ALIVE_SECONDS", 0.3)
    monkeypatch.setattr("ingest.sinks.direct.FAREWELL_SECONDS", 0.2)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http(200))
        await writer.drain()
        transport: Any = writer.transport
        transport.pause_reading()  # hears no farewell
        try:
            await asyncio.Event().wait()
        finally:
            transport.abort()

    async def main() -> None:
        settings = HttpSettings(read=0.1)
        async with serving(each(talk), tls) as server, opened(server.tls_url, settings) as client:
            assert isinstance(await client.send(REQUEST), Response)
            await until(lambda: not client.idle)
            assert client._open != set()  # the farewell
            await until(lambda: not client._open)

    run(main())


def test_cancelling_during_the_handshake(run: Run, tls: ssl.SSLContext) -> None:
    """In whichever turn of the loop: nothing is left, and the next request has its answer."""

    def of(server: RawServer) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                _, body = await read_request(reader)
                writer.write(http(201, body))
                await writer.drain()

        return talk

    async def main() -> None:
        async with serving(of, tls) as server, opened(server.tls_url) as client:
            for turns in range(40):
                sending = asyncio.ensure_future(client.send(REQUEST))
                for _ in range(turns):
                    await asyncio.sleep(0.0005 if turns % 2 else 0)
                sending.cancel()
                again = Request("POST", "/", (), b"%d" % turns)
                reply = await client.send(again)
                assert isinstance(reply, Response)
                assert reply.body == again.body
                if turns % 3 == 0:
                    await client.aclose()
                await asyncio.gather(sending, return_exceptions=True)

    run(main())
