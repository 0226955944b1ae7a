"""A run of the journal as it was: its inputs, how they were read, and what became of its records.

Decides whether an earlier run can be read again at all: by its name, with the very inputs it had.
Sends nothing, and knows nothing of what the reading is for.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from ingest.cli.journaling import PLANS
from ingest.codec import DecodeError, typed
from ingest.columns import Options, Plan, parsed_types
from ingest.errors import ConfigError, InputError, LocalFailure
from ingest.intake import Intake, IntakeRules
from ingest.proof import Doubts
from ingest.ranges import Ranges
from ingest.records import position
from ingest.sinks.base import Choice, Destination, HttpSink
from ingest.sinks.registry import DESTINATIONS
from ingest.sources.dialects import TableOptions
from ingest.sources.mixed import MixedSource
from ingest.sources.planning import TableColumns
from ingest.state import store
from ingest.state.identity import fingerprint
from ingest.state.journal import FINISHED, RUNNING, Run, runs_in

LAST: Final = "last"
"""What the latest run is called as well."""

UNKNOWN: Final = ("failed", "held")
"""Columns of dead letters whose records may have arrived all the same."""


class _Place(msgspec.Struct, frozen=True):
    name: str
    line: int


class _Letter(msgspec.Struct, frozen=True):
    """What is read of a dead letter here."""

    run: str
    column: str
    source: _Place


_LETTER: Final = typed(_Letter)


def run_called(name: str, state: Path) -> Run:
    """Return a run by its name, or the latest one. Raises `ConfigError` for none."""
    runs = runs_in(state)
    found = next((run for run in runs if name in (run.name, LAST)), None)
    if found is None:
        said = f"no run in {state} is called {name!r}" if name != LAST else f"no run is in {state}"
        raise ConfigError(f"{said}: `ingest status` lists them (--state says where)")
    if found.state == RUNNING:
        raise ConfigError(f"run {found.name} is still going on: wait for its end")
    return found


def later_runs(run: Run, state: Path) -> list[str]:
    """Return the names of later runs that delivered something to the same place."""
    return [
        other.name
        for other in runs_in(state)
        if other.started > run.started
        and other.delivered
        and other.identity.same_place(run.identity)
    ]


def destination_of(run: Run) -> Destination:
    """Return where a run sent to, if users can be read back there. Raises `ConfigError`."""
    known = [name for name, each in DESTINATIONS.items() if each.reads is not None]
    destination = DESTINATIONS.get(run.identity.sink)
    if destination is None or destination.reads is None:
        raise ConfigError(
            f"run {run.name} sent to {run.identity.sink}, which has no documented way to read a "
            f"user back: this is for {', '.join(known)}"
        )
    if run.identity.shape.get("endpoint") not in destination.endpoints:
        raise ConfigError(
            f"run {run.name} sent no attributes, events or purchases: no profile shows what it did"
        )
    if not run.delivered:
        raise ConfigError(f"run {run.name} delivered nothing: there is nothing to verify")
    return destination


def sink_of(run: Run, *, auth: str, allow_http: bool) -> HttpSink:
    """Open the destination of a run by the environment.

    Raises `ConfigError` for what is missing there, and for another host than that of the run.
    """
    shape = run.identity.shape
    choice = Choice(
        endpoint=shape["endpoint"],
        auth=auth,
        allow_http=allow_http,
        settings=shape.get("settings") or {},
    )
    sink = destination_of(run).open(os.environ, choice)
    if sink.host != run.identity.host:
        raise ConfigError(
            f"run {run.name} sent to {run.identity.host}, and the environment says {sink.host}: "
            "set it to where the run sent to"
        )
    return sink


def source_of(run: Run) -> MixedSource:
    """Open the inputs of a run as they were read then. Raises `InputError` for a changed one."""
    for item in run.identity.inputs:
        if fingerprint(Path(item.path)) != item:
            raise InputError(
                f"{item.path} was changed since run {run.name} read it: what it said then is not "
                "known any more. Put the file back"
            )
    shape = run.identity.shape
    told = Options(
        kind=shape.get("kind"),
        types=parsed_types(shape["types"]) if shape.get("types") else {},
        timezone=shape.get("timezone"),
        null_text=shape.get("null_text"),
        mapping=tomllib.loads(shape["map"]) if shape.get("map") else {},
    )
    options = TableOptions(shape.get("delimiter"), shape.get("encoding", "utf-8"))
    source = MixedSource(run.identity.paths, TableColumns(told), options=options)
    for form, saved in run.frozen.get(PLANS, {}).items():
        plans = map(Plan.from_dict, saved)
        source.go_by({form: {plan.header: plan for plan in plans}})
    return source


def intake_of(run: Run, sink: HttpSink) -> Intake:
    """Return an intake that judges as that of the run did."""
    shape = run.identity.shape
    return Intake(
        IntakeRules(
            kind=shape.get("kind"),
            on_bad_field=shape.get("on_bad_field", "reject"),
            strict=shape.get("strict", False),
            validate=not shape.get("no_validate", False),
            update_existing_only=shape.get("update_existing_only", False),
            largest=sink.endpoint.caps[0].body_bytes - sink.overhead - 1,
            even_if_older=shape.get("even_if_older", False),
        ),
        sink.schema,
    )


def doubts_of(run: Run, state: Path) -> Doubts:
    """Return what is known of the records that were not delivered.

    Raises `LocalFailure` for a journal or a dead-letter file that cannot be read.
    """
    rejected: list[int] = []
    unknown: list[int] = []
    part_of = _parts(run)
    for letter in _letters(Path(run.letters_path)):
        part = part_of(letter.source.name) if letter.run == run.name else None
        if part is None:
            continue
        if letter.column == "rejected":
            rejected.append(position(part, letter.source.line))
        elif letter.column in UNKNOWN:
            unknown.append(position(part, letter.source.line))
    return Doubts(rejected, unknown, _settled(run, state))


def letters_missing(run: Run) -> bool:
    """Whether records were refused, and the file that says which of them is not there."""
    told = sum(run.records[column] for column in ("rejected", *UNKNOWN))
    return told > 0 and not Path(run.letters_path).is_file()


def _settled(run: Run, state: Path) -> Ranges | None:
    if run.state == FINISHED:
        return None
    path = store.path_in(state)
    with store.reading(path) as db, store.told(path):
        return Ranges() if db is None else store.read(db, run.id).settled


def _letters(path: Path) -> Iterator[_Letter]:
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    yield _LETTER.decode(line)
                except (DecodeError, UnicodeDecodeError):
                    continue
    except OSError as error:
        raise LocalFailure(f"{path} cannot be read: {error.strerror}") from error


def _parts(run: Run) -> Callable[[str], int | None]:
    """Return what finds the part of an input by its name in a dead letter.

    That is how it was named then; where nobody knows that any more, the end of its path tells.
    """
    named, paths = (run.report or {}).get("source") or [], run.identity.paths
    known: dict[str, int] = {name: part for part, name in enumerate(paths)}
    if len(named) == len(paths):
        known |= {name: part for part, name in enumerate(named)}
    ends: dict[str, list[int]] = {}
    for part, path in enumerate(paths):
        ends.setdefault(Path(path).name, []).append(part)

    def part_of(name: str) -> int | None:
        same = ends.get(Path(name).name, [])
        return known.get(name, same[0] if len(same) == 1 else None)

    return part_of
