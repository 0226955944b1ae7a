"""A line is judged before it is taken as it will be judged when it is read."""

from __future__ import annotations

from hypothesis import given

from ingest.intake import Intake, IntakeRules
from ingest.judging import LineJudge
from tests.intake_lines import mixtures

RULES = IntakeRules()


def test_only_bad_lines_are_refused_by_their_index() -> None:
    """The first one too, which is no heading here."""
    lines = [
        b"nonsense",
        b'{"event":{"external_id":"u","name":"n","time":"2026-01-01T00:00:00Z"}}',
        b"[]",
    ]
    refused = LineJudge(RULES)(lines)
    assert {index: refusal.code for index, refusal in refused.items()} == {
        0: "not-json",
        2: "not-an-object",
    }


def test_a_line_with_a_bad_record_is_bad() -> None:
    """It has the reason of the first one; the good records of it go back with it."""
    line = b'{"attributes":[{"external_id":"u","a":1},{"a":1},7]}'
    refused = LineJudge(RULES)([line])
    assert list(refused) == [0]
    assert "user" in refused[0].reason or "identi" in refused[0].reason


def test_a_record_that_no_request_takes_is_bad() -> None:
    """However good it is otherwise; the white space around it is no part of it."""
    line = b'{"event":{"external_id":"u","name":"n","time":"2026-01-01T00:00:00Z"}}'
    judge = LineJudge(IntakeRules(largest=70))
    refused = judge([line, line + b" " * 100, line.replace(b'"n"', b'"%b"' % (b"n" * 70))])
    assert {index: refusal.code for index, refusal in refused.items()} == {2: "record-too-large"}


@given(mixtures())
def test_what_is_taken_is_not_refused_later(lines: list[bytes]) -> None:
    """Lines that are not refused here give no refusal when they are read, and the others do."""
    refused = LineJudge(RULES)(lines)
    for index, line in enumerate(lines):
        taken = list(Intake(RULES).take(0, [line], 2))
        assert any(one.refusals for one in taken) == (index in refused)
