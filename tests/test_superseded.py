"""Dead letters of users of whom later attributes were delivered are marked, over restarts too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import ledger as ledger_module
from ingest.codec import dumps, loads
from ingest.dispositions import Disposition, Verdict
from ingest.errors import LocalFailure
from ingest.forms import Found, Misformed, records_of
from ingest.intake import Intake, IntakeRules
from ingest.ledger import Ledger, Named
from ingest.outcomes import Delivered
from ingest.records import EMPTY_COLUMN, KINDS, Batch, Chunk, Column, UserKey
from ingest.sinks.base import Answer
from ingest.state.dead_letters import DeadLetter, DeadLetterFile
from ingest.taken import Taken
from ingest.validation import Problem, identity

RUN: Final = "r"
NAMES: Final = ("first.ndjson", "second.ndjson")
ENDS: Final = ("delivered", "rejected", "held", "failed", "warned", "invalid")


def key_of(record: Any) -> UserKey | None:
    """The user of a record."""
    key = identity(record)
    return None if isinstance(key, Problem) else key


class Process:
    """A process of a run: it reads lines of attributes, and settles them as it is told."""

    def __init__(self, path: Path, *, before: Path | None = None) -> None:
        self.ledger = Ledger(
            DeadLetterFile(path, run=RUN),
            kinds=KINDS,
            places=Named(NAMES.__getitem__),
            wall=lambda: 0.0,
        )
        self.intake = Intake(IntakeRules())
        if before is not None:
            parts = {name: part for part, name in enumerate(NAMES)}
            self.ledger.recall(DeadLetterFile(before, run=RUN), parts, key_of)

    def end(self, at: tuple[int, int], user: str, column: str, kind: str = "attributes") -> None:
        """Let a record, by its part and line, be read and come to an end."""
        part, line = at
        broken = {"email": 5} if column == "invalid" else {"plan": "x"}
        text = dumps({kind: {"external_id": user, **broken}})
        self.intake.begin(part, line * 3)  # ordinals are no lines
        (taken,) = self.intake.take(part, [text], line)
        self.ledger.take_in(taken)
        for chunk in taken.chunks:
            self.settle([chunk], [column])

    def settle(self, chunks: Sequence[Chunk], columns: Sequence[str]) -> None:
        """Settle the attributes of some chunks in one answer."""
        rows = [
            (bytes(chunk.fragments[i]), chunk.keys[i], chunk.positions[i], chunk.lines[i])
            for chunk in chunks
            for i in range(len(chunk))
        ]
        column = Column.of(*(list(each) for each in zip(*rows, strict=True)))
        verdicts = [Verdict(0, i, each, "c", "why") for i, each in enumerate(columns)]
        found = Disposition(
            delivered=True,
            verdicts=tuple(one for one in verdicts if one.column not in ("delivered", "warned")),
            warned=tuple(
                Verdict(0, one.index, "delivered", "c", "why")
                for one in verdicts
                if one.column == "warned"
            ),
        )
        batch = Batch(1, 1, (column, EMPTY_COLUMN, EMPTY_COLUMN))
        self.ledger.settle(batch, Answer(Delivered(201)), found, attempts=1)


def flags(path: Path) -> dict[tuple[str, int], Any]:
    """What the letters of the run say, by where their records stood."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    letters = [letter for letter in map(loads, lines) if letter["run"] == RUN]
    assert all(line.startswith(b"{") and line.endswith(b"}") for line in lines)
    return {
        (letter["source"]["name"], letter["source"]["line"]): letter["superseded"]
        for letter in letters
    }


steps = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from("ab"), st.sampled_from(ENDS), st.booleans()),
    max_size=20,
)


@given(steps, st.booleans())
def test_each_letter_says_whether_later_attributes_were_delivered(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, str, bool]], moved: bool
) -> None:
    """Whatever the ends, over restarts, also if the letters go elsewhere after one of them."""
    folder = tmp_path_factory.mktemp("run")
    path = folder / "letters"
    process = Process(path)
    other = DeadLetterFile(path, run="another")
    told: dict[tuple[str, int], tuple[str, str]] = {}
    paths = [path]
    for line, (part, user, column, restart) in enumerate(sorted(rows, key=lambda row: row[0]), 1):
        if restart and not (moved and len(paths) > 1):
            process.ledger.close()
            other.write([DeadLetter("event", "invalid", "c", "", "", {"name": "n", "line": 1})], 0)
            paths += [folder / "more"] if moved else []
            process = Process(paths[-1], before=path)
        process.end((part, line), user, column)
        told[NAMES[part], line] = (user, column)
    process.ledger.close()
    expected = {}
    for at, (user, column) in told.items():
        if column != "delivered":
            later = [place for place, (who, end) in told.items() if who == user and place > at]
            expected[at] = any(told[place][1] in ("delivered", "warned") for place in later)
    found: dict[tuple[str, int], Any] = {}
    for each in dict.fromkeys(paths):
        found |= flags(each)
    assert found == expected


