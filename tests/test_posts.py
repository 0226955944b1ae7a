"""What a body holds is decided by its type, and every line of it is answered by its number."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import posts
from ingest.codec import dumps, loads
from ingest.posts import (
    WINDOW_SECONDS,
    Remembered,
    Unreadable,
    accepted,
    error_of,
    form_of,
    hash_of,
    key_of,
    lines_of,
    note_of,
    remembered_in,
    verdicts,
    waits_of,
)
from ingest.taken import Refusal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


class End(msgspec.Struct, frozen=True):
    """An end of a record, as a driver tells it."""

    column: str = "delivered"
    code: str = ""
    field: str = ""
    reason: str = ""


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("application/x-ndjson", "ndjson"),
        ("Application/JSONL; charset=UTF-8", "ndjson"),
        ("application/json", "json"),
        ('application/json; charset="utf-8"; q=1', "json"),
    ],
)
def test_a_content_type_says_how_a_body_is_read(content_type: str, form: str) -> None:
    """In any case, with parameters."""
    assert form_of(content_type) == form


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"],
)
def test_another_content_type_is_refused_with_what_to_send(content_type: str) -> None:
    """Those that a page may post to another origin above all."""
    with pytest.raises(Unreadable, match=r"ndjson|UTF-8") as raised:
        form_of(content_type)
    assert raised.value.status == 415


@given(st.lists(JSON, max_size=6))
def test_an_array_is_its_items_each_on_a_line(items: list[Any]) -> None:
    """Also when it is spread over lines: those are between tokens only."""
    spread = msgspec.json.format(dumps(items), indent=2).replace(b"\n", b"\r\n")
    lines = lines_of("json", spread)
    assert [loads(line.text) for line in lines] == items
    assert [line.number for line in lines] == list(range(1, len(items) + 1))
    assert not any(b"\n" in line.text or b"\r" in line.text for line in lines)


def test_an_object_alone_is_an_array_of_one() -> None:
    """People post one record at a time, and print it prettily."""
    (line,) = lines_of("json", b'\n{\n "event": {}\n}\n')
    assert loads(line.text) == {"event": {}}


@pytest.mark.parametrize("body", [b"[1, 2", b"{}\n{}", b'"a"', b"7", b"[" * 100_000, b"\xff"])
def test_what_is_no_array_of_records_is_refused_as_a_whole(body: bytes) -> None:
    """With a sentence, whatever it is."""
    with pytest.raises(Unreadable, match="array of records") as raised:
        lines_of("json", body)
    assert raised.value.status == 400


def test_a_line_keeps_its_number() -> None:
    """Blank lines hold nothing, and count."""
    lines = lines_of("ndjson", b"\r\n{}\r\n \n[1]")
    assert [(line.number, line.text) for line in lines] == [(2, b"{}"), (4, b"[1]")]


@pytest.mark.parametrize("form", ["ndjson", "json"])
def test_nothing_at_all_is_an_error(form: posts.Form) -> None:
    """An array of nothing is not: it says so itself."""
    with pytest.raises(Unreadable, match="no body"):
        lines_of(form, b" \n")
    assert lines_of("json", b"[]") == []


def test_too_many_lines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their answers would be as long."""
    monkeypatch.setattr(posts, "MOST_LINES", 2)
    assert len(lines_of("ndjson", b"1\n2\n\n")) == 2
    with pytest.raises(Unreadable, match="2 at most") as raised:
        lines_of("ndjson", b"1\n2\n3")
    assert raised.value.status == 413


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        ({}, None),
        ({"wait": "delivered"}, 30.0),
        ({"wait": "delivered", "timeout": "250ms"}, 0.25),
        ({"wait": "delivered", "timeout": "10m"}, 600.0),
    ],
)
def test_a_caller_says_how_long_it_waits(query: dict[str, str], seconds: float | None) -> None:
    """Or does not wait."""
    assert waits_of(query) == seconds


@pytest.mark.parametrize(
    "query",
    [
        {"wait": "settled"},
        {"timeout": "1s"},
        {"wait": "delivered", "timeout": "soon"},
        {"wait": "delivered", "timeout": "11m"},
    ],
)
def test_what_cannot_be_waited_for_is_refused(query: dict[str, str]) -> None:
    """With what can be."""
    with pytest.raises(Unreadable, match=r"wait|timeout") as raised:
        waits_of(query)
    assert raised.value.status == 400


