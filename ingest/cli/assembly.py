"""From what the user asked for to the parts of a run. Only here the environment is read."""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

from ingest.cli.options import SendOptions
from ingest.cli.sandbox import sandbox_key
from ingest.errors import ConfigError
from ingest.inflight import Fixed, InFlight
from ingest.intake import BadField, Intake, IntakeRules
from ingest.ledger import Ledger
from ingest.limits import Budget, RateLimit, parse_rate, scaled
from ingest.observer import Observer
from ingest.pipeline import Pipeline, PipelineSettings
from ingest.profiles import Caps, CapsLadder
from ingest.retry import RetryPolicy
from ingest.sandbox.server import Sandbox, SandboxSettings
from ingest.settings import parse_bytes, parse_duration, parse_in_flight, parse_share, secret
from ingest.sinks.base import Endpoint, HttpSink, Sink
from ingest.sinks.braze import ENDPOINTS, BrazeSink
from ingest.sinks.file import FileSink
from ingest.state.dead_letters import DeadLetterFile
from ingest.state.learned import Learned, LearnedCaps
from ingest.throttle import Throttle

SINKS = ("sandbox", "braze", "file:PATH")

OLD_EVENT = timedelta(days=1)
"""Events older than this are history: it is worth a sentence that campaigns fire on them."""


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
    to = options.to or ""
    if to == "sandbox":
        sandbox = Sandbox(SandboxSettings(key=sandbox_key(), faults=options.faults))
        await sandbox.start()
        stack.push_async_callback(sandbox.aclose)
        return BrazeSink(sandbox.url, sandbox.key, options.endpoint, auth=options.auth)
    if to == "braze":
        return BrazeSink(
            secret(os.environ, "BRAZE_REST_URL"),
            secret(os.environ, "BRAZE_API_KEY"),
            options.endpoint,
            auth=options.auth,
            allow_http=options.allow_http,
        )
    if to.startswith("file:") and len(to) > len("file:"):
        return FileSink(to.removeprefix("file:"), endpoint=ENDPOINTS[options.endpoint])
    raise ConfigError(f"--to {to!r} is no destination: it is one of {', '.join(SINKS)}")


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
    ladder = _ladder(options, sink)
    budget = Budget(_limits(options, endpoint))
    in_flight = parse_in_flight(options.in_flight, what="--in-flight")
    letters = options.dead_letters or options.state / f"dead-letters-{run}.ndjson"
    held = range(len(endpoint.slots)) if options.if_unanswered == "hold" else ()
    bad_field: BadField = options.on_bad_field  # type: ignore[assignment]  # click checked it
    return Pipeline(
        sink,
        intake=Intake(
            IntakeRules(
                kind=options.kind,
                on_bad_field=bad_field,
                strict=options.strict,
                validate=not options.no_validate,
                update_existing_only=options.update_existing_only,
                largest=ladder.current.body_bytes - sink.overhead - 1,
            )
        ),
        ladder=ladder,
        throttle=Throttle(budget, clock=time.monotonic, jitter=random.random),
        in_flight=Fixed(in_flight) if in_flight else InFlight(budget.rate),
        ledger=Ledger(DeadLetterFile(letters, run=run), kinds=endpoint.kinds, name_of=name_of),
        settings=PipelineSettings(
            memory=parse_bytes(options.memory, what="--memory"),
            give_up_after=parse_duration(options.give_up_after, what="--give-up-after"),
            policy=RetryPolicy(hold_unanswered=frozenset(held)),
            old_before=f"{datetime.now(UTC) - OLD_EVENT:%Y-%m-%d}",
        ),
        observer=observer,
    )


def _limits(options: SendOptions, endpoint: Endpoint) -> Sequence[RateLimit]:
    """The budgets: those given in full, else the documented ones times the share."""
    share = parse_share(options.share, what="--share")
    if options.rate is not None:
        return parse_rate(options.rate)
    if (options.to or "").startswith("file:"):
        return ()
    return scaled(parse_rate(endpoint.rate), share)


def _ladder(options: SendOptions, sink: Sink) -> CapsLadder:
    steps = sink.endpoint.caps
    asked = options.limits
    if asked == "auto":
        return _recalled(options, sink, steps)
    if asked == "per-array":
        fitting = steps
    elif asked == "combined":
        fitting = tuple(step for step in steps if step.total <= 75) or steps
    elif asked.isdecimal() and int(asked) > 0:
        most = int(asked)
        slots = len(sink.endpoint.slots)
        first = Caps((most,) * slots, most, steps[0].body_bytes, steps[0].per_user)
        fitting = (first, *(step for step in steps if step.total < most))
    else:
        raise ConfigError(
            f"--limits {asked!r} makes no sense: it is auto, per-array, combined, or a number"
        )
    # What the user says is taken for granted; it is corrected only if the destination refuses it.
    return CapsLadder(fitting, confirmed=fitting[0].total)


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
    if options.limits != "auto" or account is None or not ladder.learned:
        return
    learned = Learned(ladder.confirmed, ladder.least_refused, time.time())
    kept.remember(account, learned)


def _account(options: SendOptions, sink: Sink, kept: LearnedCaps) -> str | None:
    """Name the account without naming it; None where there is none to speak of.

    By the salt of the very `kept` that is asked or told: a file not yet written has a new one.
    """
    if options.to == "sandbox" or not isinstance(sink, HttpSink):
        return None
    return f"{sink.credential_hash(kept.salt + sink.host.encode())}:{sink.endpoint.name}"
