"""A thread that works for a loop: one thing after the other, and the loop hears how each ended.

Decides nothing, and knows nothing of what it does. An executor would do as well, and costs the loop
two futures, a lock and a condition for each thing, at the busiest time of a run.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue

Ended = Callable[[BaseException | None], None]
"""Is told on the loop what a piece of work raised, None if nothing."""


class Hands:
    """The thread, from its making until `stop`; `name` is what a debugger shows.

    It is a daemon: who forgets to stop it, or may not, does not keep the process from its end.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[tuple[Callable[[], None], Ended] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], None], ended: Ended) -> None:
        """Have something done after all that was handed over before; returns at once."""
        self._jobs.put((work, ended))

    async def done(self, work: Callable[[], None]) -> None:
        """Have something done, and wait for it. Raises what it raises.

        Who stops waiting does not stop the work.
        """
        heard: asyncio.Future[BaseException | None] = self._loop.create_future()
        self.do(work, partial(_hear, heard))
        if (error := await heard) is not None:
            raise error

    def stop(self) -> None:
        """End the thread after all that was handed over; waits for that."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, ended = job
            error: BaseException | None = None
            try:
                work()
            except BaseException as raised:  # whatever it is, whoever waits must hear of it
                error = raised
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(ended, error)
            del job, work, ended, error  # nothing of it is kept alive until the next one


def _hear(heard: asyncio.Future[BaseException | None], error: BaseException | None) -> None:
    if not heard.done():  # cancelled
        heard.set_result(error)
