"""Lines of all forms, good and bad: what tests of the intake draw from."""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import strategies as st

from ingest.intake import IntakeRules
from ingest.records import KINDS

WHEN: Final = "2026-01-31T12:00:00Z"
GOOD: Final[dict[str, dict[str, Any]]] = {
    "attributes": {"external_id": "user-17", "plan": "pro", "visits": 3},
    "event": {"external_id": "user-17", "name": "rented_movie", "time": WHEN},
    "purchase": {
        "external_id": "user-17",
        "product_id": "p-1",
        "currency": "EUR",
        "price": 9.5,
        "time": WHEN,
    },
}
"""A record of each kind that nothing is wrong with."""

NAMES: Final = (
    "plan", "name", "time", "event", "attributes", "purchase", "record", "column", "payload", "raw",
    "kind", "properties", "email", "phone", "braze_id", "user_alias", "external_id", "quantity",
    "price", "country", "dob", "api_key", "alias_name", "_update_existing_only", "app_id", "",
    "$set", "é", "push_token_import", "a.b", "events",
)  # fmt: skip

VALUES: Final = st.one_of(
    st.sampled_from(
        (
            None, True, 0, 17, -1, 2.5, 1e15, 1e300, 2**53 + 1, 10**25, "", "pro", "é", "€" * 80,
            "null", "a@b.c", "x" * 236, "x" * 237, "x" * 255, "x" * 256, "\n", "\\", '"', "{", WHEN,
            "2026-01-31", "3001-01-01", "3999-12-31T00:00:00", "12/31/3999", "user-4e55,", "4e55",
            [], {}, [None], [1, [2]], {"inc": 1}, {"add": ["x"]}, {"a": {"b": None}},
            {"$time": WHEN}, {"alias_name": "n", "alias_label": "l"}, {"alias_name": 5},
            {"alias_name": ""}, list(range(501)), {"external_id": "inner"},
        )
    ),
    st.text(max_size=5),
    st.integers(),
)  # fmt: skip

NUMBERS: Final = (
    "1e999", "-1E+400", "1e0309", "1e9", "1E99", "9" * 309, "9" * 400, "01", "1.", "-", "NaN",
    "Infinity", "1e-999", "-0", "tru", '"\x01"', '"\t"', '"\\ud800"', '"\\u00e9"',
    "[" * 40 + "]" * 40, "[" * 300 + "]" * 300, "1,", '1,"external_id":"b"',
    '1,"plan":2', '1,"time":"late"',
)  # fmt: skip
"""What may stand for a value in the text of a line, JSON or not."""

HOLE: Final = "a-hole"


