"""What the tests of tables share: a survey and its lines in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingest.codec import loads
from ingest.columns import Encoder, Options, Plan, Survey, Unfit


def plan_of(
    header: str, *rows: Sequence[str], kind: str | None = "attributes", **said: Any
) -> Plan:
    """Return the plan of a table whose header is written with commas."""
    survey = Survey(header.split(","), Options(kind=kind, **said))
    survey.add(rows)
    return survey.plan()


def objects(header: str, *rows: Sequence[str], kind: str | None = "attributes", **said: Any) -> Any:
    """Return what each row of a table becomes: the object in its envelope, or an `Unfit`."""
    plan = plan_of(header, *rows, kind=kind, **said)
    lines = Encoder(plan).encode(rows)
    return [x if isinstance(x, Unfit) else loads(x).get(plan.kind, loads(x)) for x in lines]
