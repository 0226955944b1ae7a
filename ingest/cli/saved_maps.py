"""A saved map: what was decided of a table, as a file to look at, to edit, and to import with.

Decides which file may be overwritten (none that somebody wrote) and what stands above the mapping.
What the mapping says is decided in `ingest.columns`. The one module that writes TOML.
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import tomli_w

from ingest.appending import PRIVATE
from ingest.columns import Plan
from ingest.columns.cells import VALUE
from ingest.errors import ConfigError, InputError, LocalFailure
from ingest.sources.rejects import ALL_NOTES

T = TypeVar("T")

_MARK: Final = "v"
"""The key that a saved map has, and one that somebody wrote has no reason to have."""


def check_saved_map(path: Path) -> None:
    """Refuse a file that is not to be overwritten, or that could not be written.

    Raises `ConfigError`. Nothing is made.
    """
    if path.is_dir():
        raise ConfigError(f"--save {path} cannot be written: it is a folder; name a file")
    parent = path.resolve().parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"--save {path} cannot be written: {parent} is no folder for it")
    if path.exists() and not _is_saved_map(path):
        raise ConfigError(
            f"--save {path} would overwrite a file that is no saved map: name another one"
        )


def _is_saved_map(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return _MARK in tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False


def only_one(tables: Iterable[T]) -> T:
    """Return the one table that a map can hold, or its plan. Raises `InputError` if it is not one.

    `tables` has an entry for each different header.
    """
    found = list(tables)
    if not found:
        raise InputError(
            "--save keeps what is decided of the columns of a table, and no input is one: leave it "
            "out"
        )
    if len(found) > 1:
        raise InputError(
            f"--save keeps the columns of one table, and these inputs have {len(found)} different "
            "headers: plan those of each header by themselves"
        )
    return found[0]


def saved_map(plan: Plan, command: str) -> bytes:
    """Return the text of a saved map; `command` is the one that imports with it."""
    lines = [
        "What the columns of a table become: made by `ingest plan --save`, and overwritten by it.",
        "It may be edited: to = another name or path, type = string, number, integer, boolean,",
        "json or date, drop = true, on_bad_field = reject or drop.",
        "",
        f"  {command}",
    ]
    return _written(lines, plan.to_dict())


def rejects_map(plan: Plan, types: Mapping[str, str], command: str) -> bytes:
    """Return the map by which bad rows that were mended are what they were meant to be.

    Few rows do not tell the types that many did. `types` are those of columns that had them in the
    input, by name. What the bad rows do not have is left out: notes of an earlier file of them.
    """
    mapping = plan.to_dict()
    mapping.pop("typed", None)
    columns = {name: told for name, told in mapping["columns"].items() if name not in ALL_NOTES}
    for name, told in columns.items():
        if told.get("type") == VALUE:
            told |= {"type": types[name]} if name in types else {}
    lines = ("What the columns of the bad rows are, as in the run that they are of.", "", command)
    return _written(lines, mapping | {"columns": columns})


def _written(lines: Iterable[str], mapping: Mapping[str, Any]) -> bytes:
    head = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    return f"{head}\n{tomli_w.dumps(mapping)}".encode()


def write_saved_map(path: Path, text: bytes, *, called: str = "--save ") -> None:
    """Write a saved map as a whole, private to the user. Raises `LocalFailure`.

    Constants are values of records, and a header may say a lot about people too.
    """
    beside = path.with_name(f"{path.name}.new")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
        with os.fdopen(fd, "wb") as file:
            file.write(text)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise LocalFailure(f"{called}{path} cannot be written: {error.strerror}") from error
