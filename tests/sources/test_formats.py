"""Files that are no NDJSON are told apart by their beginnings, and their owners told what to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sources.formats import (
    UTF8_BOM,
    compression,
    conclusive,
    form_of,
    is_ndjson_name,
    refusal,
)

OBJECT = b'{"attributes": {"external_id": "u1"}}\n'

REFUSED = {
    b"PAR1\x15\x04": ("Parquet", "duckdb"),
    b"Obj\x01\x04\x14avro.codec": ("Avro", "avro-tools"),
    b"ORC\x08": ("ORC", "orc-contents"),
    b"PK\x03\x04\x14": ("ZIP", "unzip"),
    b"BZh91AY": ("bzip2", "bzcat"),
    b"\xfd7zXZ\x00\x00": ("xz", "xzcat"),
    b"\x04\x22\x4d\x18d": ("lz4", "lz4cat"),
    '{"a": 1}'.encode("utf-16"): ("UTF-16", "iconv -f UTF-16 "),
    '{"a": 1}'.encode("utf-16-le"): ("UTF-16", "iconv -f UTF-16LE "),
    '{"a": 1}'.encode("utf-16-be"): ("UTF-16", "iconv -f UTF-16BE "),
    '{"a": 1}'.encode("utf-32"): ("UTF-32", "iconv -f UTF-32 "),
    b"a.json".ljust(257, b"\0") + b"ustar\x0000": ("tar archive", "tar -xOf"),
    b"<!DOCTYPE html>\n<html>": ("HTML", "download"),
    b'[{"external_id": "a"}, {"external_id": "b"}]': ("JSON", "jq -c '.[]'"),
    b'[\n  {"external_id": "a"}\n]\n': ("JSON", "jq -c '.[]'"),
    b'{\n  "attributes": []\n}\n': ("JSON", "jq -c . "),
    b'{ "attributes": [\n  {"external_id": "a"}]}\n': ("JSON", "jq -c . "),
    b'{"external_id": "a",\n "age": 3}\n': ("JSON", "jq -c . "),
    b"external_id,payload\nu1,{}\n": ("CSV", "mlr"),
    b'"external_id";"first name"\n"u1";"Ada"\n': ("CSV", "mlr"),
    b"user_id\tevent\n": ("CSV", "mlr"),
}

ACCEPTED = [
    b"",
    b"\n\n",
    OBJECT,
    UTF8_BOM + OBJECT,
    b"\r\n" + OBJECT,
    b'{"external_id":"s3-qa-0","payload":"{}"}\n',
    b"not json\n" + OBJECT,
    b"hello, world\n" + OBJECT,
    b"[1, 2]\n" + OBJECT,
    b'{"broken": \n' + OBJECT,
    b"\xff\x00\x80\n" + OBJECT,
    b"one sentence, with a comma, and another one.\n",
    b"plain words\n",
    b"3\n",
]


@pytest.mark.parametrize("head", REFUSED)
def test_a_file_of_another_kind_is_refused_with_a_way_out(head: bytes) -> None:
    """The sentence says what the file is and names a command that makes NDJSON of it."""
    sentence = refusal(head, "my file")
    what, command = REFUSED[head]
    assert sentence is not None
    assert sentence.startswith("my file ")
    assert what in sentence
    assert command in sentence


@pytest.mark.parametrize("head", ACCEPTED)
def test_a_bad_line_does_not_refuse_its_file(head: bytes) -> None:
    """A file with bad lines, even only such, is the intake's business: bad records."""
    assert refusal(head, "users.ndjson") is None


def test_names_in_commands_are_quoted_and_stdin_has_a_stand_in() -> None:
    """A command can be pasted as it is, and stdin, which has no name, is called FILE in it."""
    assert "tar -xOf 'my file'" in (refusal(bytes(257) + b"ustar", "my file") or "")
    assert "jq -c '.[]' FILE > FILE.ndjson" in (refusal(b"[", "stdin") or "")


def test_a_table_by_name_is_refused_whatever_its_first_line() -> None:
    """A .csv without a header is a CSV; objects in a file called .csv are NDJSON all the same."""
    assert "CSV" in (refusal(b"1,2\n", "x.csv.gz") or "")
    assert refusal(OBJECT, "x.csv") is None


def test_a_table_that_names_no_user_is_asked_whether_it_is_user_data() -> None:
    """A catalog gets a hint of its own; a table of users, in whatever case, does not."""
    assert "catalog" in (refusal(b"ID,PAYLOAD\n85,{}\n", "c.csv") or "")
    assert "catalog" not in (refusal(b"EXTERNAL_ID,PAYLOAD\n85,{}\n", "c.csv") or "")


