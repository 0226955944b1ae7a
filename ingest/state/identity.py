"""Which run is the same run: by what is read, what shapes its bytes, and where they go.

Decides that a resume continues what was begun, and nothing else. How fast a run is, where its
report goes and which directories it uses make no difference.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Final

import msgspec

from ingest.codec import dumps
from ingest.errors import InputError

END_BYTES: Final = 64 * 1024
"""Bytes hashed at each end of a file: reading 10 GB to know it again would take a minute, and what
changes a file without touching size, time, beginning or end is no accident."""


class InputFile(msgspec.Struct, frozen=True):
    """An input as it was when the run began; `head` and `tail` are hashes of its two ends.

    What is not a file has other marks of its own in them, like the ETag of an object.
    """

    path: str
    size: int
    mtime_ns: int
    head: str
    tail: str


class RunIdentity(msgspec.Struct, frozen=True):
    """Everything that a run must have in common with an earlier one to continue it.

    `inputs` are in the order of the parts. `shape` is whatever changes bytes or ordinals, as
    plain data: kind, endpoint, mapping, types, `update_existing_only`.
    """

    inputs: tuple[InputFile, ...]
    shape: dict[str, Any]
    sink: str
    host: str
    workspace: str = ""

    @property
    def digest(self) -> str:
        """A hash that is equal for the same run, whatever the order of the keys of `shape`."""
        return hashlib.sha256(dumps(_ordered(msgspec.to_builtins(self)))).hexdigest()

    @property
    def paths(self) -> list[str]:
        """What the inputs are called."""
        return [item.path for item in self.inputs]

    def same_place(self, other: RunIdentity) -> bool:
        """Whether both runs send to the same account, as far as can be told without its key."""
        mine, others = (self.sink, self.host, self.workspace), (other.sink, other.host)
        return mine == (*others, other.workspace)


class Conflict(msgspec.Struct, frozen=True):
    """An unfinished run that is not the same run, but has inputs in common.

    `changed` are the paths of those that are not what they were, `shared` of those that are.
    """

    name: str
    changed: tuple[str, ...]
    shared: tuple[str, ...]


def fingerprint(path: Path) -> InputFile:
    """Look at a file. Raises `InputError` when it cannot be read."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            head = file.read(END_BYTES)
            file.seek(max(0, about.st_size - END_BYTES))
            tail = file.read(END_BYTES)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return InputFile(
        str(path.resolve()), about.st_size, about.st_mtime_ns, _hash(head), _hash(tail)
    )


def conflict(name: str, before: RunIdentity, now: RunIdentity) -> Conflict | None:
    """Return what an unfinished run has in common with one that is about to begin.

    None if they share no input, or go to different accounts: then neither minds the other.
    """
    if not before.same_place(now):
        return None
    known = {item.path: item for item in before.inputs}
    both = [item for item in now.inputs if item.path in known]
    if not both:
        return None
    changed = tuple(item.path for item in both if item != known[item.path])
    return Conflict(name, changed, tuple(item.path for item in both if item == known[item.path]))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _ordered(value: Any) -> Any:
    """Sort the keys of all objects; lists keep their order, which may mean something."""
    if isinstance(value, dict):
        return {str(key): _ordered(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    return value
