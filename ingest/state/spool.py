"""The spool: lines that were accepted, on the disk until their records are settled.

Decides when what is appended is brought to the disk: in groups, in a thread of its own, as often as
somebody waits. What a crash or a full disk left is cut back to the last whole append when it is
opened, or right then. Only what is durable can be read, so that no position is ever settled that a
crash may give to another line. Which segments there are, and what is in one, `ingest.segments`
says; what is settled, the journal knows. Does not know what a line holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from ingest.errors import LocalFailure
from ingest.segments import SpoolFull, SpoolRules, framed
from ingest.state.segment_files import NoRoom, SegmentFiles

SYNC_EVERY: Final = 0.002
"""Seconds between the beginnings of two groups at the least, like those of the journal: a disk that
is fast would have a thousand of them; a slow one paces by itself."""

Place = tuple[int, int]
"""A segment and a number of bytes of it: all before is meant."""


class _Segment(msgspec.Struct):
    """A segment: what was appended to it, in bytes and lines, and what of that is on the disk.

    `there` tells that its file is.
    """

    number: int
    size: int = 0
    lines: int = 0
    durable: int = 0
    durable_lines: int = 0
    there: bool = False


class Appended(msgspec.Struct, frozen=True):
    """Lines that were appended: their segment, the number of the first from 1, and their end.

    `group` is what they are brought to the disk with; it is waited for by `Spool.durable`.
    """

    part: int
    line: int
    end: int
    group: asyncio.Future[None]


class Spool:
    """The spool in a directory, private to the user and made if it is not there.

    It needs a running loop, and the directory for itself: it lies in a `StateDirectory`, whose lock
    is held. Opening blocks until its lines are counted: a second for a gigabyte, or some. Raises
    `LocalFailure`. With `power_safe` what is durable survives the machine, else only this process.

    A full disk refuses what is appended, and nothing else: what is delivered makes room again. The
    reserve of the state directory is not for it, but for the journal.
    """

    def __init__(
        self, directory: Path, rules: SpoolRules | None = None, *, power_safe: bool = True
    ) -> None:
        self.rules = rules or SpoolRules()
        self.ailing = ""
        self._files = SegmentFiles(directory, power_safe=power_safe)
        self._segments = {
            one.number: _Segment(one.number, one.size, one.lines, one.size, one.lines, there=True)
            for one in self._files.recover()
        }
        self.id = self._files.id
        self.used = sum(segment.size for segment in self._segments.values())
        self._failure: LocalFailure | None = None
        self._closed = False
        self._queue: list[tuple[int, bytes]] = []  # of the group that is being filled
        self._group: asyncio.Future[None] | None = None
        self._writing = False
        self._cut_at = -SYNC_EVERY
        self._timer: asyncio.Handle | None = None
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")

    # Appending

    def append(self, lines: Sequence[bytes], note: bytes = b"") -> Appended:
        """Append lines (without their ends) at the end; they are kept once `durable` returns.

        A note is kept with them, wholly or not at all, and comes out of `notes` again. Lines that
        were appended without one may be kept in part after a crash, if nobody was told of them.
        Raises `SpoolFull` if there is no room, `LocalFailure` once the spool has failed.
        """
        data = framed(lines, note)
        self._check()
        if not self.rules.fits(self.used, len(data)):
            raise SpoolFull(
                f"the spool is full: it keeps {self.rules.spool_bytes:,} bytes, of which "
                f"{self.used:,} are taken, and takes more once what it holds is delivered"
            )
        segment = self._newest
        if self.rules.rolls(segment.size, len(data)):
            segment = self._add(segment.number + 1)
        first = segment.lines + 1 + bool(note)
        segment.size += len(data)
        segment.lines += len(lines) + bool(note)
        self.used += len(data)
        self._queue.append((segment.number, data))
        return Appended(segment.number, first, segment.size, self._hurry())

    async def durable(self, appended: Appended) -> None:
        """Return when it is on the disk. Cancelling it changes nothing.

        Raises `LocalFailure` if it could not be brought there: then nothing of it is kept.
        """
        await asyncio.shield(appended.group)

    async def roll(self) -> bool:
        """End the newest segment, unless it is empty, so that it can be discarded.

        Returns whether it ended. Raises `LocalFailure`.
        """
        self._check()
        if not self._newest.size:
            return False
        segment = self._add(self._newest.number + 1)
        self._queue.append((segment.number, b""))
        await asyncio.shield(self._hurry())
        return True

    # Reading, and giving back

    @property
    def sizes(self) -> dict[int, int]:
        """Bytes of each segment whose file is there by its number, from the oldest."""
        return {number: one.size for number, one in self._segments.items() if one.there}

    def has_room(self, nbytes: int) -> bool:
        """Whether it takes so many bytes at once now, as far as can be told."""
        if self._failure is not None or self._closed:
            return False
        if self.ailing and self._files.free() < self.rules.segment_bytes:
            return False
        return self.rules.fits(self.used, nbytes)

    def lines(self, part: int) -> int:
        """Return how many lines of a segment are durable, notes included."""
        segment = self._segments.get(part)
        return segment.durable_lines if segment else 0

    def end(self, part: int) -> int:
        """Return how many bytes of a segment can be read: those that are durable."""
        segment = self._segments.get(part)
        return segment.durable if segment else 0

    def after(self, part: int) -> int | None:
        """Return the segment that follows another one; None while that may still grow."""
        segment = self._segments.get(part)
        if segment is not None and segment.durable < segment.size:
            return None
        return min((number for number in self._segments if number > part), default=None)

    async def grown(self, part: int, offset: int) -> None:
        """Return when a segment can be read beyond `offset`, or is followed by another one.

        Raises `LocalFailure` once the spool has failed.
        """
        while self.end(part) <= offset and self.after(part) is None:
            self._check()
            self._changed.clear()
            await self._changed.wait()

    def piece(self, part: int, offset: int, nbytes: int) -> tuple[bytes, int]:
        """Return whole lines from a place on, with blank ones for notes, and where they end.

        About `nbytes`, or more if the first line is longer. Blocks, and may be called in a thread;
        there has to be something to read. Raises `LocalFailure`.
        """
        return self._files.piece(part, offset, nbytes, self.end(part))

    async def discard(self, part: int) -> None:
        """Delete a segment whose records all have their end, durably. Raises `LocalFailure`.

        The newest that is on the disk stays: its number says which is the next.
        """
        if part not in self._segments or part >= max(self.sizes, default=part):
            return

        await self._loop.run_in_executor(self._thread, self._files.delete, part)
        self.used -= self._segments.pop(part).size
        self.ailing = ""

    def notes(self, after: Place = (0, 0)) -> Iterator[tuple[Place, bytes]]:
        """Yield the notes that were durable when it was opened, each with the place of its end.

        Those that end at `after`, or before it, are left out. Blocks. Raises `LocalFailure`.
        """
        for number in [number for number in self._segments if number >= after[0]]:
            for note in self._files.notes(number, self.end(number)):
                if (number, note.end) > after:
                    yield (number, note.end), note.text

    async def aclose(self) -> None:
        """Bring what was appended to the disk, and close. Raises nothing: who waits is told."""
        self._closed = True
        while self._group is not None or self._writing:
            if self._group is not None:
                await asyncio.wait([self._group])
            else:
                self._changed.clear()
                await self._changed.wait()
        if self._timer is not None:
            self._timer.cancel()
        await self._loop.run_in_executor(self._thread, self._files.close)
        self._thread.shutdown()
        self._changed.set()

    # The loop's side

    @property
    def _newest(self) -> _Segment:
        return self._segments[max(self._segments)]

    def _add(self, number: int) -> _Segment:
        self._segments[number] = segment = _Segment(number)
        return segment

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise LocalFailure(f"the spool {self._files.directory} is closed")

    def _hurry(self) -> asyncio.Future[None]:
        """Cut a group as soon as may be; after one that is under way that happens by itself."""
        if self._group is None:
            self._group = self._loop.create_future()
            self._group.add_done_callback(_heard)
        if not self._writing and self._timer is None:
            delay = self._cut_at + SYNC_EVERY - self._loop.time()
            if delay > 0:
                self._timer = self._loop.call_later(delay, self._cut)
            else:
                self._timer = self._loop.call_soon(self._cut)
        return self._group

    def _cut(self) -> None:
        """Hand everything that was appended since the last group to the thread."""
        self._timer, self._cut_at = None, self._loop.time()
        group, self._group = self._group, None
        assert group is not None
        jobs, self._queue = _joined(self._queue), []
        ends = {number: self._segments[number] for number, _ in jobs}
        reached = {number: (one.size, one.lines) for number, one in ends.items()}
        starts = {number: one.durable for number, one in ends.items()}
        self._writing = True
        future = self._loop.run_in_executor(self._thread, self._files.write, jobs, starts)

        def written(done: asyncio.Future[None]) -> None:
            self._writing = False
            error = done.exception()
            if error is None:
                for number, (size, lines) in reached.items():
                    ends[number].durable, ends[number].durable_lines = size, lines
                    ends[number].there = True
                self.ailing = ""
                group.set_result(None)
            else:
                self._fail(group, error)
            if self._group is not None:
                self._hurry()
            self._changed.set()

        future.add_done_callback(written)

    def _fail(self, group: asyncio.Future[None], error: BaseException) -> None:
        """Take back what was not brought to the disk, and what was to follow it there."""
        if not isinstance(error, NoRoom):
            self._failure = error if isinstance(error, LocalFailure) else _crashed(error)
            error = self._failure
        self.ailing = str(error)
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._queue = None, []
        groups, self._group = [group, *([self._group] if self._group else [])], None
        for segment in self._segments.values():
            self.used -= segment.size - segment.durable
            segment.size, segment.lines = segment.durable, segment.durable_lines
        for each in groups:
            each.set_exception(error)


def _joined(queue: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return what goes into each segment in one piece, in order."""
    jobs: dict[int, list[bytes]] = {}
    for number, data in queue:
        jobs.setdefault(number, []).append(data)
    return [(number, b"".join(pieces)) for number, pieces in jobs.items()]


def _heard(group: asyncio.Future[None]) -> None:
    """Take note of a failure that nobody may come to wait for."""
    if not group.cancelled():
        group.exception()


def _crashed(error: BaseException) -> LocalFailure:
    return LocalFailure(f"the spool failed ({type(error).__name__}): start again")
