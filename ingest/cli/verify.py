"""`ingest verify`: reads users of a run back, and compares them with what the run sent."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.text import Text

from ingest.cli.loop import run as run_loop
from ingest.cli.options import BEARER
from ingest.cli.outputs import write_report
from ingest.cli.past import (
    destination_of,
    doubts_of,
    intake_of,
    later_runs,
    letters_missing,
    run_called,
    sink_of,
    source_of,
)
from ingest.cli.proofs import Going, show_account
from ingest.cli.streams import Talk
from ingest.errors import ConfigError, InputError
from ingest.limits import Budget
from ingest.proof import Account, Difference, Sample, Verdict, Window
from ingest.proof.expected import STANDARD
from ingest.rates import RateLimit, parse_rate
from ingest.reading import judged
from ingest.records import part_of
from ingest.settings import parse_duration
from ingest.sinks.base import HttpSink
from ingest.sinks.export import ReadBack
from ingest.sinks.rows.wire import RowWire
from ingest.sources.mixed import MixedSource
from ingest.state.journal import FINISHED, Run
from ingest.throttle import Throttle
from ingest.verifying import Reader, verified

DIFFERENT: Final = 1
"""Exit status of a proof that failed."""

MOST_USERS: Final = 1_000_000
"""Of a sample: a kilobyte or two each; an account of 2024 reads them in half an hour a million."""

COORDINATES: Final = "last_coordinates"
"""What `current_location` is called in an export."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The options."""

    sample: int
    seed: int
    rate: tuple[RateLimit, ...] | None
    patience: float
    state: Path
    auth: str
    allow_http: bool


class Read(msgspec.Struct, frozen=True):
    """What the reading came to."""

    verdicts: list[Verdict]
    requests: int
    throttled: int


@click.command(short_help="Read users of a run back, and compare.")
@click.argument("run", metavar="RUN")
@click.option(
    "--sample",
    type=click.IntRange(1, MOST_USERS),
    default=100,
    show_default=True,
    metavar="N",
    help="How many users to look at, chosen by lot.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    metavar="N",
    help="Look at the same users as an earlier time.  [default: others each time]",
)
@click.option(
    "--rate",
    metavar="N/PERIOD[,...]",
    help="Requests per period. An account from before 2024-08-22 has 2500/1m; one whose limits "
    "nobody changed has 40/1s.  [default: 250/1m]",
)
@click.option(
    "--patience",
    default="31s",
    show_default=True,
    metavar="TIME",
    help="How long after the end of the run a profile may take to show it: until then what "
    "differs is read again.",
)
@click.option(
    "--show-values",
    is_flag=True,
    help="Show the values of differences: they are people's data.",
)
@click.option(
    "--report",
    metavar="FILE",
    help="Write the result there, as JSON, without users and values; - is stdout.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=".ingest",
    envvar="INGEST_STATE",
    show_envvar=True,
    show_default=True,
    metavar="DIR",
    help="Where the journal is kept.",
)
@click.option(
    "--auth",
    type=click.Choice((BEARER, "body")),
    default=BEARER,
    show_default=True,
    help="How the key is sent; body is for Braze accounts of 2018 to 2020.",
)
@click.option(
    "--allow-http",
    is_flag=True,
    help="Allow plain http to other machines: the key travels unencrypted.",
)
def verify(run: str, **values: Any) -> None:
    """Prove that what a run delivered is at the destination.

    RUN is a name out of `ingest status`, or `last`. Its inputs are read once more, as they were
    then; users are chosen by lot, and read back through /users/export/ids (Braze: the key needs the
    permission users.export.ids). Each attribute has to have the last value that was sent, each
    event and product at least the count and the last time. Where records alone do not tell what
    the destination has, nothing is compared, and that is counted: operators such as inc, objects
    that are merged, push tokens, strings over 255 characters, events and purchases older than the
    90 days of an export, records that may or may not have arrived.

    \b
    Examples:
      ingest verify last
      ingest verify 20261121T101500Z-5c1e --sample 2000 --rate 2500/1m
      ingest verify last --seed 7 --show-values
      ingest verify last --report proof.json --state /var/lib/ingest
    \b
    Where later runs or other systems changed a user since, it differs too. Ends with 0: all that
    was compared is there; 1: something differs, or nothing could be compared; 2: wrong usage or
    changed input; 3: refused (401, 403); 75: the destination is down.
    """
    report, show_values = values.pop("report"), values.pop("show_values")
    asked = _asked(values)
    console = Talk()
    the_run = run_called(run, asked.state)
    reads = destination_of(the_run).reads
    sink = sink_of(the_run, auth=asked.auth, allow_http=asked.allow_http)
    source = source_of(the_run)
    _check_report(report, the_run)
    for sentence in _notices(the_run, asked.state, sink):
        console.print(Text(f"! {sentence}", style="yellow"), soft_wrap=True)
    assert reads is not None  # `destination_of` saw to that
    since = time.monotonic()
    sample = _sampled(the_run, source, sink, reads, asked, console)
    if not sample.users:
        raise InputError(
            f"run {the_run.name} delivered no record of a user who can be read back: there is "
            "nothing to compare"
        )
    read = run_loop(_read(the_run, sample, sink, reads, asked, console))
    account = Account(read.verdicts)

    def place_of(difference: Difference) -> str:
        return f"{Path(source.name(part_of(difference.position))).name}:{difference.line}"

    show_account(
        console,
        account,
        run=the_run.name,
        about=sample.about,
        seed=asked.seed,
        place_of=place_of,
        values=show_values,
    )
    if sample.unreadable:
        console.print(
            f"Left out: {sample.unreadable:,} records of users that cannot be read back by the "
            "identity they have"
        )
    told = {
        "v": 1,
        "run": the_run.name,
        "sink": the_run.identity.sink,
        "sample": asked.sample,
        "seed": asked.seed,
        "users_about": sample.about,
        **account.report(place_of),
        "requests": {"sent": read.requests, "throttled": read.throttled},
        "seconds": round(time.monotonic() - since, 3),
    }
    write_report(report, told)
    sys.exit(0 if account.good else DIFFERENT)


