"""Lines are sorted, measured and cut as a look at each of them would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.plainest import Lines, alike, bare_records, by_mark

BODIES = st.sampled_from((b"", b'"a":1', b'"a":"}}"', b'"a":{}', b"}}", b"{"))
OPENINGS = st.sampled_from(
    (b'{"attributes":{', b'{"attributes":{', b'{"event": {', b'{"purchase":{', b'{"attributes": {')
)
CLOSINGS = st.sampled_from((b"}}", b"}}", b"}}", b"}", b"}} ", b""))
LINES = st.lists(st.builds(lambda *of: b"".join(of), OPENINGS, BODIES, CLOSINGS), min_size=1)


def both(lines: list[bytes]) -> tuple[Lines, Lines]:
    """Return lines with their ends, and without."""
    return Lines.of_text(b"\n".join(lines) + b"\n"), Lines.of(lines)


@given(LINES)
def test_lines_are_measured_with_their_ends(lines: list[bytes]) -> None:
    """However often somebody asks."""
    for all in both(lines):
        assert all.measured() == all.measured() == [len(line) + all.ends for line in lines]


@given(LINES, st.booleans(), st.data())
def test_a_mark_parts_lines_and_keeps_their_order(
    lines: list[bytes], some: bool, data: st.DataObject
) -> None:
    """Each is in one group, with those that have the same byte there, under its own index."""
    for all in both(lines):
        if some:
            all = all.picked(data.draw(st.booleans()) for _ in lines)
        groups = list(by_mark(all))
        for group in groups:
            assert len({line[2] for line in group.lines}) <= 1
            assert sorted(group.rows) == list(group.rows)
            assert group.ends == all.ends
        pairs = [pair for group in groups for pair in zip(group.rows, group.lines, strict=True)]
        assert sorted(pairs) == list(zip(all.rows, all.lines, strict=True))


@given(LINES)
def test_what_is_cut_out_is_all_between_the_same_edges(lines: list[bytes]) -> None:
    """Where each line has them; else nothing is."""
    for all in both(lines):
        plainest = alike(all.lines)
        if plainest is None:
            continue
        fit = all_fit(lines, plainest.opening, b"}}")
        records = plainest.cut(all)
        assert (records is not None) == fit
        if records is not None:
            inner = [line[len(plainest.opening) - 1 : -1] for line in lines]
            assert list(records.joined) == inner
            assert records.text == b"\n".join(inner)


@given(st.lists(st.sampled_from((b"{}", b'{"a":1}', b"{", b"}", b"[]", b"")), min_size=1))
def test_bare_records_are_lines_between_braces(lines: list[bytes]) -> None:
    """And nothing of them is cut off."""
    for all in both(lines):
        records = bare_records(all)
        assert (records is not None) == all_fit(lines, b"{", b"}")
        if records is not None:
            assert list(records.joined) == lines
            assert records.text == b"\n".join(lines)


def all_fit(lines: list[bytes], opening: bytes, closing: bytes) -> bool:
    """Whether all lines begin and end so, and not with the same bytes."""
    least = len(opening) + len(closing)
    return all(
        line.startswith(opening) and line.endswith(closing) and len(line) >= least for line in lines
    )
