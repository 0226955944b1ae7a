"""What the verbs that send do: run a pipeline, show it, account for it, and end with a status."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from ingest.cli.assembly import assembled, host_of, new_run, opened_sink, remember_caps
from ingest.cli.columns import (
    decide_columns,
    say_dropped_cells,
    say_rejected_rows,
    table_source,
)
from ingest.cli.journaling import (
    Journaled,
    Source,
    begun,
    journaled,
    say_finished,
    say_going_on,
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
from ingest.pipeline import Pipeline
from ingest.sinks.base import HttpSink, Sink
from ingest.sources.files import FileSource
from ingest.sources.threaded import threaded

BAD_RECORDS: Final = 1
INTERRUPTED: Final = SIGNAL_BASE + signal.SIGINT
BAD_COLUMNS: Final = ("rejected", "invalid", "failed", "held")


class _Ended(msgspec.Struct, frozen=True):
    """A run that is over: its report, its exit status, and its dead letters (file and count).

    `failure` is what went wrong after it, when its sink was closed; `resumable` tells that the same
    command goes on with it.
    """

    report: dict[str, Any]
    status: int
    letters: tuple[str, int]
    failure: LocalFailure | None = None
    resumable: bool = False


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
    if tables is not None:
        host_of(options)  # what is wrong with the destination is told before a file is read twice
        decide_columns(tables, console, progress=options.progress != "none")
    ended = run_loop(_send(source, options, console))
    show_report(console, ended.report, ended.letters)
    if tables is not None:
        say_dropped_cells(console, tables)
    if tables is not None and any(ended.report["records"][name] for name in BAD_COLUMNS):
        say_rejected_rows(console, tables, options, ended.report["run"], Path(ended.letters[0]))
    todo = _todo(ended.resumable, resendable=options.target.endpoint.resendable)
    _say_next(console, ended.report, todo)
    write_report(options.report, ended.report)
    if ended.failure is not None:
        raise ended.failure
    sys.exit(ended.status)


async def _send(source: Source, options: SendOptions, console: Console) -> _Ended:
    ended: _Ended | None = None
    try:
        async with opened_sink(options) as sink:
            ended = await _run(source, sink, options, console)
    except LocalFailure as failure:
        if ended is None:
            raise
        # What was sent was sent: the balance is owed all the same.
        return msgspec.structs.replace(ended, failure=failure)
    return ended


async def _run(source: Source, sink: Sink, options: SendOptions, console: Console) -> _Ended:
    with journaled(source, sink, options, console) as kept:
        if kept is None or not isinstance(sink, HttpSink):
            return await _running(source, sink, options, console, new_run())
        run = kept.run
        if run is not None and run.state == "finished" and run.report is not None:
            say_finished(console, run)
            bad = any(run.report["records"][name] for name in BAD_COLUMNS)
            return _Ended(run.report, BAD_RECORDS if bad else 0, (run.letters_path, 0))
        if run is not None:
            say_going_on(console, run)
        name = new_run() if run is None else run.name
        return await _running(source, sink, options, console, name, kept)


async def _running(
    source: Source,
    sink: Sink,
    options: SendOptions,
    console: Console,
    run: str,
    kept: Journaled | None = None,
) -> _Ended:
    pipeline = assembled(options, sink, run=run, name_of=source.name, observer=Notices(console))
    letters = pipeline.ledger.dead_letters
    async with AsyncExitStack() as stack:
        recording = None
        if kept is not None and isinstance(sink, HttpSink):
            begins = begun(kept, sink, letters, run, time.time())
            recording = kept.journal.record(begins, pipeline.balance, letters)
            await stack.enter_async_context(recording)
            pipeline.keep(recording)
            # Where records depend on those before them, all are read again, and the settled let go.
            starts = {} if sink.schema.remembers else starts_of(recording.settling)
            source.start_at(starts)
            pipeline.begin_at({part: start.ordinal for part, start in starts.items()})
        since = time.monotonic()
        state, signals = await _to_its_end(source, pipeline, options, console)
        remember_caps(options, sink, pipeline.ladder)
        report = pipeline.balance.report(
            run=run,
            state=state,
            halted_because=str(pipeline.error) if pipeline.error else None,
            source=list(source.names),
            sink="file" if options.target.where == "file" else options.to,
            endpoint=options.target.endpoint.name,
            limits=options.limits,
            seconds=time.monotonic() - since,
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
        (str(letters.path), letters.written),
        failure,
        resumable=recording is not None,
    )


async def _to_its_end(
    source: Source, pipeline: Pipeline, options: SendOptions, console: Console
) -> tuple[str, Signals]:
    shown = asyncio.create_task(
        Shown(pipeline, console, style=_style(options, console), total=source.total_bytes).run()
    )
    running = asyncio.create_task(pipeline.run(threaded(source)))
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


def _status(pipeline: Pipeline, signals: Signals) -> int:
    if pipeline.error is not None:
        return pipeline.error.exit_status
    if signals.status is not None:
        return signals.status
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
