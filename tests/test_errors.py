"""Errors are sentences, and each ends the command with its own status."""

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


def test_each_error_has_the_status_of_the_interface() -> None:
    """Scripts tell the ends of a run apart by these numbers."""
    statuses = {
        ConfigError: 2,
        InputError: 2,
        Halted: 3,
        LocalFailure: 4,
        DestinationDown: 75,
    }
    assert {kind: kind.exit_status for kind in statuses} == statuses
    assert all(issubclass(kind, IngestError) for kind in statuses)


def test_a_missing_extra_says_what_to_type() -> None:
    """The sentence names what needs it and the command that installs it."""
    error = MissingExtra("Reading Parquet", "files")
    assert "pip install 'ingestline[files]'" in str(error)
    assert error.exit_status == 2
