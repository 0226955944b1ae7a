"""The worked example of CONTRIBUTING: a sixth destination is one file, one line, and its tests.

The block is taken out of the page, run as the module it says it is, and entered into the registry
by the very line that the page shows. Then it has to keep the laws, and to deliver over real HTTP.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from aiohttp import web
from click.testing import CliRunner
from hypothesis import given, settings

from ingest.cli.main import cli
from ingest.codec import dumps, loads
from ingest.outcomes import Delivered, ItemError, Response
from ingest.sinks import registry
from ingest.sinks.base import Destination
from tests.batches import batch_of
from tests.examples import examples
from tests.laws_at_the_end import check_all
from tests.laws_rows import NOW, plans_of, rows_of
from tests.playing import play

ROOT: Final = Path(__file__).parents[1]
SECTION: Final = "## How to add a sink"
KEY: Final = "key-of-nobody"
LISTS: Final = ("people", "events", "orders")

MOST_LINES: Final = 90
"""A tutorial that is longer is read by nobody."""


def section() -> str:
    """Return the section of the page, without its heading."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    _, _, rest = page.partition(f"{SECTION}\n")
    return re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def blocks() -> list[str]:
    """Return the code blocks of the section: the module, and the line of the registry."""
    return re.findall(r"^```(?:python|text)\n(.*?)^```$", section(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Run the block as the module `ingest.sinks.postbox`."""
    path = tmp_path / "postbox.py"
    path.write_text(blocks()[0])
    spec = importlib.util.spec_from_file_location("ingest.sinks.postbox", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    monkeypatch.setitem(sys.modules, spec.name, made)
    return made


@pytest.fixture
def postbox(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Destination:
    """Enter the line into a copy of the registry, run that, and take its row over."""
    source = Path(registry.__file__).read_text()
    lines = source.splitlines(keepends=True)
    last = max(at for at, line in enumerate(lines) if line.startswith('    "ingest.sinks.'))
    lines.insert(last + 1, blocks()[1])
    copied: dict[str, Any] = {"__name__": "ingest.sinks.registry"}
    exec(compile("".join(lines), registry.__file__, "exec"), copied)
    found = copied["DESTINATIONS"]["postbox"]
    assert list(copied["DESTINATIONS"]) == [*registry.DESTINATIONS, "postbox"]
    assert found is vars(module)["DESTINATION"]
    assert isinstance(found, Destination)
    monkeypatch.setitem(registry.DESTINATIONS, "postbox", found)
    return found


# --- the page -----------------------------------------------------------------------------------


def test_the_page_shows_the_example_that_is_linted_and_typed() -> None:
    """What is read is what is checked: one block, as long as a page, and one line."""
    code, line = blocks()
    assert code == (ROOT / "examples" / "sixth_destination.py").read_text()
    assert code.count("\n") <= MOST_LINES
    assert line.count("\n") == 1


def named_in(source: str) -> Iterator[str]:
    """Yield the words of a module that do something: names and texts, but for docstrings."""
    tree = ast.parse(source)
    documents = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in documents:
                yield text
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield name
            case ast.ImportFrom(module=str(module)):
                yield module


@pytest.mark.parametrize("name", ["appboy", "batch-cep", "batchcep", "postbox"])
def test_only_sinks_and_the_sandbox_know_a_destination_by_name(name: str) -> None:
    """All else asks the registry: so a sixth destination touches nothing else."""
    package = ROOT / "ingest"
    apart = (package / "sinks", package / "sandbox")
    word = re.compile(rf"\b{name}\b", re.IGNORECASE)
    naming = [
        str(path.relative_to(ROOT))
        for path in sorted(package.rglob("*.py"))
        if not any(folder in path.parents for folder in apart)
        and any(map(word.search, named_in(path.read_text())))
    ]
    assert naming == []


# --- the laws -----------------------------------------------------------------------------------


def test_it_keeps_the_laws(postbox: Destination) -> None:
    """The same plays as every row of the registry."""
    (row,) = rows_of([postbox])
    wire = row.wire()

    @settings(max_examples=examples(25), deadline=None)
    @given(plans_of(wire))
    def holds(plan: Any) -> None:
        check_all(play(wire, plan))

    holds()


# --- real HTTP ----------------------------------------------------------------------------------


class Server:
    """A server of the made-up API: refuses users that are called bad, and keeps the rest.

    Every third request is answered with 503, and does nothing.
    """

    def __init__(self) -> None:
        self.taken: Counter[tuple[str, str]] = Counter()
        self.requests = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request as the documentation says."""
        assert (request.method, request.path) == ("POST", "/v2/batch")
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        self.requests += 1
        if self.requests % 3 == 0:
            return web.Response(status=503)
        body = loads(await request.read())
        assert body.keys() <= set(LISTS)
        assert sum(map(len, body.values())) <= 100
        errors = []
        for name, items in body.items():
            for index, item in enumerate(items):
                if item["external_id"].startswith("bad"):
                    errors.append({"list": name, "index": index, "reason": "who is that?"})
                else:
                    self.taken[name, item["external_id"]] += 1
        if errors:
            return web.Response(status=207, body=dumps({"errors": errors}))
        return web.Response(status=200, body=b"{}")


@contextmanager
def served(server: Server) -> Iterator[str]:
    """Serve in a thread of its own, on a free port of this machine; yield the URL."""
    loop = asyncio.new_event_loop()

    async def start() -> tuple[web.AppRunner, str]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", server.answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"

    runner, url = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield url
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_it_delivers_over_real_http(postbox: Destination, tmp_path: Path) -> None:
    """By the command line, with nothing else told of it: each once, and the bad ones by name."""
    users = [f"{'bad' if number % 50 == 7 else 'user'}-{number}" for number in range(400)]
    bought = {"product_id": "a", "currency": "EUR", "price": 1, "time": "2026-11-01T10:00:00Z"}
    happened = {"name": "opened", "time": "2026-11-01T10:00:00Z"}
    records: list[dict[str, Any]] = [
        one
        for user in users
        for one in (
            {"attributes": {"external_id": user, "plan": "pro"}},
            {"event": {"external_id": user, **happened}},
            {"purchase": {"external_id": user, **bought}},
        )
    ]
    source, letters = tmp_path / "in.ndjson", tmp_path / "letters.ndjson"
    source.write_bytes(b"\n".join(map(dumps, records)) + b"\n{broken\n")
    server, state = Server(), ("--state", str(tmp_path / "state"))
    with served(server) as url:
        said = CliRunner().invoke(
            cli,
            ["import", str(source), "--to", "postbox", "--dead-letters", str(letters), *state],
            env=postbox.sandboxed(url, KEY),
        )
    assert said.exit_code == 1, said.output
    good = [user for user in users if user.startswith("user")]
    assert server.taken == {(name, user): 1 for name in LISTS for user in good}
    written = [loads(line) for line in letters.read_bytes().splitlines()]
    rejected = [letter for letter in written if letter["column"] == "rejected"]
    assert len(rejected) == 3 * 8
    assert all(letter["reason"] == "who is that?" for letter in rejected)
    assert all(
        letter["record"] in records[letter["source"]["line"] - 1].values() for letter in rejected
    )
    assert [letter["column"] for letter in written if letter not in rejected] == ["invalid"]


def test_its_answers_name_records(module: ModuleType) -> None:
    """An error of a 207 refuses the record that it names, and nonsense refuses none."""
    wire = module.PostboxWire(KEY)
    batch = batch_of([(0, "u1"), (1, "u1"), (1, "u2")])
    good = {"list": "events", "index": 1, "reason": f"no {KEY}"}
    odd: list[Any] = [{"list": "events", "index": 2, "reason": ""}, {"list": ["x"]}, None, 7]
    body = dumps({"errors": [good, *odd]})
    said = wire.interpret(batch, Response(207, {}, body, NOW))
    assert said == Delivered(207, (ItemError(1, 1, "refused-by-postbox", "no [redacted]"),))