def test_what_one_answer_says_of_two_is_enough(tmp_path: Path) -> None:
    """One of a user's records is refused by its index, and the one after it is taken."""
    process = Process(tmp_path / "letters")
    text = dumps({"attributes": {"external_id": "u"}})[:-2] + b',"n":1}}'
    (taken,) = process.intake.take(0, [text] * 3, 1)
    process.ledger.take_in(taken)
    process.settle(taken.chunks, ["rejected", "delivered", "rejected"])
    assert flags(tmp_path / "letters") == {("first.ndjson", 1): True, ("first.ndjson", 3): False}


def test_events_supersede_nothing_and_are_not_superseded(tmp_path: Path) -> None:
    """An event happened when it did; a later one says nothing of it."""
    process = Process(tmp_path / "letters")
    process.end((0, 1), "u", "invalid", "event")
    process.end((0, 2), "u", "delivered")
    process.end((0, 3), "u", "invalid")
    assert set(flags(tmp_path / "letters").values()) == {False}


def test_rows_of_a_table_are_marked_by_the_identity_in_them(tmp_path: Path) -> None:
    """A row that makes no record still says whose it is, over a restart too."""
    path = tmp_path / "letters"
    process = Process(path)
    for line, who in ((2, b'{"external_id":"u"}'), (3, b""), (4, b'{"external_id":""}')):
        process.ledger.take_in(unfit(process.intake, line, who))
    process.end((0, 5), "u", "delivered")
    assert [*flags(path).values()] == [True, False, False]
    process.ledger.take_in(unfit(process.intake, 6, b'{"external_id":"u"}'))
    again = Process(path, before=path)
    again.end((0, 7), "u", "delivered")
    assert [*flags(path).values()] == [True, False, False, True]


def unfit(intake: Intake, line: int, who: bytes) -> Taken:
    """A row with a bad cell."""
    return intake.unfit(0, line, "wrong-type", "age", "no number", b"u,x", "", who=who, table=True)


