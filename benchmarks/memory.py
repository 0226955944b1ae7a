"""Memory by the size of the input: it must not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.footprint import Repeated, measured
from benchmarks.sampling import Plan, Ratio, Round, Sample, Setting
from ingest.settings import format_bytes

SIZES = (70_000_000, 350_000_000)
QUICK = (20_000_000, 60_000_000)
LONG = (2_000_000_000,)
"""Bytes of the files; the smallest is larger than all that is kept in memory at a time."""

MOST = 150_000_000
"""Bytes that an import may take at any size."""


@contextmanager
def plan(setting: Setting) -> Iterator[Plan]:
    """Import files of several sizes, and look at the peak of memory of all its processes."""
    sizes = QUICK if setting.quick else SIZES + (LONG if setting.long else ())
    contenders: dict[str, Callable[[], Sample]] = {}
    ratios: list[Ratio] = []
    for form in ("ndjson",) if setting.quick else ("ndjson", "csv"):
        names = [f"{form} of {format_bytes(size)}" for size in sizes]
        for name, size in zip(names, sizes, strict=True):
            contenders[name] = partial(_import, setting, form, size)
            ratios.append(
                Ratio(f"{name}, of 150 MB", _of_most(name), less_is_better=True, must=1.0)
            )
        for name in names[1:]:
            ratios.append(
                Ratio(f"{name}, times {names[0]}", _times(name, names[0]), less_is_better=True)
            )
    yield Plan(contenders, tuple(ratios))


def _of_most(name: str) -> Callable[[Round], float]:
    return lambda turn: turn[name].more["memory"] / MOST


def _times(name: str, to: str) -> Callable[[Round], float]:
    return lambda turn: turn[name].more["memory"] / turn[to].more["memory"]


def _import(setting: Setting, form: str, size: int) -> Sample:
    took = measured(Repeated(form), size, setting.folder, http=True)
    more = {"memory": float(took.memory), "journal": float(took.journal)}
    return Sample(took.records, took.seconds, 0.0, more)
