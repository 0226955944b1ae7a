"""The standard streams of the process: what is said on stderr, and data written to stdout.

Decides what happens when nobody reads them any more, or the disk behind them is full: a run is
never ended by its own talking. Knows nothing of runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import Any, Final, TextIO, cast

import click
from rich.console import Console

from ingest.errors import LocalFailure

WIDE: Final = 400
"""Columns where no terminal says how many there are: a log takes any width, and nothing is cut."""

STDERR: Final = 2
"""The file descriptor of stderr."""


class Talk(Console):
    """Says things on stderr, and goes quiet when nobody listens any more."""

    def __init__(self) -> None:
        heard = None if sys.stderr is None else cast(TextIO, _Stream(sys.stderr))
        super().__init__(file=heard, stderr=True)
        if not self.is_terminal:
            self.width = WIDE

    def on_broken_pipe(self) -> None:
        """Go quiet; what runs goes on, and ends with its own exit status."""
        self.quiet = True
        _discard(STDERR)


class _Stream:
    """A stream whose every failure is that of a closed pipe: a full disk ends no run either."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or raise `BrokenPipeError`."""
        try:
            return self._stream.write(text)
        except OSError as error:
            raise BrokenPipeError(error.errno, error.strerror) from error

    def flush(self) -> None:
        """Flush, or raise `BrokenPipeError`."""
        try:
            self._stream.flush()
        except OSError as error:
            raise BrokenPipeError(error.errno, error.strerror) from error


def say(sentence: str) -> None:
    """Print a sentence on stderr; where that is closed or full there is nobody to tell."""
    try:
        click.echo(sentence, err=True)
    except OSError:
        _discard(STDERR)


def write_out(pieces: Iterable[bytes], *, what: str) -> None:
    """Write data to stdout; whoever closes the pipe has seen enough, and that is no error.

    `what` begins the sentence of the `LocalFailure` that is raised when stdout takes it not.
    """
    out: TextIO | None = sys.stdout
    if out is None:
        raise LocalFailure(f"{what} cannot be written to stdout: it is closed; redirect it")
    try:
        for piece in pieces:
            out.buffer.write(piece)
        out.buffer.flush()
    except OSError as error:
        # What is left in the buffer is flushed when the process ends, and must not fail again.
        with contextlib.suppress(OSError):
            _discard(out.fileno())
        if not isinstance(error, BrokenPipeError):
            raise LocalFailure(
                f"{what} cannot be written to stdout: {error.strerror}; make room, or "
                "redirect it elsewhere"
            ) from error


def _discard(fd: int) -> None:
    """Let everything that is still written to a descriptor go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, fd)
    finally:
        if nowhere != fd:
            os.close(nowhere)
