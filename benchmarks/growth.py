"""Growth: the time per record must be as long for many records as for few, start-up apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.commands import imported, start_up
from benchmarks.corpora import written
from benchmarks.destinations import serving
from benchmarks.sampling import Plan, Ratio, Round, Sample, Setting

START = "import of one record"
QUICK = (50_000, 200_000)
COUNTS = (100_000, 1_000_000)
LONG = (10_000_000,)
FLAT = 1.1
"""Times the time per record of the fewest that it may take."""


@contextmanager
def plan(setting: Setting) -> Iterator[Plan]:
    """Import more and more typical records."""
    counts = QUICK if setting.quick else COUNTS + (LONG if setting.long else ())
    with serving(setting.null) as null:
        contenders: dict[str, Callable[[], Sample]] = {
            START: partial(start_up, setting.folder, null.url)
        }
        for count in counts:
            path = written("typical", count, setting.folder)
            contenders[f"{count:,} records"] = partial(imported, path, count, null.url)
        fewest, *more = (f"{count:,} records" for count in counts)
        yield Plan(
            contenders,
            tuple(
                Ratio(
                    f"{kind} a record of {name}, of {fewest}",
                    of(name, fewest),
                    less_is_better=True,
                    must=FLAT,
                    guarded=of is _cpu,  # seconds of the fewest are few: too noisy to be held to
                )
                for name in more
                for kind, of in (("time", _time), ("CPU", _cpu))
            ),
        )


def _time(name: str, to: str) -> Callable[[Round], float]:
    return lambda turn: turn[to].apart(turn[START]).rate / turn[name].apart(turn[START]).rate


def _cpu(name: str, to: str) -> Callable[[Round], float]:
    return lambda turn: turn[name].apart(turn[START]).each / turn[to].apart(turn[START]).each
