"""The screen never lets through what `check` would find, and lets typical records through."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.codec import ValidationError, dumps, loads, typed
from ingest.records import KINDS
from ingest.validation import HEADS, check, clean, clean_chunk, identity, key_once
from ingest.validation.identity import is_email
from ingest.validation.screen import (
    LONGEST_WITH_ARRAYS,
    LONGEST_WITH_PROPERTIES,
    emails_clean,
    may_be_late,
)
from ingest.validation.times import is_late
from tests.examples import examples

DECODERS = {kind: typed(shape) for kind, shape in HEADS.items()}

ID = {"external_id": "user-17"}
WHEN = "2026-01-31T12:00:00Z"
EVENT = {**ID, "name": "rented_movie", "time": WHEN}
PURCHASE = {**ID, "product_id": "p-1", "currency": "EUR", "price": 9.5, "time": WHEN}
BASES: dict[str, dict[str, Any]] = {"attributes": ID, "event": EVENT, "purchase": PURCHASE}

LENGTHS = (0, 1, 235, 236, 237, 254, 255, 256, 300)
DATES = (
    "2026-01-31",
    "3000-12-31",
    "3001-01-01",
    "9999-12-31T23:59:59Z",
    "4210-02-03 04:05:06",
    "12/31/9999",
    "12/31/1999",
    "Tue 12 31 23:59:59.UTC 9999",
    "3005-not-a-date",
)
NAMES = (
    "plan", "name", "time", "event_name", "product_id", "price", "currency", "quantity", "title",
    "properties", "email", "phone", "country", "language", "gender", "dob", "first_name", "app_id",
    "home_city", "push_tokens", "push_token_import", "current_location", "subscription_groups",
    "email_subscribe", "push_subscribe", "date_of_first_session", "_update_existing_only",
    "_merge_objects", "user_alias", "braze_id", "external_id", "facebook", "alias_name",
    "alias_label", "", "$plan", "a.b", "a b", "$time", "inc", "add", "$add", "é", "{", '"', "\\",
)  # fmt: skip
TEXTS = (
    "", "pro", "null", "time", '"time"', "{", "}", "[", "$5", "a@b.c", "no address", "ES", "es",
    "es-ES", "XX", "M", "U", "opted_in", "on", "2000-02-29", "1999-02-29", "\n", "é", "€",
    "EUR", "eur", WHEN,
)  # fmt: skip


LONG_TEXTS = st.builds(lambda c, n: c * n, st.sampled_from("aé€😀"), st.sampled_from(LENGTHS))
"""Texts about as long as the limits, of one- to four-byte characters."""

SCALARS = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(DATES),
    st.sampled_from((0, 1, 100, 101, -1, 2.5, 1e15, 1e300, True, False, None)),
    LONG_TEXTS,
)
"""Leaf values near the limits of every rule."""

KEYS = st.one_of(st.sampled_from(NAMES), LONG_TEXTS)
"""Keys that mean something, in places where they do and do not, and long ones."""

VALUES = st.one_of(
    SCALARS,
    st.builds(lambda v, n: [v] * n, SCALARS, st.sampled_from((499, 500, 501))),
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)
        ),
        max_leaves=5,
    ),
)
"""Values, some of them nested, some of them long arrays."""

OBJECTS = st.dictionaries(KEYS, VALUES, max_size=3)

IDENTITIES = st.one_of(
    st.just(ID),
    st.builds(lambda n: {"external_id": "x" * n}, st.sampled_from((0, 1, 236, 987, 988))),
    st.fixed_dictionaries(
        {"user_alias": st.fixed_dictionaries({"alias_name": LONG_TEXTS, "alias_label": LONG_TEXTS})}
    ),
    st.just({"user_alias": {"alias_name": "n", "alias_label": "l"}}),
    st.sampled_from(({"braze_id": "b"}, {"email": "a@b.c"}, {"phone": "+1"}, {})),
    st.just({"external_id": "a", "braze_id": "b"}),
)
"""The identifying fields, good and bad."""

STYLES: tuple[dict[str, Any], ...] = (
    {"ensure_ascii": False, "separators": (",", ":")},
    {"ensure_ascii": False, "separators": (", ", ": ")},
    {"ensure_ascii": False, "separators": (",", " :")},
    {"ensure_ascii": False, "separators": (",", "\t:")},
    {"ensure_ascii": False, "separators": (",", "\n:")},
    {"ensure_ascii": False, "separators": (",", "\r:")},
    {"ensure_ascii": False, "indent": 1},
    {"ensure_ascii": True},
)
"""Spellings: compact, spaced in every way, indented, with escapes."""


@st.composite
def records(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """Draw a record whose required fields are mostly good, and whose rest is anything."""
    record: dict[str, Any] = {k: v for k, v in BASES[kind].items() if k != "external_id"}
    record |= draw(IDENTITIES)
    record |= draw(OBJECTS)
    if draw(st.booleans()):
        record["properties"] = draw(OBJECTS)
    if draw(st.booleans()):
        record["quantity"] = draw(st.sampled_from((1, 100, 101)))
    order = draw(st.permutations(list(record)))
    return {name: record[name] for name in order}


@st.composite
def encoded(draw: st.DrawFn, kind: str) -> bytes:
    """Draw a record as bytes, in any spelling."""
    return json.dumps(draw(records(kind)), **draw(st.sampled_from(STYLES))).encode()


RECORDS = {kind: encoded(kind) for kind in KINDS}


def head_of(kind: str, fragment: bytes) -> Any:
    """Return the head of a fragment, `None` where the preconditions of the screen do not hold."""
    try:
        head = DECODERS[kind].decode(fragment)
    except ValidationError:
        return None
    return head if head.key() is not None else None


def emails_of(heads: list[Any]) -> list[str]:
    """Return the addresses that heads hold."""
    return [head.email for head in heads if head.email is not None]


def told_of(heads: list[Any]) -> dict[str, Any]:
    """Return what the screen is told of records beside their bytes."""
    return {"emails": emails_of(heads)}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_a_clean_record_has_no_problem(kind: str, data: st.DataObject) -> None:
    """Whatever the head takes and the screen lets through, `check` finds nothing in it."""
    fragment = data.draw(RECORDS[kind])
    head = head_of(kind, fragment)
    if head is not None and clean(kind, fragment, **told_of([head])):
        assert check(kind, loads(fragment)) == []
        assert identity(loads(fragment), kind) == head.key()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(100), deadline=None)
@given(data=st.data())
def test_a_clean_chunk_has_no_problem_in_any_record(kind: str, data: st.DataObject) -> None:
    """Joined, records that are let through together have no problem each."""
    fragments = data.draw(st.lists(RECORDS[kind], min_size=1, max_size=4))
    pairs = [(f, head) for f in fragments if (head := head_of(kind, f)) is not None]
    if not pairs:
        return
    longest = data.draw(st.sampled_from((None, max(len(f) for f, _ in pairs))))
    told = told_of([head for _, head in pairs])
    between = data.draw(st.sampled_from((b",", b"\n")))
    joined = between.join(f for f, _ in pairs)
    if clean_chunk(kind, joined, len(pairs), longest=longest, **told):
        for fragment, _ in pairs:
            assert check(kind, loads(fragment)) == []


def single_faults(kind: str) -> list[dict[str, Any]]:
    """Return one record for each way in which a record can be bad, and the good ones about it."""
    base = BASES[kind]
    inner: list[dict[str, Any]] = [
        {name: value} for name in NAMES for value in ("x", 7, None, {"a": 1}, ["a"])
    ]
    inner += [{"n": value} for value in (*TEXTS, *DATES, {"t": "y" * 256}, ["z" * 300], [[[1]]])]
    inner += [{c * n: "x"} for c in "aé" for n in LENGTHS]
    inner += [{"s": c * n} for c in "aé" for n in LENGTHS]
    inner += [{"a": ["", 1] * (n // 2) + [2] * (n % 2)} for n in (200, 499, 500, 501)]
    inner += [{"x": {"time": 1, "quantity": 1, "$a": ""}}, {"big": [1e15] * 7000}]
    records = [{**base, **extra} for extra in inner]
    records += [{**extra, **base} for extra in inner]
    records += [{**base, "properties": extra} for extra in inner]
    records += [{"quantity": 2, **base, "properties": extra} for extra in inner]
    odd: tuple[Any, ...] = (*TEXTS, *DATES, 7, True, [], {}, [1])
    records += [{**base, name: value} for name in NAMES for value in odd]
    alias = {"alias_name": "é" * 118, "alias_label": "é" * 119}
    anonymous = {name: value for name, value in base.items() if name != "external_id"}
    records += [{**anonymous, "user_alias": alias}]
    return records


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("style", STYLES)
def test_no_single_fault_passes(kind: str, style: dict[str, Any]) -> None:
    """Every fault by itself in an otherwise good record is seen, in whichever spelling."""
    passed = 0
    for record in single_faults(kind):
        fragment = json.dumps(record, **style).encode()
        head = head_of(kind, fragment)
        if head is None:
            continue
        if clean(kind, fragment, **told_of([head])):
            passed += 1
            assert check(kind, record) == [], fragment
    assert passed > 50


TYPICAL: list[tuple[str, dict[str, Any]]] = [
    ("attributes", {**ID, "plan": "pro", "visits": 3, "score": 0.5, "vip": True}),
    ("attributes", {**ID, "signup": "2023-05-01", "seen": "2024-01-02T03:04:05.678Z"}),
    ("attributes", {**ID, "tags": ["a", "b"], "city": "Zürich", "note": ""}),
    ("attributes", {"external_id": "8d3e0e1c-1111-4222-8333-944444444444", "zip": "94110"}),
    (
        "attributes",
        {
            **ID, "email": "a@example.com", "first_name": "Ada", "country": "GB", "language": "en",
            "gender": "F", "dob": "1988-02-14", "email_subscribe": "opted_in", "phone": "+4411",
            "_update_existing_only": True, "date_of_last_session": WHEN,
        },
    ),
    ("attributes", {"email": "a@example.com", "plan": "pro"}),
    ("event", EVENT),
    ("event", {**EVENT, "app_id": "app", "properties": {"title": "Alien", "rating": 4, "tag": ""}}),
    ("event", {**EVENT, "properties": {"cart": [{"sku": "a", "n": 1}], "name": "x"}}),
    ("event", {**EVENT, "user_alias": {"alias_name": "a", "alias_label": "b"}, "external_id": 0}),
    ("purchase", PURCHASE),
    ("purchase", {**PURCHASE, "quantity": 3, "price": 1, "properties": {"colour": "red"}}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "record"), TYPICAL)
def test_typical_records_pass(kind: str, record: dict[str, Any]) -> None:
    """The screen is worth something: what people send every day is proven clean."""
    record = {name: value for name, value in record.items() if value != 0 or name == "price"}
    fragment = dumps(record)
    head = head_of(kind, fragment)
    assert head is not None
    assert clean(kind, fragment, **told_of([head]))


def test_a_chunk_of_typical_records_passes_at_once() -> None:
    """All typical attributes together are proven in one call, with the longest given."""
    fragments = [dumps(record) for kind, record in TYPICAL if kind == "attributes"]
    joined, longest = b",".join(fragments), max(map(len, fragments))
    assert clean_chunk("attributes", joined, len(fragments), longest=longest)
    braces = joined.count(b"{")
    assert clean_chunk("attributes", joined, len(fragments), longest=longest, braces=braces)


def test_a_key_is_there_once_whatever_the_values_are() -> None:
    """A value that is the same word is told from a key by what follows it."""
    name = b'"time"'
    assert key_once(b'{"time":1},{"time":2}', name, 2)
    assert key_once(b'{"time":"time"},{"time":["time"],"a":"time"}', name, 2)
    assert not key_once(b'{"time":1,"time":2},{"a":2}', name, 1)
    assert not key_once(b'{"time":1,"time" :2}', name, 1)


@pytest.mark.parametrize("name", ["\\u0024a", "n\\u0075ll", "\\t"])
def test_escapes_are_left_to_the_rules(name: str) -> None:
    """A key that is spelled with escapes could be any key."""
    fragment = with_property(EVENT, name)
    assert head_of("event", fragment) is not None
    assert not clean("event", fragment)


@pytest.mark.parametrize("kind", ["event", "purchase"])
@pytest.mark.parametrize(
    "name", ["", "time", "ti\\u006de", "event_name", "event\\u005fname", "quantity", "price"]
)
def test_no_head_takes_properties_of_reserved_names(kind: str, name: str) -> None:
    """However its name is spelled, and whichever value it has, as far as the rules mind it."""
    fragment = with_property(BASES[kind], name)
    assert (head_of(kind, fragment) is None) == bool(check(kind, loads(fragment)))


def with_property(base: dict[str, Any], name: str) -> bytes:
    """Return an object with one property, whose name is JSON already."""
    return dumps(base)[:-1] + b',"properties":{"' + name.encode() + b'":1}}'


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        ("event", "properties"),
        ("purchase", "properties"),
        ("purchase", "quantity"),
        ("attributes", "_update_existing_only"),
    ],
)
def test_no_head_takes_null_where_it_means_something(kind: str, member: str) -> None:
    """Null properties and quantities are problems, and a null flag would undo the one that is
    put before it."""
    assert head_of(kind, dumps({**BASES[kind], member: None})) is None


def test_null_is_good_where_it_unsets_and_nowhere_else() -> None:
    """An attribute may be null; inside of one, null is for the rules to warn of."""
    assert clean("attributes", dumps({**ID, "plan": None, "country": None}))
    for inner in ({"a": None}, [None]):
        assert not clean("attributes", dumps({**ID, "plan": inner}))


STRINGS = st.one_of(
    st.sampled_from(DATES),
    st.from_regex(r"\A[0-9]{4}-[01][0-9]-[0-3][0-9]([T ]12:30Z)?\Z"),
    st.from_regex(r"\A[01][0-9]/[0-3][0-9]/[0-9]{4}\Z"),
    st.from_regex(r"\A(Mon|Tue) [01][0-9] [0-3][0-9] 12:30:59[. ](UTC|CEST) [0-9]{4}\Z"),
    st.text(alphabet='0123456789-/ :."', max_size=12),
)


@settings(max_examples=examples(500))
@given(st.lists(STRINGS, max_size=4), st.sampled_from((",", "\n", ", ")))
def test_no_late_date_is_overlooked(texts: list[str], between: str) -> None:
    """Where a text is a date that is not kept, the bytes about it show it."""
    joined = between.join(json.dumps({"a": text}) for text in texts).encode()
    if b"\\" not in joined and not may_be_late(joined):
        assert not any(map(is_late, texts))


@settings(max_examples=examples(500))
@given(st.lists(STRINGS, max_size=4), st.lists(STRINGS, min_size=4, max_size=4))
def test_no_late_date_is_overlooked_beside_ids(texts: list[str], ids: list[str]) -> None:
    """Not even where ids look like dates, or hold as many dashes."""
    pairs = list(zip(ids, texts, strict=False))
    joined = b",".join(dumps({"external_id": one, "a": text}) for one, text in pairs)
    if b"\\" not in joined and not may_be_late(joined, [one for one, _ in pairs]):
        assert not any(map(is_late, texts))


@pytest.mark.parametrize("date", ["9999-12-31", "12/31/9999", "Tue 12 31 23:59:59.UTC 9999"])
def test_late_dates_are_seen_and_others_are_not(date: str) -> None:
    """The first and the last records of a chunk are looked at as any."""
    good = [dumps({**ID, "a": date.replace("9999", year)}) for year in ("1999", "2999")]
    for at in range(3):
        records = good.copy()
        assert not may_be_late(b",".join(records))
        records.insert(at, dumps({"a": date}))
        assert may_be_late(b",".join(records))


NUMBERS = st.one_of(
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,3})?([eE][-+]?[0-9]{1,4})?\Z"),
    st.integers(-(10**40), 10**40).map(str),
)


@settings(max_examples=examples(500))
@given(st.sampled_from(KINDS), NUMBERS, st.sampled_from(("", " ", "\t")), st.booleans())
def test_no_number_beyond_a_double_passes(kind: str, number: str, space: str, last: bool) -> None:
    """Wherever it stands and whatever follows it, a number that `loads` refuses is not let by."""
    base = dumps(BASES[kind])
    member = f'"n":{number}{space}'.encode()
    fragment = base[:-1] + b"," + member + b"}" if last else b"{" + member + b"," + base[1:]
    if clean_chunk(kind, fragment + b"," + base, 2):
        loads(fragment)


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("attributes", {**ID, "a": [1] * LONGEST_WITH_ARRAYS}),
        ("event", {**EVENT, "properties": {"a": [1] * LONGEST_WITH_PROPERTIES}}),
        ("purchase", {**PURCHASE, "properties": {"a": "x", "b": [[1, "b"]] * 2000}}),
    ],
)
def test_long_records_are_left_to_the_rules(kind: str, record: dict[str, Any]) -> None:
    """Beyond the lengths for which sizes are proven, the screen says nothing."""
    assert not clean(kind, dumps(record))


def test_numbers_may_grow_when_encoded_anew() -> None:
    """The worst growth of a number, by which the longest record is bounded, is four and a half."""
    shortest = [f"{m}e{e}".encode() for m in (1, 9) for e in range(-30, 40)]
    assert max(len(dumps(loads(text))) / len(text) for text in shortest) <= 4.5


@settings(max_examples=examples(300))
@given(
    st.datetimes(),
    st.sampled_from(["T", "t", " "]),
    st.sampled_from(["", ".5", ".123456789"]),
    st.sampled_from(["", "Z", "z", "+00:00", "-23:59", "+0530"]),
)
def test_every_time_that_a_head_takes_is_a_time_to_the_rules(
    when: Any, letter: str, fraction: str, zone: str
) -> None:
    """The decoder's notion of a time is within that of the rules."""
    text = when.replace(microsecond=0).isoformat(letter if letter != "t" else "T") + fraction + zone
    if letter == "t":
        text = text.replace("T", "t")
    try:
        DECODERS["event"].decode(dumps({**EVENT, "time": text}))
    except ValidationError:
        assert when.year == 9999
    assert check("event", {**EVENT, "time": text}) == []


