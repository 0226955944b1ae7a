"""What `ingest verify` shows: how far it is, and in the end what is there and what is not.

Decides how much is printed. Names come from files, so they are masked; values are shown only if
somebody asked for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ingest.codec import dumps
from ingest.proof import Account, Difference
from ingest.records import UserKey
from ingest.validation.problems import shown

MOST_ROWS: Final = 40
"""Fields in the table: a screen of them, those with differences first."""

MOST_DIFFERENCES: Final = 20
MOST_CHARS: Final = 80
"""Of a value that is shown."""

LINE_EVERY: Final = 10.0
"""Seconds between lines of progress where there is no terminal."""


class Going:
    """How far something is, of `total`: a bar on a terminal, a line now and then elsewhere."""

    def __init__(
        self,
        console: Console,
        what: str,
        total: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._what = what
        self._total = total
        self._clock = clock
        self._said = clock()
        self._done = 0
        self._bar = Progress(
            TextColumn(what),
            BarColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal or not total,
        )
        self._task = self._bar.add_task("", total=total or None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def at(self, done: int) -> None:
        """Say how much is done."""
        self._done = done
        self._bar.update(self._task, completed=done)
        now = self._clock()
        if not self._console.is_terminal and now - self._said >= LINE_EVERY:
            self._said = now
            share = f"{min(done / self._total, 1.0):.0%}" if self._total else "going on"
            self._console.print(f"{self._what}: {share}", highlight=False)

    def more(self, done: int) -> None:
        """Say that so much more is done."""
        self.at(self._done + done)

    def back(self, undone: int) -> None:
        """Say that so much is to be done again."""
        self.at(max(0, self._done - undone))


def show_account(
    console: Console,
    account: Account,
    *,
    run: str,
    about: int,
    seed: int,
    place_of: Callable[[Difference], str],
    values: bool,
) -> None:
    """Show what was found: by field, in total, and what differs."""
    rows = account.ordered()
    table = Table(title=f"Run {run}, read back", title_justify="left", title_style="bold")
    table.add_column("field", overflow="fold")
    for name in ("checked", "there", "share", "not compared"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, count in rows[:MOST_ROWS]:
        style = "red" if count.there < count.checked else ""
        table.add_row(
            Text(shown((name,)), style=style),
            f"{count.checked:,}",
            f"{count.there:,}",
            Text(percent(count.there, count.checked), style=style),
            f"{count.untold:,}" if count.untold else "",
        )
    console.print(table, highlight=False)
    if (more := len(rows) - MOST_ROWS) > 0:
        console.print(f"and {more:,} more fields (--report has 1,000)", highlight=False)
    for why, fields in account.untold.most_common():
        _say(console, f"Not compared ({fields:,}): {why}")
    _show_differences(console, account, place_of, values=values)
    of = f"{account.users:,} of about {about:,}" if about > account.users else f"all {about:,}"
    users = f"{of} users"
    total = account.total
    if not total.checked:
        _say(console, f"Nothing of {users} could be compared", "yellow")
    else:
        said = (
            f"{percent(total.there, total.checked)} is there: {total.there:,} of "
            f"{total.checked:,} fields of {users}"
        )
        _say(console, said, "green" if account.good else "red")
    if about > account.users:
        _say(console, f"The same users again: --sample {account.users} --seed {seed}")


def _show_differences(
    console: Console,
    account: Account,
    place_of: Callable[[Difference], str],
    *,
    values: bool,
) -> None:
    if not account.differences:
        return
    _say(console, "Differences:", "bold")
    for difference in account.differences[:MOST_DIFFERENCES]:
        user = named(difference.key)
        if not difference.field:
            _say(console, f"  {user}: there is no such user")
            continue
        said = f"  {user}: {shown((difference.field,))}: {difference.what}"
        if values:
            said += f": {_value(difference.expected)} was sent, {_value(difference.found)} is there"
        _say(console, f"{said} ({place_of(difference)})")
    if (more := len(account.differences) - MOST_DIFFERENCES) > 0:
        _say(console, f"  and {more:,} more")
    if not values:
        _say(console, "  (--show-values shows what was sent and what is there)")


def named(key: UserKey) -> str:
    """Return what a user is called."""
    return shown((key,)) if isinstance(key, str) else " ".join(shown((part,)) for part in key)


def percent(there: int, checked: int) -> str:
    """Return a share that is 100 % only if it is all."""
    if not checked:
        return ""
    return "100 %" if there == checked else f"{min(there / checked * 100, 99.99):.2f} %"


def _value(value: Any) -> str:
    """Render a value: JSON without what moves a cursor, and not too much of it."""
    if value is None:
        return "nothing"
    text = dumps(value).decode()
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= MOST_CHARS else text[: MOST_CHARS - 1] + "…"


def _say(console: Console, said: str, style: str = "") -> None:
    console.print(Text(said, style=style), soft_wrap=True)
