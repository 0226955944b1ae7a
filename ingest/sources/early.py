"""The process that reads inputs, begun before the command line that gives it work is there.

An interpreter with what it imports takes longer to start than the first records take to read, and
so does the command line until it knows its work. Both can be done at once: this module looks at the
words of a command as they were typed, and begins the process where some of them are large files. It
decides nothing that a run depends on. Whoever reads apart takes the process that waits, or begins
one; one that nobody takes is let go, and ends by itself where nobody is left to do that.

It is imported before all others, and needs next to nothing itself.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from subprocess import Popen

PAYS_FROM: Final = 16_000_000
"""Bytes from which a second process is worth its start: that takes 0.15 s of a core, which reads
some 7 MB of a table."""

VERBS: Final = ("import", "replay")
"""The verbs that read files of any form, and send them."""

HELP: Final = frozenset({"-h", "--help"})

_KEEPS_MEMORY: Final = {
    "MALLOC_TRIM_THRESHOLD_": "67108864",
    "MALLOC_MMAP_THRESHOLD_": "67108864",
}
"""Settings of glibc's allocator, of no use elsewhere: 64 MB that are free stay with the process. A
block of text would be given back to the system, and faulted in anew, with every one that is read:
that is a fifth of the work."""

_START: Final = (
    "import gc, sys; gc.disable(); sys.path[:] = sys.argv[1:]; "
    "from ingest.sources.apart import serve; serve()"
)
"""What the process runs: what it imports stays, and is not searched for garbage meanwhile."""

_waiting: Final[list[Popen[bytes]]] = []
"""The process that was begun and that nobody took yet, if there is one."""


def begin(words: Sequence[str]) -> None:
    """Begin the process if that seems to be worth it by the words of a command, its name aside.

    What goes wrong is not told: whoever needs the process tries again, and tells.
    """
    if not _waiting and looks_large(words):
        try:
            _waiting.append(_begun())
        except OSError:
            return


def taken() -> Popen[bytes]:
    """Return the process that waits, or begin one; it is the caller's to end.

    It waits for its work on stdin, and ends with it. Raises `OSError`.
    """
    return _waiting.pop() if _waiting else _begun()


def let_go() -> None:
    """End the process that waits, if there is one."""
    while _waiting:
        process = _waiting.pop()
        process.kill()
        with process:  # closes its pipes, and waits
            pass


def looks_large(words: Sequence[str]) -> bool:
    """Tell whether a command is likely to read enough for two processes; it may be none at all.

    Which words are inputs, and which are values of options, is not known here.
    """
    return (
        bool(words)
        and words[0] in VERBS
        and HELP.isdisjoint(words)
        and sum(map(_size, words[1:])) >= PAYS_FROM
        and cores() > 1
    )


def _size(word: str) -> int:
    """Return the bytes of a regular file, 0 for what is none."""
    try:
        found = os.stat(word)
    except (OSError, ValueError):
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def cores() -> int:
    """Return how many cores this process may use, 1 if that cannot be known."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begun() -> Popen[bytes]:
    import subprocess  # which takes as long as all else here, and is seldom needed

    return subprocess.Popen(
        [sys.executable, "-c", _START, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=_KEEPS_MEMORY | os.environ,
        start_new_session=True,  # a stop is for the other to hear, and to decide
    )
