"""`ingest run`: a worker, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

import click

from ingest.cli import logs
from ingest.cli.loop import run as run_loop
from ingest.cli.signals import SIGNALS, in_flight
from ingest.cli.working import opened_worker
from ingest.configuration import Configuration, parsed
from ingest.errors import ConfigError, IngestError
from ingest.worker import Worker

log = logging.getLogger("ingest")

PENDING: Final = 1
"""Exit status when the drain timeout passed."""

UNKNOWN: Final = os.EX_SOFTWARE
"""Exit status after an error that nobody thought of."""


@click.command(short_help="Run a worker.")
@click.argument("path", metavar="CONFIG.toml", type=click.Path(path_type=Path))
def run(path: Path) -> None:
    """Read a source and deliver to a destination, until SIGTERM or Ctrl-C.

    What is in flight then gets its end, for drain_timeout at most; what is queued stays with its
    source, or in the spool. A second signal stops at once.

    \b
    Exit status: 0 drained, 1 the drain timeout passed (the rest is pending), 2 wrong configuration,
    or a source that cannot be opened, 4 this machine failed, 70 a defect of this program.

    \b
    Examples:
      ingest check worker.toml
      ingest run worker.toml
      INGEST_SINK__RATE=1000/3s ingest run worker.toml
    """
    logs.configure()
    try:
        config = read_configuration(path)
        status = run_loop(_run(config, command=f"ingest run {path}"))
    except IngestError as error:
        log.error("%s", error)
        status = error.exit_status
    except Exception as error:  # whatever it is: the log never says more than type and place
        log.critical(
            "Ended by an error that is a defect of this program; what had no end is still at the "
            "source. Report it with this line, and start again.",
            exc_info=error,
        )
        status = UNKNOWN
    sys.exit(status)


def read_configuration(path: Path) -> Configuration:
    """Read a file and the environment. Raises `ConfigError`."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"cannot read {path}: {why}") from error
    return parsed(text, os.environ, name=str(path))


async def _run(config: Configuration, *, command: str) -> int:
    with _Signals() as signals:
        async with opened_worker(config, os.environ, command=command) as worker:
            signals.worker(worker)
            log.info("%s: reading, until SIGTERM or SIGINT", command)
            try:
                drained = await worker.run()
            finally:
                log.info("Ended: %s", worker.sentence())
    return 0 if drained else PENDING


class _Signals:
    """Hears signals while it is entered, for a worker that may come later."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._heard = 0

    def __enter__(self) -> _Signals:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            if self._heard:
                # Whoever is impatient by now must not cost what is being closed.
                signal.signal(number, signal.SIG_IGN)

    def worker(self, worker: Worker) -> None:
        """Pass on what was heard, and what will be."""
        self._worker = worker
        if self._heard:
            worker.stop()

    def _on(self) -> None:
        self._heard += 1
        if self._worker is None:
            return
        if self._heard == 1:
            log.info(
                "Stopping: %s waited for. Once more to stop at once.",
                in_flight(self._worker.requests_in_flight),
            )
        self._worker.stop()
