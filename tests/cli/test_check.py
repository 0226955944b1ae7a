"""`ingest check`: what is looked at, in which words, and with which exit status."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner, Result

from ingest.cli.main import cli
from ingest.cli.reaching import destination
from ingest.configuration import parsed
from ingest.outcomes import Lost, Reply, Response, Unsent
from ingest.sandbox.server import Sandbox
from ingest.settings import parse_bytes
from ingest.sinks.base import Choice, HttpSink, Request
from ingest.sinks.registry import DESTINATIONS
from ingest.sources.http_settings import BODY_BYTES
from ingest.state.directory import StateDirectory

KEY = "a-key-that-nobody-may-see"

STDIN = '[source]\ntype = "stdin"\nkind = "event"\n[ops]\nport = 0\n'
BRAZE = STDIN + '[sink]\ntype = "braze"\nurl = "https://rest.example.com"\n'
SANDBOX = STDIN + '[sink]\ntype = "sandbox"\n'
KAFKA = """\
[source]
type = "kafka"
topics = ["t"]
group = "g"
bootstrap = "127.0.0.1:1"
[ops]
port = 0
[sink]
type = "sandbox"
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("BRAZE_API_KEY", "BRAZE_REST_URL", "INGEST_STATE", "INGEST_HTTP_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def checked(text: str, *options: str, env: Mapping[str, str] | None = None) -> Result:
    """Run the verb on a text, offline unless told otherwise."""
    Path("worker.toml").write_text(dedent(text))
    arguments = ["check", "worker.toml", *(options or ("--offline",))]
    ran = CliRunner().invoke(cli, arguments, env=dict(env or {}))
    assert ran.stdout == ""
    assert KEY not in ran.stderr
    assert "Traceback" not in ran.stderr
    return ran


def failed(result: Result) -> dict[str, str]:
    """Return the checks that failed, with what they say."""
    return dict(re.findall(r"^failed\s+(\w+(?: \w+)?)\s{2,}(.*)$", result.stderr, re.MULTILINE))


def test_all_is_well() -> None:
    """Each check has a line, in no colour where it is no terminal; the last says what to type."""
    ran = checked(BRAZE, env={"BRAZE_API_KEY": KEY})
    assert ran.exit_code == 0
    assert failed(ran) == {}
    assert "ok      secrets        set: BRAZE_API_KEY\n" in ran.stderr
    assert ran.stderr.endswith("ingest run worker.toml\n")
    assert "\x1b" not in ran.stderr
    assert not Path(".ingest").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[source", "worker.toml is not TOML"),
        ('[source]\ntype = "stdin"\nfoo = 1\n[sink]\ntype = "sandbox"', "has a key 'foo'"),
        (BRAZE + 'api_key = "x"\n', "sink.api_key looks like a credential"),
    ],
)
def test_a_file_that_is_wrong_names_file_and_key(text: str, said: str) -> None:
    """Then nothing else is looked at."""
    ran = checked(text)
    assert ran.exit_code == 2
    assert "worker.toml" in failed(ran)["configuration"]
    assert said in failed(ran)["configuration"]
    assert len(ran.stderr.splitlines()) == 1


def test_a_file_that_is_not_there_is_a_sentence() -> None:
    """With its name."""
    ran = CliRunner().invoke(cli, ["check", "nothing.toml"])
    assert ran.exit_code == 2
    assert "nothing.toml: No such file" in ran.stderr


@pytest.mark.parametrize(
    ("text", "what", "said"),
    [
        (STDIN + '[sink]\ntype = "nope"\n', "sink", "is none: it is one of braze"),
        (BRAZE + 'endpoint = "delete"\n', "sink", "it is one of track, track-bulk"),
        (BRAZE + 'limits = "many"\n', "sink", "sink.limits 'many' makes no sense"),
        (BRAZE + 'rate = "fast"\n', "sink", "fast"),
        (
            STDIN + '[sink]\ntype = "batch-cep"\nurl = "https://a.example.com"\n'
            "update_existing_only = true\n",
            "sink",
            "always creates",
        ),
        (
            STDIN + '[sink]\ntype = "batch-cep"\nlimits = "combined"\n',
            "sink",
            "sink.limits 'combined' is not for batch-cep",
        ),
        (STDIN + '[sink]\ntype = "braze"\nurl = "http://far.example.com"\n', "sink", "use https"),
        (BRAZE, "secrets", "BRAZE_API_KEY is not set"),
        (KAFKA + "[source.client]\nfoo = 1\n", "source", "'foo' in [source.client]"),
        (
            KAFKA + '[source.client]\nssl_cafile = "/nowhere.pem"\n',
            "source",
            "The TLS files",
        ),
        (
            SANDBOX.replace('"stdin"', '"sqs"\nqueue_url = "nothing"'),
            "source",
            "'queue_url' in [source] must be a URL",
        ),
        (
            SANDBOX.replace('"stdin"', '"http"\nhost = "0.0.0.0"\nport = 0'),
            "source",
            "needs a token",
        ),
        (
            SANDBOX.replace('"stdin"', '"http"\nport = 0\nspool_bytes = "9MB"'),
            "source",
            "spool_bytes is too small",
        ),
        (SANDBOX + '[transform]\npython = "no_such_mod:f"\n', "messages", "cannot be imported"),
        (SANDBOX + '[transform]\npython = "json:nothing"\n', "messages", "has no function"),
        (SANDBOX + '[map.columns.a]\nto = "no such"\nfoo = 1\n', "messages", "foo"),
        (SANDBOX + '[map]\nunwrap = "xml"\n', "messages", "must be one of sns"),
    ],
)
def test_what_is_wrong_is_said_offline(text: str, what: str, said: str) -> None:
    """Each with a sentence beside what it is about, and the status of a wrong configuration."""
    ran = checked(text)
    assert ran.exit_code == 2
    assert said in failed(ran)[what]