@st.composite
def records(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A kind and a record of it, or something near to one."""
    kind = draw(st.sampled_from(KINDS))
    record = dict(GOOD[kind])
    for name in draw(st.lists(st.sampled_from(sorted(record)), max_size=1)):
        del record[name]
    names = st.one_of(st.sampled_from(NAMES), st.text(max_size=3))
    record |= draw(st.dictionaries(names, VALUES, max_size=2))
    if draw(st.booleans()):
        items = list(record.items())
        record = dict(draw(st.permutations(items)))
    return kind, record


FORMS: Final = (
    "enveloped", "bare", "bare", "body", "credentials", "row", "texts row", "letter", "raw letter",
    "two envelopes", "empty",
)  # fmt: skip


def formed(form: str, kind: str, record: dict[str, Any]) -> Any:
    """Put a record into a form."""
    array = {"attributes": "attributes", "event": "events", "purchase": "purchases"}[kind]
    match form:
        case "enveloped":
            return {kind: record}
        case "body":
            return {array: [record, dict(GOOD[kind]), 5]}
        case "credentials":
            return {"api_key": "secret", array: [record], "events": record, "partner": "p"}
        case "row":
            return {"external_id": "row", "alias_name": None, "payload": record}
        case "texts row":
            return {"email": "a@b.c", "external_id": None, "payload": json.dumps(record, indent=1)}
        case "letter":
            return {"v": 1, "kind": kind, "record": record, "column": "invalid"}
        case "raw letter":
            return {"v": 1, "kind": "unknown", "raw": json.dumps({kind: record}), "column": "x"}
        case "two envelopes":
            return {kind: record, "event": dict(GOOD["event"])}
        case "empty":
            return {}
        case _:
            return record


@st.composite
def odd_lines(draw: st.DrawFn) -> bytes:
    """One line of any form."""
    kind, record = draw(records())
    if draw(st.integers(0, 3)) == 0:
        record["hole"] = HOLE
    value = formed(draw(st.sampled_from(FORMS)), kind, record)
    text = json.dumps(
        value,
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from(((",", ":"), (", ", ": "), (" ,\t", " :  ")))),
    )
    text = text.replace(f'"{HOLE}"', draw(st.sampled_from(NUMBERS)))
    line = text.encode("utf-8", "surrogatepass")
    match draw(st.integers(0, 19)):
        case 0:
            line = draw(st.sampled_from((b" ", b"\t\r ", b"\x0b", b"\xef\xbb\xbf"))) + line
        case 1:
            line += draw(st.sampled_from((b" ", b"\r", b"\x0c", b",", b"}", b" 1", b"\x00", line)))
        case 2:
            at = draw(st.integers(0, len(line)))
            line = (
                line[:at]
                + draw(st.sampled_from((b"\xff", b"\xed\xa0\x80", b"\\", b"}")))
                + line[at:]
            )
        case 3:
            line = line[: draw(st.integers(0, len(line)))]
        case 4:
            line = line.replace(b'"event"', b'"event":{"external_id":"twice"},"event"', 1)
        case 5:
            line = line + b"," + line
        case 6:
            line = draw(st.sampled_from((b"", b" ", b"\r", b"\x0c", b"[]", b"5", b"null", b"nope")))
        case 7:
            line = line.replace(b'"event"', b'"\\u0065vent"')
    return line


def plain(form: str, kind: str, number: int) -> bytes:
    """A line that nothing is wrong with."""
    record = GOOD[kind] | {"external_id": f"user-{number}"}
    return json.dumps(formed(form, kind, record), separators=(",", ":")).encode()


@st.composite
def mixtures(draw: st.DrawFn) -> list[bytes]:
    """Lines of which many are good, so that they are judged together, and some are anything."""
    kind, form = draw(st.sampled_from(KINDS)), draw(st.sampled_from(("enveloped", "bare")))
    lines = [plain(form, kind, number) for number in range(draw(st.integers(0, 12)))]
    for line in draw(st.lists(odd_lines(), max_size=6)):
        lines.insert(draw(st.integers(0, len(lines))), line)
    if draw(st.integers(0, 9)) == 0:  # two lines whose pieces, joined, are two other objects
        one = plain("bare", kind, 1)
        lines += [one + b"," + one[:-1], one[1:]]
    if draw(st.integers(0, 5)) == 0:  # two lines that end where they do not, or three values in two
        some = [plain(form, kind, 1), plain(form, kind, 2), plain(form, KINDS[0], 3)]
        text = draw(st.sampled_from([b"", b" ", b","])).join(some[: draw(st.integers(1, 3))])
        at = draw(st.integers(1, len(text) - 1))
        lines += [text[:at], text[at:]]
    return lines


RULES: Final = st.builds(
    IntakeRules,
    kind=st.sampled_from((None, *KINDS)),
    on_bad_field=st.sampled_from(("reject", "drop", "truncate")),
    strict=st.booleans(),
    validate=st.sampled_from((True, True, True, False)),
    update_existing_only=st.sampled_from((False, False, True)),
    largest=st.sampled_from((4_000_000, 4_000_000, 80, 150)),
)
"""Everything a user can choose."""
