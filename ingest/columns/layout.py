"""From a header and what is said of it to the place of every column in an object.

Decides roles, and refuses a header before anything is sent: names that stand twice, a table that
names no user, two columns for one field. It sees no cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

import msgspec

from ingest.columns.cells import VALUE
from ingest.columns.mapping import Rules, Told, pieces_of
from ingest.columns.names import (
    ALIAS,
    ALIAS_PARTS,
    IDENTITY,
    PAYLOAD,
    Path,
    called,
    fault_of,
    field_of,
    fixed_type,
    is_kept_by_cdi,
    is_note,
    is_text,
    path_of,
)
from ingest.errors import ConfigError, InputError

MOST_NAMED: Final = 12
"""Columns listed in a sentence; the rest is counted."""


class AbsentColumns(ConfigError):
    """A mapping speaks of columns that a table has not; another table may have them.

    `absent` is (the name of the column, what speaks of it) of each.
    """

    def __init__(self, absent: Sequence[tuple[str, str]], names: Sequence[str]) -> None:
        self.absent: Final = tuple(absent)
        name, where = absent[0]
        super().__init__(
            f"{where} names a column {called(name)} that the table has not: "
            f"its columns are {_listed(names)}"
        )


_HINT: Final = "rename it in the header, or rename or drop it in a mapping (--map)"


class Place(msgspec.Struct, frozen=True):
    """What a column becomes: `path` is () if nothing; `type` is None where cells decide."""

    name: str
    path: Path
    type: str | None
    why: str
    on_bad_field: str = "reject"


def laid_out(header: Sequence[str], rules: Rules, kind: str) -> tuple[Place, ...]:
    """Return the place of each column, in the order of the header, whose names are stripped.

    Raises `InputError` for a header that cannot be, `ConfigError` for a mapping that is not of it.
    """
    names = [name.strip() for name in header]
    _check_names(names)
    _check_rules(names, rules)
    used = {
        piece.column
        for target, template in rules.templates.items()
        for piece in pieces_of(template, target)
    }
    cdi = any(
        path_of(told.to or name, kind) == (PAYLOAD,)
        for name in names
        if not (told := rules.columns.get(name, Told())).drop
    )
    places = tuple(
        _placed(name, rules.columns.get(name), kind, rules.typed, cdi, name in used)
        for name in names
    )
    extras = [path_of(name, kind) for name in (*rules.constants, *rules.templates)]
    _check_collisions(places, extras)
    _check_identity(places, extras, kind)
    if cdi:
        _check_cdi(places, extras)
    return places


def _check_names(names: list[str]) -> None:
    if not names:
        raise InputError("the table has no header: its first row must name the columns")
    for i, name in enumerate(names, start=1):
        if not name:
            raise InputError(f"column {i} of the header has no name: give it one")
        if not is_text(name):
            raise InputError(f"the name of column {i} of the header is no valid text: correct it")
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(
                f"the header names {called(name)} {count} times: rename or remove all but one"
            )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(called, names[:MOST_NAMED]))
    more = len(names) - MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _check_rules(names: list[str], rules: Rules) -> None:
    """See that every column the rules speak of is there."""
    asked = [
        (name, "--types" if name in rules.by_types else "the mapping")
        for name in ({} if rules.elsewhere else rules.columns)
    ]
    for target, template in rules.templates.items():
        where = f"the template of {called(target)}"
        asked += [(p.column, where) for p in pieces_of(template, where) if p.column is not None]
    if absent := [(name, where) for name, where in asked if name not in names]:
        raise AbsentColumns(absent, names)


def _placed(
    name: str, told: Told | None, kind: str, typed: bool, cdi: bool, in_template: bool
) -> Place:
    said = told or Told()
    if said.drop:
        return Place(name, (), None, "dropped, as told")
    if said.to is None:
        if is_note(name, kind):
            return Place(name, (), None, "begins with an underscore: a note, and not sent")
        if cdi and is_kept_by_cdi(name):
            return Place(name, (), None, "a column of cloud data ingestion's own")
        if in_template:
            return Place(name, (), None, "a part of a template")
        if (fault := fault_of(name, kind)) is not None:
            raise InputError(f"the column {called(name)} {fault}: {_HINT}")
    path = path_of(said.to or name, kind)
    bad = said.on_bad_field
    if said.type not in (None, VALUE):
        if path[0] in IDENTITY and path != (ALIAS,) and said.type != "string":
            raise ConfigError(
                f"the column {called(name)} says whose record it is, which is always a string: "
                f"leave its type out"
            )
        return Place(name, path, said.type, "as told", bad)
    if (fixed := fixed_type(path, kind, typed=typed)) is not None:
        return Place(name, path, *fixed, bad)
    if typed:
        return Place(name, path, VALUE, "of the type it has in the table", bad)
    return Place(name, path, None, "", bad)


def _check_collisions(places: Sequence[Place], extras: Sequence[Path]) -> None:
    """See that no two things go into one field, or one into a part of another."""
    seen: dict[Path, str] = {}
    inner: dict[Path, str] = {}
    for path, name in [
        *((place.path, f"the column {called(place.name)}") for place in places if place.path),
        *((path, f"what the mapping makes of '{field_of(path)}'") for path in extras),
    ]:
        above = [path[:i] for i in range(1, len(path))]
        other = seen.get(path) or inner.get(path)
        other = other or next((seen[step] for step in above if step in seen), None)
        if other is not None:
            raise InputError(
                f"{name} and {other} would both be '{field_of(path)}', or one a part of the other: "
                f"{_HINT}"
            )
        seen[path] = name
        inner |= dict.fromkeys(above, name)


def _check_identity(places: Sequence[Place], extras: Sequence[Path], kind: str) -> None:
    """See that rows can say whose they are, and that an alias has both of its parts."""
    paths = {*(place.path for place in places if place.path), *extras}
    if not any(path[0] in IDENTITY for path in paths):
        names = [place.name for place in places]
        close = (get_close_matches(n.lower().replace(" ", "_"), IDENTITY, 1, 0.8) for n in names)
        near = [(name, found[0]) for name, found in zip(names, close, strict=True) if found]
        hint = f" ({called(near[0][0])} may be meant for '{near[0][1]}')" if near else ""
        raise InputError(
            "no column says whose record a row is: one must be external_id, user_alias_name with "
            "user_alias_label, braze_id, email or phone; rename it, or say so in a mapping, such "
            f'as [columns.user_id] to = "external_id". The columns are {_listed(names)}{hint}'
        )
    given = [part for part in ALIAS_PARTS if part in paths]
    if len(given) == 1:
        lacks = next(part[1] for part in ALIAS_PARTS if part not in paths)
        raise InputError(
            f"the columns have one part of an alias, '{field_of(given[0])}', and no '{lacks}': add "
            f"it as a column or as a constant of a mapping, or drop the other"
        )


def _check_cdi(places: Sequence[Place], extras: Sequence[Path]) -> None:
    """See that a payload has nothing beside it but who it belongs to."""
    paths = [(called(place.name), place.path) for place in places if place.path]
    for name, path in [*paths, *((f"'{field_of(path)}'", path) for path in extras)]:
        if path[0] not in IDENTITY and path != (PAYLOAD,):
            raise InputError(
                f"a payload column is the whole object, and {name} stands beside it: put it into "
                f"the payload, or drop it in a mapping (--map)"
            )
