"""Dead letters to a queue of SQS: written at once to memory, safe once the queue has taken them.

Decides how letters share a request, and what becomes of one that no queue takes. Knows nothing of
what a letter says, but where the record is in it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from ingest.codec import dumps, loads
from ingest.errors import InputError, LocalFailure
from ingest.seldom import Seldom
from ingest.sources.sqs_client import TEN, Queue, Trouble, where

log = logging.getLogger("ingest")

MOST_BYTES: Final = 262_144
"""Of a message, and of all in a request, where the queue does not say how much it takes."""

MOST_ATTRIBUTE: Final = "MaximumMessageSize"

AGAIN_SECONDS: Final = 1.0
"""Before letters are sent again that were not taken; doubled up to `MOST_SECONDS`."""
MOST_SECONDS: Final = 30.0

GROUP: Final = "dead-letters"
"""Group of all letters in a FIFO queue: they are read in the order in which they were written."""

CONNECTIONS: Final = 2

TABLE: Final = "[dead_letters]"

_REFUSED: Final = {b"\xef\xbf\xbe": b"\\ufffe", b"\xef\xbf\xbf": b"\\uffff"}
"""Characters that no queue takes, and how JSON writes them otherwise; they are in strings only."""


class SqsDeadLetters:
    """Letters to a queue. `write` never waits; a queue that is away keeps `flush` waiting.

    So a source deletes nothing meanwhile, and what was not safe is read again after a crash.
    Raises `ConfigError`.
    """

    def __init__(
        self,
        queue_url: str,
        region: str | None = None,
        endpoint_url: str | None = None,
        *,
        say: Callable[[str], None] = log.warning,
    ) -> None:
        self._at: Final = where(queue_url, region, endpoint_url, table=TABLE)
        self._say: Final = say
        self._away: Final = Seldom(say)
        self._queue: Queue | None = None
        self._most = MOST_BYTES
        self._waiting: deque[bytes] = deque()
        self._sending = asyncio.Lock()
        self._was_cut = False

    @property
    def name(self) -> str:
        """The name of the queue."""
        return self._at.name

    @property
    def waiting(self) -> int:
        """Letters that are not safe yet."""
        return len(self._waiting)

    async def open(self) -> None:
        """Connect. Raises `ConfigError`, `InputError`, `MissingExtra`."""
        queue = Queue(self._at, CONNECTIONS, table=TABLE)
        try:
            attributes = await queue.open()
        except InputError as error:
            raise InputError(f"Dead letters cannot be written: {error}") from None
        most = attributes.get(MOST_ATTRIBUTE, "")
        self._most = int(most) if most.isdecimal() else MOST_BYTES
        self._queue = queue
        if self._at.in_the_clear:
            self._say(
                f"The queue {self.name} is reached by plain http: whoever is on the way can read "
                "the dead letters. Use https, but for a queue of tests."
            )

    def write(self, lines: list[bytes]) -> None:
        """Take letters, one a line; they are safe once a `flush` that began later has returned."""
        self._waiting.extend(line.rstrip(b"\n") for line in lines)

    async def flush(self) -> None:
        """Return once the queue has taken every letter so far.

        Waits for a queue that is away. Raises `LocalFailure` for one that takes none.
        """
        async with self._sending:
            left, wait = len(self._waiting), AGAIN_SECONDS
            while left > 0:
                letters = self._next(left)
                again = await self._sent(letters)
                # Those that were not taken stay in front, in their order.
                for _ in letters:
                    self._waiting.popleft()
                self._waiting.extendleft(reversed(again))
                left -= len(letters) - len(again)
                if len(again) < len(letters):
                    wait = AGAIN_SECONDS
                elif again:
                    await asyncio.sleep(wait)
                    wait = min(2 * wait, MOST_SECONDS)

    async def aclose(self) -> None:
        """Close. What is not flushed is lost, unless its source sends it again."""
        if self._queue is not None:
            await self._queue.aclose()
            self._queue = None

    def _next(self, left: int) -> list[bytes]:
        """Return the letters of one request; one that is too long is cut where it lies."""
        letters: list[bytes] = []
        size = 0
        for at in range(min(left, TEN)):
            letter = _sendable(self._waiting[at])
            if len(letter) > self._most:
                letter = self._cut(letter)
            size += len(letter)
            if size > max(self._most, MOST_BYTES) and letters:
                break
            self._waiting[at] = letter
            letters.append(letter)
        return letters

    async def _sent(self, letters: list[bytes]) -> list[bytes]:
        """Send letters, and return those that have to be sent again."""
        assert self._queue is not None, "open() comes first"
        try:
            ends = await self._queue.send([self._entry(letter) for letter in letters])
        except Trouble as why:
            if why.lasting:
                raise LocalFailure(f"Dead letters are not taken. {why}.") from None
            self._away(f"{why}. Nothing is deleted until it takes dead letters again.")
            return letters
        if ends.gone:
            raise LocalFailure(
                f"A dead letter of {len(letters[ends.gone[0]]):,} bytes is refused by the queue "
                f"{self.name}: see that it takes messages of that size."
            )
        if ends.failed:
            self._away(
                f"The queue {self.name} did not take {len(ends.failed)} dead letters ({ends.why}); "
                "they are sent again."
            )
        return [letters[at] for at in sorted(ends.failed)]

    def _entry(self, letter: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"MessageBody": letter.decode("utf-8", "replace")}
        if self._at.ordered:
            # The same letter sent again within five minutes is there once.
            name = hashlib.sha256(letter).hexdigest()
            entry |= {"MessageGroupId": GROUP, "MessageDeduplicationId": name}
        return entry

    def _cut(self, letter: bytes) -> bytes:
        """Return a letter that is too long without its record: that lies where `source` says.

        It lies there for as long as the queue keeps a bad message, and then nowhere: that is said.
        """
        value = loads(letter)
        gone = [value.pop(name) for name in ("record", "raw") if name in value]
        short = dumps({**value, "left_out": len(letter)})
        if not gone or len(short) > self._most:
            raise LocalFailure(
                f"A dead letter of {len(letter):,} bytes is longer than the queue {self.name} "
                f"takes ({self._most:,}): raise the maximum message size of the queue."
            )
        if not self._was_cut:
            self._was_cut = True
            self._say(
                f"The queue {self.name} takes no letter of {len(letter):,} bytes: letters of more "
                f"than {self._most:,} go without their record, and say so by 'left_out'. The "
                "record is then only where 'source' says, if it is still there: write dead letters "
                "to a file to keep it."
            )
        return short


def _sendable(letter: bytes) -> bytes:
    for refused, written in _REFUSED.items():
        if refused in letter:
            letter = letter.replace(refused, written)
    return letter
