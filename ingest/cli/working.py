"""From a configuration to a worker: each source with its session, its driver and its journal.

Decides what outlives a session (the pace, the balance, the letters) and what does not. What a part
does, its own module says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, assert_never

import msgspec

from ingest.acking import Acks
from ingest.assembly import Choices, Pace, paced, piped, remember_caps, rules_of
from ingest.balance import Balance
from ingest.cli.assembly import new_run
from ingest.cli.letterbox import Letterbox, opened_letterbox
from ingest.cli.parts import choices_of, messages_of, opened_sink, shape_of, target_of
from ingest.codec import dumps
from ingest.configuration import Configuration, Http, Kafka, Sqs, Stdin
from ingest.judging import Judge, LineJudge
from ingest.ledger import Ledger, Places
from ingest.messages import Messages, Unreadable
from ingest.observer import Answered, LogObserver, Observer
from ingest.ops import Ops
from ingest.pipeline import Driver
from ingest.records import KIND_UNKNOWN
from ingest.segments import SpoolRules
from ingest.settings import parse_bytes, parse_duration
from ingest.sinks.base import Sink
from ingest.sources.base import Block
from ingest.sources.bodies import COPIES
from ingest.sources.converting import converted
from ingest.sources.http import HttpIntake
from ingest.sources.http_settings import MEMORY, HttpIntakeSettings, token_from
from ingest.sources.kafka import KafkaSource
from ingest.sources.kafka_settings import KafkaSettings, with_secrets
from ingest.sources.live import LiveSource, Session
from ingest.sources.piped import PipeSource
from ingest.sources.spooled import SpoolSource
from ingest.sources.sqs import SqsSettings, SqsSource
from ingest.spooling import Kept, kept, recorded
from ingest.state.directory import StateDirectory
from ingest.state.keys import Keys
from ingest.taken import Refusal
from ingest.worker import Worker, WorkerSettings

log = logging.getLogger("ingest")

WITHIN: Final = "a sandbox in this process"
"""What is written down as the host of one."""

INTAKE: Final = "http"
"""What people call records that came by HTTP."""


class _Sending(msgspec.Struct):
    """What all sessions of a worker have in common."""

    config: Configuration
    choices: Choices
    sink: Sink
    pace: Pace
    box: Letterbox
    messages: Messages
    observer: Observer
    balance: Balance

    def driver(self, places: Places, acks: Acks) -> Driver:
        """Return a fresh driver."""
        ledger = Ledger(
            self.box.letters,
            kinds=self.sink.endpoint.kinds,
            places=places,
            record_of=self.sink.record_of,
            balance=self.balance,
        )
        return piped(self.choices, self.sink, self.pace, ledger, observer=self.observer, acks=acks)

    def drive(self, session: Session) -> tuple[Driver, Acks]:
        """Return the driver of a session of a broker."""
        acks = Acks(session.settled)
        return self.driver(session, acks), acks

    @property
    def converts(self) -> bool:
        """Whether lines have to become other lines, where no source does that."""
        return bool(self.config.map) or self.config.transform is not None

    async def passed(self, block: Block) -> Block:
        """Let a block of a source that has messages pass."""
        await self.box.room()
        return block

    async def converted(self, block: Block) -> Block:
        """Let a block of lines pass, which are as they came."""
        await self.box.room()
        return await converted(block, self.messages.line) if self.converts else block


class _Observer(LogObserver):
    """Writes notices to the log, and times where they are measured."""

    def __init__(self) -> None:
        self.measured: Callable[[float], None] = lambda seconds: None

    def answered(self, found: Answered) -> None:
        """Measure."""
        self.measured(found.seconds)


@asynccontextmanager
async def opened_worker(
    config: Configuration, environ: Mapping[str, str], *, command: str
) -> AsyncIterator[Worker]:
    """Make the worker of a configuration, with its pages; close what is its own afterwards.

    `command` is what was typed. Raises `ConfigError`, `InputError`, `MissingExtra`, `LocalFailure`.
    """
    choices, messages = choices_of(config), messages_of(config)
    async with AsyncExitStack() as stack:
        sink = await stack.enter_async_context(opened_sink(config, environ))
        pace = paced(choices, sink)
        stack.callback(remember_caps, choices, sink, pace.ladder)
        observer = _Observer()
        if not sink.endpoint.resendable:
            observer.notice(
                f"what gets no answer is held: a second copy of a {sink.endpoint.name} must never "
                "go out, whatever sink.if_unanswered says"
            )
        made: list[Worker] = []
        ops = Ops(
            config.ops.host,
            config.ops.port,
            vitals=lambda: made[0].vitals(),
            ready=lambda: bool(made) and made[0].ready,
        )
        observer.measured = ops.metrics.answered
        state, found = Path(config.state), None
        if isinstance(config.source, Http):
            rules = SpoolRules(parse_bytes(config.source.spool_bytes, what="source.spool_bytes"))
            # A sandbox is made anew at each start, at another port.
            host = WITHIN if target_of(config).where == "sandbox" else ""
            shape = shape_of(config)
            found = await stack.enter_async_context(kept(state, rules, sink, shape, host=host))
        else:
            stack.enter_context(StateDirectory(state))
        # By its name, letters of what a crash kept from being settled are known, and cut away.
        run = new_run() if found is None else found.spool.id
        box = await stack.enter_async_context(opened_letterbox(config, environ, run=run))
        sending = _Sending(config, choices, sink, pace, box, messages, observer, Balance())
        worker = await _working(sending, environ, ops, stack, command, found)
        made.append(worker)
        await stack.enter_async_context(ops)
        yield worker


async def _working(
    sending: _Sending,
    environ: Mapping[str, str],
    ops: Ops,
    stack: AsyncExitStack,
    command: str,
    found: Kept | None,
) -> Worker:
    told = sending.config.source
    match told:
        case Kafka():
            return _worker(sending, _kafka(told, sending, environ))
        case Sqs():
            return _worker(sending, _sqs(told, sending))
        case Stdin():
            log.warning(
                "stdin cannot be read again: what was read and not delivered is lost if this "
                "process is killed; for files there is  ingest import"
            )
            return _worker(sending, PipeSource(), passed=sending.converted, drains=True)
        case Http():
            assert found is not None
            made = _http(told, sending, environ, ops, command, found)
            return await stack.enter_async_context(made)
        case _:
            assert_never(told)


def _worker(
    sending: _Sending,
    source: LiveSource,
    *,
    passed: Callable[[Block], Any] | None = None,
    drains: bool = False,
) -> Worker:
    return Worker(
        source,
        sending.drive,
        balance=sending.balance,
        throttle=sending.pace.throttle,
        settings=_settings(sending.config, drains=drains),
        passed=passed or sending.passed,
    )


def _settings(
    config: Configuration, *, drains: bool = False, keeps: bool = False
) -> WorkerSettings:
    seconds = parse_duration(config.drain_timeout, what="drain_timeout")
    return WorkerSettings(drain_timeout=seconds, drains=drains, keeps=keeps)


def _kafka(told: Kafka, sending: _Sending, environ: Mapping[str, str]) -> KafkaSource:
    settings = KafkaSettings(
        topics=told.topics,
        group=told.group,
        bootstrap=told.bootstrap,
        kind=told.kind,
        client=with_secrets(told.client, environ),
    )
    return KafkaSource(settings, sending.box.durable, line=sending.messages.line)


def _sqs(told: Sqs, sending: _Sending) -> SqsSource:
    settings = SqsSettings(
        queue_url=told.queue_url,
        region=told.region,
        endpoint_url=told.endpoint_url,
        pollers=told.pollers,
        visibility=round(parse_duration(told.visibility, what="source.visibility")),
        kind=told.kind,
        bad=told.bad,
    )
    return SqsSource(settings, sending.box.durable, line=sending.messages.line)


# --- the intake -----------------------------------------------------------------------------------


class _Lines(msgspec.Struct, frozen=True):
    """Places in a spool: the same as its sessions have, for whoever needs them before."""

    def place(self, part: int, line: int) -> str:
        return f"{INTAKE}[{part}]:{line}"

    def whence(self, part: int, line: int) -> dict[str, Any]:
        return {"name": INTAKE, "part": part, "line": line}


@asynccontextmanager
async def _http(
    told: Http,
    sending: _Sending,
    environ: Mapping[str, str],
    ops: Ops,
    command: str,
    found: Kept,
) -> AsyncIterator[Worker]:
    """Make the worker of an intake: a spool has what is accepted, a journal what is settled."""
    config, sink, spool = sending.config, sending.sink, found.spool
    body_bytes = parse_bytes(told.body_bytes, what="source.body_bytes")
    settings = HttpIntakeSettings(
        host=told.host,
        port=told.port,
        token=token_from(environ),
        body_bytes=body_bytes,
        memory=max(MEMORY, COPIES * body_bytes),
    )
    async with AsyncExitStack() as stack:
        keys = Keys(Path(config.state), spool.id)
        stack.push_async_callback(keys.aclose)
        keys.recover(spool.notes(keys.mark))
        intake = HttpIntake(
            spool,
            _judge(sending),
            keys,
            settings=settings,
            refused=lambda refusals: worker.turned_away(refusals),
            pages=ops.pages(),
        )
        source = SpoolSource(spool, INTAKE, front=intake, room=body_bytes, before=[keys.durable])
        acks = Acks()
        driver = sending.driver(_Lines(), acks)
        recording = recorded(found, driver, sink, source)
        if (run := found.journal.find(found.identity)) is not None:
            found.journal.reopen(run, command=command)  # what to type to go on
        intake.watching.watcher = acks
        worker = Worker(
            source,
            lambda session: (driver, acks),  # a spool has one session for good
            balance=sending.balance,
            throttle=sending.pace.throttle,
            settings=_settings(config, keeps=True),
            passed=sending.converted,
            spool_bytes=lambda: spool.used,
        )
        try:
            yield worker
            if not sending.balance.count("pending"):
                # An empty spool is nobody's: the next start may send elsewhere, or otherwise.
                await recording.durable()
                await spool.roll()
                await source.sweep()
            report = _report(sending, spool.id, recording.seconds)
            await recording.finish("interrupted", report, time.time())
        finally:
            await recording.aclose()


def _judge(sending: _Sending) -> Judge:
    """Return what judges lines at the door, as they will be judged when they are read."""
    judge = LineJudge(
        rules_of(sending.choices, sending.sink, sending.pace.ladder), sending.sink.schema
    )
    line = sending.messages.line

    def judged(lines: Sequence[bytes], now: float) -> dict[int, Refusal]:
        made: list[bytes] = []
        refused: dict[int, Refusal] = {}
        for at, text in enumerate(lines):
            try:
                made.append(line(text))
            except Unreadable as bad:
                made.append(b"")
                told = (bad.code, bad.field, str(bad))
                refused[at] = Refusal(KIND_UNKNOWN, *told, 0, at, raw=text, summary=bad.summary)
        return judge(made, now) | refused

    return judged if sending.converts else judge


def _report(sending: _Sending, run: str, seconds: float) -> bytes:
    target = target_of(sending.config)
    return dumps(
        sending.balance.report(
            run=run,
            state="interrupted",
            halted_because=None,
            source=[INTAKE],
            sink=sending.config.sink.type,
            endpoint=target.endpoint.name,
            limits=str(sending.config.sink.limits),
            seconds=seconds,
        )
    )