def test_all_faults_are_told_at_once() -> None:
    """So that nobody mends one after the other."""
    ran = checked(KAFKA.replace("sandbox", "nope") + '[transform]\npython = "no_such_mod:f"\n')
    assert set(failed(ran)) == {"sink", "messages"}
    assert "2 of " in ran.stderr


@pytest.mark.parametrize("package", ["aiokafka", "prometheus_client"])
def test_a_missing_extra_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to type."""
    monkeypatch.setitem(__import__("sys").modules, package, None)
    ran = checked(KAFKA)
    assert ran.exit_code == 2
    assert "pip install 'ingestline[" in failed(ran)["packages"]


def test_a_password_that_is_missing_is_named() -> None:
    """A user name of SASL asks for one; one in a file is called by its variable."""
    text = KAFKA + '[source.client]\nsecurity_protocol = "SASL_PLAINTEXT"\n'
    text += 'sasl_mechanism = "PLAIN"\nsasl_plain_username = "me"\n'
    assert "INGEST_KAFKA_PASSWORD is not set" in failed(checked(text))["secrets"]
    Path("password").write_text(KEY)
    ran = checked(text, env={"INGEST_KAFKA_PASSWORD_FILE": "password"})
    assert "set: INGEST_KAFKA_PASSWORD_FILE" in ran.stderr


def test_a_state_directory_in_use_is_told() -> None:
    """It is this machine's matter, and has a status of its own."""
    with StateDirectory(Path("state")):
        ran = checked('state = "state"\n' + SANDBOX)
    assert ran.exit_code == 4
    assert "another ingest is using" in failed(ran)["state"]
    assert checked('state = "state"\n' + SANDBOX).exit_code == 0


def test_places_that_cannot_be_written_to_are_told() -> None:
    """The state directory, a file of bodies, a file of letters."""
    Path("file").write_text("")
    Path("dir").mkdir()
    assert checked('state = "file/state"\n' + SANDBOX).exit_code == 4
    ran = checked(STDIN + '[sink]\ntype = "file"\npath = "dir"\n')
    assert "is a directory" in failed(ran)["sink"]
    ran = checked(SANDBOX + '[dead_letters]\ntype = "file"\npath = "none/letters"\n')
    assert "not there: make it" in failed(ran)["dead letters"]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield int(one.getsockname()[1])


def test_a_port_in_use_is_told(taken: int) -> None:
    """With the table that names it; so is one that is asked for twice."""
    ran = checked(SANDBOX.replace("port = 0", f"port = {taken}"))
    assert f"[ops] cannot listen on 127.0.0.1:{taken}" in failed(ran)["ports"]
    text = SANDBOX.replace('"stdin"', '"http"\nport = 9101').replace("port = 0", "port = 9101")
    assert "both listen on port 9101" in failed(checked(text))["ports"]


def test_the_transform_is_found_in_this_directory() -> None:
    """And is imported, as the worker will."""
    Path("checked_mapping.py").write_text("def to_records(message):\n    return None\n")
    ran = checked(SANDBOX + '[transform]\npython = "checked_mapping:to_records"\n')
    assert ran.exit_code == 0
    assert "made by checked_mapping:to_records" in ran.stderr


def test_nobody_is_asked_before_the_file_is_right() -> None:
    """What would be asked may be wrong as well."""
    ran = checked(BRAZE, "--", env={})
    assert ran.exit_code == 2
    assert "unknown reachability" in ran.stderr


def test_a_destination_that_is_away_is_told() -> None:
    """With the status that says: try again later."""
    text = STDIN + '[sink]\ntype = "braze"\nurl = "http://127.0.0.1:1"\n'
    ran = checked(text, "--", env={"BRAZE_API_KEY": KEY})
    assert ran.exit_code == 75
    assert "cannot be reached" in failed(ran)["destination"]


