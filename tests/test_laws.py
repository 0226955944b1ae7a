"""The laws hold for every row of the registry: a new one is tested by being added there.

Each row is played with its real schema, packing and wire against far ends of every kind
(`tests/playing.py`); ceilings, order and bodies are checked at every request, the rest at the end.
"""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.codec import dumps
from ingest.errors import DestinationDown
from ingest.outcomes import Delivered, Invalid, ItemError, Response, Throttled
from ingest.profiles import Caps
from tests.examples import examples
from tests.laws_at_the_end import check_all
from tests.laws_rows import EVERY_ROW, NOW, Habits, Plan, Row, batch_for, lines_of, plans_of
from tests.playing import play

EXAMPLES: Final = 40
"""Plays of each row: all rows together take some seconds."""

rows = pytest.mark.parametrize("row", EVERY_ROW, ids=str)


@rows
def test_the_laws_hold_for_every_row(row: Row) -> None:
    """Splits, throttling, failures, lost answers, bad records: all keep the laws, at any row."""
    wire = row.wire()

    @settings(max_examples=examples(EXAMPLES), deadline=None)
    @given(plans_of(wire))
    def holds(plan: Plan) -> None:
        check_all(play(wire, plan))

    holds()


def test_what_looks_like_an_outage_ends_the_run() -> None:
    """A bad record alone at the end is not told from one, though its batch was cut for another."""
    [row] = [row for row in EVERY_ROW if str(row) == "braze track"]
    wire = row.wire()
    plan = Plan(
        lines=lines_of(wire.endpoint, 12, 3, 1),
        caps=tuple(Caps((4, 4, 4), total, 3_800_000) for total in (12, 4, 2)),
        habits=Habits(takes=4, dislikes="broken"),
        poisoned=frozenset({1, 10}),
        hold=False,
        in_flight=1,
        seed=1,
    )
    played = play(wire, plan)
    check_all(played)
    assert played.state == "halted"
    assert isinstance(played.pipeline.error, DestinationDown)
    assert [line for line in played.far.known if line not in played.ended] == [10]


words = st.sampled_from(
    ("errors", "message", "index", "bulk_index", "input_array", "list", "reason")
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 99) | st.text(max_size=9) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=5),
    max_leaves=15,
)
statuses = st.integers(100, 599) | st.sampled_from((200, 201, 202, 207, 400))
bodies = st.binary(max_size=30) | junk.map(dumps)


@rows
def test_no_answer_confuses_a_wire(row: Row) -> None:
    """Any status and any body is an outcome, and what it refuses are records of the request."""
    wire = row.wire()
    batch = batch_for(wire)

    @settings(max_examples=examples(EXAMPLES), deadline=None)
    @given(
        st.integers(100, 599) | st.sampled_from((200, 201, 202, 207, 400)), bodies, st.booleans()
    )
    def total(status: int, body: bytes, truncated: bool) -> None:
        outcome = wire.interpret(batch, Response(status, {}, body, NOW, truncated))
        named: list[ItemError] = []
        if isinstance(outcome, Delivered | Invalid):
            named += outcome.rejected
        if isinstance(outcome, Delivered):
            named += outcome.pieces
        assert {(error.slot, error.index) for error in named} <= set(batch.rows())
        if status == 429:
            assert isinstance(outcome, Throttled)
        if isinstance(outcome, Delivered):
            assert 200 <= status < 300

    total()


@rows
def test_the_key_is_shown_nowhere(row: Row) -> None:
    """Neither a request nor an outcome shows the credential, even if the answer echoes it."""
    wire = row.wire()
    batch = batch_for(wire)
    assert wire.secrets
    request = wire.request(batch)
    for secret in wire.secrets:
        assert secret not in f"{request!r} {wire!r}"
        for status in (200, 202, 207, 400, 401, 403, 500):
            echo = {"message": secret, "error_message": secret, "errors": [secret]}
            outcome = wire.interpret(batch, Response(status, {}, dumps(echo), NOW))
            assert secret not in repr(outcome)


@rows
def test_what_must_not_repeat_says_so_of_every_record(row: Row) -> None:
    """An endpoint that may not be sent twice has no record that may."""
    wire = row.wire()
    batch = batch_for(wire)
    if not wire.endpoint.resendable:
        assert not any(
            wire.repeatable(slot, fragment)
            for slot, column in enumerate(batch.columns)
            for fragment in column.fragments()
        )
