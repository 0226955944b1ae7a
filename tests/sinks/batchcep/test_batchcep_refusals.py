"""Which records Batch CEP refused as a whole, and which in part: held to what the sandbox takes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.outcomes import Delivered, ItemError, Response
from ingest.records import Batch, Column
from ingest.sandbox.edits import judge_edits
from ingest.sinks.batchcep import ENDPOINTS, BatchCepWire
from ingest.sinks.batchcep.answers import UNTOLD_OF
from ingest.sinks.batchcep.folding import Edits
from ingest.sinks.batchcep.settings import BatchCepSettings

NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
WIRE = BatchCepWire(ENDPOINTS["update"], "k", "p", BatchCepSettings())

_ATTRIBUTES = st.dictionaries(st.sampled_from("abc"), st.sampled_from([1, ""]), max_size=3)
_EVENTS = st.fixed_dictionaries(
    {"name": st.sampled_from(["seen", "paid"])}, optional={"time": st.just("no time")}
)
_ROWS = st.lists(
    st.tuples(st.sampled_from(["u1", "u2"]), st.one_of(_ATTRIBUTES, _EVENTS)), max_size=12
)


@given(_ROWS)
def test_what_the_sandbox_refuses_is_rejected_or_a_piece(
    rows: list[tuple[str, dict[str, Any]]],
) -> None:
    """A record is rejected if and only if something of it was sent and nothing of it was taken.

    Of events of one name as many are rejected as were refused: the first of them.
    """
    slots = [1 if "name" in piece else 0 for _, piece in rows]
    columns = []
    for slot in range(3):
        at = [i for i in range(len(rows)) if slots[i] == slot]
        fragments = [json.dumps([rows[i][1], rows[i][1]]).encode() for i in at]
        columns.append(Column.of(fragments, [rows[i][0] for i in at], at, at))
    batch = Batch(1, 1, tuple(columns))
    errors = judge_edits(json.loads(Edits(batch).body()), NOW).errors
    body = json.dumps({"code": "PARTIAL" if errors else "SUCCESS", "errors": errors}).encode()
    outcome = WIRE.interpret(batch, Response(202, {}, body, 0.0))
    assert isinstance(outcome, Delivered)

    rejected, pieces = set[int](), set[int]()
    for i, (user, piece) in enumerate(rows):
        if slots[i] == 0:
            later = [other for j, (of, other) in enumerate(rows) if j > i and of == user]
            over = {key for other in later if "name" not in other for key in other}
            sent = [value for key, value in piece.items() if key not in over]
            if sent and not any(sent):
                rejected.add(i)
            elif not all(sent):
                pieces.add(i)
        else:
            same = [
                j
                for j, (of, other) in enumerate(rows)
                if slots[j] == 1 and (of, other["name"]) == (user, piece["name"])
            ]
            refused = sum("time" in rows[j][1] for j in same)
            if i in same[:refused]:
                rejected.add(i)
            letters = [each for each in outcome.rejected if at_of(batch, each) == i]
            told = not any(UNTOLD_OF.format(len(same)) in each.reason for each in letters)
            assert told == (len(same) == 1 or not letters)
    assert {at_of(batch, each) for each in outcome.rejected} == rejected
    assert {at_of(batch, each) for each in outcome.pieces} == pieces


def at_of(batch: Batch, letter: ItemError) -> int:
    return batch.columns[letter.slot].positions[letter.index]
