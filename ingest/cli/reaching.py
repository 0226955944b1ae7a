"""Whether those whom a worker needs do answer: its source, its destination, its dead letters.

Decides what each of them is asked (never for data, and never with data), and what an answer says
of credentials. Joins no group, receives no message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from ingest.cli.checking import KAFKA, LETTERS, Check, sink_of
from ingest.configuration import Configuration, Kafka, Sqs
from ingest.errors import ConfigError, DestinationDown, Halted, IngestError, InputError
from ingest.outcomes import Response, Throttled, Unanswered, Unauthorized, Unavailable
from ingest.records import EMPTY_COLUMN, Batch
from ingest.sinks.base import HttpSink
from ingest.sources.kafka_client import CLOSE_SECONDS, made, options_of, package, servers
from ingest.sources.kafka_settings import with_secrets
from ingest.sources.kafka_talk import Heard
from ingest.sources.sqs_client import Queue, Trouble, where

REACH_SECONDS: Final = 15.0
"""How long an answer may take: longer than a connection (10 s), shorter than a probe's patience."""

COORDINATOR_SECONDS: Final = 10.0
"""How long a broker may take to say who coordinates a group: one that is new makes the topic that
it keeps groups in when it is asked for the first time."""

ASK_AGAIN_SECONDS: Final = 0.2

REFUSED: Final = 3
AWAY: Final = 75

_TAKEN: Final = (200, 201, 202, 400)
"""Statuses that say that the key was taken: of an empty body they are the answer, or a refusal."""

_ALLOWS_NOT: Final = frozenset(
    {
        "AuthenticationFailedError",
        "AuthenticationMethodNotSupported",
        "ClusterAuthorizationFailedError",
        "GroupAuthorizationFailedError",
        "IllegalSaslStateError",
        "SaslAuthenticationFailed",
        "TopicAuthorizationFailedError",
        "UnsupportedSaslMechanismError",
    }
)
"""Errors of aiokafka that are about who asks."""

_NOT_YET: Final = frozenset(
    {
        "GroupCoordinatorNotAvailableError",
        "GroupLoadInProgressError",
        "NotCoordinatorForGroupError",
    }
)
"""Errors of aiokafka that pass by themselves."""

_ALONE: Final = ("", "consumer")
"""Protocols of a group that a consumer may join; Connect's, for one, is another."""


async def online(config: Configuration, environ: Mapping[str, str]) -> AsyncIterator[Check]:
    """Yield what comes of asking, one after another."""
    source, letters = config.source, config.dead_letters
    if isinstance(source, Kafka):
        client = with_secrets(source.client, environ)
        yield await kafka(
            "source", source.bootstrap, client, source.topics, group=source.group, table=KAFKA
        )
    elif isinstance(source, Sqs):
        yield await sqs("source", source.queue_url, source.region, source.endpoint_url, "[source]")
    sink = sink_of(config, environ)
    if sink is not None:
        yield await destination(sink)
    if letters.type == "kafka":
        near = source if isinstance(source, Kafka) and not letters.bootstrap else None
        options = letters.client or (near.client if near else {})
        yield await kafka(
            "dead letters",
            letters.bootstrap or (near.bootstrap if near else ""),
            with_secrets(options, environ),
            (letters.topic or "",),
            table=LETTERS,
        )
    elif letters.type == "sqs":
        queue = source if isinstance(source, Sqs) else None
        yield await sqs(
            "dead letters",
            letters.queue_url or "",
            letters.region or (queue.region if queue else None),
            letters.endpoint_url or (queue.endpoint_url if queue else None),
            "[dead_letters]",
        )


# --- the destination ------------------------------------------------------------------------------


async def destination(sink: HttpSink) -> Check:
    """Send a request without a record, which changes nothing, and see whether the key is taken."""
    what, host = "destination", sink.host
    empty = Batch(0, 0, tuple(EMPTY_COLUMN for _ in sink.endpoint.slots))
    try:
        async with asyncio.timeout(REACH_SECONDS):
            reply = await sink.send(sink.wire.request(empty))
    except TimeoutError:
        return Check(what, f"{host} did not answer within {REACH_SECONDS:.0f} s", AWAY)
    except IngestError as error:
        return Check(what, str(error), error.exit_status)
    finally:
        await sink.aclose()
    if not isinstance(reply, Response):
        return Check(what, reply.reason, AWAY)
    outcome = sink.wire.interpret(empty, reply)
    match outcome:
        case Unauthorized():
            return Check(what, f"{host} refuses the credential: {outcome.reason}", REFUSED)
        case Throttled():
            said = f"{host} answers 429, as it does when its rate is used up: try again later"
            return Check(what, said, known=False)
        case Unavailable() | Unanswered():
            return Check(what, f"{host}: {outcome.reason}", AWAY)
    if reply.status in _TAKEN:
        return Check(
            what,
            f"{host} answers, and does not refuse the key (asked with an empty request, "
            f"{reply.status})",
        )
    reason = getattr(outcome, "reason", f"the destination answered {reply.status}")
    return Check(what, f"{host}: {reason}", ConfigError.exit_status)


# --- Kafka ----------------------------------------------------------------------------------------


