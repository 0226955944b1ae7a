"""The shape of the package, read from its syntax: imports go down, a dependency has one owner."""

from __future__ import annotations

import ast
import importlib.util
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

# From the bottom up. A module may import from the levels below its own, and from its own package.
# A module or package that is new has to be put into one of them, and into the
# coverage report of pyproject.toml.
VALUES: Final = {"errors", "records"}
CODEC: Final = {"codec"}
CORE: Final = {
    "agenda",
    "balance",
    "batcher",
    "billing",
    "breaker",
    "columns",
    "configuration",
    "dispositions",
    "distinct",
    "filling",
    "findings",
    "finishing",
    "forecast",
    "forms",
    "health",
    "history",
    "inflight",
    "intake",
    "judging",
    "leaders",
    "learning",
    "limits",
    "lingering",
    "lots",
    "messages",
    "meters",
    "newcomers",
    "objects",
    "outcomes",
    "pace",
    "plainest",
    "polling",
    "posts",
    "profiles",
    "proof",
    "proofs",
    "proving",
    "queues",
    "quota",
    "quoting",
    "ranges",
    "rates",
    "receipts",
    "resends",
    "retry",
    "rising",
    "samples",
    "schemas",
    "segments",
    "serverwords",
    "settings",
    "shares",
    "superseding",
    "taken",
    "tallies",
    "tolerance",
    "userkeys",
    "validation",
    "visibility",
    "watermarks",
}
FILES: Final = {"appending", "seldom"}  # what several of the edges write and talk by
EDGES: Final = {"metrics", "observer", "sandbox", "sinks", "sources", "state", "throttle"}
DRIVERS: Final = {
    "acking",
    "assembly",
    "deliveries",
    "dispatcher",
    "embedded",
    "hearing",
    "lag",
    "ledger",
    "noting",
    "ops",
    "pipeline",
    "reader",
    "reading",
    "sockets",
    "spooling",
    "verifying",
    "worker",
}
FACADE: Final = {""}  # ingest/__init__.py: what users of the library import, and nothing below it
TESTING: Final = {"testing"}
CLI: Final = {"cli"}
START: Final = {"__main__"}
LEVELS: Final = (VALUES, CODEC, CORE, FILES, EDGES, DRIVERS, FACADE, TESTING, CLI, START)

SIDEWAYS: Final = (CORE, DRIVERS)
"""Levels whose modules may import one another, as long as there is no cycle."""

PURE: Final = VALUES | CODEC | CORE
WAITING: Final = {
    *("asyncio", "logging", "multiprocessing", "os", "random", "secrets", "select", "selectors"),
    *("signal", "socket", "sqlite3", "ssl", "subprocess", "threading", "time"),
}
"""What a module that only decides has no use for: a clock, dice, a log, the system."""

OWNERS: Final = {
    "aiobotocore": {"sources.sqs_client"},
    "botocore": {"sources.sqs_client"},
    "aiohappyeyeballs": {"sinks.direct"},
    "aiohttp": {"sinks.session", "sandbox.server", "sources.http", "ops"},
    "aiokafka": {"sources.kafka_client"},
    "aiolimiter": {"throttle"},
    "click": {"cli"},
    "httptools": {"sinks.connection"},
    "json": {"codec"},
    "msgspec.json": {"codec"},
    "msgspec.msgpack": {"codec"},
    "multidict": {"sinks.session", "sandbox.server"},
    "orjson": {"codec"},
    "prometheus_client": {"metrics"},
    "pytest": {"testing"},
    "rich": {"cli"},
    "sqlite3": {"state"},
    "tomli_w": {"cli.saved_maps"},
    "tomllib": {"cli", "configuration"},
    "uvloop": {"cli"},
    "yarl": {"sinks.http", "sinks.session", "sandbox.server"},
    "zstandard": {"sources.streams"},
    "pyarrow": {"sources.parquet"},
    "fsspec": {"sources.remote"},
}
"""The modules or packages that may import a dependency; replacing it changes nothing else."""

EVERYWHERE: Final = {"msgspec"}
"""Third-party packages without an owner: msgspec for its Struct (its decoders have one)."""


