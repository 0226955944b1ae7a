"""Laws of the intake: both ways judge alike, every line is counted, nothing is altered unasked."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import reading
from ingest.codec import dumps, loads
from ingest.forms import TOO_LONG_LINE
from ingest.intake import SLICE_LINES, Intake, IntakeRules
from ingest.proofs import Proof
from ingest.records import KIND_UNKNOWN, KINDS, ordinal_of, part_of, position
from ingest.sources.base import Block, Unfit
from ingest.taken import Refusal, Taken, Warned
from tests.examples import examples
from tests.intake_lines import GOOD, RULES, WHEN, formed, mixtures, plain, records


class SlowIntake(Intake):
    """An intake that judges every line by the rules themselves."""

    def _fast(self, lines: Sequence[bytes]) -> Proof:
        return Proof.of_nothing(len(lines))


class Verdicts:
    """What became of lines, all slices together, in values that can be compared."""

    def __init__(self, everything: Sequence[Taken]) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.read: Counter[str] = Counter()
        self.refusals: list[Refusal] = []
        self.warnings: list[Warned] = []
        self.warned = 0
        for taken in everything:
            for chunk in taken.chunks:
                fragments = map(bytes, chunk.fragments)
                columns = (chunk.slots, fragments, chunk.keys, chunk.positions, chunk.lines)
                assert list(chunk.positions) == sorted(chunk.positions)
                self.rows += zip(*columns, strict=True)
            self.read.update(taken.read)
            self.refusals += taken.refusals
            self.warnings += taken.warnings
            self.warned += taken.warned
        # The records of a user come in their order; those of others may be sorted by slot.
        latest: dict[Any, int] = {}
        for _, _, key, at, _ in self.rows:
            assert latest.get(key, -1) < at
            latest[key] = at
        self.rows.sort(key=itemgetter(3))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verdicts) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(vars(self))


def judged(intake: Intake, lines: Sequence[bytes], part: int = 3, first_line: int = 1) -> Verdicts:
    """Take lines, and return what became of them."""
    return Verdicts(list(intake.take(part, lines, first_line)))


def one(line: bytes, **rules: Any) -> Verdicts:
    """Judge a single line."""
    return judged(Intake(IntakeRules(**rules)), [line])


@settings(max_examples=examples(300), deadline=None)
@given(RULES, mixtures())
def test_both_ways_come_to_the_same_verdicts(rules: IntakeRules, lines: list[bytes]) -> None:
    """Slots, fragments, keys, positions, lines, refusals and warnings do not depend on the way."""
    assert judged(Intake(rules), lines) == judged(SlowIntake(rules), lines)


@settings(max_examples=examples(200), deadline=None)
@given(RULES, mixtures())
def test_what_is_proven_ahead_is_judged_alike(rules: IntakeRules, lines: list[bytes]) -> None:
    """By a prover that was handed over, as a whole block or in slices."""
    block = Block(3, b"\n".join(lines), 1, 99)
    prover = Intake(rules).prover
    ahead = block if prover is None else block.proven(pickle.loads(pickle.dumps(prover)))
    here, there = Intake(rules), Intake(rules)
    assert Verdicts(list(reading.judged(there, ahead, 0.0))) == Verdicts(
        list(reading.judged(here, block, 0.0))
    )
    assert (ahead.following, list(ahead.numbers())) == (block.following, list(block.numbers()))


@settings(max_examples=examples(200), deadline=None)
@given(RULES, mixtures())
def test_every_line_is_counted(rules: IntakeRules, lines: list[bytes]) -> None:
    """Read equals rows plus refusals, by kind; a line that is not blank is a record at least."""
    verdicts = judged(Intake(rules), lines)
    ends = Counter(KINDS[slot] for slot, *_ in verdicts.rows)
    ends.update(refusal.kind for refusal in verdicts.refusals)
    assert verdicts.read == ends
    places = {row[-1] for row in verdicts.rows} | {refusal.line for refusal in verdicts.refusals}
    assert places == {n for n, line in enumerate(lines, 1) if line.strip(b" \t\r\n")}
    assert verdicts.warned == len({warning.position for warning in verdicts.warnings})


@settings(max_examples=examples(200), deadline=None)
@given(RULES, mixtures(), st.data())
def test_ordinals_do_not_depend_on_the_cuts(
    rules: IntakeRules, lines: list[bytes], data: st.DataObject
) -> None:
    """They are consecutive, and the same however the lines arrive, other parts in between."""
    whole = judged(Intake(rules), lines)
    used = sorted([row[3] for row in whole.rows] + [refusal.position for refusal in whole.refusals])
    assert used == [position(3, ordinal) for ordinal in range(len(used))]
    intake, pieces = Intake(rules), list[Taken]()
    cuts = sorted({0, len(lines), *data.draw(st.lists(st.integers(0, len(lines)), max_size=4))})
    for start, stop in pairwise(cuts):
        pieces += intake.take(3, lines[start:stop], start + 1)
        list(intake.take(4, lines[:2], 1))
    assert Verdicts(pieces) == whole


@settings(max_examples=examples(200), deadline=None)
@given(records(), st.sampled_from(("enveloped", "bare", "body")), st.booleans())
def test_fragments_are_as_they_came(
    drawn: tuple[str, dict[str, Any]], form: str, escaped: bool
) -> None:
    """Without options that alter records, the bytes of the line go on, but for integer ids."""
    kind, record = drawn
    line = json.dumps(formed(form, kind, record), ensure_ascii=escaped).encode()
    for _, fragment, _, _, _ in one(line, kind=kind).rows:
        assert fragment in line or isinstance(record["external_id"], int)


def test_slices_keep_the_loop_answering() -> None:
    """Many lines are judged in slices, and keep their numbers."""
    lines = [plain("enveloped", "event", n) for n in range(2 * SLICE_LINES + 1)]
    everything = list(Intake(IntakeRules()).take(1, lines, 11))
    sizes = [len(chunk) for taken in everything for chunk in taken.chunks]
    assert sizes == [SLICE_LINES, SLICE_LINES, 1]
    rows = Verdicts(everything).rows
    assert [row[-1] for row in rows] == list(range(11, 11 + len(lines)))
    assert [(part_of(row[3]), ordinal_of(row[3])) for row in rows] == [
        (1, n) for n in range(len(lines))
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["enveloped", "bare"])
def test_good_slices_go_the_fast_way(kind: str, form: str) -> None:
    """All of a plain slice is proven, and its positions take no memory each."""
    lines = [plain(form, kind, n) for n in range(100)]
    (taken,) = Intake(IntakeRules(kind=kind)).take(0, lines, 1)
    (chunk,) = taken.chunks
    assert isinstance(chunk.positions, range)
    assert taken.read == {kind: 100}
    assert chunk.nbytes >= sum(map(len, chunk.fragments))
    assert bool(taken.time) == (kind != "attributes")


def test_bare_lines_are_cut_at_line_ends_only() -> None:
    """Two objects in one line, and halves of one in two lines, are no records."""
    whole, other = plain("bare", "attributes", 1), plain("bare", "attributes", 2)
    lines = [whole + b"," + other[:-1], other[1:], whole]
    verdicts = judged(Intake(IntakeRules(kind="attributes")), lines)
    assert [refusal.code for refusal in verdicts.refusals] == ["not-json", "not-json"]
    assert [row[1] for row in verdicts.rows] == [whole]
    assert judged(Intake(IntakeRules(kind="attributes")), [whole + b"," + other]).rows == []


def test_white_space_around_a_bare_object_is_no_part_of_it() -> None:
    """The fast way and the slow one send the same bytes."""
    assert one(b" \t" + dumps(GOOD["event"]) + b" \r", kind="event").rows[0][1] == dumps(
        GOOD["event"]
    )


@pytest.mark.parametrize("number", [b"1e999", b"-1E+309", b"1e00309", b"9" * 400])
@pytest.mark.parametrize("kind", KINDS)
def test_a_number_beyond_a_double_is_refused(number: bytes, kind: str) -> None:
    """It would spoil the whole request for a destination that decodes it."""
    line = dumps({kind: GOOD[kind]})[:-2] + b',"x":' + number + b"}}"
    assert [refusal.code for refusal in one(line).refusals] == ["not-json"]


def test_an_integer_id_becomes_a_string_and_nothing_else_changes() -> None:
    """Other numbers keep the digits they came with, however many."""
    record = b'{"external_id": 17, "plan" : "\\u00e9", "big":12345678901234567890123, "f":1.50}'
    verdicts = one(b'{"attributes":' + record + b"}")
    ((slot, fragment, key, _, _),) = verdicts.rows
    assert (slot, key) == (0, "17")
    assert (
        fragment == b'{"external_id":"17","plan":"\\u00e9","big":12345678901234567890123,"f":1.50}'
    )


def test_the_flag_is_set_where_it_lacks() -> None:
    """With --update-existing-only every record has the flag, its own if it came with one."""
    own = b'{"external_id":"b","_update_existing_only":false}'
    lines = [b'{"external_id":"a"}', own, b'{"external_id":3}', b'{"external_id":"a","x":null}']
    for intake in (Intake, SlowIntake):
        rows = judged(intake(IntakeRules(kind="attributes", update_existing_only=True)), lines).rows
        flag = b'{"_update_existing_only":true,'
        assert [row[1] for row in rows] == [
            flag + b'"external_id":"a"}',
            own,
            flag + b'"external_id":"3"}',
            flag + b'"external_id":"a","x":null}',
        ]


def test_the_flag_counts_against_the_largest_record() -> None:
    """A record that fits only without the flag is refused."""
    record, flag = b'{"external_id":"a"}', b'"_update_existing_only":true,'
    rules = {"kind": "attributes", "update_existing_only": True}
    assert one(record, largest=len(record + flag) - 1, **rules).rows == []
    assert len(one(record, largest=len(record + flag), **rules).rows) == 1


def test_a_record_that_fits_no_request_is_invalid() -> None:
    """The sentence says how large it is and what a request takes."""
    line = dumps({"attributes": {"external_id": "u", **{f"n{i}": i for i in range(50)}}})
    (refusal,) = one(line, largest=200).refusals
    assert refusal.code == "record-too-large"
    assert "200 at most" in refusal.reason
    assert "200" not in refusal.summary
    assert refusal.record == line[len('{"attributes":') : -1]


def test_strict_refuses_what_would_be_altered() -> None:
    """A warning becomes the reason to refuse the record."""
    line = dumps({"attributes": {"external_id": "u", "bio": "x" * 256}})
    loose = one(line)
    assert (len(loose.rows), loose.warned, loose.warnings[0].code) == (1, 1, "long-string")
    strict = one(line, strict=True)
    assert [refusal.code for refusal in strict.refusals] == ["long-string"]
    assert (strict.rows, strict.warned) == ([], 0)


@pytest.mark.parametrize(("how", "left"), [("drop", {}), ("truncate", {"bio": "x" * 255})])
def test_bad_fields_are_mended_as_told(how: str, left: dict[str, Any]) -> None:
    """The record goes on without the bad part of it, counted as warned, the rest as it came."""
    line = b'{"attributes":{"external_id":"u","n":1.50,"bio":"' + b"x" * 256 + b'"}}'
    verdicts = one(line, on_bad_field=how, strict=True)
    assert verdicts.refusals == []
    assert verdicts.warned == 1
    assert [warning.field for warning in verdicts.warnings] == ["bio"]
    fragment = verdicts.rows[0][1]
    assert loads(fragment) == {"external_id": "u", "n": 1.5, **left}
    assert b'"n":1.50' in fragment


def test_what_cannot_be_mended_is_refused_as_it_came() -> None:
    """The letter has the object of the line, not the half-mended one."""
    record = {"external_id": "u", "name": "", "time": WHEN, "properties": 5}
    (refusal,) = one(dumps({"event": record}), on_bad_field="drop").refusals
    assert refusal.code == "bad-name"
    assert refusal.record == dumps(record)


def test_no_validation_asks_for_an_identity_only() -> None:
    """Anything else is the destination's matter; integer ids become strings all the same."""
    intake = Intake(IntakeRules(validate=False))
    lines = [b'{"event":{"external_id":5,"name":7}}', b'{"event":{"name":"x"}}', b"nope", b""]
    verdicts = judged(intake, lines)
    assert [(row[1], row[2]) for row in verdicts.rows] == [(b'{"external_id":"5","name":7}', "5")]
    assert [refusal.code for refusal in verdicts.refusals] == ["missing-identity", "not-json"]


