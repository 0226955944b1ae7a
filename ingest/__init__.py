"""Moves user attributes, events and purchases into customer-engagement platforms.

As fast as the account allows, without losing one record, with an exact account of every one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ingest.acking import End
    from ingest.embedded import Pipeline
    from ingest.errors import (
        ConfigError,
        DestinationDown,
        Halted,
        IngestError,
        InputError,
        InvalidRecord,
        LocalFailure,
        MissingExtra,
        QueueFull,
    )
    from ingest.objects import Alias, Attributes, Event, Purchase, add, inc, remove, unset
    from ingest.observer import Answered, LogObserver, Observer
    from ingest.sinks.braze import BrazeSink
    from ingest.sinks.file import FileSink
    from ingest.sinks.memory import MemorySink

_HOMES: Final = {
    "Alias": "ingest.objects",
    "Answered": "ingest.observer",
    "Attributes": "ingest.objects",
    "BrazeSink": "ingest.sinks.braze",
    "ConfigError": "ingest.errors",
    "DestinationDown": "ingest.errors",
    "End": "ingest.acking",
    "Event": "ingest.objects",
    "FileSink": "ingest.sinks.file",
    "Halted": "ingest.errors",
    "IngestError": "ingest.errors",
    "InputError": "ingest.errors",
    "InvalidRecord": "ingest.errors",
    "LocalFailure": "ingest.errors",
    "LogObserver": "ingest.observer",
    "MemorySink": "ingest.sinks.memory",
    "MissingExtra": "ingest.errors",
    "Observer": "ingest.observer",
    "Pipeline": "ingest.embedded",
    "Purchase": "ingest.objects",
    "QueueFull": "ingest.errors",
    "add": "ingest.objects",
    "inc": "ingest.objects",
    "remove": "ingest.objects",
    "unset": "ingest.objects",
}
"""Where each public name lives."""

__all__ = [
    "Alias",
    "Answered",
    "Attributes",
    "BrazeSink",
    "ConfigError",
    "DestinationDown",
    "End",
    "Event",
    "FileSink",
    "Halted",
    "IngestError",
    "InputError",
    "InvalidRecord",
    "LocalFailure",
    "LogObserver",
    "MemorySink",
    "MissingExtra",
    "Observer",
    "Pipeline",
    "Purchase",
    "QueueFull",
    "add",
    "inc",
    "remove",
    "unset",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and no more: the command line starts in half the time."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
