"""An intake keeps what it said it kept, refuses with a sentence, and never takes more than fits."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientResponse, ClientSession, web

from ingest import posts
from ingest.codec import dumps, loads
from ingest.errors import ConfigError, LocalFailure
from ingest.intake import IntakeRules
from ingest.judging import LineJudge
from ingest.segments import SpoolRules
from ingest.sources import http
from ingest.sources.http import HttpIntake
from ingest.sources.http_settings import BODY_BYTES, MEMORY, HttpIntakeSettings, token_from
from ingest.state.keys import Keys
from ingest.state.spool import Spool
from ingest.taken import Refusal

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}
PATIENCE = 20.0


def record(number: int = 1) -> dict[str, Any]:
    """A good record."""
    event = {"external_id": f"u{number}", "name": "n", "time": "2026-01-31T12:00:00Z"}
    return {"event": event}


def lines(*numbers: int) -> bytes:
    """Good lines."""
    return b"\n".join(dumps(record(number)) for number in numbers)


class End(msgspec.Struct, frozen=True):
    """An end of a record."""

    column: str = "delivered"
    code: str = ""
    field: str = ""
    reason: str = ""


class Driver:
    """Who knows the ends of lines."""

    def __init__(self) -> None:
        self.watched: dict[tuple[int, int], asyncio.Future[list[End]]] = {}
        self.asked = asyncio.Event()

    def watch(self, part: int, line: int) -> Awaitable[list[End]]:
        self.watched[part, line] = future = asyncio.get_running_loop().create_future()
        self.asked.set()
        return future

    def forget(self, part: int, line: int) -> None:
        del self.watched[part, line]


class Held:
    """A spool whose disk is as slow as the test wants, or as broken."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.rules = spool.rules
        self.open = asyncio.Event()
        self.waiting = asyncio.Event()
        self.failure: LocalFailure | None = None

    def append(self, lines: Sequence[bytes], note: bytes = b"") -> Any:
        return self.spool.append(lines, note)

    async def durable(self, appended: Any) -> None:
        self.waiting.set()
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        await self.spool.durable(appended)


def slow(held: list[Held]) -> Callable[[Spool], Held]:
    """Return what puts a slow disk under a spool, and into a list."""

    def wrapped(spool: Spool) -> Held:
        held.append(Held(spool))
        return held[0]

    return wrapped


async def until(condition: Callable[[], Any]) -> None:
    """Return when something is so; the test has an end of its own."""
    for _ in itertools.repeat(None):
        if condition():
            return
        await asyncio.sleep(0)


class Served:
    """An intake with its spool, and a client of it."""

    def __init__(self, intake: HttpIntake, spool: Spool, client: ClientSession) -> None:
        self.intake = intake
        self.spool = spool
        self.client = client
        self.refused: list[Refusal] = []

    async def post(
        self, body: Any, headers: Mapping[str, str] = NDJSON, query: str = ""
    ) -> tuple[int, Any]:
        """Post, and return the status and the JSON of the answer, which ends its line."""
        async with self.client.post(
            f"{self.intake.url}/v1/records{query}", data=body, headers=headers
        ) as answer:
            body = await answer.read()
            assert body.endswith(b"}\n")
            assert answer.content_type == "application/json"
            return answer.status, loads(body)

    def kept(self) -> list[bytes]:
        """The lines in the spool."""
        data = b""
        for part in self.spool.sizes:
            offset = 0
            while offset < self.spool.end(part):
                piece, offset = self.spool.piece(part, offset, 1_000)
                data += piece
        return [line for line in data.split(b"\n") if line]


@asynccontextmanager
async def served(
    directory: Path,
    *,
    rules: SpoolRules | None = None,
    wrapped: Callable[[Spool], Any] = lambda spool: spool,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Served]:
    """Serve an intake over a new or an old spool."""
    spool = Spool(directory / "spool", rules, power_safe=False)
    keys = Keys(directory, spool.id)
    keys.recover(spool.notes(keys.mark))
    made: list[Served] = []
    intake = HttpIntake(
        wrapped(spool),
        LineJudge(IntakeRules()),
        keys,
        settings=HttpIntakeSettings(port=0, **(settings or {})),
        refused=lambda refusals: made[0].refused.extend(refusals),
        **options,
    )
    async with ClientSession() as client, asyncio.timeout(PATIENCE):
        made.append(Served(intake, spool, client))
        async with intake:
            yield made[0]
    await keys.aclose()
    await spool.aclose()


