"""What the fast way proves, and that it leaves to the rules what it cannot.

That it proves nothing wrong is the first law in `test_intake`; here is what it must recognise.
"""

from __future__ import annotations

import json
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.codec import dumps
from ingest.proofs import DOUBTFUL, SURELY_SHALLOW, Proof
from ingest.proving import Prover
from ingest.records import KINDS, UserKey
from tests.examples import examples
from tests.intake_lines import GOOD, mixtures, plain


def prove(lines: list[bytes], bare: str | None = None, **options: Any) -> Proof:
    """Prove lines by the usual rules."""
    given: dict[str, Any] = {"largest": 4_000_000, "update_existing_only": False} | options
    return Prover(bare, **given).prove(lines)


def doubtful(proof: Proof) -> list[int]:
    """Rows of which nothing is proven."""
    return [row for row, slot in enumerate(proof.slots) if slot == DOUBTFUL]


def spread(proof: Proof) -> list[tuple[int, bytes, UserKey]]:
    """Slot, fragment and key of each line."""
    if not proof.alike:
        fragments = map(bytes, proof.fragments)
        return list(zip(proof.slots, fragments, proof.keys, strict=True))
    return [
        (some.slot, fragment, key)
        for _, some, fragment, key in sorted(
            (
                (row, some, fragment, key)
                for some in proof.alike
                for row, fragment, key in zip(some.rows, some.fragments, some.keys, strict=True)
            ),
            key=itemgetter(0),
        )
    ]


def keys_of(proof: Proof) -> list[UserKey]:
    """The key of each line."""
    return [key for _, _, key in spread(proof)]


def test_of_nothing_all_is_doubtful() -> None:
    """No lines are all proven."""
    assert doubtful(Proof.of_nothing(3)) == [0, 1, 2]
    assert doubtful(prove([])) == []


@pytest.mark.parametrize("form", ["enveloped", "bare"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "odd", [b"", b" ", b"nope", b'{"a":"\xff"}', b'{"attributes":{"n":null}}', b"[]", b"{}"]
)
def test_an_odd_line_costs_itself_only(form: str, kind: str, odd: bytes) -> None:
    """The others in its slice are proven all the same."""
    lines = [plain(form, kind, n) for n in range(20)]
    lines.insert(7, odd)
    assert doubtful(prove(lines, kind)) == [7]


def test_a_line_that_is_not_utf8_costs_itself_only_among_all_kinds() -> None:
    """In whatever kind it is, and wherever."""
    for kind in KINDS:
        lines = [plain("enveloped", one, n) for n in range(9) for one in KINDS]
        lines[17] = plain("enveloped", kind, 99).replace(b"user-99", b"\xff")
        assert doubtful(prove(lines)) == [17]


def test_two_envelopes_in_one_line_are_doubtful() -> None:
    """As many of them as there are lines are not one in each."""
    one, two = (plain("enveloped", "attributes", n) for n in (1, 2))
    assert doubtful(prove([one + two])) == [0]
    assert 0 in doubtful(prove([one + two, one, b'{"attributes":{"external_id":{}}}']))


@settings(max_examples=examples(100))
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 9)), min_size=1, max_size=12))
def test_columns_stand_for_lines_where_no_user_is_in_two_of_them(
    some: list[tuple[str, int]],
) -> None:
    """A user may be in one of them as often as he likes."""
    lines = [plain("enveloped", kind, n) for kind, n in some]
    proof = prove(lines)
    assert doubtful(proof) == []
    kinds = {n: {kind for kind, one in some if one == n} for _, n in some}
    assert bool(proof.alike) == all(len(of) == 1 for of in kinds.values())
    assert spread(proof) == [
        (KINDS.index(kind), plain("bare", kind, n), f"user-{n}") for kind, n in some
    ]


def test_kinds_and_forms_may_be_mixed() -> None:
    """Also enveloped lines among bare ones."""
    lines = [plain("enveloped", kind, 1) for kind in KINDS] + [plain("bare", "event", 2)]
    proof = prove(lines, "event")
    assert spread(proof) == [
        (slot, plain("bare", KINDS[slot], n), f"user-{n}")
        for slot, n in ((0, 1), (1, 1), (2, 1), (1, 2))
    ]
    assert proof.time


@pytest.mark.parametrize(
    ("identity", "key"),
    [
        ({"braze_id": "b"}, ("braze_id", "b")),
        ({"email": "a@b.c"}, ("email", "a@b.c")),
        ({"phone": "1"}, ("phone", "1")),
        ({"user_alias": {"alias_name": "n", "alias_label": "l"}}, ("alias", "l", "n")),
    ],
)
def test_other_identities_are_read(identity: dict[str, Any], key: tuple[str, ...]) -> None:
    """Among records with an external id, and alone."""
    event = {name: value for name, value in GOOD["event"].items() if name != "external_id"}
    line = dumps({"event": identity | event})
    assert keys_of(prove([line, plain("enveloped", "event", 1)])) == [key, "user-1"]
    assert keys_of(prove([line])) == [key]


