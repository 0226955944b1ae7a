"""Which texts are dates and times."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.validation.times import is_day, is_late, is_time


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00z",
        "2026-01-31T12:00:00.123456789+01:00",
        "2026-01-31T12:00:00:123Z",
        "2026-01-31T12:00:00,5-0330",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00",
        "2026-01-31T12:00+01",
        "2026-01-31 12:00:00",
        "2019-02-15 00:00:00 -0500",
        "2026-01-31 12:00:00 UTC",
        "2016-12-31T23:59:60Z",
        "2024-02-29",
        "20260131T120000Z",
        "01/31/2026",
        "Sat 01 31 12:00:00.UTC 2026",
        "Sat 01 31 12:00:00.+0100 2026",
        "Sat Jan 31 12:00:00 +0000 2026",
    ],
)
def test_documented_formats_are_times(text: str) -> None:
    """Every documented format, with and without zone and fraction, and one seen in traffic."""
    assert is_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1700000000",
        "2023-02-29",
        "2026-13-01T00:00:00Z",
        "0000-01-01",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00Z ",
        "2026-01-31X12:00:00Z",
        "\u0662\u0660\u0662\u0666-01-31",
        "31/01/2026",
        "1/31/2026",
        "20261301T120000Z",
        "Sat Foo 31 12:00:00.UTC 2026",
        "Foo 01 31 12:00:00.UTC 2026",
        "2026-01-31\n",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    """Other formats, days outside of the calendar and other digits are no time."""
    assert not is_time(text)


@given(st.datetimes(timezones=st.none() | st.timezones()))
def test_every_iso_time_is_a_time(when: datetime) -> None:
    """What Python writes as ISO 8601 with whole minutes of offset is a time."""
    offset = when.utcoffset()
    if offset is None or offset.total_seconds() % 60 == 0:
        assert is_time(when.isoformat())
        assert is_time(when.isoformat(" ", "seconds"))


@given(st.dates())
def test_days_are_days(day: datetime) -> None:
    """A day is yyyy-MM-dd and in the calendar, without a time."""
    assert is_day(day.isoformat())
    assert not is_day(day.isoformat() + "T00:00:00")
    assert not is_day(day.isoformat()[:-2] + "32")


@pytest.mark.parametrize(
    ("text", "late"),
    [
        ("3000-12-31", False),
        ("3001-01-01", True),
        ("9999-12-31T23:59:59Z", True),
        ("12/31/3000", False),
        ("12/31/9999", True),
        ("Tue 12 31 23:59:59.UTC 3000", False),
        ("Tue 12 31 23:59:59.UTC 9999", True),
        ("9999-12-31 or never", False),
        ("12/ab", False),
        ("Tue the 5th", False),
        ("99991231T000000Z", False),
        ("plain", False),
    ],
)
def test_years_after_3000_are_late(text: str, late: bool) -> None:
    """Only what is a date as a whole can be late."""
    assert is_late(text) is late
