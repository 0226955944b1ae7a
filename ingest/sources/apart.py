"""A source read in a process of its own: rows become objects, and lines are proven, beside the loop
that sends them.

Decides when that pays, and how blocks come over: a frame each, through a pipe that holds a few of
them, so that the process waits while nobody asks. In one process, a thread that encodes and a loop
that sends take turns at the interpreter, and lose more by it than a pipe costs.

The process is begun before its work is known (`early`), for an interpreter takes a moment to start.
It ends with its pipe: no frame can be handed over once whoever asked for it is gone, whatever ended
that. It touches inputs alone, and knows neither destination nor journal.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final, NamedTuple

from ingest.errors import ConfigError, IngestError, InputError, LocalFailure
from ingest.newcomers import Lately
from ingest.proving import Prover
from ingest.sources import early, frames
from ingest.sources.base import Block
from ingest.sources.mixed import MixedSource
from ingest.sources.planning import TableColumns
from ingest.sources.table import Header

try:
    import fcntl
except ImportError:  # not on Windows, where pipes have the size that they have
    fcntl = None  # type: ignore[assignment]  # a system without it

PIPE_BYTES: Final = 1 << 20
"""Bytes that a pipe should hold: some blocks, so that neither side waits for each."""

_SORTS: Final = (InputError, ConfigError, LocalFailure, IngestError)
"""What errors of a source are; others of them are made of more than a sentence."""


def pays(source: MixedSource) -> bool:
    """Tell whether reading a source in a process of its own is worth it, and can be done."""
    seekable = all(source.readable_again(part) for part in range(len(source)))
    return seekable and (source.total_bytes or 0) >= early.PAYS_FROM and early.cores() > 1


class Apart:
    """Reads a source in another process, which is begun by now. Use it as a context.

    `prover`, if one is set before the first block is asked for, proves lines there. `columns` are
    those of the source: cells that were left out there are counted in them. Raises what the source
    raises, and `LocalFailure` if the process cannot be begun, or ends without a word.
    """

    def __init__(self, source: MixedSource, columns: TableColumns) -> None:
        self.prover: Prover | None = None
        self._source = source
        self._columns = columns
        try:
            self._process = early.taken()
        except OSError as error:
            raise LocalFailure(
                f"no process can be begun that reads the input: {error.strerror}"
            ) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._into: Final[IO[bytes]] = self._process.stdin
        self._out: Final[IO[bytes]] = self._process.stdout
        self._asked = self._surveying = False

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if it did not end by itself; whoever asks for a block hears of it."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._into.close()
        if not self._asked:
            self._out.close()  # otherwise by who reads it, perhaps just now

    def begin(self, part: int, offset: int) -> None:
        """Let the process survey the latter half of the tables, as `Beside` tells."""
        with contextlib.suppress(OSError):  # it is gone: nothing will be found
            self._tell(_Half(self._source.alone(), part, offset))
        self._surveying = True

    def found(self) -> Mapping[Header, Any] | None:
        """Return what the process found in that half, None if it could not."""
        self._surveying = False
        frame = frames.read(self._out)
        found: Mapping[Header, Any] | None = None if frame is None else pickle.loads(frame)
        return found

    def _tell(self, work: object) -> None:
        frames.write(self._into, pickle.dumps(work, pickle.HIGHEST_PROTOCOL))

    def fileno(self) -> int:
        """Return the descriptor to wait at where `coming` has nothing."""
        return self._out.fileno()

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of the source as it is now, once; blocks the caller."""
        return (block for block in self.coming(wait=True) if block is not None)

    def coming(self, *, wait: bool = False) -> Iterator[Block | None]:
        """Yield the same, and None where the next one is not there yet, unless that is waited for.

        The beginning may block the caller for a moment: until the process has begun.
        """
        self._asked = True
        with self._out as out:
            if self._surveying:
                self.found()  # it was no half
            _widen(out)
            try:
                self._tell((self._source.alone(), self._columns, self.prover))
                self._into.close()
            except OSError:
                raise self._ended() from None
            if not wait:
                os.set_blocking(out.fileno(), False)
            dropped = Counter[str]()
            while (frame := (yield from frames.receiving(out))) is not None:
                found, block = frame
                if isinstance(found, IngestError):
                    raise found
                so_far = found
                if so_far != dropped:
                    self._columns.note_dropped(so_far - dropped)
                    dropped = so_far
                if block is None:
                    return
                yield block
            raise self._ended()

    def _ended(self) -> LocalFailure:
        return LocalFailure(
            f"the process that reads the input ended (status {self._process.wait()}) before its end"
        )


class _Half(NamedTuple):
    """What is to be surveyed of a source: what lies behind an offset."""

    source: MixedSource
    part: int
    offset: int

    def findings(self) -> Mapping[Header, Any] | None:
        """Return what is found; None if it cannot be read, which whoever asked will see himself."""
        try:
            return self.source.findings(self.part, self.offset)
        except IngestError:
            return None


def _widen(pipe: IO[bytes]) -> None:
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # there is a limit of them all
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


# --- the other process --------------------------------------------------------------------------


def serve() -> None:
    """Read the source that comes through stdin; write its blocks to stdout."""
    gc.freeze()  # what was imported stays
    gc.enable()
    out = os.dup(1)
    os.dup2(2, 1)  # whatever prints by accident must not come between the frames
    with (
        contextlib.suppress(BrokenPipeError),
        open(0, "rb", buffering=0) as into,
        open(out, "wb", buffering=0) as pipe,
    ):
        while work := frames.read(into):
            asked = pickle.loads(work)
            if isinstance(asked, _Half):
                frames.write(pipe, pickle.dumps(asked.findings(), pickle.HIGHEST_PROTOCOL))
            else:
                source, columns, prover = asked
                _serve(source, columns, prover, pipe)
    os._exit(0)  # nothing is left to be flushed, and the pipe may be gone


def _serve(
    source: MixedSource, columns: TableColumns, prover: Prover | None, out: IO[bytes]
) -> None:
    lately = Lately()
    try:
        for block in source.blocks():
            known = block if prover is None else block.proven(prover)
            _tell_news(known, lately)
            frames.send(out, columns.dropped, known)
        frames.send(out, columns.dropped, None)
    except IngestError as error:
        frames.send(out, _portable(error), None)


def _tell_news(block: Block, lately: Lately) -> None:
    """Say of a block of which nothing is doubtful whether its users are new."""
    proof, vouched = block.proof, block.vouched
    if vouched is not None and not vouched.doubtful:
        vouched.news = lately.came((vouched.keys,), len(vouched))
    elif proof is not None and proof.alike:
        proof.news = lately.came((some.keys for some in proof.alike), len(proof))


def _portable(error: IngestError) -> IngestError:
    """Return an error of the same sort and sentence that can be taken to pieces and back."""
    sort = next(sort for sort in _SORTS if isinstance(error, sort))
    return sort(str(error))
