"""Schemas: what the intake asks of one, and the one of users/track."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import dumps
from ingest.forms import Found, Misformed, records_of
from ingest.intake import Intake, IntakeRules
from ingest.records import WHOLE, Partition
from ingest.schemas import Encoded, Judged, TrackSchema
from ingest.validation import Grade, Problem

STATE = Problem(Grade.ERROR, "bad-state", "state", "'state' must be a text", "drop", ("state",))


class States:
    """Takes records that have a state, which all records of a request share; or old ones."""

    provable = False
    remembers = False

    def __init__(self) -> None:
        self.times: list[float] = []
        self.withdrawn: list[Encoded] = []

    def read(self, line: bytes, kind: str | None) -> Iterable[Found | Misformed]:
        """Read what users/track would."""
        return records_of(line, kind)

    def heading(self, line: bytes) -> bool:
        """Know one heading."""
        return line == b"heading"

    def examine(self, kind: str, record: dict[str, Any], now: float, *, validate: bool) -> Judged:
        """Ask for a state that is a text, if there is one."""
        self.times.append(now)
        wrong = validate and not isinstance(record.get("state", ""), str)
        return str(record["external_id"]), [STATE] if wrong else []

    def encode(self, found: Found, record: dict[str, Any]) -> Encoded:
        """Send the id alone, beside the state."""
        state = record.get("state")
        partition = WHOLE if state is None else Partition(members=b'"state":' + dumps(state))
        return Encoded(1, dumps(record["external_id"]), partition)

    def withdraw(self, encoded: Encoded) -> None:
        """Remember what was refused after it was encoded."""
        self.withdrawn.append(encoded)


def line(user: str, state: Any = None) -> bytes:
    """One record."""
    record = {"external_id": user} | ({} if state is None else {"state": state})
    return dumps({"attributes": record})


@given(st.lists(st.sampled_from(["a", "b", None]), max_size=40))
def test_a_chunk_is_a_run_of_one_partition(states: list[str | None]) -> None:
    """In the order of the source, so that a user's records keep theirs over all partitions."""
    lines = [line(f"u{n}", state) for n, state in enumerate(states)]
    chunks = [
        chunk
        for taken in Intake(IntakeRules(), States()).take(0, lines, 1)
        for chunk in taken.chunks
    ]
    rows = [
        (chunk.partition, *row)
        for chunk in chunks
        for row in zip(chunk.keys, chunk.lines, strict=True)
    ]
    wanted = [
        WHOLE if s is None else Partition(members=b'"state":"%b"' % s.encode()) for s in states
    ]
    assert rows == [(one, f"u{n}", n + 1) for n, one in enumerate(wanted)]
    assert all(one.partition != next_.partition for one, next_ in pairwise(chunks))
    assert all(set(chunk.slots) == {1} for chunk in chunks)


def test_the_schema_judges_at_the_time_of_day() -> None:
    """It is told the time that the intake was told, and counts belong to the kind of the record."""
    schema = States()
    (taken,) = Intake(IntakeRules(), schema).take(0, [line("u1"), line("u2", 5)], 1, 77.0)
    assert schema.times == [77.0, 77.0]
    assert taken.read == {"attributes": 2}
    (refusal,) = taken.refusals
    assert (refusal.code, refusal.field, refusal.record) == (
        "bad-state",
        "state",
        b'{"external_id":"u2","state":5}',
    )


def test_what_a_schema_calls_mendable_is_mended() -> None:
    """The rules of the user hold for any destination."""
    intake = Intake(IntakeRules(on_bad_field="drop"), States())
    (taken,) = intake.take(0, [line("u2", 5)], 1)
    assert [(chunk.keys, chunk.partition) for chunk in taken.chunks] == [(["u2"], WHOLE)]
    assert [warning.code for warning in taken.warnings] == ["bad-state"]


def test_shared_members_count_for_the_size_of_a_record() -> None:
    """They are in its request whatever else is."""
    schema = States()
    (taken,) = Intake(IntakeRules(largest=30), schema).take(
        0, [line("u1", "x"), line("u2", "x" * 30)], 1
    )
    assert [encoded.fragment for encoded in schema.withdrawn] == [b'"u2"']
    assert [chunk.keys for chunk in taken.chunks] == [["u1"]]
    assert [refusal.code for refusal in taken.refusals] == ["record-too-large"]


def test_track_sends_records_as_they_came() -> None:
    """But for an external id that is a number, which becomes text."""
    schema = TrackSchema()
    (plain,) = schema.read(b'{"event":{"external_id" : "u"}}', None)
    assert isinstance(plain, Found)
    assert schema.encode(plain, plain.record) == Encoded(1, b'{"external_id" : "u"}')
    (number,) = schema.read(b'{"purchase":{"external_id":7, "a":1.0}}', None)
    assert isinstance(number, Found)
    assert schema.encode(number, number.record) == Encoded(2, b'{"external_id":"7","a":1.0}')


def test_a_schema_is_told_that_no_user_may_be_created() -> None:
    """One that is not users/track may refuse to say so; the one that is says it to Braze."""
    seen: list[dict[str, Any]] = []

    class Watched(States):
        def examine(
            self, kind: str, record: dict[str, Any], now: float, *, validate: bool
        ) -> Judged:
            """Keep what is judged."""
            seen.append(record)
            return super().examine(kind, record, now, validate=validate)

    rules = IntakeRules(update_existing_only=True)
    own = b'{"attributes":{"external_id":"u2","_update_existing_only":false}}'
    list(Intake(rules, Watched()).take(0, [line("u1"), own], 1))
    assert [record["_update_existing_only"] for record in seen] == [True, False]
    (taken,) = Intake(rules).take(0, [line("u1")], 1)
    assert (
        bytes(taken.chunks[0].fragments[0]) == b'{"_update_existing_only":true,"external_id":"u1"}'
    )


def test_a_heading_is_left_out_of_the_first_line_alone() -> None:
    """Line 1 of a part; anywhere else, or in another part's line 2, it is a line like any other."""
    (taken,) = Intake(IntakeRules(), States()).take(0, [b"heading", line("u1"), b"heading"], 1)
    assert taken.read == {"attributes": 1, "unknown": 1}
    assert [refusal.line for refusal in taken.refusals] == [3]
    (taken,) = Intake(IntakeRules(), States()).take(0, [b"heading"], 2)
    assert taken.read == {"unknown": 1}
