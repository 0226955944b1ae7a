"""Whole lines are appended to a private file, and half of one spoils no other."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ingest.appending import append, close_synced, open_lines


@pytest.mark.parametrize(
    ("before", "after"), [(None, b""), (b"", b""), (b"a\n", b"a\n"), (b"a\nb", b"a\nb\n")]
)
def test_a_file_is_opened_at_the_start_of_a_line(
    tmp_path: Path, before: bytes | None, after: bytes
) -> None:
    """What a crash left behind gets its end of line; the file becomes private."""
    path = tmp_path / "lines"
    if before is not None:
        path.write_bytes(before)
        path.chmod(0o644)
    fd = open_lines(path)
    append(fd, b"c\n")
    close_synced(fd)
    assert path.read_bytes() == after + b"c\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_not_written_whole_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines before it stay, and the next one follows them."""
    fd = open_lines(tmp_path / "lines")
    append(fd, b"first\n")
    write, room = os.write, [3, 0]

    def filling(fd: int, data: memoryview) -> int:
        if size := room.pop(0):
            return write(fd, data[:size])
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", filling)
        with pytest.raises(OSError, match="full"):
            append(fd, b"second\n")
    append(fd, b"third\n")
    close_synced(fd)
    assert (tmp_path / "lines").read_bytes() == b"first\nthird\n"


def test_a_file_that_cannot_be_looked_at_is_not_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening fails as a whole."""
    closed: list[int] = []
    close = os.close

    def failing(fd: int, mode: int) -> None:
        raise OSError(errno.EPERM, "not yours")

    def noted(fd: int) -> None:
        closed.append(fd)
        close(fd)

    monkeypatch.setattr(os, "fchmod", failing)
    monkeypatch.setattr(os, "close", noted)
    with pytest.raises(OSError, match="not yours"):
        open_lines(tmp_path / "lines")
    assert closed
