"""`ingest run`, in this process: what a configuration becomes, and what ends a worker."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from click.testing import CliRunner

from ingest.cli import logs
from ingest.cli.letterbox import FILE, opened_letterbox
from ingest.cli.main import cli
from ingest.cli.parts import choices_of, opened_sink, shape_of, target_of, transform_of
from ingest.cli.working import opened_worker
from ingest.codec import dumps, loads
from ingest.configuration import Configuration, parsed
from ingest.errors import ConfigError, IngestError, LocalFailure
from ingest.profiles import Caps
from ingest.sinks.base import HttpSink
from ingest.state.dead_letters import DeadLetter
from ingest.worker import Worker
from tests.test_ops import free_port

PATIENCE = 30.0

ACCOUNT = 'type = "braze"\nurl = "https://rest.example.test"'
STDIN = '[source]\ntype = "stdin"\n'
BATCH = f'{STDIN}[sink]\ntype = "batch-cep"\n'


def told(text: str, environ: Mapping[str, str] | None = None) -> Configuration:
    """A configuration."""
    return parsed(text, environ or {}, name="worker.toml")


def sinking(text: str) -> Configuration:
    """A configuration whose [sink] says this."""
    return told(f"{STDIN}[sink]\n{text}")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Leave the log as it was."""
    yield
    logs.reset()


# --- what a configuration becomes -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where", "destination", "endpoint"),
    [
        (ACCOUNT, "account", "braze", "track"),
        ('type = "batch-cep"\nendpoint = "mass-update"', "account", "batch-cep", "mass-update"),
        ('type = "sandbox"', "sandbox", "braze", "track"),
        ('type = "file"\npath = "x"', "file", "braze", "track"),
    ],
)
def test_the_sink_is_what_it_says(text: str, where: str, destination: str, endpoint: str) -> None:
    """With the first endpoint of a destination, unless another one is named."""
    target = target_of(sinking(text))
    assert (target.where, target.destination.name, target.endpoint.name) == (
        where,
        destination,
        endpoint,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('type = "brace"', "sink.type 'brace' is none: it is one of braze"),
        ('type = "braze"\nendpoint = "delete"', "sink.endpoint 'delete' is none of braze"),
    ],
)
def test_a_sink_that_there_is_not_is_told(text: str, said: str) -> None:
    """By its key, and with what there is."""
    with pytest.raises(ConfigError, match=said):
        target_of(sinking(text))


def test_limits_may_be_a_table() -> None:
    """What it leaves out is as documented."""
    choices = choices_of(sinking(f"{ACCOUNT}\n[sink.limits]\nper_slot = 70\ntotal = 70"))
    assert isinstance(choices.limits, Caps)
    assert (choices.limits.per_slot, choices.limits.total) == ((70, 70, 70), 70)
    assert choices.limits.body_bytes == target_of(sinking(ACCOUNT)).endpoint.caps[0].body_bytes
    told_bytes = choices_of(sinking(f"{ACCOUNT}\n[sink.limits]\nbytes = 1000")).limits
    assert isinstance(told_bytes, Caps)
    assert told_bytes.body_bytes == 1_000


def test_a_worker_gives_nothing_up() -> None:
    """However long a destination is down; choices are called by their keys."""
    choices = choices_of(sinking(ACCOUNT))
    assert choices.patient
    assert choices.give_up_after == float("inf")
    assert [choices.spelled(name) for name in ("rate", "memory")] == ["sink.rate", "memory"]


@pytest.mark.asyncio
async def test_the_url_of_the_configuration_goes_before_that_of_the_environment() -> None:
    """The key is that of the environment all the same."""
    environ = {"BRAZE_REST_URL": "https://other.example.test", "BRAZE_API_KEY": "k"}
    async with opened_sink(sinking(ACCOUNT), environ) as sink:
        assert sink.host == "rest.example.test"
    async with opened_sink(sinking('type = "braze"'), environ) as sink:
        assert sink.host == "other.example.test"
    with pytest.raises(ConfigError, match="BRAZE_API_KEY"):
        async with opened_sink(sinking(ACCOUNT), {}):
            pass