@pytest.mark.parametrize("wrapped", [b'{"attributes":%b}', b'{"attributes":[%b]}', b"%b"])
def test_a_record_too_deep_to_be_changed_is_refused(wrapped: bytes) -> None:
    """It costs itself only, and goes on where nothing of that depth has to be changed."""
    deep = b"[" * 300 + b"]" * 300
    record = b'{"external_id":17,"deep":' + deep + b"}"
    (row,) = one(wrapped % record, kind="attributes").rows
    assert row[1] == b'{"external_id":"17","deep":' + deep + b"}"
    inside = b'{"external_id":"u","deep":{"late":[' + deep + b',{"$time":"x"}]}}'
    rules = {"kind": "attributes", "strict": True, "on_bad_field": "drop"}
    assert [refusal.code for refusal in one(wrapped % inside, **rules).refusals] == ["too-deep"]


@pytest.mark.parametrize("depth", [900, 990, 1_010, 1_022])
def test_no_depth_of_nesting_ends_the_run(depth: int) -> None:
    """Near the limits of the decoders a record is taken or refused, and the next one goes on."""
    deep = b"[" * depth + b"]" * depth
    good = plain("enveloped", "attributes", 1)
    for record in (b'{"external_id":"u","d":%b}' % deep, b'{"external_id":5,"d":%b}' % deep):
        for wrapped in (b'{"attributes":%b}', b'{"attributes":[%b]}', b"%b", b'{"payload":%b}'):
            lines = [good, wrapped % record, good]
            for intake in (Intake, SlowIntake):
                verdicts = judged(intake(IntakeRules(kind="attributes")), lines)
                assert verdicts.read.total() == 3
                assert {1, 3} <= {row[-1] for row in verdicts.rows}


