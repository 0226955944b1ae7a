"""The redo log: what a run told since its last commit, for whoever goes on after a kill.

What is appended is with the operating system at once, and nobody waits for a disk: that outlives
the process as long as the machine runs. After a power cut it may have holes, and is of no use to
another boot; then the database is all there is. Decides how entries lie in two files that take
turns, and which of them may be trusted. Does not know what they mean.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final

import msgspec

from ingest.appending import PRIVATE, append
from ingest.codec import DecodeError, packed, unpacked
from ingest.state.directory import unusable
from ingest.state.groups import Group

FILES: Final = ("journal.redo-0", "journal.redo-1")
"""In the state directory. One of them is appended to while the other's entries are committed."""

VERSION: Final = 1
"""Of the entries; those of another one are not trusted."""

_FRAME: Final = Struct("<II")
"""Before each entry: its bytes, and their CRC-32."""

_LINUX: Final = Path("/proc/sys/kernel/random/boot_id")
_MACOS: Final = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")


class Heading(msgspec.Struct, frozen=True, array_like=True):
    """The first entry of a file: by which boot it was written, and of which run, by its salt.

    `credential` is the hash of another credential than before, None if it is the same.
    """

    version: int
    boot: str
    salt: bytes
    credential: str | None


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A group with its number in the run, and how many seconds the run had taken by then.

    It is not `safe` if a dead letter of what it settles was not where a kill leaves it yet.
    """

    number: int
    seconds: float
    group: Group
    safe: bool = True


Logged = tuple[Heading, list[Entry]]
"""What a file of the log holds."""


def boot_id() -> str:
    """Return what names this start of the machine; empty where nothing does: equal to no other."""
    with contextlib.suppress(OSError):
        return _LINUX.read_text().strip()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(_MACOS, capture_output=True, check=True, text=True).stdout.strip()
    return ""


class RedoLog:
    """The log of one run while it is recorded; what was there of another one is gone.

    Raises `LocalFailure` when it cannot be made.
    """

    def __init__(self, directory: Path, heading: Heading) -> None:
        self._heading = _framed(heading)
        self._paths = [directory / name for name in FILES]
        self._fds: list[int] = []
        self._torn = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            for path in self._paths:
                self._fds.append(os.open(path, flags, PRIVATE))
                os.fchmod(self._fds[-1], PRIVATE)
                os.ftruncate(self._fds[-1], 0)
            append(self._fds[0], self._heading)
        except OSError as error:
            self.close()
            raise unusable(path, error) from error

    def append(self, entry: Entry) -> None:
        """Hand an entry to the operating system, or nothing of it. Raises `OSError`."""
        if self._torn:
            raise OSError(errno.EIO, "half an entry could not be taken back")
        size, data = os.fstat(self._fds[0]).st_size, _framed(entry)
        try:
            append(self._fds[0], data)
        except OSError:
            # Nobody would find what comes after half an entry.
            self._torn = os.fstat(self._fds[0]).st_size != size
            raise

    def turn(self) -> None:
        """Let further entries go to the other file: all that is in it is committed.

        Raises `OSError`: then they go to the same as before.
        """
        os.ftruncate(self._fds[1], 0)
        append(self._fds[1], self._heading)
        self._fds.reverse()

    def distrust(self) -> None:
        """Let nobody go on by it: what it tells of may not be so. Any thread may do it."""
        for path in self._paths:
            with contextlib.suppress(OSError):
                os.truncate(path, 0)  # what is appended then has no heading

    def remove(self) -> None:
        """Close the log, and delete it: all of it is committed."""
        self.close()
        for path in self._paths:
            with contextlib.suppress(OSError):  # what is committed is known by its number
                path.unlink()

    def close(self) -> None:
        """Close the log, and leave it to whoever goes on."""
        for fd in self._fds:
            os.close(fd)
        self._fds = []


def trusted(directory: Path, boot: str) -> Iterator[Logged]:
    """Yield what each file holds of a boot, as far as it is whole. Raises `LocalFailure`."""
    for name in FILES:
        try:
            data = (directory / name).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise unusable(directory / name, error) from error
        frames = _frames(data)
        heading = _heading(next(frames, b""))
        if heading is not None and boot and (heading.version, heading.boot) == (VERSION, boot):
            yield heading, [unpacked(frame, Entry) for frame in frames]


def _framed(value: Heading | Entry) -> bytes:
    data = packed(value)
    return _FRAME.pack(len(data), zlib.crc32(data)) + data


def _heading(frame: bytes | memoryview) -> Heading | None:
    with contextlib.suppress(DecodeError):  # nothing, or that of another version
        return unpacked(frame, Heading)
    return None


def _frames(data: bytes) -> Iterator[memoryview]:
    """Yield the frames up to the first that is not whole: a kill may have torn the last one."""
    at, view = 0, memoryview(data)
    while at + _FRAME.size <= len(view):
        size, checksum = _FRAME.unpack_from(view, at)
        at += _FRAME.size
        frame = view[at : at + size]
        if not size or len(frame) < size or zlib.crc32(frame) != checksum:
            return
        yield frame
        at += size
