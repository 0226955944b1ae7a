"""Our own client against real sockets that misbehave, on both event loops."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ingest.outcomes import Lost, Reply, Response, Unsent
from ingest.sinks.base import Request
from ingest.sinks.http import check_url
from ingest.sinks.http_settings import HttpSettings
from tests.sinks.raw_server import RawServer, Talk, answering, http, read_request, reset, serving

pytest.importorskip("httptools")
from ingest.sinks.direct import Direct

REQUEST = Request("POST", "/users/track", (("Content-Type", "application/json"),), b"{}")
LARGE = Request("POST", "/users/track", REQUEST.headers, b"x" * 8_000_000)
BRIEF = HttpSettings(read=0.3, total=0.9)
"""Not so brief that a machine that stands still for a moment makes no connection in it."""

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine on an event loop, and let nothing be left behind."""
    factory = None
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop

    def runner(main: Coroutine[Any, Any, None]) -> None:
        complaints: list[dict[str, Any]] = []

        async def watched() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, told: complaints.append(told))
            await asyncio.wait_for(main, 10)

        gc.freeze()  # only what comes from here on is looked at below
        with asyncio.Runner(loop_factory=factory) as made:
            made.run(watched())
        gc.collect()  # what was not closed says so now
        gc.unfreeze()
        assert complaints == []

    return runner


@asynccontextmanager
async def opened(url: str, settings: HttpSettings | None = None) -> AsyncIterator[Direct]:
    """Open a client for a block, and see that nothing is left of it."""
    client = Direct(url, settings or HttpSettings())
    try:
        yield client
    finally:
        await client.aclose()
        assert (client._open, client._making, client._timer) == (set(), set(), None)


def each(talk: Talk) -> Callable[[RawServer], Talk]:
    """Talk the same way on every connection."""
    return lambda server: talk


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing, ever."""
    await asyncio.Event().wait()


async def until(what: Callable[[], object]) -> None:
    """Let the event loop turn until something is so."""
    while not what():  # noqa: ASYNC110  # no event tells
        await asyncio.sleep(0)


async def reply_to(said: bytes, how: str = "close", settings: HttpSettings | None = None) -> Reply:
    """Return the reply to a request that is answered by these bytes, and then by an end."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(said)
        await writer.drain()
        if how == "reset":
            await asyncio.sleep(0.02)  # a reset overtakes what was not read yet
            reset(writer)
        elif how == "silence":
            await asyncio.Event().wait()

    async with serving(each(talk)) as server, opened(server.url, settings) as client:
        return await client.send(REQUEST)


# --- what an answer is, and whose ---------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
def test_an_answer_that_nobody_asked_for_is_nobodys(run: Run, together: bool) -> None:
    """A second answer, at once or later, ends the connection, and the next request has its own."""

    async def main() -> None:
        more = asyncio.Event()

        def of(server: RawServer) -> Talk:
            async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                number = server.connections
                await read_request(reader)
                writer.write(http(200, b"%d" % number) + (http(500) if together else b""))
                await more.wait()
                writer.write(b"" if together else http(500))
                await reader.read()

            return talk

        async with serving(of) as server, opened(server.url) as client:
            for number in (1, 2):
                reply = await client.send(REQUEST)
                assert isinstance(reply, Response)
                assert (reply.status, reply.body) == (200, b"%d" % number)
                more.set()
                await until(lambda: not client.idle)

    run(main())


def test_what_comes_before_a_request_is_not_its_answer(run: Run) -> None:
    """A server that speaks first is no HTTP server, and no byte of the request left for it."""

    async def main() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(http(200))
            await read_request(reader)

        async with serving(each(talk)) as server, opened(server.url) as client:
            client._move_to(asyncio.get_running_loop())
            connection = await client._new()
            assert not isinstance(connection, Unsent)
            await until(lambda: not connection.ready)
            assert isinstance(await client.send(REQUEST), Lost | Unsent | Response)

    run(main())


