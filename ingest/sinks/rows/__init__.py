"""The batchable endpoints of Braze as a table of rows: what each takes, and how it answers.

`data` says what a row is made of, `table` holds them all; `schema` reads and judges records,
`wire` makes requests of them and `answers` reads what comes back, for any row alike.
"""

from __future__ import annotations

from ingest.sinks.rows.table import (
    ENDPOINTS,
    MOST_ITEMS,
    POOLS,
    ROWS,
    SENDS,
    TRACK_BYTES,
    row_named,
)

__all__ = ["ENDPOINTS", "MOST_ITEMS", "POOLS", "ROWS", "SENDS", "TRACK_BYTES", "row_named"]
