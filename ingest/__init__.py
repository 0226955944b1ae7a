"""Moves user attributes, events and purchases into customer-engagement platforms.

As fast as the account allows, without losing one record, with an exact account of every one.
"""

from __future__ import annotations

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
