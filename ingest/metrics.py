"""What a worker tells Prometheus, under the names that users' dashboards and alerts rely on.

Decides names, labels and buckets. Numbers are asked for when somebody scrapes; only the times of
requests are told here as they happen. Knows no pipeline and no source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from ingest.balance import COLUMNS
from ingest.errors import MissingExtra
from ingest.records import KINDS

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0, 30.0)
"""Seconds of a request: some 10 ms at the best (a sandbox beside us), 30 s is our time-out."""


PENDING: Final = "pending"
COUNTED: Final = ("read", *(column for column in COLUMNS if column != PENDING))
"""Columns that are counters, and told from the start; a worker may have others. What is pending
comes and goes: it is the gauge of queued records."""

UNANSWERED: Final = "none"
"""Status of requests that got no answer."""


class Vitals(msgspec.Struct, frozen=True):
    """How a worker is at one moment.

    `records` counts by (column, kind), `read` among the columns; `requests` by status, `letters` by
    code. Counts are those of the whole life of the worker, and never fall. What is None is not
    told: there is no spool, no lag, no word of the destination. Times are in seconds.
    """

    records: Mapping[tuple[str, str], int] = {}
    requests: Mapping[str, int] = {}
    letters: Mapping[str, int] = {}
    retries: int = 0
    maybe_duplicated: int = 0
    in_flight: int = 0
    queued: int = 0
    spool_bytes: int | None = None
    rate_wait: float = 0.0
    rate_limit_remaining: int | None = None
    lag: int | None = None
    oldest_unsettled: float = 0.0
    halted: bool = False


class Metrics:
    """The metrics of one worker; `vitals` is asked at every scrape.

    Raises `MissingExtra` where prometheus_client is not installed.
    """

    def __init__(self, vitals: Callable[[], Vitals]) -> None:
        try:
            from prometheus_client import CollectorRegistry, Histogram
        except ImportError:
            raise MissingExtra("serving metrics", "cli") from None
        self._vitals: Final = vitals
        # Of our own: what else lives in the process has its own, and tests make many.
        self._registry: Final = CollectorRegistry()
        self._registry.register(_Collector(vitals))
        self._seconds: Final = Histogram(
            "ingest_request_seconds",
            "Time from sending a request to its answer.",
            buckets=BUCKETS,
            registry=self._registry,
        )

    def answered(self, seconds: float) -> None:
        """Note how long an attempt took, backoff not included."""
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """Return what a scrape gets."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)


class _Collector:
    """Turns a look at the worker into metric families."""

    def __init__(self, vitals: Callable[[], Vitals]) -> None:
        self._vitals: Final = vitals

    def describe(self) -> list[Metric]:
        """Name nothing in advance, so that registering asks nobody yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        now = self._vitals()
        records = CounterMetricFamily(
            "ingest_records",
            "Records by column of the balance and kind.",
            labels=["column", "kind"],
        )
        # All of them from the start: a rate of what has no first value is none.
        counts = {(column, kind): 0 for column in COUNTED for kind in KINDS}
        counts |= {key: count for key, count in now.records.items() if key[0] != PENDING}
        for labels, count in sorted(counts.items()):
            records.add_metric(labels, count)
        yield records
        requests = CounterMetricFamily(
            "ingest_requests", "Requests by status; none: no answer came.", labels=["status"]
        )
        for status, count in sorted({UNANSWERED: 0, **now.requests}.items()):
            requests.add_metric([status], count)
        yield requests
        letters = CounterMetricFamily(
            "ingest_dead_letters", "Dead letters by the code of their reason.", labels=["code"]
        )
        for code, count in sorted(now.letters.items()):
            letters.add_metric([code], count)
        yield letters
        for name, about, counted in (
            ("ingest_retries", "Requests that were sent again.", now.retries),
            (
                "ingest_maybe_duplicated",
                "Records of which one more copy may have arrived.",
                now.maybe_duplicated,
            ),
            ("ingest_rate_wait_seconds", "Time that sends waited for the rate.", now.rate_wait),
        ):
            yield CounterMetricFamily(name, about, value=counted)
        gauges: tuple[tuple[str, str, float | None], ...] = (
            ("ingest_in_flight", "Requests without an answer yet.", now.in_flight),
            ("ingest_queued_records", "Records read and not settled.", now.queued),
            ("ingest_spool_bytes", "Bytes that are in the spool.", now.spool_bytes),
            (
                "ingest_rate_limit_remaining",
                "What the destination last said is left.",
                now.rate_limit_remaining,
            ),
            ("ingest_source_lag_records", "Messages that wait at the broker.", now.lag),
            (
                "ingest_oldest_unsettled_seconds",
                "Age of the oldest message that was read and is not settled.",
                now.oldest_unsettled,
            ),
            ("ingest_halted", "1 while the destination's answer forbids sending.", now.halted),
        )
        for name, about, value in gauges:
            if value is not None:
                yield GaugeMetricFamily(name, about, value=float(value))