@pytest.mark.parametrize(
    ("said", "how", "expected"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" + http(201, b"a"), "silence", (201, b"a", False)),
        (
            b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw",
            "silence",
            (101, b"", False),
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nabc", "close", (200, b"abc", False)),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", "reset", (200, b"abc", True)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", "close", (200, b"abc", True)),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "close",
            (200, b"abc", True),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz",
            "silence",
            (200, b"abc", True),
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "close", "closed the connection before it answered"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "silence", "did not answer in time"),
        (b"HTTP/1.1 200 OK\r\nContent-L", "close", "closed the connection before it answered"),
        (b"HTTP/1.1 200 OK\r\nContent-L", "reset", "broke: Connection reset by peer"),
        (b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 90_000, "silence", "is not HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "silence",
            "is not HTTP",
        ),
        (b"\x16\x03\x01\x02\x00", "silence", "is not HTTP"),
    ],
)
def test_how_an_answer_may_end(run: Run, said: bytes, how: str, expected: Any) -> None:
    """Its status counts as soon as it is whole; before that the request is lost."""

    async def main() -> None:
        reply = await reply_to(said, how, BRIEF if how == "silence" else None)
        if isinstance(reply, Response):
            assert (reply.status, reply.body, reply.truncated) == expected
        else:
            assert isinstance(reply, Lost)
            assert reply.reason.endswith(expected)

    run(main())


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1", "close"])
def test_which_connections_are_kept(run: Run, version: str) -> None:
    """HTTP/1.0 keeps one only if it says so, HTTP/1.1 unless it says not."""

    async def main() -> None:
        close = b"Connection: close\r\n" if version == "close" else b""
        line = b"HTTP/1.0" if version == "HTTP/1.0" else b"HTTP/1.1"
        said = line + b" 200 OK\r\n" + close + b"Content-Length: 0\r\n\r\n"
        async with serving(answering(said)) as server, opened(server.url) as client:
            assert isinstance(await client.send(REQUEST), Response)
            assert client.idle == (version == "HTTP/1.1")

    run(main())


def test_an_answer_that_ends_with_its_connection_while_the_request_is_written(run: Run) -> None:
    """The end of the answer is noticed at once, though nobody reads the rest of the request."""

    async def main() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 X\r\n\r\ntoo large")
            writer.write_eof()
            await asyncio.Event().wait()

        async with serving(each(talk)) as server, opened(server.url) as client:
            reply = await client.send(LARGE)
            assert isinstance(reply, Response)
            assert (reply.status, reply.body, reply.truncated) == (413, b"too large", False)

    run(main())


# --- time ---------------------------------------------------------------------------------------


def test_a_slow_upload_is_no_silence(run: Run) -> None:
    """As long as bytes leave the patience for silence is not used up."""

    async def main() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            left = len(huge.body)
            while left:
                left -= len(await reader.read(400_000))
                await asyncio.sleep(0.02)
            writer.write(http(201))

        huge = Request("POST", "/", (), LARGE.body * 4)
        settings = HttpSettings(read=1.0, total=30.0)
        async with serving(each(talk)) as server, opened(server.url, settings) as client:
            reply = await client.send(huge)
            assert isinstance(reply, Response)

    run(main())


def test_a_dripping_head_ends_with_the_total_time(run: Run) -> None:
    """A byte now and then is no silence, and no reason to wait for ever."""

    async def main() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nX-A: ")
            while True:
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.01)

        async with serving(each(talk)) as server, opened(server.url, BRIEF) as client:
            assert isinstance(await client.send(REQUEST), Lost)

    run(main())


