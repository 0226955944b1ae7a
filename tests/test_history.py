"""When events and purchases happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.history import CLOCK_SKEW, OLD, Span, instant

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31T12:00:00", NOON),
        ("2026-01-31 12:00:00", NOON),
        ("2026-01-31T13:00:00+01:00", NOON),
        ("2026-01-31 13:00:00 +0100", NOON),
        ("2026-01-31T12:00:00 UTC", NOON),
        ("2026-01-31T12:00:00:500Z", NOON + 0.5),
        ("2026-01-31T12:00:00.5Z", NOON + 0.5),
        ("2026-01-31T12:00:00.123456789Z", NOON + 0.123456),
        ("2026-01-31T11:59:60Z", NOON - 1),
        ("2026-01-31T11:59:60:500Z", NOON - 0.5),
        ("20260131T120000Z", NOON),
        ("2026-01-31", NOON - 12 * 3600),
        ("01/31/2026", NOON - 12 * 3600),
        ("Sat 01 31 12:00:00.UTC 2026", NOON),
        ("Sat Jan 31 12:00:00 CET 2026", NOON),
        ("yesterday", None),
        ("2026-02-30", None),
        ("Sat Jan 32 12:00:00 CET 2026", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("2026-01-31T12:00:00Z" + " " * 80, None),
    ],
)
def test_documented_forms_are_read(text: str, at: float | None) -> None:
    """Every form is a moment, of UTC where it names no zone; what is no time is none."""
    found = instant(text)
    assert found == (at if at is None else pytest.approx(at, abs=1e-6))


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2999, 12, 31)),
    st.integers(-12 * 60, 14 * 60),
)
def test_a_moment_is_itself_in_any_zone(at: datetime, minutes: int) -> None:
    """What ISO 8601 writes is read back, whatever the offset."""
    there = at.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=minutes)))
    assert instant(there.isoformat()) == pytest.approx(there.timestamp(), abs=1e-5)


@given(st.lists(st.floats(-5 * OLD, 5 * OLD).map(round), max_size=30), st.integers(0, 3))
def test_a_span_is_what_it_saw(offsets: list[int], unread: int) -> None:
    """First, last, old and future times are those of a list of all of them."""
    span = Span(NOW)
    moments = [NOW + offset for offset in offsets]
    for at in moments:
        span.see([datetime.fromtimestamp(at, UTC).isoformat()])
    span.see(["never", 5, None][:unread])
    assert (span.earliest, span.latest) == (
        min(moments, default=None),
        max(moments, default=None),
    )
    assert span.old == sum(at < NOW - OLD for at in moments)
    assert span.future == sum(at > NOW + CLOCK_SKEW for at in moments)
    assert (span.read, span.unread) == (len(moments), unread)
