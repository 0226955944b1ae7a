"""A state directory has one user at a time, and some room for the worst moment."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ingest.errors import LocalFailure
from ingest.state.directory import Reserve, StateDirectory, is_locked


def mode(path: Path) -> int:
    """Permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_private_and_made_if_need_be(tmp_path: Path) -> None:
    """Directory and files are for the user alone."""
    path = tmp_path / "a" / "state"
    with StateDirectory(path):
        assert mode(path) == 0o700
        assert {mode(file) for file in path.iterdir()} == {0o600}


def test_a_second_process_is_told_who_has_it(tmp_path: Path) -> None:
    """The sentence names the process and the directory; afterwards the directory is free."""
    with StateDirectory(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(LocalFailure) as caught:
            StateDirectory(tmp_path)
    assert f"another ingest (process {os.getpid()}) is using" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.exit_status == 4
    assert not is_locked(tmp_path)
    StateDirectory(tmp_path).close()


def test_a_lock_that_a_dead_process_left_is_no_lock(tmp_path: Path) -> None:
    """The file stays behind, and says nothing."""
    (tmp_path / "lock").write_text("1\n")
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "nowhere")
    StateDirectory(tmp_path).close()


def test_a_holder_that_left_no_name_is_somebody(tmp_path: Path) -> None:
    """The sentence is whole without a process."""
    with StateDirectory(tmp_path):
        (tmp_path / "lock").write_text("?")
        with pytest.raises(LocalFailure, match="another ingest is using"):
            StateDirectory(tmp_path)


def test_a_path_that_is_no_directory_is_named(tmp_path: Path) -> None:
    """A file in its place, or a directory that cannot be made."""
    (tmp_path / "file").touch()
    with pytest.raises(LocalFailure, match=r"cannot use the state directory: .*file.*another one"):
        StateDirectory(tmp_path / "file")


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network mounts have none: then nothing would keep two processes apart."""

    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(LocalFailure, match=r"cannot lock .* No locks available.*local disk"):
        StateDirectory(tmp_path)


def test_the_reserve_is_real_room_given_back_once(tmp_path: Path) -> None:
    """It takes blocks of the disk, and is gone when it was asked for, or at the end."""
    reserve = Reserve(tmp_path / "reserve", 100_000)
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 100_000
    assert reserve.release()
    assert not (tmp_path / "reserve").exists()
    assert not reserve.release()
    with StateDirectory(tmp_path):
        assert (tmp_path / "reserve").exists()
    assert not (tmp_path / "reserve").exists()


def test_a_disk_without_room_for_it_keeps_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a reserve is given back at once."""

    def refuse(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", refuse)
    assert not Reserve(tmp_path / "reserve", 100).release()
    assert list(tmp_path.iterdir()) == []


def test_where_no_room_is_left_there_is_no_reserve(tmp_path: Path) -> None:
    """It is no reason to fail: what cannot be noted is not sent."""
    assert not Reserve(tmp_path / "no" / "reserve", 1).release()
    assert not Reserve(tmp_path / "reserve", 0).release()
    assert list(tmp_path.iterdir()) == []