def test_heads_resolve_the_same_key_as_the_rules() -> None:
    """A head names the user as `identity` does, or leaves it to `identity` to explain."""
    alias = {"alias_name": "n", "alias_label": "l"}
    for who in (
        {"external_id": "a"}, {"user_alias": alias}, {"braze_id": "b"}, {"email": "a@b.c"},
        {"phone": "+1"}, {"email": "a@b.c", "phone": "+1"},
    ):  # fmt: skip
        head = DECODERS["event"].decode(dumps({**EVENT, "external_id": None, **who}))
        assert head.key() == identity(who)
    for bad in (
        {}, {"external_id": "a", "braze_id": "b"}, {"user_alias": alias, "braze_id": "b"},
        {"external_id": "a", "user_alias": alias},
    ):  # fmt: skip
        head = DECODERS["event"].decode(dumps({**EVENT, "external_id": None, **bad}))
        assert head.key() is None


@settings(max_examples=examples(500))
@given(st.lists(st.text(alphabet="a@@ \n\u2003\x1c\x7fé.", min_size=1, max_size=5), max_size=4))
def test_clean_addresses_are_addresses(emails: list[str]) -> None:
    """Whatever is let through together is an address to the rules, one by one."""
    if emails_clean(emails):
        assert all(map(is_email, emails))
        fragments = [dumps({**ID, "email": email}) for email in emails]
        assert all(check("attributes", loads(one)) == [] for one in fragments)


