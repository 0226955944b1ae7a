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
from benchmarks.footprint import Repeated, measured
from ingest.settings import format_bytes

FULL, QUICK = 300_000, 100_000
"""Records per measurement."""

BY_HAND = 5
"""The loop that people write gets a fifth of the rows: it is as slow for few as for many."""

TABLE = ("--kind", "attributes")

LATENCIES = (0.0, 0.04)
"""Seconds until an answer: a loopback at its best, and a destination that is near."""

SIZES = (70_000_000, 350_000_000)
"""Bytes of files whose import should take the same memory."""

Show = Callable[[str, Callable[[], float]], float]
"""Measures some times, prints a line, and returns the median."""


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="a third of the records, once")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, for the median")
    arguments = parser.parse_args()
    count, runs = (QUICK, 1) if arguments.quick else (FULL, arguments.runs)
    print(f"{count:,} records, median of {runs}; Python {platform.python_version()}\n")
    print(f"{'measure':<52} {'records/s':>12} {'lowest':>12} {'highest':>12}")

    def show(name: str, measure: Callable[[], float]) -> float:
        rates = measures.best_of(runs, measure)
        median = statistics.median(rates)
        print(f"{name:<52} {median:>12,.0f} {min(rates):>12,.0f} {max(rates):>12,.0f}", flush=True)
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
            print(f"{'':<52} {rate / limit:>12.2f} of the limit")
        _compared(show, count, Path(folder))
        for form in ("ndjson", "csv"):
            for size in SIZES[: 1 if arguments.quick else None]:
                taken = measured(Repeated(form), size, Path(folder), http=True)
                print(f"{form} of {format_bytes(size)}: {taken}", flush=True)


def _compared(show: Show, count: int, folder: Path) -> None:
    """Measure the import of a table beside the loop that people write, in the same run."""
    table, few = written("table", count, folder), written("table", count // BY_HAND, folder)
    for latency in LATENCIES:
        where = f"answers after {latency * 1000:.0f} ms"
        with measures.null_server(latency) as port:
            kept = ("--map", str(measures.saved_map(few, port, *TABLE)))
            ours = [
                show(
                    f"import of a table{how}, {where}",
                    partial(measures.import_to_http, table, count, "combined", port, *more),
                )
                for how, more in (("", TABLE), (" by a map", kept))
            ]
            for name, more in (("loop by hand", ()), ("loop with sessions", ("--session",))):
                rate = show(
                    f"{name}, {where}",
                    partial(measures.by_hand, few, count // BY_HAND, port, *more),
                )
                looked, mapped = (each / rate for each in ours)
                print(
                    f"{'':<52} {looked:>11.1f}x is the import, {mapped:.1f}x by a map", flush=True
                )


if __name__ == "__main__":
    main()
