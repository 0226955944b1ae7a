"""The proof of a run: users chosen by lot, what they should be, and how a profile differs from it.

`sampling` chooses users while an input is read once more, `expected` adds their records up,
`comparing` holds the result against what was read back, and `accounts` counts it. Nothing here
reads an input or asks a destination.
"""

from __future__ import annotations

from ingest.proof.accounts import Account, FieldCount
from ingest.proof.comparing import Difference, Verdict, compared
from ingest.proof.expected import Expected, Window
from ingest.proof.sampling import Doubts, Sample

__all__ = [
    "Account",
    "Difference",
    "Doubts",
    "Expected",
    "FieldCount",
    "Sample",
    "Verdict",
    "Window",
    "compared",
]
