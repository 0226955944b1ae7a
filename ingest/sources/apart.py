"""A source read in a process of its own: rows become objects, and lines are proven, beside the loop
that sends them.

Decides when that pays, and how blocks come over: a frame each, through a pipe that holds a few of
them, so that the process waits while nobody asks. In one process, a thread that encodes and a loop
that sends take turns at the interpreter, and lose more by it than a pipe costs.

The process is begun before its work is known, for an interpreter takes a moment to start. It ends
with its pipe: no frame can be handed over once whoever asked for it is gone, whatever ended that.
It touches inputs alone, and knows neither destination nor journal.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import IO, Any, Final

import msgspec

from ingest.codec import packed, unpacked
from ingest.errors import ConfigError, IngestError, InputError, LocalFailure
from ingest.newcomers import Lately
from ingest.proofs import Alike, Proof, Vouched
from ingest.proving import Prover
from ingest.records import BOUNDS, NOTHING, Joined, UserKey
from ingest.sources.base import Block
from ingest.sources.mixed import MixedSource
from ingest.sources.planning import TableColumns

try:
    import fcntl
except ImportError:  # not on Windows, where pipes have the size that they have
    fcntl = None  # type: ignore[assignment]  # a system without it

PAYS_FROM: Final = 16_000_000
"""Bytes from which a second process is worth its start: that takes 0.15 s of a core, which reads
some 7 MB of a table."""

PIPE_BYTES: Final = 1 << 20
"""Bytes that a pipe should hold: some blocks, so that neither side waits for each."""

_LENGTH_BYTES: Final = 8

_KEEPS_MEMORY: Final = {
    "MALLOC_TRIM_THRESHOLD_": "67108864",
    "MALLOC_MMAP_THRESHOLD_": "67108864",
}
"""Settings of glibc's allocator, of no use elsewhere: 64 MB that are free stay with the process. A
block of text would be given back to the system, and faulted in anew, with every one that is read:
that is a fifth of the work."""

_SORTS: Final = (InputError, ConfigError, LocalFailure, IngestError)
"""What errors of a source are; others of them are made of more than a sentence."""

_START: Final = (
    "import sys; sys.path[:] = sys.argv[1:]; from ingest.sources.apart import serve; serve()"
)


def pays(source: MixedSource) -> bool:
    """Tell whether reading a source in a process of its own is worth it, and can be done."""
    seekable = all(source.readable_again(part) for part in range(len(source)))
    return seekable and (source.total_bytes or 0) >= PAYS_FROM and _cores() > 1


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Apart:
    """Reads a source in another process, which is begun at once. Use it as a context.

    `prover`, if one is set before the first block is asked for, proves lines there. `columns` are
    those of the source: cells that were left out there are counted in them. Raises what the source
    raises, and `LocalFailure` if the process cannot be begun, or ends without a word.
    """

    def __init__(self, source: MixedSource, columns: TableColumns) -> None:
        self.prover: Prover | None = None
        self._source = source
        self._columns = columns
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=_KEEPS_MEMORY | os.environ,
                start_new_session=True,  # a stop is for the other to hear, and to decide
            )
        except OSError as error:
            raise LocalFailure(
                f"no process can be begun that reads the input: {error.strerror}"
            ) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._into: Final[IO[bytes]] = self._process.stdin
        self._out: Final[IO[bytes]] = self._process.stdout
        self._asked = False

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

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of the source as it is now, once; blocks the caller."""
        self._asked = True
        with self._out as out:
            _widen(out)
            try:
                work = (self._source.alone(), self._columns, self.prover)
                _write(self._into, pickle.dumps(work, pickle.HIGHEST_PROTOCOL))
                self._into.close()
            except OSError:
                raise self._ended() from None
            dropped = Counter[str]()
            while (frame := _read(out)) is not None:
                found, block = _received(frame)
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


def _widen(pipe: IO[bytes]) -> None:
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # there is a limit of them all
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


