"""The client of Kafka: the one module that imports aiokafka (extra `kafka`).

Decides what a client is made of (which options are the user's, which are ours), and what its
errors mean: wait, begin anew, or tell the user. Knows no message, and nothing of what is settled.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

import msgspec

from ingest.errors import ConfigError, InputError, MissingExtra
from ingest.sources.kafka_talk import Heard
from ingest.watermarks import Commit

Key = tuple[str, int]
"""A partition: the name of its topic, and its number."""

PASSWORDS: Final = {
    "sasl_plain_password": "INGEST_KAFKA_PASSWORD",
    "ssl_password": "INGEST_KAFKA_KEY_PASSWORD",
}
"""Options that are secrets, and the variables they come from (or `..._FILE`)."""

_WITH_USER: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
"""Mechanisms of SASL that take a user and a password; the first unless told otherwise. Without one
of them the client stumbles as it connects."""

_TLS: Final = ("cafile", "capath", "cadata", "certfile", "keyfile", "password")
"""Options of a TLS context; each with `ssl_` before it is an option of the client."""

_OURS: Final = {
    **dict.fromkeys(("bootstrap_servers", "group_id"), "it is told beside [source.client]"),
    **dict.fromkeys(
        ("enable_auto_commit", "auto_commit_interval_ms"),
        "offsets are committed once messages are settled",
    ),
    **dict.fromkeys(("key_deserializer", "value_deserializer"), "messages are read as bytes"),
    **dict.fromkeys(("loop", "api_version", "sasl_oauth_token_provider"), "it has no text"),
    "ssl_context": "name files by ssl_cafile, ssl_certfile and ssl_keyfile",
}
"""Options of aiokafka that are not the user's, and why."""

_ASSIGNORS: Final = {
    "range": "aiokafka.coordinator.assignors.range:RangePartitionAssignor",
    "roundrobin": "aiokafka.coordinator.assignors.roundrobin:RoundRobinPartitionAssignor",
    "sticky": "aiokafka.coordinator.assignors.sticky.sticky_assignor:StickyPartitionAssignor",
}

SESSION_MS: Final = 45_000
"""How long the broker waits for a heartbeat: that of Kafka's own client since 3.0."""

REBALANCE_MS: Final = 60_000
"""How long the group waits for a member that has requests in flight: longer than any time-out of
those, so that what is sent is also committed before another member reads on."""

PARTITION_BYTES: Final = 256 * 1024
FETCH_BYTES: Final = 4 * 1024 * 1024
"""Bytes of a partition, and of all, in one answer. A message that is longer comes all the same; an
answer of several MB is unpacked in one go, and holds the loop for tens of milliseconds."""

_DEFAULTS: Final = {
    "auto_offset_reset": "earliest",  # a group that is new has missed everything so far
    "isolation_level": "read_committed",  # what a producer took back must not be sent to anybody
    "session_timeout_ms": SESSION_MS,
    "rebalance_timeout_ms": REBALANCE_MS,
    "max_partition_fetch_bytes": PARTITION_BYTES,
    "fetch_max_bytes": FETCH_BYTES,
}


CLOSE_SECONDS: Final = 5.0
"""Until a broker that does not answer is left without a goodbye."""


class Gone(Exception):
    """The broker gave the partitions to somebody else: what is not committed will be read again."""


class Unreachable(Exception):
    """The broker cannot be asked now, or its answer is to ask again; waiting helps."""


class Confused(Exception):
    """The client met what it cannot go on from: a new one is needed."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """What is read of a message; for tests, the client's own has the same fields and more."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def package() -> Any:
    """Return aiokafka. Raises `MissingExtra`."""
    try:
        import aiokafka  # type: ignore[import-untyped, import-not-found, unused-ignore]  # an extra
        import aiokafka.admin  # type: ignore[import-untyped, import-not-found, unused-ignore]
        import aiokafka.errors  # type: ignore[import-untyped, import-not-found, unused-ignore]
        import aiokafka.helpers  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        raise MissingExtra("Kafka", "kafka") from None
    return aiokafka


