"""The balance as people read it, on a terminal and in a log."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from ingest.cli.streams import WIDE
from ingest.cli.tables import show_report

CODE = "purchase-currency-is-unknown"
REASON = r"x \[/b] y " + "and a long explanation of it " * 5


def report(**changes: Any) -> dict[str, Any]:
    """A report of one delivered record in one request, and `changes`."""
    row = {"read": 1, "delivered": 1, "rejected": 0, "pending": 0}
    return {
        "run": "20261121T101500Z-5c1e",
        "state": "finished",
        "records": row,
        "kinds": {"attributes": row},
        "of_which": {"queued": 0, "warned": 0, "maybe_duplicated": 0},
        "requests": {"sent": 1, "by_status": {"201": 1}, "records_each": 1.0},
        "seconds": 0.5,
        "reasons": [],
    } | changes


def shown(report: dict[str, Any], width: int = WIDE, letters: int = 0) -> str:
    """Return what is printed where there are `width` columns."""
    out = io.StringIO()
    show_report(Console(file=out, width=width), report, ("letters.ndjson", letters))
    return out.getvalue()


def reasons(count: int) -> list[dict[str, Any]]:
    """Return reasons that are long, and look like markup."""
    one = {"count": 1, "column": "invalid", "code": CODE, "reason": REASON, "example": "in:1"}
    return [one] * count


def test_what_was_delivered_is_what_was_fast() -> None:
    """The rate is that of delivered records, and one is not several."""
    assert "1 request of 1 record in 500ms, 2 records/s (1 x 201)" in shown(report())


def test_nothing_delivered_has_no_rate() -> None:
    """Records that were read and refused say nothing of the speed."""
    records = {"read": 5, "delivered": 0, "rejected": 5, "pending": 0}
    assert "records/s" not in shown(report(records=records))


def test_a_log_has_all_of_a_reason() -> None:
    """Where no terminal sets a width, nothing is cut, wrapped or taken for markup."""
    said = shown(report(reasons=reasons(19)))
    assert REASON.rstrip() in said
    assert "…" not in said
    assert "and 7 more: --report FILE has them all" in said


def test_a_terminal_folds_the_reason_and_keeps_the_code() -> None:
    """A code is whole on a usual terminal, for it is searched for."""
    said = shown(report(reasons=reasons(1)), width=80)
    assert CODE in said
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 80


def test_an_empty_input_is_worth_a_sentence() -> None:
    """A run that read nothing to its end says so; one that was stopped does not."""
    nothing = {"read": 0, "delivered": 0, "rejected": 0, "pending": 0}
    assert "Nothing was read: the input holds no record" in shown(report(records=nothing))
    assert "Nothing was read" not in shown(report(records=nothing, state="halted"))


def test_a_kind_of_its_own_has_a_row() -> None:
    """Whatever kinds a report has are shown, those with nothing read left out."""
    row = {"read": 2, "delivered": 1, "rejected": 1, "pending": 0}
    none = dict.fromkeys(row, 0)
    said = shown(report(records=row, kinds={"attributes": none, "delete": row}))
    assert "│ delete  │    2 │         1 │        1 │" in said
    assert "attributes" not in said


def test_a_warning_is_shown_with_its_summary() -> None:
    """What was altered or dropped is a reason like any other, beside the count of such records."""
    warned = {
        "count": 3,
        "column": "warned",
        "code": "said-by-destination",
        "reason": "the destination took the request, and had something to say",
        "example": "in:7",
    }
    of_which = {"queued": 0, "warned": 3, "maybe_duplicated": 0}
    said = shown(report(of_which=of_which, reasons=[warned]))
    assert "3 with a warning" in said
    for text in ("warned", warned["code"], warned["reason"], "in:7"):
        assert str(text) in said


def test_letters_of_delivered_records_are_told_from_the_others() -> None:
    """A letter of a piece is not one of a record that did not arrive."""
    row = {"read": 3, "delivered": 2, "rejected": 1, "pending": 0}
    one = shown(report(records=row), letters=1)
    assert "1 dead letter in letters.ndjson\n" in one
    three = shown(report(records=row), letters=3)
    said = "3 dead letters in letters.ndjson, 2 of them of records that are delivered all the same"
    assert said in three
