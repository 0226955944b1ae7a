"""One signal drains, a second one stops, and all others come too late."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import cast

import pytest
from rich.console import Console

from ingest.cli.signals import SIGNALS, Signals, in_flight
from ingest.pipeline import Driver

INTERRUPTED_WHILE_STARTING = """
import builtins, ingest.__main__ as start
real = builtins.__import__
def interrupted(name, *rest):
    if name == "ingest.cli.main":
        raise KeyboardInterrupt
    return real(name, *rest)
builtins.__import__ = interrupted
start.main()
"""


class Drained:
    """As much of a pipeline as a signal touches."""

    requests_in_flight = 1
    interrupted = 0

    def interrupt(self) -> None:
        """Count."""
        self.interrupted += 1


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put the handlers of this process back: they are meant to be gone for good."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.asyncio
@pytest.mark.usefixtures("handlers")
async def test_the_second_signal_cancels_once_and_the_third_is_not_heard() -> None:
    """What settles the requests in flight, once cancelled, is left alone till its end."""
    cancelled, settled = 0, asyncio.Event()
    draining = asyncio.Event()

    async def run() -> None:
        nonlocal cancelled
        while not settled.is_set():
            try:
                draining.set()
                await settled.wait()
            except asyncio.CancelledError:
                cancelled += 1

    pipeline, out = Drained(), io.StringIO()
    running = asyncio.create_task(run())
    await draining.wait()
    with Signals(cast(Driver, pipeline), running, Console(file=out, width=200)) as signals:
        for _ in range(4):
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(3):
                await asyncio.sleep(0)
        settled.set()
        await running
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    assert (pipeline.interrupted, cancelled) == (1, 1)
    assert signals.status == 143
    assert out.getvalue().startswith("Stopping: 1 request is in flight, and its answer is waited")


def test_requests_in_flight_are_counted_in_words() -> None:
    """One request is not several."""
    assert in_flight(1) == "1 request is in flight, and its answer is"
    assert in_flight(1200) == "1,200 requests are in flight, and their answers are"


def test_an_interrupt_while_starting_is_no_crash() -> None:
    """Ctrl-C while modules are imported ends with 130, and without a traceback."""
    process = subprocess.run(
        (sys.executable, "-c", INTERRUPTED_WHILE_STARTING), capture_output=True, check=False
    )
    assert (process.returncode, process.stderr) == (130, b"")
