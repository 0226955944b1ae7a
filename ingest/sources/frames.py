"""Blocks on their way through a pipe, from a process that reads to the one that sends.

Decides how they are written: columns as they are, beside what little is left of a block. Nothing is
encoded again, and nothing of a column is copied on the way but by the pipe. Both ends are ours.

Where a pipe does not block whoever reads it, what takes a message in stops where it is empty, and
goes on where it was.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from array import array
from collections import Counter
from collections.abc import Generator, Sequence
from typing import IO, Final, TypeVar

from ingest.errors import IngestError
from ingest.proofs import Alike, Proof, Vouched
from ingest.records import BOUNDS, NOTHING, Joined, UserKey
from ingest.sources.base import Block
from ingest.tallies import occurrences
from ingest.userkeys import BETWEEN, Keys

T = TypeVar("T")

LENGTH_BYTES: Final = 8

Told = Counter[str] | IngestError
"""What comes with a block, or instead of one: the cells left out so far, or what went wrong."""

Frame = tuple[Told, Block | None]

Steps = Generator[None, None, T]
"""What stops wherever a pipe is empty that blocks nobody."""

_Size = tuple[int, int, int, int, Sequence[UserKey]]
"""Of a column: its objects, their bytes, their shift, the bytes of its keys, and these if they
cannot be joined."""


def write(pipe: IO[bytes], data: bytes) -> None:
    """Write one message. Raises `OSError`."""
    _write(pipe, [len(data).to_bytes(LENGTH_BYTES, "big"), data])


def read(pipe: IO[bytes]) -> bytes | None:
    """Return the next message, None where there is none any more; blocks the caller."""
    return _at_once(_message(pipe))


def send(pipe: IO[bytes], told: Told, block: Block | None) -> None:
    """Write a block, which is of no use afterwards, and what is told with it. Raises `OSError`."""
    sizes: list[_Size] = []
    parts: list[bytes | memoryview] = []
    for holder in () if block is None else _holders(block):
        joined, names = Joined.of(holder.fragments), _names(holder.keys)
        left = holder.keys if names is None else ()
        sizes.append((len(joined), len(joined.data), joined.shift, len(names or b""), left))
        parts += (joined.data, memoryview(joined.bounds).cast("B"), names or b"")
        holder.fragments, holder.keys = NOTHING, ()
    rest = pickle.dumps((told, block, sizes), pickle.HIGHEST_PROTOCOL)
    _write(pipe, [len(rest).to_bytes(LENGTH_BYTES, "big"), rest, *parts])


def receive(pipe: IO[bytes]) -> Frame | None:
    """Return what `receiving` does; blocks the caller."""
    return _at_once(receiving(pipe))


def receiving(pipe: IO[bytes]) -> Steps[Frame | None]:
    """Return what was told with a block, and the block; None where the pipe ends before."""
    rest = yield from _message(pipe)
    if rest is None:
        return None
    told, block, sizes = pickle.loads(rest)
    for holder, size in zip(() if block is None else _holders(block), sizes, strict=True):
        count, nbytes, shift, named, left = size
        bounds = array(BOUNDS)
        data = yield from _exactly(pipe, nbytes)
        ends = yield from _exactly(pipe, (count + 1) * bounds.itemsize)
        names = yield from _exactly(pipe, named)
        if data is None or ends is None or names is None:
            return None
        bounds.frombytes(ends)
        holder.fragments = Joined(data, bounds, shift)
        holder.keys = left or Keys.told(names.decode(), count)
    return told, block


def _holders(block: Block) -> Sequence[Vouched | Alike | Proof]:
    """Return what in a block holds columns."""
    if block.vouched is not None:
        return (block.vouched,)
    if block.proof is None:
        return ()
    return block.proof.alike or (block.proof,)


def _names(keys: Sequence[UserKey]) -> bytes | None:
    """Return keys as one text, None where they cannot be told apart in it."""
    with contextlib.suppress(TypeError, UnicodeEncodeError):  # some are no text
        text = BETWEEN.join(keys).encode()  # type: ignore[arg-type]  # it finds out
        if keys and occurrences(text, BETWEEN.encode()) == len(keys) - 1:
            return text
    return None


def _write(pipe: IO[bytes], parts: Sequence[bytes | memoryview]) -> None:
    views = [memoryview(part) for part in parts if len(part)]
    while views:
        # All at once where that can be: who waits for the first part would wake for each of them.
        done = os.writev(pipe.fileno(), views) if hasattr(os, "writev") else pipe.write(views[0])
        while views and done >= len(views[0]):
            done -= len(views.pop(0))
        if done:
            views[0] = views[0][done:]


def _message(pipe: IO[bytes]) -> Steps[bytes | None]:
    head = yield from _exactly(pipe, LENGTH_BYTES)
    return head and (yield from _exactly(pipe, int.from_bytes(head, "big")))


def _exactly(pipe: IO[bytes], size: int) -> Steps[bytes | None]:
    """Return so many bytes, None where the pipe ends before."""
    parts: list[bytes] = []
    while size:
        data: bytes | None = pipe.read(size)
        if data is None:
            yield
        elif data:
            parts.append(data)
            size -= len(data)
        else:
            return None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _at_once(steps: Steps[T]) -> T:
    """Return what comes of steps that stop nowhere."""
    try:
        next(steps)
    except StopIteration as end:
        found: T = end.value
        return found
    raise BlockingIOError("a pipe that should block its reader does not")
