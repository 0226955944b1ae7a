"""Where a worker's dead letters go: a file, a topic, a queue, or stdout, each made safe in its way.

Decides when a source may be told, and when reading waits for letters that are not safe yet. What a
letter says, others know.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from ingest.configuration import Configuration, Kafka, Sqs
from ingest.errors import LocalFailure
from ingest.sources.kafka_letters import KafkaDeadLetters
from ingest.sources.kafka_settings import with_secrets
from ingest.sources.live import Durable
from ingest.sources.sqs_letters import SqsDeadLetters
from ingest.state.dead_letters import DeadLetterFile, LetterLines, Letters

log = logging.getLogger("ingest")

FILE: Final = "dead-letters-worker.ndjson"
"""In the state directory, unless told otherwise; all workers that had it wrote to the same one."""

MOST_WAITING: Final = 1_000
"""Letters on their way to a broker beyond which nothing more is read: they are in memory."""

LAST_SECONDS: Final = 5.0
"""How long the last letters may take to be safe, when the worker ends."""

LOOK_SECONDS: Final = 0.5
"""How soon a thread that waits for a broker notices that the worker ends."""

STDOUT: Final = 1


class Letterbox(msgspec.Struct, frozen=True):
    """Where letters go. `durable` brings them to safety, `room` waits until more may be read."""

    letters: Letters
    durable: Durable
    room: Durable


class Broker(Protocol):
    """What takes letters elsewhere."""

    @property
    def name(self) -> str: ...
    @property
    def waiting(self) -> int: ...
    async def open(self) -> None: ...
    def write(self, lines: list[bytes]) -> None: ...
    async def flush(self) -> None: ...
    async def aclose(self) -> None: ...


@asynccontextmanager
async def opened_letterbox(
    config: Configuration, environ: Mapping[str, str], *, run: str
) -> AsyncIterator[Letterbox]:
    """Open it, and close it. Raises `ConfigError`, `InputError`, `MissingExtra`, `LocalFailure`."""
    told, source = config.dead_letters, config.source
    match told.type:
        case "file":
            path = Path(told.path) if told.path else Path(config.state) / FILE
            if told.path:
                writable(path, "dead_letters.path")  # now, and not with the first letter
            # A user's later attributes may come in another session, or to another process.
            file = DeadLetterFile(path, run=run, marks=False)
            yield Letterbox(file, lambda: asyncio.to_thread(file.sync), _nothing)
            file.close()
        case "stdout":
            yield Letterbox(LetterLines("stdout", _print, run=run), _nothing, _nothing)
        case "kafka":
            bootstrap = told.bootstrap or (source.bootstrap if isinstance(source, Kafka) else "")
            # Whoever names no other broker means that of the source, which is reached the same way.
            client = told.client
            if not client and not told.bootstrap and isinstance(source, Kafka):
                client = _of_both(source.client)
            topic = KafkaDeadLetters(bootstrap, told.topic or "", with_secrets(client, environ))
            async with _brokered(topic, run) as box:
                yield box
        case "sqs":
            near = source if isinstance(source, Sqs) else None
            queue = SqsDeadLetters(
                told.queue_url or "",
                told.region or (near.region if near else None),
                told.endpoint_url or (near.endpoint_url if near else None),
            )
            async with _brokered(queue, run) as box:
                yield box


@asynccontextmanager
async def _brokered(broker: Broker, run: str) -> AsyncIterator[Letterbox]:
    await broker.open()
    letters = _Awaited(broker, run=run)

    async def room() -> None:
        while broker.waiting > MOST_WAITING:
            await broker.flush()

    try:
        yield Letterbox(letters, broker.flush, room)
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await broker.flush()
        except TimeoutError:
            log.warning(
                "%d dead letters could not be written to %s: what they are about is read again, if "
                "its source has it still",
                broker.waiting,
                broker.name,
            )
    finally:
        letters.give_up()
        await broker.aclose()


class _Awaited(LetterLines):
    """Letters to a broker, for a journal: what it commits waits until they are safe there."""

    def __init__(self, broker: Broker, *, run: str) -> None:
        super().__init__(broker.name, broker.write, run=run)
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        self._given_up = False

    @property
    def safe(self) -> bool:
        """Whether the broker has all of them."""
        return not self._broker.waiting

    def give_up(self) -> None:
        """Wait no longer: then nothing more is committed."""
        self._given_up = True

    def sync(self) -> None:
        """Return once they are safe; not to be called on the loop. Raises `LocalFailure`."""

        async def flushed() -> None:
            await self._broker.flush()

        future = asyncio.run_coroutine_threadsafe(flushed(), self._loop)
        while not self._given_up:
            try:
                return future.result(LOOK_SECONDS)
            except concurrent.futures.TimeoutError:
                if future.done():
                    raise
        future.cancel()
        raise LocalFailure(f"dead letters could not be written to {self.path} before the end")


async def _nothing() -> None:
    """Letters of this sort are as safe as they get, or are never too many."""


_CONSUMING: Final = (
    *("auto_offset_reset", "isolation_level", "session_timeout_ms", "heartbeat_interval_ms"),
    *(
        "rebalance_timeout_ms",
        "max_poll_interval_ms",
        "max_poll_records",
        "max_partition_fetch_bytes",
    ),
    *("fetch_max_bytes", "fetch_min_bytes", "fetch_max_wait_ms", "partition_assignment_strategy"),
    *("consumer_timeout_ms", "check_crcs", "exclude_internal_topics", "group_instance_id"),
)
"""Options of a consumer that a producer does not know."""


def _of_both(client: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in client.items() if name not in _CONSUMING}


def _print(lines: list[bytes]) -> None:
    data = memoryview(b"".join(line + b"\n" for line in lines))
    try:
        while data:
            data = data[os.write(STDOUT, data) :]
    except OSError as error:
        raise LocalFailure(
            f"dead letters cannot be written to stdout: {error.strerror}. Redirect it to something "
            "that is there, or choose another place in [dead_letters]"
        ) from error


def writable(path: Path, key: str) -> None:
    """Raise `LocalFailure` unless a file can be written, or made."""
    if path.is_dir():
        raise LocalFailure(f"{key} names {path}, which is a directory: name a file in it")
    if path.exists():
        if not os.access(path, os.W_OK):
            raise LocalFailure(f"{key} names {path}, which this user may not write to")
        return
    if not path.absolute().parent.is_dir():
        raise LocalFailure(f"{key} names {path}, in a directory that is not there: make it")
    makeable(path.absolute().parent, f"the file {path} of {key}")


def makeable(parent: Path, what: str) -> None:
    """Raise `LocalFailure` unless something can be made below the first parent that is there."""
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise LocalFailure(
            f"{what} cannot be made: {parent} is no directory that this user may write to"
        )