def test_more_than_is_remembered_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded, and a letter does not claim what nobody watches."""
    monkeypatch.setattr(ledger_module, "MOST_LETTERS", 2)
    process = Process(tmp_path / "letters")
    for line, user in enumerate("abca", 1):
        process.end((0, line), user, "invalid")
    process.end((0, 5), "a", "delivered")
    process.end((0, 6), "d", "invalid")
    assert [*flags(tmp_path / "letters").values()] == [True, False, None, None, False]


def test_what_is_no_file_does_not_claim_what_it_cannot_change() -> None:
    """A letter that went down a pipe is gone: whether it is superseded is not known."""
    read, write = os.pipe()
    process = Process(Path(f"/dev/fd/{write}"))
    process.end((0, 1), "u", "invalid")
    process.end((0, 2), "u", "invalid", "event")
    process.end((0, 3), "u", "delivered")
    assert [loads(line)["superseded"] for line in os.read(read, 10_000).splitlines()] == [
        None,
        False,
    ]
    os.close(read)
    os.close(write)


def test_records_of_one_line_are_told_apart_until_a_restart(tmp_path: Path) -> None:
    """Afterwards a letter has a line and no ordinal, and nothing is claimed."""
    path = tmp_path / "letters"
    bad, good = ({"external_id": "u", **more} for more in ({"email": 5}, {"plan": "x"}))
    process = Process(path)
    (taken,) = process.intake.take(0, [dumps({"attributes": [bad, good]})], 1)
    process.ledger.take_in(taken)
    again = Process(path, before=path)
    again.settle(taken.chunks, ["delivered"])
    assert flags(path) == {("first.ndjson", 1): False}
    process.settle(taken.chunks, ["delivered"])
    assert flags(path) == {("first.ndjson", 1): True}


# --- the file -----------------------------------------------------------------------------------


def watched(**given: Any) -> DeadLetter:
    """A letter that may be superseded."""
    parts: dict[str, Any] = {"record": b'{"external_id":"u"}'} | given
    source = {"name": "n", "line": 1}
    return DeadLetter("attributes", "invalid", "c", "", "", source, watched=True, **parts)


@given(st.binary(max_size=30), st.booleans())
def test_a_mark_is_found_whatever_the_letter_holds(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, superseded: bool
) -> None:
    """Records and texts that look like the mark of a letter are left alone."""
    path = tmp_path_factory.mktemp("letters") / "letters"
    record = dumps({"external_id": "u", "superseded": False, "n": noise.hex()})
    file = DeadLetterFile(path, run=RUN)
    some = [watched(record=record), watched(record=None, raw=noise + b',"superseded":false')]
    places = file.write([*some, watched(record=record)], 0.0)
    assert [each.flag for each in file.unmarked()] == places
    if superseded:
        file.mark([each for each in places[:2] if each is not None])
        file.mark([each for each in places[:1] if each is not None])
    file.close()
    letters = [loads(line) for line in path.read_bytes().splitlines()]
    assert [each["superseded"] for each in letters] == [superseded, superseded, False]
    assert {each["record"]["superseded"] for each in letters if "record" in each} == {False}
    left = [each.flag for each in DeadLetterFile(path, run=RUN).unmarked()]
    assert left == (places[2:] if superseded else places)


def test_what_was_taken_away_is_not_marked(tmp_path: Path) -> None:
    """Nothing is written into a file that holds something else there, and none is made."""
    path = tmp_path / "letters"
    file = DeadLetterFile(path, run=RUN)
    (flag,) = file.write([watched()], 0.0)
    assert flag is not None
    path.write_bytes(b"x" * 500)
    file.mark([flag])
    assert path.read_bytes() == b"x" * 500
    file.close()
    path.unlink()
    DeadLetterFile(path, run=RUN).mark([flag])
    assert not path.exists()
    assert [*DeadLetterFile(path, run=RUN).unmarked()] == []


def test_letters_that_somebody_changed_are_passed_over(tmp_path: Path) -> None:
    """A line that is no letter any more, or another run's, is nobody's to mark."""
    path = tmp_path / "letters"
    path.write_bytes(
        b'{"v":1,"run":"r","kind":5,"superseded":false}\n'
        b'{"v":1,"run":"r","superseded":false\n{"v":1,"run":"r"}\n'
        b'{"v":1,"run":"other","kind":"attributes","superseded":false}\n'
    )
    assert [*DeadLetterFile(path, run=RUN).unmarked()] == []
    assert [*DeadLetterFile(Path(os.devnull), run=RUN).unmarked()] == []


def test_letters_of_another_input_are_not_recalled(tmp_path: Path) -> None:
    """Nor those of another kind, or of nobody."""
    path = tmp_path / "letters"
    file = DeadLetterFile(path, run=RUN)
    other = DeadLetter("event", "invalid", "c", "", "", {"name": NAMES[0], "line": 1}, b"{}")
    nobody = DeadLetter("attributes", "invalid", "c", "", "", {"name": NAMES[0], "line": 1}, b"{}")
    file.write([watched(), other, nobody], 0.0)
    process = Process(path, before=path)
    process.end((1, 9), "u", "delivered")
    assert {loads(line)["superseded"] for line in path.read_bytes().splitlines()} == {False}


def test_marks_are_brought_to_the_disk_before_they_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark without a new letter is synced as well, what did not change is not, and once."""
    synced: list[int] = []
    path = tmp_path / "letters"
    before = DeadLetterFile(path, run=RUN)
    (flag,) = before.write([watched()], 0.0)
    before.close()
    assert flag is not None
    file = DeadLetterFile(path, run=RUN)
    monkeypatch.setattr(os, "fsync", synced.append)
    file.sync()
    assert not synced
    file.mark([flag])
    file.sync()
    file.sync()
    assert len(synced) == 1
    file.close()


