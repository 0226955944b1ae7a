"""That text of a destination is shown without secrets, and reported without values of a record."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.outcomes import Response
from ingest.quoting import (
    FIELDS,
    LONGEST_WORD,
    MASK,
    MASKED_CHARS,
    QUOTED_CHARS,
    REASON_CHARS,
    SLUG_CHARS,
    masked,
    quote,
    read_body,
    redact,
    slug,
)

KEY = "5e7c1f9a-0000-4b1d-8a3e-abcdefabcdef"


def response(status: int, body: bytes | object) -> Response:
    """Make a response; a body that is not bytes is encoded as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {}, raw, 0.0)


# --- bodies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"message": "a"}, "a"),
        ({"error_code": "X", "error_message": "b"}, "b"),
        ({"message": None, "errors": ["c", 1, "d"]}, "c; d"),
        ({"message": "", "errors": None}, ""),
        ({}, ""),
        ("e", "e"),
        ([1], ""),
        (b"plain\x00 text\r\n", "plain text"),
        (b"\xff", "\ufffd"),
        (b"<html><head><TITLE lang=en>502 Bad</TITLE>", "an HTML page titled '502 Bad'"),
        (b"<p>", "an HTML page"),
    ],
)
def test_what_a_body_says(body: object, says: str) -> None:
    """The sentence is found in the shapes of bodies that are around."""
    assert read_body(response(400, body), ()).says == says


def test_the_fields_of_a_body() -> None:
    """Only an object has fields; anything else has none, and is no error."""
    assert read_body(response(400, {"a": 1}), ()).fields == {"a": 1}
    for body in (b"", [1], "text", 3):
        assert read_body(response(400, body), ()).fields == {}


def test_deeply_nested_json_is_no_json() -> None:
    """A body of brackets does not exhaust the stack."""
    assert not read_body(response(400, b"[" * 100_000), ()).is_json


# --- secrets ------------------------------------------------------------------------------------


@given(
    st.text(alphabet="abcdefghijkmnop0123456789-_.", min_size=12, max_size=40),
    st.text(max_size=60),
    st.text(max_size=60),
)
def test_no_secret_is_quoted(key: str, before: str, after: str) -> None:
    """Wherever a destination echoes the key, in whatever case, it is not shown."""
    shown = quote(f"{before}{key}{after}{key.upper()}", (key,))
    assert key not in shown.lower()
    assert len(shown) <= REASON_CHARS
    assert shown.isprintable()


@pytest.mark.parametrize("pad", [REASON_CHARS - 10, 8190 - 20, 9000])
def test_no_half_of_a_secret_is_left_by_a_cut(pad: int) -> None:
    """Text is redacted before it is cut."""
    for filler in (" ", "x"):
        assert KEY[:8] not in quote(filler * pad + KEY + "y" * 9000, (KEY,), 10_000)


@settings(deadline=None)
@given(
    st.integers(0, QUOTED_CHARS + 100),
    st.sampled_from((" ", "x", ".\t", "<title>", "<title>" + "x" * 189, "\0")),
    st.sampled_from(("", "</title>", " y" * QUOTED_CHARS)),
    st.booleans(),
)
@example(185, "x", "", True)
@example(QUOTED_CHARS - 20, "x", "y", False)
def test_no_part_of_a_secret_is_shown(at: int, filler: str, after: str, title: bool) -> None:
    """Wherever it stands, across any cut, no eight characters of it are left."""
    text = (filler * at)[:at] + KEY + after
    if title:
        text = f"<html><title>{text}"
    shown = quote(text, (KEY,), 10_000) + read_body(response(500, text.encode()), (KEY,)).says
    assert not [n for n in range(len(KEY) - 7) if KEY[n : n + 8] in shown]


def test_a_secret_within_another_leaves_nothing_of_it() -> None:
    """The longest is redacted first; what is not printable does not hide one either."""
    assert redact("it is key-of-mine", ("key", "key-of-mine")) == "it is [redacted]"
    assert quote("key-\0of-mine", ("key-of-mine",)) == "[redacted]"


@pytest.mark.parametrize(
    "text",
    [
        "Invalid API key: other-key",
        '{"api_key": "other-key"}',
        "Authorization: Bearer other-key",
        "app_group_id=other-key",
    ],
)
def test_what_follows_the_name_of_a_credential_is_redacted(text: str) -> None:
    """Even a key that is not ours is not shown."""
    assert "other-key" not in redact(text, ())
    assert "[redacted]" in redact(text, ())