def test_a_line_too_long_to_be_held_is_accounted_for() -> None:
    """It takes an ordinal like any record, and its length is said."""
    intake = Intake(IntakeRules())
    taken = intake.oversize(2, 7, 5_000_000)
    (refusal,) = taken.refusals
    assert (refusal.code, refusal.line, refusal.kind) == ("line-too-long", 7, KIND_UNKNOWN)
    assert "5,000,000 bytes" in refusal.reason
    assert "not kept" in refusal.reason
    assert (refusal.raw, refusal.summary) == (b"", TOO_LONG_LINE)
    assert (taken.read, taken.chunks, refusal.position) == (
        {KIND_UNKNOWN: 1},
        (),
        position(2, 0),
    )
    assert judged(intake, [plain("enveloped", "event", 1)], part=2).rows[0][3] == position(2, 1)


@pytest.mark.parametrize(
    ("time", "seen"),
    [("2020-01-31", "2020-01-31"), ("01/31/2020", ""), ("2020-01-31T10:00", "2020-01-31T10:00")],
)
def test_a_time_is_told_if_it_sorts_by_its_text(time: str, seen: str) -> None:
    """Who looks for events of the past compares texts; an attribute of that name is no time."""
    row = dumps({"external_id": "u", "payload": GOOD["purchase"] | {"time": time}})
    (taken,) = Intake(IntakeRules(kind="attributes")).take(0, [row], 1)
    assert (len(taken.chunks[0]), taken.time) == (1, "")
    line = dumps({"event": GOOD["event"] | {"time": time}})
    (taken,) = Intake(IntakeRules()).take(0, [line], 1)
    assert (len(taken.chunks[0]), taken.time) == (1, seen)