@pytest.mark.asyncio
async def test_good_lines_are_kept_and_counted(tmp_path: Path) -> None:
    """In both forms; blank lines are none."""
    async with served(tmp_path) as it:
        assert await it.post(lines(1, 2) + b"\n\n") == (202, {"accepted": 2})
        assert await it.post(dumps([record(3)]), JSON) == (202, {"accepted": 1})
        assert await it.post(b"[]", JSON) == (202, {"accepted": 0})
        assert it.kept() == lines(1, 2, 3).split(b"\n")
        assert (it.intake.accepted, it.intake.memory_used) == (3, 0)


@pytest.mark.asyncio
async def test_bad_lines_are_answered_and_not_kept(tmp_path: Path) -> None:
    """The good ones beside them are; whoever counts is told of the bad ones once."""
    async with served(tmp_path) as it:
        status, answer = await it.post(lines(1) + b"\nnonsense\n" + lines(2))
        assert (status, answer["accepted"], answer["invalid"]) == (207, 2, 1)
        assert [(error["line"], error["code"]) for error in answer["errors"]] == [(2, "not-json")]
        assert it.kept() == lines(1, 2).split(b"\n")
        status, answer = await it.post(b"[7]", JSON)
        assert (status, answer["accepted"], answer["invalid"]) == (207, 0, 1)
        assert [refusal.code for refusal in it.refused] == ["not-json", "not-an-object"]


@pytest.mark.asyncio
async def test_more_lines_than_are_judged_at_once_keep_their_numbers(tmp_path: Path) -> None:
    """Also those of a body that is taken apart in a thread."""
    good = lines(*range(4_000)).split(b"\n")
    good[3_000] = b"nonsense"
    async with served(tmp_path) as it:
        body = b"\n".join(good)
        assert len(body) > http.IN_THREAD_BYTES
        status, answer = await it.post(body, NDJSON | {"Idempotency-Key": "k"})
        assert (status, answer["accepted"]) == (207, 3_999)
        assert [error["line"] for error in answer["errors"]] == [3_001]
        assert len(it.kept()) == 3_999


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "headers", "query", "status"),
    [
        (b"{}", {"Content-Type": "text/plain"}, "", 415),
        (b"{}", NDJSON | {"Content-Encoding": "br"}, "", 415),
        (b"", NDJSON, "", 400),
        (b"[1", JSON, "", 400),
        (b"not gzip", NDJSON | {"Content-Encoding": "gzip"}, "", 400),
        (gzip.compress(b"{}", mtime=0)[:-4], NDJSON | {"Content-Encoding": "gzip"}, "", 400),
        (b"{}", NDJSON | {"Idempotency-Key": ""}, "", 400),
        (b"{}", NDJSON, "?wait=later", 400),
        (b"{}", NDJSON, "?wait=delivered", 400),
        (b"x" * 2_000, NDJSON, "", 413),
        (gzip.compress(b"x" * 2_000, mtime=0), NDJSON | {"Content-Encoding": "gzip"}, "", 413),
    ],
)
async def test_what_cannot_be_read_is_told_in_a_sentence(
    tmp_path: Path, body: bytes, headers: dict[str, str], query: str, status: int
) -> None:
    """Nothing of it is kept, and its memory is given back."""
    async with served(tmp_path, settings={"body_bytes": 1_000}) as it:
        found, answer = await it.post(body, headers, query)
        assert found == status
        assert isinstance(answer["error"], str)
        assert it.kept() == []
        assert it.intake.memory_used == 0


@pytest.mark.asyncio
async def test_gzip_is_inflated(tmp_path: Path) -> None:
    """Of several members too, and however much is in one piece."""
    async with served(tmp_path) as it:
        body = gzip.compress(lines(1) + b"\n", mtime=0) + gzip.compress(lines(2))
        headers = NDJSON | {"Content-Encoding": "gzip"}
        assert await it.post(body, headers) == (202, {"accepted": 2})
        assert it.kept() == lines(1, 2).split(b"\n")


