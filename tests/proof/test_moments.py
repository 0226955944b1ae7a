"""Which moment a text means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.proof.moments import moment

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-01T12:00:00Z",
        "2026-11-01T13:00:00+01:00",
        "2026-11-01 12:00:00",
        "2026-11-01 07:00:00 -0500",
        "2026-11-01T12:00:00:000Z",
        "2026-11-01T12:00:00.000Z",
    ],
)
def test_one_moment_in_many_forms(text: str) -> None:
    """A zone is minded; without one a time is UTC."""
    assert moment(text) == NOON


@pytest.mark.parametrize("text", ["2026-11-01", "11/01/2026"])
def test_a_day_begins_at_midnight(text: str) -> None:
    """As the destination stores it."""
    assert moment(text) == NOON - 12 * 3600


@pytest.mark.parametrize(
    "value", [None, 5, "", "soon", "20261101", "2026-13-01", "2026-11-01x", "13/40/2026"]
)
def test_what_is_no_time_has_no_moment(value: object) -> None:
    """Nothing is guessed."""
    assert moment(value) is None


@given(
    st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)),
    st.integers(-12, 14),
)
def test_the_zone_a_time_is_written_in_makes_no_difference(naive: datetime, hours: int) -> None:
    """Every spelling of a moment is that moment."""
    at = naive.replace(tzinfo=UTC)
    there = at.astimezone(timezone(timedelta(hours=hours)))
    assert moment(there.isoformat()) == moment(at.isoformat()) == at.timestamp()
