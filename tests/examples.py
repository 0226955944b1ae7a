"""How many examples a property takes, where that is not the usual hundred."""

from __future__ import annotations

from hypothesis import settings

USUAL = 100
"""Examples of a property that says nothing, in the profile that says nothing."""


def examples(count: int) -> int:
    """Return how many stand for `count` in the profile that is loaded, which may take fewer."""
    return max(1, count * settings().max_examples // USUAL)
