"""Which inputs a command line means: files, directories, globs and stdin, in a fixed order.

This module decides what is read and what is refused before anything is opened. It looks at names
and at what the file system says of them, never into a file.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence
from typing import Final

from ingest.errors import InputError
from ingest.sources.formats import is_ndjson_name
from ingest.sources.remote import is_url, listed, shown

STDIN: Final = "-"

MAX_PARTS: Final = 1 << 15
"""Files of one run: a position has 15 bits for the file and 48 for the record, 63 in all, so that
it fits the signed integers of the journal."""

StrPath = str | os.PathLike[str]


def expand(
    paths: Sequence[StrPath], *, lists: bool = False, tables: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (the inputs that are meant, in order; what was left out of directories).

    Globs and directories expand sorted, directories to the NDJSON files right in them (with `lists`
    to .txt and .csv too, with `tables` to tables), by name; URLs stay as they are. A folder that is
    left out has a slash at its end. Raises `InputError` for what matches nothing, is not there,
    holds no NDJSON, or is named twice (its records would be sent twice).
    """
    found: list[str] = []
    ignored: list[str] = []
    for path in paths:
        for match in _matches(os.fspath(path)):
            if not is_url(match) and os.path.isdir(match):
                found.extend(_of_directory(match, ignored, lists=lists, tables=tables))
            else:
                found.append(match)
    if not found:
        raise InputError("No input is named: give a file, a directory, a glob, or - for stdin.")
    if len(found) > MAX_PARTS:
        raise InputError(
            f"{len(found):,} files are more than one run takes ({MAX_PARTS:,}): "
            "join some of them, or import them in several runs."
        )
    _refuse_twice(found)
    return tuple(found), tuple(ignored)


def raw_size(path: str) -> int | None:
    """Return the bytes of a regular file, None for stdin and pipes. Raises `InputError`."""
    if path == STDIN:
        return None
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {why(error)}.") from None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def why(error: Exception) -> str:
    """Say what the system said, without the path, which the sentence around it names."""
    return getattr(error, "strerror", None) or str(error)


def _matches(path: str) -> list[str]:
    """Return what one argument stands for: itself if it is there, else what its pattern matches."""
    if path == STDIN:
        return [path]
    if is_url(path):
        return listed(path)
    try:
        os.stat(path)
    except (OSError, ValueError) as error:
        problem = error
    else:
        return [path]
    if glob.has_magic(path):
        matches = sorted(glob.glob(path, recursive=True))
        # `**` matches directories and their files: the files are meant then.
        if matches := [match for match in matches if not os.path.isdir(match)] or matches:
            return matches
        raise InputError(f"{path} matches no file.")
    if isinstance(problem, FileNotFoundError):
        raise InputError(f"{path} does not exist.")
    raise InputError(f"{path} cannot be opened: {why(problem)}.")


def _of_directory(path: str, ignored: list[str], *, lists: bool, tables: bool) -> list[str]:
    """Return the NDJSON files of a directory, and note what else it holds."""
    try:
        entries = sorted(
            os.path.join(entry.path, "") if entry.is_dir() else entry.path
            for entry in os.scandir(path)
            if not entry.name.startswith(".")
        )
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {why(error)}.") from None
    taken = [entry for entry in entries if is_ndjson_name(entry, lists=lists, tables=tables)]
    if not taken:
        endings, what = ".ndjson, .jsonl or .json", "NDJSON files"
        if lists:
            endings, what = ".ndjson, .jsonl, .json, .txt or .csv", "files to send"
        elif tables:
            endings, what = ".ndjson, .jsonl, .json, .csv, .tsv or .parquet", "files to import"
        raise InputError(
            f"{path} is a directory without {what} ({endings}, also with .gz or .zst)."
        )
    ignored.extend(entry for entry in entries if entry not in taken)
    return taken


def _refuse_twice(found: list[str]) -> None:
    """Raise if two names lead to one file."""
    seen: set[str] = set()
    for name in found:
        real = name if name == STDIN or is_url(name) else os.path.realpath(name)
        if real in seen:
            named = "stdin (-)" if name == STDIN else shown(name)
            raise InputError(f"{named} is named twice: its records would be sent twice.")
        seen.add(real)
