"""What a line of a send holds: an object, an id alone, a dead letter, or nothing of the row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.codec import dumps
from ingest.errors import InputError
from ingest.forms import LINE_TOO_LONG, Found, Misformed
from ingest.sinks.rows import ROWS
from ingest.sinks.rows.schema import RowSchema


def read(row: str, line: str | bytes) -> list[Found | Misformed]:
    """Read a line of a row."""
    raw = line if isinstance(line, bytes) else line.encode()
    return list(RowSchema(ROWS[row]).read(raw, None))


def record(row: str, line: str) -> dict[str, Any]:
    """Return the one record of a line."""
    (found,) = read(row, line)
    assert isinstance(found, Found), found
    assert found.kind == row
    assert json.loads(found.fragment) == found.record
    return found.record


def refused(row: str, line: str | bytes) -> Misformed:
    """Return why a line holds no record."""
    (found,) = read(row, line)
    assert isinstance(found, Misformed), found
    return found


# --- plain lines --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("u1", "u1"),
        ('"u1"', "u1"),
        ('"say ""hi"""', 'say "hi"'),
        ('"', '"'),
        ("42", "42"),
        ("007", "007"),
        ("1e5", "1e5"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("true", "true"),
        ("  a,b \r", "a,b"),
        ("Zoë", "Zoë"),
        ('"null"', "null"),
    ],
)
def test_a_plain_line_is_an_id(line: str, text: str) -> None:
    """A one-column list needs no JSON: quotes are those of CSV, and numbers stay as written."""
    assert record("delete", line) == {"external_id": text}


@pytest.mark.parametrize(
    ("row", "heading"),
    [
        ("delete", "external_id"),
        ("delete", "EXTERNAL_ID"),
        ("remove", '"external_ids"'),
        ("bounce-remove", "email"),
        ("spam-remove", "Email_Address\r"),
    ],
)
def test_the_heading_of_a_list_is_no_record(row: str, heading: str) -> None:
    """However it is written; anywhere but in the first line it is a value like any other."""
    assert RowSchema(ROWS[row]).heading(heading.encode())
    (one,) = read(row, heading)
    assert isinstance(one, Found)


@pytest.mark.parametrize("heading", ["braze_id", "EMAIL", "user_alias", "id", '"user_id"', "phone"])
def test_the_heading_of_another_column_ends_the_run(heading: str) -> None:
    """A list of braze ids is not taken for one of external ids: what would be deleted is others."""
    with pytest.raises(InputError, match=f"the heading '{heading.strip(chr(34)).lower()}'"):
        RowSchema(ROWS["delete"]).heading(heading.encode())


@pytest.mark.parametrize("line", ["u1", '{"external_id": "u1"}', "", "\xff", "7"])
def test_what_is_no_heading_is_read(line: str) -> None:
    """Values, objects and anything else; and a row of objects has no headings at all."""
    assert not RowSchema(ROWS["delete"]).heading(line.encode("latin-1"))
    assert not RowSchema(ROWS["rename"]).heading(b"external_id")


def test_a_held_message_is_not_sent_again_by_accident() -> None:
    """It may have arrived: somebody has to say that it did not."""
    lettered = {"record": {"campaign_id": "c", "external_user_id": "u"}, "column": "held"}
    line = dumps({"kind": "trigger-send", **lettered})
    (said,) = RowSchema(ROWS["trigger-send"]).read(line, None)
    assert isinstance(said, Misformed)
    assert said.code == "held-before"
    again = dumps({"kind": "delete", "record": {"external_id": "u"}, "column": "held"})
    assert isinstance(next(iter(RowSchema(ROWS["delete"]).read(again, None))), Found)


@pytest.mark.parametrize(
    "row",
    ["alias-new", "identify", "rename", "push-remove", "email-status", "trigger-send"],
)
def test_a_text_alone_may_not_be_enough(row: str) -> None:
    """Where a record needs several fields, a plain line is refused with an example."""
    for line in ("u1", '"u1"', "7", "external_id"):
        said = refused(row, line)
        assert (said.code, said.kind) == ("not-an-object", row)
        assert ROWS[row].endpoint.example in said.reason


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("[1]", "not-an-object"),
        ("null", "not-an-object"),
        ('{"external_id": "u1"', "not-json"),
        ("[", "not-json"),
        (b"\xff\xfe", "not-utf8"),
        (b'{"column": 1, "kind": "delete", "record": {"a":' + b"[" * 900 + b"]" * 900 + b"}}", ""),
    ],
)
def test_a_line_that_is_nothing(line: str | bytes, code: str) -> None:
    """Broken JSON is not taken for an id, nor is a null; what is deep is no error of ours."""
    if code:
        assert refused("delete", line).code == code
    else:
        assert len(read("delete", line)) == 1


