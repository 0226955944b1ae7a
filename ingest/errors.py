"""Errors an operator or a programmer meets. Each message is a sentence that says what to do.

What a destination answers is data (`ingest.outcomes`), never an exception. `exit_status` is what
the command line ends with when the error reaches it.
"""

from __future__ import annotations


class IngestError(Exception):
    """Root of every error raised on purpose by this package."""

    exit_status = 2


class ConfigError(IngestError):
    """An option, a setting or an environment variable is missing, unknown or contradictory."""


class MissingExtra(ConfigError):
    """An optional package is needed and not installed."""

    def __init__(self, needed_for: str, extra: str) -> None:
        super().__init__(
            f"{needed_for} needs a package that is not installed: "
            f"run  pip install 'ingestline[{extra}]'"
        )
        self.extra = extra


class InputError(IngestError):
    """An input cannot be opened or read at all (a bad record in it is not an error)."""


class Halted(IngestError):
    """The destination's answer makes further sending pointless; everything unsent is kept."""

    exit_status = 3


class LocalFailure(IngestError):
    """This machine failed (disk full, state unwritable); sending stopped before losing anything."""

    exit_status = 4


class DestinationDown(IngestError):
    """The destination did not come back within the time allowed; the run can be resumed."""

    exit_status = 75


class InvalidRecord(IngestError, ValueError):
    """A record that no destination would take, told to whoever made it: it was not accepted."""

    def __init__(self, code: str, field: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.field = field


class QueueFull(IngestError):
    """There was no room for a record within the time that its maker waits; it was not accepted."""
