"""A file as destination (`--to file:PATH`): one request body a line, as NDJSON.

Decides how a body is put on disk such that a reader never meets half of one that was counted as
delivered. Knows nothing of HTTP: there are no credentials in these bodies. `/dev/null` works, and
costs next to nothing.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from ingest.appending import append, close_synced, open_lines
from ingest.batcher import Folding
from ingest.errors import ConfigError, LocalFailure
from ingest.outcomes import Delivered
from ingest.records import Batch
from ingest.schemas import Schema
from ingest.sinks.base import Answer, Endpoint, Wire
from ingest.sinks.rows import ROWS
from ingest.sinks.rows.wire import RowWire

WRITTEN: Final = 200
"""Status that a written body is counted under: the plain success of HTTP."""


class FileSink:
    """Appends request bodies to the file at `path`, which is created private to the user.

    The bodies are those of `wire`, by default users/track of Braze; one that puts its credential
    into them is not meant for it. Each body is handed to the operating system before it counts as
    delivered, and the file is synced when the sink is closed. Raises `ConfigError` if the file
    cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], wire: Wire | None = None) -> None:
        self.name: Final = "file"
        self._wire: Wire = wire or RowWire(ROWS["track"], name=self.name)
        self.path: Final = Path(path)
        self.endpoint: Final[Endpoint] = self._wire.endpoint
        self.overhead: Final = self._wire.overhead
        self.schema: Final[Schema] = self._wire.schema
        self.folding: Final[Folding | None] = self._wire.folding
        try:
            self._fd: int | None = open_lines(self.path)
        except OSError as error:
            raise ConfigError(
                f"the file {self.path} cannot be opened for writing: {error.strerror}"
            ) from None

    @property
    def host(self) -> str:
        """The absolute path: what tells two files apart."""
        return str(self.path.absolute())

    async def deliver(self, batch: Batch) -> Answer:
        """Write one body. Raises `LocalFailure` if the disk takes it not, or not whole."""
        line = self._wire.request(batch).body
        if b"\n" in line:
            # JSON has raw line breaks between its tokens only, where a space is as good.
            line = line.replace(b"\n", b" ")
        self._write(line + b"\n")
        await asyncio.sleep(0)  # a sink that never waits would not let anybody else run
        return Answer(Delivered(WRITTEN), status=WRITTEN)

    def record_of(self, batch: Batch, slot: int, fragment: bytes) -> bytes:
        """Return the record as it came, encoded, of a fragment of the batch: for dead letters."""
        return self._wire.record_of(batch, slot, fragment)

    def repeatable(self, slot: int, fragment: bytes) -> bool:
        """Whether a second copy of a record changes nothing at the destination."""
        return self._wire.repeatable(slot, fragment)

    async def aclose(self) -> None:
        """Sync and close the file. Raises `LocalFailure` if it cannot be synced."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        try:
            close_synced(fd)
        except OSError as error:
            raise LocalFailure(f"{self.path} cannot be synced: {error.strerror}") from None

    def _write(self, line: bytes) -> None:
        fd = self._fd
        if fd is None:
            raise LocalFailure(f"{self.path} is closed: nothing more can be written to it")
        try:
            append(fd, line)
        except OSError as error:
            raise LocalFailure(
                f"writing to {self.path} failed: {error.strerror}; what was not written is not "
                "counted as delivered"
            ) from None
