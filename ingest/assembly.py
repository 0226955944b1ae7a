"""From what a person chose to the parts of a pipeline: for a command, a worker and the library.

Decides which caps, budgets and rules a choice means for a sink, and says what makes no sense in the
words of whoever chose. Reads no environment and opens nothing but what was learned of an account.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from ingest.acking import Acks
from ingest.dispositions import RetryPolicy
from ingest.errors import ConfigError
from ingest.inflight import MOST, Fixed, InFlight
from ingest.intake import BadField, Intake, IntakeRules
from ingest.lag import Watched
from ingest.ledger import Ledger
from ingest.limits import Budget, RateLimit, parse_rate, scaled
from ingest.observer import Observer
from ingest.pipeline import Driver, DriverSettings
from ingest.profiles import Caps, CapsLadder
from ingest.rates import largest_cost
from ingest.settings import parse_bytes, parse_duration, parse_in_flight, parse_share
from ingest.sinks.base import Endpoint, HttpSink, Sink
from ingest.sockets import sockets_left
from ingest.state.learned import Learned, LearnedCaps
from ingest.throttle import Throttle
from ingest.tolerance import Tolerance

OLD_EVENT: Final = timedelta(days=1)
"""Events older than this are history: it is worth a sentence that campaigns fire on them."""

ARRIVAL_SLACK: Final = 0.05
"""Seconds by which requests may come closer together on their way, where a few of them take a
second's budget: thousands of users are encoded before one leaves, and the destination counts
arrivals. It costs 5 % of the rate at most."""

AUTO: Final = "auto"
PER_ARRAY: Final = "per-array"
COMBINED: Final = "combined"
"""What limits may be besides a number."""

COMBINED_TOTAL: Final = 75
"""Records in total that `combined` stands for: Braze's own figure of 2026."""

HOLD: Final = "hold"


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """How records are to be sent; sizes, times and shares as people write them.

    `limits` is one of the three words, a number of records (of users, where those count), or caps.
    `if_unanswered` is "resend" or "hold", for all or by kind. `unlimited`: the sink has no rate.
    Caps that are found out are kept in `learned_in`, None for nowhere. `spelled(name)` is what
    whoever chose calls a choice, for complaints.
    """

    kind: str | None = None
    limits: str | int | Caps = AUTO
    rate: str | None = None
    unlimited: bool = False
    share: str | float = "80%"
    in_flight: str | int = "adaptive"
    memory: str | int = "96MB"
    linger: str | float = "1s"
    if_unanswered: str | Mapping[str, str] = "resend"
    on_bad_field: BadField = "reject"
    strict: bool = False
    validate: bool = True
    update_existing_only: bool = False
    even_if_older: bool = False
    give_up_after: str | float = math.inf
    patient: bool = False
    mind_the_past: bool = False
    limit: int | None = None
    max_bad: Tolerance | None = None
    learned_in: Path | None = None
    spelled: Callable[[str], str] = lambda name: name


class Pace(msgspec.Struct, frozen=True):
    """What outlives a pipeline: how fast an account may be sent to, and how much at once."""

    ladder: CapsLadder
    throttle: Throttle
    in_flight: InFlight | Fixed


def paced(choices: Choices, sink: Sink) -> Pace:
    """Return the pace for a sink. Raises `ConfigError` for a choice that makes no sense."""
    endpoint = sink.endpoint
    limits = limits_of(choices, endpoint)
    ladder = ladder_of(choices, sink, limits)
    counts_users = endpoint.counts == "users"
    budget = Budget(
        limits,
        counts=endpoint.counts,
        arrival_slack=ARRIVAL_SLACK if counts_users else 0.0,
        vouched=choices.rate is not None,
    )
    # A request that waits for its budget is as full as can be, and costs as much.
    cost = ladder.current.fill if counts_users else 1
    in_flight = parse_in_flight(choices.in_flight, what=choices.spelled("in_flight"))
    most = min(MOST, sockets_left() or MOST)
    return Pace(
        ladder,
        Throttle(budget, clock=time.monotonic, jitter=random.random),
        Fixed(in_flight) if in_flight else Watched(budget.rate / cost, most=most),
    )


def piped(
    choices: Choices,
    sink: Sink,
    pace: Pace,
    ledger: Ledger,
    *,
    observer: Observer,
    acks: Acks | None = None,
) -> Driver:
    """Build a pipeline. Raises `ConfigError` for a choice that makes no sense."""
    spelled, give_up = choices.spelled, choices.give_up_after
    if not isinstance(give_up, float):
        give_up = parse_duration(give_up, what=spelled("give_up_after"))
    return Driver(
        sink,
        intake=Intake(rules_of(choices, sink, pace.ladder), sink.schema),
        ladder=pace.ladder,
        throttle=pace.throttle,
        in_flight=pace.in_flight,
        ledger=ledger,
        settings=DriverSettings(
            memory=parse_bytes(choices.memory, what=spelled("memory")),
            linger=parse_duration(choices.linger, what=spelled("linger")),
            give_up_after=give_up,
            policy=RetryPolicy(hold_unanswered=held(choices, sink.endpoint)),
            old_before=f"{datetime.now(UTC) - OLD_EVENT:%Y-%m-%d}" if choices.mind_the_past else "",
            limit=choices.limit,
            max_bad=choices.max_bad,
            patient=choices.patient,
        ),
        observer=observer,
        acks=acks,
    )


