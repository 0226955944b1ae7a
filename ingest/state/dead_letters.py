"""Dead letters: records that will not be delivered, with the reason, kept to be mended.

One line of JSON each, private to the user, written through to the file before the record is
settled (law 10). A letter says whether it is superseded, and where its user may get a later
delivery that is marked afterwards: in place, for `true ` is as long as `false`, and JSON allows the
space. Knows the shape of a dead letter and nothing of why there is one, or when one is superseded.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from ingest.appending import append, close_synced, open_lines
from ingest.codec import DecodeError, dumps, typed, verbatim
from ingest.errors import LocalFailure
from ingest.state.directory import FULL

_FLAG: Final = b',"superseded":'
_UNMARKED: Final = _FLAG + b"false"
_MARK: Final = b"true "


class DeadLetter(msgspec.Struct, frozen=True):
    """A record and why it was not delivered.

    `record` is the object as it came, encoded; `raw` the text of a line that holds no object, and
    `who` an object of the identity in it, encoded, if there is one.
    `warned` says that it was delivered, but for a piece. `superseded` says whether a later record
    of its user was delivered; None is "not known". With `watched` that may come, and be marked.
    """

    kind: str
    column: str
    code: str
    field: str
    reason: str
    source: dict[str, Any]
    record: bytes | None = None
    raw: bytes | None = None
    who: bytes | None = None
    status: int | None = None
    attempts: int = 0
    request_id: str | None = None
    warned: bool = False
    superseded: bool | None = False
    watched: bool = False


class _Place(msgspec.Struct):
    name: str
    line: int


class Unmarked(msgspec.Struct):
    """What is read back of a letter that is not superseded so far; `flag` is where it says so."""

    run: str
    kind: str
    source: _Place
    record: msgspec.Raw = msgspec.Raw(b"")
    who: msgspec.Raw = msgspec.Raw(b"")
    flag: int = 0


_UNMARKED_LETTER: Final = typed(Unmarked)


class Letters(Protocol):
    """Where dead letters go. Every method raises `LocalFailure`: then nothing may be settled.

    `path` is what people call it, `written` counts the letters of this run so far; `length` and
    `cut` are those of a file, and 0 and nothing elsewhere. `relief` is asked for room on the disk.
    `safe` says whether a kill of this process leaves all that was written.
    """

    path: Path
    written: int
    relief: Callable[[], bool]

    @property
    def length(self) -> int: ...
    @property
    def safe(self) -> bool: ...
    def cut(self, length: int) -> int: ...
    def write(self, letters: list[DeadLetter], now: float) -> list[int | None]: ...
    def mark(self, flags: Iterable[int]) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...


class LetterLines:
    """Dead letters for whoever takes lines: a topic, a queue, a pipe, a function of the user's.

    `take` is given lines of JSON without their ends, and must not block; what it does with them is
    safe once `Durable` of whoever made it says so. Nothing can be marked there, so letters that
    might be superseded later say "not known". `name` is what people call it.
    """

    def __init__(self, name: str, take: Callable[[list[bytes]], None], *, run: str) -> None:
        self.path = Path(name)
        self.written = 0
        self.relief: Callable[[], bool] = lambda: False
        self._take = take
        self._run = run

    @property
    def length(self) -> int:
        """Return 0: nothing can be cut away there."""
        return 0

    @property
    def safe(self) -> bool:
        """Whether whoever takes lines has all of them."""
        return True

    def cut(self, length: int) -> int:
        """Do nothing: letters of records that are read again come twice."""
        return 0

    def write(self, letters: list[DeadLetter], now: float) -> list[int | None]:
        """Hand letters over; `now` is wall-clock time in epoch seconds."""
        at = _time(now)
        self._take([b"".join(_encoded(self._run, one, at, keeps=False))[:-1] for one in letters])
        self.written += len(letters)
        return [None] * len(letters)

    def mark(self, flags: Iterable[int]) -> None:
        """Do nothing: no letter was told to have a flag."""

    def sync(self) -> None:
        """Do nothing: see `Durable`."""

    def close(self) -> None:
        """Do nothing: whoever takes lines is closed by whoever made it."""


class DeadLetterFile:
    """Appends dead letters to a file that is made with the first of them.

    `relief` is asked for room when the disk is full, and says whether it gave any. Without `marks`
    no letter can be marked later, so that those which might have to be say "not known".
    """

    def __init__(self, path: Path, *, run: str, marks: bool = True) -> None:
        self.path = path
        self.written = 0
        self._run = run
        self._marks = marks
        self._fd: int | None = None
        self._marking: int | None = None  # another one: what is open to append writes nowhere else
        self._unsynced = False
        self._broken: OSError | None = None  # what was written since may not be on the disk
        self._closing = threading.Lock()  # so that no thread syncs what is just being closed
        self._length: int | None = None  # once known, kept in step: it is asked for every 10 ms
        self.relief: Callable[[], bool] = lambda: False

    @property
    def length(self) -> int:
        """Bytes of the file; 0 if there is none, or none that keeps them. Raises `LocalFailure`."""
        if self._length is None:
            with self._failing("look at"):
                about = self.path.stat() if self.path.exists() else None
                self._length = about.st_size if about and stat.S_ISREG(about.st_mode) else 0
        return self._length

    @property
    def safe(self) -> bool:
        """Return True: what was written is with the operating system."""
        return True

    def cut(self, length: int) -> int:
        """Cut away letters of this run that the journal has not settled, which begin at `length`.

        Their records will be read again. Letters of other runs in the same file stay. Returns how
        many bytes are missing: letters that somebody took away were theirs to take. Raises
        `LocalFailure`.
        """
        missing = length - self.length
        if missing >= 0:
            return missing
        ours = self._beginning
        with self._failing("cut"), self.path.open("r+b") as file:
            file.seek(length)
            rest = b"".join(line for line in file if not line.startswith(ours))
            # Half a letter, which a crash left, is nobody's.
            rest = rest[: rest.rfind(b"\n") + 1]
            file.seek(length)
            file.write(rest)
            file.truncate()
        self._length = length + len(rest)
        return 0

    def unmarked(self) -> Iterator[Unmarked]:
        """Yield the letters of this run that say that they are not superseded, in their order.

        Raises `LocalFailure` if the file cannot be read; without one there are none.
        """
        ours, at = self._beginning, 0
        with self._failing("read"), suppress(FileNotFoundError):
            if not stat.S_ISREG(self.path.stat().st_mode):
                return
            with self.path.open("rb") as file:
                for line in file:
                    # The last one is the letter's own: what follows it holds no such name.
                    before = line.rfind(_FLAG) if line.startswith(ours) else -1
                    if before >= 0 and line.startswith(_UNMARKED, before):
                        # Somebody's own changes, or nested deeper than is read back.
                        with suppress(DecodeError, UnicodeDecodeError, RecursionError):
                            letter = _UNMARKED_LETTER.decode(line)
                            letter.flag = at + before + len(_FLAG)
                            yield letter
                    at += len(line)

    def mark(self, flags: Iterable[int]) -> None:
        """Mark letters as superseded, by where `write` or `unmarked` said that they say it.

        Do so before the delivery is settled, and `sync` before that is durable: a mark too many
        names a record that goes again, a mark too few would let old values come back. A letter that
        is not there any more was somebody's to take away. Raises `LocalFailure` when the file
        cannot be written: then nothing may be settled.
        """
        with self._failing("write"), suppress(FileNotFoundError):
            if self._marking is None:
                self._marking = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            for flag in flags:
                before = flag - len(_FLAG)
                if os.pread(self._marking, len(_UNMARKED), before) == _UNMARKED:
                    os.pwrite(self._marking, _MARK, flag)
                    self._unsynced = True

    def sync(self) -> None:
        """Bring letters and marks to the disk that are not there yet; any thread may do it.

        Raises `LocalFailure`.
        """
        with self._failing("write"), self._closing:
            if self._broken is not None:
                raise self._broken
            if not self._unsynced:
                return
            self._unsynced = False  # before: what is written from now on is for the next time
            try:
                for fd in (self._fd, self._marking):
                    if fd is not None and stat.S_ISREG(os.fstat(fd).st_mode):
                        os.fsync(fd)
            except OSError as error:
                # A disk tells of it once: to ask again would be told that all is well.
                self._unsynced, self._broken = True, error
                raise

    def bring_to_disk(self) -> None:
        """Bring what another process wrote to the disk, if any. Raises `LocalFailure`."""
        with self._failing("write"), suppress(FileNotFoundError, NotADirectoryError):
            if stat.S_ISREG(self.path.stat().st_mode):
                close_synced(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC))

    def write(self, letters: list[DeadLetter], now: float) -> list[int | None]:
        """Append letters; when this returns they are with the operating system.

        Returns where each says whether it is superseded, for `mark`; None where nobody watches, and
        where that could not be changed: what is no file keeps nothing, and a watched letter says
        "not known" there. `now` is wall-clock time in epoch seconds. Raises `LocalFailure` when the
        file cannot be written: then nothing may be settled.
        """
        if not letters:
            return []
        at = _time(now)
        try:
            try:
                flags = self._append(letters, at)
            except OSError as error:
                if error.errno not in FULL or not self.relief():
                    raise
                flags = self._append(letters, at)
        except OSError as error:
            raise LocalFailure(
                f"cannot write the dead letters to {self.path}: {error.strerror}. Nothing was "
                "settled without its letter; make room or choose another file for dead "
                "letters, and start again"
            ) from error
        self.written += len(letters)
        return flags

    def close(self) -> None:
        """Flush to the disk and close; a file that never got a letter is not there.

        Raises `LocalFailure` when the disk does not take what was written.
        """
        with self._closing:
            fds = [fd for fd in (self._fd, self._marking) if fd is not None]
            self._fd = self._marking = None
        try:
            with ExitStack() as stack:
                for fd in fds:
                    stack.callback(close_synced, fd)
        except OSError as error:
            self._broken = self._broken or error
            raise LocalFailure(
                f"the dead letters in {self.path} may not be on the disk: {error.strerror}. Check "
                "the disk, and start again"
            ) from error

    def _append(self, letters: list[DeadLetter], at: str) -> list[int | None]:
        if self._fd is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = open_lines(self.path)
        try:
            keeps = stat.S_ISREG(os.fstat(self._fd).st_mode)
            marks = keeps and self._marks
            encoded = [_encoded(self._run, letter, at, keeps=marks) for letter in letters]
            data = b"".join(chain.from_iterable(encoded))
            append(self._fd, data)
            size = os.fstat(self._fd).st_size if keeps else 0
            # Where this ended, and not the file, which others may append to as well.
            flag = os.lseek(self._fd, 0, os.SEEK_CUR) - len(data) if keeps else 0
        except OSError:
            # Opened anew, it is looked at anew: half a letter may still be there.
            with self._closing:
                fd, self._fd = self._fd, None
                try:
                    close_synced(fd)  # letters before this one may not be on the disk yet
                except OSError as error:
                    self._broken = self._broken or error
            raise
        self._length, self._unsynced = size, True
        flags: list[int | None] = []
        for letter, (head, tail) in zip(letters, encoded, strict=True):
            flag += len(head)
            flags.append(flag if marks and letter.watched else None)
            flag += len(tail)
        return flags

    @property
    def _beginning(self) -> bytes:
        """What every letter of the run begins with."""
        return b'{"v":1,"run":' + dumps(self._run)

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LocalFailure(
                f"cannot {what} the dead letters in {self.path}: {error.strerror}. Mend that, or "
                "choose another file for dead letters, and start again"
            ) from error


def _time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")


def _encoded(run: str, letter: DeadLetter, at: str, *, keeps: bool) -> tuple[bytes, bytes]:
    """Return a letter with its end of line, cut where it says whether it is superseded."""
    row: dict[str, Any] = {"v": 1, "run": run, "kind": letter.kind}
    if letter.record is not None:
        row["record"] = verbatim(letter.record)
    else:
        row["raw"] = (letter.raw or b"").decode("utf-8", "replace")
        if letter.who is not None:
            row["who"] = verbatim(letter.who)
    row["column"] = letter.column
    if letter.warned:
        row["warned"] = True
    row |= {
        "code": letter.code,
        "field": letter.field or None,
        "reason": letter.reason,
        "status": letter.status,
        "attempts": letter.attempts,
        "request_id": letter.request_id,
        "at": at,
    }
    superseded = letter.superseded if keeps or not letter.watched else None
    tail = b"%b,%b\n" % (dumps(superseded), dumps({"source": letter.source})[1:])
    return dumps(row)[:-1] + _FLAG, tail
