"""Waiting for the ends of lines that were posted, for as long as somebody wants to know them.

Decides how many may be waited for at once. Who knows the ends, a `Watcher` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Protocol

from ingest.posts import Ended, Unreadable
from ingest.sources.bodies import BUSY

MOST_WATCHED: Final = 100_000
"""Lines whose end is waited for at once: each is some 500 bytes of memory."""


class Watcher(Protocol):
    """Who knows the end of lines; a driver does, of those that it reads after it was asked."""

    def watch(self, part: int, line: int) -> Awaitable[Sequence[Ended]]: ...
    def forget(self, part: int, line: int) -> None: ...


class Watching:
    """The lines that are waited for. `watcher` may be set, and changes with the driver."""

    def __init__(self, watcher: Watcher | None = None, *, most: int = MOST_WATCHED) -> None:
        self.watcher = watcher
        self._most = most
        self._lines = 0
        self._hurried = asyncio.Event()

    def check(self, lines: int) -> None:
        """Raise `Unreadable` if so many lines cannot be waited for."""
        if self.watcher is None:
            raise Unreadable(400, "nothing here knows verdicts: leave ?wait out")
        if self._lines + lines > self._most:
            raise Unreadable(503, BUSY)

    def watch(self, part: int, lines: Mapping[int, int]) -> Watched:
        """Wait for lines of a part, by whatever number whoever asks has for them.

        Ask before they can be read.
        """
        assert self.watcher is not None
        self._lines += len(lines)
        return Watched(self.watcher, part, lines)

    async def ended(self, watched: Watched, seconds: float) -> dict[int, Sequence[Ended] | None]:
        """Return the ends of all, as soon as they have one; None for those that take longer."""
        hurried = asyncio.ensure_future(self._hurried.wait())
        waits: list[asyncio.Future[Any]] = [hurried, asyncio.shield(watched.all())]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return watched.ends()
        finally:
            hurried.cancel()
            self.forget(watched)

    def forget(self, watched: Watched) -> None:
        """Wait for them no longer."""
        self._lines -= len(watched)
        watched.forget()

    def hurry(self) -> None:
        """Let everybody wait no longer."""
        self._hurried.set()


class Watched:
    """Some lines of a part that are waited for, by numbers of their own."""

    def __init__(self, watcher: Watcher, part: int, lines: Mapping[int, int]) -> None:
        self._watcher = watcher
        self._part = part
        self._lines = lines
        self._futures = {
            number: asyncio.ensure_future(watcher.watch(part, line))
            for number, line in lines.items()
        }

    def __len__(self) -> int:
        return len(self._lines)

    def all(self) -> asyncio.Future[list[Sequence[Ended] | BaseException]]:
        """Return what is done when all of them are."""
        return asyncio.gather(*self._futures.values(), return_exceptions=True)

    def ends(self) -> dict[int, Sequence[Ended] | None]:
        """Return the ends of each line's records; None where nobody knows them yet, or any more."""
        return {
            number: future.result() if future.done() and not future.cancelled() else None
            for number, future in self._futures.items()
        }

    def forget(self) -> None:
        """Wait no longer for those that have no end."""
        for number, future in self._futures.items():
            if not future.done():
                self._watcher.forget(self._part, self._lines[number])
                future.cancel()
