"""Plots of what was found: by batch size, latency and number of users (needs matplotlib)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.sampling import Result, Spread

Line = list[tuple[float, Spread]]

AXES = {
    "batch size": "records a request",
    "latency": "latency of the destination, ms",
    "latency, light requests": "latency of the destination, ms",
    "users": "different users in the file",
}


def charts(results: Iterable[Result]) -> dict[str, dict[str, dict[str, Line]]]:
    """Return the lines of each panel of each chart."""
    found: dict[str, dict[str, dict[str, Line]]] = {}
    for result in results:
        for ratio, spread in result.ratios:
            if place := ratio.plot:
                panel = found.setdefault(place.chart, {}).setdefault(place.panel, {})
                panel.setdefault(place.line, []).append((place.at, spread))
    return found


def draw(results: Iterable[Result], folder: Path, form: str = "svg") -> list[Path]:
    """Draw each chart that has points into a file; return their paths.

    Raises `SystemExit` if matplotlib is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot
    except ImportError:
        raise SystemExit("plots need matplotlib: it is in the dependency group bench") from None
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for chart, panels in charts(results).items():
        size = (8, 0.5 + 2.2 * len(panels))
        figure, rows = pyplot.subplots(
            len(panels), sharex=True, squeeze=False, figsize=size, layout="constrained"
        )
        for axes, (panel, lines) in zip(rows[:, 0], panels.items(), strict=True):
            for name, points in lines.items():
                _line(axes, name, sorted(points))
            axes.set_title(panel, fontsize="medium", loc="left")
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            if any(lines):
                axes.legend()
        places = sorted(
            {at for lines in panels.values() for some in lines.values() for at, _ in some}
        )
        last = rows[-1, 0]
        last.set_xscale("log")
        last.set_xticks(places, [f"{place:,.0f}" for place in places])
        last.minorticks_off()
        last.set_xlabel(f"{AXES[chart]} (bars: lowest and highest of the rounds)")
        path = folder / f"{chart.replace(',', '').replace(' ', '-')}.{form}"
        figure.savefig(path)
        pyplot.close(figure)
        paths.append(path)
    return paths


def _line(axes: Any, name: str, points: Line) -> None:
    at = [place for place, _ in points]
    middle = [spread.median for _, spread in points]
    around = [
        [spread.median - spread.low for _, spread in points],
        [spread.high - spread.median for _, spread in points],
    ]
    axes.errorbar(at, middle, yerr=around, marker="o", capsize=3, label=name)
