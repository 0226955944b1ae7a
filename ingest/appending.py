"""Files that whole lines are appended to: private, never half a line that was counted.

Decides how bytes are put on disk, and what becomes of half a line when the disk is full or a crash
left one. Does not know what the lines hold, nor what a failure means to whoever writes them.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
"""What is written is personal data: for the user alone."""


def open_lines(path: Path) -> int:
    """Open a file, made private to the user, to append at the start of a line. Raises `OSError`."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE)
    try:
        if _is_file(fd):
            os.fchmod(fd, PRIVATE)
            # A crash may have left half a line, which must spoil no other.
            if _is_torn(path):
                os.write(fd, b"\n")
    except OSError:
        os.close(fd)
        raise
    return fd


def append(fd: int, data: bytes) -> None:
    """Hand all of `data` to the operating system; if it does not take it all, take it back.

    Raises `OSError`. Half of it may be there then after all: the disk is failing already.
    """
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(fd, rest) :]
    except OSError:
        written = len(data) - len(rest)
        if written and _is_file(fd):
            with contextlib.suppress(OSError):
                os.ftruncate(fd, os.fstat(fd).st_size - written)
        raise


def close_synced(fd: int) -> None:
    """Flush to the disk and close, in any case. Raises `OSError` if it was not flushed."""
    try:
        if _is_file(fd):
            os.fsync(fd)
    finally:
        os.close(fd)


def _is_file(fd: int) -> bool:
    """Whether it is a regular file; a pipe or a terminal has nothing to sync or to take back."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() not in (b"", b"\n")
