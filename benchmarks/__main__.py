"""`python -m benchmarks [--quick]`: measure, and tell it as tables, JSON and plots."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks import guard, telling
from benchmarks.destinations import chosen
from benchmarks.plots import draw
from benchmarks.registry import MEASUREMENTS, NAMES, wanted
from benchmarks.sampling import Measurement, Result, Setting, take

FULL, QUICK = 600_000, 120_000
"""Records of an import: seconds of work, so that its start-up is a part that can be taken off."""

FALLEN = 1
"""Exit status when a ratio fell."""


def main() -> int:
    """Measure what was asked for; return the exit status."""
    given = _parser().parse_args()
    if given.list:
        for one in MEASUREMENTS:
            print(f"{one.name:<10} {one.says}{'' if one.quick else ' (not in --quick)'}")
        return 0
    guarding = given.check or given.record
    quick = given.quick or guarding
    null = chosen(given.null)
    before = guard.recorded(null) if given.check else None
    if given.check and before is None:
        raise SystemExit(f"nothing is recorded for {null}: python -m benchmarks --record")
    began = time.monotonic()
    print(telling.shape(telling.machine(null)), flush=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        count = QUICK if quick else FULL
        setting = Setting(Path(folder), null, given.records or count, quick, given.long, given.runs)
        asked = wanted(given.only, quick=quick)
        results = _measure(asked, setting, ratios_only=given.ratios or guarding)
        status = 0
        if before:
            status = _check(before[1], results, asked, setting, whole=not given.only)
    if given.record:
        guard.record(null, guard.figures_of(results))
        print(f"recorded in {guard.RECORDED.name}")
    if given.json:
        told = telling.as_json(results, null, quick=quick)
        Path(given.json).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    if given.plots:
        for path in draw(results, Path(given.plots), given.plot_form):
            print(f"drawn: {path}")
    print(f"\n{time.monotonic() - began:.0f} s in all")
    return status


def _measure(asked: Iterable[Measurement], setting: Setting, *, ratios_only: bool) -> list[Result]:
    results = []
    for measurement in asked:
        result = take(measurement, setting, _whisper)
        _whisper("")
        rows = [] if ratios_only else [*telling.sample_rows(result), ""]
        print("\n" + "\n".join([*rows, *telling.ratio_rows(result)]), flush=True)
        results.append(result)
    return results


def _whisper(line: str) -> None:
    """Say whose turn it is, on a terminal alone, in a line that the next one overwrites."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _check(
    before: guard.Figures,
    results: list[Result],
    asked: Iterable[Measurement],
    setting: Setting,
    *,
    whole: bool,
) -> int:
    """Compare with what was recorded; what fell is measured once more before it counts."""
    names = [one.name for one in asked]
    if not whole:
        before = {name: figures for name, figures in before.items() if name in names}
    after = guard.figures_of(results)
    if fell := guard.falls(before, after):
        doubtful = {fall.measurement for fall in fell}
        print(f"\nonce more, because something fell: {', '.join(sorted(doubtful))}")
        again = _measure([one for one in asked if one.name in doubtful], setting, ratios_only=True)
        fell = guard.falls(before, guard.better_of(after, guard.figures_of(again)))
    for fall in fell:
        print(f"fell by more than a third: {fall}")
    if not fell:
        print("\nno ratio fell by more than a third against the recorded ones")
    return FALLEN if fell else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures what the product costs, as ratios of one run. benchmarks/README.md "
        "says what each figure means.",
    )
    what = parser.add_argument_group("what is measured")
    what.add_argument("--quick", action="store_true", help="about one minute in all: fewer, less")
    what.add_argument("--long", action="store_true", help="also 10,000,000 records, and 2 GB")
    what.add_argument(
        "--only", action="append", choices=NAMES, metavar="NAME", help="this one; can be repeated"
    )
    what.add_argument("--runs", type=int, help="rounds of each, instead of what suits it")
    what.add_argument("--records", type=int, help=f"of an import ({FULL:,}; --quick: {QUICK:,})")
    what.add_argument(
        "--null",
        choices=("auto", "nginx", "asyncio"),
        default="auto",
        help="the null destination (nginx where it is installed)",
    )
    what.add_argument("--folder", help="where files are made, and removed (a temporary directory)")
    what.add_argument("--list", action="store_true", help="list the measurements, and end")
    told = parser.add_argument_group("what is told")
    told.add_argument("--ratios", action="store_true", help="print the ratios only")
    told.add_argument("--json", metavar="FILE", help="write all samples and ratios there")
    told.add_argument("--plots", metavar="DIR", help="draw plots there")
    told.add_argument("--plot-form", choices=("svg", "png"), default="svg")
    guarding = parser.add_argument_group("the regression guard (a quick run each)")
    guarding.add_argument("--record", action="store_true", help="write the ratios down")
    guarding.add_argument(
        "--check", action="store_true", help="exit with 1 if one fell by more than a third"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