def test_redacting_leaves_other_text_alone() -> None:
    """A sentence about a key stays readable, and an empty secret matches nothing."""
    assert redact("the API key has expired", ("",)) == "the API key has expired"


def test_control_characters_and_length() -> None:
    """A reason is one printable line of bounded length."""
    shown = quote("a\tb\nc\x1b[31m\u202e" + "d" * 1000, ())
    assert shown.startswith("a b c[31mddd")
    assert len(shown) == REASON_CHARS
    assert shown.endswith("…")


# --- masking ------------------------------------------------------------------------------------

words = st.sampled_from(
    [
        "'external_id'",
        "'u1'",
        '"rented movie"',
        "is",
        "required:",
        "john@doe.example",
        "u_1",
        "…",
        "can't",
        "'",
        '"',
        "[x]",
        "{",
        "(name)",
        "'name'",
        "Müller",
        "x" * 30,
        "Event",
        "'a",
        "b'",
        "12",
        "²",
        ":",
        "price,",
        "email:",
        "<b>",
    ]
)
sentences = st.lists(words | st.text(max_size=8), max_size=40).map(" ".join) | st.text()


@given(sentences)
@example("it's " * 60)
@example("name " * 2000)
@example("(" * 9000)
@example("'" * 9000)
@example('"a' * 5000)
@example("x: " + "y" * 9000)
def test_nothing_of_a_record_is_left_in_a_masked_sentence(text: str) -> None:
    """No digit, no address and no quoted word but a documented field; one line, and not long."""
    shown = masked(text)
    assert len(shown) <= MASKED_CHARS
    assert not any(c.isnumeric() or c in "@_" for c in re.sub("|".join(FIELDS), "", shown))
    assert shown.replace(MASK, "").isascii()
    assert shown.isprintable()
    assert '"' not in shown
    assert set(re.findall(r"(?<!\w)'([^']*)'", shown)) <= FIELDS
    assert all(
        len(word) <= LONGEST_WORD or word in FIELDS for word in re.findall(r"[A-Za-z_]+", shown)
    )


@given(sentences)
def test_masking_twice_changes_nothing(text: str) -> None:
    """What is fit for a report stays as it is."""
    assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("'external_id' is required", "'external_id' is required"),
        ("Event 'rented_movie' of user 'u1' can't be kept.", "Event … of user … can't be kept."),
        ("user “Ann O'Neil” has no `time`, see [3]", "user … has no 'time', see …"),
        ('"price" must be a number (float)', "'price' must be a number (float)"),
        ("bob@example.com is not a valid email", "… is not a valid email"),
        ("unknown product_id sku_7 and sku-8", "unknown product_id … and …"),
        ("no such token 0123456789abcdef at line 3", "no such token … at line …"),
        ("invalid external_id: john", "invalid external_id: …"),
        ("invalid: quantity", "invalid: quantity"),
        ("Zoë and pneumonoultramicroscopicsilico stay out", "… and … stay out"),
        ("the name 'Bob was cut", "the name …"),
        ("a 1 2 3 b", "a … b"),
    ],
)
def test_what_is_masked(text: str, shown: str) -> None:
    """What names the rule stays; what could be data of a user goes."""
    assert masked(text) == shown


def test_complaints_about_different_records_are_one_sentence() -> None:
    """They can be counted together."""
    said = {masked(f"User 'u{n}' has an event at 2026-01-{n:02} without 'name'") for n in range(20)}
    assert said == {"User … has an event at … without 'name'"}


def test_a_long_sentence_ends_in_a_mask() -> None:
    """It is cut between words, and a text longer than is looked at shows no half of a word."""
    assert masked("word " * 40).endswith("word …")
    assert len(masked("word " * 40)) <= MASKED_CHARS
    assert masked("1 " * (QUOTED_CHARS // 2 - 1) + "secretive") == MASK


@given(sentences)
def test_a_slug_is_a_short_code(text: str) -> None:
    """It has lower-case letters and single dashes alone."""
    code = slug(masked(text))
    assert re.fullmatch(r"(?:[a-z]+(?:-[a-z]+)*)?", code)
    assert len(code) <= SLUG_CHARS


def test_a_slug_tells_sentences_apart() -> None:
    """It is made of their words."""
    assert slug("User … has no 'product_id'.") == "user-has-no-product-id"
    assert slug("…") == ""
