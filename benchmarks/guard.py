"""The regression guard: whether a ratio fell by more than a third against the recorded one.

Ratios are recorded for each null destination apart, for they depend on it, with the shape of the
machine. Decides only; what is measured, and how often, is up to whoever asks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.sampling import Result
from benchmarks.telling import figure, machine

RECORDED = Path(__file__).with_name("recorded.json")
FALL = 2 / 3
"""What is left of a ratio at least: a shared machine's noise stays well above it."""


class Figure(NamedTuple):
    """A ratio as it is recorded."""

    median: float
    less_is_better: bool = False

    def left(self, before: Figure) -> float:
        """Return what is left of it, 1 for as good as before: the inverse where less is better."""
        better, worse = (before, self) if self.less_is_better else (self, before)
        return better.median / worse.median if worse.median else 1.0


class Fall(NamedTuple):
    """A ratio that fell, or that was not measured any more (`after` is None)."""

    measurement: str
    name: str
    before: float
    after: float | None

    def __str__(self) -> str:
        """Tell it in a line."""
        now = "not measured any more" if self.after is None else figure(self.after)
        return f"{self.measurement}: {self.name:<60} {figure(self.before):>10} -> {now}"


Figures = Mapping[str, Mapping[str, Figure]]
"""Ratios by measurement and name."""


def figures_of(results: Iterable[Result]) -> dict[str, dict[str, Figure]]:
    """Return the ratios that are guarded, by measurement and name."""
    return {
        result.name: {
            ratio.name: Figure(spread.median, ratio.less_is_better)
            for ratio, spread in result.ratios
            if ratio.guarded
        }
        for result in results
    }


def falls(before: Figures, after: Figures) -> list[Fall]:
    """Return what fell by more than a third, worst first; what was not recorded cannot fall."""
    found: list[tuple[float, Fall]] = []
    for measurement, figures in before.items():
        for name, was in figures.items():
            now = after.get(measurement, {}).get(name)
            if now is None:
                found.append((0.0, Fall(measurement, name, was.median, None)))
            elif (left := now.left(was)) < FALL:
                found.append((left, Fall(measurement, name, was.median, now.median)))
    return [fall for _, fall in sorted(found)]


def better_of(one: Figures, other: Figures) -> dict[str, dict[str, Figure]]:
    """Return the better of two measurements of each ratio: noise only ever makes one worse."""
    best = {name: dict(figures) for name, figures in one.items()}
    for measurement, figures in other.items():
        mine = best.setdefault(measurement, {})
        for name, found in figures.items():
            if name not in mine or found.left(mine[name]) > 1:
                mine[name] = found
    return best


def recorded(null: str, path: Path = RECORDED) -> tuple[dict[str, Any], Figures] | None:
    """Return the shape of the machine and the ratios recorded for a null destination."""
    if not path.exists():
        return None
    told = json.loads(path.read_text()).get(null)
    if told is None:
        return None
    ratios = {
        measurement: {name: Figure(**figure) for name, figure in figures.items()}
        for measurement, figures in told["ratios"].items()
    }
    return told["machine"], ratios


def record(null: str, figures: Figures, path: Path = RECORDED) -> None:
    """Write ratios down for a null destination; those of others, and other measurements, stay."""
    told = json.loads(path.read_text()) if path.exists() else {}
    told[null] = {
        "machine": machine(null),
        "ratios": told.get(null, {}).get("ratios", {})
        | {
            measurement: {
                name: {"median": float(f"{one.median:.3g}"), "less_is_better": one.less_is_better}
                for name, one in some.items()
            }
            for measurement, some in figures.items()
        },
    }
    path.write_text(json.dumps(told, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
