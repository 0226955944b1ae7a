"""The options that the verbs that send have, and the values they become.

Decides what an option may say and which of them contradict each other, before anything is opened.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec

from ingest.assembly import AUTO, COMBINED, PER_ARRAY
from ingest.cli.targets import DEFAULT, Target, sinks
from ingest.cli.targets import target as target_of
from ingest.errors import ConfigError
from ingest.records import KINDS
from ingest.sinks.registry import DESTINATIONS
from ingest.tolerance import SHARE_FROM, parse_tolerance

F = TypeVar("F", bound=Callable[..., Any])

KIND_NAMES = {kind: kind for kind in KINDS} | {"events": "event", "purchases": "purchase"}
"""Kinds as people write them: the plural is accepted."""

PROGRESS = ("auto", "bar", "plain", "none")

BEARER: Final = "bearer"

ARGV: Final = "ingest.argv"
"""Where the words of the command line are, as they were typed, in the `meta` of its context."""


class SendOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for, as written; `ingest.cli.assembly` makes parts of it.

    Only `target` is read already: it is where to, out of `--to` and `--endpoint` or a row's name.
    `settings` holds what only that destination knows, by name.
    """

    to: str
    target: Target
    settings: Mapping[str, str]
    kind: str | None = None
    limits: str
    rate: str | None
    share: str
    in_flight: str
    memory: str
    state: Path
    auth: str
    update_existing_only: bool = False
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
    types: str | None = None
    map: Path | None = None
    timezone: str | None = None
    null_text: str | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"
    workspace: str | None = None
    fresh: bool = False
    same_account: bool = False
    even_if_older: bool = False
    limit: int | None = None
    max_bad: str | None = None
    command: str = ""


