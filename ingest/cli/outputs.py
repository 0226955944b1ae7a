"""The files that a run writes: which are refused before anything is sent, and how the report is.

An output that is also an input, or another output, would destroy what it was to keep. Two names are
the same file if they lead to one inode or, as long as nothing is there, to one path. What is no
regular file (a pipe, `/dev/null`) keeps nothing, and may be named twice.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ingest.appending import PRIVATE
from ingest.cli.options import SendOptions
from ingest.cli.streams import write_out
from ingest.codec import dumps_pretty
from ingest.errors import ConfigError, LocalFailure

STDIN_NAME: Final = "stdin"
"""What stdin is called among the names of the inputs."""

Identity = tuple[int, int] | str
"""A file: device and inode, or the resolved path of what is not there yet."""


def check_outputs(options: SendOptions, inputs: Sequence[str]) -> None:
    """Refuse outputs that cannot be written, or that would overwrite something.

    `inputs` are the names of the inputs. Raises `ConfigError`, or `LocalFailure` for a folder of
    dead letters that is not writable. Nothing is opened or made.
    """
    check_apart(_outputs(options), inputs)
    letters = options.dead_letters
    _check_state(letters.parent if letters is not None else options.state)
    if options.report is not None and options.report != "-":
        check_report(options.report)


def check_apart(outputs: Iterable[tuple[str, str]], inputs: Sequence[str]) -> None:
    """Refuse outputs (as written, and the path of each) that are inputs, or each other.

    Raises `ConfigError`.
    """
    taken = {identity: "an input" for name in inputs if (identity := _identity_of_input(name))}
    for named, path in outputs:
        if path == "-":
            raise ConfigError(f"{named} makes no sense: stdout is for the report; name a file")
        identity = _identity(path)
        if identity is None:
            continue
        if identity in taken:
            raise ConfigError(f"{named} is also {taken[identity]}: name another file")
        taken[identity] = f"what {named} names"


def write_report(where: str | None, report: dict[str, Any]) -> None:
    """Write a report as JSON, private to the user; `-` is stdout, None nowhere.

    Raises `LocalFailure` if it cannot be written.
    """
    if where is None:
        return
    data = dumps_pretty(report)
    if where == "-":
        write_out((data,), what="the report")
        return
    try:
        fd = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
    except OSError as error:
        raise LocalFailure(
            f"the report cannot be written to {where}: {error.strerror}; the balance above is it"
        ) from error


def _outputs(options: SendOptions) -> Iterator[tuple[str, str]]:
    """Yield each file that the options name: as it was written, and its path."""
    if options.target.where == "file":
        yield f"--to {options.to}", options.target.path
    if options.dead_letters is not None:
        yield f"--dead-letters {options.dead_letters}", str(options.dead_letters)
    if options.report is not None and options.report != "-":
        yield f"--report {options.report}", options.report


def _identity(path: str) -> Identity | None:
    """Tell which file a path is; None for what is no regular file."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _identity_of_input(name: str) -> Identity | None:
    if name != STDIN_NAME or os.path.exists(name):
        return _identity(name)
    try:
        found = os.fstat(sys.stdin.fileno())
    except (AttributeError, OSError, ValueError):  # closed, or not a stream of the system
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _check_state(folder: Path) -> None:
    """Refuse a folder in which no dead letter could be written, before one has to be."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise LocalFailure(
            f"dead letters cannot be written to {folder}: {existing} is not writable; choose "
            "another --state, or name a file with --dead-letters"
        )


def check_report(report: str) -> None:
    """Refuse a report that could not be written before anything is sent, not after."""
    path = Path(report)
    if path.is_dir():
        raise ConfigError(f"--report {report} cannot be written: it is a folder; name a file")
    if path.exists():
        if not os.access(path, os.W_OK):
            raise ConfigError(f"--report {report} cannot be written: permission denied")
        return
    parent = path.resolve().parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ConfigError(f"--report {report} cannot be written: {parent} is no folder for it")
