"""Dead letters: records that will not be delivered, with the reason, kept to be mended.

One line of JSON each, private to the user, written through to the file before the record is
settled (law 10). Knows the shape of a dead letter and nothing of why there is one.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ingest.appending import append, close_synced, open_lines
from ingest.codec import dumps, verbatim
from ingest.errors import LocalFailure
from ingest.state.directory import FULL


class DeadLetter(msgspec.Struct, frozen=True):
    """A record and why it was not delivered.

    `record` is the object as it came, encoded; `raw` the text of a line that holds no object.
    `warned` says that it was delivered, but for a piece.
    """

    kind: str
    column: str
    code: str
    field: str
    reason: str
    source: dict[str, Any]
    record: bytes | None = None
    raw: bytes | None = None
    status: int | None = None
    attempts: int = 0
    request_id: str | None = None
    warned: bool = False


class DeadLetterFile:
    """Appends dead letters to a file that is made with the first of them.

    `relief` is asked for room when the disk is full, and says whether it gave any.
    """

    def __init__(self, path: Path, *, run: str) -> None:
        self.path = path
        self.written = 0
        self._run = run
        self._fd: int | None = None
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

    def cut(self, length: int) -> int:
        """Cut away letters of this run that the journal has not settled, which begin at `length`.

        Their records will be read again. Letters of other runs in the same file stay. Returns how
        many bytes are missing: letters that somebody took away were theirs to take. Raises
        `LocalFailure`.
        """
        missing = length - self.length
        if missing >= 0:
            return missing
        ours = b'{"v":1,"run":' + dumps(self._run)
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

    def sync(self) -> None:
        """Bring what was written to the disk; any thread may do it. Raises `LocalFailure`."""
        with self._failing("write"), self._closing:
            if self._fd is not None and stat.S_ISREG(os.fstat(self._fd).st_mode):
                os.fsync(self._fd)

    def write(self, letters: list[DeadLetter], now: float) -> None:
        """Append letters; when this returns they are with the operating system.

        `now` is wall-clock time in epoch seconds. Raises `LocalFailure` when the file cannot be
        written: then nothing may be settled.
        """
        if not letters:
            return
        at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        data = b"".join(self._encode(letter, at) + b"\n" for letter in letters)
        try:
            try:
                self._append(data)
            except OSError as error:
                if error.errno not in FULL or not self.relief():
                    raise
                self._append(data)
        except OSError as error:
            raise LocalFailure(
                f"cannot write the dead letters to {self.path}: {error.strerror}. Nothing was "
                "settled without its letter; make room or choose another --dead-letters, and "
                "run the same command again"
            ) from error
        self.written += len(letters)

    def close(self) -> None:
        """Flush to the disk and close; a file that never got a letter is not there.

        Raises `LocalFailure` when the disk does not take what was written.
        """
        with self._closing:
            fd, self._fd = self._fd, None
        if fd is None:
            return
        try:
            close_synced(fd)
        except OSError as error:
            raise LocalFailure(
                f"the dead letters in {self.path} may not be on the disk: {error.strerror}. Check "
                "the disk, and run the same command again"
            ) from error

    def _append(self, data: bytes) -> None:
        if self._fd is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = open_lines(self.path)
        try:
            append(self._fd, data)
            about = os.fstat(self._fd)
        except OSError:
            # Opened anew, it is looked at anew: half a letter may still be there.
            with self._closing:
                os.close(self._fd)
                self._fd = None
            raise
        self._length = about.st_size if stat.S_ISREG(about.st_mode) else 0

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LocalFailure(
                f"cannot {what} the dead letters in {self.path}: {error.strerror}. Mend that, or "
                "choose another --dead-letters, and run the same command again"
            ) from error

    def _encode(self, letter: DeadLetter, at: str) -> bytes:
        row: dict[str, Any] = {"v": 1, "run": self._run, "kind": letter.kind}
        if letter.record is not None:
            row["record"] = verbatim(letter.record)
        else:
            row["raw"] = (letter.raw or b"").decode("utf-8", "replace")
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
            "superseded": False,
            "source": letter.source,
        }
        return dumps(row)
