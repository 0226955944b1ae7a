"""What a source of Kafka is told: topics, group, and the options of its client, with their secrets.

Decides where secrets come from, and which times follow from the options. Opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ingest.errors import ConfigError
from ingest.settings import optional
from ingest.sources.kafka_client import PASSWORDS, REBALANCE_MS

POLL_INTERVAL_MS: Final = 300_000
"""What aiokafka takes for `max_poll_interval_ms` unless told: without a poll for so long, a member
leaves the group."""

HEARTBEAT_MS: Final = 3_000
"""The same for `heartbeat_interval_ms`: so late, at most, a member hears of a rebalance."""

MARGIN_MS: Final = 5_000
"""Left of the time for a rebalance for the last commit, and to join again."""

WATCH_SECONDS: Final = 5.0
"""Between two questions for the ends of the logs: for the lag, and to know whether it answers."""


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is read, and how. `kind` is that of bare objects.

    `client` holds options of aiokafka as they are, with the secrets that `with_secrets` adds. At
    most `buffer_bytes` and `buffer_messages` wait for the driver, and some 1 MB a partition is
    fetched ahead of it by the client. Times are in seconds.
    """

    topics: tuple[str, ...]
    group: str
    bootstrap: str
    kind: str | None = None
    client: Mapping[str, Any] = {}
    commit_seconds: float = 1.0
    buffer_bytes: int = 8_000_000
    buffer_messages: int = 20_000
    watch_seconds: float = WATCH_SECONDS

    @property
    def keep_seconds(self) -> float:
        """How long it may be between two polls, at most, so that the group is kept for certain."""
        return self._option("max_poll_interval_ms", POLL_INTERVAL_MS) / 3000

    @property
    def patience(self) -> float:
        """Seconds for what is in flight, when partitions are taken away."""
        whole = self._option("rebalance_timeout_ms", REBALANCE_MS)
        late = self._option("heartbeat_interval_ms", HEARTBEAT_MS) + MARGIN_MS
        return max(whole / 2, whole - late) / 1000

    def _option(self, name: str, default: int) -> float:
        return float(self.client.get(name, default))

    def __repr__(self) -> str:
        """Say what may be shown: options may hold a password."""
        return f"KafkaSettings({', '.join(self.topics)} at {self.bootstrap}, group {self.group})"


def with_secrets(client: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return client options with the passwords that the environment has. Raises `ConfigError`."""
    for option, variable in PASSWORDS.items():
        if option in client:
            raise ConfigError(
                f"'{option}' is a secret, and has no place in a file: set {variable}, or name a "
                f"file that holds it in {variable}_FILE."
            )
    found = {option: optional(environ, variable) for option, variable in PASSWORDS.items()}
    return {**client, **{option: value for option, value in found.items() if value is not None}}