def test_the_total_time_covers_the_connection(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a name has waited already."""

    async def main() -> None:
        async def never(client: Direct) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(Direct, "_resolve", never)
        async with opened("http://127.0.0.1:9", HttpSettings(connect=60, total=0.05)) as client:
            assert await client.send(REQUEST) == Unsent(
                "no connection to 127.0.0.1:9 within 0.05 s"
            )

    run(main())


def test_idle_connections_are_closed_and_the_clock_rests(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that nobody uses goes after its time, and so does the timer after the last."""
    monkeypatch.setattr("ingest.sinks.connection.KEEP_ALIVE_SECONDS", 0.2)

    async def main() -> None:
        served = serving(answering(http(200), http(200)))
        async with served as server, opened(server.url, HttpSettings(read=0.5)) as client:
            await client.send(REQUEST)
            assert client.idle == 1
            await until(lambda: client._timer is None)
            assert (client.idle, client._open) == (0, set())

    run(main())


def test_a_connection_that_may_be_dying_is_not_used(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is due to be closed is not given another request in its last moment."""
    monkeypatch.setattr("ingest.sinks.direct.KEEP_ALIVE_SECONDS", 0.0)

    async def main() -> None:
        async with serving(answering(http(200), http(200))) as server:
            async with opened(server.url) as client:
                await client.send(REQUEST)
                await client.send(REQUEST)
            assert server.connections == 2

    run(main())


# --- giving up ----------------------------------------------------------------------------------


async def held_back(client: Direct) -> Any:
    """Ask a resolver that does not answer."""
    await asyncio.Event().wait()


@asynccontextmanager
async def stuck(where: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Direct]:
    """Make a client whose next request does not get beyond a point."""
    if where == "name":
        monkeypatch.setattr(Direct, "_resolve", held_back)
    if where == "connection":
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            port = listener.getsockname()[1]
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            async with opened(f"http://127.0.0.1:{port}") as client:
                yield client
            for filler in fillers:
                filler.close()
        return
    async with serving(each(silent)) as server:
        url = server.tls_url if where == "TLS" else server.url
        async with opened(url) as client:
            yield client


TURNS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 50)
"""Of the event loop, before something is given up."""

WHERE = ["name", "connection", "TLS", "answer"]


@pytest.mark.parametrize("where", WHERE)
def test_a_request_may_be_cancelled_anywhere(
    run: Run, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cancelled then, and nothing stays open."""

    async def main() -> None:
        async with stuck(where, monkeypatch) as client:
            for turns in TURNS:
                sending = asyncio.ensure_future(client.send(REQUEST))
                for _ in range(turns):
                    await asyncio.sleep(0)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                await until(lambda: not client._making)
                # One that was made in that moment is kept for the next request.
                assert all(connection.ready for connection in client._resting)
                await client.aclose()
                assert client._open == set()

    run(main())


@pytest.mark.parametrize("where", WHERE)
def test_a_client_may_be_closed_anywhere(
    run: Run, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for a reply gets one, unsent if no byte left. Closing twice is closing."""

    async def main() -> None:
        async with stuck(where, monkeypatch) as client:
            for turns in TURNS:
                sending = [asyncio.ensure_future(client.send(REQUEST)) for _ in range(3)]
                for _ in range(1 + turns):
                    await asyncio.sleep(0)
                await asyncio.gather(client.aclose(), client.aclose())
                for reply in await asyncio.gather(*sending):
                    assert isinstance(reply, Lost | Unsent if where == "answer" else Unsent)

    run(main())


def test_who_gives_up_in_the_moment_of_the_answer_takes_nobody_along(run: Run) -> None:
    """The connection serves another request by then, which has its answer."""

    async def main() -> None:
        async with serving(answering(http(200, b"1"), http(200, b"2"), http(200, b"3"))) as server:
            async with opened(server.url) as client:
                await client.send(REQUEST)
                first = asyncio.ensure_future(client.send(REQUEST))
                await until(lambda: not client._resting)
                await until(lambda: client._resting)  # answered, and not yet woken up
                second = asyncio.ensure_future(client.send(REQUEST))
                first.cancel()
                reply = await second
                with pytest.raises(asyncio.CancelledError):
                    await first
                assert isinstance(reply, Response)
                assert reply.body == b"3"
            assert server.connections == 1

    run(main())


def test_a_client_may_be_used_again_and_in_another_loop(run: Run) -> None:
    """What is closed opens again; what an ended loop left behind is forgotten."""
    client: list[Direct] = []

    async def main() -> None:
        async with serving(answering(http(200), http(200))) as server:
            await Direct(server.url, HttpSettings()).aclose()  # never used
            client.append(Direct(server.url, HttpSettings()))
            assert isinstance(await client[0].send(REQUEST), Response)
            await client[0].aclose()
            assert isinstance(await client[0].send(REQUEST), Response)
            await client[0].aclose()

    async def elsewhere() -> None:
        assert isinstance(await client[0].send(REQUEST), Unsent)  # the server is gone
        await client[0].aclose()

    run(main())
    run(elsewhere())
    run(client[0].aclose())


# --- where there is no connection ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EMFILE, "x"), "cannot be reached: Too many open files"),
        (
            OSError("Multiple exceptions: [Errno 101] x, [Errno 111] y"),
            "cannot be reached: OSError",
        ),
        (RuntimeError("File descriptor 7 is used by transport"), "cannot be reached: RuntimeError"),
        (TimeoutError(errno.ETIMEDOUT, "x"), "no connection to 127.0.0.1:9 within 10 s"),
    ],
)
def test_no_socket_is_unsent(
    run: Run, error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the way to a connection raises, no byte left, and nobody is shown its text."""

    async def refuse(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr("aiohappyeyeballs.start_connection", refuse)

    async def main() -> None:
        async with opened("http://127.0.0.1:9") as client:
            reply = await client.send(REQUEST)
            assert isinstance(reply, Unsent)
            assert reply.reason.endswith(reason)

    run(main())


def test_a_socket_that_the_loop_does_not_take_is_closed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error between a socket and a connection leaves no socket open."""

    async def main() -> None:
        async with serving(each(silent)) as server, opened(server.url) as client:
            client._move_to(asyncio.get_running_loop())

            class Loop:
                def __getattr__(self, name: str) -> Any:
                    return getattr(asyncio.get_running_loop(), name)

                async def create_connection(self, factory: object, sock: object) -> Any:
                    raise OSError(errno.EINVAL, "x")

            client._loop = Loop()
            assert isinstance(await client._make(), Unsent)

    run(main())


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_a_name_that_cannot_be_one_is_unsent(run: Run, host: str) -> None:
    """Python's codec for names raises no OSError."""

    async def main() -> None:
        async with opened(f"http://{host}") as client:
            reply = await client.send(REQUEST)
            assert isinstance(reply, Unsent)
            assert "was not found" in reply.reason

    run(main())


def test_a_name_is_asked_for_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever comes first, also if he gives up; failing is not remembered."""
    asked: list[asyncio.Future[Any]] = []

    async def lookup(client: Direct) -> Any:
        asked.append(asyncio.get_running_loop().create_future())
        return await asked[-1]

    monkeypatch.setattr(Direct, "_resolve", lookup)

    async def main() -> None:
        async with opened("http://127.0.0.1:9") as client:
            sending = [asyncio.ensure_future(client.send(REQUEST)) for _ in range(3)]
            await until(lambda: asked)
            sending[0].cancel()
            asked[0].set_exception(socket.gaierror(1, "x"))
            replies = await asyncio.gather(*sending, return_exceptions=True)
            assert isinstance(replies[0], asyncio.CancelledError)
            assert all("was not found" in str(reply) for reply in replies[1:])
            alone = asyncio.ensure_future(client.send(REQUEST))
            await until(lambda: len(asked) == 2)
            alone.cancel()
            await asyncio.sleep(0)
            asked[1].set_exception(socket.gaierror(1, "nobody waits for this"))
            with pytest.raises(asyncio.CancelledError):
                await alone

    run(main())


# --- how a request looks ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://localhost:80", "localhost"),
        ("https://REST.example:443/eu", "rest.example"),
        ("https://rest.example:8443", "rest.example:8443"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("https://b\u00fccher.example", "xn--bcher-kva.example"),
    ],
)
def test_the_host_is_named_as_the_rules_want(url: str, host: str) -> None:
    """Without the port that goes without saying, and in the letters of names."""
    client = Direct(check_url(url), HttpSettings())
    head = client._head("POST", "/x", ())
    assert f"\r\nHost: {host}\r\n".encode() in head


@pytest.mark.parametrize("path", ["/x\r\nX-A: 1", "/x\n", "/\r"])
def test_a_line_break_is_never_sent(path: str) -> None:
    """Nothing that a request is made of can begin a header of its own."""
    client = Direct("http://127.0.0.1", HttpSettings())
    for parts in (("POST", path, ()), ("POST", "/x", (("X-A", path),)), (path, "/x", ())):
        with pytest.raises(ValueError, match="line break"):
            client._head(*parts)


def test_heads_are_bounded() -> None:
    """Headers that change with each request do not pile up."""
    client = Direct("http://127.0.0.1", HttpSettings())
    for number in range(200):
        client._head("POST", "/x", (("X-N", str(number)),))
    assert len(client._heads) <= 64


def test_an_address_of_the_sixth_kind(run: Run) -> None:
    """A literal IPv6 address is connected to, and named in brackets."""

    async def main() -> None:
        try:
            serve = serving(answering(http(200)), host="::1")
            server = await serve.__aenter__()
        except OSError:
            pytest.skip("this machine has no IPv6")
        async with opened(f"http://[::1]:{server.port}") as client:
            assert isinstance(await client.send(REQUEST), Response)
        assert f"Host: [::1]:{server.port}\r\n".encode() in server.requests[0][0]
        await serve.__aexit__(None, None, None)

    run(main())