def options_of(
    make: Callable[..., Any], client: Mapping[str, Any], *, where: str = "[source.client]"
) -> dict[str, Any]:
    """Return what of a user's options `make` takes, with a TLS context for `ssl_...`.

    Options that the consumer, the producer or the admin client alone takes are for it alone.
    Raises `ConfigError` for what none of them takes, or cannot be.
    """
    kafka = package()
    makers = (kafka.AIOKafkaConsumer, kafka.AIOKafkaProducer, kafka.admin.AIOKafkaAdminClient)
    known = set[str]().union(*(inspect.signature(one).parameters for one in makers)) - {"topics"}
    tls = {f"ssl_{name}": name for name in _TLS}
    for name in client:
        if name in _OURS:
            raise ConfigError(f"'{name}' in {where} is not for you to set: {_OURS[name]}.")
        if name not in known and name not in tls:
            allowed = ", ".join(sorted((known | set(tls)) - set(_OURS) - set(PASSWORDS)))
            raise ConfigError(f"'{name}' in {where} is no option of aiokafka; there are {allowed}.")
    _check_user(client, where)
    taken = set(inspect.signature(make).parameters)
    options = {name: value for name, value in client.items() if name in taken}
    if "partition_assignment_strategy" in options:
        options["partition_assignment_strategy"] = _assignors(
            options["partition_assignment_strategy"], where
        )
    files = {tls[name]: value for name, value in client.items() if name in tls}
    if files or str(client.get("security_protocol", "")).endswith("SSL"):
        try:
            options["ssl_context"] = kafka.helpers.create_ssl_context(**files)
        except (OSError, ValueError, TypeError) as error:
            why = getattr(error, "strerror", None) or getattr(error, "reason", None) or "no files"
            raise ConfigError(
                f"The TLS files that ssl_... of {where} name cannot be used ({why}): they have to "
                "be PEM files, and a key that is encrypted needs INGEST_KAFKA_KEY_PASSWORD."
            ) from None
    return options


def _check_user(client: Mapping[str, Any], where: str) -> None:
    protocol = str(client.get("security_protocol", ""))
    mechanism = client.get("sasl_mechanism", _WITH_USER[0])
    if not protocol.startswith("SASL") or mechanism not in _WITH_USER:
        return
    variable = PASSWORDS["sasl_plain_password"]
    for option, mend in (
        ("sasl_plain_username", "add 'sasl_plain_username'"),
        ("sasl_plain_password", f"set {variable}, or name a file that holds it in {variable}_FILE"),
    ):
        if not client.get(option):
            what = option.rpartition("_")[2]
            raise ConfigError(
                f"{mechanism} over {protocol} in {where} needs a {what}, and there is none: {mend}."
            )


def _assignors(names: Any, where: str) -> list[Any]:
    names = [names] if isinstance(names, str) else names
    found = []
    for name in names if isinstance(names, (list, tuple)) else [names]:
        if name not in _ASSIGNORS:
            raise ConfigError(
                f"'partition_assignment_strategy' in {where} must be of {', '.join(_ASSIGNORS)}."
            )
        module, _, attribute = _ASSIGNORS[name].partition(":")
        found.append(getattr(__import__(module, fromlist=[attribute]), attribute))
    return found


def made(make: Callable[..., Any], where: str, **options: Any) -> Any:
    """Make a client. Raises `ConfigError` for options of a wrong type or in contradiction."""
    try:
        return make(**options)
    except (ValueError, TypeError, AssertionError) as error:
        said = str(error).replace("`", "'") or "they contradict each other"
        raise ConfigError(f"The options in {where} do not go together: {said}.") from None


