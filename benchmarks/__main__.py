"""`python -m benchmarks [--quick]`: measure, and print a table."""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import measures
from benchmarks.corpora import written

FULL, QUICK = 300_000, 100_000
"""Records per measurement."""


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="a third of the records, once")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, for the median")
    arguments = parser.parse_args()
    count, runs = (QUICK, 1) if arguments.quick else (FULL, arguments.runs)
    print(f"{count:,} records, median of {runs}; Python {platform.python_version()}\n")
    print(f"{'measure':<44} {'records/s':>12} {'lowest':>12} {'highest':>12}")

    def show(name: str, measure: Callable[[], float]) -> float:
        rates = measures.best_of(runs, measure)
        median = statistics.median(rates)
        print(f"{name:<44} {median:>12,.0f} {min(rates):>12,.0f} {max(rates):>12,.0f}", flush=True)
        return median

    for corpus in ("flat", "mixed"):
        show(f"intake, {corpus}", partial(measures.intake, corpus, count))
        for name, caps in (("75", measures.COMBINED), ("225", measures.PER_ARRAY)):
            show(
                f"packing at {name}, {corpus}",
                partial(measures.packing, corpus, count, caps),
            )
    with tempfile.TemporaryDirectory() as folder, measures.null_server() as port:
        files = {corpus: written(corpus, count, Path(folder)) for corpus in ("flat", "mixed")}
        for corpus, path in files.items():
            show(
                f"import at 75, {corpus}, to a null file",
                partial(measures.import_to_file, path, count, "combined"),
            )
        limit = show(
            "the limit: bare aiohttp, bodies of 75",
            partial(measures.bare_http, "flat", count, 75, port),
        )
        for corpus, path in files.items():
            rate = show(
                f"import at 75, {corpus}, over HTTP",
                partial(measures.import_to_http, path, count, "combined", port),
            )
            print(f"{'':<44} {rate / limit:>12.2f} of the limit")


if __name__ == "__main__":
    main()
