"""Dead letters are private, whole, and as good an input as any."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import dumps, loads
from ingest.errors import LocalFailure
from ingest.forms import Found, Misformed, records_of
from ingest.records import KIND_UNKNOWN, KINDS
from ingest.state.dead_letters import DeadLetter, DeadLetterFile
from tests.intake_lines import odd_lines

NOW = 1_790_000_000.25
"""A moment, in epoch seconds."""


def letter(**given: Any) -> DeadLetter:
    """A letter like many."""
    parts: dict[str, Any] = {
        "kind": "event",
        "column": "invalid",
        "code": "bad-time",
        "field": "time",
        "reason": "'time' must be a time",
        "source": {"name": "users.ndjson", "line": 17},
        "record": b'{"external_id": "u"}',
    }
    return DeadLetter(**parts | given)


def mode(path: Path) -> int:
    """Permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_letter_says_everything(tmp_path: Path) -> None:
    """Its fields are those of INTERFACE, and the record is there byte by byte."""
    file = DeadLetterFile(tmp_path / "letters", run="r1")
    file.write([letter(status=400, attempts=2, request_id="q")], NOW)
    line = file.path.read_bytes()
    assert b'"record":{"external_id": "u"}' in line
    assert loads(line) == {
        "v": 1,
        "run": "r1",
        "kind": "event",
        "record": {"external_id": "u"},
        "column": "invalid",
        "code": "bad-time",
        "field": "time",
        "reason": "'time' must be a time",
        "status": 400,
        "attempts": 2,
        "request_id": "q",
        "at": "2026-09-21T14:13:20.250+00:00",
        "superseded": False,
        "source": {"name": "users.ndjson", "line": 17},
    }
    assert file.written == 1


def test_a_text_is_kept_as_text(tmp_path: Path) -> None:
    """What is no UTF-8 is replaced, so that the letter is JSON; an absent field is null."""
    file = DeadLetterFile(tmp_path / "letters", run="r")
    file.write([letter(record=None, raw=b"no\xff", field=""), letter(record=None)], NOW)
    first, second = map(loads, file.path.read_bytes().splitlines())
    assert (first["raw"], first["field"], second["raw"]) == ("no\ufffd", None, "")
    assert "record" not in first


@given(odd_lines(), st.sampled_from((None, *KINDS)))
def test_a_letter_is_an_input_that_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, line: bytes, kind: str | None
) -> None:
    """Record, kind and bytes survive; a text that was refused is refused for the same reason."""
    file = DeadLetterFile(tmp_path_factory.mktemp("round") / "letters", run="r")
    items = list(records_of(line, kind))
    for item in items:
        kept = {"record": item.fragment} if isinstance(item, Found) else {"raw": item.raw}
        file.write([letter(kind=item.kind, **{"record": None, **kept})], NOW)
    file.close()
    letters = file.path.read_bytes().split(b"\n")
    assert letters.pop() == b""
    for item, written in zip(items, letters, strict=True):
        (again, *more) = records_of(written, None)
        if isinstance(item, Found):
            assert (again, more) == (item, [])
        elif item.kind == KIND_UNKNOWN and item.code not in ("not-utf8", "no-kind"):
            assert isinstance(again, Misformed)
            assert again.code == item.code


def test_the_file_is_made_with_the_first_letter(tmp_path: Path) -> None:
    """Its folder too; both are for the user alone, and no letter means no file."""
    path = tmp_path / "deep" / "state" / "letters"
    file = DeadLetterFile(path, run="r")
    file.write([], NOW)
    file.close()
    assert not path.parent.exists()
    file.write([letter()], NOW)
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert path.read_bytes().endswith(b"\n")  # with the system before `write` returns
    file.close()
    file.close()


def test_a_file_that_was_there_becomes_private(tmp_path: Path) -> None:
    """Letters go behind what it holds."""
    path = tmp_path / "letters"
    path.write_bytes(b"{}\n")
    path.chmod(0o644)
    file = DeadLetterFile(path, run="r")
    file.write([letter()], NOW)
    file.write([letter()], NOW)
    file.close()
    assert mode(path) == 0o600
    assert path.read_bytes().startswith(b"{}\n{")
    assert len(path.read_bytes().splitlines()) == 3


def test_half_a_letter_of_a_crash_spoils_no_other(tmp_path: Path) -> None:
    """The first letter of a run begins a line."""
    path = tmp_path / "letters"
    path.write_bytes(b'{"v":1}\n{"v":1,"rec')
    file = DeadLetterFile(path, run="r")
    file.write([letter()], NOW)
    file.close()
    first, torn, mine = path.read_bytes().splitlines()
    assert (first, torn) == (b'{"v":1}', b'{"v":1,"rec')
    assert loads(mine)["run"] == "r"


def test_a_full_disk_is_a_local_failure() -> None:
    """The sentence says what to do, and nothing counts as written."""
    file = DeadLetterFile(Path("/dev/full"), run="r")
    with pytest.raises(LocalFailure, match=r"/dev/full: No space left on device\. Nothing was"):
        file.write([letter()], NOW)
    assert file.written == 0
    file.close()