def test_no_white_space_is_in_a_clean_address() -> None:
    """Whatever Unicode calls white space, before the at sign and right behind it."""
    spaces = [space for space in map(chr, range(sys.maxunicode + 1)) if space.isspace()]
    assert not any(emails_clean([f"a{space}b@c.d"]) for space in spaces)
    assert not any(emails_clean([f"a@{space}b.c"]) for space in spaces)
    others = [chr(ord(space) + step) for space in spaces for step in (-1, 1)]
    assert emails_clean([f"a{other}@{other}" for other in others if other not in [*spaces, "@"]])


def test_typical_addresses_are_clean() -> None:
    """Many together, and none."""
    emails = [f"user.{n}+tag@mail-{n}.example.com" for n in range(50)]
    assert clean_chunk("attributes", b",".join([dumps(ID)] * 50), 50, emails=emails)
    assert not clean_chunk("attributes", b",".join([dumps(ID)] * 51), 51, emails=[*emails, "nope"])
    assert not clean("attributes", dumps(ID), emails=["a@@c"])


def test_a_thousand_records_are_screened_in_no_time() -> None:
    """A chunk costs a small multiple of reading it (bound: 20 microseconds a record)."""
    fragments = [dumps(record) for kind, record in TYPICAL if kind == "attributes"] * 200
    joined = b",".join(fragments)
    began = time.perf_counter()
    clean_chunk("attributes", joined, len(fragments), longest=max(map(len, fragments)))
    assert time.perf_counter() - began < 20e-6 * len(fragments)


def test_deeply_nested_records_are_a_recursion_error_of_the_decoder() -> None:
    """What the docstring of the heads says about depth holds, for whoever decodes."""
    fragment = b'{"external_id":"a","x":' + b"[" * 2000 + b"]" * 2000 + b"}"
    with pytest.raises((RecursionError, msgspec.DecodeError)):
        DECODERS["attributes"].decode(fragment)