class Client:
    """A consumer of a group and its administration, with errors that say what to do about them.

    `revoked` is awaited before partitions are given up, `assigned` is called with the new ones.
    Raises `ConfigError`, `MissingExtra`.
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        options: Mapping[str, Any],
        revoked: Callable[[], Awaitable[None]],
        assigned: Callable[[Sequence[Key]], None],
    ) -> None:
        self._package = kafka = package()
        self._errors = kafka.errors
        self._group = group
        self._bootstrap = bootstrap
        where = "[source.client]"
        given = {**_DEFAULTS, **options}
        self._consumer = made(
            kafka.AIOKafkaConsumer,
            where,
            bootstrap_servers=servers(bootstrap),
            group_id=group,
            enable_auto_commit=False,
            **options_of(kafka.AIOKafkaConsumer, given),
        )
        self._admin = made(
            kafka.admin.AIOKafkaAdminClient,
            where,
            bootstrap_servers=servers(bootstrap),
            **options_of(kafka.admin.AIOKafkaAdminClient, given),
        )
        self._listener = _listener(kafka, revoked, assigned)

    async def open(self, topics: Sequence[str]) -> None:
        """Connect, and join the group. Raises `InputError` with a sentence."""
        with Heard() as heard:
            try:
                await self._consumer.start()
                await self._admin.start()
                there = await self._consumer.topics()
            except self._errors.KafkaError as error:
                await self.aclose()
                raise InputError(
                    f"Kafka at {self._bootstrap} cannot be used: {heard.why(error)}. See that it "
                    "is up, that 'bootstrap' names it as host:port, and that the options in "
                    "[source.client] (security_protocol, sasl_..., ssl_...) and the password in "
                    f"{PASSWORDS['sasl_plain_password']} are those it asks for."
                ) from None
        if missing := sorted(set(topics) - set(there)):
            await self.aclose()
            raise InputError(
                f"Kafka at {self._bootstrap} has no topic {', '.join(missing)}, or does not show "
                "it to this user: create it, allow it to be read, or mend 'topics'."
            )
        self._consumer.subscribe(topics, listener=self._listener)

    async def poll(self, wait: float, most: int) -> dict[Key, list[Any]]:
        """Return what came, by partition, after `wait` seconds at most.

        It is of the partitions that are assigned now. Raises `InputError` for what no waiting
        mends, `Unreachable` and `Confused`.
        """
        errors = self._errors
        try:
            polled = await self._consumer.getmany(timeout_ms=int(wait * 1000), max_records=most)
        except (errors.GroupAuthorizationFailedError, errors.TopicAuthorizationFailedError):
            raise InputError(
                f"Kafka at {self._bootstrap} does not allow this user to read the topic, or to use "
                f"the group {self._group}: grant READ on both."
            ) from None
        except (errors.NoOffsetForPartitionError, errors.OffsetOutOfRangeError):
            raise InputError(
                f"The group {self._group} has no offset that is still in the topic, and "
                "auto_offset_reset says none: commit one, or set it to earliest or latest."
            ) from None
        except errors.KafkaError as error:
            self._tell_apart(error)
        return {(tp.topic, tp.partition): messages for tp, messages in polled.items()}

    def _tell_apart(self, error: Exception) -> NoReturn:
        errors = self._errors
        said = type(error).__name__
        if getattr(error, "retriable", False) or isinstance(error, errors.CorruptRecordException):
            raise Unreachable(said) from None
        raise Confused(said) from None

    @property
    def assignment(self) -> list[Key]:
        """The partitions that are assigned now."""
        return sorted((tp.topic, tp.partition) for tp in self._consumer.assignment())

    def pause(self) -> None:
        """Ask for no more messages; what was fetched and not polled is fetched again later."""
        self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        """Ask for messages again."""
        self._consumer.resume(*self._consumer.assignment())

    async def position(self, key: Key) -> int | None:
        """Return the offset that follows all that was polled; None while it is not known.

        Does not wait: no message is polled between the question and the answer.
        """
        try:
            async with asyncio.timeout(0):
                return int(await self._consumer.position(self._partition(key)))
        except (TimeoutError, self._errors.KafkaError):
            return None

    async def commit(self, commits: Mapping[Key, Commit]) -> None:
        """Commit, however long the broker is away. Raises `Gone`; `ValueError` for metadata that
        is too long for this broker; `Unreachable` for what is tried again later."""
        errors, structs = self._errors, self._package.structs
        offsets = {
            self._partition(key): structs.OffsetAndMetadata(one.offset, one.metadata)
            for key, one in commits.items()
        }
        try:
            await self._consumer.commit(offsets)
        except (errors.CommitFailedError, errors.IllegalStateError):
            raise Gone from None
        except (errors.OffsetMetadataTooLargeError, errors.InvalidCommitOffsetSizeError):
            raise ValueError("the metadata is too long for this broker") from None
        except errors.KafkaError as error:
            raise Unreachable(type(error).__name__) from None

    async def committed(self, keys: Iterable[Key]) -> dict[Key, Commit]:
        """Return what is committed of partitions; nothing of those never committed.

        Raises `Unreachable`.
        """
        try:
            found = await self._admin.list_consumer_group_offsets(
                self._group, partitions=[self._partition(key) for key in keys]
            )
        except (self._errors.KafkaError, TimeoutError, AttributeError) as error:
            # AttributeError: aiokafka 0.14 stumbles over a partition whose answer is an error.
            raise Unreachable(type(error).__name__) from None
        return {
            (tp.topic, tp.partition): Commit(one.offset, one.metadata or "")
            for tp, one in found.items()
            if one.offset >= 0
        }

    async def ends(self, keys: Sequence[Key], within: float) -> dict[Key, int] | None:
        """Return where logs end, None if the broker does not say so within seconds.

        Without partitions it tells whether the broker answers at all.
        """
        try:
            async with asyncio.timeout(within):
                if not keys:
                    await self._consumer.topics()
                    return {}
                found = await self._consumer.end_offsets([self._partition(key) for key in keys])
        except (TimeoutError, self._errors.KafkaError):
            return None
        return {(tp.topic, tp.partition): int(end) for tp, end in found.items()}

    async def aclose(self) -> None:
        """Leave the group and close. Raises nothing for a broker that is away."""
        for one in (self._consumer.stop, self._admin.close):
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await one()
            except (TimeoutError, OSError, self._errors.KafkaError):
                continue

    def _partition(self, key: Key) -> Any:
        return self._package.TopicPartition(*key)


def servers(bootstrap: str) -> list[str]:
    return [one.strip() for one in bootstrap.split(",") if one.strip()]


def _listener(
    kafka: Any,
    revoked: Callable[[], Awaitable[None]],
    assigned: Callable[[Sequence[Key]], None],
) -> Any:
    class Listener(kafka.ConsumerRebalanceListener):  # type: ignore[misc, unused-ignore]  # untyped
        async def on_partitions_revoked(self, gone: Any) -> None:
            await revoked()

        async def on_partitions_assigned(self, ours: Any) -> None:
            assigned(sorted((tp.topic, tp.partition) for tp in ours))

    return Listener()
