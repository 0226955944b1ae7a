"""What a run looks like when it is over: the balance, the reasons, and what to type next."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ingest.settings import format_duration

ALWAYS: Final = ("read", "delivered")
MOST_REASONS: Final = 12
"""Reasons shown; the report has all of them."""

NOT_DELIVERED: Final = ("rejected", "invalid", "failed", "held")
"""Columns of records that have a dead letter."""

COLOURS: Final = {
    "delivered": "green",
    "rejected": "red",
    "invalid": "red",
    "failed": "red",
    "held": "yellow",
    "pending": "yellow",
}


def show_report(console: Console, report: dict[str, Any], letters: tuple[str, int]) -> None:
    """Print the balance of a report; `letters` is the dead-letter file and how many are in it."""
    console.print(Group(*_parts(report, letters)), highlight=False)


def _parts(report: dict[str, Any], letters: tuple[str, int]) -> list[RenderableType]:
    parts: list[RenderableType] = [
        Text(f"Balance of run {report['run']}", style="bold"),
        _balance(report),
        Text(_requests(report), style="dim"),
    ]
    notes = [
        f"{count:,} {what}"
        for name, what in (
            ("queued", "queued by the destination, to be processed later"),
            ("warned", "with a warning, see below"),
            ("maybe_duplicated", "extra copies possible: resent after no answer came"),
        )
        if (count := report["of_which"][name])
    ]
    if notes:
        parts.append(Text("of which " + "; ".join(notes)))
    if report["reasons"]:
        parts.append(_reasons(report["reasons"]))
    if letters[1]:
        parts.append(Text(_dead_letters(report["records"], *letters)))
    if not report["records"]["read"] and report["state"] == "finished":
        parts.append(Text("Nothing was read: the input holds no record"))
    return parts


def _balance(report: dict[str, Any]) -> Table:
    totals = report["records"]
    columns = [name for name, count in totals.items() if count or name in ALWAYS]
    table = Table()
    table.add_column("records")
    for name in columns:
        table.add_column(name, justify="right", style=COLOURS.get(name))
    for kind, row in report["kinds"].items():
        if row["read"]:
            table.add_row(kind, *(_figure(row[name]) for name in columns))
    table.add_section()
    table.add_row("all", *(_figure(totals[name]) for name in columns), style="bold")
    return table


def _figure(count: int) -> str:
    return f"{count:,}" if count else "-"


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def _dead_letters(records: dict[str, int], path: str, written: int) -> str:
    """Say where they are: one for each record not delivered, and one for each piece refused."""
    said = f"{_counted(written, 'dead letter')} in {path}"
    pieces = written - sum(records.get(column, 0) for column in NOT_DELIVERED)
    if pieces > 0:
        said += f", {pieces:,} of them of records that are delivered all the same"
    return said


def _requests(report: dict[str, Any]) -> str:
    requests, seconds = report["requests"], report["seconds"]
    said = _counted(requests["sent"], "request")
    if requests["sent"]:
        each = requests["records_each"]
        said += f" of {each:g} record" + ("" if each == 1 else "s")
    said += f" in {format_duration(seconds)}"
    if (delivered := report["records"]["delivered"]) and seconds:
        said += f", {delivered / seconds:,.0f} records/s"
    if requests["by_status"]:
        statuses = (f"{count:,} x {name}" for name, count in requests["by_status"].items())
        said += f" ({', '.join(statuses)})"
    return said


def _reasons(reasons: list[dict[str, Any]]) -> Table:
    table = Table(title="Reasons", title_justify="left", title_style="bold", caption_justify="left")
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("column", no_wrap=True)
    # A code is searched for: on a narrow terminal the sentences give way, by folding.
    table.add_column("code", no_wrap=True)
    table.add_column("reason", overflow="fold")
    table.add_column("first at", overflow="fold")
    for reason in reasons[:MOST_REASONS]:
        table.add_row(
            f"{reason['count']:,}",
            Text(reason["column"], style=COLOURS.get(reason["column"], "yellow")),
            Text(reason["code"]),
            Text(reason["reason"]),
            Text(reason["example"]),
        )
    if (left := len(reasons) - MOST_REASONS) > 0:
        table.caption = f"and {left:,} more: --report FILE has them all"
    return table