@pytest.mark.parametrize("name", ["api_key", "app_group_id", "company_secret"])
@pytest.mark.parametrize(
    "line",
    [
        '{"attributes":{"NAME":"sesame"}}',
        '{"event":{"external_id":"u","name":"","NAME":"sesame","x":1.50}}',
        '{"events":{"NAME" : ["sesame"]}}',
        '{"NAME":"sesame","attributes":[{"external_id":"u"}],"other":1}',
        '{"NAME":"sesame","attributes":[{"external_id":"u"}]',
        '{"attributes":[],"NAME":"ses\\"sesame',
        '{"NAME":"\xff sesame"}',
        "NAME=sesame",
        "{'NAME': 'sesame'}",
        '{"payload":"{\\"NAME\\":\\"sesame\\"}"}',
    ],
)
def test_a_refused_line_keeps_no_credential(name: str, line: str) -> None:
    """Neither its record nor its text, JSON or not, and not its reason."""
    (refusal,) = one(line.replace("NAME", name).encode("latin-1")).refusals
    assert b"sesame" not in repr(refusal).encode()
    assert b"[redacted]" in (refusal.record or refusal.raw or b"")


def test_credentials_do_not_get_in() -> None:
    """Keys in a ready body reach neither a fragment nor a dead letter."""
    bodies: tuple[dict[str, Any], ...] = (
        {"attributes": [{"external_id": "u"}, 5], "events": 3},
        {"attributes": []},
        {"attributes": {"external_id": "u"}},
        {},
    )
    for body in bodies:
        for name in ("api_key", "app_group_id", "company_secret"):
            verdicts = one(dumps({name: "sesame", **body}), kind="attributes")
            assert b"sesame" not in repr(verdicts).encode()


@pytest.mark.parametrize("good", [b'{"external_id":"u%d"}', b'{"external_id":"u%d","n":{"$x":1}}'])
def test_rows_that_make_no_record_may_stand_side_by_side(good: bytes) -> None:
    """First, last and one after the other, of a block that was proven: no chunk is empty."""
    lines = [good % n for n in range(3)]
    unfit = tuple(Unfit(n, "row", "", "too short", b"x", table=True) for n in (1, 2, 4, 6, 7))
    numbers = [3, 5, 8]
    block = Block(0, b"\n".join(lines), 1, 9, line_numbers=numbers, unfit=unfit, next_line=9)
    intake = Intake(IntakeRules(kind="attributes"))
    assert intake.prover is not None
    everything = list(reading.judged(intake, block.proven(intake.prover), 0.0))
    assert all(len(chunk) for taken in everything for chunk in taken.chunks)
    found = Verdicts(everything)
    ended = [row[-1] for row in found.rows] + [refusal.line for refusal in found.refusals]
    assert sorted(ended) == list(range(1, 9))
