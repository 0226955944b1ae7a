"""The event loop of the process: uvloop where it is installed, and a garbage collector at rest."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from ingest.sockets import want_sockets

T = TypeVar("T")

THRESHOLDS: Final = (50_000, 50, 100)
"""Allocations before a collection of each generation. Records are not cyclic, so collecting finds
nothing; with many live objects, the default thresholds cost a factor of three."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on the best loop there is."""
    quiet_collector()
    want_sockets()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def quiet_collector() -> None:
    """Let the garbage collector rest: what is there now stays, and records are never garbage.

    What is there now is not searched for garbage: among all that was imported there is next to
    none, and to find it takes a tenth of the time that the imports took.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
