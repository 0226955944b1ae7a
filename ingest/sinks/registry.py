"""The destinations there are, by the name that `--to` takes.

Decides nothing else: what a destination is like, how it is opened and what it can be told is its
own row, in its own module. To add one is a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from ingest.sinks.base import Destination

_MODULES: Final = (
    "ingest.sinks.braze",
    "ingest.sinks.appboy",
    "ingest.sinks.batchcep",
)
"""Where the rows are, each as `DESTINATION`; people are shown them in this order."""


def _row(module: str) -> Destination:
    row: Destination = import_module(module).DESTINATION
    return row


DESTINATIONS: Final[Mapping[str, Destination]] = {row.name: row for row in map(_row, _MODULES)}
"""Every destination by its name, the one most people have first."""
