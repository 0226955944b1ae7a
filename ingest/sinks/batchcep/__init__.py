"""Batch CEP: profiles are updated by edits, one for each user of a request.

A record is translated (`translation`, field by field in `values`, with the names of `names`, the
times of `times` and the codes of `rules`), the records of a user are folded into one edit
(`folding`), and an answer names pieces of edits (`answers`). `settings` are what a user may choose,
`sink` puts it all on the wire.
"""

from __future__ import annotations

from ingest.sinks.batchcep.settings import BatchCepSettings
from ingest.sinks.batchcep.sink import DESTINATION, ENDPOINTS, BatchCepSink, BatchCepWire

__all__ = ["DESTINATION", "ENDPOINTS", "BatchCepSettings", "BatchCepSink", "BatchCepWire"]
