"""What must hold at the end of a play (`tests/playing.py`), whatever the row and the far end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ingest.codec import loads
from ingest.forms import Found
from ingest.records import UserKey
from ingest.validation import Problem
from tests.laws_rows import NOW
from tests.playing import Played


def check_conservation(played: Played) -> None:
    """Law 1: each record has ended once, in the column that the balance counts it in."""
    columns = played.pipeline.balance.columns()
    records = [line for line, text in enumerate(played.plan.lines, 1) if text.strip()]
    assert columns["read"] == len(records)
    counted = Counter(played.ended.values())
    assert {name: columns[name] for name in counted} == counted
    assert columns["pending"] == len(records) - counted.total()
    assert sum(columns.values()) == 2 * columns["read"]
    if played.state == "finished":
        assert sorted(played.ended) == records
        assert columns["pending"] == 0
        assert played.pipeline.queued_records == played.pipeline.memory_used == 0
    for line in records:
        if line not in played.far.known:
            assert played.ended.get(line, "invalid") == "invalid"


def check_verdicts(played: Played) -> None:
    """Law 6: a bad record costs itself only, and nothing but the destination's word rejects it."""
    for line, column in played.ended.items():
        bad = line in played.plan.poisoned and played.plan.habits.dislikes != "pieces"
        fates = played.far.fates.get(line, [])
        if column == "rejected":
            assert bad
        elif column == "delivered" and bad:
            assert played.plan.habits.dislikes == "gone"
            assert "doubt" in fates
        elif column == "failed":
            assert played.plan.habits.dislikes == "broken"
            assert bad


def check_copies(played: Played) -> None:
    """Law 5: taken once, and each copy beyond that is counted; what may not repeat never does."""
    far = played.far
    again = 0
    for line, fates in far.fates.items():
        column = played.ended.get(line)
        if column == "delivered":
            assert fates[-1] == "taken"
            assert fates.count("taken") == 1
        known = far.known[line].encoded
        once = played.plan.hold or not far.endpoint.resendable
        if once and not far.repeatable(known.slot, known.fragment):
            assert "doubt" not in fates[:-1]
            assert (column == "held") is (fates[-1] == "doubt")
        else:
            assert column != "held"
        again += fates.count("doubt") - (column is not None and fates[-1] == "doubt")
    assert played.pipeline.balance.maybe_duplicated == again


def check_letters(played: Played) -> None:
    """A record that was not delivered is in one dead letter, as it came, with its line."""
    lines = played.plan.lines
    written = Counter(letter["source"]["line"] for letter in played.letters)
    told = {line for line, column in played.ended.items() if column != "delivered"}
    doubted = {
        letter["source"]["line"] for letter in played.letters if letter["column"] == "delivered"
    }
    assert written == Counter(told | doubted)
    for letter in played.letters:
        at = letter["source"]["line"]
        assert played.ended[at] == letter["column"]
        assert letter.get("warned", False) is (letter["column"] == "delivered")
        assert letter["code"]
        assert letter["reason"]
        check_record(letter, lines[at - 1])


def check_record(letter: dict[str, Any], line: bytes) -> None:
    """A letter holds what came: the object of the line or in it, else the text, as one field."""
    if "raw" in letter:
        assert letter["raw"] == line.decode("utf-8", "replace")
    elif line.startswith(b"{"):
        came = loads(line)
        assert letter["record"] in (came, *came.values())
    else:
        assert [*letter["record"].values()] == [line.decode()]


def check_superseded(played: Played) -> None:
    """A letter of attributes is marked if its user got later ones, and no other letter is."""
    far = played.far
    last = {
        known.key: line
        for line, known in sorted(far.known.items())
        if played.ended.get(line) == "delivered"
        and far.endpoint.kinds[known.encoded.slot] == "attributes"
    }
    for letter in played.letters:
        line = letter["source"]["line"]
        key = key_of(played, line) if letter["kind"] == "attributes" else None
        assert letter["superseded"] is (key is not None and last.get(key, 0) > line)


def key_of(played: Played, line: int) -> UserKey | None:
    """Return the user of a line, also where something else is wrong with the record."""
    schema = played.far.schema
    for found in schema.read(played.plan.lines[line - 1], None):
        if isinstance(found, Found):
            key, _ = schema.examine(found.kind, found.record, NOW, validate=True)
            return None if isinstance(key, Problem) else key
    return None


def check_all(played: Played) -> None:
    """Check all that must hold at the end of a play."""
    check_conservation(played)
    check_verdicts(played)
    check_copies(played)
    check_letters(played)
    check_superseded(played)
