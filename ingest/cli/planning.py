"""A plan: files read and judged as an import would, packed, and not sent.

Decides what is asked of which part of the core, and how the report of a plan is built. Reads in one
thread, waits for nothing, and opens no connection but those that an input needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import msgspec

from ingest.billing import DataPoints
from ingest.cli.assembly import Foreseen, foreseen
from ingest.cli.columns import Tables
from ingest.cli.options import SendOptions
from ingest.codec import loads
from ingest.columns import Plan
from ingest.distinct import Distinct
from ingest.findings import Findings
from ingest.finishing import Finish, finish
from ingest.forecast import Forecast
from ingest.history import Span
from ingest.intake import Intake
from ingest.profiles import Caps
from ingest.reading import judged
from ingest.records import ATTRIBUTES, EVENT, KIND_UNKNOWN, KINDS, PURCHASE, Batch, Column
from ingest.settings import parse_bytes
from ingest.sinks.base import HttpSink


class Watcher(Protocol):
    """Is told how far the reading is."""

    def read(self, consumed: int, records: int) -> None:
        """Take in the raw bytes and the records read so far."""
        ...


class Rung(msgspec.Struct, frozen=True):
    """What an import needs if the account takes `caps`: `done` is the time of the last request."""

    caps: Caps
    forecast: Forecast
    done: Finish


class Planned(msgspec.Struct, frozen=True):
    """All that a plan found out. `seconds` is how long it took, `now` the time of day at its end.

    `points` is None where the destination does not bill that way. `damage` says why an input could
    not be read to its end.
    """

    parts: Foreseen
    rungs: tuple[Rung, ...]
    findings: Findings
    users: Distinct
    span: Span
    points: DataPoints | None
    plans: tuple[Plan, ...]
    seconds: float
    now: float

    @property
    def assumed(self) -> Rung:
        """What is needed for all that is known."""
        return self.rungs[self.parts.assumed]

    @property
    def lasts(self) -> float:
        """Seconds that the import takes at least: never less than reading took here."""
        return max(self.assumed.done.seconds, self.seconds)


def planned(
    source: Tables,
    options: SendOptions,
    watching: Callable[[], AbstractContextManager[Watcher]],
    surveyed: Callable[[], Sequence[Plan]],
) -> Planned:
    """Read all, and return what an import of it needs. Raises `InputError` and `ConfigError`."""
    began = time.monotonic()
    parts, now = foreseen(options), time.time()
    sink = parts.sink
    findings, users, span = Findings(source.name), Distinct(), Span(now)
    points = DataPoints() if options.target.destination.data_points else None
    memory = parse_bytes(options.memory, what="--memory") // len(parts.rungs)
    forecasts = [
        _forecast(parts, at, memory, _Looking(sink, span, points)) for at in range(len(parts.rungs))
    ]
    surveyed()  # before the first record, so that its bar is gone by then
    intake, records = Intake(parts.rules, sink.schema), 0
    with watching() as watcher:
        for block in source.blocks():
            for taken in judged(intake, block, now):
                findings.take_in(taken)
                records += sum(taken.read.values())
                for chunk in taken.chunks:
                    users.add(chunk.keys)
                    for forecast in forecasts:
                        forecast.add(chunk)
            watcher.read(source.consumed(block), records)
    rungs = []
    for forecast in forecasts:
        needs = forecast.end()
        done = finish(parts.limits, needs.cost, each=needs.largest or 1)
        rungs.append(Rung(forecast.takes, forecast, done))
    return Planned(
        parts=parts,
        rungs=tuple(rungs),
        findings=findings,
        users=users,
        span=span,
        points=points,
        # Once more: a stream is looked at when it is read.
        plans=tuple(source.plan().values()),
        seconds=time.monotonic() - began,
        now=time.time(),
    )


def _forecast(parts: Foreseen, at: int, memory: int, looking: _Looking) -> Forecast:
    """Return the forecast for one rung; of the assumed one, bodies and records are looked at."""
    sink, (ladder, takes) = parts.sink, parts.rungs[at]
    make = partial(
        Forecast,
        slots=len(sink.endpoint.slots),
        overhead=sink.overhead,
        folding=sink.folding,
        ladder=ladder,
        takes=takes,
        memory=memory,
        cost_of=sink.endpoint.cost,
    )
    if at != parts.assumed:
        return make()
    return make(
        bytes_of=lambda batch: len(sink.wire.request(batch).body), accepted=looking.accepted
    )


class _Looking:
    """Looks at the records of requests, as they came: when they happened, and what they cost."""

    def __init__(self, sink: HttpSink, span: Span, points: DataPoints | None) -> None:
        self._sink = sink
        self._span = span
        self._points = points

    def accepted(self, batch: Batch) -> None:
        """Look at the records of a request."""
        for slot, column in enumerate(batch.columns):
            if len(column) and (slot != ATTRIBUTES or self._points is not None):
                self._see(slot, self._records(batch, slot, column))

    def _records(self, batch: Batch, slot: int, column: Column) -> list[dict[str, Any]]:
        came = [self._sink.record_of(batch, slot, one) for one in column.fragments()]
        try:
            found: list[dict[str, Any]] = loads(b"[%b]" % b",".join(came))
        except ValueError:  # one is nested so deeply that no more fits around it
            found = [_decoded(one) for one in came]
        return found

    def _see(self, slot: int, records: list[dict[str, Any]]) -> None:
        points = self._points
        if slot != ATTRIBUTES:
            self._span.see([record.get("time") for record in records])
        if points is None:
            return
        if slot == ATTRIBUTES:
            points.add_attributes(records)
        elif slot == EVENT:
            points.add_events(records)
        elif slot == PURCHASE:
            points.add_purchases(records)


def _decoded(record: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = loads(record)
    except ValueError:
        found = {}
    return found


# --- the report -----------------------------------------------------------------------------------


def report_of(found: Planned, source: Tables, options: SendOptions) -> dict[str, Any]:
    """Return the report of a plan, ready to be encoded as JSON. It holds no value of a record."""
    findings, sink = found.findings, found.parts.sink
    read, invalid = findings.read, findings.invalid
    needs = found.assumed.forecast.needs
    go = read.total() - invalid.total()
    done = found.assumed.done
    return {
        "v": 1,
        "source": list(source.names),
        "sink": options.to,
        "endpoint": sink.endpoint.name,
        "records": {"read": read.total(), "would_go": go, "invalid": invalid.total()},
        "of_which": {"warned": findings.warned},
        "kinds": {
            kind: {"read": read[kind], "would_go": read[kind] - invalid[kind]}
            for kind in (*KINDS, KIND_UNKNOWN)
        },
        "users": {"distinct": found.users.count, "exact": found.users.exact},
        "tables": [_table(plan) for plan in found.plans],
        "problems": [
            {
                "code": one.code,
                "field": one.field,
                "column": one.column,
                "reason": one.reason,
                "count": one.count,
                "examples": one.places,
            }
            for one in findings.found
        ],
        "times": _times(found.span),
        "requests": {
            "needed": needs.requests,
            "limits": caps_shown(found.assumed.caps),
            "records_each": round(go / needs.requests, 1) if needs.requests else 0.0,
            "bytes": needs.nbytes,
            "if_the_account_takes": [
                {
                    "limits": caps_shown(rung.caps),
                    "requests": rung.forecast.needs.requests,
                    "seconds": round(rung.done.seconds, 3),
                    "assumed": rung is found.assumed,
                }
                for rung in found.rungs
            ],
        },
        "data_points": None if found.points is None else _points(found.points),
        "rate": {
            "limits": [str(limit) for limit in found.parts.limits],
            "counts": sink.endpoint.counts,
            "cost": needs.cost,
            "binds": None if done.binds is None else str(done.binds),
        },
        "seconds": {
            "reading": round(found.seconds, 3),
            "at_the_rate": round(done.seconds, 3),
            "at_least": round(found.lasts, 3),
        },
        "done_by": moment(found.now + found.lasts),
    }


def caps_shown(caps: Caps) -> str:
    """Say how much a request takes."""
    if caps.users is not None:
        return f"{caps.users:,} users"
    if caps.total >= sum(caps.per_slot):
        return "/".join(map(str, caps.per_slot))
    return f"{caps.total:,} in total"


def moment(at: float | None) -> str | None:
    """Return an instant as text in UTC, to the second; None if there is none."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _table(plan: Plan) -> dict[str, Any]:
    columns = {column.name: column for column in plan.columns}
    return {
        "kind": plan.kind,
        "timezone": plan.timezone,
        "times_without_a_zone": plan.zoneless,
        "columns": [
            {"column": row.column, "becomes": row.becomes, "type": row.type, "why": row.why}
            | ({"cells": columns[row.column].cells} if row.column in columns else {})
            for row in plan.shown()
        ],
    }


def _times(span: Span) -> dict[str, Any]:
    return {
        "earliest": moment(span.earliest),
        "latest": moment(span.latest),
        "older_than_a_day": span.old,
        "in_the_future": span.future,
        "not_read": span.unread,
    }


def _points(points: DataPoints) -> dict[str, Any]:
    return {
        "total": points.total,
        "attributes": points.attributes,
        "event": points.event,
        "purchase": points.purchase,
        "only_if_enabled_for_segmentation": {
            "event_properties": points.event_properties,
            "purchase_properties": points.purchase_properties,
        },
        "if_each_unit_is_a_purchase": points.attributes + points.event + points.units,
    }
