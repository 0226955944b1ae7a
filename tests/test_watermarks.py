"""What is committed is settled, and what is settled is not read again, as far as it fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.ranges import Range, Ranges, runs
from ingest.watermarks import METADATA_BYTES, Commit, Watermark, encoded, restored

OFFSETS = st.sets(st.integers(0, 300), max_size=60).map(sorted)
LIMITS = st.sampled_from((0, 12, 16, 24, METADATA_BYTES))


def cut(offsets: list[int], sizes: list[int]) -> list[list[int]]:
    """The offsets as they might be polled: in pieces of these sizes, and the rest."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(offsets[at : at + size])
        at += size
    return [*pieces, offsets[at:]]


@given(
    st.lists(OFFSETS, min_size=1, max_size=4),
    LIMITS,
    st.lists(st.integers(1, 9), max_size=9),
    st.data(),
)
def test_no_restart_loses_or_repeats_what_it_must_not(
    growth: list[list[int]], limit: int, sizes: list[int], data: st.DataObject
) -> None:
    """Over any restarts every message is settled, and only what the commit did not tell repeats."""
    there = sorted(set[int]().union(*growth))  # the log, with its gaps
    settled: set[int] = set()
    told = Commit(0)
    for _ in growth:
        done = restored(told.offset, told.metadata)
        mark = Watermark(told.offset, done, metadata_bytes=limit)
        known = Ranges(done)
        handed: list[int] = []
        for piece in cut([offset for offset in there if offset >= told.offset], sizes):
            fresh = list(mark.take(piece))
            assert fresh == [offset for offset in piece if offset not in known]
            handed += fresh
            some = data.draw(st.sets(st.sampled_from(handed))) if handed else set()
            mark.settle(some)
            settled |= some
            told = mark.commit()
            assert all(offset in settled for offset in there if offset < told.offset)
            assert len(told.metadata) <= limit
            above = Ranges(restored(told.offset, told.metadata))
            assert all(offset in settled for offset in there if offset in above)
            if limit == METADATA_BYTES:  # all fits, so that nothing settled is unknown to the next
                known_next = {at for at in there if at < told.offset or at in above}
                assert known_next == settled & set(there)
    last = Watermark(told.offset, restored(told.offset, told.metadata))
    last.settle(last.take([offset for offset in there if offset >= told.offset]))
    last.skip_to(400)
    assert last.commit() == Commit(400)


@given(st.sets(st.integers(1, 2**62), max_size=40), st.integers(0, 2**62), LIMITS)
def test_ranges_come_back_from_their_text(gaps: set[int], offset: int, limit: int) -> None:
    """The nearest ranges come back as they were, as many as fit, and the text keeps its size."""
    done = [(start, stop) for start, stop in runs(gaps) if start > offset]
    text = encoded(offset, done, limit)
    found = restored(offset, text)
    assert found == done[: len(found)]
    assert len(text) <= limit
    assert text.isascii()
    if limit == METADATA_BYTES:
        assert found == done


def test_the_farthest_ranges_are_left_out() -> None:
    """What is nearest to the offset stays: it is read again first, and the rest may settle yet."""
    done: list[Range] = [(start, start + 1) for start in range(2, 40_000, 2)]
    text = encoded(0, done)
    found = restored(0, text)
    assert METADATA_BYTES - 8 < len(text) <= METADATA_BYTES
    assert found == done[: len(found)]
    assert len(found) > 800


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        "",
        "committed by somebody else",
        "ingest:1:",
        "ingest:1:2s:",
        "ingest:1:2s:0.5",  # it would touch the offset
        "ingest:1:2s:1.0",
        "ingest:1:2s:1,,2",
        "ingest:1:2s:1_0",
        "ingest:1:2s: 1",
        "ingest:1:2s:1\n",
        "ingest:1:2t:1",  # of another offset
        "ingest:2:2s:1",
        "ingest:1:2s:zzzzzzzzzzzzz",
        "ingest:1:2s:1.zzzzzzzzzzzzz",
    ],
)
def test_what_is_none_of_ours_is_ignored(metadata: str | None) -> None:
    """Metadata of another program, of another offset or damaged skips no message."""
    assert restored(100, metadata) == []
    assert restored(100, "ingest:1:2s:1") == [(101, 102)]


def test_gaps_alone_take_no_room() -> None:
    """A log with gaps everywhere has its metadata for what was settled, not for the gaps."""
    mark = Watermark(0)
    mark.take(range(0, 20_000, 2))
    assert mark.commit() == Commit(0)
    mark.settle([0, 4, 19_998])
    assert restored(2, mark.commit().metadata) == [(3, 6), (19_997, 19_999)]
    mark.settle(range(2, 20_000, 2))
    assert mark.commit() == Commit(19_999)


@given(st.text(), st.integers(0, 99))
def test_any_metadata_can_be_read(metadata: str, offset: int) -> None:
    """Nothing that a commit may hold raises, and no range lies below its offset."""
    for text in (metadata, f"ingest:1:0:{metadata}"):
        assert all(offset < start < stop for start, stop in restored(offset, text))


def test_what_a_commit_tells_is_settled_is_handed_over_no_more() -> None:
    """Neither among messages that are new, nor where there is nothing else."""
    mark = Watermark(5, [(7, 9), (12, 13)])
    assert mark.take([5, 6, 7]) == [5, 6]
    assert mark.take([8, 12]) == []
    assert mark.take([13, 14]) == [13, 14]


def test_offsets_have_to_rise_and_to_have_come() -> None:
    """A log that begins anew, and an end of what never came, are mistakes that are told."""
    mark = Watermark(10)
    assert mark.fresh
    assert mark.take([]) == []
    assert mark.fresh
    assert mark.take([12, 15]) == [12, 15]
    assert not mark.fresh
    assert (mark.next, mark.commit()) == (16, Commit(12))
    for wrong in ([15], [17, 17], [18, 17]):
        with pytest.raises(ValueError, match="rise"):
            mark.take(wrong)
    for wrong in ([9], [16], [12, 16]):
        with pytest.raises(ValueError, match="never came"):
            mark.settle(wrong)
    mark.settle([])
    mark.settle([15])
    assert mark.commit() == Commit(12, "ingest:1:c:1.3")
    mark.take([18, 19])
    assert mark.commit() == Commit(12, "ingest:1:c:1.5")  # the gap before 18 is as good as settled
    mark.settle([18, 19])
    mark.skip_to(20)
    mark.skip_to(3)
    mark.settle([12])
    assert mark.commit() == Commit(20)
    assert mark.done == [(10, 20)]
