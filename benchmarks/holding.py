"""Holding a rate: 1,000 requests a second are allowed, and answers take their time.

The null server enforces the limit, tells it with every answer, and notes when requests came. The
import is told `--rate 1000/1s`, what the account allows, and nothing else.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.commands import imported, module, start_up
from benchmarks.corpora import written
from benchmarks.destinations import null_server
from benchmarks.sampling import Plan, Point, Ratio, Round, Sample, Setting

ALLOWED = 1_000
LIMIT = f"{ALLOWED}/1s"
EACH, FEW = 75, 10
"""Records of a request."""

LIGHT = "latency, light requests"
WARM_UP = 3
"""Round trips after which the allowance has to be used."""

SECONDS = 8
SECONDS_QUICK = 4
"""Of sending, beside the round trips of the beginning."""

EDGE = 0.01
"""Seconds by which an arrival may miss the edge of a whole second."""


class Link(NamedTuple):
    """Seconds until an answer, and by how much more or less."""

    latency: float
    jitter: float = 0.0

    def __str__(self) -> str:
        """Return it as people say it: `200±100 ms`."""
        more = f"±{self.jitter * 1000:.0f}" if self.jitter else ""
        return f"{self.latency * 1000:.0f}{more} ms"


START = "import of one record"
LINKS = (Link(0.02), Link(0.2), Link(1.0), Link(0.2, 0.1))


def share_used(arrivals: Sequence[float], allowed: float, since: float, refused: int = 0) -> float:
    """Return the share of the allowance that was used from `since` on, in whole seconds.

    `arrivals` are sorted; the last one ends what is looked at, so that a run which has nothing left
    to send is not blamed for it. What was `refused` goes again a round trip later, when nothing
    else may be left: as many of the last are not looked at. With less than a second all counts.
    """
    arrivals = arrivals[: len(arrivals) - min(refused, len(arrivals) - 1)]
    last = arrivals[-1]
    span = last - since
    if span <= 0:
        return 0.0
    whole = int(span + EDGE) or span
    begin = bisect.bisect_left(arrivals, last - whole)
    return (len(arrivals) - 1 - begin) / (whole * allowed)


def plan(setting: Setting) -> AbstractContextManager[Plan]:
    """Import at a rate over several links, beside a bare client at the same pace."""
    return _plan(setting, EACH)


def light(setting: Setting) -> AbstractContextManager[Plan]:
    """Do it with few records a request: whether the rate is held, apart from the work it makes."""
    return _plan(setting, FEW)


@contextmanager
def _plan(setting: Setting, each: int) -> Iterator[Plan]:
    links = (LINKS[1],) if setting.quick else LINKS
    seconds = SECONDS_QUICK if setting.quick else SECONDS
    contenders: dict[str, Callable[[], Sample]] = {START: partial(_start, setting.folder)}
    ratios: list[Ratio] = []
    for link in links:
        requests = int(ALLOWED * (seconds + WARM_UP * link.latency))
        path = written("typical", requests * each, setting.folder)
        ours, theirs = f"import, {link}", f"bare, {link}"
        contenders |= {
            ours: partial(_import, path, requests, each, link),
            theirs: partial(_bare, path, requests, each, link),
        }
        ratios += _ratios(link, ours, theirs, "latency" if each == EACH else LIGHT)
    yield Plan(contenders, tuple(ratios))


def _ratios(link: Link, ours: str, theirs: str, chart: str) -> list[Ratio]:
    at = link.latency * 1_000
    line = "with jitter" if link.jitter else "steady"
    return [
        Ratio(
            f"share of the allowance used, {link}",
            _more(ours, "share"),
            must=0.99,
            plot=Point(chart, "share used", at, line),
        ),
        Ratio(
            f"share of answers that were 429, {link}",
            _more(ours, "refused"),
            less_is_better=True,
            must=0.01,
            guarded=False,
            plot=Point(chart, "share of 429s", at, line),
        ),
        Ratio(
            f"most in flight, of rate x latency, {link}",
            _more(ours, "in flight"),
            guarded=False,
            plot=Point(chart, "most in flight, of rate x latency", at, line),
        ),
        Ratio(
            f"CPU a record, to the paced bare client's, {link}",
            lambda turn: turn[ours].apart(turn[START]).each / turn[theirs].each,
            less_is_better=True,
            must=2.0,
            plot=Point(chart, "CPU a record, to the bare client's", at, line),
        ),
    ]


def _more(name: str, figure: str) -> Callable[[Round], float]:
    return lambda turn: turn[name].more[figure]


def _start(folder: Path) -> Sample:
    with null_server() as null:
        return start_up(folder, null.url)


def _import(path: Path, requests: int, each: int, link: Link) -> Sample:
    records = requests * each
    caps = ("--limits", "combined" if each == EACH else str(each))
    with null_server(link.latency, link.jitter, LIMIT) as null:
        sample = imported(path, records, null.url, "--rate", LIMIT, *caps)
    arrivals, refused = null.came["arrivals"], null.came["refused"]
    more = {
        "share": share_used(sorted(arrivals), ALLOWED, WARM_UP * link.latency, refused),
        "refused": refused / (len(arrivals) + refused),
        "in flight": null.came["most_in_flight"] / (ALLOWED * link.latency),
    }
    return Sample(sample.records, sample.seconds, sample.cpu, more)


def _bare(path: Path, requests: int, each: int, link: Link) -> Sample:
    with null_server(link.latency, link.jitter) as null:
        given = ("--each", str(each), "--requests", str(requests), "--rate", str(ALLOWED))
        return module("bare", str(path), null.url, *given)