@pytest.mark.asyncio
async def test_a_bomb_takes_no_more_memory_than_a_body(tmp_path: Path) -> None:
    """A hundred megabytes of blanks in a hundred kilobytes end where the limit is."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    bomb = b"".join(squeeze.compress(b" " * 10_000_000) for _ in range(10)) + squeeze.flush()
    async with served(tmp_path) as it:
        status, _ = await it.post(bomb, NDJSON | {"Content-Encoding": "gzip"})
        assert status == 413


async def in_pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    """A body of which nobody knows the length before."""
    for piece in pieces:
        yield piece


@pytest.mark.asyncio
async def test_a_body_without_a_length_is_measured_as_it_comes(tmp_path: Path) -> None:
    """It is as long as any other may be."""
    async with served(tmp_path, settings={"body_bytes": 1_000}) as it:
        assert (await it.post(in_pieces(lines(1), b"\n", lines(2))))[0] == 202
        assert (await it.post(in_pieces(*[b"x" * 600] * 2)))[0] == 413


@pytest.mark.asyncio
async def test_a_port_that_others_reach_needs_a_token(tmp_path: Path) -> None:
    """It is said before it listens; the token is compared whole."""
    with pytest.raises(ConfigError, match="INGEST_HTTP_TOKEN"):
        async with served(tmp_path, settings={"host": "0.0.0.0"}):
            pass
    with pytest.raises(ConfigError, match="INGEST_HTTP_TOKEN"):
        async with served(tmp_path, settings={"host": "an.example"}):
            pass
    for host in ("localhost", "::1"):
        async with served(tmp_path, settings={"host": host}):
            pass
    async with served(tmp_path, settings={"token": "sesame"}) as it:
        for wrong in ({}, {"Authorization": "Bearer sesam"}, {"Authorization": "Basic sesame"}):
            status, answer = await it.post(lines(1), NDJSON | wrong)
            assert (status, it.kept()) == (401, [])
            assert "sesame" not in answer["error"]
        assert (await it.post(lines(1), NDJSON | {"Authorization": "bearer sesame"}))[0] == 202


def test_the_token_comes_from_the_environment() -> None:
    """Or from a file, or there is none."""
    assert token_from({"INGEST_HTTP_TOKEN": "sesame"}) == "sesame"
    assert token_from({}) is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("settings", "rules", "said"),
    [
        ({"memory": 1_000}, None, "memory"),
        ({}, SpoolRules(1_000_000), "spool_bytes"),
    ],
)
async def test_sizes_that_cannot_work_are_told(
    tmp_path: Path, settings: dict[str, Any], rules: SpoolRules | None, said: str
) -> None:
    """A body that is within its limit has to fit everywhere."""
    with pytest.raises(ConfigError, match=said):
        async with served(tmp_path, settings=settings, rules=rules):
            pass


@pytest.mark.asyncio
async def test_an_address_that_is_taken_is_told(tmp_path: Path) -> None:
    """As a sentence."""
    async with served(tmp_path) as it:
        port = int(it.intake.url.rpartition(":")[2])
        spool = Spool(tmp_path / "other", power_safe=False)
        keys = Keys(tmp_path, spool.id)
        other = HttpIntake(
            spool, LineJudge(IntakeRules()), keys, settings=HttpIntakeSettings(port=port)
        )
        with pytest.raises(ConfigError, match="cannot listen"):
            await other.start()
        await keys.aclose()
        await spool.aclose()


@pytest.mark.asyncio
async def test_a_full_spool_is_told_and_keeps_nothing_of_the_request(tmp_path: Path) -> None:
    """With the time after which to come again; bad lines are not counted, for they come again."""
    small = SpoolRules(4_000, 1_000)
    async with served(tmp_path, rules=small, settings={"body_bytes": 400}) as it:
        statuses: list[int] = []
        while not statuses or statuses[-1] == 202:
            statuses.append((await it.post(lines(1, 2)))[0])
        assert statuses[-1] == 503
        kept = len(it.kept())
        assert kept == 2 * statuses.count(202)
        async with it.client.post(
            f"{it.intake.url}/v1/records", data=lines(1, 2) + b"\nbad", headers=NDJSON
        ) as answer:
            assert answer.headers["Retry-After"] == "5"
        assert (len(it.kept()), it.refused) == (kept, [])


@pytest.mark.asyncio
async def test_a_disk_that_fails_is_no_acceptance(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller is asked to come again, and learns nothing of this machine; the log says it."""
    held: list[Held] = []

    driver = Driver()
    async with served(tmp_path, wrapped=slow(held), watcher=driver) as it:
        held[0].failure = LocalFailure("the disk with /secret/place is full")
        held[0].open.set()
        status, answer = await it.post(lines(1), query="?wait=delivered")
        assert status == 503
        assert "/secret" not in answer["error"]
        assert (it.refused, driver.watched) == ([], {})
        await it.post(lines(1))
    (told,) = caplog.messages  # it is said now and then
    assert told == "posts are answered with 503: the disk with /secret/place is full"