def test_brokers_that_are_away_are_told() -> None:
    """Topics, and queues; a wrong configuration goes before, and a refused key too."""
    ran = checked(KAFKA, "--")
    assert ran.exit_code == 75
    assert "Kafka at 127.0.0.1:1 cannot be reached" in failed(ran)["source"]
    queue = '"sqs"\nqueue_url = "http://127.0.0.1:1/1/q"\nregion = "eu-west-1"'
    env = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": KEY}
    ran = checked(SANDBOX.replace('"stdin"', queue), "--", env=env)
    assert ran.exit_code == 75
    assert "The queue q cannot be reached" in failed(ran)["source"]


def sink(name: str, endpoint: str, url: str, key: str, auth: str = "") -> HttpSink:
    """Return a sink of a destination that a sandbox plays."""
    row = DESTINATIONS[name]
    choice = Choice(endpoint=endpoint, auth=auth or row.auths[0])
    return row.open(row.sandboxed(url, key), choice)


EVERY = [
    (name, endpoint, auth)
    for name, row in DESTINATIONS.items()
    for endpoint in row.endpoints
    for auth in row.auths
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("name", "endpoint", "auth"), EVERY)
async def test_every_destination_says_whether_it_takes_the_key(
    name: str, endpoint: str, auth: str
) -> None:
    """Without a record: nothing is there afterwards, and the refused key is not shown."""
    async with Sandbox() as sandbox:
        good = await destination(sink(name, endpoint, sandbox.url, sandbox.key, auth))
        bad = await destination(sink(name, endpoint, sandbox.url, KEY, auth))
        assert sandbox.stats()["distinct_objects"] == 0
        assert sandbox.stats()["users"] == 0
    assert (good.status, bad.status) == (0, 3)
    assert "does not refuse the key" in good.said
    assert KEY not in bad.said


class Answering:
    """A transport that answers one thing."""

    host = "there.example.com"

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    def begin(self, request: Request) -> None:
        """Send nothing without waiting."""

    async def send(self, request: Request) -> Reply:
        return self.reply

    async def aclose(self) -> None:
        pass


def said(status: int, body: bytes = b'{"message":"x"}') -> Response:
    return Response(status, {}, body, 0.0)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("reply", "status", "known"),
    [
        (said(201), 0, True),
        (said(400), 0, True),
        (said(401), 3, True),
        (said(403), 3, True),
        (said(403, b"<html>blocked</html>"), 75, True),
        (said(404), 2, True),
        (said(302), 2, True),
        (said(429), 0, False),
        (said(503), 75, True),
        (said(504), 75, True),
        (Unsent("the name was not found"), 75, True),
        (Lost("it closed the connection"), 75, True),
    ],
)
async def test_what_answers_say_of_the_key(reply: Reply, status: int, known: bool) -> None:
    """Refused, away, another address, or nothing at all."""
    found = await destination(
        HttpSink(sink("braze", "track", "https://a.example.com", KEY).wire, Answering(reply))
    )
    assert (found.status, found.known) == (status, known)


# --- what is documented ---------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
TABLES = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "worker.md").read_text(), re.DOTALL)
WHOLE = next(text for text in TABLES if "[source]" in text and "[sink]" in text)
PARTS = [text for text in TABLES if text != WHOLE]


def completed(part: str) -> str:
    """Return an example of the docs as a whole configuration."""
    text = part if "[source]" in part else '[source]\ntype = "stdin"\n' + part
    return f'{text}\n[sink]\ntype = "sandbox"\n[ops]\nport = 0\n'


@pytest.mark.parametrize("text", [WHOLE, *map(completed, PARTS)])
def test_the_examples_of_the_docs_are_right(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one passes, where the secrets and the module that it names are there."""
    Path("shop").mkdir()
    functions = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "worker.md").read_text(), re.DOTALL
    )
    Path("shop/mapping.py").write_text(functions[0])
    Path("ca.pem").write_text("")
    text = re.sub(r"^ssl_cafile = .*$", "", text, flags=re.MULTILINE)
    text = text.replace("port = 9100", "port = 0").replace("port = 8080", "port = 0")
    ran = checked(text, env={"BRAZE_API_KEY": KEY, "INGEST_KAFKA_PASSWORD": KEY})
    assert failed(ran) == {}
    assert ran.exit_code == 0


def test_the_configuration_of_the_compose_file_is_right() -> None:
    """But for its state directory, which is a volume."""
    text = (ROOT / "deploy" / "worker.toml").read_text().replace('"/state"', '"state"')
    ran = checked(text.replace("port = 9100", "port = 0"), env={"BRAZE_API_KEY": KEY})
    assert failed(ran) == {}
    assert ran.exit_code == 0


def test_a_body_has_one_size() -> None:
    """What a configuration says by default is what the intake has by default."""
    config = parsed('[source]\ntype = "http"\n[sink]\ntype = "sandbox"\n', {}, name="x")
    assert parse_bytes(config.source.body_bytes) == BODY_BYTES  # type: ignore[union-attr]  # told by its tag
