"""A schema of Batch CEP, and what it makes of records of one kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ingest.intake import Intake, IntakeRules
from ingest.sinks.batchcep.names import Names
from ingest.sinks.batchcep.settings import BatchCepSettings
from ingest.sinks.batchcep.translation import BatchCepSchema
from ingest.taken import Taken

NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
TIME = "2026-01-02T03:00:00Z"
ID = {"external_id": "u1"}
EVENT = ID | {"name": "paid", "time": TIME}


def schema_of(names: Names | None = None, **chosen: Any) -> BatchCepSchema:
    """A schema with these settings."""
    return BatchCepSchema(BatchCepSettings(**chosen), names)


def taken_by(
    schema: BatchCepSchema, kind: str, *records: Mapping[str, Any], **rules: Any
) -> list[Taken]:
    """Let an intake judge records of one kind."""
    lines = [json.dumps({kind: record}).encode() for record in records]
    return list(Intake(IntakeRules(**rules), schema).take(0, lines, 1, NOW))


def refused(schema: BatchCepSchema, kind: str, *records: Mapping[str, Any]) -> list[Any]:
    """Return (line, code, field) of the records that are refused."""
    return [
        (refusal.line, refusal.code, refusal.field)
        for taken in taken_by(schema, kind, *records)
        for refusal in taken.refusals
    ]


def sent(schema: BatchCepSchema, kind: str, *records: Mapping[str, Any], **rules: Any) -> list[Any]:
    """Return the pieces of the records that are taken."""
    return [
        json.loads(bytes(fragment))[0]
        for taken in taken_by(schema, kind, *records, **rules)
        for chunk in taken.chunks
        for fragment in chunk.fragments
    ]
