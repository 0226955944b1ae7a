"""Dates in cells, and their zones."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.columns.times import all_times, count_zoneless, zone_of, zoned
from ingest.errors import ConfigError
from ingest.validation.times import is_time

PARIS = ZoneInfo("Europe/Paris")


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.datetimes().map(lambda at: at.isoformat(" ", "seconds")),
            st.datetimes().map(datetime.isoformat),
            st.dates().map(str),
            st.from_regex(
                r"\A[0-3]\d{3}-[01]\d-[0-3]\d([T ][0-2]\d:[0-6]\d(Z|[+-]\d\d:?\d\d)?)?\Z"
            ),
            st.sampled_from(["01/31/2024", "20240131T101500Z", "x", "2024-02-29\n2024-02-28"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_column_of_dates_is_one_by_the_rules(cells: list[str]) -> None:
    """The quick way over a column agrees with the documented formats."""
    assert all_times(cells) == all(map(is_time, cells))


@pytest.mark.parametrize(
    ("cell", "becomes"),
    [
        ("2024-01-31 10:00", "2024-01-31T10:00:00+01:00"),
        ("2024-07-31T10:00:01,5", "2024-07-31T10:00:01.5+02:00"),
        ("2024-07-31t10:00:01:123", "2024-07-31T10:00:01.123+02:00"),
        ("20240131T1015", "2024-01-31T10:15:00+01:00"),
        ("2024-03-31 01:59:59", "2024-03-31T01:59:59+01:00"),
        ("2024-03-31 03:00:00", "2024-03-31T03:00:00+02:00"),
        ("2024-10-27 02:30:00", "2024-10-27T02:30:00+02:00"),
        ("2016-12-31 23:59:60", "2016-12-31T23:59:60+01:00"),
        ("2024-01-31T10:00:00Z", "2024-01-31T10:00:00Z"),
        ("2024-01-31 10:00:00 -05", "2024-01-31 10:00:00 -05"),
        ("2024-01-31", "2024-01-31"),
        ("01/31/2024", "01/31/2024"),
    ],
)
def test_a_zone_is_added_where_there_is_none(cell: str, becomes: str) -> None:
    """With the offset of that very hour; a zone that is said stays, and a day is a day."""
    assert zoned(cell, PARIS, moment=False) == becomes


@pytest.mark.parametrize("cell", ["2024-01-31", "01/31/2024"])
def test_a_day_that_must_be_a_moment_begins_it(cell: str) -> None:
    """The time of an event that is a day is the midnight of that zone."""
    assert zoned(cell, PARIS, moment=True) == "2024-01-31T00:00:00+01:00"


@settings(deadline=None)
@given(st.datetimes(datetime(1950, 1, 1)), st.sampled_from(["Europe/Paris", "Asia/Kolkata", "UTC"]))
def test_the_offset_is_that_of_the_moment(at: datetime, name: str) -> None:
    """Whatever the day, also one on which the clock is changed; of an hour twice, the first."""
    zone, at = ZoneInfo(name), at.replace(fold=0)
    found = datetime.fromisoformat(zoned(at.isoformat(), zone, moment=False))
    assert found.replace(tzinfo=None) == at
    wanted = at.replace(tzinfo=zone).utcoffset()
    assert wanted is not None
    assert abs((found.utcoffset() or timedelta()) - wanted) < timedelta(minutes=1)


def test_times_without_a_zone_are_counted() -> None:
    """Days count only where they must be moments."""
    cells = [
        "2024-01-31 10:00",
        "2024-01-31",
        "01/31/2024",
        "2024-01-31T10:00:00Z",
        "x\n2024-01-31",
    ]
    assert count_zoneless(cells, moments=False) == 1
    assert count_zoneless(cells, moments=True) == 3


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../x", "Europe", "\0"])
def test_a_zone_there_is_not_is_refused(name: str) -> None:
    """With a sentence that says what a name looks like."""
    with pytest.raises(ConfigError, match="Europe/Paris"):
        zone_of(name)
