"""What was appended is there after a kill, as far as it is whole, and for the same boot only."""

from __future__ import annotations

import errno
import os
import resource
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import LocalFailure
from ingest.state import redo
from ingest.state.groups import Gathered
from ingest.state.redo import FILES, VERSION, Entry, Heading, RedoLog, boot_id, trusted

HEADING = Heading(VERSION, "boot", b"salt", None)
EMPTY = Gathered().group()


def entry(number: int) -> Entry:
    """An entry, told by its number."""
    return Entry(number, 0.5, EMPTY)


def numbers(directory: Path, boot: str = "boot") -> list[list[int]]:
    """The numbers of the entries of each file."""
    return [[one.number for one in entries] for _, entries in trusted(directory, boot)]


def test_entries_lie_in_two_files_that_take_turns(tmp_path: Path) -> None:
    """The one that is begun anew loses what it had; both are private, and go with the log."""
    log = RedoLog(tmp_path, HEADING)
    assert numbers(tmp_path) == [[]]
    log.append(entry(1))
    log.append(entry(2))
    assert numbers(tmp_path) == [[1, 2]]
    log.turn()
    log.append(entry(3))
    assert numbers(tmp_path) == [[1, 2], [3]]
    log.turn()
    log.append(entry(4))
    assert numbers(tmp_path) == [[4], [3]]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    log.close()
    again = RedoLog(tmp_path, HEADING)
    assert numbers(tmp_path) == [[]]
    again.remove()
    assert list(tmp_path.iterdir()) == []
    again.close()


@pytest.mark.parametrize(
    ("heading", "boot"),
    [
        (HEADING, "another"),
        (Heading(VERSION, "", b"salt", None), ""),
        (Heading(VERSION + 1, "boot", b"salt", None), "boot"),
    ],
)
def test_only_the_same_boot_trusts_it(tmp_path: Path, heading: Heading, boot: str) -> None:
    """And none does that has no name, or where another version wrote it."""
    log = RedoLog(tmp_path, heading)
    log.append(entry(1))
    log.close()
    assert numbers(tmp_path, boot) == []


@given(st.integers(0, 400), st.binary(max_size=40))
def test_whatever_follows_what_is_whole_is_left_out(cut: int, rest: bytes) -> None:
    """A kill may have torn the last entry; whatever stands there then is none."""
    whole = redo._framed(HEADING) + b"".join(redo._framed(entry(number)) for number in range(9))
    data = whole[: len(whole) - min(cut, len(whole))]
    found = [bytes(frame) for frame in redo._frames(data)]
    framed = [redo._framed(HEADING), *(redo._framed(entry(number)) for number in range(9))]
    assert found == [one[8:] for one in framed[: len(found)]]
    assert len(data) - sum(map(len, framed[: len(found)])) < len(framed[min(len(found), 9)])
    torn = framed[3][:-1]
    behind = [bytes(frame) for frame in redo._frames(b"".join(framed[:3]) + torn + b"\xff" + rest)]
    assert behind[:3] == [one[8:] for one in framed[:3]]
    assert redo._framed(entry(3))[8:] not in behind[3:] or rest


def test_what_is_no_log_is_none(tmp_path: Path) -> None:
    """Nothing, zeros that a power cut left, or something else that has a checksum."""
    for data in (b"", bytes(64), b"something", redo._framed(entry(1))):
        (tmp_path / FILES[0]).write_bytes(data)
        assert numbers(tmp_path) == []


def test_what_finds_no_room_is_not_there_by_half(tmp_path: Path) -> None:
    """Neither an entry nor a turn; what was there before stays."""
    log = RedoLog(tmp_path, HEADING)
    log.append(entry(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / FILES[0]).stat().st_size + 3, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            log.append(entry(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert numbers(tmp_path) == [[1]]
    log.append(entry(2))
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            log.turn()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.append(entry(3))
    assert numbers(tmp_path) == [[1, 2, 3]]
    log.close()


def test_nothing_is_appended_after_half_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would find it: whoever reads stops at what is torn."""
    log = RedoLog(tmp_path, HEADING)

    def tears(fd: int, data: bytes) -> None:
        os.write(fd, data[:9])
        raise OSError(errno.EIO, "so it is")

    with monkeypatch.context() as patch:
        patch.setattr(redo, "append", tears)
        with pytest.raises(OSError, match="so it is"):
            log.append(entry(1))
    with pytest.raises(OSError, match="could not be taken back"):
        log.append(entry(2))
    log.close()


def test_a_log_may_be_given_up(tmp_path: Path) -> None:
    """What is in it, and what is appended after that, is trusted by nobody."""
    log = RedoLog(tmp_path, HEADING)
    log.append(entry(1))
    log.distrust()
    log.append(entry(2))
    assert numbers(tmp_path) == []
    log.close()


def test_a_log_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    """To be written, or to be read."""
    (tmp_path / FILES[1]).mkdir()
    with pytest.raises(LocalFailure, match=r"cannot use the state directory: .*redo-1"):
        RedoLog(tmp_path, HEADING)
    with pytest.raises(LocalFailure, match=r"cannot use the state directory: .*redo-1"):
        numbers(tmp_path)


def test_a_boot_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a file, or by a command; where there is neither it has none."""
    if os.path.exists(redo._LINUX):
        assert boot_id() == boot_id() != ""
    monkeypatch.setattr(redo, "_LINUX", tmp_path / "none")
    monkeypatch.setattr(redo, "_MACOS", ("echo", "F00D"))
    assert boot_id() == "F00D"
    monkeypatch.setattr(redo, "_MACOS", ("false",))
    assert boot_id() == ""
    monkeypatch.setattr(redo, "_MACOS", (str(tmp_path / "none"),))
    assert boot_id() == ""