@pytest.mark.asyncio
async def test_what_is_being_kept_counts_against_the_memory(tmp_path: Path) -> None:
    """While the disk is slow, requests beyond the budget are told to come again."""
    held: list[Held] = []
    budget = {"body_bytes": 1_000, "memory": 3_000}
    async with served(tmp_path, wrapped=slow(held), settings=budget) as it:
        body = lines(1) + b" " * 700
        first = asyncio.create_task(it.post(body))
        await held[0].waiting.wait()
        assert it.intake.memory_used == 3 * len(body)
        assert (await it.post(body))[0] == 503
        held[0].open.set()
        assert (await first)[0] == 202
        assert it.intake.memory_used == 0
        assert (await it.post(body))[0] == 202


@pytest.mark.asyncio
async def test_requests_at_once_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds a connection."""
    monkeypatch.setattr(http, "MOST_REQUESTS", 1)
    held: list[Held] = []
    async with served(tmp_path, wrapped=slow(held)) as it:
        first = asyncio.create_task(it.post(lines(1)))
        await held[0].waiting.wait()
        assert (await it.post(lines(2)))[0] == 503
        held[0].open.set()
        assert (await first)[0] == 202


@pytest.mark.asyncio
async def test_a_request_with_a_key_is_accepted_once(tmp_path: Path) -> None:
    """The same answer again, also of the next process; another body with it is an error."""
    body = lines(1) + b"\nbad"
    headers = NDJSON | {"Idempotency-Key": "k-1"}
    async with served(tmp_path) as it:
        first = await it.post(body, headers)
        assert first[0] == 207
        assert await it.post(body, headers) == first
        assert (len(it.kept()), len(it.refused)) == (1, 1)
        status, answer = await it.post(lines(2), headers)
        assert (status, "another body" in answer["error"]) == (422, True)
        assert (await it.post(b"bad", NDJSON | {"Idempotency-Key": "k-2"}))[0] == 207
    async with served(tmp_path) as it:
        assert await it.post(body, headers) == first
        assert (await it.post(lines(2), headers))[0] == 422
        assert (await it.post(b"bad", NDJSON | {"Idempotency-Key": "k-2"}))[0] == 207
        assert (len(it.kept()), it.refused) == (1, [])


@pytest.mark.asyncio
async def test_requests_with_one_key_at_once_are_one(tmp_path: Path) -> None:
    """The others wait for the first, and have its answer; another body is refused at once."""
    held: list[Held] = []
    headers = NDJSON | {"Idempotency-Key": "k"}
    async with served(tmp_path, wrapped=slow(held)) as it:
        waits = [asyncio.create_task(it.post(lines(1), headers)) for _ in range(5)]
        await held[0].waiting.wait()
        assert (await it.post(lines(2), headers))[0] == 422
        held[0].open.set()
        assert await asyncio.gather(*waits) == [(202, {"accepted": 1})] * 5
        assert len(it.kept()) == 1


@pytest.mark.asyncio
async def test_a_key_whose_first_request_failed_is_free_again(tmp_path: Path) -> None:
    """Whoever waited for it tries it himself."""
    held: list[Held] = []
    headers = NDJSON | {"Idempotency-Key": "k"}
    async with served(tmp_path, wrapped=slow(held)) as it:
        held[0].failure = LocalFailure("full")
        waits = [asyncio.create_task(it.post(lines(1), headers)) for _ in range(2)]
        await held[0].waiting.wait()
        held[0].open.set()
        assert [status for status, _ in await asyncio.gather(*waits)] == [503, 503]
        held[0].failure = None
        assert (await it.post(lines(1), headers))[0] == 202


@pytest.mark.asyncio
async def test_verdicts_are_waited_for(tmp_path: Path) -> None:
    """By line, as soon as all have one; and they are what a repeated request is told."""
    driver = Driver()
    headers = NDJSON | {"Idempotency-Key": "k"}
    async with served(tmp_path, watcher=driver) as it:
        body = lines(1) + b"\nbad\n" + lines(2)
        waits = asyncio.create_task(it.post(body, headers, "?wait=delivered"))
        await driver.asked.wait()
        assert list(driver.watched) == [(1, 2), (1, 3)]  # the note of the key is line 1
        driver.watched[1, 2].set_result([End()])
        driver.watched[1, 3].set_result([End("rejected", "c", "f", "why")])
        status, answer = await waits
        assert status == 207
        assert [row["verdict"] for row in answer["verdicts"]] == [
            "delivered",
            "invalid",
            "rejected",
        ]
        assert await it.post(body, headers, "?wait=delivered") == (status, answer)
        assert await it.post(b"bad", NDJSON, "?wait=delivered") != (status, answer)


@pytest.mark.asyncio
async def test_who_waits_too_long_is_told_what_is_pending(tmp_path: Path) -> None:
    """With 202: it is accepted, and will be delivered."""
    driver = Driver()
    async with served(tmp_path, watcher=driver) as it:
        status, answer = await it.post(lines(1), query="?wait=delivered&timeout=10ms")
        assert (status, answer["pending"], driver.watched) == (202, 1, {})
        waits = asyncio.create_task(it.post(lines(2), query="?wait=delivered"))
        driver.asked.clear()
        await driver.asked.wait()
        await it.intake.aclose()  # and so is who waits when it closes
        status, answer = await waits
        assert (status, answer["accepted"], answer["pending"]) == (202, 1, 1)


@pytest.mark.asyncio
async def test_lines_that_are_waited_for_are_bounded(tmp_path: Path) -> None:
    """Beyond that, nothing is kept."""
    async with served(tmp_path, watcher=Driver()) as it:
        it.intake.watching._most = 1
        assert (await it.post(lines(1, 2), query="?wait=delivered"))[0] == 503
        assert it.kept() == []


@pytest.mark.asyncio
async def test_it_stops_taking_posts_and_finishes_what_it_took(tmp_path: Path) -> None:
    """The pages beside it go on, and the connection is closed after the answer."""
    held: list[Held] = []

    async def page(request: web.Request) -> web.StreamResponse:
        return web.json_response({"alive": True})

    async with served(
        tmp_path,
        wrapped=slow(held),
        pages={"/healthz": page},
    ) as it:
        first = asyncio.create_task(it.post(lines(1)))
        await held[0].waiting.wait()
        it.intake.stop()
        async with it.client.post(
            f"{it.intake.url}/v1/records", data=lines(2), headers=NDJSON
        ) as answer:
            assert (answer.status, answer.headers["Connection"]) == (503, "close")
        async with it.client.get(f"{it.intake.url}/healthz") as answer:
            assert await answer.json() == {"alive": True}
        closing = asyncio.create_task(it.intake.aclose())
        held[0].open.set()
        assert (await first)[0] == 202
        await closing
        assert it.kept() == [lines(1)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/records", 405), ("POST", "/", 404)]
)
async def test_another_path_is_told_where_records_go(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    """In the form of all other answers."""
    async with served(tmp_path) as it:
        answer: ClientResponse
        async with it.client.request(method, it.intake.url + path) as answer:
            assert answer.status == status
            assert "POST /v1/records" in loads(await answer.read())["error"]


@pytest.mark.asyncio
async def test_a_caller_that_hangs_up_costs_nothing(tmp_path: Path) -> None:
    """Half a body is no request, and its memory is free again."""
    async with served(tmp_path) as it:
        host, port = it.intake.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/records HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
            b"Content-Length: 100\r\n\r\nhalf"
        )
        await writer.drain()
        await until(lambda: it.intake.memory_used)
        writer.close()
        await until(lambda: not it.intake.memory_used)
        assert (await it.post(lines(1)))[0] == 202


@pytest.mark.asyncio
async def test_a_body_that_never_comes_is_waited_for_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold its memory for ever."""
    monkeypatch.setattr(http, "BODY_SECONDS", 0.01)
    never = asyncio.Event()

    async def dripping() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    async with served(tmp_path) as it:
        waits = asyncio.create_task(it.post(dripping()))
        await until(lambda: it.intake.by_status[408])
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        assert it.intake.memory_used == 0


def test_limits_agree() -> None:
    """Whatever may be posted fits a spool as it is by default, with its answer beside it."""
    assert SpoolRules().largest >= 2 * BODY_BYTES
    assert MEMORY >= 3 * BODY_BYTES
    assert posts.MOST_LINES * 300 < BODY_BYTES
