"""The files of a spool: written, cut back, read and deleted; everything here blocks.

Decides what becomes of half a write: it is cut away, so that a file ends where it ended before.
Every failure becomes a `LocalFailure` whose sentence says what to do. Does not know who waits.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from ingest.appending import PRIVATE, append
from ingest.errors import LocalFailure
from ingest.segments import Note, scanned, segment_name, segment_number, without_notes
from ingest.state.directory import FULL, unusable

ID_FILE: Final = "id"

_ID_BYTES: Final = 8
_PIECE_BYTES: Final = 1_000_000


class NoRoom(LocalFailure):
    """The disk is full, and what was accepted before is as it was."""


class SegmentFile(msgspec.Struct, frozen=True):
    """A segment as it was found: whole lines, notes included."""

    number: int
    size: int
    lines: int


class SegmentFiles:
    """The segments in a directory, private to the user and made if it is not there.

    `id` is the mark of the spool: another one in its place has other lines by the same numbers. One
    thread at a time may write. With `power_safe` what was written survives the machine. Raises
    `LocalFailure`.
    """

    def __init__(self, directory: Path, *, power_safe: bool = True) -> None:
        self.directory = directory
        self._sync = os.fsync if power_safe else (lambda fd: None)
        self._sync_data = os.fdatasync if power_safe else (lambda fd: None)
        self._open: tuple[int, int] | None = None  # the segment that is written, and its file
        self._unsynced = False  # whether a file was made, and its directory not synced since
        with _failing(directory):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            directory.chmod(0o700)
            self.id = self._identify()

    def recover(self) -> list[SegmentFile]:
        """Return the segments, one at the least, the newest cut to its last whole append."""
        with _failing(self.directory):
            numbers = sorted(self._numbers()) or [1]
            path = self._path(numbers[-1])
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE))
            found = [_counted(number, self._path(number)) for number in numbers]
            for at, number in enumerate(numbers):
                # The newest is synced even if nothing is cut: what a killed process wrote may not
                # be on the disk. Another one ends with a line, unless somebody else touched it.
                if found[at] is None or number == numbers[-1]:
                    path = self._path(number)
                    whole = scanned(path.read_bytes())
                    self._truncate(path, whole.end)
                    found[at] = SegmentFile(number, whole.end, whole.lines)
            self._sync_directory()
        return [one for one in found if one is not None]

    def write(self, jobs: Iterable[tuple[int, bytes]], ends: Mapping[int, int]) -> None:
        """Append to segments, and return when it is on the disk: all of it, or nothing.

        `ends` are the bytes that each of them has. Raises `NoRoom` if the disk is full.
        """
        path = self.directory
        try:
            for number, data in jobs:
                path = self._path(number)
                fd = self._opened(number)
                append(fd, data)
                self._sync_data(fd)
                if self._unsynced:
                    self._sync_directory()
                    self._unsynced = False
        except OSError as error:
            if self._cut_back(ends) and error.errno in FULL:
                raise NoRoom(
                    f"the disk with {self.directory} is full: nothing new is accepted until there "
                    "is room. Make room; what was accepted is kept"
                ) from error
            raise LocalFailure(
                f"cannot write the spool: {path}: {error.strerror}. What was accepted is kept: "
                "mend the disk or the permissions, and start again"
            ) from error

    def piece(self, number: int, offset: int, nbytes: int, stop: int) -> tuple[bytes, int]:
        """Return whole lines from `offset` on, with blank ones for notes, and where they end.

        About `nbytes`, or more if the first line is longer; nothing at `stop` or beyond. May be
        called while another thread writes.
        """
        path = self._path(number)
        data, cut = b"", 0
        with _failing(path):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                while not cut and offset + len(data) < stop:
                    wanted = min(max(nbytes, len(data)), stop - offset - len(data))
                    got = os.pread(fd, wanted, offset + len(data))
                    if not got:
                        raise LocalFailure(
                            f"{path} is shorter than it was: somebody changed it. Put back what it "
                            "held, and start again: it was accepted"
                        )
                    data += got
                    cut = data.rfind(b"\n") + 1
            finally:
                os.close(fd)
        return without_notes(data[:cut]), offset + cut

    def notes(self, number: int, stop: int) -> tuple[Note, ...]:
        """Return the notes among the first `stop` bytes of a segment."""
        path = self._path(number)
        with _failing(path):
            data = path.read_bytes()
        return scanned(data[:stop]).notes

    def delete(self, number: int) -> None:
        """Delete a segment, durably."""
        path = self._path(number)
        with _failing(path):
            path.unlink(missing_ok=True)
            self._sync_directory()

    def free(self) -> int:
        """Return the bytes that are free for this user on the disk."""
        try:
            disk = os.statvfs(self.directory)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize

    def close(self) -> None:
        """Close the file that is written."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def _path(self, number: int) -> Path:
        return self.directory / segment_name(number)

    def _numbers(self) -> list[int]:
        found = (segment_number(path.name) for path in self.directory.iterdir())
        return [number for number in found if number is not None]

    def _opened(self, number: int) -> int:
        if self._open is not None and self._open[0] == number:
            return self._open[1]
        self.close()
        path = self._path(number)
        self._unsynced = self._unsynced or not path.exists()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE)
        self._open = (number, fd)
        return fd

    def _cut_back(self, ends: Mapping[int, int]) -> bool:
        """Leave of the segments what they had before; return whether that is sure."""
        try:
            for number, size in ends.items():
                with contextlib.suppress(FileNotFoundError):
                    self._truncate(self._path(number), size)
        except OSError:
            return False
        return True

    def _truncate(self, path: Path, size: int) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            self._sync(fd)
        finally:
            os.close(fd)

    def _sync_directory(self) -> None:
        fd = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._sync(fd)
        finally:
            os.close(fd)

    def _identify(self) -> str:
        """Return the mark; a new one if there is no segment, for then the numbers begin again."""
        path = self.directory / ID_FILE
        if not path.exists() or not self._numbers():
            beside = path.with_suffix(".tmp")
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE)
            try:
                append(fd, secrets.token_hex(_ID_BYTES).encode())
                self._sync(fd)
            finally:
                os.close(fd)
            beside.replace(path)
            self._sync_directory()
        return path.read_text("ascii").strip()


def _counted(number: int, path: Path) -> SegmentFile | None:
    """Return a segment as it is; None if it does not end with a line."""
    size = lines = 0
    last = b"\n"
    with path.open("rb") as file:
        while data := file.read(_PIECE_BYTES):
            size += len(data)
            lines += data.count(b"\n")
            last = data[-1:]
    return SegmentFile(number, size, lines) if last == b"\n" else None


@contextlib.contextmanager
def _failing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unusable(path, error) from error
