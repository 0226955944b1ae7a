"""How many bad records are too many, and what is said then."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.balance import Balance
from ingest.errors import ConfigError
from ingest.tolerance import SHARE_FROM, parse_tolerance

COUNTS = st.integers(0, 100_000)


@given(st.integers(1, 100_000), COUNTS, COUNTS, st.booleans())
def test_a_number_halts_as_soon_as_it_is_reached(n: int, bad: int, more: int, ended: bool) -> None:
    """Whatever was read, and whether or not there is more."""
    assert parse_tolerance(f"{n}").exceeded(bad, bad + more, ended=ended) == (bad >= n)


@given(st.integers(1, 99_999), COUNTS, COUNTS)
def test_a_share_halts_once_it_is_exceeded(thousandths: int, bad: int, more: int) -> None:
    """At the end always, before that only of enough records; exactly that share is borne."""
    tolerance = parse_tolerance(f"{thousandths // 1000}.{thousandths % 1000:03d}%")
    read = bad + more
    exceeded = bad * 100_000 > thousandths * read
    assert tolerance.exceeded(bad, read, ended=True) == exceeded
    assert tolerance.exceeded(bad, read, ended=False) == (exceeded and read >= SHARE_FROM)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "%", "1 %%", "0", "0%", "0.0 %", "100%"])
def test_what_makes_no_sense_is_a_sentence(text: str) -> None:
    """It names the option, and what is allowed instead."""
    with pytest.raises(ConfigError, match="--max-bad"):
        parse_tolerance(text)


def test_shares_may_have_a_fraction_and_space() -> None:
    """As people write them."""
    assert parse_tolerance(" 0.5 % ").limit == Fraction(1, 2)


def filled(invalid: int, rejected: int, good: int) -> Balance:
    """A balance of some records, the invalid ones for two reasons."""
    balance = Balance()
    balance.read("event", invalid + rejected + good)
    balance.settle("event", "invalid", invalid)
    balance.settle("event", "rejected", rejected)
    for code, count in (("rare", 1), ("missing-time", invalid)):
        balance.explain(code, "", "invalid", "why", "in:1", count)
    balance.explain("too-long", "", "warned", "why", "in:1", 1_000_000)
    return balance


def test_the_verdict_says_how_many_why_and_how_to_go_on() -> None:
    """Warnings are no reason; where the letters are is told."""
    tolerance = parse_tolerance("5")
    balance = filled(3, 2, 1_000)
    why = tolerance.verdict(balance, "letters.ndjson", ended=False, resumable=True)
    assert why is not None
    assert why.startswith("5 of 1,005 records read are invalid or rejected, and --max-bad is 5.")
    assert "'missing-time'" in why
    assert "letters.ndjson" in why
    assert why.endswith("goes on")
    again = tolerance.verdict(balance, "x", ended=False, resumable=False)
    assert again is not None
    assert again.endswith("begins anew")


def test_there_is_no_verdict_while_it_is_borne() -> None:
    """One bad record is told in the singular."""
    tolerance = parse_tolerance("1")
    assert tolerance.verdict(filled(0, 0, 9), "x", ended=True, resumable=True) is None
    found = tolerance.verdict(filled(1, 0, 9), "x", ended=True, resumable=True)
    assert found is not None
    assert found.startswith("1 of 10 records read is invalid")
