"""What was decided of a table: the place and type of each column, to be shown, saved and kept.

Decides nothing by itself. A saved plan is a mapping that says everything, so it can be edited, used
for another file of the same columns, and frozen in a journal. Samples of cells are for the person
at the terminal: they are in no saved form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ingest.columns.layout import laid_out
from ingest.columns.mapping import (
    NULL_TEXT,
    VERSION,
    Piece,
    Rules,
    kind_of,
    parsed_rules,
    pieces_of,
)
from ingest.columns.names import PAYLOAD, Path, field_of, path_of
from ingest.columns.times import zone_of
from ingest.errors import ConfigError

UNDECIDED: Final = "text, unless told"
"""Why a column is text of which nothing is said, and whose cells were not looked at."""

MOST_SAMPLES: Final = 3
"""Cells of a column that are shown."""


class Column(msgspec.Struct, frozen=True):
    """One column of the table, in the order of its header.

    `path` is () for a column of which nothing is sent (`type` is "" then). `cells` counts those
    that are neither empty nor unset, `zoneless` those that are times without a zone, of a first
    pass; both are 0 where there was none.
    """

    name: str
    path: Path
    type: str
    on_bad_field: str = "reject"
    why: str = ""
    samples: tuple[str, ...] = ()
    cells: int = 0
    zoneless: int = 0


class Shown(NamedTuple):
    """A row of a plan for people. `samples` are personal data: for a terminal alone."""

    column: str
    becomes: str
    type: str
    why: str
    samples: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True):
    """How the rows of a table become objects of `kind`.

    `constants` and `templates` are by their dotted names. `null_text` is "" where no text unsets;
    `timezone` is None where times stay as they are. `typed`: the table has types of its own.
    """

    kind: str
    columns: tuple[Column, ...]
    null_text: str = NULL_TEXT
    timezone: str | None = None
    typed: bool = False
    constants: dict[str, Any] = {}
    templates: dict[str, str] = {}

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the columns, stripped, in their order: what rows have to be rows of."""
        return tuple(column.name for column in self.columns)

    @property
    def cdi(self) -> bool:
        """Whether rows are those of cloud data ingestion: who, and a payload."""
        return any(column.path == (PAYLOAD,) for column in self.columns)

    @property
    def zoneless(self) -> int:
        """Times without a zone that were counted; with a `timezone`, they get its offset."""
        return sum(column.zoneless for column in self.columns)

    def pieces(self) -> list[tuple[Path, tuple[Piece, ...]]]:
        """Return where each template goes, and its pieces."""
        return [
            (path_of(name, self.kind), pieces_of(template, name))
            for name, template in self.templates.items()
        ]

    def shown(self) -> list[Shown]:
        """Return what becomes of each column, then of constants and templates."""
        rows = [Shown(c.name, field_of(c.path), c.type, c.why, c.samples) for c in self.columns]
        for name in self.constants:
            becomes = field_of(path_of(name, self.kind))
            rows.append(Shown("", becomes, "constant", "the same in every record", ()))
        for name, template in self.templates.items():
            becomes = field_of(path_of(name, self.kind))
            rows.append(Shown(template, becomes, "string", "a template", ()))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as TOML and JSON can hold it: a mapping that leaves nothing open."""
        plan: dict[str, Any] = {"v": VERSION, "kind": self.kind, "null_text": self.null_text}
        if self.timezone is not None:
            plan["timezone"] = self.timezone
        if self.typed:
            plan["typed"] = True
        plan["columns"] = {column.name: _said(column) for column in self.columns}
        plan |= {
            key: dict(table)
            for key, table in (("constants", self.constants), ("templates", self.templates))
            if table
        }
        return plan

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Plan:
        """Return the plan that `to_dict` gave. Raises `ConfigError` for what is none."""
        rules = parsed_rules(raw)
        if rules.kind is None:
            raise ConfigError("a saved plan says its 'kind': this mapping is none")
        return planned(tuple(rules.columns), rules, rules.kind)


def _said(column: Column) -> dict[str, Any]:
    if not column.path:
        return {"drop": True}
    told: dict[str, Any] = {"to": ".".join(column.path), "type": column.type}
    return told if column.on_bad_field == "reject" else told | {"on_bad_field": "drop"}


def planned(header: tuple[str, ...], rules: Rules, kind: str) -> Plan:
    """Return the plan of a header by what is said alone; what nothing is said of is text.

    Raises `InputError` and `ConfigError` as `laid_out` does.
    """
    if rules.timezone is not None:
        zone_of(rules.timezone)
    columns = tuple(
        Column(place.name, place.path, _type_of(place.path, place.type), place.on_bad_field, why)
        for place in laid_out(header, rules, kind)
        for why in [place.why if place.type or not place.path else UNDECIDED]
    )
    return Plan(
        kind=kind_of(kind, "the kind"),
        columns=columns,
        null_text=NULL_TEXT if rules.null_text is None else rules.null_text,
        timezone=rules.timezone,
        typed=rules.typed,
        constants=rules.constants,
        templates=rules.templates,
    )


def _type_of(path: Path, given: str | None) -> str:
    return (given or "string") if path else ""