_Told = Counter[str] | IngestError
"""What comes with a block, or instead of one: the cells left out so far, or what went wrong."""


_Column = tuple[bytes, bytes, int, str | list[UserKey]]
"""Objects joined, their bounds and shift, and their keys, joined as well where they can be."""

_BETWEEN_KEYS: Final = "\n"


class _Frame(msgspec.Struct, array_like=True):
    """A block on its way: its columns by themselves, for most of it are those."""

    rest: bytes
    columns: list[_Column] = []


def _framed(told: _Told, block: Block | None) -> bytes:
    """Return a frame of a block, which is of no use afterwards; see `_received`."""
    columns = []
    for holder in () if block is None else _holders(block):
        columns.append(_taken_out(Joined.of(holder.fragments), holder.keys))
        holder.fragments, holder.keys = NOTHING, []
    return packed(_Frame(pickle.dumps((told, block), pickle.HIGHEST_PROTOCOL), columns))


def _received(data: bytearray) -> tuple[_Told, Block | None]:
    """Return what was told with a block, and the block; None for the end."""
    frame = unpacked(data, _Frame)
    told, block = pickle.loads(frame.rest)
    for holder, column in zip(() if block is None else _holders(block), frame.columns, strict=True):
        holder.fragments, holder.keys = _put_back(column)
    return told, block


def _holders(block: Block) -> Sequence[Vouched | Alike | Proof]:
    """Return what in a block holds columns."""
    if block.vouched is not None:
        return (block.vouched,)
    if block.proof is None:
        return ()
    return block.proof.alike or (block.proof,)


def _taken_out(joined: Joined, keys: Sequence[UserKey]) -> _Column:
    told: str | list[UserKey] = list(keys)
    with contextlib.suppress(TypeError):  # some are no text
        text = _BETWEEN_KEYS.join(keys)  # type: ignore[arg-type]  # it finds out
        if keys and text.count(_BETWEEN_KEYS) == len(keys) - 1:
            told = text
    return joined.data, joined.bounds.tobytes(), joined.shift, told


def _put_back(column: _Column) -> tuple[Joined, list[UserKey]]:
    data, bounds, shift, told = column
    keys: list[UserKey] = [*told.split(_BETWEEN_KEYS)] if isinstance(told, str) else told
    return Joined(data, array(BOUNDS, bounds), shift), keys


def _write(pipe: IO[bytes], data: bytes) -> None:
    view = memoryview(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    while view:
        view = view[pipe.write(view) :]


def _read(pipe: IO[bytes]) -> bytearray | None:
    """Return the next frame, None where there is none any more."""
    head = _exactly(pipe, _LENGTH_BYTES)
    return head and _exactly(pipe, int.from_bytes(head, "big"))


def _exactly(pipe: Any, size: int) -> bytearray | None:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        got = pipe.readinto(view[done:])
        if not got:
            return None
        done += got
    return data


# --- the other process --------------------------------------------------------------------------


def serve() -> None:
    """Read the source that comes through stdin; write its blocks to stdout."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever prints by accident must not come between the frames
    with (
        contextlib.suppress(BrokenPipeError),
        open(0, "rb", buffering=0) as into,
        open(out, "wb", buffering=0) as frames,
    ):
        if work := _read(into):
            source, columns, prover = pickle.loads(work)
            _serve(source, columns, prover, frames)
    os._exit(0)  # nothing is left to be flushed, and the pipe may be gone


def _serve(
    source: MixedSource, columns: TableColumns, prover: Prover | None, out: IO[bytes]
) -> None:
    lately = Lately()
    try:
        for block in source.blocks():
            known = block if prover is None else block.proven(prover)
            _tell_news(known, lately)
            _write(out, _framed(columns.dropped, known))
        _write(out, _framed(columns.dropped, None))
    except IngestError as error:
        _write(out, _framed(_portable(error), None))


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
