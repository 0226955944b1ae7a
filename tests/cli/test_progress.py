"""What is shown while a run goes on."""

from __future__ import annotations

import io

from rich.console import Console

from ingest.cli.progress import Notices


def test_a_notice_is_shown_as_it_is() -> None:
    """What a destination says may look like markup, and is printed all the same."""
    out = io.StringIO()
    Notices(Console(file=out, width=20)).notice(r"x \[/b] [red]y[/] and what is longer than that")
    assert out.getvalue() == "! x \\[/b] [red]y[/] and what is longer than that\n"
