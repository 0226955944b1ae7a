"""The state directory: one process at a time, and room on the disk for the last settlements.

Decides who may use the directory, and keeps a reserve that is given back when the disk is full, so
that what is in flight then can still be written down. Does not know what is kept there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Final, Self

from ingest.appending import PRIVATE
from ingest.errors import LocalFailure

RESERVE_BYTES: Final = 4_000_000
"""Bytes kept for a full disk: the settlements of 512 requests in flight take less than 1 MB, their
dead letters mostly as much."""

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors that room helps against."""

_BUSY: Final = frozenset({errno.EAGAIN, errno.EACCES})


class StateDirectory:
    """A directory that this process alone uses; made, private to the user, if it is not there.

    Close it, or use it as a context. Raises `LocalFailure` when it cannot be had.
    """

    def __init__(self, path: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        except OSError as error:
            raise unusable(path, error) from error
        try:
            self._take()
        except BaseException:
            os.close(self._lock)
            raise
        self.reserve = Reserve(path / "reserve", reserve_bytes)

    def close(self) -> None:
        """Let others have it; the file stays, since removing it would let two have it."""
        self.reserve.release()
        with contextlib.suppress(OSError):
            os.ftruncate(self._lock, 0)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _BUSY:
                raise LocalFailure(
                    f"cannot lock the state directory {self.path}: {error.strerror}. Choose a "
                    "directory on a local disk for the state"
                ) from error
            raise LocalFailure(
                f"another ingest{_named(self._holder())} is using the state directory "
                f"{self.path}. Wait until it ends, or choose another directory for the state"
            ) from error
        with contextlib.suppress(OSError):  # only a courtesy to whoever comes next
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)

    def _holder(self) -> str:
        with contextlib.suppress(OSError):
            return os.pread(self._lock, 20, 0).decode("ascii", "replace").strip()
        return ""


class Reserve:
    """Room on the disk that is taken now, to be given back when there is none left."""

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self._path = path
        self._held = False
        if not size:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, PRIVATE)
            self._held = True
            try:
                os.posix_fallocate(fd, 0, size)
            finally:
                os.close(fd)
        except OSError:
            # The disk is as good as full: what cannot be noted is not sent, that is soon enough.
            self.release()

    def release(self) -> bool:
        """Give the room back; return whether there was any."""
        held, self._held = self._held, False
        if held:
            with contextlib.suppress(OSError):
                self._path.unlink()
        return held


def unusable(path: Path, error: OSError) -> LocalFailure:
    """Return the failure of a directory or file that cannot be used."""
    return LocalFailure(
        f"cannot use the state directory: {error.filename or path}: {error.strerror}. Choose "
        "another one, or mend its permissions"
    )


def is_locked(path: Path) -> bool:
    """Whether some process uses a state directory now; this may take it for a moment."""
    try:
        fd = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _named(holder: str) -> str:
    return f" (process {holder})" if holder.isdigit() else ""
