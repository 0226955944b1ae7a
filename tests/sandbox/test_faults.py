"""Faults: how they are written, drawn and scheduled."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.sandbox.faults import FAULTS, Faults, parse_faults


def test_every_documented_fault_exists() -> None:
    """The names are those of the command line."""
    assert set(FAULTS) == {
        *("500", "503", "502html", "403html", "429", "202", "reset-before", "reset-after"),
        *("504-after", "timeout", "slow"),
    }


def test_shares_are_fractions_or_percent() -> None:
    """Both forms mean the same."""
    assert parse_faults("500:0.1, 429:10%") == parse_faults("500:10%,429:0.1")
    assert parse_faults("") == ()


def test_shares_may_add_up_to_all() -> None:
    """Ten times a tenth is everything, whatever binary fractions say."""
    assert len(parse_faults(",".join(f"{name}:0.1" for name in list(FAULTS)[:10]))) == 10


@pytest.mark.parametrize("spec", ["501:0.1", "500", "500:x", "500:2", "500:-1%", "500:nan"])
def test_a_fault_that_makes_no_sense_is_refused(spec: str) -> None:
    """The error says what may be written."""
    with pytest.raises(ConfigError, match="fault"):
        parse_faults(spec)


def test_shares_above_one_are_refused() -> None:
    """A request meets one fault at most."""
    with pytest.raises(ConfigError, match="must not exceed 1"):
        parse_faults("500:0.6,503:0.6")


def test_the_same_seed_draws_the_same_faults() -> None:
    """A run can be repeated, also after a reset."""
    one, other = (Faults(parse_faults("500:0.3,slow:0.3"), seed=7) for _ in range(2))
    drawn = [one.draw(0.0) for _ in range(50)]
    assert drawn == [other.draw(0.0) for _ in range(50)]
    one.reset()
    assert drawn == [one.draw(0.0) for _ in range(50)]


@given(seed=st.integers(0, 2**32))
def test_shares_are_kept(seed: int) -> None:
    """Of many draws each fault gets about its share, and the rest meets none."""
    faults = Faults(parse_faults("500:0.2,429:0.3"), seed=seed)
    counts = Counter(fault.name if fault else "" for fault in (faults.draw(0) for _ in range(4000)))
    assert abs(counts["500"] / 4000 - 0.2) < 0.05
    assert abs(counts["429"] / 4000 - 0.3) < 0.05
    assert counts["500"] + counts["429"] + counts[""] == 4000


def test_a_schedule_replaces_the_standing_faults_until_its_end() -> None:
    """An outage of some seconds leaves what was before."""
    faults = Faults(parse_faults("202:1"))
    faults.schedule(parse_faults("503:1"), until=20.0)
    assert faults.draw(19.9) is FAULTS["503"]
    assert faults.draw(20.0) is FAULTS["202"]


def test_new_standing_faults_end_a_schedule() -> None:
    """`faults: ""` heals at once."""
    faults = Faults(parse_faults("202:1"))
    faults.schedule(parse_faults("503:1"), until=20.0)
    faults.replace(())
    assert faults.draw(1.0) is None