async def kafka(
    what: str,
    bootstrap: str,
    client: Mapping[str, Any],
    topics: Sequence[str],
    *,
    group: str | None = None,
    table: str,
) -> Check:
    """Ask for topics, and for the group, without joining it."""
    try:
        package_ = package()
        make = package_.admin.AIOKafkaAdminClient
        options = options_of(make, client, where=table)
        admin = made(make, table, bootstrap_servers=servers(bootstrap), **options)
    except IngestError as error:
        return Check(what, str(error), error.exit_status)
    at = f"Kafka at {bootstrap}"
    with Heard() as heard:
        try:
            async with asyncio.timeout(REACH_SECONDS):
                await admin.start()
                said = [await _topics(admin, at, topics)]
                if group is not None:
                    said.append(await _group(admin, package_, group))
            return Check(what, f"{at} answers; {'; '.join(said)}")
        except IngestError as error:
            return Check(what, str(error), error.exit_status)
        except TimeoutError:
            return Check(what, f"{at} does not answer within {REACH_SECONDS:.0f} s", AWAY)
        except (package_.errors.KafkaError, OSError) as error:
            return trouble(what, at, heard.why(error), type(error).__name__, table)
        finally:
            with suppress(TimeoutError, OSError, package_.errors.KafkaError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await admin.close()


def trouble(what: str, at: str, why: str, error: str, table: str) -> Check:
    """Return what an error of the client of Kafka means; `why` begins with that of its log."""
    if not _ALLOWS_NOT.isdisjoint((error, why.partition(":")[0])):
        return Check(
            what,
            f"{at} refuses this user ({why}): see the options in {table}, INGEST_KAFKA_PASSWORD, "
            "and that READ is granted on the topic and the group (WRITE for dead letters)",
            REFUSED,
        )
    return Check(
        what,
        f"{at} cannot be reached ({why}): see that it is up, that 'bootstrap' names it as "
        f"host:port, and that the options in {table} are those it asks for",
        AWAY,
    )


async def _topics(admin: Any, at: str, topics: Sequence[str]) -> str:
    """Return the topics with their partitions. Raises `InputError`."""
    there = set(await admin.list_topics())  # to ask for one by its name might make it
    if missing := [topic for topic in topics if topic not in there]:
        raise InputError(
            f"{at} has no topic {', '.join(missing)}, or does not show it to this user: create it, "
            "allow it to be read, or mend its name"
        )
    found = await admin.describe_topics(list(topics))
    sizes = {one["topic"]: len(one["partitions"]) for one in found}
    return ", ".join(f"{topic} ({_counted(sizes[topic], 'partition')})" for topic in topics)


async def _group(admin: Any, package_: Any, group: str) -> str:
    """Return how a group is. Raises `InputError` for one that is not of consumers."""
    found = await _described(admin, package_, group)
    if found["protocol_type"] not in _ALONE:
        raise InputError(
            f"the group {group} belongs to something else ({found['protocol_type']}): choose "
            "another 'group' in [source]"
        )
    members = len(found["members"])
    if members:
        return f"the group {group} has {_counted(members, 'member')}"
    return f"the group {group} has no member now"


async def _described(admin: Any, package_: Any, group: str) -> Mapping[str, Any]:
    """Return what the coordinator of a group says of it, once there is one."""
    clock = asyncio.get_running_loop().time
    until = clock() + COORDINATOR_SECONDS
    while True:
        try:
            (answer,) = await admin.describe_consumer_groups([group])
            found: Mapping[str, Any] = answer.to_object()["groups"][0]
            if found["error_code"]:
                raise package_.errors.for_code(found["error_code"])
            return found
        except package_.errors.KafkaError as error:
            if type(error).__name__ not in _NOT_YET or clock() > until:
                raise
        await asyncio.sleep(ASK_AGAIN_SECONDS)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


# --- SQS ------------------------------------------------------------------------------------------


async def sqs(
    what: str, queue_url: str, region: str | None, endpoint_url: str | None, table: str
) -> Check:
    """Ask for the attributes of a queue."""
    try:
        at = where(queue_url, region, endpoint_url, table=table)
        queue = Queue(at, 1, table=table)
        try:
            async with asyncio.timeout(REACH_SECONDS):
                attributes = await queue.open()
        finally:
            await queue.aclose()
    except TimeoutError:
        said = f"the queue {at.name} does not answer within {REACH_SECONDS:.0f} s"
        return Check(what, said, AWAY)
    except InputError as error:
        return Check(what, str(error), _status(error.__cause__))
    except IngestError as error:
        return Check(what, str(error), error.exit_status)
    waits = _counted(int(attributes.get("ApproximateNumberOfMessages", 0)), "message")
    policy = "a" if attributes.get("RedrivePolicy") else "no"
    return Check(what, f"the queue {at.name} answers; about {waits} in it; {policy} redrive policy")


def _status(cause: BaseException | None) -> int:
    if isinstance(cause, Trouble) and cause.refused:
        return Halted.exit_status
    if isinstance(cause, Trouble) and not cause.lasting:
        return DestinationDown.exit_status
    return InputError.exit_status
