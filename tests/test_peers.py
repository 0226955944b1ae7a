"""Defects of other importers and clients, each as a test that fails with what those do.

Everything is real: the command in a process of its own, files, sockets, the sandbox as destination
or a server that says what it is told to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.codec import dumps
from ingest.testing import Sandbox, SandboxSettings, running_sandbox
from tests.integration.processes import KEY, Ended, Sending, sent, written
from tests.sinks.raw_server import RawServer, Talk, http, read_request, serving

SETTINGS = SandboxSettings(key=KEY, rate="")
TEN_MEGABYTES = 10_000_000
"""What one start of the importer reads, that loses the last row of a file beyond it."""

OK = http(201, b'{"message":"success"}')


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """An account whose rate is not the point."""
    with running_sandbox(SETTINGS) as running:
        yield running


def table(where: Path, text: str | bytes, sandbox: Sandbox, *more: str) -> Ended:
    """Import a table of attributes."""
    path = where / "in.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return sent(where, sandbox.url, "import", path, "--kind", "attributes", *more)


def values(sandbox: Sandbox, user: str) -> dict[str, Any]:
    """Return what arrived for a user, in the last object of it."""
    profile = sandbox.user(user)
    assert profile is not None
    return {k: v for k, v in profile["arrivals"][-1]["object"].items() if k != "external_id"}


def attributes(user: str, **more: Any) -> bytes:
    """A line of NDJSON."""
    return dumps({"attributes": {"external_id": user, **more}})


def event(user: str, **more: Any) -> bytes:
    """A line of NDJSON."""
    happened = {"name": "e", "time": "2026-11-01T00:00:00Z", **more}
    return dumps({"event": {"external_id": user, **happened}})


# --- Braze's own CSV importer ---------------------------------------------------------------------


@pytest.mark.parametrize("header", ["external_id", '"external_id"'])
def test_a_byte_order_mark_is_no_part_of_the_first_name(
    tmp_path: Path, sandbox: Sandbox, header: str
) -> None:
    """A file of Excel ("CSV UTF-8") is read, and not refused for want of an external_id."""
    ended = table(tmp_path, f"\ufeff{header},city\r\nu1,Köln\r\n", sandbox)
    assert (ended.status, ended.records) == (0, {"read": 1, "delivered": 1}), ended.stderr
    assert values(sandbox, "u1") == {"city": "Köln"}


def test_a_phone_number_of_digits_stays_text(tmp_path: Path, sandbox: Sandbox) -> None:
    """15551234567 is a phone number, not a quantity; nor does 01234 lose its zero."""
    rows = "u1,15551234567,15551234567,01234\nu2,15551234568,15551234568,12345\n"
    ended = table(tmp_path, f"external_id,phone,work_phone,zip\n{rows}", sandbox)
    assert ended.status == 0, ended.stderr
    said = {"phone": "15551234567", "work_phone": "15551234567", "zip": "01234"}
    assert values(sandbox, "u1") == said


@pytest.mark.parametrize("types", [(), ("--types", "agrees=boolean")])
def test_no_is_never_true(tmp_path: Path, sandbox: Sandbox, types: tuple[str, ...]) -> None:
    """Only true and false are booleans by themselves; told to be one, a `no` is not true."""
    ended = table(tmp_path, "external_id,agrees,here\nu1,no,true\nu2,yes,FALSE\n", sandbox, *types)
    assert ended.status == 0, ended.stderr
    no, yes = (False, True) if types else ("no", "yes")
    assert values(sandbox, "u1") == {"agrees": no, "here": True}
    assert values(sandbox, "u2") == {"agrees": yes, "here": False}


def test_what_is_no_boolean_is_a_bad_cell(tmp_path: Path, sandbox: Sandbox) -> None:
    """`perhaps` in a column of booleans is refused with its reason: not every text is true."""
    rows = "u1,perhaps\nu2,true\n"
    ended = table(tmp_path, f"external_id,agrees\n{rows}", sandbox, "--types", "agrees=boolean")
    assert (ended.status, ended.records) == (1, {"read": 2, "delivered": 1, "invalid": 1})
    assert [letter["source"]["line"] for letter in ended.letters] == [2]
    assert sandbox.user("u1") is None


def test_arrays_and_objects_are_parsed(tmp_path: Path, sandbox: Sandbox) -> None:
    """JSON in cells arrives as JSON, and a null in it, which the account drops, is warned of."""
    cells = '"[true,null]","{""city"": ""Rome"", ""floor"": 3}","[1, ""a""]"'
    ended = table(tmp_path, f"external_id,flags,place,tags\nu1,{cells}\n", sandbox)
    assert (ended.status, ended.records) == (0, {"read": 1, "delivered": 1}), ended.stderr
    assert values(sandbox, "u1") == {
        "flags": [True, None],
        "place": {"city": "Rome", "floor": 3},
        "tags": [1, "a"],
    }
    assert ended.report["of_which"]["warned"] == 1
    [reason] = ended.report["reasons"]
    assert (reason["code"], reason["field"]) == ("nested-null", "flags[]")


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_the_last_row_of_a_large_file_arrives_once(
    tmp_path: Path, sandbox: Sandbox, form: str
) -> None:
    """Over 10 MB and without a newline at its end: the last row is one like the others."""
    count, names, cell = 1_100, [f"field_{n}" for n in range(40)], "x" * 250
    path = tmp_path / f"in.{form}"
    if form == "csv":
        rows = [f"u{i}," + ",".join([cell] * len(names)) for i in range(count)]
        path.write_text("\n".join([",".join(["external_id", *names]), *rows]))
    else:
        fields = dict.fromkeys(names, cell)
        path.write_bytes(b"\n".join(attributes(f"u{i}", **fields) for i in range(count)))
    assert path.stat().st_size > TEN_MEGABYTES
    ended = sent(tmp_path, sandbox.url, "import", path, "--kind", "attributes")
    assert (ended.status, ended.records) == (0, {"read": count, "delivered": count}), ended.stderr
    stats = sandbox.stats()
    assert (stats["distinct_objects"], stats["copies"]) == (count, 0)
    assert values(sandbox, f"u{count - 1}") == dict.fromkeys(names, cell)


def test_a_rejected_chunk_is_counted_and_kept(tmp_path: Path, sandbox: Sandbox) -> None:
    """A 400 to all 75 of a request is 75 rejected, each kept with a reason, and none processed."""
    good, bad = attributes("u", n=1), attributes("x" * 998, n=1)
    lines = [good] * 75 + [bad] * 75 + [good] * 75
    path = written(tmp_path / "in.ndjson", lines)
    one = ("--in-flight", "1", "--limits", "combined", "--no-validate")
    ended = sent(tmp_path, sandbox.url, "import", path, *one)
    assert (ended.status, ended.records) == (1, {"read": 225, "delivered": 150, "rejected": 75})
    assert sandbox.stats()["by_status"]["400"] >= 1
    assert [letter["source"]["line"] for letter in ended.letters] == list(range(76, 151))
    assert all(letter["reason"] for letter in ended.letters)
    assert sandbox.stats()["objects"]["attributes"] == 150


def test_a_chunk_refused_without_a_list_costs_the_bad_record_only(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    """Where a 400 names no record, the request is halved until the one is found."""
    lines = [event(f"u{i}") for i in range(150)]
    lines[100] = event("u100", properties={"_sandbox_poison": "400"})
    ended = sent(tmp_path, sandbox.url, "import", written(tmp_path / "in.ndjson", lines))
    assert (ended.status, ended.records) == (1, {"read": 150, "delivered": 149, "rejected": 1})
    assert [letter["source"]["line"] for letter in ended.letters] == [101]


async def ended_at(where: Path, lines: list[bytes], talk: Any, *more: str) -> tuple[Ended, Any]:
    """Import lines into a server that does what it is told to; return the end and the server."""
    path = written(where / "in.ndjson", lines)
    async with serving(talk) as server:
        options = ("--limits", "combined", "--rate", "1000000/1s", *more)
        sending = Sending(where, server.url, "import", str(path), *options)
        return await asyncio.to_thread(sending.end), server


def saying(*answers: bytes) -> Any:
    """Talk that answers over kept-alive connections; the last answer is given from then on."""

    def of(server: RawServer) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                server.requests.append(await read_request(reader))
                await asyncio.sleep(0)  # others come in between
                writer.write(answers[min(len(server.requests), len(answers)) - 1])
                await writer.drain()

        return talk

    return of


@pytest.mark.asyncio
async def test_many_requests_share_a_few_connections(tmp_path: Path) -> None:
    """400 requests, eight in flight, are eight connections at the most, and not 400."""
    lines = [attributes(f"u{i}") for i in range(400)]
    more = ("--in-flight", "8", "--limits", "1")
    ended, server = await ended_at(tmp_path, lines, saying(OK), *more)
    assert (ended.status, ended.records) == (0, {"read": 400, "delivered": 400}), ended.stderr
    assert len(server.requests) == 400
    assert 1 <= server.connections <= 8


# --- clients in Python ----------------------------------------------------------------------------


def test_one_kind_may_be_longer_than_a_request(tmp_path: Path, sandbox: Sandbox) -> None:
    """76 attributes and one event end all delivered, not with an error after the first 75."""
    lines = [attributes(f"u{i}") for i in range(76)] + [event("u0")]
    ended = sent(tmp_path, sandbox.url, "import", written(tmp_path / "in.ndjson", lines))
    assert (ended.status, ended.records) == (0, {"read": 77, "delivered": 77}), ended.stderr
    assert sandbox.stats()["distinct_objects"] == 77


def test_an_account_of_75_in_total_refuses_no_record(tmp_path: Path, sandbox: Sandbox) -> None:
    """75 of each kind are more than such an account takes at once: found out, nothing lost."""
    purchase = {"product_id": "p", "currency": "EUR", "price": 1, "time": "2026-11-01T00:00:00Z"}
    lines = [
        line
        for i in range(75)
        for line in (
            attributes(f"u{i}"),
            event(f"u{i}"),
            dumps({"purchase": {"external_id": f"u{i}", **purchase}}),
        )
    ]
    ended = sent(tmp_path, sandbox.url, "import", written(tmp_path / "in.ndjson", lines))
    assert (ended.status, ended.records) == (0, {"read": 225, "delivered": 225}), ended.stderr
    stats = sandbox.stats()
    assert (stats["distinct_objects"], stats["copies"]) == (225, 0)


@pytest.mark.asyncio
async def test_queued_is_a_success(tmp_path: Path) -> None:
    """202 "queued", the answer in maintenance, is neither an error nor sent again."""
    queued = http(202, b'{"message":"queued"}')
    ended, server = await ended_at(tmp_path, [event("u1"), event("u2")], saying(queued))
    assert (ended.status, ended.records) == (0, {"read": 2, "delivered": 2}), ended.stderr
    assert (ended.report["of_which"]["queued"], len(server.requests)) == (2, 1)


# --- pipelines and connectors ---------------------------------------------------------------------


@pytest.mark.asyncio
async def test_each_record_has_its_own_errors(tmp_path: Path) -> None:
    """Of 75 records, two are refused for different reasons: each letter tells its own one."""
    errors = [
        {"type": "'name' is required", "input_array": "events", "index": 3},
        {"type": "'time' is invalid", "input_array": "events", "index": 7},
    ]
    said = http(201, dumps({"message": "success", "errors": errors}))
    lines = [event(f"u{i}", n=i) for i in range(75)]
    ended, _ = await ended_at(tmp_path, lines, saying(said))
    assert (ended.status, ended.records) == (1, {"read": 75, "delivered": 73, "rejected": 2})
    told = {letter["source"]["line"]: letter["reason"] for letter in ended.letters}
    assert told.keys() == {4, 8}
    assert ["name" in told[line] for line in (4, 8)] == [True, False]
    assert ["time" in told[line] for line in (4, 8)] == [False, True]


@pytest.mark.asyncio
async def test_created_with_errors_is_no_success(tmp_path: Path) -> None:
    """A 201 that names a bad event rejects it, and takes the others of the request."""
    errors = [{"type": "'external_id' is required", "input_array": "events", "index": 1}]
    said = http(201, dumps({"message": "success", "events_processed": 2, "errors": errors}))
    ended, _ = await ended_at(tmp_path, [event(f"u{i}") for i in range(3)], saying(said))
    assert (ended.status, ended.records) == (1, {"read": 3, "delivered": 2, "rejected": 1})
    assert [letter["record"]["external_id"] for letter in ended.letters] == ["u1"]


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [400, 401])
async def test_what_cannot_succeed_is_not_tried_again(tmp_path: Path, status: int) -> None:
    """A wrong key and a refusal of everything end the run within a few requests, resumable."""
    said = http(status, b'{"message":"no"}', "Content-Type: application/json")
    lines = [event(f"u{i}") for i in range(3_000)]
    ended, server = await ended_at(tmp_path, lines, saying(said), "--in-flight", "2")
    assert ended.status == 3, ended.stderr
    assert len(server.requests) <= (2 if status == 401 else 20)
    assert set(ended.records) == {"read", "pending"}


@pytest.mark.asyncio
async def test_one_bad_record_stops_nobody(tmp_path: Path) -> None:
    """A request that is refused for its one record is not repeated, and the others go on."""
    lines = [event(f"u{i}") for i in range(12)]
    answers = (OK, OK, http(400, b'{"message":"no"}'), OK)
    more = ("--limits", "1", "--in-flight", "1")
    ended, server = await ended_at(tmp_path, lines, saying(*answers), *more)
    assert (ended.status, ended.records) == (1, {"read": 12, "delivered": 11, "rejected": 1})
    assert len(server.requests) == 12
    assert [letter["source"]["line"] for letter in ended.letters] == [3]