def _asked(values: dict[str, Any]) -> Asked:
    rate, seed = values.pop("rate"), values.pop("seed")
    return Asked(
        rate=None if rate is None else parse_rate(rate),
        seed=random.randrange(1 << 32) if seed is None else seed,
        patience=parse_duration(values.pop("patience"), what="--patience"),
        **values,
    )


def _check_report(report: str | None, run: Run) -> None:
    """Raise `ConfigError` for a report that would be written over an input."""
    if report is None or report == "-":
        return
    if os.path.realpath(report) in {os.path.realpath(path) for path in run.identity.paths}:
        raise ConfigError(f"--report {report} is an input of the run: choose another file")
    if not Path(report).absolute().parent.is_dir():
        raise ConfigError(f"--report {report} cannot be written: there is no such folder")


def _notices(run: Run, state: Path, sink: HttpSink) -> list[str]:
    """Say what a person should know before they believe a difference."""
    said = []
    if run.state != FINISHED:
        said.append(f"run {run.name} is {run.state}: only what it settled is looked at")
    if later := later_runs(run, state):
        others = f" and {len(later) - 1} others" if len(later) > 1 else ""
        said.append(
            f"later runs delivered to the same place ({later[0]}{others}): what they changed shows "
            "as a difference"
        )
    if run.credential_changed(sink.credential_hash):
        said.append(
            "the credential is not the one that the run was sent with: if it is of another "
            "account, everything is missing there"
        )
    if letters_missing(run):
        said.append(
            "the dead letters of the run are not where they were: what was refused shows as a "
            "difference"
        )
    return said


def _sampled(
    run: Run,
    source: MixedSource,
    sink: HttpSink,
    reads: ReadBack,
    asked: Asked,
    console: Talk,
) -> Sample:
    """Read the inputs once more, and choose users."""
    settings = run.identity.shape.get("settings") or {}
    window = Window(
        now=time.time(),
        began=run.started,
        elements=int(settings.get("array_elements", reads.elements)),
    )
    doubts = doubts_of(run, asked.state)
    sample = Sample(asked.sample, asked.seed, window, doubts, reads.readable)
    intake = intake_of(run, sink)
    with Going(console, "deciding the types of columns", source.tables_bytes) as going:
        source.plan(going.at)
    done = 0
    with Going(console, "choosing users", source.total_bytes or 0) as going:
        ends: dict[int, int] = {}
        for block in source.blocks():
            for taken in judged(intake, block, run.started):
                sample.take(taken)
            done += block.end_offset - ends.get(block.part, 0)
            ends[block.part] = block.end_offset
            going.at(done)
    return sample


async def _read(
    run: Run, sample: Sample, sink: HttpSink, reads: ReadBack, asked: Asked, console: Talk
) -> Read:
    wire = sink.wire
    assert isinstance(wire, RowWire)  # as `Destination.reads` says

    def noticed(sentence: str) -> None:
        console.print(Text(f"! {sentence}", style="yellow"), soft_wrap=True)

    with Going(console, "reading users back", len(sample.users)) as going:

        def again(users: int, wait: float) -> None:
            noticed(f"{users:,} users differ so far: looking again in {wait:.0f} s")
            going.back(users)

        reader = Reader(
            lambda members: sink.send(wire.asking(reads.path, members)),
            reads,
            Throttle(Budget(asked.rate or reads.limits)),
            _fields(sample),
            secrets=wire.secrets,
            told=going.more,
            noticed=noticed,
        )
        try:
            until = (run.ended or run.started) + asked.patience
            verdicts = await verified(sample.users, reader, until=until, again=again)
        finally:
            await sink.aclose()
    return Read(verdicts, reader.requests, reader.throttled)


def _fields(sample: Sample) -> list[str]:
    """Return what to ask for: as little as can be, which is faster and is allowed more often."""
    names = {name for user in sample.users.values() for name in user.attributes}
    fields = sorted(names & STANDARD - {"current_location"})
    if "current_location" in names:
        fields.append(COORDINATES)
    if names - STANDARD:
        fields.append("custom_attributes")
    if any(user.events for user in sample.users.values()):
        fields.append("custom_events")
    if any(user.purchases for user in sample.users.values()):
        fields.append("purchases")
    return fields
