"""The HTTP intake: `POST /v1/records` into a spool, and the pages of a worker beside it.

Decides who may post, and in which order a request is judged, kept, remembered and answered: 202 and
207 are said once every line that is kept is durable. What a body holds and how answers look,
`ingest.posts` says; how many there may be at once, `bodies` and `watching`; how lines are kept, and
what becomes of them, others know.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from typing import Any, Final, Protocol

import msgspec
from aiohttp import ClientError, web
from aiohttp.http_exceptions import BadHttpMessage

from ingest.codec import dumps
from ingest.errors import ConfigError, LocalFailure
from ingest.judging import Judge
from ingest.posts import (
    Form,
    Line,
    Posted,
    Remembered,
    Unreadable,
    accepted,
    error_of,
    form_of,
    hash_of,
    key_of,
    lines_of,
    note_of,
    verdicts,
    waits_of,
)
from ingest.segments import SpoolFull, SpoolRules
from ingest.seldom import Seldom
from ingest.sources.bodies import Budget, Hold, too_large, whole
from ingest.sources.http_settings import HttpIntakeSettings, check
from ingest.sources.watching import Watched, Watcher, Watching
from ingest.taken import Refusal

log = logging.getLogger("ingest")

PATH: Final = "/v1/records"

MOST_REQUESTS: Final = 1_000
"""Requests at work at once: each holds a connection, and processes commonly get 1,024 files."""

BODY_SECONDS: Final = 60.0
"""How long a body may take: while it comes, it holds its share of the budget."""

RETRY_SECONDS: Final = 5
"""What is said to whom there was no room for: a spool has room again when a segment is settled."""

KEEP_ALIVE_SECONDS: Final = 75.0
"""How long a connection without a request is kept: longer than load balancers do (60 s)."""

JUDGED_AT_ONCE: Final = 256
"""Lines judged before others get their turn: about half a millisecond, or 10 ms of bad ones."""

IN_THREAD_BYTES: Final = 256_000
"""Bytes of a body from which it is taken apart in a thread: below that the hop costs more."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Spool(Protocol):
    """What is asked of a spool; see `ingest.state.spool`."""

    @property
    def rules(self) -> SpoolRules: ...
    def append(self, lines: Sequence[bytes], note: bytes = b"") -> Any: ...
    async def durable(self, appended: Any) -> None: ...


class Keys(Protocol):
    """What is asked of the memory of keys; see `ingest.state.keys`."""

    async def find(self, key: str) -> Remembered | None: ...
    def remember(self, request: Remembered, place: tuple[int, int]) -> None: ...


