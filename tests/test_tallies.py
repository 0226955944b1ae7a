"""Bytes are counted as they always are, only sooner."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.tallies import occurrences


@given(
    st.lists(st.sampled_from((b"{", b"}", b"{{", b"text", b"\xff", b"")), max_size=20).map(b"".join)
)
def test_a_byte_is_counted_as_often_as_it_is_there(data: bytes) -> None:
    """Side by side, at the ends, or not at all."""
    assert occurrences(data, b"{") == data.count(b"{")
