"""How often a line is said."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingest.seldom import SELDOM_SECONDS, Seldom


def test_a_line_is_told_seldom() -> None:
    """The first at once, then one a minute, with how many were left out."""
    now, said = 0.0, list[str]()
    tell = Seldom(said.append, clock=lambda: now)
    for now in (0.0, 1.0, 59.0, 61.0, 62.0):  # noqa: B007  # the clock above reads it
        tell("away")
    assert said == ["away", "away (2 more like it)"]


@given(st.lists(st.floats(0, 200), max_size=50))
def test_every_line_is_said_or_counted(waits: list[float]) -> None:
    """Whenever lines come, no minute has two, and the numbers told add up to those left out."""
    now, said, at = 0.0, list[str](), list[float]()
    tell = Seldom(said.append, clock=lambda: now)
    left_out = 0
    for wait in waits:
        now += wait
        before = len(said)
        tell("away")
        if len(said) == before:
            left_out += 1
            continue
        at.append(now)
        assert said[-1] == (f"away ({left_out} more like it)" if left_out else "away")
        left_out = 0
    assert all(later - sooner >= SELDOM_SECONDS - 1e-6 for sooner, later in pairwise(at))
