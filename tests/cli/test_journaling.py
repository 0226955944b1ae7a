"""What is said of the journal of a run."""

from __future__ import annotations

import io

from rich.console import Console

from ingest.balance import Balance
from ingest.cli.journaling import say_unsure
from ingest.ranges import Ranges
from ingest.state.groups import Kept
from ingest.state.settling import Settling


def test_a_power_cut_is_said_with_what_it_may_cost() -> None:
    """In records, and what becomes of them; a kill leaves nothing to be said."""
    out = io.StringIO()
    console = Console(file=out)
    kept = Kept(doubtful=Ranges([(0, 5)]))
    say_unsure(console, Settling(Balance(), kept))
    assert out.getvalue() == ""
    say_unsure(console, Settling(Balance(), kept, doubt=10_000))
    assert "up to 10,005 records may have been sent" in out.getvalue()
