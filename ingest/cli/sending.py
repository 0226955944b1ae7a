"""What the verbs that send do: run a pipeline, show it, account for it, and end with a status."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.text import Text

from ingest.cli.assembly import assembled, new_run, opened_sink, remember_caps
from ingest.cli.columns import (
    Tables,
    decide_columns,
    go_by_frozen,
    say_dropped_cells,
    say_old_rejects,
    say_rejected_rows,
    table_source,
)
from ingest.cli.journaling import (
    PLANS,
    Journaled,
    Source,
    begun,
    journaled,
    recall_letters,
    say_finished,
    say_going_on,
    say_unsure,
    starts_of,
)
from ingest.cli.loop import run as run_loop
from ingest.cli.options import SendOptions
from ingest.cli.outputs import check_outputs, write_report
from ingest.cli.progress import Notices, Shown
from ingest.cli.signals import SIGNAL_BASE, Signals
from ingest.cli.streams import Talk
from ingest.cli.tables import show_report
from ingest.codec import dumps
from ingest.errors import LocalFailure
from ingest.pipeline import Driver
from ingest.sinks.base import HttpSink, Sink
from ingest.sources import early
from ingest.sources.apart import Apart, pays
from ingest.sources.arriving import arriving
from ingest.sources.files import FileSource
from ingest.sources.threaded import Reading, threaded
from ingest.tolerance import TooManyBad

BAD_RECORDS: Final = 1
INTERRUPTED: Final = SIGNAL_BASE + signal.SIGINT
BAD_COLUMNS: Final = ("rejected", "invalid", "failed", "held")


class _Ended(msgspec.Struct, frozen=True):
    """A run that is over: its report, its exit status, and its dead letters (files and counts).

    `failure` is what went wrong after it, when its sink or its journal was closed; `resumable`
    tells that the same command goes on with it, `limited` that it stopped at its limit, `too_bad`
    that too many records were bad, `before` that it was over before this process began.
    """

    report: dict[str, Any]
    status: int
    letters: dict[str, int]
    failure: LocalFailure | None = None
    resumable: bool = False
    limited: bool = False
    too_bad: bool = False
    before: bool = False


def send_paths(
    paths: Sequence[str],
    options: SendOptions,
    *,
    confirmed: Callable[[FileSource], None] = lambda _: None,
) -> None:
    """Send files and end the process with the status of the run.

    `confirmed` is called when all that can be known is known and nothing is opened, and raises if
    the run is not to be. Raises `ConfigError` or `InputError` before anything is sent, and
    `LocalFailure`.
    """
    console = Talk()
    tables = None if options.target.row else table_source(paths, options)
    source = tables or FileSource(paths, lists=options.target.row)
    check_outputs(options, source.names)
    if isinstance(source, FileSource):
        confirmed(source)
    if source.ignored:
        console.print(
            f"Left out (folders, and files of another kind by name): {', '.join(source.ignored)}",
            style="yellow",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    ended = _sent(source, options, console)
    letters = ended.letters
    show_report(console, ended.report, (" and ".join(letters), sum(letters.values())))
    if tables is not None:
        _say_rows(tables, ended, options, console)
    todo = _todo(ended.resumable, resendable=options.target.endpoint.resendable)
    if ended.too_bad and ended.resumable:
        todo = "They are sent when it goes on."
    _say_next(console, ended.report, todo)
    if ended.limited:
        _say_limited(console, ended, options)
    write_report(options.report, ended.report)
    if ended.failure is not None:
        raise ended.failure
    sys.exit(ended.status)


def _sent(source: Source, options: SendOptions, console: Console) -> _Ended:
    """Find out which run it is, decide what is not decided yet, and send."""
    ended: _Ended | None = None
    try:
        # First of all: what is wrong with the destination is told before a file is read twice, and
        # a run that goes on reads its tables as it did.
        with ExitStack() as stack:
            kept = stack.enter_context(journaled(source, options, console))
            run = None if kept is None else kept.run
            if run is not None and run.state == "finished" and run.report is not None:
                say_finished(console, run)
                bad = any(run.report["records"][name] for name in BAD_COLUMNS)
                letters = run.letters or {run.letters_path: 0}
                return _Ended(run.report, BAD_RECORDS if bad else 0, letters, before=True)
            if run is not None:
                say_going_on(console, run)
            reading: Reading = source
            if isinstance(source, Tables):
                beside = None
                if pays(source):
                    reading = beside = stack.enter_context(Apart(source, source.columns))
                early.let_go()  # what seemed worth it by the command alone
                if run is not None and PLANS in run.frozen:
                    go_by_frozen(source, run.frozen[PLANS], console)
                else:
                    shown = options.progress != "none"
                    decide_columns(source, console, progress=shown, beside=beside)
            ended = run_loop(_send(source, reading, options, console, kept))
    except LocalFailure as failure:
        if ended is None:
            raise
        # What was sent was sent: the balance is owed all the same.
        return msgspec.structs.replace(ended, failure=ended.failure or failure)
    return ended


async def _send(
    source: Source,
    reading: Reading,
    options: SendOptions,
    console: Console,
    kept: Journaled | None,
) -> _Ended:
    ended: _Ended | None = None
    try:
        async with opened_sink(options) as sink:
            name = new_run() if kept is None or kept.run is None else kept.run.name
            ended = await _running(source, reading, sink, options, console, name, kept)
    except LocalFailure as failure:
        if ended is None:
            raise
        # What was sent was sent: the balance is owed all the same.
        return msgspec.structs.replace(ended, failure=failure)
    return ended


async def _running(
    source: Source,
    reading: Reading,
    sink: Sink,
    options: SendOptions,
    console: Console,
    run: str,
    kept: Journaled | None,
) -> _Ended:
    pipeline = assembled(options, sink, run=run, name_of=source.name, observer=Notices(console))
    letters = pipeline.ledger.dead_letters
    async with AsyncExitStack() as stack:
        recording, before = None, dict[str, int]()
        if kept is not None and isinstance(sink, HttpSink):
            begins = begun(kept, source, sink, letters, options, name=run, now=time.time())
            before = begins.letters
            recording = kept.journal.record(
                begins, pipeline.balance, letters, hash_of=sink.credential_hash
            )
            say_unsure(console, recording.settling)
            recall_letters(begins, source, sink, pipeline.ledger, options)
            await stack.enter_async_context(recording)
            pipeline.keep(recording)
            # Where records depend on those before them, all are read again, and the settled let go.
            starts = {} if sink.schema.remembers else starts_of(recording.settling)
            source.start_at(starts)
            pipeline.begin_at(
                {part: start.ordinal for part, start in starts.items()},
                {part: start.offset for part, start in starts.items()},
            )
        if isinstance(reading, Apart):
            reading.prover = pipeline.prover
        since = time.monotonic()
        state, signals = await _to_its_end(source, reading, pipeline, options, console)
        remember_caps(options, sink, pipeline.ladder)
        report = pipeline.balance.report(
            run=run,
            state=state,
            halted_because=str(pipeline.error) if pipeline.error else None,
            source=list(source.names),
            sink="file" if options.target.where == "file" else options.to,
            endpoint=options.target.endpoint.name,
            limits=options.limits,
            seconds=time.monotonic() - since if recording is None else recording.seconds,
        )
        failure = None
        if recording is not None:
            try:
                await recording.finish(state, dumps(report), time.time())
            except LocalFailure as error:
                failure = error  # the balance is owed all the same
    return _Ended(
        report,
        _status(pipeline, signals),
        _letters(before, letters.path, letters.written),
        failure,
        resumable=recording is not None,
        too_bad=isinstance(pipeline.error, TooManyBad),
        limited=pipeline.limited and state == "interrupted" and signals.status is None,
    )


def _letters(before: dict[str, int], path: Path, written: int) -> dict[str, int]:
    """Return the files with dead letters of the run; the journal has them by their whole paths."""
    others = {name: n for name, n in before.items() if name != str(path.absolute())}
    return {str(path): written, **others} if written or not others else others


async def _to_its_end(
    source: Source,
    reading: Reading,
    pipeline: Driver,
    options: SendOptions,
    console: Console,
) -> tuple[str, Signals]:
    shown = asyncio.create_task(
        Shown(pipeline, console, style=_style(options, console), total=source.total_bytes).run()
    )
    blocks = arriving(reading) if isinstance(reading, Apart) else threaded(reading)
    running = asyncio.create_task(pipeline.run(blocks))
    with Signals(pipeline, running, console) as signals:
        try:
            state: str = await running
        except asyncio.CancelledError:
            state = "interrupted"
        finally:
            shown.cancel()
            await asyncio.gather(shown, return_exceptions=True)
    return state, signals


def _style(options: SendOptions, console: Console) -> str:
    if options.progress != "auto":
        return options.progress
    return "bar" if console.is_terminal else "plain"


def _status(pipeline: Driver, signals: Signals) -> int:
    if pipeline.error is not None:
        return pipeline.error.exit_status
    if signals.status is not None:
        return signals.status
    if pipeline.state == "interrupted" and pipeline.limited:
        return BAD_RECORDS if pipeline.balance.bad or pipeline.balance.count("pending") else 0
    if pipeline.state == "interrupted" or pipeline.state == "running":
        return INTERRUPTED  # a signal came before anybody listened
    return BAD_RECORDS if pipeline.balance.bad else 0


def _todo(resumable: bool, *, resendable: bool) -> str:
    """Say what to do about records that are pending."""
    if resumable:
        return "Run the same command again to go on: what is settled is not sent again."
    if resendable:
        return (
            "Run the same command again to send them; it starts from the beginning, so what was "
            "delivered is sent once more."
        )
    return (
        "Do not run the same command again: it starts from the beginning, and would send a second "
        "time what was delivered. Find out who got it, and take those out first."
    )


def _say_rows(tables: Tables, ended: _Ended, options: SendOptions, console: Console) -> None:
    """Say which cells and rows of tables did not arrive, and where those rows are."""
    say_dropped_cells(console, tables)
    run = ended.report["run"]
    if ended.before:
        say_old_rejects(console, options, run)
    elif any(ended.report["records"][name] for name in BAD_COLUMNS):
        say_rejected_rows(console, tables, options, run, list(map(Path, ended.letters)))


def _say_limited(console: Console, ended: _Ended, options: SendOptions) -> None:
    """Say that there is more to send, and how."""
    if ended.resumable:
        again = "The same command without --limit goes on behind them."
    elif options.target.endpoint.resendable:
        again = "The same command without --limit begins anew, for there is no journal of this run."
    else:
        again = "Take them out before you send the rest: without a journal it would begin anew."
    records = ended.report["records"]
    console.print(
        Text(
            f"Stopped at --limit {options.limit:,}: {records['read']:,} records were read, "
            f"{records['delivered']:,} of them delivered, and there are more. {again}",
            style="cyan",
        ),
        soft_wrap=True,
    )


def _say_next(console: Console, report: dict[str, Any], todo: str) -> None:
    """Say why a run halted, and what to do about what is pending."""
    because = report["halted_because"]
    if because:
        console.print(
            f"Halted: {because}", style="red", markup=False, highlight=False, soft_wrap=True
        )
    if pending := report["records"]["pending"]:
        console.print(
            f"Pending: {pending:,} of the records read. {todo}",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
