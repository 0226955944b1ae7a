"""Moves user attributes, events and purchases into customer-engagement platforms.

As fast as the account allows, without losing one record, with an exact account of every one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ingest.errors import (
        ConfigError,
        DestinationDown,
        Halted,
        IngestError,
        InputError,
        LocalFailure,
        MissingExtra,
    )
    from ingest.pipeline import Pipeline, PipelineSettings
    from ingest.sinks.braze import BrazeSink
    from ingest.sinks.file import FileSink
    from ingest.sinks.memory import MemorySink

__all__ = [
    "BrazeSink",
    "ConfigError",
    "DestinationDown",
    "FileSink",
    "Halted",
    "IngestError",
    "InputError",
    "LocalFailure",
    "MemorySink",
    "MissingExtra",
    "Pipeline",
    "PipelineSettings",
]

_HOMES: Final = {
    "BrazeSink": "ingest.sinks.braze",
    "FileSink": "ingest.sinks.file",
    "MemorySink": "ingest.sinks.memory",
    "Pipeline": "ingest.pipeline",
    "PipelineSettings": "ingest.pipeline",
}
"""Where a public name lives; the errors live in `ingest.errors`."""


def __getattr__(name: str) -> Any:
    """Import what is asked for, and no more: the command line starts in half the time."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOMES.get(name, "ingest.errors")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
