"""The options that every verb that sends has, and the values they become."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from ingest.errors import ConfigError
from ingest.records import KINDS

F = TypeVar("F", bound=Callable[..., Any])

KIND_NAMES = {kind: kind for kind in KINDS} | {"events": "event", "purchases": "purchase"}
"""Kinds as people write them: the plural is accepted."""

PROGRESS = ("auto", "bar", "plain", "none")
ENDPOINT_NAMES = ("track", "track-bulk")


class SendOptions(msgspec.Struct, frozen=True):
    """What the user asked for, as written; `ingest.cli.assembly` makes parts of it."""

    to: str | None
    kind: str | None
    endpoint: str
    limits: str
    rate: str | None
    share: str
    in_flight: str
    memory: str
    state: Path
    auth: str
    update_existing_only: bool
    if_unanswered: str
    on_bad_field: str
    strict: bool
    no_validate: bool
    give_up_after: str
    report: str | None
    dead_letters: Path | None
    progress: str
    allow_http: bool
    faults: str


def kind(_: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Return a kind of record in the singular; the callback of every `--kind`."""
    if value is not None and value not in KIND_NAMES:
        raise click.BadParameter(f"{value!r} is none of {', '.join(KINDS)}", param=option)
    return KIND_NAMES.get(value or "")


_OPTIONS = (
    click.option(
        "--to",
        metavar="SINK",
        help="Where to: sandbox (started inside this process), braze, or file:PATH (request "
        "bodies, one a line).",
    ),
    click.option(
        "--kind",
        callback=kind,
        metavar="KIND",
        help="Kind of bare objects and CDI rows: attributes, event or purchase.",
    ),
    click.option(
        "--endpoint",
        type=click.Choice(ENDPOINT_NAMES),
        default="track",
        show_default=True,
        help="Endpoint of Braze. track-bulk is a closed beta; its caps are unverified.",
    ),
    click.option(
        "--limits",
        default="auto",
        show_default=True,
        metavar="LIMITS",
        help="Records per request: per-array (75 of each kind), combined (75 in total), a number "
        "in total, or auto, which finds out and loses nothing by it.",
    ),
    click.option(
        "--rate",
        metavar="N/PERIOD[,...]",
        help="Requests per period, used in full: 250000/1h,3000/3s.  [default: what the endpoint "
        "documents, times --share]",
    ),
    click.option(
        "--share",
        default="80%",
        show_default=True,
        help="Share of the documented rate that this run takes; the rest is for others.",
    ),
    click.option(
        "--in-flight",
        default="adaptive",
        show_default=True,
        metavar="N",
        help="Requests in flight at once: a number, or adaptive.",
    ),
    click.option(
        "--memory",
        default="96MB",
        show_default=True,
        metavar="BYTES",
        help="Bytes for queue, look-ahead and bodies.",
    ),
    click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        default=".ingest",
        envvar="INGEST_STATE",
        show_envvar=True,
        show_default=True,
        metavar="DIR",
        help="Where dead letters and what was learned of the account are kept.",
    ),
    click.option(
        "--auth",
        type=click.Choice(("bearer", "body")),
        default="bearer",
        show_default=True,
        help="How the key is sent; body is for Braze accounts of 2018 to 2020.",
    ),
    click.option(
        "--update-existing-only",
        is_flag=True,
        help="Set _update_existing_only on every record that does not say: create no user.",
    ),
    click.option(
        "--if-unanswered",
        type=click.Choice(("resend", "hold")),
        default="resend",
        show_default=True,
        help="What to do with records whose request got no answer: they may have arrived. Plain "
        "attributes are resent in any case.",
    ),
    click.option(
        "--on-bad-field",
        type=click.Choice(("reject", "drop", "truncate")),
        default="reject",
        show_default=True,
        help="Where a field alone is bad: reject the record, drop the field, or shorten it.",
    ),
    click.option(
        "--strict",
        is_flag=True,
        help="Refuse what the destination would drop or alter in silence, instead of warning.",
    ),
    click.option(
        "--no-validate", is_flag=True, help="Ask for JSON and an identity, and nothing else."
    ),
    click.option(
        "--give-up-after",
        default="30m",
        show_default=True,
        metavar="TIME",
        help="How long the destination may be down.",
    ),
    click.option(
        "--report",
        metavar="FILE",
        help="Write the report there, as JSON; - is stdout.",
    ),
    click.option(
        "--dead-letters",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Append dead letters to this file.  [default: a file per run under --state]",
    ),
    click.option(
        "--progress",
        type=click.Choice(PROGRESS),
        default="auto",
        show_default=True,
        help="A bar on a terminal, plain lines elsewhere, or none.",
    ),
    click.option(
        "--allow-http",
        is_flag=True,
        help="Allow plain http to other machines: the key travels unencrypted.",
    ),
    click.option(
        "--faults",
        default="",
        metavar="SPEC",
        help="With --to sandbox: faults it plays, such as 503:10%,429:5%,reset-after:1%.",
    ),
)


def send_options(verb: F) -> F:
    """Add the options to a verb, in the order in which `--help` shows them."""
    for option in reversed(_OPTIONS):
        verb = option(verb)
    return verb


def collected(values: dict[str, Any]) -> SendOptions:
    """Make one value of the options; raise `ConfigError` for those that contradict each other."""
    options = SendOptions(**values)
    if options.to is None:
        raise ConfigError(
            "nothing says where to send: add --to sandbox to try it, --to braze, or --to file:PATH"
        )
    if options.strict and options.no_validate:
        raise ConfigError("--strict and --no-validate contradict each other: leave one of them out")
    if options.faults and options.to != "sandbox":
        raise ConfigError("--faults is for --to sandbox: nobody else plays faults on request")
    return options
