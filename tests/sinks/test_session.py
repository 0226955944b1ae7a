"""What aiohttp's client is told, and what it says, in our words."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses

from ingest.outcomes import Response, Unsent
from ingest.sinks.base import Request
from ingest.sinks.http_settings import HttpSettings
from ingest.sinks.session import Session, _Body

REQUEST = Request("POST", "/users/track", (("Content-Type", "application/json"),), b"{}")


@pytest.mark.asyncio
async def test_header_sets_are_bounded() -> None:
    """Headers that change with each request do not pile up."""
    with aioresponses() as mock:
        mock.post("https://rest.example/users/track", status=201, repeat=True)
        session = Session("https://rest.example", HttpSettings())
        for n in range(200):
            request = Request("POST", "/users/track", (("X-N", str(n)),), b"{}")
            assert isinstance(await session.send(request), Response)
        assert len(session._headers) <= 64
        await session.aclose()


HTTPS: Any = SimpleNamespace(host="rest.example", port=443, ssl=True, is_ssl=True)
"""What aiohttp's errors want to know of a connection."""


def untrusted() -> ssl.SSLCertVerificationError:
    """Make the error of a certificate that nobody signed."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (aiohttp.ClientConnectorCertificateError(HTTPS, untrusted()), "self-signed certificate"),
        (aiohttp.ClientConnectorCertificateError(HTTPS, ValueError()), "does not fit the name"),
        (aiohttp.ClientConnectorError(HTTPS, OSError("no number")), "cannot be reached: OSError"),
        (aiohttp.ServerDisconnectedError(), "closed the connection before it answered"),
        (aiohttp.ClientOSError(104, "x"), "broke: Connection reset by peer"),
        (aiohttp.ClientError("secret text"), "failed: ClientError"),
        (TimeoutError(), "no connection to rest.example within 10 s"),
    ],
)
async def test_an_error_is_a_sentence(error: Exception, reason: str) -> None:
    """What the library raises is told in our words, never in its own."""
    with aioresponses() as mock:
        mock.post("https://rest.example/users/track", exception=error)
        session = Session("https://rest.example", HttpSettings())
        reply = await session.send(REQUEST)
        await session.aclose()
    assert isinstance(reply, Unsent)
    assert reason in reply.reason
    assert "secret" not in reply.reason


@pytest.mark.asyncio
async def test_a_body_is_left_only_by_a_write_that_may_succeed() -> None:
    """A closing transport takes no byte, and aiohttp says so by an error."""

    class Writer:
        def __init__(self, transport: object) -> None:
            self.transport = transport

        async def write(self, chunk: bytes) -> None:
            self.wrote = chunk

    for transport, left in (
        (None, False),
        (SimpleNamespace(is_closing=lambda: True), False),
        (SimpleNamespace(is_closing=lambda: False), True),
    ):
        body = _Body(b"{}")
        writer: Any = Writer(transport)
        await body.write_with_length(writer, 2)
        assert (body.left, body.size, body.decode(), writer.wrote) == (left, 2, "{}", b"{}")
