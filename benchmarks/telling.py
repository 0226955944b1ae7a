"""What was found, as tables for a terminal and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from benchmarks.sampling import Ratio, Result, Sample, Spread

WIDTH = 66
HEADS = f"{'median':>10} {'lowest':>10} {'highest':>10}"


def machine(null: str) -> dict[str, Any]:
    """Return the shape of this machine, as far as ratios depend on it."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "loop": "uvloop" if find_spec("uvloop") else "asyncio",
        "null destination": null,
    }


def shape(told: dict[str, Any]) -> str:
    """Return the shape of a machine in a line."""
    return (
        f"{told['cores']} cores, {told['system']}, Python {told['python']}, {told['loop']}, "
        f"null destination: {told['null destination']}"
    )


def figure(number: float) -> str:
    """Return a figure with three digits that count."""
    if abs(number) >= 1_000:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 100 else f"{number:.3g}"


def row(name: str, spread: Spread, more: str = "") -> str:
    """Return a line of a table."""
    cells = " ".join(f"{figure(one):>10}" for one in spread)
    return f"{name:<{WIDTH}} {cells}  {more}".rstrip()


def sample_rows(result: Result) -> Iterable[str]:
    """Yield the absolute figures of a measurement: they mean something on this machine alone."""
    yield f"{result.name + ', records/s':<{WIDTH}} {HEADS}  CPU us a record"
    for name, samples in result.samples.items():
        spread = Spread.of([sample.rate for sample in samples])
        cpu = Spread.of([sample.each * 1e6 for sample in samples]).median
        yield row(f"  {name}", spread, figure(cpu) if cpu else "")
        for key in samples[0].more:
            yield row(f"    {key}", Spread.of([sample.more[key] for sample in samples]))


def ratio_rows(result: Result) -> Iterable[str]:
    """Yield the ratios of a measurement, and what they have to be."""
    yield f"{result.name + ', ratios':<{WIDTH}} {HEADS}"
    for ratio, spread in result.ratios:
        yield row(f"  {ratio.name}", spread, wanted(ratio, spread.median))


def wanted(ratio: Ratio, median: float) -> str:
    """Say what a ratio has to be, and whether it is."""
    if ratio.must is None:
        return ""
    held = median <= ratio.must if ratio.less_is_better else median >= ratio.must
    side = "most" if ratio.less_is_better else "least"
    aim = f", aim {ratio.aim:g}" if ratio.aim is not None else ""
    return f"at {side} {ratio.must:g}{aim}: {'yes' if held else 'NO'}"


def as_json(results: Iterable[Result], null: str, *, quick: bool) -> dict[str, Any]:
    """Return all that was found."""
    return {
        "machine": machine(null),
        "quick": quick,
        "measurements": {
            result.name: {
                "samples": {
                    name: [_sample(sample) for sample in samples]
                    for name, samples in result.samples.items()
                },
                "ratios": {
                    ratio.name: {
                        **spread._asdict(),
                        "less_is_better": ratio.less_is_better,
                        "must": ratio.must,
                        "aim": ratio.aim,
                    }
                    for ratio, spread in result.ratios
                },
            }
            for result in results
        },
    }


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "records": sample.records,
        "seconds": sample.seconds,
        "cpu_seconds": sample.cpu,
        "more": dict(sample.more),
    }
