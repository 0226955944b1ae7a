"""The documented rules, as a pure core: what is wrong with a record, and how it can be mended.

`check` looks at decoded objects; `clean` and `clean_chunk` prove encoded ones free of problems by
their bytes alone, once a typed decoder with one of `HEADS` took them. Knows no clock, no account,
and not what is on a profile already.
"""

from __future__ import annotations

from ingest.validation.heads import HEADS, AttributesHead, EventHead, Head, PurchaseHead
from ingest.validation.identity import identity, identity_only
from ingest.validation.mending import mend
from ingest.validation.problems import CODES, RULES, Grade, Mend, Problem, problem
from ingest.validation.rules import check, examine
from ingest.validation.screen import clean, clean_chunk, key_once
from ingest.validation.shapes import Shapes
from ingest.validation.times import is_day

__all__ = [
    "CODES",
    "HEADS",
    "RULES",
    "AttributesHead",
    "EventHead",
    "Grade",
    "Head",
    "Mend",
    "Problem",
    "PurchaseHead",
    "Shapes",
    "check",
    "clean",
    "clean_chunk",
    "examine",
    "identity",
    "identity_only",
    "is_day",
    "key_once",
    "mend",
    "problem",
]
