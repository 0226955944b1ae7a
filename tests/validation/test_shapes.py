"""Shapes never let through what `check` would find, and soon let through what looks alike."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.codec import dumps, loads, typed
from ingest.records import KINDS
from ingest.validation import HEADS, Problem, Shapes, check, identity
from ingest.validation.problems import MAX_TEXT
from ingest.validation.screen import LONGEST_WITH_PROPERTIES
from ingest.validation.shapes import LONGEST_REST, MOST_MEMBERS, SHORT
from tests.examples import examples

ID = {"external_id": "user-17"}
WHEN = "2026-01-31T12:00:00Z"
EVENT = {**ID, "name": "rented_movie", "time": WHEN}
PURCHASE = {**ID, "product_id": "p-1", "currency": "EUR", "price": 9.5, "time": WHEN}
BASES: dict[str, dict[str, Any]] = {"attributes": ID, "event": EVENT, "purchase": PURCHASE}

TYPICAL: dict[str, dict[str, Any]] = {
    "attributes": {**ID, "email": "a@b.c", "plan": "pro", "n": 3, "x": 0.5, "vip": True, "t": [1]},
    "event": {**EVENT, "app_id": "a", "properties": {"title": "é", "n": None, "t": ["a", 1.5]}},
    "purchase": {**PURCHASE, "quantity": 2, "properties": {"colour": "red"}},
}

NAMES = (
    "plan", "name", "time", "event_name", "product_id", "price", "currency", "quantity", "title",
    "properties", "email", "phone", "country", "language", "gender", "dob", "first_name", "app_id",
    "image_url", "email_subscribe", "date_of_first_session", "push_tokens", "push_token_import",
    "current_location", "facebook", "_update_existing_only", "user_alias", "braze_id",
    "external_id", "payload", "$a", "a.b", "a b", "", "é", 'q"', "back\\slash", "n\n",
)  # fmt: skip
TEXTS = (
    "", "pro", "{", "}", "},{", "a@b.c", "a b@c", "@", "ES", "es", "XX", "M", "opted_in", "on",
    "2000-02-29", "1999-02-29", "3001-01-01", "12/31/9999", "Tue 12 31 23:59:59.UTC 9999", "\n",
    "€", "EUR", WHEN, "😀", "\ud800", "\\u0039999-01-01",
)  # fmt: skip
LONG = st.builds(lambda c, n: c * n, st.sampled_from("aé😀"), st.sampled_from((246, 247, 255, 256)))
SCALARS = st.one_of(
    st.sampled_from(TEXTS),
    LONG,
    st.sampled_from((0, 1, 100, 101, -1, 2.5, 1e300, 10**30, 10**309, True, False, None)),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.sampled_from(([1] * 500, [1] * 501, {}, {"a": 1}, {"a": None}, [[1]], [{"a": 1}])),
)
OBJECTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=2)

STYLES: tuple[dict[str, Any], ...] = (
    {"ensure_ascii": False, "separators": (",", ":")},
    {"ensure_ascii": False, "separators": (", ", ": ")},
    {"ensure_ascii": True, "separators": (",", ":")},
)
"""Spellings: compact, spaced, with escapes."""


@st.composite
def encoded(draw: st.DrawFn, kind: str) -> bytes:
    """Draw an object, which is mostly a typical one but for some of its members."""
    record = dict(draw(st.sampled_from((TYPICAL[kind], TYPICAL[kind], BASES[kind]))))
    for name in draw(st.lists(st.sampled_from(list(record)), max_size=2)):
        record.pop(name, None)
    record |= draw(OBJECTS)
    if draw(st.booleans()):
        record["properties"] = draw(OBJECTS)
    record = {name: record[name] for name in draw(st.permutations(list(record)))}
    text = json.dumps(record, **draw(st.sampled_from(STYLES)))
    if draw(st.integers(0, 9)) == 0:  # a member twice
        twice = json.dumps({draw(st.sampled_from(NAMES)): draw(VALUES)})[1:-1]
        text = f"{text[:-1]},{twice}}}" if record else text
    data = text.encode(errors="surrogatepass")
    if draw(st.integers(0, 19)) == 0:  # a piece of one
        data = b"{" + data[draw(st.integers(1, len(data))) :]
    return data


def proven(shapes: Shapes, texts: list[bytes]) -> Any:
    """Return the heads of some texts, if shapes prove them."""
    shaped = shapes.proven(b"\n".join(texts), len(texts), max(map(len, texts)))
    if shaped is None:
        return None
    assert shaped.keys == [head.external_id for head in shaped.heads]
    return shaped.heads


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(500), deadline=None)
@given(data=st.data())
def test_what_is_proven_has_no_problem(kind: str, data: st.DataObject) -> None:
    """Whatever is let through is an object each, of a user that is named right, without a finding.

    No matter what was seen before.
    """
    shapes = Shapes(kind)
    typical = [dumps(TYPICAL[kind])]
    for _ in range(data.draw(st.integers(1, 3))):
        texts = data.draw(st.lists(encoded(kind), max_size=3)) + typical
        if (heads := proven(shapes, texts)) is not None:
            assert len(heads) == len(texts)
            for text, head in zip(texts, heads, strict=True):
                record = loads(text)
                assert check(kind, record) == []
                assert identity(record, kind) == head.external_id
                assert head.update_existing_only is record.get("_update_existing_only")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_texts_that_are_no_objects_each_are_not_proven(kind: str, data: st.DataObject) -> None:
    """Pieces that happen to make as many objects as there are texts are seen for what they are."""
    whole = b",".join([dumps(TYPICAL[kind] | {"plan": "},{"}), dumps(TYPICAL[kind])] * 2)
    cuts = [at for at in range(1, len(whole)) if whole[at : at + 2] == b",{"]
    kept = sorted(data.draw(st.sets(st.sampled_from(cuts))))
    starts, stops = [0, *(at + 1 for at in kept)], [*kept, len(whole)]
    texts = [whole[start:stop] for start, stop in zip(starts, stops, strict=True)]
    shapes = Shapes(kind)
    proven(shapes, [dumps(TYPICAL[kind] | {"plan": "a"})])
    if proven(shapes, texts) is not None:
        assert all(isinstance(loads(text), dict) for text in texts)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_objects_end_where_their_lines_do(kind: str, data: st.DataObject) -> None:
    """However objects and pieces of them are spread over lines between braces."""
    odd = TYPICAL[kind] | {"plan": "}{"}
    pieces = (dumps(TYPICAL[kind]), dumps(odd), dumps(BASES[kind])[:-1] + b',"properties":', b"{}}")
    seams = st.sampled_from((b"", b"", b" ", b",", b"\r"))
    some = data.draw(st.lists(st.tuples(st.sampled_from(pieces), seams), min_size=1, max_size=6))
    whole = b"".join(piece + seam for piece, seam in some)
    cuts = [at for at in range(1, len(whole)) if whole[at - 1 : at + 1] == b"}{"]
    kept = data.draw(st.sets(st.sampled_from(cuts))) if cuts else set()
    edges = [0, *sorted(kept), len(whole)]
    texts = [whole[start:stop] for start, stop in pairwise(edges)]
    shapes = Shapes(kind)
    proven(shapes, [dumps(TYPICAL[kind] | {"plan": "a", "properties": {}})])
    if texts[-1].endswith(b"}") and proven(shapes, texts) is not None:
        assert all(isinstance(loads(text), dict) for text in texts)


@pytest.mark.parametrize("kind", KINDS)
def test_what_looks_alike_is_proven_at_once(kind: str) -> None:
    """The first chunk is learned from; members that are lacking later do not matter."""
    shapes = Shapes(kind)
    texts = [dumps(TYPICAL[kind])] * 3
    for some in (texts, texts, [*texts, dumps(BASES[kind])], [dumps(BASES[kind])]):
        heads = proven(shapes, some)
        assert heads is not None
        assert [head.external_id for head in heads] == ["user-17"] * len(some)
        usual = typed(HEADS[kind]).decode(some[0])
        for name in ("email", "phone", "user_alias", "braze_id", "app_id", "update_existing_only"):
            assert getattr(heads[0], name) == getattr(usual, name)


@pytest.mark.parametrize("kind", KINDS)
def test_new_members_are_learned_when_they_come(kind: str) -> None:
    """A shape grows by what it meets."""
    shapes = Shapes(kind)
    assert proven(shapes, [dumps(BASES[kind])]) is not None
    assert proven(shapes, [dumps(BASES[kind] | {"new": 1})]) is not None
    assert proven(shapes, [dumps(TYPICAL[kind])]) is not None
    assert proven(shapes, [dumps(BASES[kind])]) is not None


def test_what_fails_all_the_time_is_hardly_ever_tried() -> None:
    """The rests double up to the longest, and end with the first success."""
    shapes = Shapes("attributes")
    good, bad = [dumps(TYPICAL["attributes"])], [dumps({**ID, "a": {"b": 1}})]
    assert proven(shapes, good) is not None
    for rest in (1, 2, 4):
        assert proven(shapes, bad) is None
        for _ in range(rest):
            assert proven(shapes, good) is None
    assert proven(shapes, good) is not None
    assert proven(shapes, bad) is None
    assert proven(shapes, good) is None
    assert proven(shapes, good) is not None


def test_the_longest_rest_is_bounded() -> None:
    """After however many failures, good records are proven again within so many chunks."""
    shapes = Shapes("attributes")
    for _ in range(10 * LONGEST_REST):
        assert proven(shapes, [dumps({**ID, "a": {"b": 1}})]) is None
    good = [dumps(TYPICAL["attributes"])]
    assert any(proven(shapes, good) is not None for _ in range(LONGEST_REST + 1))


@pytest.mark.parametrize(
    "record",
    [
        {"email": "a@b.c"},
        {**ID, "user_alias": None},
        {**ID, "braze_id": None},
        {**ID, 'a"b': 1},
        {**ID, "a" * 100: 1},
        {**ID, **{f"m{n}": n for n in range(MOST_MEMBERS)}},
        {**ID, "many": ["long"] * 400, **{f"m{n}": "x" * 250 for n in range(32)}},
        {**ID, "a": "\u0039999-01-01", "b": "\n"},
        {**ID, "_update_existing_only": None},
    ],
)
def test_forms_that_no_shape_has_are_left_to_the_long_way(record: dict[str, Any]) -> None:
    """Other identities, odd or too many members, and too many bytes."""
    assert proven(Shapes("attributes"), [dumps(record)]) is None


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"plan": "é" * 255}, {"plan": "x" * 256}),
        ({"tags": ["é" * 255]}, {"tags": ["x" * 256]}),
        ({"tags": [1] * 500}, {"tags": [1] * 501}),
        ({"external_id": "😀" * 246}, {"external_id": "😀" * 247}),
        ({"email": "a@b.c"}, {"email": "nobody"}),
        ({"since": "2999-12-31"}, {"since": "3001-01-01"}),
        ({"country": "ES"}, {"country": "Spain"}),
        ({"plan": None}, {"tags": [None]}),
    ],
)
def test_values_are_good_up_to_their_limits(good: dict[str, Any], bad: dict[str, Any]) -> None:
    """What is beyond one is for the rules, which find it bad."""
    shapes = Shapes("attributes")
    assert proven(shapes, [dumps(ID | good)]) is not None
    assert proven(shapes, [dumps(ID | bad)]) is None
    assert check("attributes", ID | good) == []
    assert check("attributes", ID | bad) or isinstance(identity(ID | bad), Problem)


@pytest.mark.parametrize("kind", ["event", "purchase"])
@pytest.mark.parametrize("properties", [{"time": 1}, {"": 1}, {"$a": 1}, {"event_name": 1}, None])
def test_properties_that_no_shape_has(kind: str, properties: Any) -> None:
    """Reserved names, those that begin with a dollar sign, and null."""
    assert proven(Shapes(kind), [dumps({**BASES[kind], "properties": properties})]) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xc3"])
def test_what_is_not_utf8_is_not_proven(kind: str, bad: bytes) -> None:
    """In no value and no name, of a member given twice, nor where it would be learned from.

    That is no fault of the shape, which is tried again at once.
    """
    shapes, good = Shapes(kind), dumps(TYPICAL[kind] | {"plan": "a"})
    for one in (
        good.replace(b'"a"', b'"%b"' % bad),
        good.replace(b'"plan"', b'"pl%b"' % bad),
        good.replace(b'"a"', b'"%b","plan":"a"' % bad),
        good.replace(b'"a"', b'"%b\\n"' % bad),
        good.replace(b'"a"', bad),
        good + bad,
    ):
        assert proven(Shapes(kind), [one]) is None
        assert proven(shapes, [good]) is not None
        assert proven(shapes, [one]) is None


@settings(max_examples=examples(300), deadline=None)
@given(
    st.sampled_from(("b", "plan", "email", "phone", "first_name", "app_id", "external_id", "name")),
    st.sampled_from(("x", "\n", "é")),
    st.integers(200, 260),
    st.booleans(),
    st.sampled_from(KINDS),
)
def test_nothing_is_too_long_where_lengths_are_not_compared(
    name: str, letter: str, count: int, listed: bool, kind: str
) -> None:
    """A record with a string that is too long is longer than what is called short."""
    text = letter * count + ("@x" if name == "email" else "")
    for where in ({name: text}, {"properties": {name: text}}):
        record = {**BASES[kind], "external_id": "a"} | where
        if listed and name == "b":
            record |= {name: [text]}
        if (heads := proven(Shapes(kind), [dumps(record)])) is not None:
            assert check(kind, record) == []
            assert identity(record, kind) == heads[0].external_id


def test_the_shortest_record_of_a_string_that_is_too_long_is_not_short() -> None:
    """The bound is one byte below it, and the longest good string is within."""
    good, bad = ({"external_id": "a", "b": "x" * size} for size in (MAX_TEXT, MAX_TEXT + 1))
    assert len(dumps(good)) == SHORT == len(dumps(bad)) - 1
    assert proven(Shapes("attributes"), [dumps(good)]) is not None
    assert proven(Shapes("attributes"), [dumps(bad)]) is None


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("bad", [{"external_id": ""}, {"email": ""}, {"phone": ""}])
def test_what_is_empty_and_may_not_be_is_not_proven(bad: dict[str, str], long: bool) -> None:
    """Neither in short records nor in long ones, alone or among others."""
    good = {**ID, "email": "a@b.c", "phone": "1"} | ({"a": "x" * 250, "b": "y"} if long else {})
    shapes = Shapes("attributes")
    assert proven(shapes, [dumps(good)] * 3) is not None
    assert proven(shapes, [dumps(good), dumps(good | bad), dumps(good)]) is None


def test_a_shape_knows_its_members() -> None:
    """However their names are spelled."""
    shapes = Shapes("attributes")
    assert not shapes.knows("plan")
    assert proven(shapes, [b'{"external_id":"a","pl\\u0061n":"b"}']) is not None
    assert shapes.knows("plan")


@given(
    st.lists(st.text(alphabet="-3001/é", min_size=1, max_size=12), min_size=1, max_size=3),
    st.sampled_from(("", "3001-01-01", "2999-01-01", "12/31/9999", "-", "---")),
    st.booleans(),
)
def test_dashes_of_ids_hide_no_late_date(ids: list[str], since: str, escaped: bool) -> None:
    """However many there are, and however they are written."""
    texts = []
    for at, one in enumerate(ids):
        who = json.dumps(one, ensure_ascii=False)
        who = who.replace("-", "\\u002d") if escaped else who
        more = f',"since":"{since}"' if since and at == len(ids) - 1 else ""
        texts.append(f'{{"external_id":{who}{more}}}'.encode())
    if proven(Shapes("attributes"), texts) is not None:
        assert all(check("attributes", loads(text)) == [] for text in texts)
    elif not escaped:
        # An id that ends like a late date with slashes is left to the rules as well.
        late = any(re.search(r"/3\d{3}\Z", one) for one in ids)
        assert late or since in ("3001-01-01", "12/31/9999")


def test_an_id_may_look_like_a_late_date() -> None:
    """No rule takes it for one; among members that are dates it is left to the rules."""
    ids = [f"3001-01-{n}" for n in range(10, 20)]
    assert proven(Shapes("attributes"), [dumps({"external_id": one}) for one in ids]) is not None
    dated = [dumps({"external_id": one, "since": "2026-01-31"}) for one in ids]
    assert proven(Shapes("attributes"), dated) is None


def test_escapes_cannot_hide_a_late_date() -> None:
    """Others may stand anywhere."""
    for text, good in (
        (b"\\u00e9 \\n\\\\", True),
        (b"\\u0039999-01-01", False),
        (b"9999\\u002d01-01", False),
        (b"12\\/31\\/9999", False),
    ):
        one = b'{"external_id":"a","t":"%b"}' % text
        assert (proven(Shapes("attributes"), [one]) is not None) == good


def test_what_is_no_json_is_not_learned_from() -> None:
    """It is for the long way to say what is wrong."""
    shapes = Shapes("attributes")
    assert proven(shapes, [b"{nonsense"]) is None
    assert proven(Shapes("event"), [b"{}", b'{"external_id":7}']) is None
    assert proven(shapes, [dumps(ID)]) is None
    assert proven(shapes, [dumps(ID)]) is not None


def test_records_that_may_be_too_big_are_left_to_the_long_way() -> None:
    """Sizes follow from a bound of the bytes."""
    shapes, text = Shapes("event"), dumps(TYPICAL["event"])
    assert shapes.proven(text, 1, LONGEST_WITH_PROPERTIES + 1) is None


@settings(max_examples=examples(500))
@given(
    st.one_of(
        st.from_regex(r"\A-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,4})?\Z"),
        st.integers(-(10**310), 10**310).map(str),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.sampled_from(
            ("1.7976931348623157e308", "1.7976931348623158e308", "1.797693134862316e308")
        ),
    )
)
def test_every_number_that_a_shape_takes_is_one_to_the_rules(number: str) -> None:
    """Numbers are read by two decoders, which agree about what is beyond a double."""
    one = b'{"external_id":"a","n":%b}' % number.encode()
    if proven(Shapes("attributes"), [one]) is not None:
        assert float(loads(one)["n"]) == float(number)