@cache
def sources() -> dict[str, Path]:
    """Every module of the package as it is installed, by its name without `ingest.`."""
    spec = importlib.util.find_spec("ingest")
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    return {
        ".".join(path.relative_to(root).with_suffix("").parts)
        .removesuffix("__init__")
        .strip("."): path
        for path in sorted(root.rglob("*.py"))
    }


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` for such an expression, else an empty text."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name) if before := dotted(value):
            return f"{before}.{name}"
        case _:
            return ""


def imported(text: str, module: str, *, package: bool = False) -> Iterator[str]:
    """Yield what a source imports, at any depth, each name in full: `a.b` for `from a import b`.

    The use of an attribute of an imported package (`msgspec.json.decode`) counts as its import.
    """
    here = f"ingest.{module}".rstrip(".").split(".")
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=base, names=names, level=level):
                above = here[: len(here) - level + package] if level else []
                for name in names:
                    yield ".".join([*above, *([base] if base else []), name.name])
            case ast.Attribute() if dotted(node).startswith("msgspec."):
                yield dotted(node)


@cache
def imports(module: str) -> frozenset[str]:
    """Everything a module of the package imports, as full names."""
    path = sources()[module]
    return frozenset(imported(path.read_text(), module, package=path.name == "__init__.py"))


def own(name: str) -> str | None:
    """Return the module of this package that a full name lies in, None for another package's."""
    top, _, rest = name.partition(".")
    if top != "ingest":
        return None
    while rest and rest not in sources():
        rest = rest.rpartition(".")[0]
    return rest


def level(module: str) -> int:
    """Return the level of a module, from 0 at the bottom; -1 if it is in none."""
    return next((at for at, names in enumerate(LEVELS) if module.split(".")[0] in names), -1)


def goes_down(module: str, target: str) -> bool:
    """Tell whether a module may import another one."""
    same_unit = module.split(".")[0] == target.split(".")[0]
    sideways = level(module) == level(target) and LEVELS[level(module)] in SIDEWAYS
    return same_unit or sideways or level(target) < level(module)


MODULES: Final = sorted(sources())


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_level(module: str) -> None:
    """A new module is put somewhere on purpose: add it to a level above, and see what it means."""
    assert level(module) >= 0


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    """A module knows those below it and its own package's, and none above or beside it."""
    targets = {target for name in imports(module) if (target := own(name)) is not None}
    assert [target for target in targets if not goes_down(module, target)] == []


def test_imports_have_no_cycle() -> None:
    """Modules can be read in some order, each after those that it needs."""
    graph = {
        module: {target for name in imports(module) if (target := own(name)) not in (None, module)}
        for module in MODULES
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] in PURE])
def test_what_decides_does_not_wait(module: str) -> None:
    """No clock, no dice, no log and no I/O in the core: it takes `now` and `jitter`."""
    assert {name.split(".")[0] for name in imports(module)} & WAITING == set()


@pytest.mark.parametrize("module", MODULES)
def test_each_dependency_has_its_owner(module: str) -> None:
    """What is not of the standard library, and some of it, is imported in one place each."""
    for name in imports(module):
        top = name.split(".")[0]
        owned = [owner for owner in OWNERS if f"{name}.".startswith(f"{owner}.")]
        for owner in owned:
            allowed = any(f"{module}.".startswith(f"{place}.") for place in OWNERS[owner])
            assert allowed, f"{owner} belongs to {OWNERS[owner]}"
        known = owned or top in sys.stdlib_module_names | EVERYWHERE | {"ingest"}
        assert known, f"{top} has no owner yet"


def test_the_same_core_is_covered() -> None:
    """`make check` asks for full coverage of exactly the modules that decide, and of the wires."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    asked = tomllib.loads(text)["tool"]["coverage"]["report"]["include"]
    found = {name.removeprefix("ingest/").removesuffix("/*").removesuffix(".py") for name in asked}
    assert {name for name in found if not name.startswith("sinks/")} == PURE
    for name in asked:
        package = name.endswith("/*")
        where = name.removesuffix("/*").removesuffix(".py").replace("/", ".")
        assert where.removeprefix("ingest.") in sources()
        assert (sources()[where.removeprefix("ingest.")].name == "__init__.py") == package


def test_the_reader_of_imports_sees_them_all() -> None:
    """At any depth, relative or not, and decoders that are reached through their package."""
    text = "import a.b, c as d\ndef f():\n  from . import e\n  from ..g.h import i\nmsgspec.json.x"
    seen = set(imported(text, "sinks.http"))
    assert seen == {"a.b", "c", "ingest.sinks.e", "ingest.g.h.i", "msgspec.json", "msgspec.json.x"}
    assert set(imported("from .b import c", "sinks", package=True)) == {"ingest.sinks.b.c"}


def test_the_rule_knows_up_from_down() -> None:
    """Down, within a package and within the core: yes. Up, or to a neighbour's package: no."""
    allowed = [("pipeline", "sinks.http"), ("sinks.braze", "sinks.http"), ("retry", "outcomes")]
    refused = [("records", "codec"), ("sinks.http", "throttle"), ("retry", ""), ("state", "cli")]
    assert all(goes_down(*pair) for pair in allowed)
    assert not any(goes_down(*pair) for pair in refused)