@pytest.mark.asyncio
async def test_a_sandbox_is_in_the_process_and_a_file_gets_bodies(tmp_path: Path) -> None:
    """Neither asks the environment for anything."""
    async with opened_sink(sinking('type = "sandbox"'), {}) as sink:
        assert isinstance(sink, HttpSink)
        assert sink.host.startswith("127.0.0.1:")
    async with opened_sink(sinking(f'type = "file"\npath = "{tmp_path / "out"}"'), {}) as sink:
        assert sink.name == "file"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:f", "no_such_module cannot be imported"),
        ("breaks:f", r"breaks cannot be imported \(ZeroDivisionError"),
        ("mapping:g", "mapping has no function 'g'"),
    ],
)
def test_a_transform_that_is_not_there_is_told(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the key, before anything is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for module in ("mapping", "breaks"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    (tmp_path / "mapping.py").write_text("def f(message):\n    return message\n")
    (tmp_path / "breaks.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=said):
        transform_of(name)
    assert transform_of("mapping:f")({"a": 1}) == {"a": 1}


def test_what_shapes_a_record_is_known_again() -> None:
    """Another mapping makes other records of what lies in a spool."""
    one = told(f'{STDIN}[sink]\n{ACCOUNT}\n[map]\nkind = "event"')
    assert shape_of(one) == shape_of(one)
    assert shape_of(one) != shape_of(sinking(ACCOUNT))


# --- where letters go -----------------------------------------------------------------------------


def letter() -> DeadLetter:
    """A letter like many."""
    return DeadLetter("event", "rejected", "c", "", "why", {"name": "x", "line": 1}, b"{}")


@pytest.mark.asyncio
async def test_letters_go_to_a_file_of_the_state_directory(tmp_path: Path) -> None:
    """Or to the one that is named; they are safe when they are on the disk."""
    config = told(f'state = "{tmp_path}"\n{STDIN}[sink]\n{ACCOUNT}')
    async with opened_letterbox(config, {}, run="r") as box:
        box.letters.write([letter()], 0.0)
        await box.durable()
        await box.room()
    assert loads((tmp_path / FILE).read_bytes())["run"] == "r"


@pytest.mark.asyncio
async def test_a_place_for_letters_that_cannot_be_is_told_at_once(tmp_path: Path) -> None:
    """Not with the first letter, hours later perhaps."""
    named = f'\n[dead_letters]\ntype = "file"\npath = "{tmp_path}"\n'
    config = told(f'state = "{tmp_path}"\n{STDIN}[sink]\n{ACCOUNT}{named}')
    with pytest.raises(LocalFailure, match="which is a directory: name a file in it"):
        async with opened_letterbox(config, {}, run="r"):
            pass


@pytest.mark.asyncio
async def test_letters_go_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    """A line each."""
    config = told(f'{STDIN}[sink]\n{ACCOUNT}\n[dead_letters]\ntype = "stdout"')
    async with opened_letterbox(config, {}, run="r") as box:
        box.letters.write([letter(), letter()], 0.0)
        await box.durable()
    lines = capfd.readouterr().out.splitlines()
    assert [loads(line)["code"] for line in lines] == ["c", "c"]


class Broker:
    """A broker of letters that takes them when it is let."""

    name = "letters"

    def __init__(self, *_: Any, **__: Any) -> None:
        self.lines: list[bytes] = []
        self.said: list[str] = []
        self.takes = asyncio.Event()

    @property
    def waiting(self) -> int:
        return len(self.lines)

    async def open(self) -> None:
        self.said.append("open")

    def write(self, lines: list[bytes]) -> None:
        self.lines += lines

    async def flush(self) -> None:
        await self.takes.wait()
        self.lines.clear()

    async def aclose(self) -> None:
        self.said.append("closed")


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """The broker that a configuration is led to."""
    one = Broker()
    monkeypatch.setattr("ingest.cli.letterbox.SqsDeadLetters", lambda *_: one)
    monkeypatch.setattr("ingest.cli.letterbox.MOST_WAITING", 2)
    monkeypatch.setattr("ingest.cli.letterbox.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("ingest.cli.letterbox.LAST_SECONDS", 0.01)
    return one


def to_queue() -> Configuration:
    """A configuration whose letters go to a queue."""
    letters = '[dead_letters]\ntype = "sqs"\nqueue_url = "https://q.example.test/1/letters"'
    return told(f"{STDIN}[sink]\n{ACCOUNT}\n{letters}")


@pytest.mark.asyncio
async def test_a_broker_that_is_away_holds_reading_and_commits_back(broker: Broker) -> None:
    """A few letters may wait; with more, nothing is read, and a journal writes nothing down."""
    async with asyncio.timeout(PATIENCE), opened_letterbox(to_queue(), {}, run="r") as box:
        box.letters.write([letter()] * 2, 0.0)
        await box.room()
        box.letters.write([letter()], 0.0)
        room = asyncio.ensure_future(box.room())
        synced = asyncio.create_task(asyncio.to_thread(box.letters.sync))
        told = asyncio.ensure_future(box.durable())
        await asyncio.wait((room, synced, told), timeout=0.05)
        assert [one.done() for one in (room, synced, told)] == [False] * 3
        assert not box.letters.safe
        broker.takes.set()
        await asyncio.gather(room, synced, told)
        assert box.letters.safe
    assert broker.said == ["open", "closed"]


@pytest.mark.asyncio
async def test_a_broker_that_stays_away_does_not_hold_the_end(broker: Broker) -> None:
    """What is not safe is not committed: it will be read again."""
    async with asyncio.timeout(PATIENCE):
        async with opened_letterbox(to_queue(), {}, run="r") as box:
            box.letters.write([letter()], 0.0)
            synced = asyncio.create_task(asyncio.to_thread(box.letters.sync))
        with pytest.raises(LocalFailure, match="before the end"):
            await synced


# --- an intake from its beginning to its end ------------------------------------------------------


def intake(tmp_path: Path, port: int, more: str = "", *, out: str = "out") -> Configuration:
    """A worker that takes posts in, and writes bodies to a file."""
    return told(
        f'state = "{tmp_path / "state"}"\n'
        f'[source]\ntype = "http"\nport = {port}\nkind = "event"\n'
        f'[sink]\ntype = "file"\npath = "{tmp_path / out}"\nlinger = "10ms"\n'
        f"[ops]\nport = 0\n{more}"
    )


@asynccontextmanager
async def at_work(config: Configuration) -> AsyncIterator[Worker]:
    """Run a worker until the block is left; then it is stopped, and drains."""
    async with asyncio.timeout(PATIENCE), opened_worker(config, {}, command="ingest run x") as one:
        running = asyncio.create_task(one.run())
        while not one.ready and not running.done():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        try:
            yield one
        finally:
            one.stop()
            assert await running


async def settled(worker: Worker, count: int) -> None:
    """Wait until so many records have their end."""
    balance = worker.balance
    while balance.count("read") < count or balance.count("pending"):  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.01)


def events_in(path: Path) -> list[dict[str, Any]]:
    """The events in a file of bodies."""
    return [one for line in path.read_bytes().splitlines() for one in loads(line)["events"]]


def domain_event(number: int) -> bytes:
    """What nobody would call a Braze object."""
    return dumps({"user": {"id": number}, "type": "seen", "at": "2026-01-31T12:00:00Z"})


MAP = """
[map]
kind = "event"
[map.columns."user.id"]
to = "external_id"
type = "string"
[map.columns.at]
to = "time"
[map.columns.type]
to = "name"
"""


@pytest.mark.asyncio
async def test_an_intake_maps_what_is_posted(tmp_path: Path) -> None:
    """What does not fit is told to whoever posted it, counted, and no dead letter."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with at_work(intake(tmp_path, port, MAP)) as worker, ClientSession(url) as client:
        lines = [domain_event(1), b'"a text"', domain_event(2)]
        headers = {"Content-Type": "application/x-ndjson"}
        async with client.post("/v1/records", data=b"\n".join(lines), headers=headers) as answer:
            assert answer.status == 207
            assert [error["line"] for error in (await answer.json())["errors"]] == [2]
        async with client.post(
            "/v1/records?wait=delivered", data=domain_event(3), headers=headers
        ) as answer:
            assert answer.status == 200
        await settled(worker, 4)
        assert worker.vitals().letters == {}
        async with client.get("/readyz") as answer:
            assert answer.status == 200
        async with client.get("/metrics") as answer:
            assert 'ingest_records_total{column="delivered",kind="event"} 3.0' in (
                await answer.text()
            )
    assert sorted(one["external_id"] for one in events_in(tmp_path / "out")) == ["1", "2", "3"]
    assert not (tmp_path / "state" / FILE).exists()


@pytest.mark.asyncio
async def test_a_report_names_no_member_of_what_was_posted(tmp_path: Path) -> None:
    """Whoever posted it is told; the balance says what is true of any such message."""
    port = free_port()
    posted = dumps({**loads(domain_event(1)), "ada@example.test": {"": 1}})
    headers = {"Content-Type": "application/x-ndjson"}
    async with (
        at_work(intake(tmp_path, port, MAP)) as worker,
        ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        async with client.post("/v1/records", data=posted, headers=headers) as answer:
            (error,) = (await answer.json())["errors"]
        (reason,) = worker.balance.reasons()
        report = str(worker.balance.reasons())
    assert (error["code"], reason.code) == ("not-mapped", "not-mapped")
    assert "ada@example.test" in error["reason"]
    assert "ada@" not in report


@pytest.mark.asyncio
async def test_what_a_sandbox_in_the_process_did_not_get_goes_to_the_next_one(
    tmp_path: Path,
) -> None:
    """It is another one at each start, and the same destination."""
    port = free_port()
    config = told(
        f'state = "{tmp_path / "state"}"\n'
        f'[source]\ntype = "http"\nport = {port}\nkind = "event"\n'
        '[sink]\ntype = "sandbox"\nlinger = "60s"\n[ops]\nport = 0'
    )
    event = dumps({"external_id": "u", "name": "n", "time": "2026-01-31T12:00:00Z"})
    headers = {"Content-Type": "application/x-ndjson"}
    async with (
        at_work(config),
        ClientSession(f"http://127.0.0.1:{port}") as client,
        client.post("/v1/records", data=event, headers=headers) as answer,
    ):
        assert answer.status == 202
    async with at_work(config) as worker:
        assert worker.balance.count("read") == 1


@pytest.mark.asyncio
async def test_an_empty_spool_is_nobodys(tmp_path: Path) -> None:
    """After a clean end the next start may map otherwise; what was settled is not sent again."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    headers = {"Content-Type": "application/x-ndjson"}
    event = dumps({"external_id": "u", "name": "n", "time": "2026-01-31T12:00:00Z"})
    async with at_work(intake(tmp_path, port)) as worker, ClientSession(url) as client:
        async with client.post("/v1/records", data=event, headers=headers) as answer:
            assert answer.status == 202
        await settled(worker, 1)
    async with at_work(intake(tmp_path, port, MAP)) as worker, ClientSession(url) as client:
        async with client.post("/v1/records", data=domain_event(3), headers=headers) as answer:
            assert answer.status == 202
        await settled(worker, 1)
        assert worker.balance.columns()["delivered"] == 1
    assert [one["external_id"] for one in events_in(tmp_path / "out")] == ["u", "3"]


# --- the command ----------------------------------------------------------------------------------


def ran(tmp_path: Path, text: str, **environ: str) -> tuple[int, str]:
    """Run the command; return its status and what it said."""
    (tmp_path / "worker.toml").write_text(text)
    done = CliRunner().invoke(cli, ["run", str(tmp_path / "worker.toml")], env=environ)
    return done.exit_code, done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[source", "is not TOML"),
        (f'{STDIN}[sink]\ntype = "brace"', "sink.type 'brace' is none"),
        (f'{STDIN}[sink]\ntype = "braze"', "BRAZE_REST_URL is not set"),
        (f'{STDIN}[sink]\n{ACCOUNT}\nlimits = "many"', "sink.limits 'many' makes no sense"),
        (f'{BATCH}limits = "combined"', "sink.limits 'combined' is not for batch-cep"),
        (f'{BATCH}limits = "per-array"', "sink.limits 'per-array' is not for batch-cep"),
        (f"{BATCH}update_existing_only = true", "it always creates the users"),
        (
            f'{STDIN}[sink]\ntype = "sandbox"\n[transform]\npython = "nowhere:f"',
            "nowhere cannot be imported",
        ),
    ],
)
def test_a_wrong_configuration_ends_with_a_sentence(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the status of wrong usage."""
    monkeypatch.chdir(tmp_path)
    for name in ("BRAZE_REST_URL", "BRAZE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    status, words = ran(tmp_path, text, BRAZE_API_KEY="k" if ACCOUNT in text else "")
    assert status == ConfigError.exit_status
    (line,) = map(loads, words.splitlines())
    assert line["level"] == "error"
    assert said in line["message"]


def test_a_configuration_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With its name."""
    done = CliRunner().invoke(cli, ["run", str(tmp_path / "none.toml")])
    assert done.exit_code == IngestError.exit_status
    assert "none.toml: No such file" in done.stderr


def test_a_state_directory_in_use_is_a_local_failure(tmp_path: Path) -> None:
    """Two workers with one directory would write the same letters."""
    from ingest.state.directory import StateDirectory

    text = f'state = "{tmp_path / "state"}"\n{STDIN}[sink]\ntype = "sandbox"\n[ops]\nport = 0'
    with StateDirectory(tmp_path / "state"):
        status, words = ran(tmp_path, text)
    assert status == LocalFailure.exit_status
    assert "is using the state directory" in words


def test_a_defect_has_a_status_and_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Type and place, and no word of what was at hand; it is none of the statuses of a worker."""

    class Broken:
        def __init__(self) -> None:
            raise KeyError("jane@example.com")

    monkeypatch.setattr("ingest.cli.working.PipeSource", Broken)
    text = f'state = "{tmp_path / "state"}"\n{STDIN}[sink]\ntype = "sandbox"\n[ops]\nport = 0'
    status, words = ran(tmp_path, text)
    assert status == 70
    line = loads(words.splitlines()[-1])
    assert (line["level"], line["error"]) == ("critical", "KeyError")
    assert line["at"].startswith("ingest.cli.working:")
    assert "jane" not in words


def test_a_pipe_is_delivered_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 0, and a sentence with the balance; the log says what a pipe is not."""
    read, write = os.pipe()
    for number in range(20):
        os.write(write, b'{"external_id":"u%d","name":"n","time":"2026-01-31"}\n' % number)
    os.write(write, b"junk\n")
    os.close(write)
    monkeypatch.setattr("ingest.cli.working.PipeSource", _over(read))
    text = (
        f'state = "{tmp_path / "state"}"\n[source]\ntype = "stdin"\nkind = "event"\n'
        f'[sink]\ntype = "file"\npath = "{tmp_path / "out"}"\n[ops]\nport = 0'
    )
    status, words = ran(tmp_path, text)
    os.close(read)
    assert status == 0, words
    assert len(events_in(tmp_path / "out")) == 20
    assert "21 records read, 20 delivered, 1 invalid, 0 pending" in words
    assert "cannot be read again" in words
    assert loads((tmp_path / "state" / FILE).read_bytes())["raw"] == "junk"


@pytest.mark.asyncio
async def test_half_a_line_at_a_stop_is_a_dead_letter_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is drained all the same: what was read has its end."""
    read, write = os.pipe()
    monkeypatch.setattr("ingest.cli.working.PipeSource", _over(read))
    monkeypatch.setattr("ingest.sources.piped.REST_SECONDS", 0.05)
    os.write(write, b'{"external_id":"u","name":"n","time":"2026-01-31T12:00:00Z"}\n{"external_')
    config = told(
        f'state = "{tmp_path / "state"}"\n[source]\ntype = "stdin"\nkind = "event"\n'
        f'[sink]\ntype = "file"\npath = "{tmp_path / "out"}"\n[ops]\nport = 0'
    )
    async with at_work(config) as worker:
        await settled(worker, 1)
    os.close(read)
    os.close(write)
    assert len(events_in(tmp_path / "out")) == 1
    letter = loads((tmp_path / "state" / FILE).read_bytes())
    assert (letter["code"], letter["raw"]) == ("cut-off", '{"external_')


def _over(fd: int) -> Any:
    from ingest.sources.piped import PipeSource

    return lambda: PipeSource(fd)