def test_an_answer_tells_each_line_that_is_not_taken() -> None:
    """By its number in the body; 202 if there is none."""
    assert accepted(2, []) == posts.Posted(202, b'{"accepted":2}')
    error = error_of(3, Refusal("event", "no-name", "name", "why", 0, 9))
    answer = accepted(0, [error])
    assert answer.status == 207
    assert loads(answer.body) == {
        "accepted": 0,
        "invalid": 1,
        "errors": [{"line": 3, "code": "no-name", "field": "name", "reason": "why"}],
    }


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ({1: [End()], 2: [End("unchanged")]}, 200),
        ({1: [End()], 2: []}, 200),
        ({1: [End()], 2: None}, 202),
        ({1: [End()], 2: [End(), End("rejected", "c", "f", "why")]}, 207),
        ({}, 200),
    ],
)
def test_verdicts_say_what_became_of_every_line(
    ends: dict[int, list[End] | None], status: int
) -> None:
    """A line with several records has the verdict of the first that did not arrive."""
    answer = verdicts(ends, [])
    value = loads(answer.body)
    assert answer.status == status
    assert [row["line"] for row in value["verdicts"]] == list(ends)
    assert value["pending"] == (status == 202)
    if status == 207:
        row = {"line": 2, "verdict": "rejected", "code": "c", "field": "f", "reason": "why"}
        assert value["verdicts"][1] == row


def test_lines_that_were_refused_are_among_the_verdicts() -> None:
    """In the order of the body."""
    error = error_of(1, Refusal("event", "c", "", "why", 0, 9))
    value = loads(verdicts({2: [End()]}, [error]).body)
    assert [(row["line"], row["verdict"]) for row in value["verdicts"]] == [
        (1, "invalid"),
        (2, "delivered"),
    ]
    assert (value["accepted"], value["invalid"], value["delivered"]) == (1, 1, 1)


def test_a_request_is_remembered_for_a_day() -> None:
    """From the moment it was accepted; what seems to come from the future stays."""
    known = Remembered("aa", "bb", 100.0, 202, msgspec.Raw(b"{}"))
    assert not known.is_over(100.0 + WINDOW_SECONDS - 1)
    assert known.is_over(100.0 + WINDOW_SECONDS)
    assert not known.is_over(0.0)
    assert known.posted == posts.Posted(202, b"{}")


@given(st.lists(st.fixed_dictionaries({"line": st.integers(1, 99), "reason": st.text()})))
def test_a_note_says_what_was_answered(errors: list[dict[str, Any]]) -> None:
    """On one line, whatever the answer is."""
    answer = accepted(1, errors)
    known = Remembered("aa", "bb", 1.5, answer.status, msgspec.Raw(answer.body))
    note = note_of(known)
    assert b"\n" not in note
    again = remembered_in(note)
    assert again is not None
    assert (again.key, again.body, again.at, again.posted) == ("aa", "bb", 1.5, answer)


def test_a_note_of_somebody_else_is_none() -> None:
    """It is no reason to fail."""
    assert remembered_in(b"not ours") is None


def test_a_key_is_of_use_to_its_owner_only() -> None:
    """With another token it is another key, and the key itself cannot be read from it."""
    assert key_of("k", "t") == key_of("k", "t")
    assert len({key_of("k", "t"), key_of("k", "u"), key_of("l", "t")}) == 3
    assert key_of("k\udcff", "") != key_of("k", "")


@pytest.mark.parametrize("header", ["", "  ", "k" * 256])
def test_a_key_has_characters_and_not_too_many(header: str) -> None:
    """It is kept by its hash; a header of kilobytes is a mistake."""
    with pytest.raises(Unreadable, match="255"):
        key_of(header, "")


def test_the_same_body_is_known_again() -> None:
    """The same bytes read in another form are another body."""
    assert hash_of("json", b"[]") == hash_of("json", b"[]")
    assert hash_of("json", b"[]") != hash_of("ndjson", b"[]")
