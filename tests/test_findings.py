"""What a plan counts of records and problems."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.balance import MOST_REASONS
from ingest.findings import MOST_PLACES, Findings
from ingest.intake import Intake, IntakeRules
from ingest.records import position
from ingest.taken import Refusal, Taken, Warned

LINES = (
    b'{"attributes": {"external_id": "u1", "plan": "pro"}}',
    b'{"attributes": {"plan": "pro"}}',
    b'{"event": {"external_id": "u1", "name": "saw"}}',
    b'{"attributes": {"external_id": "u1", "country": "Nowhere"}}',
    b'{"purchase": {"external_id": "u1", "product_id": "p", "currency": "EUR", "price": 1, '
    b'"time": "2026-01-01"}}',
    b"nonsense",
)


def named(part: int) -> str:
    """Return what a part is called here."""
    return f"file{part}"


@given(st.lists(st.sampled_from(LINES), max_size=40))
def test_every_record_is_counted_once(lines: list[bytes]) -> None:
    """What is read is what the intake read, and every invalid record has a problem."""
    findings, intake = Findings(named), Intake(IntakeRules())
    for taken in intake.take(0, lines, 1):
        findings.take_in(taken)
    assert findings.read.total() == len(lines)
    bad = sum(line in (LINES[1], LINES[2], LINES[5]) for line in lines)
    assert findings.invalid.total() == bad
    assert sum(one.count for one in findings.found if one.column == "invalid") == bad
    assert findings.warned == lines.count(LINES[3])


def test_the_first_lines_of_a_problem_are_named() -> None:
    """A few places, each once, in the order of the file; what is invalid comes first."""
    findings, intake = Findings(named), Intake(IntakeRules())
    for part in (0, 1):
        for taken in intake.take(part, [LINES[3], LINES[1], LINES[3]], 7):
            findings.take_in(taken)
    first, second = findings.found
    assert (first.code, first.column, first.count) == ("missing-identity", "invalid", 2)
    assert first.places == ["file0:8", "file1:8"]
    assert (second.code, second.field, second.column) == ("unknown-country", "country", "warned")
    assert second.places == ["file0:7", "file0:9", "file1:7"][:MOST_PLACES]


def test_a_line_with_the_same_problem_twice_is_named_once() -> None:
    """Several records of one line are several problems in one place."""
    findings = Findings(named)
    warnings = [Warned("odd", "a", "it is odd", position(0, at), 5) for at in range(2)]
    findings.take_in(Taken((), {"event": 2}, warnings=warnings, warned=2))
    assert [(one.count, one.places) for one in findings.found] == [(2, ["file0:5"])]


def test_problems_beyond_the_first_thousand_share_a_line() -> None:
    """Memory is bounded, however many fields there are, and nothing is left uncounted."""
    findings = Findings(named)
    refusals = [
        Refusal("event", "odd", f"f{at}", "'f' is odd", position(0, at), at, summary="odd")
        for at in range(MOST_REASONS + 5)
    ]
    findings.take_in(Taken((), {"event": len(refusals)}, refusals))
    assert len(findings.found) == MOST_REASONS + 1
    assert findings.found[0].code == "other"
    assert findings.found[0].count == 5
