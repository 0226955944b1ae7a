"""From what the user asked for to the parts of a run. Only here the environment is read."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import assert_never

import msgspec

from ingest.cli.options import AUTO, COMBINED, PER_ARRAY, SendOptions
from ingest.errors import ConfigError
from ingest.inflight import Fixed, InFlight
from ingest.intake import BadField, Intake, IntakeRules
from ingest.ledger import Ledger
from ingest.limits import Budget, RateLimit, parse_rate, scaled
from ingest.observer import Observer
from ingest.pipeline import Pipeline, PipelineSettings
from ingest.profiles import Caps, CapsLadder
from ingest.rates import largest_cost
from ingest.retry import RetryPolicy
from ingest.settings import parse_bytes, parse_duration, parse_in_flight, parse_share
from ingest.sinks.base import Choice, Endpoint, HttpSink, Sink
from ingest.sinks.file import FileSink
from ingest.state.dead_letters import DeadLetterFile
from ingest.state.learned import Learned, LearnedCaps
from ingest.throttle import Throttle
from ingest.tolerance import parse_tolerance

OLD_EVENT = timedelta(days=1)
"""Events older than this are history: it is worth a sentence that campaigns fire on them."""

ARRIVAL_SLACK = 0.05
"""Seconds by which requests may come closer together on their way, where a few of them take a
second's budget: thousands of users are encoded before one leaves, and the destination counts
arrivals. It costs 5 % of the rate at most."""

COMBINED_TOTAL = 75
"""Records in total that `--limits combined` stands for: Braze's own figure of 2026."""

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


def assembled(
    options: SendOptions,
    sink: Sink,
    *,
    run: str,
    name_of: Callable[[int], str],
    observer: Observer,
) -> Pipeline:
    """Build the pipeline of a run. Raises `ConfigError` for an option that makes no sense."""
    endpoint = sink.endpoint
    limits = _limits(options, endpoint)
    ladder = _ladder(options, sink, limits)
    counts_users = endpoint.counts == "users"
    budget = Budget(
        limits,
        counts=endpoint.counts,
        arrival_slack=ARRIVAL_SLACK if counts_users else 0.0,
    )
    # A request that waits for its budget is as full as can be, and costs as much.
    cost = ladder.current.fill if counts_users else 1
    in_flight = parse_in_flight(options.in_flight, what="--in-flight")
    letters = options.dead_letters or options.state / f"dead-letters-{run}.ndjson"
    held = range(len(endpoint.slots)) if _holds(options, endpoint, observer) else ()
    return Pipeline(
        sink,
        intake=Intake(
            _rules(options, sink, ladder),
            sink.schema,
        ),
        ladder=ladder,
        throttle=Throttle(budget, clock=time.monotonic, jitter=random.random),
        in_flight=Fixed(in_flight) if in_flight else InFlight(budget.rate / cost),
        ledger=Ledger(
            DeadLetterFile(letters, run=run),
            kinds=endpoint.kinds,
            name_of=name_of,
            record_of=sink.record_of,
        ),
        settings=PipelineSettings(
            memory=parse_bytes(options.memory, what="--memory"),
            give_up_after=parse_duration(options.give_up_after, what="--give-up-after"),
            policy=RetryPolicy(hold_unanswered=frozenset(held)),
            old_before=f"{datetime.now(UTC) - OLD_EVENT:%Y-%m-%d}",
            limit=options.limit,
            max_bad=None if options.max_bad is None else parse_tolerance(options.max_bad),
        ),
        observer=observer,
    )


def _holds(options: SendOptions, endpoint: Endpoint, observer: Observer) -> bool:
    """Whether what got no answer is held; say so where nobody asked for it."""
    if options.if_unanswered == "hold" or endpoint.resendable:
        return options.if_unanswered == "hold"
    observer.notice(
        f"what gets no answer is held: a second copy of a {endpoint.name} must never go out, "
        "whatever --if-unanswered says"
    )
    return True


def _rules(options: SendOptions, sink: Sink, ladder: CapsLadder) -> IntakeRules:
    """What becomes of records; one has to fit into a request by itself."""
    bad_field: BadField = options.on_bad_field  # type: ignore[assignment]  # click checked it
    return IntakeRules(
        kind=options.kind,
        on_bad_field=bad_field,
        strict=options.strict,
        validate=not options.no_validate,
        update_existing_only=options.update_existing_only,
        largest=ladder.current.body_bytes - sink.overhead - 1,
        even_if_older=options.even_if_older,
    )


