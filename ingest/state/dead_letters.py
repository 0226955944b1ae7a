"""Dead letters: records that will not be delivered, with the reason, kept to be mended.

One line of JSON each, private to the user, written through to the file before the record is
settled (law 10). Knows the shape of a dead letter and nothing of why there is one.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ingest.appending import append, close_synced, open_lines
from ingest.codec import dumps, verbatim
from ingest.errors import LocalFailure


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
    """Appends dead letters to a file that is made with the first of them."""

    def __init__(self, path: Path, *, run: str) -> None:
        self.path = path
        self.written = 0
        self._run = run
        self._fd: int | None = None

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
        except OSError:
            # Opened anew, it is looked at anew: half a letter may still be there.
            os.close(self._fd)
            self._fd = None
            raise

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