def held(choices: Choices, endpoint: Endpoint) -> frozenset[int]:
    """Return the slots whose records are held where a request got no answer."""
    told = choices.if_unanswered
    if not endpoint.resendable or told == HOLD:
        return frozenset(range(len(endpoint.slots)))
    if isinstance(told, str):
        return frozenset()
    return frozenset(slot for slot, kind in enumerate(endpoint.kinds) if told.get(kind) == HOLD)


def rules_of(choices: Choices, sink: Sink, ladder: CapsLadder) -> IntakeRules:
    """Say what becomes of records; one has to fit into a request by itself."""
    return IntakeRules(
        kind=choices.kind,
        on_bad_field=choices.on_bad_field,
        strict=choices.strict,
        validate=choices.validate,
        update_existing_only=choices.update_existing_only,
        largest=ladder.current.body_bytes - sink.overhead - 1,
        even_if_older=choices.even_if_older,
    )


def limits_of(choices: Choices, endpoint: Endpoint) -> Sequence[RateLimit]:
    """Return the budgets: those given in full, else the documented ones times the share."""
    share = parse_share(choices.share, what=choices.spelled("share"))
    if choices.rate is not None:
        return parse_rate(choices.rate)
    return () if choices.unlimited else scaled(endpoint.limits, share)


def ladder_of(choices: Choices, sink: Sink, limits: Sequence[RateLimit]) -> CapsLadder:
    """Return the caps to begin with, and those to step down to. Raises `ConfigError`."""
    endpoint = sink.endpoint
    steps = tuple(_affordable(step, endpoint, limits) for step in endpoint.caps)
    asked = choices.limits
    if asked == AUTO:
        return _recalled(choices, sink, steps)
    if isinstance(asked, Caps):
        fitting = (asked, *(step for step in steps if step.total < asked.total))
    elif asked == PER_ARRAY:
        fitting = steps
    elif asked == COMBINED:
        fitting = tuple(step for step in steps if step.total <= COMBINED_TOTAL)
        fitting = fitting or (steps[-1].at_most(COMBINED_TOTAL),)
    elif not str(asked).isdecimal() or not int(asked):
        raise ConfigError(
            f"{choices.spelled('limits')} {asked!r} makes no sense: it is {AUTO}, {PER_ARRAY}, "
            f"{COMBINED}, or a number"
        )
    elif endpoint.counts == "users":
        fewer = (msgspec.structs.replace(step, users=int(asked)) for step in steps)
        fitting = tuple(_affordable(step, endpoint, limits) for step in fewer)
    else:
        most = int(asked)
        first = Caps((most,) * len(endpoint.slots), most, steps[0].body_bytes, steps[0].per_user)
        fitting = (first, *(step for step in steps if step.total < most))
    # What people say is taken for granted; it is corrected only if the destination refuses it.
    return CapsLadder(fitting, confirmed=fitting[0].total)


def _affordable(caps: Caps, endpoint: Endpoint, limits: Sequence[RateLimit]) -> Caps:
    """Return caps under which no request costs more than the budget ever grants at once."""
    if endpoint.counts == "requests":
        return caps
    most = largest_cost(limits)
    users = most if caps.users is None else min(caps.users, most)
    return caps if math.isinf(users) else msgspec.structs.replace(caps, users=int(users))


def _recalled(choices: Choices, sink: Sink, steps: tuple[Caps, ...]) -> CapsLadder:
    """Start from what was learned of this account."""
    known = None
    if choices.learned_in is not None:
        kept = LearnedCaps(choices.learned_in)
        if (account := _account(sink, kept)) is not None:
            known = kept.recall(account, time.time())
    if known is None:
        return CapsLadder(steps)
    refused = known.refused
    left = tuple(step for step in steps if refused is None or step.total < refused) or steps[-1:]
    return CapsLadder(left, confirmed=known.confirmed)


def remember_caps(choices: Choices, sink: Sink, ladder: CapsLadder) -> None:
    """Keep what was learned of the account, if it was left to find out."""
    if choices.limits != AUTO or choices.learned_in is None or not ladder.learned:
        return
    kept = LearnedCaps(choices.learned_in)
    if (account := _account(sink, kept)) is not None:
        kept.remember(account, Learned(ladder.confirmed, ladder.least_refused, time.time()))


def _account(sink: Sink, kept: LearnedCaps) -> str | None:
    """Name the account and endpoint without naming them; None where nothing is to be learned.

    By the salt of the very `kept` that is asked or told: a file not yet written has a new one.
    """
    if not isinstance(sink, HttpSink) or len(sink.endpoint.caps) == 1:
        return None
    told = sink.credential_hash(kept.salt + sink.host.encode())
    return f"{told}:{sink.name}:{sink.endpoint.name}"
