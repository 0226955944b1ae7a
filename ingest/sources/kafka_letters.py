"""Dead letters to a topic of Kafka: written at once to memory, safe once they are acknowledged.

Decides what becomes of a letter that no broker takes. Knows nothing of what a letter says, but
where the record is in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from ingest.codec import dumps, loads
from ingest.errors import InputError, LocalFailure
from ingest.seldom import Seldom
from ingest.sources.kafka_client import (
    CLOSE_SECONDS,
    made,
    options_of,
    package,
    servers,
)
from ingest.sources.kafka_talk import Heard

log = logging.getLogger("ingest")

AGAIN_SECONDS: Final = 1.0
"""Before a letter is sent again that was not taken."""

MOST_REQUEST_BYTES: Final = 5_000_000
"""Largest request, in bytes: a letter has the largest record there is, and some words."""

AT_ONCE: Final = 500
"""Letters that are on their way together."""

WHERE: Final = "[dead_letters.client]"

_OWN: Final = {"acks": "all", "max_request_size": MOST_REQUEST_BYTES}
"""Not idempotent: after a letter that is too long, such a producer can go on no more, and a letter
that is there twice does no harm."""


class KafkaDeadLetters:
    """A producer of letters. `write` never waits; a broker that is away keeps `flush` waiting.

    So a source commits nothing meanwhile, and what was not safe is read again after a crash.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        client: Mapping[str, Any],
        *,
        say: Callable[[str], None] = log.warning,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._client = client
        self._say = say
        self._heard = Heard()
        self._producer: Any = None
        self._waiting: deque[bytes] = deque()
        self._sending = asyncio.Lock()
        self._was_cut = False
        self._away = Seldom(say)

    @property
    def name(self) -> str:
        """The topic."""
        return self._topic

    @property
    def waiting(self) -> int:
        """Letters that are not safe yet."""
        return len(self._waiting)

    async def open(self) -> None:
        """Connect. Raises `ConfigError`, `InputError`, `MissingExtra`."""
        kafka = package()
        make = kafka.AIOKafkaProducer
        options = {**options_of(make, self._client, where=WHERE), **_OWN}
        producer = made(make, WHERE, bootstrap_servers=servers(self._bootstrap), **options)
        with Heard() as heard:
            try:
                await producer.start()
                await producer.partitions_for(self._topic)
            except kafka.errors.KafkaError as error:
                await producer.stop()
                raise InputError(
                    f"Dead letters cannot go to {self._topic} of Kafka at {self._bootstrap}: "
                    f"{heard.why(error)}. See that it is up, that the topic is there, and that "
                    f"the options in {WHERE} are those it asks for."
                ) from None
        self._producer = producer
        self._heard.__enter__()

    def write(self, lines: list[bytes]) -> None:
        """Take letters, one a line; they are safe once a `flush` that began later has returned."""
        self._waiting.extend(line.rstrip(b"\n") for line in lines)

    async def flush(self) -> None:
        """Return once every letter so far is acknowledged by all replicas in sync.

        Waits for a broker that is away. Raises `LocalFailure` for a topic that takes none.
        """
        async with self._sending:
            left = len(self._waiting)
            while left > 0:
                some = [self._waiting[at] for at in range(min(left, AT_ONCE))]
                again = await self._sent(some)
                for _ in some:
                    self._waiting.popleft()
                self._waiting.extendleft(reversed(again))
                left -= len(some) - len(again)

    async def aclose(self) -> None:
        """Close. What is not flushed is lost, unless its source sends it again."""
        if self._producer is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._producer.stop()
            self._producer = None
            self._heard.__exit__()

    async def _sent(self, letters: list[bytes]) -> list[bytes]:
        """Send letters, and return those that have to be sent again, perhaps without a record."""
        errors = package().errors
        ends = await asyncio.gather(*map(self._one, letters), return_exceptions=True)
        again: list[bytes] = []
        for letter, error in zip(letters, ends, strict=True):
            match error:
                case None:
                    continue
                case errors.MessageSizeTooLargeError():
                    again.append(self._cut(letter))
                case errors.TopicAuthorizationFailedError() | errors.InvalidTopicError():
                    raise LocalFailure(
                        f"Dead letters are refused by {self._topic} of Kafka at {self._bootstrap} "
                        f"({type(error).__name__}): allow this user to write to it."
                    )
                case errors.KafkaError():
                    again.append(letter)
                case _:
                    raise error
        failed = [one for one in ends if isinstance(one, errors.KafkaError)]
        if any(not isinstance(one, errors.MessageSizeTooLargeError) for one in failed):
            self._away(
                f"Dead letters are not taken by Kafka at {self._bootstrap} "
                f"({type(failed[-1]).__name__}): it is tried on, and nothing is committed "
                "meanwhile."
            )
            await asyncio.sleep(AGAIN_SECONDS)
        return again

    async def _one(self, letter: bytes) -> None:
        await (await self._producer.send(self._topic, letter))

    def _cut(self, letter: bytes) -> bytes:
        """Return a letter that is too long without its record: that lies where `source` says."""
        value = loads(letter)
        gone = [value.pop(name) for name in ("record", "raw") if name in value]
        if not gone:
            raise LocalFailure(
                f"A dead letter of {len(letter):,} bytes is refused by {self._topic} of Kafka: "
                "raise max.message.bytes of the topic."
            )
        if not self._was_cut:
            self._was_cut = True
            self._say(
                f"The topic {self._topic} takes no letter of {len(letter):,} bytes: those go "
                "without their record, which lies where 'source' says. Raise max.message.bytes "
                "to keep it."
            )
        return dumps({**value, "left_out": len(letter)})
