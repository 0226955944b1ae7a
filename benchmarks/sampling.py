"""How things are compared: in turns, several times, as ratios of one round.

Knows nothing of what is measured. The contenders of a measurement take turns, so that a noisy
minute hits all of them, and a ratio is taken of the samples of one round before the median is.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

LEAST_LEFT = 0.1
"""The share of a time that is left at least without its start-up: noise could make it negative."""


@dataclass(frozen=True)
class Sample:
    """What one turn took: records handled, seconds of the clock, seconds of CPU, and more."""

    records: int
    seconds: float
    cpu: float
    more: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Records per second."""
        return self.records / self.seconds

    @property
    def each(self) -> float:
        """CPU seconds per record."""
        return self.cpu / max(1, self.records)

    def apart(self, start: Sample) -> Sample:
        """Return it without what `start` took: the same command with nothing to do."""
        return Sample(
            self.records,
            max(LEAST_LEFT * self.seconds, self.seconds - start.seconds),
            max(LEAST_LEFT * self.cpu, self.cpu - start.cpu),
            self.more,
        )


Round = Mapping[str, Sample]
"""A sample of each contender, taken one after the other."""


class Point(NamedTuple):
    """Where a ratio is drawn: on a panel of a chart, at a place of its axis, as part of a line."""

    chart: str
    panel: str
    at: float
    line: str = ""


@dataclass(frozen=True)
class Ratio:
    """A figure of one round that means the same on another machine.

    `must` and `aim` are what it has to be at least (at most, where less is better). Only what is
    `guarded` is compared with what was recorded: the rest is too noisy, or 0.
    """

    name: str
    of: Callable[[Round], float]
    less_is_better: bool = False
    must: float | None = None
    aim: float | None = None
    guarded: bool = True
    plot: Point | None = None


@dataclass(frozen=True)
class Plan:
    """What takes turns, and what is made of it."""

    contenders: Mapping[str, Callable[[], Sample]]
    ratios: tuple[Ratio, ...]


@dataclass(frozen=True)
class Setting:
    """What a measurement is told: how much, where files go, and which null destination there is.

    `count` is the records of an import; `runs` are rounds, None for what suits the measurement.
    """

    folder: Path
    null: str
    count: int
    quick: bool = False
    long: bool = False
    runs: int | None = None


@dataclass(frozen=True)
class Measurement:
    """A family of figures, with a name, and a line that says what it is.

    `rounds` are those of a quick run and of a full one. What is not `quick` is not part of a quick
    run unless it is asked for by name.
    """

    name: str
    says: str
    plan: Callable[[Setting], AbstractContextManager[Plan]]
    rounds: tuple[int, int] = (3, 5)
    quick: bool = True


class Spread(NamedTuple):
    """The median of some figures, and the least and the most of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: list[float]) -> Spread:
        """Return the spread of at least one figure."""
        return cls(statistics.median(figures), min(figures), max(figures))


@dataclass(frozen=True)
class Result:
    """What a measurement found: samples by contender, and the ratios of its rounds."""

    name: str
    samples: Mapping[str, list[Sample]]
    ratios: tuple[tuple[Ratio, Spread], ...]


def take(
    measurement: Measurement, setting: Setting, told: Callable[[str], None] = lambda line: None
) -> Result:
    """Let the contenders take turns; `told` hears whose turn it is."""
    rounds = setting.runs or measurement.rounds[0 if setting.quick else 1]
    with measurement.plan(setting) as plan:
        turns: list[dict[str, Sample]] = []
        for number in range(rounds):
            turn: dict[str, Sample] = {}
            for name, contender in plan.contenders.items():
                told(f"{measurement.name} {number + 1}/{rounds}: {name}")
                turn[name] = contender()
            turns.append(turn)
    return Result(
        measurement.name,
        {name: [turn[name] for turn in turns] for name in plan.contenders},
        tuple((ratio, Spread.of([ratio.of(turn) for turn in turns])) for ratio in plan.ratios),
    )
