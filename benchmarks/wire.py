"""The limit and ours: records to HTTP, as shares of what bare aiohttp does with ready bodies.

Start-up is apart: the least that the same command takes for the first record is taken off what the
others took, while the bare client times itself. Of a table it is that of a file with one row, for
the command looks at all cells first. What a person waits for is there as well, start-up in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.bare import CONNECTIONS
from benchmarks.commands import first_of, imported, module, start_up
from benchmarks.corpora import of_users, saved, written
from benchmarks.destinations import serving
from benchmarks.sampling import Plan, Point, Ratio, Round, Sample, Setting

MORE_CONNECTIONS = (16, 512)
"""Of the bare client as well, in a full run: to show that the limit is not one of connections."""

START = "import of one record"
FIRST = "import of the first record"
PER_REQUEST = 25
"""The bare client posts a body for every so many records of an import: about a second of work."""

PER_ARRAY = ("--limits", "per-array")
SIZES = (10, 25, 75, 150, 225)
USERS = (10, 100, 1_000, 10_000, 100_000)
PART = 3
"""The measurements that draw a line import this part of the records: they have many points."""


_START_OF = {"ndjson": FIRST, "csv": START}


def bare(path: Path, url: str, each: int, count: int, connections: int = CONNECTIONS) -> Sample:
    """Post ready bodies: as many whatever is in them, for as long as an import of the records."""
    requests = ("--requests", str(count // PER_REQUEST), "--connections", str(connections))
    return module("bare", str(path), url, "--each", str(each), *requests)


def rate_of(name: str, to: str, start: str | None = START) -> Callable[[Round], float]:
    """Return what makes the ratio of two rates, the start-up of the first apart if it is named."""

    def of(turn: Round) -> float:
        ours = turn[name] if start is None else turn[name].apart(turn[start])
        return ours.rate / turn[to].rate

    return of


def cpu_of(name: str, to: str, start: str = START) -> Callable[[Round], float]:
    """Return what makes the ratio of two costs per record, the start-up of the first apart."""
    return lambda turn: turn[name].apart(turn[start]).each / turn[to].each


@contextmanager
def plan(setting: Setting) -> Iterator[Plan]:
    """Import typical records, as NDJSON and a table, at 75, and of all kinds at 225 a request."""
    count, folder = setting.count, setting.folder
    lines, table = (written("typical", count, folder, form) for form in ("ndjson", "csv"))
    kinds = written("kinds", count, folder)
    with serving(setting.null) as null:
        contenders: dict[str, Callable[[], Sample]] = {
            START: partial(start_up, folder, null.url),
            FIRST: partial(first_of, lines, null.url),
            "the limit at 75": partial(bare, lines, null.url, 75, count),
            "ndjson at 75": partial(imported, lines, count, null.url),
            "csv at 75": partial(imported, table, count, null.url),
            "the limit at 225": partial(bare, kinds, null.url, 225, count),
            "ndjson at 225": partial(imported, kinds, count, null.url, *PER_ARRAY),
        }
        ratios: list[Ratio] = []
        if not setting.quick:
            for number in MORE_CONNECTIONS:
                name = f"the limit at 75, {number} connections"
                contenders[name] = partial(bare, lines, null.url, 75, count, number)
                to = f"of {CONNECTIONS}"
                of = rate_of(name, "the limit at 75", None)
                ratios.append(Ratio(f"{name}, {to}", of, guarded=False))
        ratios += [
            _of_limit("ndjson", 75, must=0.45, aim=0.7),
            Ratio(
                "ndjson at 75, of the limit, start-up in",
                rate_of("ndjson at 75", "the limit at 75", None),
                guarded=False,
            ),
            _of_limit("csv", 75),
            _of_limit("ndjson", 225, must=0.22, aim=0.35),
            _cpu("ndjson", 75, must=2.2, aim=1.5),
            _cpu("csv", 75),
            _cpu("ndjson", 225),
        ]
        yield Plan(contenders, tuple(ratios))


def _of_limit(form: str, each: int, must: float | None = None, aim: float | None = None) -> Ratio:
    name = f"{form} at {each}"
    of = rate_of(name, f"the limit at {each}", _START_OF[form])
    return Ratio(f"{name}, of the limit", of, must=must, aim=aim)


def _cpu(form: str, each: int, must: float | None = None, aim: float | None = None) -> Ratio:
    name = f"{form} at {each}"
    of = cpu_of(name, f"the limit at {each}", _START_OF[form])
    return Ratio(
        f"{name}, CPU a record, to the limit's", of, less_is_better=True, must=must, aim=aim
    )


@contextmanager
def sizes(setting: Setting) -> Iterator[Plan]:
    """Import records of all kinds at several numbers a request, beside the limit at each."""
    count, folder = setting.count // PART, setting.folder
    lines = written("kinds", count, folder)
    with serving(setting.null) as null:
        contenders: dict[str, Callable[[], Sample]] = {FIRST: partial(first_of, lines, null.url)}
        ratios = []
        for each in SIZES:
            limit, ours = f"the limit at {each}", f"ndjson at {each}"
            caps = ("--limits", str(each))
            contenders[limit] = partial(bare, lines, null.url, each, count)
            contenders[ours] = partial(imported, lines, count, null.url, *caps)
            of, cpu = rate_of(ours, limit, FIRST), cpu_of(ours, limit, FIRST)
            ratios += [
                Ratio(
                    f"ndjson at {each}, of the limit",
                    of,
                    plot=Point("batch size", "records/s, of the limit", each),
                ),
                Ratio(
                    f"ndjson at {each}, CPU a record, to the limit's",
                    cpu,
                    less_is_better=True,
                    plot=Point("batch size", "CPU a record, to the limit's", each),
                ),
            ]
        yield Plan(contenders, tuple(ratios))


@contextmanager
def users(setting: Setting) -> Iterator[Plan]:
    """Import records of few users and of many, beside records of a user each."""
    count, folder = setting.count // PART, setting.folder
    lines = written("typical", count, folder)
    with serving(setting.null) as null:
        contenders: dict[str, Callable[[], Sample]] = {
            START: partial(start_up, folder, null.url),
            "a user each": partial(imported, lines, count, null.url),
        }
        ratios = []
        for number in USERS:
            name = f"{number:,} users"
            path = saved(folder / f"{number}-{count}.ndjson", of_users(number).ndjson(count))
            contenders[name] = partial(imported, path, count, null.url)
            ratios.append(
                Ratio(
                    f"{name}, of a user each",
                    _pair(name, "a user each"),
                    plot=Point("users", "records/s, of those of a user each", number),
                )
            )
        yield Plan(contenders, tuple(ratios))


@contextmanager
def corpora(setting: Setting) -> Iterator[Plan]:
    """Import every corpus, as NDJSON and as a table: bytes per second of the typical one's."""
    count, folder = setting.count // PART, setting.folder
    with serving(setting.null) as null:
        contenders: dict[str, Callable[[], Sample]] = {START: partial(start_up, folder, null.url)}
        ratios = []
        for form in ("ndjson", "csv"):
            for corpus, part in (
                ("typical", 1),
                ("small", 1),
                ("few", 1),
                ("fat", 5),
                ("columns", 5),
            ):
                name, some = f"{corpus}, {form}", count // part
                path = written(corpus, some, folder, form)
                contenders[name] = partial(imported, path, some, null.url)
                if corpus != "typical":
                    ratios.append(
                        Ratio(f"{name}, of typical, {form}", _pair(name, f"typical, {form}"))
                    )
        yield Plan(contenders, tuple(ratios))


def _pair(name: str, to: str) -> Callable[[Round], float]:
    return lambda turn: turn[name].apart(turn[START]).rate / turn[to].apart(turn[START]).rate