def test_what_has_no_identity_is_doubtful() -> None:
    """It is for the rules to say so."""
    event = {name: value for name, value in GOOD["event"].items() if name != "external_id"}
    assert doubtful(prove([dumps(event), plain("bare", "event", 1)], "event")) == [0]


@pytest.mark.parametrize("other", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_contents_are_doubtful(kind: str, other: str) -> None:
    """An envelope holds one thing; which of two counts, and what the other is, is for the rules."""
    line = b'{"%b":%b,"%b":%b}' % (
        kind.encode(), plain("bare", kind, 1), other.encode(), plain("bare", other, 2)
    )  # fmt: skip
    assert doubtful(prove([line])) == [0]


def test_a_second_object_in_a_line_is_not_passed_over() -> None:
    """Not even where its name is spelled with an escape, so that it is one by its bytes."""
    good = b'{"attributes":{"external_id":"a"}}'
    sly = good + b'{"\\u0061ttributes":{"external_id":"b"}}'
    assert doubtful(prove([sly, good])) == [0]
    assert doubtful(prove([sly])) == [0]


def test_odd_lines_keep_their_order() -> None:
    """However they begin: positions and lines are those of the file."""
    lines = [
        b'{"attributes":{"external_id":"a"} }',
        b'{"attributes": {"external_id":"b"} }',
        b'{"attributes":{"external_id":"a","v":3} }',
    ]
    assert keys_of(prove(lines)) == ["a", "b", "a"]
    assert keys_of(prove([lines[0], b" " + lines[1], lines[2]])) == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("lines", "bare"),
    [
        ([b'{"external_id":"a"}{"external_id":', b'"b"}'], "attributes"),
        ([b'{"external_id":', b'"b"}{"external_id":"a"}'], "attributes"),
        (
            [
                b'{"attributes":{"external_id":"b"}}{"attributes":{"external_id":',
                b'"a"}}',
            ],
            None,
        ),
        ([b'{"attributes":{},5,{}}'], None),
        ([b'{"attributes":{},null,{}}'], None),
        ([b'{"event":{},"abc",{}}'], None),
        ([b'{"attributes":{"x":1e400},"attributes":{"external_id":"zz"}}'], None),
        ([b'{"attributes":' + b"9" * 400 + b',"attributes":{"external_id":"zz"}}'], None),
        ([b'{"\\u0061ttributes":1e400,"attributes":{"external_id":"zz"}}'], None),
    ],
)
def test_what_is_not_one_value_a_line_is_proven_by_nothing(
    lines: list[bytes], bare: str | None
) -> None:
    """Two writers in one file, a second thing in an envelope, or what is no object at all."""
    good = [plain("bare" if bare else "enveloped", "attributes", n) for n in range(9)]
    assert doubtful(prove(lines, bare)) == list(range(len(lines)))
    assert doubtful(prove(good + lines, bare)) == [*range(9, 9 + len(lines))]


@pytest.mark.parametrize("bare", [None, "attributes"])
@pytest.mark.parametrize("blank", [b" ", b"\t", b"\r"])
def test_a_blank_line_makes_up_for_no_second_value(blank: bytes, bare: str | None) -> None:
    """As many values as lines would mean nothing then."""
    one, two = (b'{"attributes":{"external_id":"%b"}}' % name for name in (b"a", b"b"))
    if bare:
        one, two = b'{"external_id":"a"}', b'{"external_id":"b"}'
    proof = prove([blank, b" " + one, one + two], bare)
    assert doubtful(proof) == [0, 2]
    assert proof.keys[1] == "a"


@pytest.mark.parametrize("kind", KINDS)
def test_spaces_as_many_encoders_put_them_go_the_fast_way(kind: str) -> None:
    """After a colon and after a comma; the record is sent with them, as it came."""
    lines = [json.dumps({kind: GOOD[kind] | {"external_id": f"u{n}"}}).encode() for n in range(30)]
    proof = prove(lines)
    assert doubtful(proof) == []
    assert spread(proof)[3][1] == json.dumps(GOOD[kind] | {"external_id": "u3"}).encode()


@pytest.mark.parametrize("kind", KINDS)
def test_bare_lines_that_look_alike_are_proven_by_their_shape(kind: str) -> None:
    """As they are; one that ends elsewhere is for the other ways."""
    lines = [plain("bare", kind, n) for n in range(30)]
    prover = Prover(kind, largest=4_000_000, update_existing_only=False)
    assert spread(prover.prove(lines)) == [
        (KINDS.index(kind), line, f"user-{n}") for n, line in enumerate(lines)
    ]
    spaced = [*lines, b" " + plain("bare", kind, 30) + b" ", plain("enveloped", "event", 31)]
    assert keys_of(prover.prove(spaced)) == [f"user-{n}" for n in range(32)]
    halves = [lines[0] + lines[1][:-1], b"}", *lines[2:]]
    assert doubtful(prover.prove(halves)) == [0, 1]


def test_a_payload_makes_a_bare_line_doubtful() -> None:
    """It may be a CDI row."""
    row = dumps({"external_id": "u", "payload": "{}"})
    assert doubtful(prove([row, plain("bare", "attributes", 1)], "attributes")) == [0]


