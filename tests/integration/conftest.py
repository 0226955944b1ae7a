"""Servers that many tests share, each with topics and queues of its own; started when asked for.

Where several processes share the tests, those of one server stay in one of them: it is started
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.integration import brokers, queues
from tests.integration.brokers import Broker
from tests.integration.servers import Server

TOGETHER: Final = {
    "test_check.py": "topics",
    "test_kafka.py": "topics",
    "test_run_brokers.py": "topics",
    "test_run_topics.py": "topics",
    "test_run_queues.py": "queues",
    "test_sqs.py": "queues",
}
"""File -> what its tests share; of all others each test goes where there is room."""


class ByServer(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives the tests of one server to one process, one after the other: those begin first."""

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER.get(nodeid.partition("::")[0].rpartition("/")[2], nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Choose it for the tests of this directory."""
    return ByServer(config, log)


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
