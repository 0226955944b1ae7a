"""Servers that many tests share, each with topics and queues of its own; started when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration import brokers, queues
from tests.integration.brokers import Broker
from tests.integration.servers import Server


def _or_skipped(why_not: Callable[[], str | None]) -> None:
    if (lack := why_not()) is not None:
        pytest.skip(lack)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for the tests that leave it alone."""
    _or_skipped(brokers.why_not)
    with brokers.brokered(tmp_path_factory.mktemp("kafka"), secured=True) as one:
        yield one


@pytest.fixture(scope="session")
def elasticmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """ElasticMQ, for many messages."""
    _or_skipped(queues.no_elasticmq)
    with queues.elasticmq(tmp_path_factory.mktemp("elasticmq")) as one:
        yield one


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """moto, for exact answers."""
    _or_skipped(queues.no_moto)
    with queues.moto(tmp_path_factory.mktemp("moto")) as one:
        yield one