def test_records_too_large_are_doubtful() -> None:
    """By their lines, and with what the flag adds."""
    line = plain("bare", "attributes", 1)
    assert doubtful(prove([line], "attributes", largest=len(line))) == []
    assert doubtful(prove([line, line + b" "], "attributes", largest=len(line))) == [1]
    flagged = {"largest": len(line), "update_existing_only": True}
    assert doubtful(prove([line], "attributes", **flagged)) == [0]


@pytest.mark.parametrize("payload", ["payload", "payl\\u006fad"])
def test_no_spelling_of_a_payload_hides_it(payload: str) -> None:
    """Nor that of an object in it; other members are read as ever, before and after."""
    prover = Prover("attributes", largest=4_000_000, update_existing_only=False)
    good = [plain("bare", "attributes", n) for n in range(3)]
    row = b'{"external_id":"u","%b":"\\u007b}"}' % payload.encode()
    for _ in range(3):
        assert prover.prove(good).whole
        assert 0 in doubtful(prover.prove([row, *good]))
    assert 0 in doubtful(prove([row], "attributes"))


@given(mixtures(), st.sampled_from([None, *KINDS]), st.booleans(), st.sampled_from((40, 4_000_000)))
def test_a_text_is_proven_as_its_lines_are(
    lines: list[bytes], bare: str | None, flag: bool, largest: int
) -> None:
    """With or without a newline at its end."""
    if not lines:
        return
    rules: dict[str, Any] = {"largest": largest, "update_existing_only": flag}
    wanted = prove(lines, bare, **rules)
    text = b"\n".join(lines)
    for whole in (text + b"\n", text) if lines[-1] else (text + b"\n",):
        proof = Prover(bare, **rules).prove_text(whole)
        assert (spread(proof), doubtful(proof)) == (spread(wanted), doubtful(wanted))
        assert proof.opened == wanted.opened


@pytest.mark.parametrize("form", ["enveloped", "bare"])
@pytest.mark.parametrize(
    "odd", [b"", b" ", b'{"a":"\xff"}', b'{"attributes":{"external_id":"\xff"}}', b"{}", b"x" * 999]
)
def test_an_odd_line_of_a_text_costs_itself_only(form: str, odd: bytes) -> None:
    """What is blank, too long or not UTF-8 is left out, and the others are proven together."""
    lines = [plain(form, "attributes", n) for n in range(20)]
    lines.insert(7, odd)
    prover = Prover("attributes", largest=900, update_existing_only=False)
    for _ in range(3):
        assert doubtful(prover.prove_text(b"\n".join(lines))) == [7]
    assert doubtful(prover.prove_text(odd or b"\n")) == [0]


@given(mixtures())
def test_what_is_opened_is_doubtful_and_nothing_but_an_envelope(lines: list[bytes]) -> None:
    """The content with the plainest envelope around it is the line."""
    proof = prove(lines, "event")
    for row, (slot, content) in proof.opened.items():
        assert proof.slots[row] == DOUBTFUL
        assert len(b'{"%b":%b}' % (KINDS[slot].encode(), content)) == len(lines[row])


@pytest.mark.parametrize(
    ("line", "opened"),
    [
        (b'{"event":{"a":null}}', True),
        (b'{"event": {"a":null}}', False),
        (b'{"event":{"a":null},"event":{"b":null}}', False),
        (b'{"event":{"a":"' + b"x" * SURELY_SHALLOW + b'"}}', False),
    ],
)
def test_only_the_plainest_envelopes_count_as_opened(line: bytes, opened: bool) -> None:
    """White space, a second content or great length: the line is looked at as a whole."""
    assert (0 in prove([line]).opened) == opened


@given(st.integers(0, 40), st.sets(st.integers(0, 39)))
def test_bad_records_are_found_among_many(count: int, bad: set[int]) -> None:
    """However many are not clean, and wherever they are."""
    odd = dumps({"event": GOOD["event"] | {"properties": {"$a": 1}}})
    lines = [odd if n in bad else plain("enveloped", "event", n) for n in range(count)]
    assert doubtful(prove(lines)) == sorted(n for n in bad if n < count)


@given(mixtures(), st.integers(0, 20), st.integers(0, 20))
def test_a_cut_proof_is_the_proof_of_the_cut_lines(
    lines: list[bytes], start: int, more: int
) -> None:
    """In whichever form it is."""
    stop = min(len(lines), start + more)
    whole = prove(lines)
    if not whole.whole:
        return
    assert spread(whole.cut(start, stop)) == spread(whole)[start:stop]


@pytest.mark.parametrize("users", [1, 2, 60])
def test_kinds_in_turn_are_apart_where_no_user_is_in_two(users: int) -> None:
    """Then each is a column with rows of its own; otherwise all stay in their order."""
    lines = [plain("enveloped", KINDS[n % 3], n % users) for n in range(60)]
    proof = prove(lines)
    assert proof.whole
    assert [some.rows for some in proof.alike] == (
        [range(slot, 58 + slot, 3) for slot in range(3)] if users == 60 else []
    )
    assert spread(proof) == [
        (n % 3, plain("bare", KINDS[n % 3], n % users), f"user-{n % users}") for n in range(60)
    ]
