"""Takes blocks in while there is room: the half of the pipeline that stands at the source.

Decides when reading waits, and where it ends: with the source, at a limit, or when the run stops.
It hands on what is valid and sees that all of it is accounted for; knows no destination.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Final

from ingest.agenda import Agenda
from ingest.errors import InputError
from ingest.intake import Intake
from ingest.noting import Noting
from ingest.observer import Observer
from ingest.proving import Prover
from ingest.quota import Quota
from ingest.reading import judged, rationed
from ingest.sources.base import Block
from ingest.taken import Refusal, Taken

YIELD_AFTER: Final = 0.002
"""Seconds of work on the loop after which others get their turn."""


MOST_OFFERED: Final = 256
"""Lines that are offered in one turn of the loop and go on together: a slice of the intake's."""

NOTHING_ELSE: Final = Block(0, b"", 0, 0, line_numbers=(), resumable=False)
"""The end of a block, where lines come one by one: none of them was blank."""


class Reader:
    """Reads one source into an agenda.

    `limit` is how many records may still be read, None for all of them. `came` is called when there
    is something new, `checked` after each slice of lines, `stopping` says whether the run stops.
    `old_before` is that of the pipeline's settings.
    """

    def __init__(
        self,
        intake: Intake,
        agenda: Agenda,
        observer: Observer,
        *,
        kinds: tuple[str, ...],
        old_before: str,
        came: Callable[[], None],
        checked: Callable[[], None],
        stopping: Callable[[], bool],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.error: InputError | None = None
        """Why the source broke off; what was read before it is good."""
        self.records_read = 0
        """Records that lie in the bytes read: of whole blocks, as those are."""
        self._intake = intake
        self._agenda = agenda
        self._observer = observer
        self._kinds = kinds
        self._old_before = old_before
        self._came = came
        self._checked = checked
        self._stopping = stopping
        self._clock = clock
        self._wall = wall
        self._quota: Quota | None = None
        self._offsets: dict[int, int] = {}
        self._room = asyncio.Event()
        self._said_old = False
        self._gathered: asyncio.Handle | None = None
        self._offered = 0

    @property
    def prover(self) -> Prover | None:
        """What proves lines for the intake; None where it takes no proof."""
        return self._intake.prover

    @property
    def bytes_read(self) -> int:
        """Raw bytes of the source that were taken in, by earlier processes of this run too."""
        return sum(self._offsets.values())

    @property
    def limited(self) -> bool:
        """Whether reading stopped at the limit, with more to read."""
        return self._quota is not None and self._quota.reached

    @property
    def left(self) -> int | None:
        """Records that may still be read under the limit; None without one."""
        return None if self._quota is None else self._quota.left

    def begin_at(self, ordinals: Mapping[int, int], offsets: Mapping[int, int]) -> None:
        """Number the records of these parts from here on: an earlier run read those before.

        `offsets` are the raw bytes of these parts that it read.
        """
        self._offsets |= offsets
        for part, ordinal in ordinals.items():
            self._intake.begin(part, ordinal)
        self.records_read = self._intake.numbered

    def make_room(self) -> None:
        """Let reading go on if it waits: something was settled, or less of it may go."""
        self._room.set()

    async def read(
        self, blocks: AsyncIterator[Block], noting: Noting, *, limit: int | None
    ) -> None:
        """Read until the source or the limit ends it, or the run stops."""
        if limit is not None:
            self._quota = Quota(limit)
        try:
            async for block in blocks:
                await self._take_in(block, noting)
                if self.limited or self._stopping():
                    break
        except InputError as error:
            # What was read before is good, and goes out; the run ends with the sentence.
            self.error = error
            self._observer.notice(str(error))
        finally:
            self._agenda.source_ended = True
            self._came()

    def offer(self, line: bytes, number: int, noting: Noting) -> Refusal | None:
        """Take a line in at once, whatever room there is, or nothing of it.

        Returns why nothing was taken in, and has then accounted for nothing; else None. Lines that
        are offered in one turn of the loop go on together, in the next one.
        """
        refusal = self._intake.gather(0, line, number, self._wall())
        if refusal is not None:
            return refusal
        if self._gathered is None:
            loop = asyncio.get_running_loop()
            self._gathered = loop.call_soon(self.take_offered, noting)
        self._offered += 1
        if self._offered >= MOST_OFFERED:
            self.take_offered(noting)  # whoever offers without a pause has to see that it is full
        return None

    def take_offered(self, noting: Noting) -> None:
        """Let what was offered go on now."""
        if self._gathered is None:
            return
        self._gathered.cancel()
        self._gathered, self._offered = None, 0
        taken = noting.take_in(0, self._intake.gathered(), self._intake)
        for chunk in taken.chunks:
            self._agenda.add(chunk)
        noting.read(NOTHING_ELSE, self._intake)
        self._came()

    async def room(self) -> None:
        """Return when there is room for more, or nothing more is taken in."""
        agenda = self._agenda
        try:
            while agenda.enough and not self._stopping():
                agenda.reader_waits = True
                self._came()
                self._room.clear()
                await self._room.wait()
        finally:
            agenda.reader_waits = False

    async def _take_in(self, block: Block, noting: Noting) -> None:
        agenda, since = self._agenda, self._clock()
        for found in self._judged(block, noting):
            if noting.holds_back(found):
                await noting.keep_up(found)
            taken = noting.take_in(block.part, found, self._intake)
            self._mind_the_past(taken.time)
            self._checked()
            for chunk in taken.chunks:
                agenda.add(chunk)
            self._came()
            await self.room()
            if self._clock() - since >= YIELD_AFTER:
                await asyncio.sleep(0)
                since = self._clock()
            if self._stopping():
                return
        if self.limited:
            return  # what follows begins within the block
        noting.read(block, self._intake)
        self._offsets[block.part] = block.end_offset
        self.records_read = self._intake.numbered

    def _judged(self, block: Block, noting: Noting) -> Iterator[Taken]:
        now = self._wall()
        if self._quota is None:
            return judged(self._intake, block, now)
        counted = noting.counted(block.part)
        return rationed(self._intake, block, now, self._quota, counted, self._kinds)

    def _mind_the_past(self, time: str) -> None:
        """Say once that history is being sent: events and purchases fire live campaigns."""
        if not self._said_old and time and time < self._old_before:
            self._said_old = True
            self._observer.notice(
                "events or purchases of the past are being sent: to the destination they happen "
                "now, so live campaigns and canvases may fire on them"
            )
