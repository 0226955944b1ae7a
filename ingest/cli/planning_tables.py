"""What a plan looks like to a person: what the columns become, what goes, what is wrong, how long.

Shows the report of a plan, and beside it samples of cells, which are in no report. What came from a
file is shown as text, with its control characters masked.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ingest.cli.columns import zones
from ingest.cli.planning import Planned
from ingest.columns import Plan
from ingest.settings import format_bytes, format_duration
from ingest.validation.problems import shown

MOST_PROBLEMS: Final = 20
"""Problems shown; the report has all of them."""

LONGEST_SAMPLE: Final = 24
"""Characters of a cell that are shown."""

COLOURS: Final = {"invalid": "red", "warned": "yellow"}

_NEVER: Final = 366 * 86_400.0
"""Seconds after which no date is named any more."""


def show_plan(console: Console, found: Planned, report: dict[str, Any]) -> None:
    """Print a plan."""
    for part in _parts(found, report):
        console.print(part, highlight=False, soft_wrap=isinstance(part, Text))


def _parts(found: Planned, report: dict[str, Any]) -> Iterator[RenderableType]:
    for plan in found.plans:
        yield _columns(plan)
        if plan.zoneless:
            yield Text(zones(plan), style="yellow")
    where = f"{report['sink']}, {report['endpoint']}"
    yield Text(f"Plan for {where}: nothing was sent", style="bold")
    if not report["records"]["read"]:
        yield Text("Nothing was read: the input holds no record")
        return
    yield _records(report)
    if report["problems"]:
        yield _problems(report["problems"])
    yield from _times(report["times"])
    if not report["records"]["would_go"]:
        yield Text("Nothing would be sent", style="red")
        return
    yield _needs(found, report)
    yield from _remarks(report)


def _columns(plan: Plan) -> Table:
    table = Table(title=f"Columns, as {plan.kind}", title_justify="left", title_style="bold")
    rows = plan.shown()
    names = ("column", "becomes", "type", "why")
    # A table with types of its own is read once, and so is a stream.
    for name in (*names, "such as") if any(row.samples for row in rows) else names:
        table.add_column(name, overflow="fold")
    for row in rows:
        name = shown((row.column,)) if row.column else ""
        samples = ", ".join(map(_sample, row.samples))
        cells = (name, row.becomes, row.type, row.why, samples)
        table.add_row(*map(Text, cells[: len(table.columns)]))
    return table


def _sample(cell: str) -> str:
    """Return a cell fit to be shown: what it does to a terminal is not for the file to say."""
    cut = cell if len(cell) <= LONGEST_SAMPLE else cell[: LONGEST_SAMPLE - 1] + "…"
    return "".join(c if c.isprintable() else "?" for c in cut)


def _records(report: dict[str, Any]) -> Table:
    table = Table()
    table.add_column("records")
    for name in ("read", "would go", "invalid"):
        table.add_column(name, justify="right", style=COLOURS.get(name))
    kinds = {kind: row for kind, row in report["kinds"].items() if row["read"]}
    for kind, row in kinds.items():
        table.add_row(kind, *map(_figure, (row["read"], row["would_go"], _invalid(row))))
    table.add_section()
    row = report["records"]
    table.add_row("all", *map(_figure, (row["read"], row["would_go"], _invalid(row))), style="bold")
    return table


def _invalid(row: dict[str, int]) -> int:
    return row["read"] - row["would_go"]


def _figure(count: int) -> str:
    return f"{count:,}" if count else "-"


def _problems(problems: list[dict[str, Any]]) -> Table:
    table = Table(
        title="Problems", title_justify="left", title_style="bold", caption_justify="left"
    )
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("column", no_wrap=True)
    table.add_column("code", no_wrap=True)
    table.add_column("reason", overflow="fold")
    table.add_column("first at", overflow="fold")
    for one in problems[:MOST_PROBLEMS]:
        table.add_row(
            f"{one['count']:,}",
            Text(one["column"], style=COLOURS[one["column"]]),
            Text(one["code"]),
            Text(one["reason"]),
            Text(_places(one["examples"])),
        )
    if (left := len(problems) - MOST_PROBLEMS) > 0:
        table.caption = f"and {left:,} more: --report FILE has them all"
    return table


def _places(places: list[str]) -> str:
    """Join FILE:LINE, with the name of a file once."""
    said: list[str] = []
    last = ""
    for place in places:
        name, _, line = place.rpartition(":")
        said.append(line if name == last else place)
        last = name
    return ", ".join(said)


def _times(times: dict[str, Any]) -> Iterator[Text]:
    if times["earliest"] is None:
        return
    yield Text(f"Events and purchases happened from {times['earliest']} to {times['latest']}")
    if old := times["older_than_a_day"]:
        yield Text(
            f"! {old:,} of them {_are(old)} older than a day: to the destination they happen now, "
            "so live campaigns and canvases may fire on them",
            style="yellow",
        )
    if future := times["in_the_future"]:
        yield Text(
            f"! {future:,} of them {_are(future)} in the future: the destination may take the time "
            "at which it gets them instead",
            style="yellow",
        )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _needs(found: Planned, report: dict[str, Any]) -> Table:
    table = Table(
        title="An import needs", title_justify="left", title_style="bold", show_header=False
    )
    table.add_column("what", no_wrap=True)
    table.add_column("how much", overflow="fold")
    for what, much in _rows(found, report):
        table.add_row(what, Text(much))
    return table


def _rows(found: Planned, report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    users, requests = report["users"], report["requests"]
    about = "" if users["exact"] else "about "
    yield "users", f"{about}{users['distinct']:,}"
    each = requests["records_each"]
    yield (
        "requests",
        f"{requests['needed']:,}, of {each:g} record{'' if each == 1 else 's'} on average, at "
        f"{requests['limits']}",
    )
    yield "bytes of the bodies", format_bytes(requests["bytes"])
    points = report["data_points"]
    if points is None:
        yield "data points", f"none: {report['sink']} does not bill that way"
    else:
        said = ", ".join(
            f"{points[kind]:,} for {what}"
            for kind, what in (
                ("attributes", "attributes"),
                ("event", "events"),
                ("purchase", "purchases"),
            )
            if points[kind]
        )
        yield "data points, if billed", f"{points['total']:,}" + (f" ({said})" if said else "")
        extra = points["only_if_enabled_for_segmentation"]
        if any(extra.values()):
            yield (
                "and, if enabled for segmentation",
                f"{extra['event_properties']:,} for properties of events, "
                f"{extra['purchase_properties']:,} for those of purchases",
            )
        if points["if_each_unit_is_a_purchase"] != points["total"]:
            yield (
                "or, by units bought",
                f"{points['if_each_unit_is_a_purchase']:,} data points, if each unit of a quantity "
                "is a purchase of its own",
            )
    yield "time", _time(found, report)


def _time(found: Planned, report: dict[str, Any]) -> str:
    rate, done = report["rate"], found.assumed.done
    limits = ", ".join(rate["limits"])
    unit = "" if rate["counts"] == "requests" else " users"
    by = _by(found.now, found.lasts)
    if not limits:
        return f"no limit of a rate; reading took {format_duration(found.seconds)} here"
    said = f"at the rate of {limits}{unit}: {format_duration(done.seconds)}"
    if found.seconds > done.seconds:
        return f"{said}; reading alone took {format_duration(found.seconds)} here, done {by}"
    binds = (
        f"; {rate['binds']}{unit} is what binds" if done.binds and len(rate["limits"]) > 1 else ""
    )
    return f"{said}, done {by}{binds}"


def _by(now: float, seconds: float) -> str:
    """Say when something that lasts so long is over, by the clock on the wall."""
    if seconds > _NEVER:
        return "in more than a year"
    begins, ends = (datetime.fromtimestamp(at) for at in (now, now + seconds))
    if ends.date() == begins.date():
        return f"by {ends:%H:%M}"
    if ends.date() == begins.date() + timedelta(days=1):
        return f"by {ends:%H:%M} tomorrow"
    return f"by {ends:%Y-%m-%d %H:%M}"


def _remarks(report: dict[str, Any]) -> Iterator[Text]:
    rungs = report["requests"]["if_the_account_takes"]
    if len({rung["requests"] for rung in rungs}) > 1:
        each = "; ".join(f"{rung['limits']}: {rung['requests']:,} requests" for rung in rungs)
        yield Text(
            f"What the account takes is not known. {each}. Assumed is "
            f"{report['requests']['limits']}; --limits says another, and an import finds out by "
            "itself"
        )