def _limits(options: SendOptions, endpoint: Endpoint) -> Sequence[RateLimit]:
    """The budgets: those given in full, else the documented ones times the share."""
    share = parse_share(options.share, what="--share")
    if options.rate is not None:
        return parse_rate(options.rate)
    if options.target.where == "file":
        return ()
    return scaled(endpoint.limits, share)


def _ladder(options: SendOptions, sink: Sink, limits: Sequence[RateLimit]) -> CapsLadder:
    endpoint = sink.endpoint
    steps = tuple(_affordable(step, endpoint, limits) for step in endpoint.caps)
    asked = options.limits
    if asked == AUTO:
        return _recalled(options, sink, steps)
    if asked == PER_ARRAY:
        fitting = steps
    elif asked == COMBINED:
        fitting = tuple(step for step in steps if step.total <= COMBINED_TOTAL)
        fitting = fitting or (steps[-1].at_most(COMBINED_TOTAL),)
    elif endpoint.counts == "users":
        fewer = (msgspec.structs.replace(step, users=int(asked)) for step in steps)
        fitting = tuple(_affordable(step, endpoint, limits) for step in fewer)
    else:
        most = int(asked)
        first = Caps((most,) * len(endpoint.slots), most, steps[0].body_bytes, steps[0].per_user)
        fitting = (first, *(step for step in steps if step.total < most))
    # What the user says is taken for granted; it is corrected only if the destination refuses it.
    return CapsLadder(fitting, confirmed=fitting[0].total)


def _affordable(caps: Caps, endpoint: Endpoint, limits: Sequence[RateLimit]) -> Caps:
    """Return caps under which no request costs more than the budget ever grants at once."""
    if endpoint.counts == "requests":
        return caps
    most = largest_cost(limits)
    users = most if caps.users is None else min(caps.users, most)
    return caps if math.isinf(users) else msgspec.structs.replace(caps, users=int(users))


def _recalled(options: SendOptions, sink: Sink, steps: tuple[Caps, ...]) -> CapsLadder:
    """Start from what an earlier run learned of this account."""
    kept, known = LearnedCaps(options.state), None
    if (account := _account(options, sink, kept)) is not None:
        known = kept.recall(account, time.time())
    if known is None:
        return CapsLadder(steps)
    refused = known.refused
    left = tuple(step for step in steps if refused is None or step.total < refused) or steps[-1:]
    return CapsLadder(left, confirmed=known.confirmed)


def remember_caps(options: SendOptions, sink: Sink, ladder: CapsLadder) -> None:
    """Keep what this run learned of the account, if it was left to find out."""
    kept = LearnedCaps(options.state)
    account = _account(options, sink, kept)
    if options.limits != AUTO or account is None or not ladder.learned:
        return
    learned = Learned(ladder.confirmed, ladder.least_refused, time.time())
    kept.remember(account, learned)


def _account(options: SendOptions, sink: Sink, kept: LearnedCaps) -> str | None:
    """Name the account and endpoint without naming them; None where nothing is to be learned.

    By the salt of the very `kept` that is asked or told: a file not yet written has a new one.
    """
    if options.target.where != "account" or not isinstance(sink, HttpSink):
        return None
    if len(sink.endpoint.caps) == 1:
        return None
    told = sink.credential_hash(kept.salt + sink.host.encode())
    return f"{told}:{sink.name}:{sink.endpoint.name}"


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
    sink = _sandboxed(options, NOWHERE, "none")
    limits = tuple(_limits(options, sink.endpoint))
    known: Sink = sink
    if options.target.where == "account":
        with suppress(ConfigError):
            known = account_sink(options)
    ladder = _ladder(options, known, limits)
    caps = ladder.open
    assumed = next((at for at, one in enumerate(caps) if one.total <= COMBINED_TOTAL), -1)
    return Foreseen(
        sink,
        _rules(options, sink, ladder),
        tuple((_ladder(options, known, limits), one) for one in caps),
        assumed % len(caps),
        limits,
    )
