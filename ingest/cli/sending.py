"""What the verbs that send do: run a pipeline, show it, account for it, and end with a status."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from ingest.cli.assembly import assembled, new_run, opened_sink, remember_caps
from ingest.cli.loop import run as run_loop
from ingest.cli.options import SendOptions
from ingest.cli.progress import Notices, Shown
from ingest.cli.tables import show_report
from ingest.codec import dumps_pretty
from ingest.errors import ConfigError, LocalFailure
from ingest.pipeline import Pipeline
from ingest.sources.files import FileSource
from ingest.sources.threaded import threaded
from ingest.state.dead_letters import PRIVATE

SIGNAL_BASE: Final = 128
"""A process ended by signal n has the exit status 128 + n, by the shells' convention."""

BAD_RECORDS: Final = 1


def send_paths(paths: Sequence[str], options: SendOptions) -> None:
    """Send files and end the process with the status of INTERFACE."""
    console = Console(stderr=True)
    source = FileSource(paths)
    if options.dead_letters is not None and _same_file(options.dead_letters, source.names):
        raise ConfigError(
            f"--dead-letters {options.dead_letters} is also an input: name another file"
        )
    if source.ignored:
        console.print(
            f"Left out, for not being NDJSON by their names: {', '.join(source.ignored)}",
            style="yellow",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    _check_state(options.dead_letters.parent if options.dead_letters else options.state)
    report_to = _checked_report(options.report)
    report, status, letters = run_loop(_send(source, options, console))
    show_report(console, report, letters)
    _say_next(console, report)
    _write_report(report_to, report)
    sys.exit(status)


async def _send(
    source: FileSource, options: SendOptions, console: Console
) -> tuple[dict[str, Any], int, tuple[str, int]]:
    run = new_run()
    async with opened_sink(options) as sink:
        pipeline = assembled(options, sink, run=run, name_of=source.name, observer=Notices(console))
        signals = _Signals(pipeline, console)
        since = time.monotonic()
        shown = asyncio.create_task(
            Shown(pipeline, console, style=_style(options, console), total=source.total_bytes).run()
        )
        try:
            with signals:
                state = await pipeline.run(threaded(source))
        except asyncio.CancelledError:
            state = "interrupted"
        finally:
            shown.cancel()
            await asyncio.gather(shown, return_exceptions=True)
        remember_caps(options, sink, pipeline.ladder)
        report = pipeline.balance.report(
            run=run,
            state=state,
            halted_because=str(pipeline.error) if pipeline.error else None,
            source=list(source.names),
            sink=(options.to or "").partition(":")[0],
            endpoint=options.endpoint,
            limits=options.limits,
            seconds=time.monotonic() - since,
        )
        letters = pipeline.ledger.dead_letters
        return report, _status(pipeline, signals), (str(letters.path), letters.written)


def _style(options: SendOptions, console: Console) -> str:
    if options.progress != "auto":
        return options.progress
    return "bar" if console.is_terminal else "plain"


def _status(pipeline: Pipeline, signals: _Signals) -> int:
    if pipeline.error is not None:
        return pipeline.error.exit_status
    if signals.received is not None:
        return SIGNAL_BASE + signals.received
    return BAD_RECORDS if pipeline.balance.bad else 0


class _Signals:
    """The first signal drains, the second stops."""

    def __init__(self, pipeline: Pipeline, console: Console) -> None:
        self._pipeline = pipeline
        self._console = console
        self._task: asyncio.Task[Any] | None = None
        self.received: int | None = None

    def __enter__(self) -> _Signals:
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on, number)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    def _on(self, number: int) -> None:
        if self.received is None:
            self.received = number
            self._console.print(
                f"Stopping: {self._pipeline.requests_in_flight} requests are in flight, and their "
                "answers are waited for. Once more to stop at once.",
                highlight=False,
            )
            self._pipeline.interrupt()
        elif self._task is not None:
            self._task.cancel()


def _same_file(path: Path, names: Sequence[str]) -> bool:
    return path.exists() and any(os.path.exists(name) and path.samefile(name) for name in names)


def _check_state(folder: Path) -> None:
    """Refuse a folder in which no dead letter could be written, before one has to be."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise LocalFailure(
            f"dead letters cannot be written to {folder}: {existing} is not writable; choose "
            "another --state, or name a file with --dead-letters"
        )


def _checked_report(report: str | None) -> str | None:
    """Refuse a report that could not be written before anything is sent, not after."""
    if report is not None and report != "-":
        parent = Path(report).resolve().parent
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise ConfigError(f"--report {report} cannot be written: {parent} is no folder for it")
    return report


def _write_report(where: str | None, report: dict[str, Any]) -> None:
    if where is None:
        return
    data = dumps_pretty(report)
    if where == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        fd = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
    except OSError as error:
        raise LocalFailure(
            f"the report cannot be written to {where}: {error.strerror}; the balance above is it"
        ) from error


def _say_next(console: Console, report: dict[str, Any]) -> None:
    because = report["halted_because"]
    if because:
        console.print(
            f"Halted: {because}", style="red", markup=False, highlight=False, soft_wrap=True
        )
    if pending := report["records"]["pending"]:
        console.print(
            f"Pending: {pending:,} of the records read. Run the same command again to send them; "
            "it starts from the beginning, so what was delivered is sent once more.",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
