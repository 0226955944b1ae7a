"""Dates and times as Batch CEP takes them: RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sinks.batchcep.times import as_date, epoch, moment, rfc3339


@given(
    st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)),
    st.integers(-23 * 60, 23 * 60),
)
def test_a_time_with_a_zone_is_told_in_utc(local: datetime, minutes: int) -> None:
    """Whatever the offset, the moment stays the same."""
    aware = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    at = moment(aware.isoformat())
    assert at is not None
    assert at.replace(tzinfo=UTC) == aware
    assert epoch(at) == aware.timestamp()
    assert as_date(aware.isoformat()) == rfc3339(at)


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_none(text: str) -> None:
    """Nothing raises, and what is a date is a time as well."""
    if as_date(text) is not None:
        assert moment(text) is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", "2026-01-31T00:00:00Z"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00", "2026-01-31T12:00:00Z"),
        ("2026-01-31 12:00:00", "2026-01-31T12:00:00Z"),
        ("2026-01-31 12:00:00 UTC", "2026-01-31T12:00:00Z"),
        ("2026-01-31t12:00:00.5z", "2026-01-31T12:00:00.500000Z"),
        ("2026-01-31T12:00:00,123456789+02", "2026-01-31T10:00:00.123456Z"),
        ("2026-01-31T12:00:00:250-0530", "2026-01-31T17:30:00.250000Z"),
        ("2026-01-31T23:59:60Z", "2026-02-01T00:00:00Z"),
        ("20260131T120000Z", "2026-01-31T12:00:00Z"),
        ("01/31/2026", "2026-01-31T00:00:00Z"),
    ],
)
def test_documented_formats_are_read(text: str, expected: str) -> None:
    """The formats of Braze are times of events, without a zone in UTC."""
    at = moment(text)
    assert at is not None
    assert rfc3339(at) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2026-02-30",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:00:61Z",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+02:60",
        "0001-01-01T00:00:00+02:00",
        "9999-12-31T23:00:00-02:00",
        "9999-12-31T23:59:60Z",
        "13/31/2026",
        "Sat 01 31 12:00:00.PST 2026",
    ],
)
def test_what_is_no_moment_of_utc_is_none(text: str) -> None:
    """Neither what is not in the calendar, nor a zone by letters that mean many things."""
    assert moment(text) is None


@pytest.mark.parametrize(
    "text", ["20260131", "01/31/2026", "20260131T120000Z", "2026-31-01", "1234-x"]
)
def test_what_may_be_anything_is_no_date(text: str) -> None:
    """An attribute is a date only in the form that nothing else has."""
    assert as_date(text) is None
