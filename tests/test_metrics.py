"""What a scrape holds: names that dashboards rely on, and counters that never fall."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.balance import COLUMNS, Balance
from ingest.metrics import COUNTED, Metrics, Vitals
from ingest.records import KINDS

parser = pytest.importorskip("prometheus_client.parser")

ALL = Vitals(
    records={("delivered", "event"): 3},
    requests={"201": 2},
    letters={"bad-time": 1},
    spool_bytes=10,
    rate_limit_remaining=5,
    lag=4,
)
"""One that has everything to tell."""

LABELS = {
    "ingest_records_total": {"column", "kind"},
    "ingest_requests_total": {"status"},
    "ingest_request_seconds_bucket": {"le"},
    "ingest_request_seconds_count": set(),
    "ingest_request_seconds_sum": set(),
    "ingest_retries_total": set(),
    "ingest_maybe_duplicated_total": set(),
    "ingest_in_flight": set(),
    "ingest_queued_records": set(),
    "ingest_spool_bytes": set(),
    "ingest_rate_wait_seconds_total": set(),
    "ingest_rate_limit_remaining": set(),
    "ingest_source_lag_records": set(),
    "ingest_oldest_unsettled_seconds": set(),
    "ingest_dead_letters_total": {"code"},
    "ingest_halted": set(),
}
"""What is promised to users, and must not be renamed."""


def samples(vitals: Vitals, metrics: Metrics | None = None) -> Iterator[Any]:
    """Yield what a scrape holds, but for when something was made."""
    text = (metrics or Metrics(lambda: vitals)).text().decode()
    for family in parser.text_string_to_metric_families(text):
        yield from (one for one in family.samples if not one.name.endswith("_created"))


def values(vitals: Vitals) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the samples of a scrape by name and labels."""
    return {(one.name, tuple(one.labels.values())): one.value for one in samples(vitals)}


def test_every_promised_name_is_there() -> None:
    """With its labels, and nothing else beside."""
    found: dict[str, set[str]] = {}
    for one in samples(ALL):
        found.setdefault(one.name, set()).update(one.labels)
    assert found == LABELS


def test_every_column_begins_at_nothing() -> None:
    """For each kind: the rate of what has no first value is none."""
    fresh = values(Vitals())
    for column in ("read", *COLUMNS):
        for kind in KINDS:
            there = fresh.get(("ingest_records_total", (column, kind)))
            assert there == (None if column == "pending" else 0)
    assert fresh["ingest_requests_total", ("none",)] == 0


def test_a_column_of_a_worker_s_own_is_told_too() -> None:
    """But not what is pending, which may become fewer."""
    told = values(Vitals(records={("given_back", "event"): 2, ("pending", "event"): 5}))
    assert told["ingest_records_total", ("given_back", "event")] == 2
    assert ("ingest_records_total", ("pending", "event")) not in told


def test_what_there_is_not_is_not_told() -> None:
    """No spool, no lag, no word of the destination: a 0 would be a claim."""
    names = {name for name, _ in values(Vitals())}
    assert not names & {
        "ingest_spool_bytes",
        "ingest_source_lag_records",
        "ingest_rate_limit_remaining",
    }


def test_times_of_requests_are_sorted_into_buckets() -> None:
    """As they are told."""
    metrics = Metrics(Vitals)
    for seconds in (0.005, 0.3, 100.0):
        metrics.answered(seconds)
    found = {one.labels.get("le", one.name): one.value for one in samples(Vitals(), metrics)}
    assert (found["0.01"], found["0.4"], found["30.0"], found["+Inf"]) == (1, 2, 2, 3)


def test_several_workers_live_in_one_process() -> None:
    """Each has its own numbers."""
    one, other = Metrics(lambda: Vitals(queued=1)), Metrics(lambda: Vitals(queued=2))
    assert b"ingest_queued_records 1.0" in one.text()
    assert b"ingest_queued_records 2.0" in other.text()


def vitals_of(balance: Balance) -> Vitals:
    """Return what a worker tells of its balance, as far as its counters go."""
    return Vitals(
        records={
            (column, kind): count
            for kind, row in balance.kinds().items()
            for column, count in row.items()
        },
        requests=dict(balance.by_status),
        retries=balance.retried,
        maybe_duplicated=balance.maybe_duplicated,
    )


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.sampled_from(KINDS), st.integers(1, 9)),
        st.tuples(st.just("settle"), st.sampled_from(KINDS), st.sampled_from(COLUMNS[:-1])),
        st.tuples(st.just("answer"), st.sampled_from([None, 201, 429, 500]), st.booleans()),
    ),
    max_size=30,
)


@given(STEPS)
def test_counters_never_fall(steps: list[tuple[str, Any, Any]]) -> None:
    """Whatever the balance goes through; of the columns, what is pending is none of them."""
    balance = Balance()
    before: dict[tuple[str, tuple[str, ...]], float] = {}
    for what, first, second in steps:
        if what == "read":
            balance.read(first, second)
        elif what == "settle":
            balance.read(first)
            balance.settle(first, second)
        else:
            balance.sent(1, again=second)
            balance.answered(first, throttled=first == 429)
        now = values(vitals_of(balance))
        for key, value in before.items():
            if key[0].endswith("_total"):
                assert now[key] >= value
        before = now
    read = sum(value for (_, labels), value in before.items() if labels[:1] == ("read",))
    assert not before or read == balance.count("read")


def test_the_columns_are_those_of_the_balance() -> None:
    """All but one, and what was read."""
    assert set(COUNTED) == {"read", *COLUMNS} - {"pending"}
