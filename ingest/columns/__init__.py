"""From columns to objects: what the rows of a spreadsheet are to a destination.

`Survey` looks at a whole table and decides, `Plan` is what was decided, and `Encoder` turns rows
into NDJSON lines by it. Pure: nothing here reads a file, or knows a clock.
"""

from ingest.columns.encoder import Encoder
from ingest.columns.fragments import Unfit
from ingest.columns.layout import AbsentColumns
from ingest.columns.mapping import parsed_types
from ingest.columns.plan import Column, Plan, Shown
from ingest.columns.survey import Options, Survey

__all__ = [
    "AbsentColumns",
    "Column",
    "Encoder",
    "Options",
    "Plan",
    "Shown",
    "Survey",
    "Unfit",
    "parsed_types",
]