def test_a_line_too_deep_to_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the decoder gives up, the line is refused."""
    schema = RowSchema(ROWS["delete"])

    def give_up(line: bytes, value: dict[str, Any]) -> list[Found | Misformed]:
        raise RecursionError

    monkeypatch.setattr(schema, "_object", give_up)
    (said,) = schema.read(b"{}", None)
    assert isinstance(said, Misformed)
    assert said.code == "too-deep"


# --- dead letters and what belongs elsewhere ----------------------------------------------------


def letter(**members: Any) -> str:
    """Make a dead letter of the row `delete`."""
    return json.dumps({"v": 1, "kind": "delete", "column": "rejected"} | members)


def test_a_dead_letter_of_the_row_is_its_record() -> None:
    """The bytes of the record are those of the letter."""
    assert record("delete", letter(record={"external_id": "u1"})) == {"external_id": "u1"}


@pytest.mark.parametrize(
    "raw", ['{"external_id": "u1"}', '{"external_id":\r\n"u1"}', "u1", '"u1"', "u1\n"]
)
def test_a_raw_dead_letter_is_read_again(raw: str) -> None:
    """Its text may have been mended since."""
    assert record("delete", letter(raw=raw)) == {"external_id": "u1"}


@pytest.mark.parametrize(
    ("members", "code", "field"),
    [
        ({"record": 7}, "not-an-object", ""),
        ({"raw": 7}, "not-json", "raw"),
        ({"raw": "  "}, "not-json", "raw"),
        ({"raw": "[]"}, "not-an-object", ""),
        ({"raw": "", "code": LINE_TOO_LONG, "kind": "unknown"}, LINE_TOO_LONG, ""),
        ({"raw": "u1", "kind": "unknown"}, "wrong-kind", "kind"),
        ({"record": {}, "kind": "Anna Karenina"}, "wrong-kind", "kind"),
        ({"record": {}, "kind": None}, "wrong-kind", "kind"),
    ],
)
def test_a_dead_letter_without_a_record(members: dict[str, Any], code: str, field: str) -> None:
    """It is refused, and a kind that may be a value is not shown."""
    said = refused("delete", letter(**members))
    assert (said.code, said.field, said.kind) == (code, field, "delete")
    assert "Anna" not in said.reason


@pytest.mark.parametrize(
    ("kind", "command"), [("event", "ingest import"), ("rename", "ingest send rename")]
)
@pytest.mark.parametrize("holding", [{"record": {"name": "e"}}, {"raw": "x"}])
def test_a_dead_letter_of_another_kind(kind: str, command: str, holding: dict[str, Any]) -> None:
    """The sentence says where it goes."""
    said = refused("delete", letter(kind=kind, **holding))
    assert said.code == "wrong-kind"
    assert f"'{kind}'" in said.reason
    assert f"'{command}'" in said.reason


@pytest.mark.parametrize(
    "line",
    [
        '{"attributes": {"external_id": "u1"}}',
        '{"event": {"name": "e"}}',
        '{"events": [{"name": "e"}]}',
    ],
)
@pytest.mark.parametrize("row", ["delete", "trigger-send"])
def test_a_record_of_track_goes_elsewhere(row: str, line: str) -> None:
    """It is refused with the command that takes it."""
    said = refused(row, line)
    assert said.code == "wrong-kind"
    assert "'ingest import'" in said.reason


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("delete", '{"external_ids": ["u1", "u2"]}'),
        ("trigger-send", '{"campaign_id": "c", "recipients": []}'),
    ],
)
def test_a_whole_body_is_refused(row: str, line: str) -> None:
    """Each record has a line of its own, so that each has an end of its own."""
    assert refused(row, line).code == "request-body"
