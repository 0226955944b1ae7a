"""A spool as a source: lines that were accepted, read as they come, and given back when settled.

How journal, driver and spool fit together: the journal is that of one run which never ends, whose
input is the spool by its mark. Each segment is a part, so positions are (segment, ordinal), and
what is settled, counted or in flight is in the journal as it is for files. The driver is given it
by `Driver.keep`, and both are told where to begin (`start_at`, `begin_at`); this source is given
it by `keep`. It looks at the places in it, and deletes a segment once all of that is settled,
durably so, and once that is done the rows of it: the other way round, a crash would send it again.

Decides when that is looked at. Only what is durable is read. Does not know how a spool keeps lines,
nor who appends them: that is its front, if it has one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from ingest.errors import LocalFailure
from ingest.segments import settled_segments
from ingest.sources.base import BLOCK_BYTES, Block, Start

SWEEP_EVERY: Final = 1.0
"""Seconds between two looks at what can be deleted: as often as the journal commits by itself."""

IDLE_SWEEPS: Final = 60
"""Looks without anything new after which a segment that is wholly settled ends: what was delivered
is personal data, and is not kept longer than it is of use."""


class Lines(Protocol):
    """What is asked of a spool; see `ingest.state.spool`."""

    @property
    def sizes(self) -> dict[int, int]: ...
    def has_room(self, nbytes: int) -> bool: ...
    def lines(self, part: int) -> int: ...
    def end(self, part: int) -> int: ...
    def after(self, part: int) -> int | None: ...
    async def grown(self, part: int, offset: int) -> None: ...
    def piece(self, part: int, offset: int, nbytes: int) -> tuple[bytes, int]: ...
    async def discard(self, part: int) -> None: ...
    async def roll(self) -> bool: ...


class Place(Protocol):
    """Where reading can begin, as the journal has it."""

    @property
    def ordinal(self) -> int: ...
    @property
    def line(self) -> int: ...
    @property
    def offset(self) -> int: ...


class Settled(Protocol):
    """What a run settled, as the journal has it."""

    @property
    def places(self) -> Mapping[int, Place]: ...
    @property
    def taken(self) -> Mapping[int, int]: ...


class Journal(Protocol):
    """What is asked of the journal of a run; see `ingest.state.recording`."""

    @property
    def settling(self) -> Settled: ...
    async def durable(self) -> None: ...
    def trust_what_comes(self) -> None: ...
    def forget(self, part: int) -> int: ...


class Front(Protocol):
    """What fills the spool: an intake that listens, for one."""

    async def start(self) -> None: ...
    def stop(self) -> None: ...
    async def aclose(self) -> None: ...


class SpoolSource:
    """A `LiveSource` over a spool. `name` is what people call it.

    `front` is started, stopped and closed with it. Without room for `room` bytes at once, the
    source is not ready. Before a segment is deleted, each of `before` is
    waited for: whoever keeps something else of it.
    """

    def __init__(
        self,
        spool: Lines,
        name: str,
        *,
        front: Front | None = None,
        room: int = 1,
        before: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self.name = name
        self._spool = spool
        self._front = front
        self._room = room
        self._before = before
        self._journal: Journal | None = None
        self._starts: dict[int, Start] = {}
        self._ends: dict[int, int] = {}  # of what an earlier process may have sent
        self._session: SpoolSession | None = None
        self._stopping = asyncio.Event()
        self._sweeping = asyncio.Lock()
        self._idle = (0, 0)  # the end of the spool, and for how many looks it has been that

    @property
    def ready(self) -> bool:
        """Whether there is room in the spool for a large append."""
        return self._spool.has_room(self._room)

    @property
    def lag(self) -> int | None:
        """Lines that are in the spool and were not handed over, notes that lie between included."""
        total = sum(map(self._spool.lines, self._spool.sizes))
        reached = self.reached
        known = self._spool.sizes
        return max(0, total - sum(n for part, n in reached.items() if part in known))

    @property
    def reached(self) -> Mapping[int, int]:
        """Lines of each segment that were handed over, or settled before."""
        if self._session is not None:
            return self._session.reached
        return {part: start.line - 1 for part, start in self._starts.items()}

    def keep(self, journal: Journal) -> None:
        """Give back what is settled by this journal of the run, from before its beginning.

        What it has of segments that are there no more is let go.
        """
        self._journal = journal
        known = self._spool.sizes
        self._ends = {part: self._spool.end(part) for part in known}
        for part in {*journal.settling.places, *journal.settling.taken} - known.keys():
            journal.forget(part)

    def start_at(self, starts: Mapping[int, Start]) -> None:
        """Let the next session begin there; segments that are not among them are read whole."""
        self._starts = dict(starts)

    async def open(self) -> None:
        """Let the front listen. Raises `ConfigError`."""
        if self._front is not None:
            await self._front.start()

    async def sessions(self) -> AsyncIterator[SpoolSession]:
        """Yield a session, and the next one when that has ended; ends after `stop`."""
        while not self._stopping.is_set():
            self._session = session = SpoolSession(
                *(self._spool, self.name, self._starts, self.sweep), reads=self._mind_the_new
            )
            yield session
            await _either(session.ended.wait(), self._stopping.wait())

    def stop(self) -> None:
        """Accept nothing more, hand over nothing more."""
        self._stopping.set()
        if self._front is not None:
            self._front.stop()
        if self._session is not None:
            self._session.stop()

    async def aclose(self) -> None:
        """Close the front; the spool and the journal are whose they were made by."""
        if self._front is not None:
            await self._front.aclose()

    async def sweep(self) -> int:
        """Delete the segments all of whose records have their end; return how many.

        Raises `LocalFailure`.
        """
        journal = self._journal
        if journal is None:
            return 0
        async with self._sweeping:
            await self._end_when_idle(journal)
            settled = {part: place.offset for part, place in journal.settling.places.items()}
            found = settled_segments(self._spool.sizes, settled)
            if not found:
                return 0
            await journal.durable()  # places are told when they are cut, and committed after that
            for wait in self._before:
                await wait()
            for part in found:
                await self._spool.discard(part)
                journal.forget(part)
            return len(found)

    def _mind_the_new(self, part: int, offset: int) -> None:
        """Tell the journal once what is read came to the spool after its start."""
        if self._journal is not None and offset >= self._ends.get(part, 0):
            self._journal.trust_what_comes()

    async def _end_when_idle(self, journal: Journal) -> None:
        newest = max(self._spool.sizes, default=0)
        end, (was, looks) = self._spool.end(newest), self._idle
        self._idle = (end, looks + 1 if end == was else 0)
        place = journal.settling.places.get(newest)
        if looks >= IDLE_SWEEPS and end and place is not None and place.offset >= end:
            await self._spool.roll()


class SpoolSession:
    """A `Session` over a spool: all of it, for as long as there is one.

    `reached` says how many lines of each segment were handed over, or are before its beginning.
    """

    def __init__(
        self,
        spool: Lines,
        name: str,
        starts: Mapping[int, Start],
        sweep: Callable[[], Awaitable[int]],
        *,
        reads: Callable[[int, int], None],
    ) -> None:
        self.reached = {part: start.line - 1 for part, start in starts.items()}
        self.ended = asyncio.Event()
        self._spool = spool
        self._name = name
        self._starts = starts
        self._sweep = sweep
        self._reads = reads  # is told where each block begins
        self._stopping = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None

    async def blocks(self) -> AsyncIterator[Block]:
        """Yield what is there, and then what comes. Raises `LocalFailure`."""
        self._sweeper = asyncio.create_task(self._sweeps())
        loop = asyncio.get_running_loop()
        part: int | None = min(self._spool.sizes, default=0)
        while part is not None and not self._stopping.is_set():
            start = self._starts.get(part, Start(0, 1, 0))
            offset, line = start.offset, start.line
            while not self._stopping.is_set():
                if self._spool.end(part) <= offset:
                    if self._spool.after(part) is not None:
                        break
                    await _either(self._spool.grown(part, offset), self._stopping.wait())
                    continue
                self._reads(part, offset)
                read = functools.partial(self._spool.piece, part, offset, BLOCK_BYTES)
                data, offset = await loop.run_in_executor(None, read)
                block = Block(part, data, line, offset)
                line = block.following
                self.reached[part] = line - 1
                yield block
            part = self._spool.after(part)

    def stop(self) -> None:
        """Hand over no more."""
        self._stopping.set()

    async def revoked(self) -> None:
        """Wait for good: nobody else has this spool."""
        await self.ended.wait()

    def settled(self, part: int, lines: Sequence[int], bad: Collection[int]) -> None:
        """Do nothing: what is settled is in the journal, by positions, and durable there."""

    def place(self, part: int, line: int) -> str:
        """Return `http[12]:34`: the segment, and the line of it."""
        return f"{self._name}[{part}]:{line}"

    def whence(self, part: int, line: int) -> dict[str, Any]:
        """Return where a record was in the spool; its segment may be deleted by now."""
        return {"name": self._name, "part": part, "line": line}

    async def end(self) -> None:
        """Delete what is settled by now, and hand over no more."""
        self.stop()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        with contextlib.suppress(LocalFailure):  # it is told where it is met next
            await self._sweep()
        self.ended.set()

    async def _sweeps(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            # What cannot be deleted now is kept, and the spool fills: its front says so.
            with contextlib.suppress(LocalFailure):
                await self._sweep()


async def _either(*waits: Awaitable[object]) -> None:
    """Return when one of them is over. Raises what that raises."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
