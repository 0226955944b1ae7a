"""The inputs of a run by number: what each is called, how large it is, and how it is opened.

This module decides nothing about what is read out of an input; sources of any form build on it.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import BinaryIO

from ingest.errors import InputError
from ingest.sources import remote
from ingest.sources.base import Block, Start
from ingest.sources.paths import STDIN, StrPath, expand, raw_size, why


class Inputs:
    """Files named by paths, directories, globs and URLs, and `-` once for stdin, as parts from 0.

    `stdin` is read for `-` if given, else the process's own. With `lists` directories give files of
    values too, with `tables` those of tables. Raises `InputError` for what is not there.
    """

    def __init__(
        self,
        paths: Sequence[StrPath],
        *,
        stdin: BinaryIO | None = None,
        lists: bool = False,
        tables: bool = False,
    ) -> None:
        self._stdin = stdin
        self._paths, self.ignored = expand(paths, lists=lists, tables=tables)
        """`ignored`: what the given directories hold besides, by their names."""
        self.sizes = tuple(
            remote.size(path) if remote.is_url(path) else raw_size(path) for path in self._paths
        )
        """Raw bytes of each input, None for a stream (stdin, a pipe, a URL that does not say)."""
        self._before = tuple(accumulate((size or 0 for size in self.sizes), initial=0))
        self._starts: Mapping[int, Start] = {}

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def names(self) -> tuple[str, ...]:
        """What the inputs are called in reports, by part."""
        return tuple(map(self.name, range(len(self))))

    @property
    def total_bytes(self) -> int | None:
        """Raw bytes of all inputs together, None if one of them is a stream."""
        return None if None in self.sizes else self._before[-1]

    def name(self, part: int) -> str:
        """Return the path as it was given (a URL without its secrets), or `stdin`."""
        path = self._paths[part]
        return "stdin" if path == STDIN else remote.shown(path)

    def consumed(self, block: Block) -> int:
        """Return the raw bytes of all inputs read up to and with this block, for progress."""
        return self._before[block.part] + block.end_offset

    def start_at(self, starts: Mapping[int, Start]) -> None:
        """Let each of these parts begin at a place that an earlier reading of it told.

        A part that is compressed, or that cannot be sought in, is read from its beginning, and what
        lies before is let go.
        """
        self._starts = dict(starts)

    def start(self, part: int) -> Start:
        """Return where a part is to begin."""
        return self._starts.get(part, Start(0, 1, 0))

    def readable_again(self, part: int) -> bool:
        """Whether an input can be read a second time: all but stdin and pipes can."""
        return self.sizes[part] is not None or remote.is_url(self._paths[part])

    def open(self, part: int) -> BinaryIO:
        """Open an input. Raises `InputError`; `MissingExtra` for a URL that needs a package."""
        path = self._paths[part]
        if remote.is_url(path):
            return remote.opened(path)
        try:
            if path != STDIN:
                return open(path, "rb", buffering=0)
            return _process_stdin() if self._stdin is None else self._stdin
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name(part)} cannot be opened: {why(error)}.") from None

    def close(self, part: int, file: BinaryIO) -> None:
        """Close an opened input; stdin stays open."""
        if self._paths[part] != STDIN:
            file.close()


def _process_stdin() -> BinaryIO:
    """Return stdin without a buffer: a thread that waits for it would hold the buffer's lock.

    The interpreter cannot end then, and aborts. Raises `ValueError` if stdin is closed.
    """
    if sys.stdin is None:
        raise ValueError("it is closed")
    try:
        fd = sys.stdin.fileno()
    except io.UnsupportedOperation:  # something else was put in its place
        return sys.stdin.buffer
    return open(fd, "rb", buffering=0, closefd=False)
