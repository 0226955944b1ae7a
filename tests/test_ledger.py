"""The ledger writes before it counts, and counts every record once."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from ingest.codec import loads
from ingest.dispositions import Disposition, Verdict
from ingest.errors import LocalFailure
from ingest.intake import Intake, IntakeRules
from ingest.ledger import SUMMARIES, Ledger, Named
from ingest.outcomes import Delivered, Invalid, Remark, Unanswered, Words, remarks_of
from ingest.records import EMPTY_COLUMN, KINDS, Batch, Column, ordinal_of, position
from ingest.sinks.base import Answer
from ingest.state.dead_letters import DeadLetterFile
from tests.intake_lines import RULES, mixtures

NOW = 1_790_000_000.0


def ledger(path: Path) -> Ledger:
    """A ledger of a source whose parts are called part-N."""
    return Ledger(
        DeadLetterFile(path / "letters", run="r"),
        kinds=KINDS,
        places=Named(lambda part: f"part-{part}"),
        wall=lambda: NOW,
    )


def letters(kept: Ledger) -> list[dict[str, Any]]:
    """The letters written so far."""
    path = kept.dead_letters.path
    return [loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def batch() -> Batch:
    """Two attributes and an event of part 2, in lines 10, 11 and 12."""

    def column(*lines: int) -> Column:
        return Column.of(
            [b'{"external_id": "u%d"}' % line for line in lines],
            [f"u{line}" for line in lines],
            [position(2, line) for line in lines],
            lines,
        )

    return Batch(1, 1, (column(10, 11), column(12), EMPTY_COLUMN))


SAID = Remark("said-by-destination", "the answer is odd")
BAD = (
    Verdict(0, 1, "rejected", "bad-thing", "a thing is bad", 400),
    Verdict(1, 0, "failed", "gave-up", "given up"),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rules=RULES, lines=mixtures())
def test_what_is_read_adds_up(tmp_path: Path, rules: IntakeRules, lines: list[bytes]) -> None:
    """Read is pending plus invalid, each invalid one has its letter and its reason."""
    kept = ledger(tmp_path)
    written = len(letters(kept))
    for taken in Intake(rules).take(2, lines, 1):
        kept.take_in(taken)
    balance = kept.balance
    assert balance.count("read") == balance.count("pending") + balance.count("invalid")
    new = letters(kept)[written:]
    assert len(new) == balance.count("invalid") == kept.dead_letters.written
    reasons = balance.report(
        run="", state="", halted_because=None, source=[], sink="", endpoint="", limits="", seconds=0
    )["reasons"]
    assert sum(r["count"] for r in reasons if r["column"] == "invalid") == len(new)
    for letter in new:
        assert letter["column"] == "invalid"
        assert letter["source"]["name"] == "part-2"
        assert ("record" in letter) != ("raw" in letter)
    kept.close()


def test_warnings_are_counted_and_explained(tmp_path: Path) -> None:
    """By record in the balance, by finding in the reasons, with the first as an example."""
    kept = ledger(tmp_path)
    line = b'{"attributes":{"external_id":"u","a":[null],"b":[null,null]}}'
    for taken in Intake(IntakeRules()).take(0, [line, line], 1):
        kept.take_in(taken)
    report = kept.balance.report(
        run="", state="", halted_because=None, source=[], sink="", endpoint="", limits="", seconds=0
    )
    assert report["of_which"]["warned"] == 2
    found = {
        r["field"]: (r["code"], r["column"], r["count"], r["example"]) for r in report["reasons"]
    }
    assert found == {
        "a[]": ("nested-null", "warned", 2, "part-0:1"),
        "b[]": ("nested-null", "warned", 4, "part-0:1"),
    }
    assert letters(kept) == []


def test_verdicts_and_deliveries_are_counted_once(tmp_path: Path) -> None:
    """Every record of a batch has one column, and the letters say whose they are."""
    kept = ledger(tmp_path)
    for kind, count in (("attributes", 2), ("event", 1)):
        kept.balance.read(kind, count)
    answer = Answer(Delivered(201), request_id="q", status=201)
    kept.settle(batch(), answer, Disposition(delivered=True, verdicts=BAD), attempts=3)
    balance = kept.balance
    assert {
        name: balance.count(name) for name in ("delivered", "rejected", "failed", "pending")
    } == {
        "delivered": 1,
        "rejected": 1,
        "failed": 1,
        "pending": 0,
    }
    rejected, failed = letters(kept)
    assert (rejected["kind"], rejected["record"]) == ("attributes", {"external_id": "u11"})
    assert rejected["source"] == {"name": "part-2", "line": 11}
    assert (rejected["status"], rejected["attempts"], rejected["request_id"]) == (400, 3, "q")
    assert (failed["kind"], failed["source"]["line"], failed["code"]) == ("event", 12, "gave-up")


def test_what_was_not_delivered_is_not_counted_so(tmp_path: Path) -> None:
    """A batch that goes again settles its verdicts and nothing else."""
    kept = ledger(tmp_path)
    kept.settle(batch(), Answer(Invalid(400, ())), Disposition(verdicts=BAD[:1]), attempts=1)
    kept.settle(batch(), Answer(Unanswered(None, "reset")), Disposition(duplicated=3), attempts=1)
    assert (kept.balance.count("delivered"), kept.balance.count("rejected")) == (0, 1)
    assert kept.balance.maybe_duplicated == 3
    assert letters(kept)[0]["request_id"] is None


def test_a_success_may_be_queued_or_warned_of(tmp_path: Path) -> None:
    """Counted within what was delivered; a remark names nobody, so the whole batch is its place."""
    kept = ledger(tmp_path)
    outcome = Delivered(202, queued=True, remarks=(Remark("slow-today", "it is slow"), SAID))
    kept.settle(batch(), Answer(outcome), Disposition(delivered=True, verdicts=BAD[:1]), attempts=1)
    assert (kept.balance.queued, kept.balance.warned, kept.balance.count("delivered")) == (2, 2, 2)
    report = kept.balance.report(
        run="", state="", halted_because=None, source=[], sink="", endpoint="", limits="", seconds=0
    )
    assert {(r["code"], r["example"]) for r in report["reasons"]} == {
        ("bad-thing", "part-2:11"),
        ("slow-today", "part-2:10-12"),
        ("said-by-destination", "part-2:10-12"),
    }
    told = {r["code"]: r["reason"] for r in report["reasons"]}
    assert (told["slow-today"], told[SAID.code]) == ("it is slow", SAID.summary)


@pytest.mark.parametrize(
    ("positions", "place"),
    [
        ([position(1, 4)], "part-1:5"),
        ([position(1, 9), position(1, 4)], "part-1:5-10"),
        ([position(2, 4), position(1, 8)], "part-1:9 to part-2:5"),
    ],
)
def test_a_remark_is_about_some_record_of_its_request(
    tmp_path: Path, positions: list[int], place: str
) -> None:
    """From the first one of the source to the last one, whichever array they were in."""
    kept = ledger(tmp_path)
    columns = [Column.of([b"{}"], ["u"], [at], [ordinal_of(at) + 1]) for at in positions]
    columns += [EMPTY_COLUMN] * (3 - len(columns))
    answer = Answer(Delivered(201, remarks=(SAID,)))
    kept.settle(Batch(1, 1, tuple(columns)), answer, Disposition(delivered=True), attempts=1)
    (reason,) = kept.balance.reasons()
    assert reason.example == place


def test_the_report_holds_no_word_of_the_destination(tmp_path: Path) -> None:
    """Its own sentences, which may hold a value, are in the letters and nowhere else."""
    kept = ledger(tmp_path)
    said = "no such user: ann@example.com"
    codes = sorted(SUMMARIES)
    verdicts = (
        Verdict(0, 0, "rejected", "odd-thing", said, 400),
        *(Verdict(0, 1, "failed", code, f"as told: {said}", 400) for code in codes),
    )
    outcome = Delivered(201, remarks=remarks_of([Words("the answer is odd", said)], secrets=()))
    kept.settle(batch(), Answer(outcome), Disposition(True, verdicts), attempts=1)
    reasons = {reason.code: reason.reason for reason in kept.balance.reasons()}
    assert "ann@" not in repr(reasons)
    assert set(reasons) == {"odd-thing", *codes, "no-such-user"}
    assert reasons["no-such-user"] == "the answer is odd: no such user: …"
    assert "odd-thing" in reasons["odd-thing"]
    assert "dead letter" in reasons["odd-thing"]
    assert {reasons[code] for code in codes} == set(SUMMARIES.values())
    assert all(said in letter["reason"] for letter in letters(kept))


def test_a_piece_that_was_refused_is_a_warned_letter(tmp_path: Path) -> None:
    """Its record is delivered, counted once as warned, and each piece has a letter of its own."""
    kept = Ledger(
        DeadLetterFile(tmp_path / "letters", run="r"),
        kinds=KINDS,
        places=Named(lambda part: f"part-{part}"),
        record_of=lambda batch, slot, fragment: b'{"came":%b}' % fragment,
        wall=lambda: NOW,
    )
    warned = (
        Verdict(0, 1, "delivered", "attribute-refused", "no bob", 202, "plan"),
        Verdict(0, 1, "delivered", "attribute-refused", "no bob", 202, "city"),
    )
    kept.settle(batch(), Answer(Delivered(202)), Disposition(True, BAD[1:], warned), attempts=1)
    balance = kept.balance
    assert (balance.count("delivered"), balance.count("failed"), balance.warned) == (2, 1, 1)
    written = letters(kept)
    assert [letter.get("warned") for letter in written] == [None, True, True]
    assert [letter["field"] for letter in written] == [None, "plan", "city"]
    assert [letter["column"] for letter in written] == ["failed", "delivered", "delivered"]
    assert all("came" in letter["record"] for letter in written)
    reasons = {(one.code, one.field): one for one in balance.reasons()}
    assert reasons["attribute-refused", "plan"].column == "warned"
    assert "bob" not in repr(reasons)


def test_reasons_of_lines_are_told_by_their_summary(tmp_path: Path) -> None:
    """What is true of one line alone is in its letter."""
    kept = ledger(tmp_path)
    for taken in Intake(IntakeRules()).take(0, [b"nope", b'{"a":1,}'], 1):
        kept.take_in(taken)
    (reason,) = kept.balance.reasons()
    assert (reason.reason, reason.count) == ("the line is not JSON", 2)
    assert len({letter["reason"] for letter in letters(kept)}) == 2


def test_a_delivery_without_a_word_of_success_is_counted(tmp_path: Path) -> None:
    """By choice an unanswered batch may count as settled; nobody queued it or warned of it."""
    kept = ledger(tmp_path)
    answer = Answer(Unanswered(None, "reset"))
    kept.settle(batch(), answer, Disposition(delivered=True), attempts=1)
    assert (kept.balance.count("delivered"), kept.balance.queued) == (3, 0)


def test_nothing_is_settled_without_its_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is full no column changes, neither by a verdict nor by the intake."""

    def full(fd: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "full")

    kept = ledger(tmp_path)
    kept.balance.read("event", 3)
    monkeypatch.setattr(os, "write", full)
    success = Disposition(delivered=True, verdicts=BAD, duplicated=1)
    with pytest.raises(LocalFailure):
        kept.settle(batch(), Answer(Delivered(201)), success, attempts=1)
    (taken,) = Intake(IntakeRules()).take(0, [b"nope"], 1)
    with pytest.raises(LocalFailure):
        kept.take_in(taken)
    assert (kept.balance.count("read"), kept.balance.count("pending")) == (3, 3)
    assert (kept.balance.maybe_duplicated, kept.dead_letters.written) == (0, 0)
    kept.close()