def test_what_could_not_be_synced_is_still_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails is said each time, and a journal does not go on without its letters."""

    def refuse(fd: int) -> None:
        raise OSError(5, "broken")

    file = DeadLetterFile(tmp_path / "letters", run=RUN)
    file.write([watched()], 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        for _ in range(2):
            with pytest.raises(LocalFailure, match="broken"):
                file.sync()
    with pytest.raises(LocalFailure, match="broken"):
        file.sync()  # a disk tells of it once, and would say now that all is well
    file.close()


# --- reading back -------------------------------------------------------------------------------

LETTER: Final[dict[str, Any]] = {
    "v": 1,
    "run": "20261122T010203Z-00ff",
    "kind": "attributes",
    "record": {"external_id": "u", "plan": "x"},
    "column": "rejected",
}


@pytest.mark.parametrize(
    ("told", "superseded"),
    [({}, False), ({"superseded": False}, False), ({"superseded": True}, True)]
    + [({"superseded": odd}, None) for odd in (None, 0, "no")],
)
def test_a_letter_says_it_of_its_record(told: dict[str, Any], superseded: bool | None) -> None:
    """What is neither true nor false is not known; of events nothing is said at all."""
    (found,) = records_of(dumps(LETTER | told), None)
    assert isinstance(found, Found)
    assert found.superseded is superseded
    (other,) = records_of(dumps(LETTER | told | {"kind": "event"}), None)
    assert isinstance(other, Found)
    assert other.superseded is False


@pytest.mark.parametrize("kind", [None, "attributes"])
@pytest.mark.parametrize("flag", [True, None])
def test_a_superseded_letter_is_invalid_unless_told(flag: bool | None, kind: str | None) -> None:
    """It does not slip through the fast way, it says what to do, and it stays as it is."""
    line = dumps(LETTER | {"superseded": flag})
    good = dumps({"attributes": {"external_id": "v", "plan": "x"}})
    (taken,) = Intake(IntakeRules(kind=kind)).take(0, [good, line, good], 1)
    (refusal,) = taken.refusals
    assert (refusal.code, refusal.superseded, refusal.line) == ("superseded", flag, 2)
    assert refusal.record == dumps(LETTER["record"])
    assert "ingest replay --even-if-older" in refusal.reason
    rules = IntakeRules(kind=kind, even_if_older=True)
    (taken,) = Intake(rules).take(0, [good, line, good], 1)
    assert not taken.refusals
    assert [key for chunk in taken.chunks for key in chunk.keys] == ["v", "u", "v"]


def test_a_letter_that_is_refused_anew_stays_superseded(tmp_path: Path) -> None:
    """Sent although it is older, and still bad: the new letter says what the old one said."""
    bad = LETTER | {"record": {"external_id": "u", "email": 5}, "superseded": True}
    (taken,) = Intake(IntakeRules(even_if_older=True)).take(0, [dumps(bad)], 1)
    process = Process(tmp_path / "letters")
    process.ledger.take_in(taken)
    assert [*flags(tmp_path / "letters").values()] == [True]


ROW: Final = {key: value for key, value in LETTER.items() if key != "record"} | {
    "raw": "u,1,2",
    "source": {"name": "a.csv", "line": 3, "table": True},
}


def test_a_row_of_a_table_says_where_it_is_mended() -> None:
    """Read again, and once more out of the letter that this gives, it names the file of its run."""
    (found,) = records_of(dumps(ROW), None)
    assert isinstance(found, Misformed)
    assert (found.code, found.kind) == ("table-row", "attributes")
    assert "rejects-20261122T010203Z-00ff.csv" in found.reason
    (again,) = records_of(dumps({"column": "invalid", "raw": found.raw.decode()}), None)
    assert again == found
    (nameless,) = records_of(dumps(ROW | {"run": "anything else"}), None)
    assert isinstance(nameless, Misformed)
    assert "rejects-RUN.csv" in nameless.reason


def test_a_row_that_was_mended_to_a_record_is_one() -> None:
    """It stays superseded where its letter is."""
    mended = ROW | {"raw": '{"external_id":"u","n":1}'}
    (found,) = records_of(dumps(mended), None)
    assert isinstance(found, Found)
    assert found.superseded is False
    (found,) = records_of(dumps(mended | {"superseded": True}), None)
    assert isinstance(found, Found)
    assert found.superseded is True


def test_a_letter_whose_record_goes_again_is_taken_back(tmp_path: Path) -> None:
    """Where an older one cannot be marked nothing is settled, and the new one is not there."""
    path = tmp_path / "letters"
    process = Process(path)
    process.end((0, 1), "u", "rejected")
    before = path.read_bytes()

    def fails(flags: object) -> None:
        raise LocalFailure("the disk is gone")

    process.ledger.dead_letters.mark = fails  # type: ignore[method-assign]  # as a disk does
    for line, columns in ((2, ("rejected", "delivered")), (4, ("delivered", "delivered"))):
        texts = [dumps({"attributes": {"external_id": who, "plan": "y"}}) for who in "vu"]
        (taken,) = process.intake.take(0, texts, line)
        with pytest.raises(LocalFailure, match="the disk is gone"):
            process.settle(taken.chunks, columns)
        assert path.read_bytes() == before
        assert process.ledger.dead_letters.written == 1
        assert process.ledger.balance.count("rejected") == 1
