"""An event loop on a virtual clock: sleeping costs nothing, an hour of traffic runs in a moment.

`run(coro)` runs a coroutine as `asyncio.run` does, but the selector jumps the loop's clock to the
next timer instead of sleeping. Ask the time by `asyncio.get_running_loop().time`. The clock stands
still while a thread started by `asyncio.to_thread` or `run_in_executor` works. When nothing is
ready, nothing is scheduled and no thread works, the program is stuck: that raises `Stuck` at once
instead of hanging. Not for real sockets: time would jump while an answer is on its way.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

THREAD_PATIENCE: Final = 30.0
"""Real seconds that a thread may work before the loop is called stuck."""

TICK: Final = 1e-9
"""Seconds that the clock moves on at least when it moves: a loop fires timers up to a tick early,
and whoever then asks again too early must not find the same time for ever."""


class Stuck(RuntimeError):
    """Every task waits, and nothing is left that could wake one."""


class _JumpingSelector(selectors.DefaultSelector):
    """Reports what is ready now; when that is nothing, moves the clock on by the time-out."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.now = start
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(THREAD_PATIENCE if self.threads and timeout != 0 else 0)
        if ready:
            return ready
        if timeout is None or (self.threads and timeout > 0):
            raise Stuck("every task waits, and no timer, callback or thread is left to wake one")
        if timeout > 0:
            self.now += max(TICK, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector event loop whose `time()` moves only when nothing is left to do; in seconds."""

    def __init__(self, start: float = 0.0) -> None:
        self._jumping = _JumpingSelector(start)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._jumping.now

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer, at least a tick ahead."""
        return super().call_at(max(when, self.time() + TICK), callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run `func` in a thread, and let the clock stand still until it has returned."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    async def shutdown_default_executor(self, *args: float | None) -> None:
        """Wait for the pool of threads to end, which a thread does too."""
        self._jumping.threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._jumping.threads -= 1

    def _thread_ended(self, _: asyncio.Future[Any]) -> None:
        self._jumping.threads -= 1


def run(main: Coroutine[Any, Any, T], *, start: float = 0.0) -> T:
    """Run a coroutine to its end on a fresh `VirtualLoop` that starts at `start` seconds."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(start)) as runner:
        return runner.run(main)
