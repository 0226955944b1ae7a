"""How many polls of a queue are useful: one when it is quiet, more while they come full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.polling import FEW, MOST_MESSAGES, Need


@given(st.integers(1, 32), st.lists(st.integers(-1, MOST_MESSAGES)))
def test_there_is_always_one_and_never_more_than_allowed(most: int, came: list[int]) -> None:
    """Whatever polls bring, or do not."""
    need = Need(most)
    for messages in came:
        before = need.wanted
        if messages < 0:
            need.failed()
            assert need.wanted == 1
        else:
            need.came(messages)
            if FEW <= messages < MOST_MESSAGES:
                assert need.wanted == before
        assert 1 <= need.wanted <= most


def test_full_polls_call_for_more_and_empty_ones_for_fewer() -> None:
    """One at a time."""
    need = Need(4)
    for _ in range(9):
        need.came(MOST_MESSAGES)
    assert need.wanted == 4
    need.came(0)
    assert need.wanted == 3
