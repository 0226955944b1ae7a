"""What a table is written in is told by its text, or by the user, in one spelling."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.sources.dialects import DELIMITERS, UNDECODABLE, TableOptions, sniffed, transcoded


@given(
    delimiter=st.sampled_from(DELIMITERS),
    rows=st.lists(
        st.lists(st.text(alphabet='a1.,;\t" \n'), min_size=3, max_size=3), min_size=1, max_size=9
    ),
)
def test_a_written_table_is_told_by_its_header(delimiter: str, rows: list[list[str]]) -> None:
    """However many of the other delimiters are in its cells, as long as its header has none."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([["external_id", "plan", "city"], *rows])
    assert sniffed(text.getvalue()) == delimiter


def test_where_two_are_as_good_the_name_decides() -> None:
    """A comma is the likeliest, and in a file by the name of .tsv a tab."""
    assert sniffed("a,b\tc,d\n1,2\t3,4\n") == ","
    assert sniffed("a,b\tc\n1,2\t3\n", tabbed=True) == "\t"
    assert sniffed("", tabbed=False) == ","


def test_a_row_cut_off_at_the_end_of_the_head_does_not_count() -> None:
    """Only whole lines are judged, unless there is but one."""
    assert sniffed("a;b;c,d\n1;2;3,4\n1,") == ";"
    assert sniffed("a;b") == ";"


@pytest.mark.parametrize(
    ("told", "checked"),
    [
        (TableOptions(None, "UTF8"), TableOptions(None, "utf-8")),
        (TableOptions("tab", "utf-8-sig"), TableOptions("\t", "utf-8")),
        (TableOptions("\\t", "ascii"), TableOptions("\t", "utf-8")),
        (TableOptions("|", "Latin-1"), TableOptions("|", "iso8859-1")),
    ],
)
def test_options_have_one_spelling(told: TableOptions, checked: TableOptions) -> None:
    """So that a run that is resumed with another spelling is the same run."""
    assert told.checked() == checked


@pytest.mark.parametrize("told", [TableOptions("ab"), TableOptions(encoding="rot13")])
def test_options_that_cannot_be_are_refused(told: TableOptions) -> None:
    """At once, with what can be given."""
    with pytest.raises(ConfigError, match="give"):
        told.checked()


@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\ufeff")),
    size=st.integers(1, 9),
    encoding=st.sampled_from(["utf-16", "utf-16-be", "utf-32", "gb18030", "utf-7"]),
)
def test_text_of_any_encoding_is_the_same_in_utf8(text: str, size: int, encoding: str) -> None:
    """In whatever pieces it comes."""
    data = text.encode(encoding)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert b"".join(transcoded(pieces, encoding)) == text.encode()


def test_what_cannot_be_decoded_is_marked() -> None:
    """By what is no character, so that it is never taken for one."""
    mark = UNDECODABLE.encode("utf-8", "surrogatepass")
    assert b"".join(transcoded([b"a\x81", b"b"], "cp1252")) == b"a" + mark + b"b"
    assert b"".join(transcoded([b"a\x00b"], "utf-16-le")) == b"a" + mark
