"""What the answers of a broker mean to `ingest check`, without one.

`tests/integration/test_check.py` asks a real one.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ingest.cli.reaching import _group, trouble
from tests import virtual_clock

errors = pytest.importorskip("aiokafka.errors", reason="the extra 'kafka' is not installed")


@pytest.mark.parametrize(
    ("why", "error", "status"),
    [
        ("SaslAuthenticationFailed: no", "KafkaConnectionError", 3),
        ("GroupAuthorizationFailedError: g", "GroupAuthorizationFailedError", 3),
        ("ConnectionRefusedError: refused", "KafkaConnectionError", 75),
        ("gaierror: no such name", "KafkaConnectionError", 75),
    ],
)
def test_a_broker_that_refuses_is_told_from_one_that_is_away(
    why: str, error: str, status: int
) -> None:
    """The client's log says why a connection failed, its error does not."""
    found = trouble("source", "Kafka at b:9092", why, error, "[source.client]")
    assert found.status == status
    assert why in found.said


class Nascent:
    """An admin client of a broker that has no coordinator for the first `wait` seconds."""

    def __init__(self, wait: float, error: str) -> None:
        self.wait = wait
        self.error = error

    async def describe_consumer_groups(self, groups: list[str]) -> list[Any]:
        if asyncio.get_running_loop().time() < self.wait:
            raise getattr(errors, self.error)
        row = {"error_code": 0, "protocol_type": "", "members": []}
        return [SimpleNamespace(to_object=lambda: {"groups": [row]})]


def test_a_broker_that_has_no_coordinator_yet_is_asked_again() -> None:
    """A new one makes the topic of groups when it is asked; any other error is told at once."""
    package = SimpleNamespace(errors=errors)
    not_yet = "GroupCoordinatorNotAvailableError"
    said = virtual_clock.run(_group(Nascent(3, not_yet), package, "g"))
    assert said == "the group g has no member now"
    with pytest.raises(errors.GroupCoordinatorNotAvailableError):
        virtual_clock.run(_group(Nascent(3_600, not_yet), package, "g"))
    with pytest.raises(errors.GroupAuthorizationFailedError):
        virtual_clock.run(_group(Nascent(3, "GroupAuthorizationFailedError"), package, "g"))
