"""From what the user asked for to the parts of a run. Only here the environment is read."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import assert_never

import msgspec

from ingest import assembly
from ingest.assembly import (
    COMBINED_TOTAL,
    HOLD,
    Choices,
    ladder_of,
    limits_of,
    paced,
    piped,
    rules_of,
)
from ingest.cli.options import SendOptions
from ingest.errors import ConfigError
from ingest.intake import BadField, IntakeRules
from ingest.ledger import Ledger, Named
from ingest.observer import Observer
from ingest.pipeline import Driver
from ingest.profiles import Caps, CapsLadder
from ingest.rates import RateLimit
from ingest.sinks.base import Choice, HttpSink, Sink
from ingest.sinks.file import FileSink
from ingest.state.dead_letters import DeadLetterFile
from ingest.tolerance import parse_tolerance

NOWHERE = "http://127.0.0.1:1"
"""URL of a sink that is opened for what it says of its requests, and never sends one."""


@asynccontextmanager
async def opened_sink(options: SendOptions) -> AsyncIterator[Sink]:
    """Open the sink that `--to` names, and close it afterwards.

    Raises `ConfigError` for one that cannot be opened, `LocalFailure` if it cannot be closed well.
    """
    async with AsyncExitStack() as stack:
        sink = await _opened(options, stack)
        stack.push_async_callback(sink.aclose)
        yield sink


async def _opened(options: SendOptions, stack: AsyncExitStack) -> Sink:
    target = options.target
    match target.where:
        case "account":
            return account_sink(options)
        case "sandbox":
            # A server is imported only by who asks for one.
            from ingest.cli.sandbox import sandbox_key
            from ingest.sandbox.server import Sandbox, SandboxSettings

            sandbox = Sandbox(SandboxSettings(key=sandbox_key(), faults=options.faults))
            await sandbox.start()
            stack.push_async_callback(sandbox.aclose)
            return _sandboxed(options, sandbox.url, sandbox.key)
        case "file":
            return FileSink(target.path, _sandboxed(options, NOWHERE, "none").wire)
        case _:
            assert_never(target.where)


def host_of(options: SendOptions) -> str:
    """Say where the records go, for people. Raises `ConfigError` as `opened_sink` does."""
    target = options.target
    match target.where:
        case "account":
            return account_sink(options).host
        case "sandbox":
            return f"a sandbox in this process, as {target.destination.name}"
        case "file":
            return target.path
        case _:
            assert_never(target.where)


def account_sink(options: SendOptions) -> HttpSink:
    """Return the sink of an account; it opens nothing until it sends. Raises `ConfigError`."""
    return options.target.destination.open(os.environ, _choice(options))


def _sandboxed(options: SendOptions, url: str, key: str) -> HttpSink:
    destination = options.target.destination
    return destination.open(destination.sandboxed(url, key), _choice(options))


def _choice(options: SendOptions) -> Choice:
    return Choice(
        endpoint=options.target.endpoint.name,
        auth=options.auth,
        allow_http=options.allow_http,
        settings=options.settings,
    )


def new_run() -> str:
    """Return a name for a run: when it began, and four characters that tell two apart."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{random.randrange(1 << 16):04x}"


def choices_of(options: SendOptions) -> Choices:
    """Return what was chosen. Raises `ConfigError` for a tolerance that makes no sense."""
    bad_field: BadField = options.on_bad_field  # type: ignore[assignment]  # click checked it
    where = options.target.where
    return Choices(
        kind=options.kind,
        limits=options.limits,
        rate=options.rate,
        unlimited=where == "file",
        share=options.share,
        in_flight=options.in_flight,
        memory=options.memory,
        if_unanswered=options.if_unanswered,
        on_bad_field=bad_field,
        strict=options.strict,
        validate=not options.no_validate,
        update_existing_only=options.update_existing_only,
        even_if_older=options.even_if_older,
        give_up_after=options.give_up_after,
        mind_the_past=True,
        limit=options.limit,
        max_bad=None if options.max_bad is None else parse_tolerance(options.max_bad),
        learned_in=options.state if where == "account" else None,
        spelled=lambda name: f"--{name.replace('_', '-')}",
    )


def assembled(
    options: SendOptions,
    sink: Sink,
    *,
    run: str,
    name_of: Callable[[int], str],
    observer: Observer,
) -> Driver:
    """Build the pipeline of a run. Raises `ConfigError` for an option that makes no sense."""
    choices, endpoint = choices_of(options), sink.endpoint
    if not endpoint.resendable and options.if_unanswered != HOLD:
        observer.notice(
            f"what gets no answer is held: a second copy of a {endpoint.name} must never go out, "
            "whatever --if-unanswered says"
        )
    letters = options.dead_letters or options.state / f"dead-letters-{run}.ndjson"
    ledger = Ledger(
        DeadLetterFile(letters, run=run),
        kinds=endpoint.kinds,
        places=Named(name_of),
        record_of=sink.record_of,
    )
    return piped(choices, sink, paced(choices, sink), ledger, observer=observer)


def remember_caps(options: SendOptions, sink: Sink, ladder: CapsLadder) -> None:
    """Keep what this run learned of the account, if it was left to find out."""
    assembly.remember_caps(choices_of(options), sink, ladder)


class Foreseen(msgspec.Struct, frozen=True):
    """The parts of a run that decide what it needs, of a sink that never sends.

    `rungs` are the caps that the account may turn out to have, the largest first, each with a
    ladder as a run begins with; `assumed` is the place of those that it has for all that is known.
    """

    sink: HttpSink
    rules: IntakeRules
    rungs: tuple[tuple[CapsLadder, Caps], ...]
    assumed: int
    limits: tuple[RateLimit, ...]


def foreseen(options: SendOptions) -> Foreseen:
    """Return what a run with these options would be made of; no credential is needed.

    Where there is one in the environment, what an earlier run learned of its account counts. Raises
    `ConfigError` for an option that makes no sense.
    """
    sink, choices = _sandboxed(options, NOWHERE, "none"), choices_of(options)
    limits = tuple(limits_of(choices, sink.endpoint))
    known: Sink = sink
    if options.target.where == "account":
        with suppress(ConfigError):
            known = account_sink(options)
    if known is sink:  # whose account it is, nobody knows
        choices = msgspec.structs.replace(choices, learned_in=None)
    ladder = ladder_of(choices, known, limits)
    caps = ladder.open
    assumed = next((at for at, one in enumerate(caps) if one.total <= COMBINED_TOTAL), -1)
    return Foreseen(
        sink,
        rules_of(choices, sink, ladder),
        tuple((ladder_of(choices, known, limits), one) for one in caps),
        assumed % len(caps),
        limits,
    )