def kind(_: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Return a kind of record in the singular; the callback of every `--kind`."""
    if value is not None and value not in KIND_NAMES:
        raise click.BadParameter(f"{value!r} is none of {', '.join(KINDS)}", param=option)
    return KIND_NAMES.get(value or "")


_TO: Final = click.option(
    "--to",
    metavar="SINK",
    help=f"Where to: one of {', '.join(sinks())}. A sandbox is started inside this process; a file "
    "gets request bodies, one a line.",
)

_OF_RECORDS: Final = (
    click.option(
        "--kind",
        callback=kind,
        metavar="KIND",
        help="Kind of table rows, bare objects and CDI rows: attributes, event or purchase.",
    ),
    click.option(
        "--endpoint",
        metavar="NAME",
        help="Endpoint of the destination; all are listed below.  [default: its first one]",
    ),
    click.option(
        "--limits",
        default=AUTO,
        show_default=True,
        metavar="LIMITS",
        help="Records per request: per-array (the most in each array), combined (75 in total), a "
        "number in total (in users, where the destination counts users), or auto, which finds out "
        "and loses nothing by it.",
    ),
    click.option(
        "--update-existing-only",
        is_flag=True,
        help="Set _update_existing_only on every record that does not say: create no user.",
    ),
)
"""Options of users and what they do, where the records of a request are of several kinds."""

_OF_TABLES: Final = (
    click.option(
        "--types",
        metavar="COLUMN=TYPE[,...]",
        help="Types of columns, instead of what all their cells say: string, number, integer, "
        "boolean, json, date.",
    ),
    click.option(
        "--map",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="MAP.toml",
        help="What columns become: [columns.NAME] to, type, drop, on_bad_field; [constants]; "
        "[templates]; kind, timezone, null_text.",
    ),
    click.option(
        "--timezone",
        metavar="ZONE",
        help="Zone of times without one, such as Europe/Paris.  [default: left as they are]",
    ),
    click.option(
        "--null-text",
        metavar="TEXT",
        help="The cell that unsets an attribute; '' for none.  [default: null]",
    ),
    click.option(
        "--delimiter",
        metavar="CHAR",
        help="What is between cells: a character, or tab.  [default: told by the first lines]",
    ),
    click.option(
        "--encoding",
        default="utf-8",
        show_default=True,
        metavar="NAME",
        help="Encoding of tables.",
    ),
)
"""Options of CSV, TSV and Parquet."""

_OF_ROWS: Final = (
    click.option(
        "--limits",
        default=AUTO,
        show_default=True,
        metavar="LIMITS",
        help="Records per request: a number, or auto, which is what the row documents.",
    ),
    click.option(
        "--yes", is_flag=True, help="Do not ask, where what is sent cannot be undone: just send it."
    ),
)

_COMMON: Final = (
    click.option(
        "--rate",
        metavar="N/PERIOD[,...]",
        help="Requests per period, used in full: 250000/1h,3000/3s. Where the destination counts "
        "users, so does this: users per period.  [default: what the endpoint documents, times "
        "--share]",
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
        help="Where the journal, by which the same command goes on with a run, dead letters and "
        "what was learned of the account are kept.",
    ),
    click.option(
        "--workspace",
        metavar="NAME",
        help="Keeps runs of several accounts on one host apart.",
    ),
    click.option(
        "--fresh",
        is_flag=True,
        help="Forget an earlier run of the same input, finished or not, and start over.",
    ),
    click.option(
        "--same-account",
        is_flag=True,
        help="Go on with a run although the credential is another one: of the same account.",
    ),
    click.option(
        "--auth",
        type=click.Choice((BEARER, "body")),
        default=BEARER,
        show_default=True,
        help="How the key is sent; body is for Braze accounts of 2018 to 2020.",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="A setting that only one destination knows; all are listed below. Can be repeated.",
    ),
    click.option(
        "--if-unanswered",
        type=click.Choice(("resend", "hold")),
        default="resend",
        show_default=True,
        help="What to do with records whose request got no answer: they may have arrived. What a "
        "second copy does not change is resent in any case, and what must never be sent twice is "
        "held in any case.",
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
        "--no-validate",
        is_flag=True,
        help="Ask for JSON, an identity, and what no request can be made without; nothing else.",
    ),
    click.option(
        "--limit",
        type=click.IntRange(min=1),
        metavar="N",
        help="Stop after N records, to look at them: the same command without it goes on.",
    ),
    click.option(
        "--max-bad",
        metavar="N|P%",
        help="Halt, resumable, once so many records are invalid or rejected, or more than this "
        f"share of those read (from {SHARE_FROM:,} on).  [default: never]",
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


_OF_PLANS: Final = (
    click.option(
        "--to",
        metavar="SINK",
        help=f"What the plan is for: {', '.join(DESTINATIONS)}, or what `ingest import` takes "
        f"besides.  [default: {DEFAULT}]",
    ),
    click.option(
        "--save",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="MAP.toml",
        help="Keep what was decided of the columns there, to look at, to edit, and to import with: "
        "--map MAP.toml.",
    ),
)
"""Options of the verb that sends nothing."""

_PLANNED: Final = (
    *("--rate", "--share", "--memory", "--state", "--set", "--on-bad-field", "--strict"),
    *("--no-validate", "--report", "--progress"),
)
"""Common options that say what an import needs, or how it is told."""

UNPLANNED: Final = {
    "in_flight": "adaptive",
    "auth": BEARER,
    "if_unanswered": "resend",
    "give_up_after": "30m",
    "dead_letters": None,
    "allow_http": True,
    "faults": "",
}
"""Values of the common options that say how an import is sent, where none is."""


def plan_options(verb: F) -> F:
    """Add the options to the verb that plans, in the order in which `--help` shows them."""
    common = [option for option in _COMMON if _flag_of(option) in _PLANNED]
    return _with((_OF_PLANS[0], *_OF_RECORDS, *_OF_PLANS[1:], *common), verb)


def _flag_of(option: Callable[[Any], Any]) -> str:
    """Return what an option is called on the command line."""
    command: click.Command = option(click.Command(None))
    return command.params[0].opts[0]


def send_options(verb: F) -> F:
    """Add the options to a verb that sends records, in the order in which `--help` shows them."""
    return _with((_TO, *_OF_RECORDS, *_COMMON), verb)


def table_options(verb: F) -> F:
    """Add the options of tables to a verb that reads them."""
    return _with(_OF_TABLES, verb)


def row_options(verb: F) -> F:
    """Add the options to the verb that sends rows, in the order in which `--help` shows them."""
    return _with((_TO, *_OF_ROWS, *_COMMON), verb)


def _with(options: Iterable[Callable[[F], F]], verb: F) -> F:
    for option in reversed(tuple(options)):
        verb = option(verb)
    return verb


def collected(values: dict[str, Any], *, row: str | None = None) -> SendOptions:
    """Make one value of the options; raise `ConfigError` for those that contradict each other.

    `row` is the row that `ingest send` was given.
    """
    target = target_of(values["to"], endpoint=values.pop("endpoint", None), row=row)
    settings = _settings(values.pop("settings"), target)
    options = SendOptions(target=target, settings=settings, command=typed_command(), **values)
    if options.max_bad is not None:
        parse_tolerance(options.max_bad)
    if options.strict and options.no_validate:
        raise ConfigError("--strict and --no-validate contradict each other: leave one of them out")
    if options.faults and target.where != "sandbox":
        raise ConfigError("--faults is for --to sandbox: nobody else plays faults on request")
    if options.update_existing_only and not target.destination.updates_only:
        raise ConfigError(
            f"--update-existing-only is not for {target.destination.name}: it always creates the "
            "users that it does not know; leave the option out"
        )
    if options.auth != BEARER and options.auth not in target.destination.auths:
        raise ConfigError(
            f"--auth {options.auth} is not for {target.destination.name}, which has one way to "
            "send its key: leave the option out"
        )
    _check_limits(options.limits, target)
    return options


def typed_command() -> str:
    """Return the command as it was typed, but for what would not go on with its run.

    No secret is on it: none can be given there.
    """
    context = click.get_current_context(silent=True)
    argv = iter(() if context is None else context.meta.get(ARGV, ()))
    kept: list[str] = []
    for word in argv:
        if word == "--":
            kept += (word, *argv)
        elif word == "--limit":
            next(argv, None)
        elif word != "--fresh" and not word.startswith("--limit="):
            kept.append(word)
    return shlex.join(("ingest", *kept)) if kept else ""


def _check_limits(asked: str, target: Target) -> None:
    if asked == AUTO or (asked.isdecimal() and int(asked) > 0):
        return
    endpoint = target.endpoint
    if asked in (PER_ARRAY, COMBINED):
        if endpoint.counts == "users":
            raise ConfigError(
                f"--limits {asked} is not for {target.destination.name}, which counts the users in "
                "a request and not its records: it is auto, or a number of users"
            )
        if not target.row:
            return
        raise ConfigError(
            f"--limits {asked} is not for {endpoint.name}, which has one array: it is auto, or a "
            "number"
        )
    raise ConfigError(
        f"--limits {asked!r} makes no sense: it is auto, "
        + ("" if target.row or endpoint.counts == "users" else "per-array, combined, ")
        + "or a number"
    )


def _settings(given: Iterable[str], target: Target) -> dict[str, str]:
    """Read `NAME=VALUE`s. Raises `ConfigError` for a name that the destination does not know."""
    known = target.destination.settings
    settings: dict[str, str] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise ConfigError(f"--set {text!r} sets nothing: it is --set NAME=VALUE")
        if name not in known:
            having = f"it has {', '.join(known)}" if known else "it has none"
            raise ConfigError(
                f"--set {name}: {target.destination.name} has no such setting; {having}"
            )
        if name in settings:
            raise ConfigError(f"--set {name} is there twice: leave one of them out")
        settings[name] = value
    return settings