class FailingDisk:
    """`os.write` that takes a few bytes at a time, and fails when it took `room` in all."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = os.write

    def __call__(self, fd: int, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self._write(fd, data[: min(7, self.room)])
        self.room -= taken
        return taken


def test_a_write_in_pieces_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system may take less than it is given."""
    file = DeadLetterFile(tmp_path / "letters", run="r")
    monkeypatch.setattr(os, "write", FailingDisk(room=10_000))
    file.write([letter(), letter()], NOW)
    assert [loads(line)["run"] for line in file.path.read_bytes().splitlines()] == ["r", "r"]


@pytest.mark.parametrize("room", [0, 40, 400])
def test_what_was_half_written_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Letters of records that are not settled would be there twice after a resume."""
    file = DeadLetterFile(tmp_path / "letters", run="r")
    file.write([letter()], NOW)
    before = file.path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", FailingDisk(room))
        with pytest.raises(LocalFailure):
            file.write([letter(), letter()], NOW)
    assert (file.path.read_bytes(), file.written) == (before, 1)
    file.write([letter()], NOW)
    assert file.path.read_bytes() == before * 2
    file.close()


def test_taking_back_is_best_effort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that cannot even do that does not hide what went wrong."""

    def refuse(fd: int, length: int) -> None:
        raise OSError(errno.EIO, "broken")

    file = DeadLetterFile(tmp_path / "letters", run="r")
    monkeypatch.setattr(os, "write", FailingDisk(9))
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(LocalFailure, match="No space left"):
        file.write([letter()], NOW)
    file.close()


def test_after_a_half_write_the_next_letter_begins_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also within one run, where taking back was not possible."""
    file = DeadLetterFile(tmp_path / "letters", run="r")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", FailingDisk(9))
        patched.setattr(os, "ftruncate", lambda fd, length: None)
        with pytest.raises(LocalFailure):
            file.write([letter()], NOW)
    file.write([letter()], NOW)
    torn, mine = file.path.read_bytes().splitlines()
    assert len(torn) == 9
    assert loads(mine)["run"] == "r"


def test_a_file_that_cannot_be_made_is_a_local_failure(tmp_path: Path) -> None:
    """A folder in its place, or a file in place of its folder."""
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file" / "letters"):
        with pytest.raises(LocalFailure, match="choose another file for dead letters"):
            DeadLetterFile(path, run="r").write([letter()], NOW)


def test_a_file_that_cannot_be_made_private_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Personal data does not go where others may read it."""

    def refuse(fd: int, mode: int) -> None:
        raise PermissionError(errno.EPERM, "not yours")

    monkeypatch.setattr(os, "fchmod", refuse)
    file = DeadLetterFile(tmp_path / "letters", run="r")
    with pytest.raises(LocalFailure, match="not yours"):
        file.write([letter()], NOW)
    assert file.path.read_bytes() == b""
    file.close()


def test_a_disk_that_does_not_sync_is_a_local_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system took may still not be on the disk, and that is said at the end."""

    def refuse(fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    file = DeadLetterFile(tmp_path / "letters", run="r")
    file.write([letter()], NOW)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(LocalFailure, match="may not be on the disk: broken"):
        file.close()
    file.close()


def test_letters_may_go_to_a_device() -> None:
    """What is no file has no end of line to look for, and nothing to sync."""
    file = DeadLetterFile(Path(os.devnull), run="r")
    file.write([letter(record=dumps({"a": 1}))], NOW)
    file.close()
    assert file.written == 1


def test_a_full_disk_is_relieved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody gives room the letter is written after all; where nobody does, it is said."""
    file = DeadLetterFile(tmp_path / "letters", run="r1")
    write, room = os.write, [False, True]

    def full(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    def relieve() -> bool:
        room[0] = room[1]
        return room[1]

    monkeypatch.setattr(os, "write", full)
    file.relief = relieve
    file.write([letter()], NOW)
    assert file.length == file.path.stat().st_size
    room[:] = [False, False]
    with pytest.raises(LocalFailure, match="No space left"):
        file.write([letter()], NOW)


def test_what_keeps_nothing_has_no_length() -> None:
    """A device that letters are thrown into is neither measured nor cut nor synced."""
    file = DeadLetterFile(Path(os.devnull), run="r1")
    file.write([letter()], NOW)
    file.sync()
    assert (file.length, file.cut(0)) == (0, 0)
    file.close()


def test_a_file_that_cannot_be_cut_is_said(tmp_path: Path) -> None:
    """What the journal did not settle must not stay among the letters."""
    file = DeadLetterFile(tmp_path / "letters", run="r1")
    file.write([letter()], NOW)
    file.close()
    file.path.unlink()
    with pytest.raises(LocalFailure, match="cannot cut the dead letters"):
        file.cut(0)


def test_a_file_without_marks_says_that_it_is_not_known(tmp_path: Path) -> None:
    """Where nobody can mark a letter in time, it must not say that it is not superseded."""
    letters = DeadLetterFile(tmp_path / "letters.ndjson", run="r", marks=False)
    watched = DeadLetter("attributes", "rejected", "c", "", "why", {}, b"{}", watched=True)
    event = DeadLetter("event", "rejected", "c", "", "why", {}, b"{}")
    assert letters.write([watched, event], 0.0) == [None, None]
    letters.close()
    lines = (tmp_path / "letters.ndjson").read_bytes().splitlines()
    assert [loads(line)["superseded"] for line in lines] == [None, False]
