"""Laws of the account: columns add up, reasons stay bounded, the report is the agreed one."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.balance import COLUMNS, MOST_REASONS, Balance
from ingest.records import KIND_UNKNOWN, KINDS

ALL_KINDS = (*KINDS, KIND_UNKNOWN)
ENDS = tuple(name for name in COLUMNS if name != "pending")

counts = st.integers(0, 50)
steps = st.lists(st.tuples(st.sampled_from(ALL_KINDS), st.sampled_from(ENDS), counts, counts))


def report_of(balance: Balance) -> dict[str, Any]:
    """Return a report of a run that has nothing else to say."""
    return balance.report(
        run="r1",
        state="finished",
        halted_because=None,
        source=["users.ndjson"],
        sink="braze",
        endpoint="track",
        limits="combined",
        seconds=1.23456,
    )


@given(steps)
def test_the_columns_always_add_up(done: list[tuple[str, str, int, int]]) -> None:
    """Law 1: after every step, in total and by kind, read is the sum of all columns."""
    balance = Balance()
    for kind, column, read, more in done:
        balance.read(kind, read + more)
        balance.settle(kind, column, read)
        columns = balance.columns()
        assert columns["read"] == sum(columns[name] for name in COLUMNS)
        kinds = balance.kinds()
        for row in kinds.values():
            assert row["read"] == sum(row[name] for name in COLUMNS)
            assert row["pending"] >= 0
        for name in ("read", *COLUMNS):
            assert columns[name] == balance.count(name) == sum(row[name] for row in kinds.values())
        bad = ("rejected", "invalid", "failed", "held")
        assert balance.bad == sum(columns[name] for name in bad)


@given(steps)
def test_tallies_are_the_table_without_its_zeros(done: list[tuple[str, str, int, int]]) -> None:
    """What the journal writes down is what the report shows, but for what is pending."""
    balance = Balance()
    for kind, column, read, more in done:
        balance.read(kind, read + more)
        balance.settle(kind, column, read)
    table = {
        (kind, column): n
        for kind, row in balance.kinds().items()
        for column, n in row.items()
        if n and column != "pending"
    }
    assert {(kind, column): n for kind, column, n in balance.tallies() if n} == table


def test_a_kind_that_only_one_endpoint_has_is_in_the_table() -> None:
    """Endpoints are data: a kind of their own is not lost from the sums."""
    balance = Balance()
    balance.read("trigger", 3)
    assert balance.kinds()["trigger"]["pending"] == 3
    assert sum(row["read"] for row in balance.kinds().values()) == balance.count("read")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), counts), max_size=40))
def test_reasons_count_what_they_explain(told: list[tuple[int, int, int]]) -> None:
    """Each (code, field, column) is counted once, its first record is the example."""
    balance = Balance()
    first: dict[tuple[str, str], str] = {}
    for i, (code, field, count) in enumerate(told):
        key = (f"c{code}", f"f{field}")
        first.setdefault(key, f"users.ndjson:{i}")
        balance.explain(*key, "invalid", "it is bad", f"users.ndjson:{i}", count)
    found = balance.reasons()
    assert sum(reason.count for reason in found) == sum(count for _, _, count in told)
    assert {(reason.code, reason.field): reason.example for reason in found} == first
    assert [reason.count for reason in found] == sorted(
        (reason.count for reason in found), reverse=True
    )


@given(st.lists(st.lists(st.tuples(st.integers(0, MOST_REASONS + 2), counts), max_size=5)))
def test_reasons_that_were_counted_are_told_once(told: list[list[tuple[int, int]]]) -> None:
    """Whoever keeps what he was told of each reason has all of them as they are."""
    balance = Balance()
    for number in range(MOST_REASONS):
        balance.explain(f"c{number}", "", "invalid", "it is bad", "users.ndjson:1")
    kept = {reason.code: reason.count for reason in balance.explained()}
    assert len(kept) == MOST_REASONS
    for group in told:
        for code, count in group:
            balance.explain(f"c{code}", "", "invalid", "it is bad", "users.ndjson:2", count)
        news = balance.explained()
        beyond = any(code >= MOST_REASONS for code, _ in group)
        assert len(news) == len({code for code, _ in group if code < MOST_REASONS}) + beyond
        kept |= {reason.code: reason.count for reason in news}
        assert kept == {reason.code: reason.count for reason in balance.reasons()}
        assert balance.explained() == []


def test_reasons_beyond_the_first_thousand_are_one() -> None:
    """Memory stays bounded, the known ones are still told apart, and no count is lost."""
    balance = Balance()
    for i in range(MOST_REASONS + 7):
        balance.explain(f"c{i}", "", "invalid", "it is bad", f"users.ndjson:{i}")
    balance.explain("c0", "", "invalid", "it is bad", "users.ndjson:9999", 10)
    found = {reason.code: reason for reason in balance.reasons()}
    assert len(found) == MOST_REASONS + 1
    assert found["other"].count == 7
    assert found["other"].example == f"users.ndjson:{MOST_REASONS}"
    assert found["c0"].count == 11
    assert found["c0"].example == "users.ndjson:0"


def test_an_untouched_report_has_the_agreed_shape() -> None:
    """Version 1 of the report, name by name, in the agreed order."""
    row = dict.fromkeys(("read", *COLUMNS), 0)
    assert list(row) == [
        *("read", "delivered", "rejected", "invalid", "failed", "held"),
        *("unchanged", "merged", "pending"),
    ]
    expected = {
        "v": 1,
        "run": "r1",
        "state": "finished",
        "halted_because": None,
        "source": ["users.ndjson"],
        "sink": "braze",
        "endpoint": "track",
        "limits": "combined",
        "records": row,
        "of_which": {"queued": 0, "warned": 0, "maybe_duplicated": 0},
        "kinds": {kind: row for kind in ("attributes", "event", "purchase", "unknown")},
        "requests": {
            "sent": 0,
            "retried": 0,
            "throttled": 0,
            "by_status": {},
            "records_each": 0.0,
        },
        "seconds": 1.235,
        "reasons": [],
    }
    found = report_of(Balance())
    assert found == expected
    assert list(found) == list(expected)
    assert list(found["kinds"]) == list(expected["kinds"])  # type: ignore[call-overload]  # any JSON


def test_a_report_tells_of_requests_and_reasons() -> None:
    """Requests by status with `none` for no answer, records each, and what went wrong."""
    balance = Balance()
    balance.read("event")
    balance.settle("event", "invalid")
    balance.explain("no-name", "name", "invalid", "an event needs a name", "users.ndjson:17")
    balance.queued, balance.warned, balance.maybe_duplicated = 1, 2, 3
    for status, again in ((201, False), (429, True), (None, True)):
        balance.sent(25, again=again)
        balance.answered(status, throttled=status == 429)
    found = report_of(balance)
    assert found["requests"] == {
        "sent": 3,
        "retried": 2,
        "throttled": 1,
        "by_status": {"201": 1, "429": 1, "none": 1},
        "records_each": 25.0,
    }
    assert found["of_which"] == {"queued": 1, "warned": 2, "maybe_duplicated": 3}
    assert found["reasons"] == [
        {
            "code": "no-name",
            "field": "name",
            "column": "invalid",
            "reason": "an event needs a name",
            "count": 1,
            "example": "users.ndjson:17",
        }
    ]


def test_a_balance_is_printed_as_its_columns() -> None:
    """Those that hold something, and what was read in any case."""
    balance = Balance()
    assert str(balance) == "read 0"
    balance.read("event", 1_200)
    balance.settle("event", "delivered", 1_199)
    assert str(balance) == "read 1,200, delivered 1,199, pending 1"


def test_what_is_given_back_was_never_read() -> None:
    """Whoever reads it next counts it; what has its end stays."""
    balance = Balance()
    balance.read("event", 5)
    balance.read("purchase", 2)
    balance.settle("event", "delivered", 3)
    balance.settle("purchase", "invalid", 2)
    assert balance.give_back() == {"event": 2}
    assert balance.count("pending") == 0
    assert balance.count("read") == 5
    assert balance.give_back() == {}