def test_a_refusal_quotes_nothing_of_the_file() -> None:
    """A first line may be somebody's data: it is not repeated."""
    assert "ada@example" not in (refusal(b"ada@example.com,Ada\n", "x.csv") or "")


@given(st.sampled_from([*REFUSED, *ACCEPTED]), st.data())
def test_what_is_conclusive_stays_so(text: bytes, data: st.DataObject) -> None:
    """Where a beginning is called conclusive, the whole file is judged no differently."""
    head = text[: data.draw(st.integers(0, len(text)))]
    if conclusive(head):
        assert (refusal(head, "f") is None) == (refusal(text, "f") is None)


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        (b"\x1f\x8b\x08", "users.ndjson", "gzip"),
        (b"\x28\xb5\x2f\xfd", "users.ndjson", "zstd"),
        (b"\x52\x2a\x4d\x18", "users.ndjson", "zstd"),
        (b"", "users.ndjson.gz", "gzip"),
        (b"damaged", "users.ndjson.ZST", "zstd"),
        (b' {"a": 1}', "users.ndjson.gz", None),
        (b"", "users.ndjson", None),
    ],
)
def test_compression_is_told_by_bytes_then_by_name(head: bytes, name: str, kind: str) -> None:
    """The magic number decides; a name counts where the bytes do not begin like JSON."""
    assert compression(head, name) == kind


def test_names_of_ndjson_files() -> None:
    """A directory gives its .ndjson, .jsonl and .json files, compressed or not, in any case."""
    names = ["a.ndjson", "a.jsonl", "a.json", "a.JSON.GZ", "a.ndjson.zst"]
    assert all(map(is_ndjson_name, names))
    assert not any(map(is_ndjson_name, ["a.csv", "a.gz", "json", "a.ndjson.bak"]))


@pytest.mark.parametrize("name", ["ids.csv", "ids.txt", "stdin", "ids.csv.gz"])
@pytest.mark.parametrize("head", [b"external_id\nu1\nu2\n", b"u1\n", b'"u1"\n42\n'])
def test_a_list_is_a_table_of_one_column(head: bytes, name: str) -> None:
    """Where lines may be values, such a file is read, whatever it is called."""
    assert refusal(head, name, lists=True) is None


@pytest.mark.parametrize(
    ("head", "cut"),
    [
        (b"external_id,email\nu1,a@b.c\n", "cut -d, -f1"),
        (b"external_id;plan\nu1;pro\n", "cut -d';' -f1"),
        (b"external_id\tplan\nu1\tpro\n", "cut -f1"),
    ],
)
def test_a_table_of_several_columns_is_no_list(head: bytes, cut: str) -> None:
    """Which of them would be meant? The command cuts one out."""
    said = refusal(head, "my ids.csv", lists=True)
    assert said is not None
    assert f"{cut} 'my ids.csv' | ingest send ROW -" in said


def test_lists_of_a_directory_are_read_where_they_are_meant() -> None:
    """By name: text and CSV are taken for lists only where lists are sent."""
    for name in ("ids.txt", "ids.csv", "IDS.CSV.gz"):
        assert is_ndjson_name(name, lists=True)
        assert not is_ndjson_name(name)
    assert is_ndjson_name("ids.ndjson", lists=True)
    assert not is_ndjson_name("ids.parquet", lists=True)


@pytest.mark.parametrize(
    ("head", "name", "form"),
    [
        (b'{"a":1}\n', "a.csv", "ndjson"),
        (b"external_id,plan\nu1,pro\n", "a.ndjson", "table"),
        (b"external_id,plan\nu1,pro\n", "stdin", "table"),
        (b"anything\n", "a.csv.gz", "table"),
        (b"\xef\xbb\xbfid;plan\nu1;x\n", "a.tsv", "table"),
        (b"i\x00", "a.csv", "table"),
        ("id,x\n".encode("utf-16"), "a.csv", "table"),
        (b"PAR1\x15", "a.csv", "parquet"),
        (b"", "a.parquet", "parquet"),
        (b'{"a":1}\n', "a.parquet", "ndjson"),
        (b"", "a.csv", "ndjson"),
        (b"<html>", "a.csv", "ndjson"),
        (b"Some words, and more", "notes", "ndjson"),
    ],
)
def test_the_form_is_told_by_content_before_the_name(head: bytes, name: str, form: str) -> None:
    """What cannot be told is NDJSON, which refuses what it is not."""
    assert form_of(head, name) == form