class HttpIntake:
    """Takes posts in. `async with` it, or `start`, `stop` and `aclose`. Raises `ConfigError`.

    `judge` says which lines are refused; `refused` is told of those that were, once, when the
    others are kept. `watching.watcher` is to be set whenever another driver reads. `pages` are
    served beside it, to anybody. `wall` is the time of day in epoch seconds.
    """

    def __init__(
        self,
        spool: Spool,
        judge: Judge,
        keys: Keys,
        *,
        settings: HttpIntakeSettings | None = None,
        refused: Callable[[Sequence[Refusal]], None] = lambda refusals: None,
        watcher: Watcher | None = None,
        pages: Mapping[str, Handler] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings = settings or HttpIntakeSettings()
        check(settings, spool.rules)
        self.watching = Watching(watcher)
        self.by_status: Counter[int] = Counter()
        self.accepted = 0
        self._spool = spool
        self._judge = judge
        self._keys = keys
        self._refused = refused
        self._pages = dict(pages or {})
        self._wall = wall
        self._warn = Seldom(log.warning)
        self._token = (settings.token or "").encode()
        self._budget = Budget(settings.memory, MOST_REQUESTS)
        self._working: dict[str, tuple[str, asyncio.Future[Posted | None]]] = {}
        self._stopped = False
        self._runner: web.AppRunner | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """`http://host:port` without a slash at the end; empty before `start`."""
        return self._url

    @property
    def memory_used(self) -> int:
        """Bytes of the budget for bodies that are in use."""
        return self._budget.used

    async def start(self) -> None:
        """Listen. Raises `ConfigError` when the address cannot be had."""
        app = web.Application(middlewares=[_told])
        app.router.add_post(PATH, self._post)
        for path, page in self._pages.items():
            app.router.add_get(path, page)
        # Bodies are inflated here, where each step is measured. A caller that hangs up does not
        # stop what it began, for that may be kept already.
        runner = web.AppRunner(
            app, access_log=None, auto_decompress=False, keepalive_timeout=KEEP_ALIVE_SECONDS
        )
        await runner.setup()
        host, port = self.settings.host, self.settings.port
        try:
            await web.TCPSite(runner, host, port, backlog=1024).start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(
                f"cannot listen on {host}:{port} ({error.strerror}): choose another host or port"
            ) from error
        self._runner = runner
        name = f"[{host}]" if ":" in host else host
        self._url = f"http://{name}:{runner.addresses[0][1]}"

    def stop(self) -> None:
        """Take no more posts (503, and the connection is closed); the pages go on."""
        self._stopped = True

    async def aclose(self) -> None:
        """Finish what was taken, and close; what still waits for verdicts is told `pending`."""
        self.stop()
        self.watching.hurry()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> HttpIntake:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    # A request

    async def _post(self, request: web.Request) -> web.StreamResponse:
        try:
            response = await self._answer(request)
        except Unreadable as error:
            response = _error(error.status, str(error))
            if error.status == 401:
                response.headers["WWW-Authenticate"] = "Bearer"
        except SpoolFull as error:
            self._warn(f"posts are answered with 503: {error}")
            response = _error(503, f"{error}. Nothing of the request was kept: send it again")
        except LocalFailure as error:
            # What failed is this machine's, and told here; the caller can only try again.
            self._warn(f"posts are answered with 503: {error}")
            response = _error(503, "the intake cannot keep anything now: send the request again")
        except (ClientError, BadHttpMessage, ConnectionError):
            response = _error(400, "the request broke off")
        if response.status == 503:
            response.headers["Retry-After"] = str(RETRY_SECONDS)
        if self._stopped or not request.content.at_eof():
            response.force_close()
        self.by_status[response.status] += 1
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        if self._stopped:
            raise Unreadable(503, "the intake is being stopped: send the request again")
        self._authorize(request)
        seconds = waits_of(request.query)
        if seconds is not None:
            self.watching.check(0)
        form = form_of(request.headers.get("Content-Type", ""))
        header = request.headers.get("Idempotency-Key")
        key = None if header is None else key_of(header, self.settings.token or "")
        with self._budget.hold() as hold:
            body = await self._read(request, hold)
            if key is None:
                posted = await self._accept(await _lines_of(form, body), None, seconds, hold)
            else:
                posted = await self._keyed(form, body, key, seconds, hold)
        return _json(posted.status, posted.body)

    def _authorize(self, request: web.Request) -> None:
        if not self._token:
            return
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._token):
            raise Unreadable(401, "the request needs the header  Authorization: Bearer TOKEN")

    async def _read(self, request: web.Request, hold: Hold) -> bytes:
        """Return the body, inflated. Raises `Unreadable`."""
        encoding = request.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise Unreadable(415, "the Content-Encoding must be gzip, or none")
        limit = self.settings.body_bytes
        if (request.content_length or 0) > limit:
            raise too_large(limit)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                chunks = request.content.iter_any()
                return await whole(chunks, hold, limit, gzip="gzip" in encoding)
        except TimeoutError:
            raise Unreadable(408, f"the body took longer than {BODY_SECONDS:.0f} s") from None

    # What it holds

    async def _keyed(
        self, form: Form, body: bytes, key: str, seconds: float | None, hold: Hold
    ) -> Posted:
        """Accept a body, unless its key says that it was accepted before, or is being accepted."""
        large = len(body) >= IN_THREAD_BYTES
        mark = await asyncio.to_thread(hash_of, form, body) if large else hash_of(form, body)
        while (working := self._working.get(key)) is not None:
            _same(working[0], mark)
            posted = await asyncio.shield(working[1])
            if posted is not None:
                return posted
        done: asyncio.Future[Posted | None] = asyncio.get_running_loop().create_future()
        self._working[key] = (mark, done)
        posted = None  # as long as nothing of it is kept: then whoever waits tries it himself
        try:
            found = await self._keys.find(key)
            if found is not None:
                _same(found.body, mark)
                posted = found.posted
            else:
                lines = await _lines_of(form, body)
                posted = await self._accept(lines, (key, mark), seconds, hold)
        finally:
            del self._working[key]
            done.set_result(posted)
        return posted

    async def _accept(
        self, lines: Sequence[Line], key: tuple[str, str] | None, seconds: float | None, hold: Hold
    ) -> Posted:
        """Keep the good ones of some lines, and answer."""
        if seconds is not None:
            self.watching.check(len(lines))
        refusals = await self._judged(lines)
        good = [line for line in lines if line.number not in refusals]
        errors = [error_of(number, refusal) for number, refusal in refusals.items()]
        posted = accepted(len(good), errors)
        known = None if key is None else self._remembered(key, posted)
        watched, place = None, (0, 0)
        if good or known is not None:
            note = b"" if known is None else note_of(known)
            watched, place = await self._kept(good, note, watch=seconds is not None)
        if known is not None:
            self._keys.remember(known, place)
        self.accepted += len(good)
        if refusals:
            self._refused(list(refusals.values()))
        if seconds is None:
            return posted
        hold.release()
        ends = {} if watched is None else await self.watching.ended(watched, seconds)
        posted = verdicts(ends, errors)
        if key is not None and posted.status != 202:
            self._keys.remember(self._remembered(key, posted), place)
        return posted

    async def _judged(self, lines: Sequence[Line]) -> dict[int, Refusal]:
        """Return the refusals of lines by their numbers."""
        now = self._wall()
        refusals: dict[int, Refusal] = {}
        for start in range(0, len(lines), JUDGED_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            some = lines[start : start + JUDGED_AT_ONCE]
            for index, refusal in sorted(self._judge([one.text for one in some], now).items()):
                refusals[some[index].number] = refusal
        return refusals

    async def _kept(
        self, lines: Sequence[Line], note: bytes, *, watch: bool
    ) -> tuple[Watched | None, tuple[int, int]]:
        """Keep lines for good; return what waits for their ends, and the place of their end."""
        appended = self._spool.append([line.text for line in lines], note)
        watched = None
        if watch:  # before they are durable: then they may be read at once
            numbers = (line.number for line in lines)
            by_number = dict(zip(numbers, count(appended.line), strict=False))
            watched = self.watching.watch(appended.part, by_number)
        try:
            await self._spool.durable(appended)
        except BaseException:
            if watched is not None:
                self.watching.forget(watched)
            raise
        return watched, (appended.part, appended.end)

    def _remembered(self, key: tuple[str, str], posted: Posted) -> Remembered:
        return Remembered(*key, self._wall(), posted.status, msgspec.Raw(posted.body))


async def _lines_of(form: Form, body: bytes) -> list[Line]:
    """Return the lines of a body; a large one is taken apart in a thread. Raises `Unreadable`."""
    if len(body) < IN_THREAD_BYTES:
        return lines_of(form, body)
    return await asyncio.to_thread(lines_of, form, body)


def _same(known: str, mark: str) -> None:
    """Raise `Unreadable` if a key comes with another body."""
    if known != mark:
        raise Unreadable(
            422, "this Idempotency-Key was used with another body: a key is for one request"
        )


def _error(status: int, sentence: str) -> web.Response:
    return _json(status, dumps({"error": sentence}))


def _json(status: int, body: bytes) -> web.Response:
    """Return a JSON text as an answer; it ends its line, for those who read it at a terminal."""
    return web.Response(status=status, body=body + b"\n", content_type="application/json")


@web.middleware
async def _told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what is found wrong by the server itself in the same form."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = _error(error.status, f"{error.reason}: records go to POST {PATH}")
        if allow := error.headers.get("Allow"):
            response.headers["Allow"] = allow
        return response
